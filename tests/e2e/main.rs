//! End-to-end tests: the controller binary under its chart's ServiceAccount, on a real Kubernetes
//! control plane and an EC2 endpoint over HTTP.
//!
//! `hack/test e2e` starts the services, builds the binary and sets the environment. Each test takes
//! the one cluster for itself, starts from nothing and must end with nothing: no node, no claim, no
//! finalizer, no instance.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking, and its figures go to its output"
)]

mod bad_input;
mod cluster;
mod controller;
mod endpoint;
mod faults;
mod interruptions;
mod leader;
mod modes;
mod neighbour;
mod orphans;
mod reading;
mod scene;
mod twin;
#[path = "../waiting/mod.rs"]
mod waiting;
mod world;
