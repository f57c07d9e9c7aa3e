//! A Kubernetes Node as decisions see it.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::labels::LabelSet;
use super::resources::Resources;
use super::taint::Taint;
use crate::api::labels;

/// A Node object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// The object's name.
    pub name: String,
    /// The object's uid.
    pub uid: String,
    /// When it registered.
    pub created: Timestamp,
    /// Set while it is being deleted.
    pub deleting_since: Option<Timestamp>,
    /// `spec.providerID`, empty until known.
    pub provider_id: String,
    /// Labels.
    pub labels: LabelSet,
    /// Annotations under `karpenter.sh/` and `tonnage.dev/`.
    pub annotations: BTreeMap<String, String>,
    /// Finalizers.
    pub finalizers: Vec<String>,
    /// Taints, `spec.unschedulable` included as the node controller adds it.
    pub taints: Vec<Taint>,
    /// Cordoned.
    pub unschedulable: bool,
    /// Condition Ready is True.
    pub ready: bool,
    /// `status.capacity`.
    pub capacity: Resources,
    /// `status.allocatable`.
    pub allocatable: Resources,
}

impl Node {
    /// True while it is closed to new pods because it is to go.
    pub fn is_fenced(&self) -> bool {
        let mut taints = self.taints.iter();
        taints.any(|taint| taint.key == labels::DISRUPTED_TAINT)
    }

    /// True when it takes no pods any more, by what it says itself.
    pub fn is_closing(&self) -> bool {
        self.deleting_since.is_some() || self.is_fenced()
    }
}
