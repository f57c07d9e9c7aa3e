//! Conversion of API objects to model values.
//!
//! Given: one typed object of the Kubernetes API. Given back: the model's value of it. Conversions
//! are pure and never fail: what cannot be understood becomes a problem that the value carries.

pub mod constraints;
pub mod pod;
pub mod requests;
pub mod volume;
pub mod workload;
