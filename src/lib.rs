//! Tonnage: a Kubernetes node provisioner for EC2.
pub mod api;
pub mod cli;
