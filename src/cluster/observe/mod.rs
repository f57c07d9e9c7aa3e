//! Conversion of API objects to model values.
//!
//! Given: one typed object of the Kubernetes API, ours included. Given back: the model's value of
//! it. Conversions are pure and never fail: everything that may be missing ends here, what is absent
//! gets its default, and what cannot be understood becomes a problem that the value carries.

pub mod claim;
pub mod constraints;
pub mod defaults;
pub mod malformed;
pub mod node;
pub mod node_pool;
pub mod pod;
pub mod quantity;
pub mod requests;
pub mod volume;
pub mod workload;

use jiff::Timestamp;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::api;
use crate::model::taint::{Taint, TaintEffect};

/// A time of an object, the epoch when it has none: only objects that were never stored lack it.
fn time(time: Option<&Time>) -> Timestamp {
    time.map_or(Timestamp::UNIX_EPOCH, |time| time.0)
}

/// A taint of a Node; `None` for an effect that this version does not know.
fn node_taint(taint: &core::Taint) -> Option<Taint> {
    let effect = TaintEffect::parse(&taint.effect)?;
    Some(Taint::new(
        taint.key.clone(),
        taint.value.clone().unwrap_or_default(),
        effect,
    ))
}

/// A taint of a NodePool or NodeClaim; `None` for an effect that this version does not know, which
/// validation names.
fn pool_taint(taint: &api::Taint) -> Option<Taint> {
    let effect = TaintEffect::parse(taint.effect.as_str())?;
    Some(Taint::new(taint.key.clone(), taint.value(), effect))
}
