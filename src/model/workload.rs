//! Objects around pods that scheduling reads: DaemonSets, disruption budgets, volumes, namespaces.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::pod::{LabelSelector, NodeTerm, PodSpec};
use crate::api::labels::NAMESPACE_NAME;

/// A DaemonSet: what each of its pods will take on a node that it lands on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DaemonSet {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// The pods it would make.
    pub spec: Arc<PodSpec>,
}

/// A PodDisruptionBudget.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DisruptionBudget {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Pods it covers.
    pub selector: Option<LabelSelector>,
    /// `status.disruptionsAllowed`.
    pub disruptions_allowed: i32,
    /// The budget can never allow a disruption: maxUnavailable 0 or minAvailable 100 %.
    pub blocks_always: bool,
}

/// A PersistentVolumeClaim with what its volume or class says about place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeClaim {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// The bound volume.
    pub volume_name: Option<String>,
    /// The StorageClass that makes its volume once a pod has its node; `None` when it is bound already.
    pub storage_class: Option<String>,
    /// CSI driver that attaches it.
    pub driver: String,
    /// Its access mode is ReadWriteOncePod: one pod at a time may use it.
    pub one_pod: bool,
    /// Where the volume is, or may be made; the terms are alternatives, empty is anywhere.
    pub node_terms: Vec<NodeTerm>,
    /// What keeps pods with this claim from being scheduled, for people.
    pub problem: Option<String>,
}

/// A namespace's labels, for namespace selectors.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Namespace {
    /// Labels.
    pub labels: BTreeMap<String, String>,
}

impl Namespace {
    /// The same with the label that every API server puts onto a namespace of that name, whatever is written.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        let key = NAMESPACE_NAME.to_owned();
        self.labels.insert(key, name.to_owned());
        self
    }

    /// Adds the namespaces that something is in and nobody describes.
    pub fn imply<'names>(
        known: &mut BTreeMap<String, Arc<Self>>,
        names: impl Iterator<Item = &'names str>,
    ) {
        // Thousands of pods share a few names.
        let names: BTreeSet<&str> = names.collect();
        for name in names {
            let implied = || Arc::new(Self::default().named(name));
            known.entry(name.to_owned()).or_insert_with(implied);
        }
    }
}
