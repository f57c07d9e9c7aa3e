//! Creating, changing and deleting objects by the API server's rules.
//!
//! Given who asks and what for; given back the object as it is stored, or a refusal. A write that
//! changes nothing takes no version and tells nobody.

use serde_json::{Map, Value, json};

use super::refusal::Refusal;
use super::resource::{Key, Resource, text};
use super::store::Store;
use crate::sim::clock::api_time;

/// Preconditions and grace of a deletion.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DeleteOptions {
    /// Only the very object.
    pub uid: Option<String>,
    /// Only as it was seen.
    pub resource_version: Option<String>,
    /// Seconds that a pod may take to end; `None` is what the pod says.
    pub grace_seconds: Option<i64>,
}

impl DeleteOptions {
    /// Reads the body of a DELETE, or `deleteOptions` of an eviction.
    pub(super) fn read(body: &Value) -> Self {
        let text = |pointer: &str| {
            body.pointer(pointer)
                .and_then(Value::as_str)
                .map(str::to_owned)
        };
        Self {
            uid: text("/preconditions/uid"),
            resource_version: text("/preconditions/resourceVersion"),
            grace_seconds: body.get("gracePeriodSeconds").and_then(Value::as_i64),
        }
    }
}

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
        guard(&before, &wanted, change)?;
        let mut after = combine(key.resource, subresource, &before, wanted);
        if subresource != Some("status") {
            check_finalizers(&before, &after)?;
        }
        self.schemas.accept(key, &mut after)?;
        if key.resource == Resource::NodeClaim && after["spec"] != before["spec"] {
            return Err(Refusal::invalid("spec: Invalid value: spec is immutable"));
        }
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
        Ok(self.commit(key, after, (who, verb)))
    }

    /// Deletes an object, or marks it for deletion while something holds it.
    pub(super) fn delete(
        &mut self,
        who: &str,
        key: &Key,
        options: &DeleteOptions,
    ) -> Result<Value, Refusal> {
        let mut object = self.present(key)?.clone();
        for (field, wanted) in [
            ("uid", &options.uid),
            ("resourceVersion", &options.resource_version),
        ] {
            if let Some(wanted) = wanted
                && object["metadata"][field] != json!(wanted)
            {
                return Err(Refusal::conflict(format!(
                    "Precondition failed: {field} in precondition: {wanted}, in object: {}",
                    object["metadata"][field]
                )));
            }
        }
        let grace = grace_of(key.resource, &object, options);
        let marked = object["metadata"]["deletionTimestamp"].is_string();
        let known = object["metadata"]["deletionGracePeriodSeconds"]
            .as_i64()
            .unwrap_or(0);
        // Without time left only a finalizer holds it; otherwise the time may be cut, never extended.
        if marked && (known == 0 || grace >= known) {
            return Ok(object);
        }
        let until = self
            .now()
            .saturating_add(jiff::SignedDuration::from_secs(grace))
            .unwrap_or_else(|_overflow| self.now());
        object["metadata"]["deletionTimestamp"] = json!(api_time(until));
        object["metadata"]["deletionGracePeriodSeconds"] = json!(grace);
        Ok(self.commit(key, object, (who, "delete")))
    }

    /// Binds a pod to a node.
    pub(super) fn bind(&mut self, who: &str, key: &Key, node: &str) -> Result<Value, Refusal> {
        let mut pod = self.present(key)?.clone();
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
        let time = self.api_now();
        pod["spec"]["nodeName"] = json!(node);
        set_condition(&mut pod, "PodScheduled", "True", "", &time);
        Ok(self.commit(key, pod, (who, "bind")))
    }

    /// Reads or changes the number of replicas.
    pub(super) fn scale(
        &mut self,
        who: &str,
        key: &Key,
        patch: Option<&Value>,
    ) -> Result<Value, Refusal> {
        let mut object = self.present(key)?.clone();
        if let Some(replicas) = patch.and_then(|patch| patch["spec"]["replicas"].as_i64()) {
            object["spec"]["replicas"] = json!(replicas);
            object = self.update(who, key, None, Change::Patch, object)?;
        }
        Ok(json!({
            "apiVersion": "autoscaling/v1",
            "kind": "Scale",
            "metadata": {
                "name": key.name,
                "namespace": key.namespace,
                "uid": object["metadata"]["uid"],
                "resourceVersion": object["metadata"]["resourceVersion"],
            },
            "spec": { "replicas": object["spec"]["replicas"].as_i64().unwrap_or(1) },
            "status": { "replicas": object["status"]["replicas"].as_i64().unwrap_or(0) },
        }))
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
const fn counts_generations(resource: Resource) -> bool {
    !matches!(resource, Resource::Node | Resource::Event | Resource::Lease)
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
fn guard(before: &Value, wanted: &Value, change: Change) -> Result<(), Refusal> {
    let stated = |field: &str| {
        let stated = &wanted["metadata"][field];
        (!stated.is_null() && *stated != before["metadata"][field]).then(|| stated.clone())
    };
    if let Some(uid) = stated("uid") {
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
    if stated("resourceVersion").is_some() {
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
        let mut after = before.clone();
        after["status"] = wanted.get("status").cloned().unwrap_or_else(|| json!({}));
        return after;
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

/// How long a deletion waits: only for a pod that is on a node and has not ended.
fn grace_of(resource: Resource, object: &Value, options: &DeleteOptions) -> i64 {
    let ended = matches!(text(object, "/status/phase"), "Succeeded" | "Failed");
    if resource != Resource::Pod || text(object, "/spec/nodeName").is_empty() || ended {
        return 0;
    }
    options
        .grace_seconds
        .or_else(|| object["spec"]["terminationGracePeriodSeconds"].as_i64())
        .unwrap_or(30)
        .max(0)
}
