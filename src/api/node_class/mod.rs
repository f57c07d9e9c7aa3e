//! The EC2NodeClass: how machines are made in EC2.
//!
//! - `spec`: the kind and its top-level fields;
//! - `selectors`: terms that select subnets, security groups, images, reservations;
//! - `storage`: disks;
//! - `machine`: network interfaces, metadata service, CPU and enclave options;
//! - `kubelet`: the kubelet configuration of the nodes;
//! - `status`: what the selectors found.

pub mod kubelet;
pub mod machine;
pub mod selectors;
pub mod spec;
pub mod status;
pub mod storage;

pub use spec::{AmiFamily, EC2NodeClass, EC2NodeClassSpec};
pub use status::EC2NodeClassStatus;
