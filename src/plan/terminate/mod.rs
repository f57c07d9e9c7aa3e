//! How a claim ends: fence, drain, instance, Node, claim, in this order.
//!
//! Given a snapshot, what is known of instances and which launches are settled, [`decide`] gives back
//! the next steps for every claim and Node that is being deleted. No pod is evicted from a node that
//! goes because it was empty: what slipped in runs to its end. The Node outlives the instance, the
//! claim outlives the Node, and no finalizer goes while something could still cost money: EC2 may leave
//! an instance out of its answers that runs, so what it shows no more is terminated all the same. Nothing
//! is written here.

mod drain;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

pub use drain::{Drain, drain};

use super::condition::ConditionChange;
use super::decision::Decision;
use super::instances::{InstanceView, Sight};
use super::launch::LaunchMemory;
use crate::api::conditions::{ConditionReason, ConditionType};
use crate::api::labels;
use crate::model::claim::Claim;
use crate::model::instance::instance_id_of;
use crate::model::node::Node;
use crate::model::pod::{DoNotDisrupt, Pod};
use crate::model::snapshot::Snapshot;

/// How often EC2 is asked whether an instance is gone: all that are going in one call.
const POLL: SignedDuration = SignedDuration::from_secs(5);
/// How often EC2 is asked about an instance that it neither shows nor lets us terminate.
const LOOK_AGAIN: SignedDuration = SignedDuration::from_mins(1);
/// How long EC2's word on a machine with a silent Node is waited for, from the Node's deletion on.
const LOOK_FIRST: SignedDuration = SignedDuration::from_secs(30);
/// How long an accepted termination is trusted before it is asked for again.
const TERMINATE_AGAIN: SignedDuration = SignedDuration::from_secs(30);
/// How long a node stays empty at least before its instance goes, counted from the beginning of the
/// drain: pods bound just before the fence show up late.
const LEAST_DRAIN: SignedDuration = SignedDuration::from_secs(5);
/// The least that terminations wait for room under the ceiling before they are decided again.
const PACE_AGAIN: SignedDuration = SignedDuration::from_secs(1);
/// The same for a node that was fenced while empty: its fence is old enough already.
const LEAST_EMPTY_DRAIN: SignedDuration = SignedDuration::from_secs(1);

/// What to do next about something that is going.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TerminateStep {
    /// A Node was deleted: its claim goes with it.
    DeleteClaim {
        /// The claim.
        claim: Arc<Claim>,
    },
    /// Write the hard deadline of the drain onto the claim.
    SetDeadline {
        /// The claim.
        claim: Arc<Claim>,
        /// The deadline.
        deadline: Timestamp,
    },
    /// Keep new pods off the Node.
    Fence {
        /// The Node.
        node: Arc<Node>,
    },
    /// Mark the Node as being deleted.
    DeleteNode {
        /// The Node.
        node: Arc<Node>,
        /// Its machine runs: only while it is fenced and this claim goes. Else nothing of its machine is left.
        going: Option<Arc<Claim>>,
    },
    /// Evict a pod through the eviction API, so that disruption budgets hold.
    Evict {
        /// The pod.
        pod: Arc<Pod>,
        /// Its Node.
        node: Arc<Node>,
        /// Why, for the pod's event.
        reason: String,
    },
    /// Delete a pod with what is left of the deadline: budgets do not hold any more.
    ForceDelete {
        /// The pod.
        pod: Arc<Pod>,
        /// Its Node.
        node: Arc<Node>,
        /// Seconds it has to end.
        grace_seconds: u32,
    },
    /// Say on the claim how far it is.
    Report {
        /// The claim.
        claim: Arc<Claim>,
        /// One condition.
        change: ConditionChange,
    },
    /// Terminate the instance.
    TerminateInstance {
        /// Its id.
        instance: String,
        /// The names of its Nodes, and the one that its claim names: that may not be known yet.
        nodes: BTreeSet<String>,
        /// The uids of the pods that are known to be on them: if there is another by now, it must
        /// not be terminated yet.
        pods: BTreeSet<String>,
    },
    /// Nothing of the instance is left: let the Node go.
    ReleaseNode {
        /// The Node.
        node: Arc<Node>,
    },
    /// Nothing of instance and Node is left: let the claim go.
    ReleaseClaim {
        /// The claim.
        claim: Arc<Claim>,
    },
}

