//! From what users give to a scenario and its variants.
//!
//! Given manifests with a schedule, a trace, or the name of a generator, and what variants change; given
//! back loads and furniture. What is wrong is named with file, place and remedy.

pub mod furniture;
pub mod generate;
pub mod most;
pub mod schedule;
pub mod trace;
pub mod workloads;

use jiff::SignedDuration;

use crate::cluster::manifests::ManifestError;
use crate::simulate::workload::Origin;
use most::{MOST_AT_A_TIME, MOST_PODS};

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
    /// More pods than are simulated.
    #[error(
        "{origin}: with it {pods} pods arrive in all; at most {MOST_PODS} are simulated: lower it, or simulate a shorter \
         --duration"
    )]
    TooManyPods {
        /// Where the pods are written that are too many.
        origin: Origin,
        /// How many there are with them.
        pods: u64,
    },
    /// More pods at a time than are simulated.
    #[error(
        "{origin}: with it {pods} pods are there at a time, {after:#} after the beginning; at most {MOST_AT_A_TIME} are \
         simulated: lower it, or let fewer run at a time or later (parallelism, times of arrival)"
    )]
    TooManyPodsAtATime {
        /// Where the pods are written that are too many.
        origin: Origin,
        /// How many there are with them.
        pods: u64,
        /// When.
        after: SignedDuration,
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
        "nothing arrives within the simulated time; give workloads with --filename, a --trace, or --generate a profile, or \
         simulate a longer --duration"
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
