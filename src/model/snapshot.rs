//! Everything known at one instant, own writes that no watch has shown yet included.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;

use super::claim::Claim;
use super::node::Node;
use super::node_class::NodeClass;
use super::node_pool::NodePool;
use super::pod::{Pod, PodKey};
use super::workload::{DaemonSet, DisruptionBudget, Namespace, VolumeClaim};

/// The world as decisions see it. Maps are ordered by name, so equal snapshots give equal plans.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The instant.
    pub now: Timestamp,
    /// Every pod.
    pub pods: BTreeMap<PodKey, Arc<Pod>>,
    /// Every Node, ours or not.
    pub nodes: BTreeMap<String, Arc<Node>>,
    /// Claims of ours: those whose node class is an EC2NodeClass.
    pub claims: BTreeMap<String, Arc<Claim>>,
    /// NodePools of ours.
    pub node_pools: BTreeMap<String, Arc<NodePool>>,
    /// NodePools of another provisioner, for the good neighbour's rule on contested pods.
    pub foreign_node_pools: BTreeMap<String, Arc<NodePool>>,
    /// Node classes of ours, resolved.
    pub node_classes: BTreeMap<String, Arc<NodeClass>>,
    /// DaemonSets by `namespace/name`.
    pub daemon_sets: BTreeMap<String, Arc<DaemonSet>>,
    /// Disruption budgets by `namespace/name`.
    pub disruption_budgets: BTreeMap<String, Arc<DisruptionBudget>>,
    /// PersistentVolumeClaims by `namespace/name`.
    pub volume_claims: BTreeMap<String, Arc<VolumeClaim>>,
    /// Volumes attached to nodes by CSI: (node, driver) to how many more the node takes.
    pub volume_room: BTreeMap<(String, String), i64>,
    /// Namespaces.
    pub namespaces: BTreeMap<String, Arc<Namespace>>,
    /// Nodes that do not take a pod although they seem to have room, by the pod.
    pub refused: BTreeMap<PodKey, BTreeSet<String>>,
    /// What the last plan put onto Nodes and claims, by their name.
    pub expected: BTreeMap<String, Vec<PodKey>>,
}

impl Snapshot {
    /// True for the name of a NodePool that a person has paused.
    pub fn is_paused(&self, node_pool: Option<&String>) -> bool {
        self.paused_pool(node_pool).is_some()
    }

    /// The NodePool of a name, if a person has paused it.
    pub fn paused_pool(&self, node_pool: Option<&String>) -> Option<&Arc<NodePool>> {
        node_pool
            .and_then(|name| self.node_pools.get(name))
            .filter(|pool| pool.paused)
    }

    /// An empty world at an instant.
    pub fn empty(now: Timestamp) -> Self {
        Self {
            now,
            pods: BTreeMap::new(),
            nodes: BTreeMap::new(),
            claims: BTreeMap::new(),
            node_pools: BTreeMap::new(),
            foreign_node_pools: BTreeMap::new(),
            node_classes: BTreeMap::new(),
            daemon_sets: BTreeMap::new(),
            disruption_budgets: BTreeMap::new(),
            volume_claims: BTreeMap::new(),
            volume_room: BTreeMap::new(),
            namespaces: BTreeMap::new(),
            refused: BTreeMap::new(),
            expected: BTreeMap::new(),
        }
    }

    /// The Node with a provider id, if exactly one has it.
    pub fn node_by_provider_id(&self, provider_id: &str) -> Option<&Arc<Node>> {
        let mut found = self
            .nodes
            .values()
            .filter(|node| node.provider_id == provider_id);
        match (found.next(), found.next()) {
            (Some(node), None) if !provider_id.is_empty() => Some(node),
            _ => None,
        }
    }

    /// The Nodes of claims, by the claim's name: the one that a claim calls its own, or, before it
    /// says so, the one with its provider id that no other claim calls its own. A Node may be open
    /// for pods before its claim says that it has registered. Of several nobody can tell which it is.
    pub fn nodes_of_claims(&self) -> BTreeMap<&str, &Arc<Node>> {
        let possible = self.possible_nodes_of_claims().into_iter();
        possible
            .filter_map(|(name, nodes)| match nodes.as_slice() {
                [only] => Some((name, *only)),
                _ => None,
            })
            .collect()
    }

    /// As [`Self::nodes_of_claims`], with all of several Nodes that carry the provider id of a claim that calls none its
    /// own. Claims without any are left out.
    pub fn possible_nodes_of_claims(&self) -> BTreeMap<&str, Vec<&Arc<Node>>> {
        let taken: BTreeSet<&str> = self
            .claims
            .values()
            .map(|claim| claim.node_name.as_str())
            .collect();
        let mut carriers: BTreeMap<&str, Vec<&Arc<Node>>> = BTreeMap::new();
        for node in self.nodes.values() {
            carriers.entry(&node.provider_id).or_default().push(node);
        }
        let nodes_of = |claim: &Claim| -> Vec<&Arc<Node>> {
            if !claim.node_name.is_empty() {
                return self.nodes.get(&claim.node_name).into_iter().collect();
            }
            if claim.provider_id.is_empty() {
                return Vec::new();
            }
            let found = carriers.get(claim.provider_id.as_str());
            let found = found.into_iter().flatten().copied();
            found
                .filter(|node| !taken.contains(node.name.as_str()))
                .collect()
        };
        let all = self.claims.iter();
        all.map(|(name, claim)| (name.as_str(), nodes_of(claim)))
            .filter(|(_name, nodes)| !nodes.is_empty())
            .collect()
    }

    /// Pods that occupy a node, in name order.
    pub fn pods_on<'world>(
        &'world self,
        node: &'world str,
    ) -> impl Iterator<Item = &'world Arc<Pod>> {
        self.pods
            .values()
            .filter(move |pod| pod.is_active_on_node() && pod.node_name.as_deref() == Some(node))
    }
}