impl TerminateStep {
    /// What may not run twice at the same time.
    pub fn key(&self) -> String {
        match self {
            Self::DeleteClaim { claim }
            | Self::SetDeadline { claim, .. }
            | Self::Report { claim, .. }
            | Self::ReleaseClaim { claim } => format!("claim/{}", claim.name),
            Self::Fence { node } | Self::DeleteNode { node, .. } | Self::ReleaseNode { node } => {
                format!("node/{}", node.name)
            }
            Self::Evict { pod, .. } | Self::ForceDelete { pod, .. } => {
                format!("pod/{}/{}", pod.key, pod.uid)
            }
            Self::TerminateInstance { instance, .. } => format!("instance/{instance}"),
        }
    }
}

/// Decides about every claim and Node that is being deleted.
pub fn decide(
    snapshot: &Snapshot,
    instances: &InstanceView,
    launches: &LaunchMemory,
) -> Decision<TerminateStep> {
    let pods = pods_by_node(snapshot);
    // Of several Nodes that may be a machine's each is emptied: pods run on one of them.
    let mut nodes_of = snapshot.possible_nodes_of_claims();
    let owned: BTreeSet<&str> = nodes_of
        .values()
        .flatten()
        .map(|node| node.name.as_str())
        .collect();
    let mut decision = Decision::default();
    for claim in snapshot.claims.values() {
        let nodes = nodes_of.remove(claim.name.as_str()).unwrap_or_default();
        let going = claim.deleting_since.is_some();
        if !going {
            let lost = nodes
                .iter()
                .any(|node| node.deleting_since.is_some() && node.name == claim.node_name);
            if lost {
                decision.push(TerminateStep::DeleteClaim {
                    claim: Arc::clone(claim),
                });
            }
            continue;
        }
        let ending = Ending {
            snapshot,
            instances,
            pods: &pods,
            claim: Some(claim),
            provider_id: &claim.provider_id,
            launched: claim
                .conditions
                .get(ConditionType::Launched.as_str())
                .map_or(claim.created, |found| found.since),
        };
        if claim.provider_id.is_empty() {
            // A call that may still bring an instance holds the finalizer; launching settles it.
            if launches.is_settled(claim) {
                ending.release(&[], &mut decision);
            }
        } else {
            ending.decide(&nodes, &mut decision);
        }
    }
    // Nodes of ours whose claim is gone, deleted by somebody: they end in the same order.
    for node in snapshot.nodes.values() {
        if is_abandoned(node) && !owned.contains(node.name.as_str()) {
            let ending = Ending {
                snapshot,
                instances,
                pods: &pods,
                claim: None,
                provider_id: &node.provider_id,
                launched: node.created,
            };
            ending.decide(&[node], &mut decision);
        }
    }
    keep_pace(instances, snapshot.now, &mut decision);
    decision
}

/// Leaves out terminations while the ceiling leaves no room at all; what waits stays fenced. While
/// there is room nothing is chosen: one that cannot be terminated must not stand before those that
/// can, so each takes its room when it is carried out, and gives it back when it fails.
fn keep_pace(instances: &InstanceView, now: Timestamp, decision: &mut Decision<TerminateStep>) {
    let room = instances.endings.room(now);
    let mut fresh = 0_u32;
    decision.steps.retain(|step| {
        let TerminateStep::TerminateInstance { instance, .. } = step else {
            return true;
        };
        // Asked for again because EC2 has not ended it: that was counted.
        let again = instances.terminated_at(instance).is_some();
        fresh = fresh.saturating_add(u32::from(!again));
        again || room > 0
    });
    if fresh > room {
        let soon = now.saturating_add(PACE_AGAIN).unwrap_or(now);
        let more = instances.endings.more_at(now);
        decision.wake_at(more.map_or(soon, |more| more.max(soon)));
    }
}

