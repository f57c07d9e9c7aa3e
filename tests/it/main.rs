//! Tests that need no services: the repository's own rules, the generated CRDs, and scenarios in
//! the users' language.
#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, and its figures go to its output"
)]

mod crds;
mod demo;
mod iam;
mod iam_templates;
mod layering;
mod mutated;
mod rbac;
mod scenarios;
mod sim_ec2;
mod sources;
mod stragglers;
mod tidy;
mod twin;
#[path = "../waiting/mod.rs"]
mod waiting;
mod where_it_runs;
