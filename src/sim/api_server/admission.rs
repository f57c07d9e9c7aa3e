//! What the API server makes of an object before it is stored for the first time.
//!
//! Given an object as it was sent; given back the same with defaults, or why it is refused. Only the
//! defaults that something here reads are filled in.

use k8s_openapi::api::core::v1::PodSpec;
use serde_json::{Value, json};

use super::refusal::Refusal;
use super::resource::{Key, Resource, text};
use super::schema;
use super::store::Store;
use super::write::{counts_generations, well_formed};

use crate::api::labels::NAMESPACE_NAME;
use crate::cluster::observe::defaults::{self, ContainerDefaults};
use crate::model::pod::DEFAULT_SCHEDULER;

/// The taint of a node that is not ready.
const NOT_READY: &str = "node.kubernetes.io/not-ready";
/// Seconds that a pod tolerates a silent node, unless it says otherwise.
const TOLERATED_SECONDS: i64 = 300;

impl Store {
    /// Names an object: as it says, or by its `generateName`.
    pub(super) fn name_of(
        &self,
        resource: Resource,
        namespace: &str,
        object: &mut Value,
    ) -> Result<Key, Refusal> {
        well_formed(object)?;
        if !object["metadata"].is_object() {
            return Err(Refusal::bad_request("the object has no metadata"));
        }
        let stated = text(object, "/metadata/namespace").to_owned();
        let namespace = match (resource.definition().namespaced, namespace, stated.as_str()) {
            (false, _, _) => "",
            (true, "", "") => "default",
            (true, "", stated) => stated,
            (true, asked, "") => asked,
            (true, asked, stated) if asked == stated => asked,
            (true, asked, stated) => {
                return Err(Refusal::bad_request(format!(
                    "the namespace of the object ({stated}) does not match the request ({asked})"
                )));
            }
        };
        let mut name = text(object, "/metadata/name").to_owned();
        if name.is_empty() {
            let prefix = text(object, "/metadata/generateName");
            if prefix.is_empty() {
                return Err(Refusal::invalid("metadata.name: Required value"));
            }
            name = format!("{prefix}{}", self.random.name_suffix(5));
        }
        object["metadata"]["name"] = json!(name);
        if !namespace.is_empty() {
            object["metadata"]["namespace"] = json!(namespace);
        } else if let Some(metadata) = object["metadata"].as_object_mut() {
            metadata.remove("namespace");
        }
        Ok(Key::new(resource, namespace, &name))
    }

    /// Fills in what the server sets on a new object and checks it.
    pub(super) fn admit(&mut self, key: &Key, object: &mut Value) -> Result<(), Refusal> {
        let definition = key.resource.definition();
        object["apiVersion"] = json!(definition.api_version());
        object["kind"] = json!(definition.kind);
        let uid = self.next_uid();
        let time = self.api_now();
        let metadata = &mut object["metadata"];
        metadata["uid"] = json!(uid);
        metadata["creationTimestamp"] = json!(time);
        if let Some(metadata) = metadata.as_object_mut() {
            for field in [
                "resourceVersion",
                "deletionTimestamp",
                "deletionGracePeriodSeconds",
                "managedFields",
                "selfLink",
            ] {
                metadata.remove(field);
            }
        }
        if counts_generations(key.resource) {
            metadata["generation"] = json!(1);
        }
        match key.resource {
            Resource::Pod => {
                default_pod(object);
                self.default_amounts(&key.namespace, object);
            }
            // A kubelet registers its Node with a status.
            Resource::Node => default_node(object),
            _ if definition.status => clear_status(object),
            _ => {}
        }
        if key.resource == Resource::Namespace {
            label_namespace(key, object);
        }
        schema::accept(key, object, None)
    }

    /// What LimitRanges give the containers of a pod that do not say what they need.
    fn default_amounts(&self, namespace: &str, object: &mut Value) {
        let ranges = self.of(Resource::LimitRange, namespace);
        let given: Vec<ContainerDefaults> = ranges
            .filter_map(|(_key, stored)| serde_json::from_value(stored.value.clone()).ok())
            .flat_map(|range| defaults::of_range(&range))
            .collect();
        if given.is_empty() {
            return;
        }
        let Ok(mut spec) = serde_json::from_value::<PodSpec>(object["spec"].clone()) else {
            return;
        };
        defaults::add(&mut spec, &given);
        let own = [
            ("containers", spec.containers),
            ("initContainers", spec.init_containers.unwrap_or_default()),
        ];
        for (list, containers) in own {
            for (index, container) in containers.into_iter().enumerate() {
                object["spec"][list][index]["resources"] = json!(container.resources);
            }
        }
    }
}

/// Every Namespace carries its own name as a label, whatever is sent.
pub(super) fn label_namespace(key: &Key, object: &mut Value) {
    let Some(metadata) = object["metadata"].as_object_mut() else {
        return;
    };
    let labels = metadata.entry("labels").or_insert_with(|| json!({}));
    if labels.is_null() {
        *labels = json!({});
    }
    if let Some(labels) = labels.as_object_mut() {
        labels.insert(NAMESPACE_NAME.to_owned(), json!(key.name));
    }
}

fn clear_status(object: &mut Value) {
    if let Some(object) = object.as_object_mut() {
        object.remove("status");
    }
}

fn set_default(object: &mut Value, field: &str, value: Value) {
    if object[field].is_null() {
        object[field] = value;
    }
}

/// Until its node controller has looked at it nothing is scheduled onto a new node.
fn default_node(object: &mut Value) {
    if !object["spec"].is_object() {
        object["spec"] = json!({});
    }
    if !object["spec"]["taints"].is_array() {
        object["spec"]["taints"] = json!([]);
    }
    if let Some(taints) = object["spec"]["taints"].as_array_mut()
        && !taints
            .iter()
            .any(|taint| taint["key"] == NOT_READY && taint["effect"] == "NoSchedule")
    {
        taints.push(json!({ "key": NOT_READY, "effect": "NoSchedule" }));
    }
}

/// Defaults of pods, and the tolerations that admission adds.
fn default_pod(object: &mut Value) {
    object["status"] = json!({ "phase": "Pending" });
    let spec = &mut object["spec"];
    if !spec.is_object() {
        *spec = json!({ "containers": [] });
    }
    set_default(spec, "schedulerName", json!(DEFAULT_SCHEDULER));
    set_default(spec, "restartPolicy", json!("Always"));
    set_default(spec, "terminationGracePeriodSeconds", json!(30));
    set_default(spec, "priority", json!(0));
    set_default(spec, "tolerations", json!([]));
    let Some(tolerations) = spec["tolerations"].as_array_mut() else {
        return;
    };
    for key in [NOT_READY, "node.kubernetes.io/unreachable"] {
        let covered = tolerations.iter().any(|toleration| {
            let same = toleration["key"] == key || toleration["key"].is_null();
            same && (toleration["effect"] == "NoExecute" || toleration["effect"].is_null())
        });
        if !covered {
            tolerations.push(json!({
                "key": key, "operator": "Exists", "effect": "NoExecute",
                "tolerationSeconds": TOLERATED_SECONDS,
            }));
        }
    }
}
