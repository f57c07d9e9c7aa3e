//! Which pods need a place, grouped into classes of equal pods.
//!
//! Given a snapshot, it gives back the pods that a new node could help: those that kube-scheduler
//! found no node for, and those that will leave a node that is going away. Nothing is placed here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::disagreement;
use crate::model::claim::Claim;
use crate::model::node::Node;
use crate::model::pod::{DoNotDisrupt, Pod, PodKey, PodSpec};
use crate::model::snapshot::Snapshot;

/// Equal pods that wait together.
#[derive(Debug, Clone)]
pub struct PodClass {
    /// What each of them asks for.
    pub spec: Arc<PodSpec>,
    /// Their names in order.
    pub pods: Vec<PodKey>,
}

/// The nodes that take no new pods because they are on their way out, or about to be.
#[derive(Debug, Default)]
pub struct Leaving<'world> {
    nodes: BTreeMap<&'world str, Leave>,
}

/// How a node leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leave {
    /// Its pods need another place.
    Drained,
    /// It goes as empty: what slipped in may run to its end there.
    AsEmpty,
    /// It is only fenced, and opens again for whoever is on it.
    Fenced,
}

impl Leave {
    /// Of a node with the state of its claim.
    fn of(node: &Node, claim: Option<&Claim>) -> Option<Self> {
        let Some(claim) = claim else {
            return node.is_closing().then_some(Self::Drained);
        };
        if claim.deleting_since.is_none() && node.deleting_since.is_none() {
            return node.is_fenced().then_some(Self::Fenced);
        }
        Some(if claim.goes_as_empty() {
            Self::AsEmpty
        } else {
            Self::Drained
        })
    }
}

impl<'world> Leaving<'world> {
    /// In a snapshot.
    pub fn of(snapshot: &'world Snapshot) -> Self {
        let closing = snapshot.nodes.values().filter(|node| node.is_closing());
        let closing: BTreeSet<&str> = closing
            .flat_map(|node| [node.name.as_str(), node.provider_id.as_str()])
            .collect();
        // Of most claims neither is going nor their Node.
        let mut claims: BTreeMap<&str, &Claim> = BTreeMap::new();
        for claim in snapshot.claims.values() {
            for name in [claim.node_name.as_str(), claim.provider_id.as_str()] {
                if claim.deleting_since.is_some() || closing.contains(name) {
                    claims.insert(name, claim);
                }
            }
        }
        claims.remove("");
        let nodes = snapshot.nodes.values().filter_map(|node| {
            let by_name = claims.get(node.name.as_str());
            let claim = by_name.or_else(|| claims.get(node.provider_id.as_str()));
            let leave = Leave::of(node, claim.copied())?;
            Some((node.name.as_str(), leave))
        });
        Self {
            nodes: nodes.collect(),
        }
    }

    /// True for a node that takes no new pods.
    pub fn contains(&self, node: &str) -> bool {
        self.nodes.contains_key(node)
    }

    /// True for a node that will be gone.
    pub fn goes(&self, node: &str) -> bool {
        self.nodes
            .get(node)
            .is_some_and(|leave| *leave != Leave::Fenced)
    }

    /// True for a pod that must go elsewhere, or is going.
    pub fn sends_away(&self, pod: &Pod) -> bool {
        let node = pod.node_name.as_deref();
        node.and_then(|node| self.nodes.get(node)) == Some(&Leave::Drained)
    }
}

/// Tells which pods wait for a node.
#[derive(Debug)]
pub struct Waiting<'world> {
    snapshot: &'world Snapshot,
    /// The Nodes of our claims, those that have not registered included.
    ours: BTreeSet<&'world str>,
}

impl<'world> Waiting<'world> {
    /// In a snapshot.
    pub fn of(snapshot: &'world Snapshot) -> Self {
        let nodes = snapshot.nodes_of_claims();
        Self {
            snapshot,
            ours: nodes.values().map(|node| node.name.as_str()).collect(),
        }
    }

