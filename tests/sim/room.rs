//! What is bound to Nodes, binding by binding: never more than the machine has, and by the controllers nothing that its
//! kubelet refuses.
//!
//! A kubelet refuses at once what does not fit, so what is there is counted line by line of the history. What is
//! refused is a fault of the controllers only where they bound it: kube-scheduler may have its reasons.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1 as core;
use serde_json::Value;
use tonnage::cluster::observe;
use tonnage::model::resources::Resources;
use tonnage::sim::Embedded;
use tonnage::sim::api_server::{Key, Resource};
use tonnage::sim::history::Line;

use crate::acts::field;
use crate::aftermath::Aftermath;
use crate::leadership::PREFIX;
use crate::phases::text;
use crate::quiet::has_ended;

/// Who is on which Node so far.
#[derive(Debug, Default)]
pub(crate) struct Room {
    /// What the pods that are bound to each Node and have not ended request.
    tenants: BTreeMap<String, BTreeMap<String, Resources>>,
    /// The Node of each of them.
    places: BTreeMap<String, String>,
    /// Who bound each pod.
    binders: BTreeMap<String, String>,
}

impl Room {
    /// The API server has gone back to a backup: pods are where they were then.
    pub(crate) fn restored(&mut self, world: &Embedded) {
        self.tenants.clear();
        self.places.clear();
        world.api.each(Resource::Pod, |key, pod| {
            if !has_ended(pod) {
                self.settle(&format!("{}/{}", key.namespace, key.name), pod);
            }
        });
    }

    /// Takes in what happened, and gives back what may not.
    pub(crate) fn take(
        &mut self,
        world: &Embedded,
        aftermath: &Aftermath,
        line: &Line,
    ) -> Option<String> {
        let pod = field(line, "pod");
        match line.event {
            "Write" if field(line, "verb") == "bind" => {
                let bound = field(line, "object").strip_prefix("pods/")?;
                let who = field(line, "client").to_owned();
                self.binders.insert(bound.to_owned(), who);
                None
            }
            "PodBound" => {
                let found = world.api.get(&key_of(pod))?;
                // It may be gone by now, or unbound by a restore.
                if text(&found, "/spec/nodeName") == field(line, "node") {
                    self.settle(pod, &found);
                }
                self.crowded(world, aftermath, line)
            }
            "PodStarted" => self.crowded(world, aftermath, line),
            "PodFailed" => {
                self.leave(pod);
                self.refused(aftermath, line)
            }
            "PodSucceeded" => {
                self.leave(pod);
                None
            }
            "PodGone" => {
                self.leave(pod);
                self.binders.remove(pod);
                None
            }
            _ => None,
        }
    }

    /// A pod is on its Node, if it has one.
    fn settle(&mut self, name: &str, pod: &Value) {
        let node = text(pod, "/spec/nodeName");
        let Ok(read) = serde_json::from_value::<core::Pod>(pod.clone()) else {
            return;
        };
        if node.is_empty() {
            return;
        }
        let requests = observe::pod::pod(&read).spec.requests.clone();
        self.leave(name);
        self.places.insert(name.to_owned(), node.to_owned());
        let tenants = self.tenants.entry(node.to_owned()).or_default();
        tenants.insert(name.to_owned(), requests);
    }

    /// A pod takes no room any more.
    fn leave(&mut self, name: &str) {
        let node = self.places.remove(name);
        if let Some(tenants) = node.and_then(|node| self.tenants.get_mut(&node)) {
            tenants.remove(name);
        }
    }

    fn binder(&self, pod: &str) -> &str {
        self.binders.get(pod).map_or("somebody", String::as_str)
    }

    /// What is wrong with the Node of a pod that was bound or has started.
    fn crowded(&self, world: &Embedded, aftermath: &Aftermath, line: &Line) -> Option<String> {
        let pod = field(line, "pod");
        let node = self.places.get(pod)?;
        let mut wanted = Resources::new();
        for requests in self.tenants.get(node)?.values() {
            wanted.add(requests);
        }
        let object = world.api.get(&Key::new(Resource::Node, "", node))?;
        let read = serde_json::from_value::<core::Node>(object).ok()?;
        let all = observe::node::node(&read).allocatable;
        let over = wanted
            .iter()
            .filter(|(name, amount)| *amount > all.get(name));
        let over: Vec<String> = over
            .map(|(name, amount)| format!("{amount} of {} {name}", all.get(name)))
            .collect();
        let is_wrong = !over.is_empty() && !is_excused(aftermath, line);
        is_wrong.then(|| {
            format!(
                "more is bound to a machine than it has: {} on {node} at {}, {} had bound {pod}",
                over.join(", "),
                line.at,
                self.binder(pod)
            )
        })
    }

    /// What is wrong with a pod that its kubelet does not run: whoever bound it should have known.
    fn refused(&self, aftermath: &Aftermath, line: &Line) -> Option<String> {
        let pod = field(line, "pod");
        let by = self.binder(pod);
        let is_wrong = by.starts_with(PREFIX) && !is_excused(aftermath, line);
        is_wrong.then(|| {
            format!(
                "{pod} was refused by its kubelet at {} ({}), {by} had bound it",
                line.at,
                field(line, "reason")
            )
        })
    }
}

/// True for what was decided from what a restore has taken back since.
fn is_excused(aftermath: &Aftermath, line: &Line) -> bool {
    let at = line.at.parse::<Timestamp>();
    at.is_ok_and(|at| aftermath.is_fresh(at))
}

/// The key of a pod by its name in the history.
fn key_of(pod: &str) -> Key {
    let (namespace, name) = pod.split_once('/').unwrap_or(("default", pod));
    Key::new(Resource::Pod, namespace, name)
}
