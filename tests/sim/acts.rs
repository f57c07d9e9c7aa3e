//! What controllers do to pods, write by write, at the moment at which each takes effect: they respect
//! disruption budgets and protected pods, and pods are bound to no Node that is on its way out.

use std::collections::{BTreeMap, BTreeSet};

use tonnage::api::labels;
use tonnage::sim::Embedded;
use tonnage::sim::api_server::Resource;
use tonnage::sim::history::Line;

use crate::leadership::PREFIX;
use crate::phases::text;

/// What was done to pods so far.
#[derive(Debug, Default)]
pub(crate) struct Acts {
    /// Pods that the eviction API let go and that are deleted next.
    let_go: BTreeSet<String>,
    /// Nodes that are being deleted.
    going: BTreeSet<String>,
    /// Where each pod is.
    bound: BTreeMap<String, String>,
    /// What the names of pods begin with that must not be disrupted.
    protected: Vec<String>,
}

fn field<'line>(line: &'line Line, name: &str) -> &'line str {
    let value = line.fields.get(name).and_then(|value| value.as_str());
    value.unwrap_or_default()
}

impl Acts {
    /// From now on pods of a workload must not be disrupted.
    pub(crate) fn protect(&mut self, workload: &str) {
        self.protected.push(format!("default/{workload}-"));
    }

    /// Takes in what happened, and gives back what may not.
    pub(crate) fn take(&mut self, world: &Embedded, line: &Line) -> Option<String> {
        let pod = || field(line, "pod").to_owned();
        match line.event {
            "PodBound" => self.bound_to(pod(), field(line, "node"), line),
            "PodEvicted" => self.evicted(pod(), line),
            "PodGone" => {
                self.bound.remove(&pod());
                self.let_go.remove(&pod());
                None
            }
            "NodeGone" => {
                self.going.remove(field(line, "node"));
                None
            }
            "Write" if field(line, "verb") == "delete" => self.deleted(world, line),
            _ => None,
        }
    }

    fn bound_to(&mut self, pod: String, node: &str, line: &Line) -> Option<String> {
        let violation = self.going.contains(node).then(|| {
            format!(
                "{pod} was bound to {node}, which is being deleted, at {}",
                line.at
            )
        });
        self.bound.insert(pod, node.to_owned());
        violation
    }

    fn evicted(&mut self, pod: String, line: &Line) -> Option<String> {
        let by = field(line, "by");
        let protected = self.protected.iter().any(|name| pod.starts_with(name));
        let violation = (protected && by.starts_with(PREFIX))
            .then(|| format!("{by} evicted the protected pod {pod} at {}", line.at));
        self.let_go.insert(pod);
        violation
    }

    fn deleted(&mut self, world: &Embedded, line: &Line) -> Option<String> {
        let object = field(line, "object");
        if let Some(node) = object.strip_prefix("nodes/") {
            if field(line, "change") != "DELETED" {
                self.going.insert(node.to_owned());
            }
            return None;
        }
        let pod = object.strip_prefix("pods/")?;
        let by = field(line, "client");
        if self.let_go.remove(pod) || !by.starts_with(PREFIX) {
            return None;
        }
        let node = self.bound.get(pod).map_or("", String::as_str);
        (!has_deadline(world, node)).then(|| {
            format!(
                "{by} deleted {pod} on {node} at {} without asking its disruption budget",
                line.at
            )
        })
    }
}

/// True when the claim of a Node says by when pods must have left: then they are deleted.
fn has_deadline(world: &Embedded, node: &str) -> bool {
    let mut has = false;
    world.api.each(Resource::NodeClaim, |_key, claim| {
        let dated = &claim["metadata"]["annotations"][labels::TERMINATION_TIMESTAMP];
        has |= text(claim, "/status/nodeName") == node && dated.is_string();
    });
    has
}
