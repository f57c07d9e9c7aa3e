//! What a change of an object means to people who watch the history.
//!
//! Given the object before and after; given back the lines that the history gets. Nothing here
//! changes anything.

use serde_json::{Value, json};

use super::resource::{Key, Resource, text};

type Told = Vec<(&'static str, Value)>;

/// The lines for one change.
pub(super) fn narrate(key: &Key, before: Option<&Value>, after: Option<&Value>) -> Told {
    match key.resource {
        Resource::Pod => of_pod(key, before, after),
        Resource::Node => of_node(key, before, after),
        Resource::NodeClaim => of_claim(key, before, after),
        Resource::Event => of_event(before, after),
        Resource::Lease => of_lease(key, before, after),
        _ => Vec::new(),
    }
}

fn pod_name(key: &Key) -> String {
    format!("{}/{}", key.namespace, key.name)
}

fn of_lease(key: &Key, before: Option<&Value>, after: Option<&Value>) -> Told {
    let holder = |lease: Option<&Value>| {
        lease.map_or_else(String::new, |lease| {
            text(lease, "/spec/holderIdentity").to_owned()
        })
    };
    let now = holder(after);
    if now == holder(before) {
        return Vec::new();
    }
    let lease = format!("{}/{}", key.namespace, key.name);
    vec![("LeaseHolder", json!({ "lease": lease, "holder": now }))]
}

/// True when a text at a path is there after the change and was another before.
fn became<'object>(
    before: Option<&Value>,
    after: Option<&'object Value>,
    pointer: &str,
) -> Option<&'object str> {
    let now = text(after?, pointer);
    (!now.is_empty() && before.is_none_or(|before| text(before, pointer) != now)).then_some(now)
}

fn of_pod(key: &Key, before: Option<&Value>, after: Option<&Value>) -> Told {
    let mut told = Vec::new();
    let pod = pod_name(key);
    if before.is_none() {
        told.push(("PodCreated", json!({ "pod": pod })));
    }
    if let Some(node) = became(before, after, "/spec/nodeName") {
        told.push(("PodBound", json!({ "pod": pod, "node": node })));
    }
    if let Some(phase) = became(before, after, "/status/phase") {
        let event = match phase {
            "Running" => "PodStarted",
            "Succeeded" => "PodSucceeded",
            "Failed" => "PodFailed",
            _ => return told,
        };
        let mut fields = json!({ "pod": pod });
        if event == "PodFailed" {
            let reason = after.map(|pod| text(pod, "/status/reason"));
            fields["reason"] = json!(reason);
        }
        told.push((event, fields));
    }
    if after.is_none() {
        told.push(("PodGone", json!({ "pod": pod })));
    }
    told
}

fn of_node(key: &Key, before: Option<&Value>, after: Option<&Value>) -> Told {
    let mut told = Vec::new();
    let label = |name: &str| {
        let labels = after.map(|node| &node["metadata"]["labels"]);
        labels
            .and_then(|labels| labels[name].as_str())
            .unwrap_or_default()
            .to_owned()
    };
    if before.is_none() {
        let provider_id = after.map_or("", |node| text(node, "/spec/providerID"));
        let instance = provider_id.rsplit('/').next();
        told.push((
            "NodeJoined",
            json!({ "node": key.name, "instance": instance }),
        ));
    }
    let initialized = "/metadata/labels/karpenter.sh~1initialized";
    if became(before, after, initialized).is_some() {
        told.push((
            "NodeUsable",
            json!({
                "node": key.name,
                "nodePool": label("karpenter.sh/nodepool"),
                "instanceType": label("node.kubernetes.io/instance-type"),
                "capacityType": label("karpenter.sh/capacity-type"),
            }),
        ));
    }
    if after.is_none() {
        told.push(("NodeGone", json!({ "node": key.name })));
    }
    told
}

fn of_claim(key: &Key, before: Option<&Value>, after: Option<&Value>) -> Told {
    match (before, after) {
        (None, Some(claim)) => {
            let pool = &claim["metadata"]["labels"]["karpenter.sh/nodepool"];
            vec![("ClaimMade", json!({ "claim": key.name, "nodePool": pool }))]
        }
        (Some(_claim), None) => vec![("ClaimGone", json!({ "claim": key.name }))],
        _ => Vec::new(),
    }
}

fn of_event(before: Option<&Value>, after: Option<&Value>) -> Told {
    match (before, after) {
        (None, Some(event)) => vec![(
            "Told",
            json!({
                "reason": event["reason"],
                "kind": event["regarding"]["kind"],
                "name": event["regarding"]["name"],
                "note": event["note"],
            }),
        )],
        _ => Vec::new(),
    }
}
