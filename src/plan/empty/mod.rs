//! Which nodes are empty for long enough to go.
//!
//! Given a snapshot, since when each claim is without work, and what the last planning round put pods
//! onto, [`decide`] gives back the claims to remove. Removal takes two steps with a look between them: the
//! node is fenced first, and only if it is still empty then is its claim deleted; pods that slipped
//! in lift the fence. A node with any pod beside DaemonSets' and static ones is never empty, whatever
//! those pods are worth.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use crate::api::conditions::{ConditionReason, ConditionType};
use crate::api::labels;
use crate::model::claim::Claim;
use crate::model::node::Node;
use crate::model::node_pool::NodePool;
use crate::model::pod::{Pod, PodKey};
use crate::model::snapshot::Snapshot;
use crate::plan::budget;
use crate::plan::condition::ConditionChange;
use crate::plan::decision::Decision;
use crate::plan::provision::demand::{Leaving, will_move};

/// How long at least a claim without a usable node stays after pods were last planned onto it: its
/// pods may be between two planning rounds.
const SPARE_UNUSED: SignedDuration = SignedDuration::from_secs(30);
/// How long a planning round is believed: planning is repeated more often than this while pods wait,
/// and kube-scheduler's longest back-off is 10 s.
const HELD: SignedDuration = SignedDuration::from_secs(20);
/// How often at most `status.lastPodEventTime` is written for one claim.
const TOUCH_INTERVAL: SignedDuration = SignedDuration::from_secs(10);

/// What is remembered about work on claims. Lost with the process: after a restart the time in the
/// claim's status counts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EmptyMemory {
    claims: BTreeMap<String, Work>,
    /// When work was first looked at.
    since: Option<Timestamp>,
    /// Until when the first plan for pods that wait is awaited: nobody knows yet which nodes they go onto.
    plan_due: Option<Timestamp>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Work {
    Busy,
    Idle(Timestamp),
}

/// What the last planning round put pods onto.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    /// The instant of the snapshot that was planned for.
    pub at: Timestamp,
    /// Pods by the name of the claim or Node that they were planned onto.
    pub onto: BTreeMap<String, Vec<PodKey>>,
}

impl EmptyMemory {
    /// Takes in who has work now. `planned` is the last planning round, if there was any yet.
    pub fn observe(&mut self, snapshot: &Snapshot, planned: Option<&Planned>) {
        let leaving = Leaving::of(snapshot);
        // A pod that is still on a node that goes counts too: a budget may hold its eviction up for long,
        // and the machine that was bought for it must be there when it comes.
        let mut pods = snapshot.pods.values();
        let waits = pods.any(|pod| waits(pod) || leaving.sends_away(pod) && will_move(pod));
        let now = snapshot.now;
        // Whoever comes to lead looks for empty nodes and begins to plan at the same time.
        let since = *self.since.get_or_insert(now);
        let until = since.saturating_add(HELD).unwrap_or(now);
        self.plan_due = (planned.is_none() && waits && now < until).then_some(until);
        let fresh = planned.filter(|planned| waits && now.duration_since(planned.at) <= HELD);
        // A nomination is an old plan: it counts only where there is no fresh one.
        let busy = busy_nodes(snapshot, fresh.is_none());
        let nodes_of = snapshot.nodes_of_claims();
        let mut claims = BTreeMap::new();
        for claim in snapshot.claims.values() {
            let before = self.claims.get(&claim.uid).copied();
            let used = claim.is(ConditionType::Initialized.as_str());
            let node = nodes_of.get(claim.name.as_str());
            // A plan calls a Node by its name as soon as there is one, which is before the claim does: it
            // may take EC2 a minute or more to show whose machine the Node is.
            let wanted = fresh.is_some_and(|planned| {
                planned.onto.contains_key(&claim.name)
                    || planned.onto.contains_key(&claim.node_name)
                    || node.is_some_and(|node| planned.onto.contains_key(&node.name))
            });
            // A machine on its way is spare only when a fresh plan finds no use for it: pods may
            // wait for nothing but its arrival, and boots take longer than any other delay here.
            let coming = !used && waits && fresh.is_none();
            let in_use = busy.contains(claim.node_name.as_str())
                || node.is_some_and(|node| busy.contains(node.name.as_str()));
            let work = if in_use || wanted || coming {
                Work::Busy
            } else {
                Work::Idle(match before {
                    Some(Work::Idle(since)) => since,
                    None if used => remembered(claim),
                    Some(Work::Busy) | None => now,
                })
            };
            claims.insert(claim.uid.clone(), work);
        }
        self.claims = claims;
    }

    fn idle(&self, claim: &Claim) -> Option<Timestamp> {
        match self.claims.get(&claim.uid) {
            Some(Work::Idle(since)) => Some(*since),
            _ => None,
        }
    }
}

/// True for a pod that may still need a node.
fn waits(pod: &Pod) -> bool {
    pod.node_name.is_none()
        && !pod.phase.is_terminal()
        && pod.deleting_until.is_none()
        && pod.is_work()
}

/// Since when a claim has no work as far as its status tells.
fn remembered(claim: &Claim) -> Timestamp {
    let initialized = claim
        .conditions
        .get(ConditionType::Initialized.as_str())
        .filter(|_found| claim.is(ConditionType::Initialized.as_str()))
        .map(|found| found.since);
    claim
        .last_pod_event
        .into_iter()
        .chain(initialized)
        .max()
        .unwrap_or(claim.created)
}

/// Nodes that a pod other than a DaemonSet's or a static one is on, or nominated to if that counts.
fn busy_nodes(snapshot: &Snapshot, nominated: bool) -> BTreeSet<&str> {
    snapshot
        .pods
        .values()
        .filter(|pod| !pod.phase.is_terminal() && pod.is_work())
        .filter_map(|pod| {
            let coming = pod.nominated_node.as_deref().filter(|_node| nominated);
            pod.node_name.as_deref().or(coming)
        })
        .filter(|node| !node.is_empty())
        .collect()
}

