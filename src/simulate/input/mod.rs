//! From what users give to a scenario and its variants.
//!
//! Given manifests with a schedule, a trace, or the name of a generator, and what variants change; given
//! back loads and furniture. What is wrong is named with file, place and remedy.

pub mod furniture;
pub mod generate;
pub mod schedule;
pub mod trace;
pub mod workloads;

use crate::cluster::manifests::ManifestError;

/// Why there is nothing to simulate.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// Manifests cannot be read.
    #[error(transparent)]
    Manifests(#[from] ManifestError),
    /// A trace cannot be read.
    #[error(transparent)]
    Trace(#[from] trace::TraceError),
    /// A workload does not say when its pods come or go in a form that is understood.
    #[error("{path}: {kind} {name}: {field}: {problem}")]
    Workload {
        /// The file.
        path: String,
        /// The workload's kind.
        kind: String,
        /// The workload's name.
        name: String,
        /// The field or annotation.
        field: String,
        /// What is wrong, and what would be right.
        problem: String,
    },
    /// There is nothing to buy from.
    #[error(
        "{whose}: no NodePool with an EC2NodeClass is left to buy from; give NodePools and EC2NodeClasses with --filename"
    )]
    NoNodePool {
        /// The variant.
        whose: String,
    },
    /// There is no work.
    #[error(
        "nothing arrives within the simulated time; give workloads with --filename, a --trace, or --generate a profile"
    )]
    NoWork,
    /// A variant's file holds something that no variant can change.
    #[error("{path}: {kind} {name}: {problem}")]
    Variant {
        /// The file.
        path: String,
        /// The kind.
        kind: String,
        /// The name.
        name: String,
        /// What is wrong.
        problem: String,
    },
}
