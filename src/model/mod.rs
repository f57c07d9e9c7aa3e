//! The nouns that decisions are made of and made into.
//!
//! Given: plain values converted at the edges (`cluster`, `cloud`, manifests). Given back: plain
//! values that the edges carry out. Nothing here reads the clock or the environment, draws random
//! numbers, locks, logs, waits, or does I/O; maps are ordered, money and quantities are integers.
#![deny(
    clippy::disallowed_macros,
    clippy::disallowed_methods,
    clippy::disallowed_types
)]

pub mod claim;
pub mod instance;
pub mod kubernetes_version;
pub mod labels;
pub mod launch;
pub mod money;
pub mod node;
pub mod node_class;
pub mod node_pool;
pub mod notice;
pub mod offering;
pub mod placement_group;
pub mod pod;
pub mod quantity;
pub mod report;
pub mod requirement;
pub mod reservation;
pub mod resources;
pub mod snapshot;
pub mod taint;
pub mod workload;
