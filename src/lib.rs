//! Tonnage: a Kubernetes node provisioner for EC2.
//!
//! ```text
//! observe -> snapshot -> decide (pure) -> plan with reasons -> execute -> observe
//! ```
//!
//! Who may use whom, checked by a test:
//!
//! ```text
//! api  <-  model  <-  { plan, cluster, cloud, metrics }  <-  controllers  <-  sim  <-  simulate  <-  cli
//! ```
//!
//! `plan`, `cluster` and `cloud` never see each other; they meet in the values of `model`.
//! `model` and `plan` are pure: no clock, no environment, no randomness, no locks, no I/O.

pub mod api;
pub mod cli;
pub mod cloud;
pub mod cluster;
pub mod controllers;
pub mod metrics;
pub mod model;
pub mod plan;
pub mod settings;
pub mod sim;
pub mod simulate;
pub mod telemetry;
pub mod world;