/// What to do next about an empty node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EmptyStep {
    /// Keep pods off the node and write down why.
    Fence {
        /// The claim.
        claim: Arc<Claim>,
        /// Its Node.
        node: Arc<Node>,
        /// The condition DisruptionReason.
        change: Option<ConditionChange>,
    },
    /// The node is not empty any more: let pods in again.
    Unfence {
        /// The claim.
        claim: Arc<Claim>,
        /// Its Node.
        node: Arc<Node>,
    },
    /// Nothing can slip in any more: delete the claim.
    Remove {
        /// The claim.
        claim: Arc<Claim>,
        /// Its Node, fenced, if it has one.
        node: Option<Arc<Node>>,
        /// For people.
        message: String,
    },
    /// Write down when the claim's work last changed.
    Touch {
        /// The claim.
        claim: Arc<Claim>,
        /// When.
        at: Timestamp,
    },
}

impl EmptyStep {
    /// What may not run twice at the same time.
    pub fn key(&self) -> String {
        match self {
            Self::Fence { claim, .. }
            | Self::Unfence { claim, .. }
            | Self::Remove { claim, .. }
            | Self::Touch { claim, .. } => format!("claim/{}", claim.name),
        }
    }
}

/// Decides about every claim of a NodePool that lets empty nodes go.
pub fn decide(snapshot: &Snapshot, memory: &EmptyMemory) -> Decision<EmptyStep> {
    let nodes_of = snapshot.nodes_of_claims();
    let mut decision = Decision::default();
    for pool in snapshot.node_pools.values() {
        let claims: Vec<&Arc<Claim>> = snapshot
            .claims
            .values()
            .filter(|claim| claim.node_pool.as_deref() == Some(pool.name.as_str()))
            .collect();
        decide_pool(snapshot, memory, pool, (&claims, &nodes_of), &mut decision);
    }
    decision
}

fn decide_pool(
    snapshot: &Snapshot,
    memory: &EmptyMemory,
    pool: &NodePool,
    (claims, nodes_of): (&[&Arc<Claim>], &BTreeMap<&str, &Arc<Node>>),
    decision: &mut Decision<EmptyStep>,
) {
    let mut allowance = budget::allowance(snapshot, pool, claims, "Empty");
    if let Some(until) = allowance.changes_at {
        decision.wake_at(until);
    }
    for claim in claims {
        if claim.deleting_since.is_some() {
            continue;
        }
        let fenced = claim.goes_as_empty();
        let node = nodes_of.get(claim.name.as_str()).copied();
        let idle = memory.idle(claim);
        let after = pool.consolidate_after.filter(|_after| !pool.paused);
        let (Some(idle), Some(after), false) = (idle, after, is_kept(claim, node)) else {
            // A fence without its reason on the claim is half of one: the rest failed, or a restored API
            // server took it back.
            let closed =
                |node: &&Arc<Node>| node.deleting_since.is_none() && (fenced || node.is_fenced());
            if let Some(node) = node.filter(closed) {
                decision.push(EmptyStep::Unfence {
                    claim: Arc::clone(claim),
                    node: Arc::clone(node),
                });
            }
            continue;
        };
        if let Some(until) = memory.plan_due {
            decision.wake_at(until);
            continue;
        }
        let used = claim.is(ConditionType::Initialized.as_str());
        let after = if used { after } else { after.max(SPARE_UNUSED) };
        let due = idle.saturating_add(after).unwrap_or(Timestamp::MAX);
        if snapshot.now < due {
            decision.wake_at(due);
            touch(snapshot, claim, idle, decision);
            continue;
        }
        // A fenced node has its share of the budget already.
        if !fenced && !allowance.take() {
            continue;
        }
        remove(claim, node, fenced, after, decision);
    }
}

fn is_kept(claim: &Claim, node: Option<&Arc<Node>>) -> bool {
    let says = |annotations: &BTreeMap<String, String>| {
        annotations
            .get(labels::DO_NOT_DISRUPT)
            .is_some_and(|value| value == "true")
    };
    says(&claim.annotations) || node.is_some_and(|node| says(&node.annotations))
}

fn remove(
    claim: &Arc<Claim>,
    node: Option<&Arc<Node>>,
    fenced: bool,
    after: SignedDuration,
    decision: &mut Decision<EmptyStep>,
) {
    let tainted = node.is_none_or(|node| node.is_fenced());
    if let Some(node) = node
        && (!fenced || !tainted)
    {
        let change = ConditionChange::holds_because(
            ConditionType::DisruptionReason,
            ConditionReason::Empty,
            "no pods were left on the node",
        )
        .news_for(claim);
        decision.push(EmptyStep::Fence {
            claim: Arc::clone(claim),
            node: Arc::clone(node),
            change,
        });
        return;
    }
    decision.push(EmptyStep::Remove {
        claim: Arc::clone(claim),
        node: node.map(Arc::clone),
        message: format!("no pods for {after:#}"),
    });
}

fn touch(
    snapshot: &Snapshot,
    claim: &Arc<Claim>,
    at: Timestamp,
    decision: &mut Decision<EmptyStep>,
) {
    // Only news, only while it is news, and only of nodes in use.
    let news = at.duration_since(remembered(claim)) >= TOUCH_INTERVAL;
    let fresh = snapshot.now.duration_since(at) < TOUCH_INTERVAL;
    if news && fresh && !claim.node_name.is_empty() {
        decision.push(EmptyStep::Touch {
            claim: Arc::clone(claim),
            at,
        });
    }
}

#[cfg(test)]
mod tests;
