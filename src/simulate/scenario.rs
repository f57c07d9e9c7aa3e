//! What is simulated: the cluster's furniture, the work, the region, and what a variant changes.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::workload::Load;
use crate::model::node_class::NodeClass;
use crate::model::node_pool::NodePool;
use crate::model::snapshot::Snapshot;
use crate::model::workload::{DaemonSet, Namespace, VolumeClaim};
use crate::plan::provision::ProvisionSettings;
use crate::sim::ec2::market::Weather;

/// What all variants share.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// The first instant.
    pub begin: Timestamp,
    /// New work arrives for so long; pods that run to the end are ended then.
    pub duration: SignedDuration,
    /// Everything that is left to chance follows from it.
    pub seed: u64,
    /// What the region is like.
    pub weather: Weather,
    /// The work in order of its arrival.
    pub loads: Vec<Load>,
}

/// One set of NodePools, node classes and settings over a scenario.
#[derive(Debug, Clone)]
pub struct Variant {
    /// Its name in the report.
    pub name: String,
    /// NodePools of ours by name.
    pub node_pools: BTreeMap<String, Arc<NodePool>>,
    /// Their node classes by name, with the built-in catalogue.
    pub node_classes: BTreeMap<String, Arc<NodeClass>>,
    /// DaemonSets by `namespace/name`.
    pub daemon_sets: BTreeMap<String, Arc<DaemonSet>>,
    /// Namespaces by name.
    pub namespaces: BTreeMap<String, Arc<Namespace>>,
    /// PersistentVolumeClaims by `namespace/name`.
    pub volume_claims: BTreeMap<String, Arc<VolumeClaim>>,
    /// Settings of the planner.
    pub settings: ProvisionSettings,
}

impl Variant {
    /// Adds the namespaces that loads are in and nobody describes.
    pub fn add_namespaces(&mut self, loads: &[Load]) {
        let used = loads.iter().map(|load| load.spec.namespace.as_str());
        Namespace::imply(&mut self.namespaces, used);
    }

    /// A snapshot with what the variant says and nothing else.
    pub fn furnished(&self, now: Timestamp) -> Snapshot {
        Snapshot {
            node_pools: self.node_pools.clone(),
            node_classes: self.node_classes.clone(),
            daemon_sets: self.daemon_sets.clone(),
            namespaces: self.namespaces.clone(),
            volume_claims: self.volume_claims.clone(),
            ..Snapshot::empty(now)
        }
    }
}
