//! The user-facing Kubernetes API: custom resources, labels, conditions.
#![deny(missing_docs)]

pub mod crds;
