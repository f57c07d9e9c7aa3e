//! Deployments and ReplicaSets: as many pods as asked for, from the newest template.

use serde_json::{Value, json};

use super::Cluster;
use crate::model::pod::PodPhase;
use crate::sim::api_server::{DeleteOptions, Key, Resource, text};

const WHO: &str = "replicaset-controller";

impl Cluster {
    /// Looks at a Deployment: one ReplicaSet for each template, all but the newest at zero.
    pub(super) fn sync_deployment(&mut self, key: &Key) {
        let Some(deployment) = self.api.get(key) else {
            return;
        };
        if deployment["metadata"]["deletionTimestamp"].is_string() {
            return;
        }
        let template = &deployment["spec"]["template"];
        let name = format!("{}-{}", key.name, fingerprint(&template.to_string()));
        let replicas = deployment["spec"]["replicas"].as_u64().unwrap_or(1);
        let uid = &deployment["metadata"]["uid"];
        let mut sets: Vec<(Key, u64)> = Vec::new();
        self.api.each(Resource::ReplicaSet, |key, set| {
            if set["metadata"]["ownerReferences"][0]["uid"] == *uid {
                sets.push((key.clone(), set["spec"]["replicas"].as_u64().unwrap_or(0)));
            }
        });
        for (set, now) in &sets {
            let wanted = if set.name == name { replicas } else { 0 };
            if *now != wanted {
                self.resize(set, wanted);
            }
        }
        if !sets.iter().any(|(set, _replicas)| set.name == name) {
            self.create_set(&deployment, &name, replicas);
        }
    }

    fn resize(&self, set: &Key, replicas: u64) {
        let resized = self.api.change("deployment-controller", set, None, |set| {
            set["spec"]["replicas"] = json!(replicas);
        });
        if resized.is_err() {
            tracing::debug!(set = %set, "gone already");
        }
    }

    fn create_set(&self, deployment: &Value, name: &str, replicas: u64) {
        let spec = &deployment["spec"];
        let created = self.api.create("deployment-controller", json!({
            "apiVersion": "apps/v1", "kind": "ReplicaSet",
            "metadata": {
                "name": name,
                "namespace": deployment["metadata"]["namespace"],
                "labels": spec["template"]["metadata"]["labels"],
                "ownerReferences": [{
                    "apiVersion": "apps/v1", "kind": "Deployment",
                    "name": deployment["metadata"]["name"], "uid": deployment["metadata"]["uid"],
                    "controller": true, "blockOwnerDeletion": true,
                }],
            },
            "spec": { "replicas": replicas, "selector": spec["selector"], "template": spec["template"] },
        }));
        if let Err(refusal) = created {
            tracing::warn!(set = name, %refusal, "the ReplicaSet is not accepted");
        }
    }

    /// Looks at a ReplicaSet: pods are made, or those that lose least are deleted.
    pub(super) fn sync_replica_set(&mut self, key: &Key) {
        let Some(set) = self.api.get(key) else {
            return;
        };
        if set["metadata"]["deletionTimestamp"].is_string() {
            return;
        }
        let replicas = set["spec"]["replicas"].as_u64().unwrap_or(1);
        let wanted = usize::try_from(replicas).unwrap_or(0);
        let mut active: Vec<_> = self
            .pods_of(text(&set, "/metadata/uid"))
            .into_iter()
            .filter(|(_key, pod)| !pod.phase.is_terminal() && pod.deleting_until.is_none())
            .collect();
        // Unbound pods go first, then those not running, then the youngest.
        active.sort_by_key(|(key, pod)| {
            (
                pod.node_name.is_none(),
                pod.phase != PodPhase::Running,
                pod.created,
                key.clone(),
            )
        });
        for _missing in active.len()..wanted {
            self.create_pod(WHO, &set, &set["spec"]["template"]);
        }
        for (surplus, _pod) in active.iter().skip(wanted) {
            if self
                .api
                .delete(WHO, surplus, &DeleteOptions::default())
                .is_err()
            {
                tracing::debug!(pod = %surplus, "gone already");
            }
        }
        let status = json!({ "replicas": active.len().min(wanted) });
        let written = self
            .api
            .change(WHO, key, Some("status"), |set| set["status"] = status);
        if written.is_err() {
            tracing::debug!(set = %key, "gone already");
        }
    }
}

/// A short name for a template.
fn fingerprint(template: &str) -> String {
    let mut hash: u32 = 0x811c_9dc5;
    for byte in template.bytes() {
        hash = (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    }
    format!("{hash:08x}")
}
