//! Nodes that take pods, and what is left of each.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::agenda::PodId;
use crate::model::node::Node;
use crate::model::pod::{HostPort, PodConstraints, PodSpec};
use crate::model::resources::{CPU, MEMORY, Resources};
use crate::model::snapshot::Snapshot;
use crate::model::taint::first_untolerated;

/// A node as the scheduler sees it.
#[derive(Debug)]
pub(super) struct Place {
    /// What pods may use, DaemonSets' pods taken off.
    pub(super) usable: Resources,
    /// What is left of it.
    pub(super) free: Resources,
    /// Pods on it.
    pub(super) pods: BTreeSet<PodId>,
    /// Takes no more pods.
    pub(super) closed: bool,
    /// Whether classes suit it by labels, taints and volumes, as far as it was asked.
    suits: RefCell<BTreeMap<usize, bool>>,
}

impl Place {
    /// An empty node.
    pub(super) fn new(usable: Resources) -> Self {
        Self {
            free: usable.clone(),
            usable,
            pods: BTreeSet::new(),
            closed: false,
            suits: RefCell::default(),
        }
    }

    /// True when pods of a class fit, other pods apart; `node` is asked once for each class.
    pub(super) fn takes<'world>(
        &self,
        (class, spec): (usize, &PodSpec),
        node: impl FnOnce() -> Option<&'world Arc<Node>>,
        snapshot: &Snapshot,
    ) -> bool {
        !self.closed
            && spec.requests.fits(&self.free)
            && *self
                .suits
                .borrow_mut()
                .entry(class)
                .or_insert_with(|| node().is_some_and(|node| suits(spec, node, snapshot)))
    }

    /// How empty it is with one more pod: the mean of the free shares of processors and memory, of
    /// 1000. kube-scheduler's default prefers the emptier node.
    pub(super) fn emptiness(&self, spec: &PodSpec) -> i64 {
        let share = |resource: &str| {
            let all = self.usable.get(resource).max(1);
            let left = self.free.get(resource) - spec.requests.get(resource);
            i64::try_from(i128::from(left) * 1_000 / i128::from(all)).unwrap_or(0)
        };
        i64::midpoint(share(CPU), share(MEMORY))
    }
}

/// True when node and volumes of a pod suit each other.
fn suits(spec: &PodSpec, node: &Node, snapshot: &Snapshot) -> bool {
    let claims = spec
        .constraints
        .as_deref()
        .map_or(&[][..], |constraints| &constraints.volume_claims);
    first_untolerated(&node.taints, &spec.tolerations).is_none()
        && spec.selects(&node.name, &node.labels)
        && claims.iter().all(|claim| {
            let key = format!("{}/{claim}", spec.namespace);
            snapshot.volume_claims.get(&key).is_some_and(|claim| {
                claim.problem.is_none()
                    && (claim.node_terms.is_empty()
                        || claim
                            .node_terms
                            .iter()
                            .any(|term| term.matches(&node.name, &node.labels)))
            })
        })
}

/// True when no port of one pod is taken by another on the same node.
pub(super) fn ports_agree(one: &PodSpec, other: &PodSpec) -> bool {
    let ports = |spec: &PodSpec| -> Vec<HostPort> {
        let constraints: Option<&Arc<PodConstraints>> = spec.constraints.as_ref();
        constraints.map_or_else(Vec::new, |constraints| constraints.host_ports.clone())
    };
    let anywhere = |address: &str| address.is_empty() || address == "0.0.0.0";
    let own = ports(one);
    own.is_empty()
        || !ports(other).iter().any(|theirs| {
            own.iter().any(|ours| {
                ours.port == theirs.port
                    && ours.protocol == theirs.protocol
                    && (ours.address == theirs.address
                        || anywhere(&ours.address)
                        || anywhere(&theirs.address))
            })
        })
}
