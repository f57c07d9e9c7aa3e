//! The embedded world: a cluster and an EC2 region in one process, on virtual time and one seed.
//!
//! ```text
//! controllers --kube's client--> api_server <-- cluster (scheduler, kubelets, workloads)
//! controllers --trait Cloud----> ec2        <-- (markets, interruptions)
//! ```
//!
//! The controllers run in it as they are. The same seed gives the same history, byte for byte, within
//! a process and across processes. Nothing here reads the machine's clock, its randomness or its
//! network.

pub mod api_server;
pub mod clock;
pub mod cluster;
mod delivery;
pub mod demo;
pub mod ec2;
pub mod embedded;
pub mod faults;
pub mod history;
pub mod life;
pub mod runtime;
pub mod scene;
#[cfg(test)]
mod tests;
pub mod watchdog;

pub use embedded::{Embedded, Options, Process};
