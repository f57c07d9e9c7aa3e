//! The EC2 side, behind one trait in our words.
//!
//! Given: model values. Given back: model values and [`CloudError`]s with a class that says what to
//! do next. The adapter for the real EC2 API sits behind the cargo feature `aws`; the embedded
//! world has another. Nothing here knows Kubernetes objects or decides anything.

pub mod addresses;
mod advice;
pub mod buckets;
pub mod builtin;
pub mod capacity;
pub mod catalogue;
pub mod class;
pub mod cluster;
pub mod disks;
#[cfg(feature = "aws")]
pub mod ec2;
pub mod elsewhere;
pub mod errors;
pub mod facts;
pub mod fees;
pub mod gather;
pub mod images;
pub mod interfaces;
pub mod labels;
pub mod launch_template;
pub mod notices;
pub mod placement_groups;
pub mod prices;
pub mod profile;
pub mod rehearsal;
pub mod reservations;
pub mod settings;
mod terms;
pub mod token;
pub mod user_data;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use futures::future::BoxFuture;

use self::profile::OwnProfile;
use self::rehearsal::Rehearsal;
use crate::api::node_class::EC2NodeClass;
use crate::api::{ConditionReason, ConditionType};
use crate::model::claim::Claim;
use crate::model::instance::Instance;
pub use crate::model::instance::tags;
use crate::model::launch::{ErrorClass, LaunchOutcome, LaunchRecord, TemplateOverrides};
use crate::model::node_class::NodeClass;
use crate::model::offering::OfferingKey;

/// Why a call failed and what that means.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{operation}: {message} ({code})")]
pub struct CloudError {
    /// The API operation, for example `CreateFleet`.
    pub operation: &'static str,
    /// What to do about it.
    pub class: ErrorClass,
    /// AWS's code, or a word of ours when there was no answer.
    pub code: String,
    /// AWS's message, and what the user can do.
    pub message: String,
}

/// What a resolved node class looks like, or which selectors matched nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolution {
    /// The class; `ready` is false when something is missing.
    pub class: NodeClass,
    /// Conditions by type (`SubnetsReady`, `SecurityGroupsReady`, `AMIsReady`, ...): true, or the
    /// reason and what would fix it.
    pub conditions: BTreeMap<&'static str, Result<(), Unresolved>>,
    /// What is worth knowing of conditions that hold: terms that match nothing beside others that do,
    /// images that are deprecated.
    pub remarks: BTreeMap<&'static str, Unresolved>,
    /// Name of the instance profile of its machines; empty when the class names neither a profile nor
    /// a role.
    pub instance_profile: String,
}

/// A selector that resolved to nothing usable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unresolved {
    /// CamelCase reason.
    pub reason: &'static str,
    /// Names the selector and the fix.
    pub message: String,
}

impl Unresolved {
    /// Nothing is known before what another condition says is mended.
    pub fn waits_for(condition: ConditionType) -> Self {
        Self {
            reason: ConditionReason::DependenciesNotReady.as_str(),
            message: format!("not known before {condition} holds: see there"),
        }
    }

    /// True for what says nothing of its own.
    pub fn is_waiting(&self) -> bool {
        self.reason == ConditionReason::DependenciesNotReady.as_str()
    }
}

/// Which instances to list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InstanceQuery {
    /// Every instance of this cluster that is not terminated; the answer is complete or an error.
    All,
    /// Those of one launch batch, in any state.
    Batch(String),
    /// Those with the ids; unknown ids are left out.
    Ids(BTreeSet<String>),
}

/// The most instances of one TerminateInstances call. EC2 takes a thousand; shorter calls are throttled
/// less and say sooner which of them is at fault.
pub const MOST_TERMINATED: usize = 200;

