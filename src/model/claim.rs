//! A NodeClaim as decisions see it: the record of one machine, from wish to end.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::launch::LaunchRecord;
use super::offering::OfferingKey;
use super::resources::Resources;
use super::taint::Taint;
use crate::api::conditions::{ConditionReason, ConditionType};

/// The state of one condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConditionStatus {
    /// True.
    True,
    /// False.
    False,
    /// Unknown.
    Unknown,
}

/// One condition of a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimCondition {
    /// True, False or Unknown.
    pub status: ConditionStatus,
    /// Machine-readable reason.
    pub reason: String,
    /// For people.
    pub message: String,
    /// When the status last changed.
    pub since: Timestamp,
}

/// A NodeClaim of ours.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Claim {
    /// The object's name.
    pub name: String,
    /// The object's uid: the identity from which client tokens are derived.
    pub uid: String,
    /// `metadata.resourceVersion`, for compare-and-swap writes.
    pub resource_version: String,
    /// `metadata.generation`.
    pub generation: i64,
    /// When it was made.
    pub created: Timestamp,
    /// Set while it is being deleted.
    pub deleting_since: Option<Timestamp>,
    /// Finalizers.
    pub finalizers: Vec<String>,
    /// The NodePool, from the label; `None` for a standalone claim.
    pub node_pool: Option<String>,
    /// Name of the EC2NodeClass.
    pub node_class: String,
    /// Labels, which the Node will carry too: claims for equal machines share them.
    pub labels: Arc<BTreeMap<String, String>>,
    /// Annotations, but for those that [`Self::offerings`] and [`Self::launch`] are read from.
    pub annotations: BTreeMap<String, String>,
    /// Taints that the node keeps.
    pub taints: Vec<Taint>,
    /// Taints that something else removes before pods start.
    pub startup_taints: Vec<Taint>,
    /// What the pods it was made for request, DaemonSets included.
    pub requests: Resources,
    /// What may be bought for it, best first: `tonnage.dev/offerings`.
    pub offerings: Arc<[OfferingKey]>,
    /// The launch that was decided for it, written before the call: `tonnage.dev/launch`.
    pub launch: Option<Arc<LaunchRecord>>,
    /// Hard deadline of its drain, counted from deletion.
    pub termination_grace: Option<SignedDuration>,
    /// Age at which it is replaced.
    pub expire_after: Option<SignedDuration>,
    /// `status.providerID`, empty until launched.
    pub provider_id: String,
    /// `status.nodeName`, empty until registered.
    pub node_name: String,
    /// `status.capacity`.
    pub capacity: Resources,
    /// `status.allocatable`.
    pub allocatable: Resources,
    /// Conditions by type.
    pub conditions: BTreeMap<String, ClaimCondition>,
    /// `status.lastPodEventTime`.
    pub last_pod_event: Option<Timestamp>,
}

impl Claim {
    /// True when the condition of that type is True.
    pub fn is(&self, condition: &str) -> bool {
        self.conditions
            .get(condition)
            .is_some_and(|found| found.status == ConditionStatus::True)
    }

    /// True when it was fenced because nothing was on it: see `DisruptionReason`.
    pub fn goes_as_empty(&self) -> bool {
        let reason = self
            .conditions
            .get(ConditionType::DisruptionReason.as_str());
        reason.is_some_and(|found| {
            found.status == ConditionStatus::True && found.reason == ConditionReason::Empty.as_str()
        })
    }

    /// The EC2 instance id within the provider id, if launched.
    pub fn instance_id(&self) -> Option<&str> {
        super::instance::instance_id_of(&self.provider_id)
    }
}
