//! Where kube-scheduler and the planner disagree for good about room that is there.
//!
//! Given snapshots and the plans made for them, [`Disagreements`] finds pods that were planned onto the
//! same usable Node for [`PATIENCE`] and never bound to it: something that the planner does not know
//! keeps them off. That kube-scheduler stands still is another matter, so it must have bound some other
//! pod meanwhile. Such a pod is planned past that Node from then on, and once [`MOST`] Nodes did not
//! take it nothing more is bought for it, because more of the same would stay empty too. Nothing is
//! decided for ever: it is forgotten after [`FORGET`], and with the pod.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use crate::api::labels;
use crate::model::pod::PodKey;
use crate::model::report::ProvisioningPlan;
use crate::model::snapshot::Snapshot;

/// How long a pod may stay unbound beside room on a usable Node. kube-scheduler looks again at once
/// when a Node changes, and its back-off ends after 10 s, so that it has had many chances by then.
pub const PATIENCE: SignedDuration = SignedDuration::from_mins(2);
/// How long a Node is planned past.
pub const FORGET: SignedDuration = SignedDuration::from_mins(30);
/// Nodes that did not take a pod, after which nothing is bought for it: what was there, and what was
/// bought instead.
pub const MOST: usize = 2;

/// What is remembered of pods that wait beside room. Lost with the process.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Disagreements {
    pods: BTreeMap<PodKey, Waits>,
    /// Pods that were not bound at the last look.
    unbound: BTreeSet<PodKey>,
    /// When a pod was last seen to be bound, at the least.
    bound: Option<Timestamp>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Waits {
    uid: String,
    /// The Node that the last plans put it onto, since when.
    beside: Option<(String, Timestamp)>,
    /// Nodes that did not take it, and when that was found.
    refused: BTreeMap<String, Timestamp>,
}

/// A pod that a Node does not take although there is room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disagreement {
    /// The pod.
    pub pod: PodKey,
    /// Why it waits and what follows, for people.
    pub message: String,
}

impl Disagreements {
    /// Writes into a snapshot what the next plan has to respect.
    pub fn mark(&self, snapshot: &mut Snapshot) {
        for (key, waits) in &self.pods {
            let same = snapshot
                .pods
                .get(key)
                .is_some_and(|pod| pod.uid == waits.uid);
            let nodes: BTreeSet<String> = waits.refused.keys().cloned().collect();
            if same && !nodes.is_empty() {
                snapshot.refused.insert(key.clone(), nodes);
            }
        }
    }

    /// Takes in a plan and gives back what it shows for the first time.
    pub fn observe(&mut self, snapshot: &Snapshot, plan: &ProvisioningPlan) -> Vec<Disagreement> {
        let now = snapshot.now;
        self.watch_bindings(snapshot);
        self.pods.retain(|key, waits| {
            let pod = snapshot.pods.get(key);
            waits
                .refused
                .retain(|_node, found| now.duration_since(*found) < FORGET);
            pod.is_some_and(|pod| pod.uid == waits.uid && pod.node_name.is_none())
        });
        let mut beside: BTreeMap<&PodKey, &str> = BTreeMap::new();
        let ours = of_claims(snapshot);
        for (node, pods) in &plan.existing {
            if is_usable(snapshot, &ours, node) {
                beside.extend(pods.iter().map(|pod| (pod, node.as_str())));
            }
        }
        for (key, waits) in &mut self.pods {
            if !beside.contains_key(key) {
                waits.beside = None;
            }
        }
        self.pods
            .retain(|_key, waits| waits.beside.is_some() || !waits.refused.is_empty());
        let mut found = Vec::new();
        for (key, node) in beside {
            let Some(pod) = snapshot.pods.get(key).filter(|pod| pod.node_name.is_none()) else {
                // It is bound, and planned only because its own Node goes.
                continue;
            };
            let waits = self.pods.entry(key.clone()).or_insert_with(|| Waits {
                uid: pod.uid.clone(),
                beside: None,
                refused: BTreeMap::new(),
            });
            found.extend(waits.stay(key, node, (now, self.bound)));
        }
        found
    }

    /// Sees whether kube-scheduler binds pods.
    fn watch_bindings(&mut self, snapshot: &Snapshot) {
        let is_bound = |key: &PodKey| {
            let pod = snapshot.pods.get(key);
            pod.is_some_and(|pod| pod.node_name.is_some())
        };
        if self.unbound.iter().any(is_bound) {
            self.bound = Some(snapshot.now);
        }
        // Most pods are bound before anybody sees them unbound.
        let bound = snapshot.pods.values();
        let bound = bound.filter(|pod| pod.node_name.is_some() && !pod.mirror);
        self.bound = self.bound.max(bound.map(|pod| pod.created).max());
        let unbound = snapshot.pods.values();
        self.unbound = unbound
            .filter(|pod| pod.node_name.is_none() && !pod.phase.is_terminal())
            .map(|pod| pod.key.clone())
            .collect();
    }
}