/// EC2 as Tonnage uses it.
pub trait Cloud: Send + Sync + fmt::Debug {
    /// Resolves selectors, images and the catalogue of a node class.
    fn resolve<'call>(
        &'call self,
        node_class: &'call EC2NodeClass,
    ) -> BoxFuture<'call, Result<Resolution, CloudError>>;

    /// Makes sure the launch templates exist that claims of one kind need, and groups the offerings
    /// by template, keeping their order. A launch has one capacity type, that of the first offering;
    /// offerings of another, and those that the class cannot launch, are left out.
    fn prepare<'call>(
        &'call self,
        node_class: &'call EC2NodeClass,
        resolved: &'call NodeClass,
        claim: &'call Claim,
        offerings: &'call [OfferingKey],
    ) -> BoxFuture<'call, Result<Vec<TemplateOverrides>, CloudError>>;

    /// Asks whether a launch through a resolved class would be let through. No machine comes of it, though
    /// a launch template may be made. Cheap to repeat: an answer serves for a while, and longer when it is good.
    fn rehearse<'call>(
        &'call self,
        node_class: &'call EC2NodeClass,
        resolved: &'call NodeClass,
    ) -> BoxFuture<'call, Result<Rehearsal, CloudError>>;

    /// Waits until EC2 takes one more launch call. Whoever launches waits for its turn before each call, and looks
    /// then whether the call is still wanted: the wait may be long.
    fn turn(&self) -> BoxFuture<'_, ()>;

    /// Makes the call that the record describes, at once. Repeating it with the same record launches nothing
    /// twice. Tags: cluster, batch, node pool and node class of `claim`, which is any of the batch.
    ///
    /// After an error of class `Transient` or `Throttled` it may or may not have bought: repeat the
    /// record. `NotFound` bought nothing, a template is gone: `prepare` again, under a new attempt.
    fn launch<'call>(
        &'call self,
        record: &'call LaunchRecord,
        claim: &'call Claim,
        node_class: &'call EC2NodeClass,
    ) -> BoxFuture<'call, Result<LaunchOutcome, CloudError>>;

    /// Lists instances of this cluster.
    fn instances<'call>(
        &'call self,
        query: &'call InstanceQuery,
    ) -> BoxFuture<'call, Result<Vec<Instance>, CloudError>>;

    /// Terminates instances in one call, at most [`MOST_TERMINATED`]: all of them or, after an error that
    /// is not [transient](errors::is_retryable), none. One by itself that is gone already is no error; among
    /// several an error of class `NotFound` names those that are.
    fn terminate<'call>(
        &'call self,
        instance_ids: &'call [String],
    ) -> BoxFuture<'call, Result<(), CloudError>>;

    /// Adds tags to an instance.
    fn tag<'call>(
        &'call self,
        instance_id: &'call str,
        tags: &'call BTreeMap<String, String>,
    ) -> BoxFuture<'call, Result<(), CloudError>>;

    /// Makes what a class needs in the account before machines can be launched: the instance profile
    /// of its `spec.role`. Cheap to repeat. What is wrong for good is no error: `resolve` says it.
    fn keep_profile<'call>(
        &'call self,
        node_class: &'call EC2NodeClass,
    ) -> BoxFuture<'call, Result<(), CloudError>>;

    /// Name of the instance profile that machines of a class are launched with.
    fn profile_of(&self, node_class: &EC2NodeClass) -> String;

    /// The instance profiles that this cluster made.
    fn profiles(&self) -> BoxFuture<'_, Result<Vec<OwnProfile>, CloudError>>;

    /// Removes one of this cluster's instance profiles, unless machines use it: false if they do. It
    /// is no error if it is gone already.
    fn remove_profile<'call>(
        &'call self,
        name: &'call str,
    ) -> BoxFuture<'call, Result<bool, CloudError>>;

    /// Removes launch templates that were made for a node class that is being deleted.
    fn release<'call>(
        &'call self,
        node_class: &'call str,
    ) -> BoxFuture<'call, Result<(), CloudError>>;

    /// The names of this cluster's launch templates.
    fn templates(&self) -> BoxFuture<'_, Result<Vec<String>, CloudError>>;

    /// Removes one of this cluster's launch templates; it is no error if it is gone already.
    fn remove_template<'call>(
        &'call self,
        name: &'call str,
    ) -> BoxFuture<'call, Result<(), CloudError>>;
}
