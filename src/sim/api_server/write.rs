//! Creating, changing and binding objects by the API server's rules.
//!
//! Given who asks and what for; given back the object as it is stored, or a refusal. A write that
//! changes nothing takes no version and tells nobody.

use serde_json::{Map, Value, json};

use super::admission::label_namespace;
use super::refusal::Refusal;
use super::resource::{Key, Resource, text};
use super::store::{Store, is_going};
use super::{immutable, names, schema};

/// How an object is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// The whole object was sent.
    Replace,
    /// A patch was sent.
    Patch,
}

impl Store {
    /// Creates an object.
    pub(super) fn create(
        &mut self,
        who: &str,
        resource: Resource,
        namespace: &str,
        mut object: Value,
    ) -> Result<Value, Refusal> {
        let key = self.name_of(resource, namespace, &mut object)?;
        names::same_kind(&key, &object)?;
        if !text(&object, "/metadata/resourceVersion").is_empty() {
            return Err(Refusal::new(
                500,
                "",
                "resourceVersion should not be set on objects to be created",
            ));
        }
        names::check(&key, &object)?;
        if self.objects.contains_key(&key) {
            let definition = resource.definition();
            return Err(Refusal::new(
                409,
                "AlreadyExists",
                format!("{} \"{}\" already exists", definition.plural, key.name),
            ));
        }
        self.admit(&key, &mut object)?;
        Ok(self.commit(&key, object, (who, "create")))
    }

    /// The object, or that it is not there.
    pub(super) fn present(&self, key: &Key) -> Result<&Value, Refusal> {
        self.get(key).ok_or_else(|| {
            let plural = key.resource.definition().plural;
            Refusal::not_found(format!("{plural} \"{}\" not found", key.name))
        })
    }

    /// Stores what an object shall become.
    pub(super) fn update(
        &mut self,
        who: &str,
        key: &Key,
        subresource: Option<&str>,
        change: Change,
        wanted: Value,
    ) -> Result<Value, Refusal> {
        let before = self.present(key)?.clone();
        well_formed(&wanted)?;
        names::same_object(key, &wanted, change)?;
        guard((key.resource, subresource), &before, &wanted, change)?;
        let mut after = combine(key.resource, subresource, &before, wanted);
        names::check(key, &after)?;
        if key.resource == Resource::Namespace {
            label_namespace(key, &mut after);
        }
        if subresource != Some("status") {
            check_finalizers(&before, &after)?;
            immutable::check(key.resource, &before, &after)?;
        }
        schema::accept(key, &mut after, Some(&before))?;
        if after == before {
            return Ok(after);
        }
        if after["spec"] != before["spec"] && counts_generations(key.resource) {
            let generation = before["metadata"]["generation"].as_i64().unwrap_or(1);
            after["metadata"]["generation"] = json!(generation + 1);
        }
        let verb = match change {
            Change::Replace => "update",
            Change::Patch => "patch",
        };
        if is_going(key.resource, &after) {
            // What held it has gone: the answer is what was sent, watches see what was stored.
            drop(self.remove(key, (who, verb)));
            return Ok(after);
        }
        Ok(self.commit(key, after, (who, verb)))
    }

    /// Binds a pod to a node: the very pod of a uid, unless that is empty.
    pub(super) fn bind(
        &mut self,
        who: &str,
        key: &Key,
        (node, uid): (&str, &str),
    ) -> Result<Value, Refusal> {
        let mut pod = self.present(key)?.clone();
        let own = text(&pod, "/metadata/uid");
        if !uid.is_empty() && uid != own {
            return Err(Refusal::conflict(format!(
                "Precondition failed: UID in precondition: {uid}, UID in object meta: {own}"
            )));
        }
        if !text(&pod, "/spec/nodeName").is_empty() {
            return Err(Refusal::conflict(format!(
                "pod {} is already assigned to node {}",
                key.name, pod["spec"]["nodeName"]
            )));
        }
        if pod["metadata"]["deletionTimestamp"].is_string() {
            return Err(Refusal::conflict(format!(
                "pod {} is being deleted",
                key.name
            )));
        }
        let gates = pod["spec"]["schedulingGates"].as_array();
        if gates.is_some_and(|gates| !gates.is_empty()) {
            return Err(Refusal::conflict(format!(
                "pod {} has non-empty .spec.schedulingGates",
                key.name
            )));
        }
        let time = self.api_now();
        pod["spec"]["nodeName"] = json!(node);
        set_condition(&mut pod, "PodScheduled", "True", "", &time);
        Ok(self.commit(key, pod, (who, "bind")))
    }
}

/// Sets a condition in a status; its time changes only with its status.
pub(in crate::sim) fn set_condition(
    object: &mut Value,
    kind: &str,
    status: &str,
    reason: &str,
    time: &str,
) {
    if !object["status"].is_object() {
        object["status"] = json!({});
    }
    if !object["status"]["conditions"].is_array() {
        object["status"]["conditions"] = json!([]);
    }
    let Some(conditions) = object["status"]["conditions"].as_array_mut() else {
        return;
    };
    let mut condition = json!({
        "type": kind, "status": status, "lastTransitionTime": time,
    });
    if !reason.is_empty() {
        condition["reason"] = json!(reason);
    }
    match conditions.iter_mut().find(|known| known["type"] == kind) {
        Some(known) if known["status"] == status && known["reason"] == condition["reason"] => {}
        Some(known) => *known = condition,
        None => conditions.push(condition),
    }
}