/// What a drain waits for, in words. For whom it must not disrupt it waits for ever where nothing sets a deadline.
fn still_there(pods: &[&Arc<Pod>], deadline: Option<Timestamp>) -> String {
    let protected = pods
        .iter()
        .find(|pod| deadline.is_none() && pod.do_not_disrupt == DoNotDisrupt::Always);
    let Some(pod) = protected else {
        return "pods are still on the node".to_owned();
    };
    format!(
        "pods are still on the node; {} must not be disrupted and runs to its end: remove its annotation {}, or \
         give it a duration, or set terminationGracePeriod in the NodePool for machines to come",
        pod.key,
        labels::DO_NOT_DISRUPT,
    )
}

fn is_abandoned(node: &Node) -> bool {
    node.deleting_since.is_some()
        && node.labels.contains_key(labels::NODE_CLASS)
        && has_finalizer(&node.finalizers)
}

fn has_finalizer(finalizers: &[String]) -> bool {
    finalizers
        .iter()
        .any(|finalizer| finalizer == labels::TERMINATION_FINALIZER)
}

fn pods_by_node(snapshot: &Snapshot) -> BTreeMap<&str, Vec<&Arc<Pod>>> {
    let mut by_node: BTreeMap<&str, Vec<&Arc<Pod>>> = BTreeMap::new();
    for pod in snapshot.pods.values() {
        if let Some(node) = pod.node_name.as_deref()
            && !pod.phase.is_terminal()
        {
            by_node.entry(node).or_default().push(pod);
        }
    }
    by_node
}

/// One machine on its way out.
struct Ending<'world> {
    snapshot: &'world Snapshot,
    instances: &'world InstanceView,
    pods: &'world BTreeMap<&'world str, Vec<&'world Arc<Pod>>>,
    claim: Option<&'world Arc<Claim>>,
    provider_id: &'world str,
    /// When the instance was launched at the latest: late enough not to mistake a young instance
    /// that EC2 does not show yet for one that is gone.
    launched: Timestamp,
}