impl Waits {
    /// It is planned onto a Node, maybe once more.
    fn stay(
        &mut self,
        key: &PodKey,
        node: &str,
        (now, bound): (Timestamp, Option<Timestamp>),
    ) -> Option<Disagreement> {
        let since = match &self.beside {
            Some((known, since)) if known == node => *since,
            _ => now,
        };
        self.beside = Some((node.to_owned(), since));
        let schedules = bound.is_some_and(|bound| bound > since);
        if now.duration_since(since) < PATIENCE || !schedules {
            return None;
        }
        self.beside = None;
        self.refused.insert(node.to_owned(), now);
        let what = if self.refused.len() < MOST {
            "it is planned onto another from now on".to_owned()
        } else {
            format!("nothing more is bought for it within {FORGET:#}")
        };
        let nodes: Vec<&str> = self.refused.keys().map(String::as_str).collect();
        Some(Disagreement {
            pod: key.clone(),
            message: format!(
                "there is room for the pod on {} as far as Tonnage knows, and kube-scheduler does not bind \
                 it there: its events say what keeps it off; {what}",
                nodes.join(" and ")
            ),
        })
    }
}

/// Names and provider ids of the Nodes of claims.
fn of_claims(snapshot: &Snapshot) -> BTreeSet<&str> {
    let claims = snapshot.claims.values();
    claims
        .flat_map(|claim| [claim.node_name.as_str(), claim.provider_id.as_str()])
        .filter(|name| !name.is_empty())
        .collect()
}

/// True for a Node that takes pods now.
fn is_usable(snapshot: &Snapshot, ours: &BTreeSet<&str>, node: &str) -> bool {
    snapshot.nodes.get(node).is_some_and(|node| {
        let is_ours = ours.contains(node.name.as_str()) || ours.contains(node.provider_id.as_str());
        node.ready && (!is_ours || node.labels.contains_key(labels::INITIALIZED))
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::pod::{Pod, PodPhase};
    use crate::plan::examples::{at, node, pod};

    /// A world with one pod that waits beside one Node, and the plan that puts it there. Beside it another
    /// pod is bound, or not yet.
    fn beside(seconds: i64, name: &str, other: bool) -> (Snapshot, ProvisioningPlan, PodKey) {
        let mut snapshot = Snapshot::empty(at(seconds));
        snapshot.nodes.insert(name.to_owned(), Arc::new(node(name)));
        let unbound = |name: &str| Pod {
            node_name: None,
            phase: PodPhase::Pending,
            ..pod(name, "")
        };
        let waiting = unbound("waiting");
        let other = if other {
            pod("other", name)
        } else {
            unbound("other")
        };
        let key = waiting.key.clone();
        for pod in [waiting, other] {
            snapshot.pods.insert(pod.key.clone(), Arc::new(pod));
        }
        let mut plan = ProvisioningPlan::default();
        plan.existing.insert(name.to_owned(), vec![key.clone()]);
        (snapshot, plan, key)
    }

    fn seen(memory: &mut Disagreements, seconds: i64, name: &str, other: bool) -> usize {
        let (snapshot, plan, _key) = beside(seconds, name, other);
        memory.observe(&snapshot, &plan).len()
    }

    #[test]
    fn a_node_that_never_takes_a_pod_is_planned_past_for_a_while() {
        let mut memory = Disagreements::default();
        assert_eq!(seen(&mut memory, 0, "n1", false), 0);
        assert_eq!(seen(&mut memory, 119, "n1", true), 0);
        let (mut snapshot, plan, key) = beside(120, "n1", true);
        let found = memory.observe(&snapshot, &plan);
        assert_eq!(found.len(), 1);
        assert!(found[0].message.contains("n1"), "{found:?}");
        memory.mark(&mut snapshot);
        let refused = BTreeSet::from(["n1".to_owned()]);
        assert_eq!(snapshot.refused, BTreeMap::from([(key, refused)]));
        let (mut snapshot, plan, _key) = beside(120 + 30 * 60, "n1", true);
        assert_eq!(memory.observe(&snapshot, &plan), []);
        memory.mark(&mut snapshot);
        assert!(snapshot.refused.is_empty(), "it is tried again");
    }

    #[test]
    fn while_nothing_at_all_is_bound_no_node_is_blamed() {
        let mut memory = Disagreements::default();
        for minute in 0..20 {
            assert_eq!(seen(&mut memory, minute * 60, "n1", false), 0, "{minute}");
        }
        assert_eq!(seen(&mut memory, 20 * 60, "n1", true), 1);
    }

    #[test]
    fn time_counts_beside_one_node_only_and_ends_with_the_binding() {
        let mut memory = Disagreements::default();
        for (seconds, name) in [(0, "n1"), (100, "n2"), (200, "n1"), (300, "n2")] {
            let other = seconds > 250;
            assert_eq!(seen(&mut memory, seconds, name, other), 0, "{seconds}");
        }
        let (mut snapshot, plan, key) = beside(430, "n2", true);
        snapshot.pods.insert(key, Arc::new(pod("waiting", "n2")));
        assert_eq!(memory.observe(&snapshot, &plan), []);
        assert!(memory.pods.is_empty());
    }
}
