//! What a write may not change of an object that is there.
//!
//! Given an object before and after a write; given back why the write is refused. What our own kinds
//! forbid is in their schemas.

use serde_json::{Value, json};

use super::refusal::Refusal;
use super::resource::{Resource, text};

/// Fields of an event that say what it is about.
const OF_EVENTS: [&str; 9] = [
    "eventTime",
    "reportingController",
    "reportingInstance",
    "action",
    "reason",
    "regarding",
    "related",
    "note",
    "type",
];

/// Checks a change of the object itself, not of its status.
pub(super) fn check(resource: Resource, before: &Value, after: &Value) -> Result<(), Refusal> {
    match resource {
        Resource::Pod => pod(before, after),
        Resource::Node => node(before, after),
        Resource::Event => {
            let changed = OF_EVENTS
                .into_iter()
                .find(|field| before[*field] != after[*field]);
            changed.map_or(Ok(()), forbidden)
        }
        Resource::Deployment | Resource::ReplicaSet
            if after["spec"]["replicas"].as_i64().unwrap_or(0) < 0 =>
        {
            Err(Refusal::invalid(
                "spec.replicas: Invalid value: must be greater than or equal to 0",
            ))
        }
        _ => Ok(()),
    }
}

fn forbidden(field: &str) -> Result<(), Refusal> {
    Err(Refusal::invalid(format!(
        "{field}: Forbidden: field is immutable"
    )))
}

/// Of a pod's spec only images, deadlines, further tolerations and gates that go may change.
fn pod(before: &Value, after: &Value) -> Result<(), Refusal> {
    let list = |pod: &Value, field: &str| {
        let list = pod["spec"][field].as_array();
        list.cloned().unwrap_or_default()
    };
    let known = list(before, "tolerations");
    let kept = list(after, "tolerations");
    let gates = list(before, "schedulingGates");
    if !known.iter().all(|toleration| kept.contains(toleration)) {
        return forbidden("spec.tolerations");
    }
    let new_gate = list(after, "schedulingGates");
    if new_gate.iter().any(|gate| !gates.contains(gate)) {
        return forbidden("spec.schedulingGates");
    }
    if fixed(before) != fixed(after) {
        return forbidden("spec");
    }
    Ok(())
}

/// The part of a pod's spec that never changes.
fn fixed(pod: &Value) -> Value {
    let mut spec = pod["spec"].clone();
    if let Some(fields) = spec.as_object_mut() {
        for field in ["tolerations", "schedulingGates", "activeDeadlineSeconds"] {
            fields.remove(field);
        }
    }
    for list in ["containers", "initContainers"] {
        for container in spec[list].as_array_mut().into_iter().flatten() {
            if container.is_object() {
                container["image"] = json!("");
            }
        }
    }
    spec
}

fn node(before: &Value, after: &Value) -> Result<(), Refusal> {
    let known = text(before, "/spec/providerID");
    if !known.is_empty() && text(after, "/spec/providerID") != known {
        return forbidden("spec.providerID");
    }
    Ok(())
}