impl Ending<'_> {
    fn decide(&self, nodes: &[&Arc<Node>], decision: &mut Decision<TerminateStep>) {
        let id = instance_id_of(self.provider_id).unwrap_or_default();
        // A Node that is Ready proves that its instance is alive, whatever EC2's answers leave out.
        let speaks = nodes.iter().any(|node| node.ready);
        let is_absent = matches!(self.instances.get(id), Sight::Absent(_));
        if !(is_absent && speaks) && self.instances.is_gone(id, self.launched) {
            if self.instances.is_proven_gone(id, self.launched) {
                self.release(nodes, decision);
            } else {
                self.prove(id, nodes, decision);
            }
            return;
        }
        if id.is_empty() {
            self.release(nodes, decision);
            return;
        }
        if !speaks && self.looks_first(id, nodes, decision) {
            return;
        }
        if !speaks && self.is_off(id) {
            // What was on it runs no more: there is nobody to be asked to leave.
            self.end_instance(id, nodes, decision);
            return;
        }
        let deadline = self.deadline(decision);
        let mut drained = true;
        for node in nodes {
            drained &= self.empty_out(node, deadline, decision);
        }
        let terminating = self
            .claim
            .is_some_and(|claim| claim.is(ConditionType::InstanceTerminating.as_str()));
        if drained || terminating {
            self.end_instance(id, nodes, decision);
        }
    }

    /// Has EC2 say what it knows of a machine before anything is asked of it, for a while at most: cloud controllers
    /// delete the silent Nodes of machines that are gone, and what is gone need not be ended.
    fn looks_first(
        &self,
        id: &str,
        nodes: &[&Arc<Node>],
        decision: &mut Decision<TerminateStep>,
    ) -> bool {
        let Some(since) = nodes.iter().filter_map(|node| node.deleting_since).max() else {
            return false;
        };
        if self.instances.asked_at(id).is_some_and(|at| at >= since) {
            return false;
        }
        let now = self.snapshot.now;
        let again = now.saturating_add(POLL).unwrap_or(now);
        decision.look_at.insert(id.to_owned());
        decision.wake_at(again);
        now.duration_since(since) < LOOK_FIRST
    }

    /// The hard deadline of the drain, written onto the claim once.
    fn deadline(&self, decision: &mut Decision<TerminateStep>) -> Option<Timestamp> {
        let claim = self.claim?;
        let written = claim
            .annotations
            .get(labels::TERMINATION_TIMESTAMP)
            .and_then(|text| text.parse::<Timestamp>().ok());
        if written.is_some() {
            return written;
        }
        let deadline = claim
            .deleting_since?
            .saturating_add(claim.termination_grace?)
            .ok()?;
        decision.push(TerminateStep::SetDeadline {
            claim: Arc::clone(claim),
            deadline,
        });
        Some(deadline)
    }

    /// Fences and drains a Node; true when nothing is left to wait for.
    fn empty_out(
        &self,
        node: &Arc<Node>,
        deadline: Option<Timestamp>,
        decision: &mut Decision<TerminateStep>,
    ) -> bool {
        if !node.is_fenced() {
            decision.push(TerminateStep::Fence {
                node: Arc::clone(node),
            });
            return false;
        }
        if node.deleting_since.is_none() {
            decision.push(TerminateStep::DeleteNode {
                node: Arc::clone(node),
                going: self.claim.map(Arc::clone),
            });
        }
        let now = self.snapshot.now;
        let passed = deadline.is_some_and(|deadline| now >= deadline);
        let pods = self
            .pods
            .get(node.name.as_str())
            .map_or(&[][..], Vec::as_slice);
        let drained = drain(
            &Drain {
                node,
                now,
                deadline,
                patient: self.is_voluntary(),
                reason: self.reason(),
            },
            pods,
            decision,
        );
        if !drained && !passed {
            self.report(
                ConditionChange::unknown(
                    ConditionType::Drained,
                    ConditionReason::Draining,
                    still_there(pods, deadline),
                ),
                decision,
            );
            return false;
        }
        passed || self.rested(node, decision)
    }

    /// True when the fence has held long enough that no pod bound before it can still show up.
    fn rested(&self, node: &Node, decision: &mut Decision<TerminateStep>) -> bool {
        let (since, least) = match self.claim {
            Some(claim) if self.is_voluntary() => (claim.deleting_since, LEAST_EMPTY_DRAIN),
            Some(claim) => (claim.deleting_since, LEAST_DRAIN),
            None => (node.deleting_since, LEAST_DRAIN),
        };
        let due = since.and_then(|since| since.saturating_add(least).ok());
        if let Some(due) = due.filter(|due| *due > self.snapshot.now) {
            decision.wake_at(due);
            return false;
        }
        true
    }

    fn report(&self, change: ConditionChange, decision: &mut Decision<TerminateStep>) {
        if let Some(claim) = self.claim
            && let Some(change) = change.news_for(claim)
        {
            decision.push(TerminateStep::Report {
                claim: Arc::clone(claim),
                change,
            });
        }
    }

    /// True when the node goes because it was empty: whatever is on it came too late to be evicted.
    fn is_voluntary(&self) -> bool {
        self.claim.is_some_and(|claim| claim.goes_as_empty())
    }

    fn reason(&self) -> String {
        self.claim
            .and_then(|claim| {
                claim
                    .conditions
                    .get(ConditionType::DisruptionReason.as_str())
            })
            .map_or_else(
                || "the node is being deleted".to_owned(),
                |found| format!("the node is being removed: {}", found.reason),
            )
    }

    /// True for a machine that was stopped or has ended.
    fn is_off(&self, id: &str) -> bool {
        matches!(self.instances.get(id), Sight::Seen(instance) if instance.state.is_off())
    }

    /// Terminates what EC2 does not show: it may run all the same. Where that is refused the pods of the
    /// silent Node wait no longer, and the claim answers for the instance until looks have settled it.
    fn prove(&self, id: &str, nodes: &[&Arc<Node>], decision: &mut Decision<TerminateStep>) {
        self.end_instance(id, nodes, decision);
        if !self.instances.is_refused(id) {
            return;
        }
        if self.claim.is_some() {
            Self::release_nodes(nodes, decision);
        }
        let looked = self.instances.unseen_at(id);
        let due = looked.and_then(|at| at.checked_add(LOOK_AGAIN).ok());
        match due {
            Some(due) if due > self.snapshot.now => decision.wake_at(due),
            _ => {
                decision.look_at.insert(id.to_owned());
            }
        }
    }

    /// Terminates the instance and looks until it is gone.
    fn end_instance(&self, id: &str, nodes: &[&Arc<Node>], decision: &mut Decision<TerminateStep>) {
        let now = self.snapshot.now;
        let ending =
            matches!(self.instances.get(id), Sight::Seen(instance) if instance.state.is_ending());
        let accepted = self.instances.terminated_at(id);
        let asked_lately = accepted.is_some_and(|at| now.duration_since(at) < TERMINATE_AGAIN);
        if !ending && !asked_lately {
            let named = self.claim.map(|claim| &claim.node_name);
            let nodes: BTreeSet<String> = nodes
                .iter()
                .map(|node| &node.name)
                .chain(named.filter(|name| !name.is_empty()))
                .cloned()
                .collect();
            // On a Node that is not known no pod was asked to leave: one that is there holds its machine.
            let seen = |node: &String| self.snapshot.nodes.contains_key(node);
            let known = nodes
                .iter()
                .filter(|node| seen(node))
                .filter_map(|node| self.pods.get(node.as_str()))
                .flatten()
                .map(|pod| pod.uid.clone());
            decision.push(TerminateStep::TerminateInstance {
                instance: id.to_owned(),
                nodes: nodes.clone(),
                pods: known.collect(),
            });
            return;
        }
        self.report(
            ConditionChange::holds(ConditionType::InstanceTerminating),
            decision,
        );
        let due = self
            .instances
            .asked_at(id)
            .map(|at| at.saturating_add(POLL).unwrap_or(at));
        match due {
            Some(due) if due > self.snapshot.now => decision.wake_at(due),
            _ => {
                decision.look_at.insert(id.to_owned());
                // The answer may fail to come: ask again.
                decision.wake_at(
                    self.snapshot
                        .now
                        .saturating_add(POLL)
                        .unwrap_or(self.snapshot.now),
                );
            }
        }
    }

    /// The instance is gone: the Nodes first, then the claim.
    fn release(&self, nodes: &[&Arc<Node>], decision: &mut Decision<TerminateStep>) {
        Self::release_nodes(nodes, decision);
        if let Some(claim) = self.claim
            && nodes.is_empty()
            && has_finalizer(&claim.finalizers)
        {
            decision.push(TerminateStep::ReleaseClaim {
                claim: Arc::clone(claim),
            });
        }
    }

    fn release_nodes(nodes: &[&Arc<Node>], decision: &mut Decision<TerminateStep>) {
        for node in nodes {
            if node.deleting_since.is_none() {
                decision.push(TerminateStep::DeleteNode {
                    node: Arc::clone(node),
                    going: None,
                });
            } else if has_finalizer(&node.finalizers) {
                decision.push(TerminateStep::ReleaseNode {
                    node: Arc::clone(node),
                });
            }
        }
    }
}

#[cfg(test)]
mod tests;