    /// True for a pod that waits for a node.
    ///
    /// A nomination is respected when its node is not ours: kube-scheduler preempts there. Our own
    /// nominations are only hints, so their pods are planned again.
    pub fn includes(&self, pod: &Pod) -> bool {
        let foreign_nomination = || {
            pod.nominated_node.as_deref().is_some_and(|name| {
                self.snapshot.nodes.contains_key(name) && !self.ours.contains(name)
            })
        };
        pod.node_name.is_none()
            && pod.unschedulable
            && !pod.phase.is_terminal()
            && pod.deleting_until.is_none()
            && pod.is_work()
            && !pod.spec.gated
            && !foreign_nomination()
            && !is_given_up(self.snapshot, pod)
    }
}

/// True for a pod that kube-scheduler binds to none of the nodes that have room for it.
fn is_given_up(snapshot: &Snapshot, pod: &Pod) -> bool {
    let refused = snapshot.refused.get(&pod.key);
    refused.is_some_and(|nodes| nodes.len() >= disagreement::MOST)
}

/// True for a bound pod that will need another place when its node goes.
pub fn will_move(pod: &Pod) -> bool {
    let stateful = pod
        .owner
        .as_ref()
        .is_some_and(|owner| owner.kind == "StatefulSet");
    !pod.phase.is_terminal()
        && pod.owner.is_some()
        && (pod.deleting_until.is_none() || stateful)
        && pod.is_work()
        && pod.do_not_disrupt == DoNotDisrupt::No
}

/// The pods that need a place, in classes ordered by their specs.
pub fn classes(snapshot: &Snapshot) -> Vec<PodClass> {
    let leaving = Leaving::of(snapshot);
    let waiting = Waiting::of(snapshot);
    // Caches share one copy of equal specs, so most pods are told apart by address alone; the order
    // of classes is that of the specs.
    let mut by_address: BTreeMap<*const PodSpec, Vec<&Arc<Pod>>> = BTreeMap::new();
    for pod in snapshot.pods.values() {
        let wanted = match pod.node_name.as_deref() {
            None => waiting.includes(pod),
            Some(_node) => leaving.sends_away(pod) && will_move(pod),
        };
        if wanted {
            by_address
                .entry(Arc::as_ptr(&pod.spec))
                .or_default()
                .push(pod);
        }
    }
    let mut by_spec: BTreeMap<&PodSpec, PodClass> = BTreeMap::new();
    for pods in by_address.into_values() {
        let Some(first) = pods.first() else {
            continue;
        };
        by_spec
            .entry(&first.spec)
            .or_insert_with(|| PodClass {
                spec: Arc::clone(&first.spec),
                pods: Vec::new(),
            })
            .pods
            .extend(pods.iter().map(|pod| pod.key.clone()));
    }
    by_spec
        .into_values()
        .map(|mut class| {
            class.pods.sort_unstable();
            class
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::examples::{as_empty, at, fenced, initialized, node, pod, world};

    /// The pods that need another place.
    fn moving(claim: &Claim, node: &Node) -> Vec<String> {
        let claims = std::slice::from_ref(claim);
        let snapshot = world(
            100,
            claims,
            std::slice::from_ref(node),
            &[pod("app", "ip-a")],
        );
        assert!(Leaving::of(&snapshot).contains("ip-a"));
        let pods = classes(&snapshot).into_iter().flat_map(|class| class.pods);
        pods.map(|pod| pod.name.to_string()).collect()
    }

    #[test]
    fn a_node_that_goes_sends_its_pods_away() {
        let mut going = initialized("a");
        going.deleting_since = Some(at(95));
        assert_eq!(moving(&going, &node("a")), ["app"]);
        let mut deleted = node("a");
        deleted.deleting_since = Some(at(95));
        assert_eq!(moving(&initialized("a"), &deleted), ["app"]);
    }

    #[test]
    fn nothing_is_bought_for_what_slipped_onto_a_node_that_goes_as_empty() {
        let mut going = as_empty(initialized("a"));
        going.deleting_since = Some(at(95));
        assert!(moving(&going, &fenced("a")).is_empty());
        let mut deleted = fenced("a");
        deleted.deleting_since = Some(at(95));
        assert!(moving(&as_empty(initialized("a")), &deleted).is_empty());
    }

    #[test]
    fn nothing_is_bought_for_pods_on_a_node_that_is_only_fenced() {
        assert!(moving(&as_empty(initialized("a")), &fenced("a")).is_empty());
        assert!(moving(&initialized("a"), &fenced("a")).is_empty());
    }
}
