//! What is left behind: objects whose owners are gone, pods whose node is gone, old Jobs.

use std::collections::BTreeSet;

use serde_json::Value;

use super::Cluster;
use crate::sim::api_server::{DeleteOptions, Key, Resource, text};

const WHO: &str = "garbage-collector";

impl Cluster {
    /// Deletes objects all of whose owners are gone.
    pub(super) fn collect_garbage(&mut self) {
        let mut uids = BTreeSet::new();
        let mut owned: Vec<(Key, Vec<String>)> = Vec::new();
        for resource in Resource::ALL {
            if resource == Resource::Event {
                continue;
            }
            self.api.each(resource, |key, object| {
                uids.insert(text(object, "/metadata/uid").to_owned());
                let owners = object["metadata"]["ownerReferences"].as_array();
                let owners: Vec<String> = owners
                    .into_iter()
                    .flatten()
                    .filter_map(|owner| owner["uid"].as_str().map(str::to_owned))
                    .collect();
                if !owners.is_empty() && object["metadata"]["deletionTimestamp"].is_null() {
                    owned.push((key.clone(), owners));
                }
            });
        }
        for (key, owners) in owned {
            if owners.iter().all(|owner| !uids.contains(owner)) {
                self.remove(&key, &DeleteOptions::default());
            }
        }
    }

    /// Deletes pods that are bound to a node which is not there.
    pub(super) fn collect_pods(&mut self) {
        let orphans: Vec<(Key, String)> = self
            .pods
            .iter()
            .filter(|(_key, pod)| {
                pod.node_name
                    .as_ref()
                    .is_some_and(|node| !self.nodes.contains_key(node))
            })
            .map(|(key, pod)| (key.clone(), pod.uid.clone()))
            .collect();
        for (key, uid) in orphans {
            if self.api.finish("pod-collector", &key, &uid).is_err() {
                tracing::debug!(pod = %key, "gone already");
            }
        }
    }

    /// Deletes a Job that was kept for as long as it said.
    pub(super) fn expire(&mut self, key: &Key) {
        let finished = self.api.read(key, is_finished).unwrap_or(false);
        if finished {
            self.remove(key, &DeleteOptions::default());
        }
    }

    fn remove(&self, key: &Key, options: &DeleteOptions) {
        if let Err(refusal) = self.api.delete(WHO, key, options) {
            tracing::debug!(object = %key, %refusal, "not deleted");
        }
    }
}

/// True once a Job is complete.
pub(super) fn is_finished(job: &Value) -> bool {
    let conditions = job["status"]["conditions"].as_array();
    conditions
        .into_iter()
        .flatten()
        .any(|condition| condition["type"] == "Complete" && condition["status"] == "True")
}
