//! The cluster at one instant, as shared maps.
//!
//! A view is cheap to take and never changes. Loops that look at one object use it as it is; plans
//! are made from the [`Snapshot`] that it builds.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};

use jiff::Timestamp;

use super::observe::defaults::ContainerDefaults;
use super::observe::volume::{self, ClaimedVolume, StorageClassFacts, StorageNode, VolumeFacts};
use super::observe::workload::ObservedDaemonSet;
use crate::api;
use crate::model::claim::Claim;
use crate::model::node::Node;
use crate::model::node_class::NodeClass;
use crate::model::node_pool::NodePool;
use crate::model::pod::{Pod, PodKey};
use crate::model::snapshot::Snapshot;
use crate::model::workload::{DaemonSet, DisruptionBudget, Namespace, VolumeClaim};

/// A NodePool, ours or another provisioner's.
#[derive(Debug, Clone, PartialEq)]
pub struct ObservedNodePool {
    /// The object, without managed fields, for its status.
    pub object: Arc<api::node_pool::NodePool>,
    /// The pool as decisions see it.
    pub pool: Arc<NodePool>,
    /// True when its node class is an EC2NodeClass of Tonnage.
    pub ours: bool,
}

/// An EC2NodeClass.
#[derive(Debug, Clone, PartialEq)]
pub struct ObservedNodeClass {
    /// The object, without managed fields.
    pub object: Arc<api::node_class::EC2NodeClass>,
}

/// The cluster at one instant, own writes that no watch has shown yet included.
#[derive(Debug, Clone)]
pub struct View {
    /// Every pod.
    pub pods: Arc<BTreeMap<PodKey, Arc<Pod>>>,
    /// Pods by the node they are bound to, ended ones included.
    pub pods_by_node: Arc<BTreeMap<String, Arc<BTreeSet<PodKey>>>>,
    /// Every Node.
    pub nodes: Arc<BTreeMap<String, Arc<Node>>>,
    /// Names of Nodes by provider id; more than one name is a conflict that somebody must see.
    pub nodes_by_provider_id: Arc<BTreeMap<String, Arc<BTreeSet<String>>>>,
    /// NodeClaims of ours.
    pub claims: Arc<BTreeMap<String, Arc<Claim>>>,
    /// Every NodePool.
    pub node_pools: Arc<BTreeMap<String, Arc<ObservedNodePool>>>,
    /// Every EC2NodeClass.
    pub node_classes: Arc<BTreeMap<String, Arc<ObservedNodeClass>>>,
    /// What LimitRanges give containers, by `namespace/name`.
    pub(super) limit_ranges: Arc<BTreeMap<String, Arc<Vec<ContainerDefaults>>>>,
    /// DaemonSets by `namespace/name`.
    pub(super) daemon_sets: Arc<BTreeMap<String, Arc<ObservedDaemonSet>>>,
    /// PodDisruptionBudgets by `namespace/name`.
    pub disruption_budgets: Arc<BTreeMap<String, Arc<DisruptionBudget>>>,
    pub(super) volume_claims: Arc<BTreeMap<String, Arc<ClaimedVolume>>>,
    pub(super) volumes: Arc<BTreeMap<String, Arc<VolumeFacts>>>,
    pub(super) storage_classes: Arc<BTreeMap<String, Arc<StorageClassFacts>>>,
    pub(super) storage_nodes: Arc<BTreeMap<String, Arc<StorageNode>>>,
    /// Namespaces.
    pub namespaces: Arc<BTreeMap<String, Arc<Namespace>>>,
    /// Names of claims by provider id, made when first asked for.
    pub(super) claims_by_provider_id: OnceLock<BTreeMap<String, String>>,
}

impl View {
    /// Pods bound to a node that have not ended, in name order.
    pub fn pods_on<'view>(&'view self, node: &str) -> impl Iterator<Item = &'view Arc<Pod>> {
        self.pods_by_node
            .get(node)
            .into_iter()
            .flat_map(|keys| keys.iter())
            .filter_map(|key| self.pods.get(key))
            .filter(|pod| pod.is_active_on_node())
    }

    /// The Nodes that carry a provider id, in name order.
    pub fn nodes_with<'view>(
        &'view self,
        provider_id: &str,
    ) -> impl Iterator<Item = &'view Arc<Node>> {
        self.nodes_by_provider_id
            .get(provider_id)
            .into_iter()
            .flat_map(|names| names.iter())
            .filter_map(|name| self.nodes.get(name))
    }

    /// The claim that a Node belongs to: the one with the Node's provider id.
    pub fn claim_of(&self, node: &Node) -> Option<&Arc<Claim>> {
        let index = self.claims_by_provider_id.get_or_init(|| {
            self.claims
                .values()
                .filter(|claim| !claim.provider_id.is_empty())
                .map(|claim| (claim.provider_id.clone(), claim.name.clone()))
                .collect()
        });
        self.claims.get(index.get(&node.provider_id)?)
    }

    /// DaemonSets with what the LimitRanges of their namespaces give their pods.
    fn daemon_sets(&self) -> BTreeMap<String, Arc<DaemonSet>> {
        let mut by_namespace: BTreeMap<&str, Vec<ContainerDefaults>> = BTreeMap::new();
        for (key, defaults) in self.limit_ranges.iter() {
            let namespace = key.split('/').next().unwrap_or_default();
            let all = by_namespace.entry(namespace).or_default();
            all.extend(defaults.iter().cloned());
        }
        let with_defaults = |observed: &Arc<ObservedDaemonSet>| {
            let own = by_namespace.get(observed.set.namespace.as_str());
            own.map_or_else(
                || Arc::clone(&observed.set),
                |own| Arc::new(observed.with(own)),
            )
        };
        self.daemon_sets
            .iter()
            .map(|(key, observed)| (key.clone(), with_defaults(observed)))
            .collect()
    }

    /// PersistentVolumeClaims by `namespace/name`, with what their volumes and storage classes say.
    pub fn volume_claims(&self) -> BTreeMap<String, Arc<VolumeClaim>> {
        volume::join(&self.volume_claims, &self.volumes, &self.storage_classes)
    }

    /// Everything a plan needs to know. `node_classes` are the resolved classes, by name.
    pub fn snapshot(
        &self,
        now: Timestamp,
        node_classes: BTreeMap<String, Arc<NodeClass>>,
    ) -> Snapshot {
        let volume_claims = self.volume_claims();
        let volume_room = volume::room(
            &self.storage_nodes,
            &volume_claims,
            self.pods.values().filter(|pod| pod.is_active_on_node()),
        );
        let pools = |ours: bool| {
            self.node_pools
                .iter()
                .filter(move |(_name, observed)| observed.ours == ours)
                .map(|(name, observed)| (name.clone(), Arc::clone(&observed.pool)))
                .collect()
        };
        Snapshot {
            now,
            pods: BTreeMap::clone(&self.pods),
            nodes: BTreeMap::clone(&self.nodes),
            claims: BTreeMap::clone(&self.claims),
            node_pools: pools(true),
            foreign_node_pools: pools(false),
            node_classes,
            daemon_sets: self.daemon_sets(),
            disruption_budgets: BTreeMap::clone(&self.disruption_budgets),
            volume_claims,
            volume_room,
            namespaces: BTreeMap::clone(&self.namespaces),
            refused: BTreeMap::new(),
            expected: BTreeMap::new(),
        }
    }
}