/// Kinds whose spec is counted in `metadata.generation`.
pub(super) const fn counts_generations(resource: Resource) -> bool {
    matches!(
        resource,
        Resource::Pod
            | Resource::DaemonSet
            | Resource::Deployment
            | Resource::ReplicaSet
            | Resource::Job
            | Resource::DisruptionBudget
    ) || resource.is_custom()
}

/// Kinds that are replaced only as they were read.
const fn needs_version(resource: Resource) -> bool {
    matches!(
        resource,
        Resource::Lease | Resource::DisruptionBudget | Resource::StorageNode
    ) || resource.is_custom()
}

/// Checks that an object has the parts of an object.
pub(super) fn well_formed(object: &Value) -> Result<(), Refusal> {
    let part = |name: &str| {
        object
            .get(name)
            .is_none_or(|part| part.is_object() || part.is_null())
    };
    if object.is_object() && ["metadata", "spec", "status"].into_iter().all(part) {
        return Ok(());
    }
    Err(Refusal::bad_request(
        "metadata, spec and status of an object are objects",
    ))
}

/// Checks the identity and the version that a write is bound to.
fn guard(
    (resource, subresource): (Resource, Option<&str>),
    before: &Value,
    wanted: &Value,
    change: Change,
) -> Result<(), Refusal> {
    let version = text(wanted, "/metadata/resourceVersion");
    if change == Change::Replace && needs_version(resource) && version.is_empty() {
        return Err(Refusal::invalid(
            "metadata.resourceVersion: Invalid value: must be specified for an update",
        ));
    }
    let stated = |field: &str| {
        let stated = &wanted["metadata"][field];
        (!stated.is_null() && *stated != before["metadata"][field]).then(|| stated.clone())
    };
    // Of our kinds a write of the status is bound to a version at most.
    let of_status = subresource == Some("status") && resource.is_custom();
    if let (Some(uid), false) = (stated("uid"), of_status) {
        return Err(match change {
            Change::Replace => Refusal::conflict(format!(
                "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
                before["metadata"]["uid"]
            )),
            Change::Patch => Refusal::invalid(format!(
                "metadata.uid: Invalid value: {uid}: field is immutable"
            )),
        });
    }
    // "0" is as good as no version.
    if version != "0" && stated("resourceVersion").is_some() {
        return Err(Refusal::conflict(
            "the object has been modified; please apply your changes to the latest version and try again",
        ));
    }
    Ok(())
}

/// What is stored of what was sent: status and the rest are written apart, and what only the server
/// sets stays.
fn combine(resource: Resource, subresource: Option<&str>, before: &Value, wanted: Value) -> Value {
    if subresource == Some("status") {
        return of_status(resource, before, &wanted);
    }
    let mut after = wanted;
    for field in ["apiVersion", "kind"] {
        after[field] = before[field].clone();
    }
    if resource.definition().status
        && let Some(fields) = after.as_object_mut()
    {
        match before.get("status") {
            Some(status) => fields.insert("status".to_owned(), status.clone()),
            None => fields.remove("status"),
        };
    }
    if !after["metadata"].is_object() {
        after["metadata"] = Value::Object(Map::new());
    }
    if let Some(metadata) = after["metadata"].as_object_mut() {
        for field in [
            "name",
            "namespace",
            "uid",
            "resourceVersion",
            "creationTimestamp",
            "generation",
            "deletionTimestamp",
            "deletionGracePeriodSeconds",
        ] {
            match before["metadata"].get(field) {
                Some(value) => metadata.insert(field.to_owned(), value.clone()),
                None => metadata.remove(field),
            };
        }
        drop_empty(metadata);
    }
    after
}

/// What a write of the status changes: the status, and of Pods and Nodes also what marks them, as
/// kubelets and node controllers count on.
fn of_status(resource: Resource, before: &Value, wanted: &Value) -> Value {
    let mut after = before.clone();
    if let Some(fields) = after.as_object_mut() {
        match wanted.get("status").filter(|status| !status.is_null()) {
            Some(status) => fields.insert("status".to_owned(), status.clone()),
            None => fields.remove("status"),
        };
    }
    if matches!(resource, Resource::Pod | Resource::Node)
        && let Some(metadata) = after["metadata"].as_object_mut()
    {
        for field in ["labels", "annotations"] {
            if let Some(marks) = wanted["metadata"].get(field) {
                metadata.insert(field.to_owned(), marks.clone());
            }
        }
        drop_empty(metadata);
    }
    after
}

/// Empty maps and lists are as good as none; the server drops them too.
fn drop_empty(metadata: &mut Map<String, Value>) {
    for field in ["labels", "annotations", "finalizers", "ownerReferences"] {
        let empty = metadata.get(field).is_some_and(|value| {
            value.is_null()
                || value.as_object().is_some_and(Map::is_empty)
                || value.as_array().is_some_and(Vec::is_empty)
        });
        if empty {
            metadata.remove(field);
        }
    }
}

fn check_finalizers(before: &Value, after: &Value) -> Result<(), Refusal> {
    let list = |object: &Value| {
        let list = object["metadata"]["finalizers"].as_array();
        list.cloned().unwrap_or_default()
    };
    let known = list(before);
    let deleting = before["metadata"]["deletionTimestamp"].is_string();
    if deleting
        && list(after)
            .iter()
            .any(|finalizer| !known.contains(finalizer))
    {
        return Err(Refusal::invalid(
            "metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted",
        ));
    }
    Ok(())
}
