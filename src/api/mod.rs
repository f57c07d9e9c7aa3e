//! The user-facing Kubernetes API: custom resources, labels, conditions, settings.
//!
//! Types are plain data as users write them; their doc comments are what `kubectl explain` prints.
//! Defaults and CEL rules stand on the types, and [`crds`] generates the CustomResourceDefinitions
//! from them. Nothing here decides anything, and nothing here does I/O.
#![deny(missing_docs)]
#![expect(
    unreachable_pub,
    reason = "KubeSchema repeats each type inside a function, its visibility included"
)]

mod claims_of_pool;
mod condition_reason;
mod condition_type;
pub mod conditions;
pub mod crds;
pub mod disruption;
pub mod duration;
pub mod fields;
pub mod hash;
pub mod image_alias;
mod kubelet_validation;
pub mod labels;
pub mod node_claim;
pub mod node_class;
mod node_class_ref;
pub mod node_class_validation;
pub mod node_pool;
pub mod node_pool_validation;
mod objects;
mod open_enum;
pub mod problem;
mod protection;
pub mod requirement;
mod schema;
pub mod settings;
pub mod settings_table;
pub(crate) mod syntax;
mod taint;

pub use conditions::{
    Condition, ConditionReason, ConditionStatus, ConditionType, ConditionUpdate, Conditioned,
};
pub use duration::{DurationError, DurationOrNever, GoDuration};
pub use node_claim::{NodeClaim, NodeClaimSpec, NodeClaimStatus};
pub use node_class::{EC2NodeClass, EC2NodeClassSpec, EC2NodeClassStatus};
pub use node_class_ref::NodeClassRef;
pub use node_pool::{NodePool, NodePoolSpec, NodePoolStatus, ResourceList};
pub use problem::Problem;
pub use protection::{Protection, SelectorTerm};
pub use requirement::{Requirement, RequirementOperator};
pub use settings::NodePoolSettings;
pub use taint::{Taint, TaintEffect};
