//! The subresource `scale`: how many replicas a workload or a static NodePool has and shall have.
//!
//! Given an object; given back its Scale, changed as it was asked for.

use serde_json::{Value, json};

use super::refusal::Refusal;
use super::resource::{Key, Resource, text};
use super::store::Store;
use super::write::Change;

impl Store {
    /// Reads or changes the number of replicas.
    pub(super) fn scale(
        &mut self,
        who: &str,
        key: &Key,
        wanted: Option<&Value>,
    ) -> Result<Value, Refusal> {
        let counted = match key.resource {
            Resource::Deployment | Resource::ReplicaSet => "/status/replicas",
            Resource::NodePool => "/status/nodes",
            _ => return Err(Refusal::not_found(format!("{key} has no scale"))),
        };
        let mut object = self.present(key)?.clone();
        if let Some(wanted) = wanted {
            let version = text(wanted, "/metadata/resourceVersion");
            if !version.is_empty() {
                object["metadata"]["resourceVersion"] = json!(version);
            }
            // Zero replicas are not written out.
            let replicas = wanted["spec"]["replicas"].as_i64().unwrap_or(0);
            object["spec"]["replicas"] = json!(replicas);
            object = self.update(who, key, None, Change::Patch, object)?;
        }
        let metadata = &object["metadata"];
        let mut scale = json!({
            "apiVersion": "autoscaling/v1",
            "kind": "Scale",
            "metadata": {
                "name": key.name,
                "uid": metadata["uid"],
                "resourceVersion": metadata["resourceVersion"],
                "creationTimestamp": metadata["creationTimestamp"],
            },
            "spec": {},
            "status": { "replicas": object.pointer(counted).and_then(Value::as_i64).unwrap_or(0) },
        });
        if !key.namespace.is_empty() {
            scale["metadata"]["namespace"] = json!(key.namespace);
        }
        // A workload that does not say has one.
        let replicas = object["spec"]["replicas"].as_i64();
        let replicas = replicas.unwrap_or_else(|| i64::from(key.resource != Resource::NodePool));
        if replicas != 0 {
            scale["spec"]["replicas"] = json!(replicas);
        }
        let labels = object["spec"]["selector"]["matchLabels"].as_object();
        let labels: Vec<String> = labels
            .into_iter()
            .flatten()
            .map(|(name, value)| format!("{name}={}", value.as_str().unwrap_or_default()))
            .collect();
        if !labels.is_empty() {
            scale["status"]["selector"] = json!(labels.join(","));
        }
        Ok(scale)
    }
}
