//! What controllers do to pods, write by write, at the moment at which each takes effect: they respect
//! disruption budgets and protected pods, and pods are bound to no Node that is on its way out.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use tonnage::api::labels;
use tonnage::sim::Embedded;
use tonnage::sim::api_server::Resource;
use tonnage::sim::ec2::machine::EndCause;
use tonnage::sim::history::Line;

use crate::aftermath::Aftermath;
use crate::leadership::PREFIX;
use crate::phases::text;

/// How long before they must have left pods may be deleted: their grace period, and what the clock of a
/// controller may be off by.
const LAST_CALL: SignedDuration = SignedDuration::from_secs(30 + 5);

/// What was done to pods so far.
#[derive(Debug, Default)]
pub(crate) struct Acts {
    /// Pods that the eviction API let go and that are deleted next.
    let_go: BTreeSet<String>,
    /// Pods that have succeeded.
    ended: BTreeSet<String>,
    /// Nodes that are being deleted, and by whom since when.
    going: BTreeMap<String, String>,
    /// Where each pod is, and since when.
    bound: BTreeMap<String, (String, Timestamp)>,
    /// Pods that a backup has bound to no Node, and that were bound to none since.
    unbound: BTreeSet<String>,
    /// By when pods must have left Nodes, as their claims say it, or said it before they went.
    dated: BTreeMap<String, Timestamp>,
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

    /// Looks at claims before what happened is taken in: a claim that says by when pods must have left may be
    /// gone by the next look.
    pub(crate) fn look(&mut self, world: &Embedded) {
        let mut unnamed = BTreeMap::new();
        world.api.each(Resource::NodeClaim, |_key, claim| {
            let dated = &claim["metadata"]["annotations"][labels::TERMINATION_TIMESTAMP];
            if let Some(Ok(deadline)) = dated.as_str().map(str::parse) {
                let node = text(claim, "/status/nodeName").to_owned();
                if node.is_empty() {
                    unnamed.insert(text(claim, "/status/providerID").to_owned(), deadline);
                } else {
                    self.dated.insert(node, deadline);
                }
            }
        });
        if unnamed.is_empty() {
            return;
        }
        // Whoever opened the Node may have ended before it was written down.
        world.api.each(Resource::Node, |key, node| {
            if let Some(deadline) = unnamed.get(text(node, "/spec/providerID")) {
                self.dated.insert(key.name.clone(), *deadline);
            }
        });
    }

    /// The API server has gone back to a backup: pods and Nodes are as they were then.
    pub(crate) fn restored(&mut self, world: &Embedded) {
        self.let_go.clear();
        self.ended.clear();
        self.bound.clear();
        self.unbound.clear();
        self.going.clear();
        world.api.each(Resource::Pod, |key, pod| {
            let name = format!("{}/{}", key.namespace, key.name);
            if pod["status"]["phase"] == "Succeeded" {
                self.ended.insert(name.clone());
            }
            let node = text(pod, "/spec/nodeName");
            if node.is_empty() {
                self.unbound.insert(name);
            } else {
                // Long enough that its machine may have run it.
                self.bound.insert(name, (node.to_owned(), Timestamp::MIN));
            }
        });
        world.api.each(Resource::Node, |key, node| {
            if node["metadata"]["deletionTimestamp"].is_string() {
                self.going
                    .insert(key.name.clone(), "before a backup".to_owned());
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
        let pod = || field(line, "pod").to_owned();
        match line.event {
            "PodBound" => self.bound_to(pod(), (world, aftermath), line),
            "PodEvicted" => self.evicted(pod(), line),
            "PodSucceeded" => {
                self.ended.insert(pod());
                None
            }
            "PodGone" => {
                self.bound.remove(&pod());
                self.unbound.remove(&pod());
                self.let_go.remove(&pod());
                self.ended.remove(&pod());
                None
            }
            "NodeGone" => {
                self.going.remove(field(line, "node"));
                None
            }
            "Write" if field(line, "verb") == "delete" => self.deleted(world, aftermath, line),
            _ => None,
        }
    }

    fn bound_to(
        &mut self,
        pod: String,
        (world, aftermath): (&Embedded, &Aftermath),
        line: &Line,
    ) -> Option<String> {
        let node = field(line, "node");
        let at = line.at.parse().unwrap_or(Timestamp::MIN);
        // A restore has opened the Node of a machine that was gone before, while its deletion was on its way.
        let is_reopened = || aftermath.is_fresh(at) && is_lost(world, node, at, at);
        let going = self.going.get(node).filter(|_by| !is_reopened());
        let violation = going.map(|by| {
            format!(
                "{pod} was bound to {node} at {}, which is being deleted ({by})",
                line.at
            )
        });
        self.unbound.remove(&pod);
        self.bound.insert(pod, (node.to_owned(), at));
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

    fn deleted(&mut self, world: &Embedded, aftermath: &Aftermath, line: &Line) -> Option<String> {
        let object = field(line, "object");
        if let Some(node) = object.strip_prefix("nodes/") {
            if field(line, "change") != "DELETED" {
                let by = format!("{} at {}", field(line, "client"), line.at);
                self.going.insert(node.to_owned(), by);
            }
            return None;
        }
        let pod = object.strip_prefix("pods/")?;
        let by = field(line, "client");
        // No disruption budget keeps a pod that has ended.
        if self.let_go.remove(pod) || self.ended.contains(pod) || !by.starts_with(PREFIX) {
            return None;
        }
        let at = line.at.parse::<Timestamp>().ok()?;
        // Decided from what a restore took back: it runs nowhere, and no budget keeps it.
        if self.unbound.contains(pod) {
            return None;
        }
        let bound = self.bound.get(pod);
        let (node, since) = bound.map_or(("", at), |(node, since)| (node.as_str(), *since));
        let deadline = self.dated.get(node);
        let is_due =
            deadline.is_some_and(|deadline| at >= aftermath.earliest(*deadline - LAST_CALL));
        (!is_due && !is_lost(world, node, since, at)).then(|| {
            format!(
                "{by} deleted {pod} on {node} at {} without asking its disruption budget",
                line.at
            )
        })
    }
}

/// True when the machine of a Node has ended by itself, or before the pod was bound to the Node: the pod is lost, or never
/// ran, and no disruption budget keeps it.
fn is_lost(world: &Embedded, node: &str, bound: Timestamp, at: Timestamp) -> bool {
    let machines = world.ec2.machines();
    let ended = machines.iter().filter(|machine| {
        let end = machine.ended;
        end.is_some_and(|(end, cause)| end <= at && (cause != EndCause::Terminated || end <= bound))
    });
    let mut shown = ended.filter_map(|machine| machine.shown(at));
    shown.any(|machine| machine.private_dns_name == node)
}
