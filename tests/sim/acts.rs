//! What controllers do to pods, write by write, at the moment at which each takes effect: they respect
//! disruption budgets and protected pods, and pods are bound to no Node that is on its way out or has no room for them.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use tonnage::sim::Embedded;
use tonnage::sim::api_server::Resource;
use tonnage::sim::ec2::machine::EndCause;
use tonnage::sim::history::Line;

use crate::aftermath::Aftermath;
use crate::furniture::AGENT_PODS;
use crate::leadership::PREFIX;
use crate::phases::text;
use crate::quiet::has_ended;
use crate::reasons::Reasons;
use crate::room::Room;

/// How long pods have to end that do not say it.
const GRACE: SignedDuration = SignedDuration::from_secs(30);
/// What the clock of a controller may be off by.
const CLOCK_OFF: SignedDuration = SignedDuration::from_secs(5);
/// Users, in the history.
pub(crate) const USER: &str = "user";

/// What was done to pods so far.
#[derive(Debug, Default)]
pub(crate) struct Acts {
    /// Pods that the eviction API let go and that are deleted next.
    let_go: BTreeSet<String>,
    /// Pods that have ended, well or not.
    ended: BTreeSet<String>,
    /// Nodes that are being deleted, and by whom since when.
    going: BTreeMap<String, String>,
    /// Where each pod is, and since when.
    bound: BTreeMap<String, (String, Timestamp)>,
    /// Pods that a backup has bound to no Node, and that were bound to none since.
    unbound: BTreeSet<String>,
    /// What the names of pods begin with that must not be disrupted.
    protected: Vec<String>,
    /// What the names of pods begin with that say how long they have to end, and how long that is.
    graces: Vec<(String, SignedDuration)>,
    /// Why pods may be moved, and by when they must have been.
    pub(crate) reasons: Reasons,
    /// What is bound to Nodes.
    room: Room,
}

/// What the names of a workload's pods begin with.
fn pods_of(workload: &str) -> String {
    format!("default/{workload}-")
}

/// A text of a line, empty when it is not there.
pub(crate) fn field<'line>(line: &'line Line, name: &str) -> &'line str {
    let value = line.fields.get(name).and_then(|value| value.as_str());
    value.unwrap_or_default()
}

impl Acts {
    /// From now on pods of a workload must not be disrupted.
    pub(crate) fn protect(&mut self, workload: &str) {
        self.protected.push(pods_of(workload));
    }

    /// Pods of a workload have so many seconds to end.
    pub(crate) fn give(&mut self, workload: &str, seconds: u32) {
        let grace = SignedDuration::from_secs(i64::from(seconds));
        self.graces.push((pods_of(workload), grace));
    }

    /// How long before it must have left a pod may be deleted.
    fn last_call(&self, pod: &str) -> SignedDuration {
        let mut graces = self.graces.iter();
        let own = graces.find(|(pods, _grace)| pod.starts_with(pods));
        own.map_or(GRACE, |(_pods, grace)| *grace) + CLOCK_OFF
    }

    /// The API server has gone back to a backup: pods and Nodes are as they were then.
    pub(crate) fn restored(&mut self, world: &Embedded) {
        self.let_go.clear();
        self.ended.clear();
        self.bound.clear();
        self.unbound.clear();
        self.going.clear();
        self.room.restored(world);
        world.api.each(Resource::Pod, |key, pod| {
            let name = format!("{}/{}", key.namespace, key.name);
            if has_ended(pod) {
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
            let is_going = node["metadata"]["deletionTimestamp"].is_string();
            if is_going && !self.reasons.is_deleted_by_user(&key.name) {
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
    ) -> Vec<String> {
        let crowded = self.room.take(world, aftermath, line);
        let done = self.take_deed(world, aftermath, line);
        crowded.into_iter().chain(done).collect()
    }

    fn take_deed(
        &mut self,
        world: &Embedded,
        aftermath: &Aftermath,
        line: &Line,
    ) -> Option<String> {
        self.reasons.take(world, line);
        let pod = || field(line, "pod").to_owned();
        match line.event {
            "PodBound" => self.bound_to(pod(), (world, aftermath), line),
            "PodEvicted" => self.evicted(pod(), aftermath, line),
            "PodSucceeded" | "PodFailed" => {
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
        let is_excused = || pod.starts_with(AGENT_PODS) || is_reopened();
        let going = self.going.get(node).filter(|_by| !is_excused());
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

    fn evicted(&mut self, pod: String, aftermath: &Aftermath, line: &Line) -> Option<String> {
        let (by, node) = (field(line, "by"), field(line, "node"));
        let at = line.at.parse().unwrap_or(Timestamp::MIN);
        let mut protected = self.protected.iter();
        let violation = if by.starts_with(PREFIX) && protected.any(|name| pod.starts_with(name)) {
            Some(format!(
                "{by} evicted the protected pod {pod} at {}",
                line.at
            ))
        } else if !is_needed(&pod, &self.reasons, node) && !aftermath.is_fresh(at) {
            Some(format!(
                "{by} evicted {pod} at {} from {node}, a machine that nothing was wrong with",
                line.at
            ))
        } else {
            None
        };
        self.let_go.insert(pod);
        violation
    }

    fn deleted(&mut self, world: &Embedded, aftermath: &Aftermath, line: &Line) -> Option<String> {
        let object = field(line, "object");
        let by = field(line, "client");
        if let Some(node) = object.strip_prefix("nodes/") {
            // Users close no Node before they delete it; that is left to whoever hears of it.
            if field(line, "change") != "DELETED" && by != USER {
                self.going
                    .insert(node.to_owned(), format!("{by} at {}", line.at));
            }
            return None;
        }
        let pod = object.strip_prefix("pods/")?;
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
        let deadline = self.reasons.deadline(node);
        let last_call = self.last_call(pod);
        let is_due =
            deadline.is_some_and(|deadline| at >= aftermath.earliest(deadline - last_call, at));
        (!is_due && !is_lost(world, node, since, at)).then(|| {
            format!(
                "{by} deleted {pod} on {node} at {} without asking its disruption budget",
                line.at
            )
        })
    }
}

/// True for an eviction that has a reason. The pods of a DaemonSet come and go with their Node, whatever it goes for.
fn is_needed(pod: &str, reasons: &Reasons, node: &str) -> bool {
    reasons.excuse(node) || pod.starts_with(AGENT_PODS)
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
