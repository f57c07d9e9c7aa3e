//! What is left behind: objects whose owners are gone or wait for what they own, pods whose node is
//! gone, old Jobs.

use std::collections::BTreeSet;

use serde_json::Value;

use super::Cluster;
use crate::sim::api_server::{DeleteOptions, FOREGROUND, Key, ORPHAN, Propagation, Resource, text};

const WHO: &str = "garbage-collector";

impl Cluster {
    /// True for an object that waits for the collector before it goes.
    pub(super) fn awaits_collector(object: &Value) -> bool {
        let finalizers = object["metadata"]["finalizers"].as_array();
        object["metadata"]["deletionTimestamp"].is_string()
            && finalizers
                .into_iter()
                .flatten()
                .any(|finalizer| finalizer == FOREGROUND || finalizer == ORPHAN)
    }

    /// Does what an object that is being deleted waits for: what it owns is let go, or deleted first.
    fn attend_owner(&self, key: &Key, uid: &str) {
        let foreground = self.api.read(key, |object| {
            let finalizers = object["metadata"]["finalizers"].as_array();
            finalizers
                .into_iter()
                .flatten()
                .any(|finalizer| finalizer == FOREGROUND)
        });
        for owned in self.owned_by(uid) {
            if foreground == Some(true) {
                let uid = self
                    .api
                    .read(&owned, |object| text(object, "/metadata/uid").to_owned());
                // What owns something itself goes after that in turn.
                let last = self.owned_by(&uid.unwrap_or_default()).is_empty();
                let options = DeleteOptions {
                    propagation: (!last).then_some(Propagation::Foreground),
                    ..DeleteOptions::default()
                };
                self.remove(&owned, &options);
                continue;
            }
            self.change(&owned, |object| {
                if let Some(owners) = object["metadata"]["ownerReferences"].as_array_mut() {
                    owners.retain(|owner| owner["uid"] != *uid);
                }
            });
        }
        if self.owned_by(uid).is_empty() {
            self.change(key, |object| {
                if let Some(held) = object["metadata"]["finalizers"].as_array_mut() {
                    held.retain(|finalizer| finalizer != FOREGROUND && finalizer != ORPHAN);
                }
            });
        }
    }

    /// What an object owns.
    fn owned_by(&self, uid: &str) -> Vec<Key> {
        let mut owned = Vec::new();
        for resource in Resource::ALL {
            self.api.each(resource, |key, object| {
                let owners = object["metadata"]["ownerReferences"].as_array();
                if owners
                    .into_iter()
                    .flatten()
                    .any(|owner| owner["uid"] == *uid)
                {
                    owned.push(key.clone());
                }
            });
        }
        owned
    }

    fn change(&self, key: &Key, change: impl FnOnce(&mut Value)) {
        if let Err(refusal) = self.api.change(WHO, key, None, change) {
            tracing::debug!(object = %key, %refusal, "not changed");
        }
    }

    /// Deletes objects all of whose owners are gone, and attends to owners that wait for it.
    pub(super) fn collect_garbage(&mut self) {
        let mut waiting: Vec<(Key, String)> = Vec::new();

        let mut uids = BTreeSet::new();
        let mut owned: Vec<(Key, Vec<String>)> = Vec::new();
        for resource in Resource::ALL {
            if resource == Resource::Event {
                continue;
            }
            self.api.each(resource, |key, object| {
                let uid = text(object, "/metadata/uid");
                uids.insert(uid.to_owned());
                if Self::awaits_collector(object) {
                    waiting.push((key.clone(), uid.to_owned()));
                }
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
        for (key, uid) in waiting {
            self.attend_owner(&key, &uid);
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

/// True once a Job is complete or has failed.
pub(super) fn is_finished(job: &Value) -> bool {
    let conditions = job["status"]["conditions"].as_array();
    let mut conditions = conditions.into_iter().flatten();
    conditions.any(|condition| {
        let ends = condition["type"] == "Complete" || condition["type"] == "Failed";
        ends && condition["status"] == "True"
    })
}
