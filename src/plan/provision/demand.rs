//! Which pods need a place, grouped into classes of equal pods.
//!
//! Given a snapshot, it gives back the pods that a new node could help: those that kube-scheduler
//! found no node for, and those that will leave a node that is going away. Nothing is placed here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::disagreement;
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

/// True while a node is on its way out: its pods need another place and it takes no new ones.
pub fn is_leaving(snapshot: &Snapshot, node: &Node) -> bool {
    node.is_closing()
        || snapshot.claims.values().any(|claim| {
            claim.deleting_since.is_some()
                && (claim.node_name == node.name
                    || (!claim.provider_id.is_empty() && claim.provider_id == node.provider_id))
        })
}

/// The names of nodes that are on their way out.
pub fn leaving_nodes(snapshot: &Snapshot) -> BTreeSet<&str> {
    let going: BTreeSet<&str> = snapshot
        .claims
        .values()
        .filter(|claim| claim.deleting_since.is_some())
        .flat_map(|claim| [claim.node_name.as_str(), claim.provider_id.as_str()])
        .filter(|name| !name.is_empty())
        .collect();
    snapshot
        .nodes
        .values()
        .filter(|node| {
            node.is_closing()
                || going.contains(node.name.as_str())
                || going.contains(node.provider_id.as_str())
        })
        .map(|node| node.name.as_str())
        .collect()
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
    let leaving = leaving_nodes(snapshot);
    let waiting = Waiting::of(snapshot);
    // Caches share one copy of equal specs, so most pods are told apart by address alone; the order
    // of classes is that of the specs.
    let mut by_address: BTreeMap<*const PodSpec, Vec<&Arc<Pod>>> = BTreeMap::new();
    for pod in snapshot.pods.values() {
        let wanted = match pod.node_name.as_deref() {
            None => waiting.includes(pod),
            Some(node) => leaving.contains(node) && will_move(pod),
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
