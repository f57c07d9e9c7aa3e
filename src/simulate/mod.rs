//! What-if in virtual time: a workload over NodePools, without a cluster.
//!
//! Given a scenario (work, region, seed) and a variant (NodePools, node classes, settings), [`run`] gives
//! back what it comes to: dollars, waiting times, evictions, machines, and how far all of it is from a
//! lower bound. The planner is the controller's own, with a small budget of work; everything around it
//! (API server, control loops, kubelets) is folded to delays. The same input gives the same outcome, byte
//! for byte. Plans are judged by [`crate::plan::check`], and one that breaks a rule ends the run. Nothing is
//! read or written here beyond what is given, and no time passes but the simulated.

mod agenda;
mod billing;
mod binding;
mod bound;
mod chance;
mod demand;
mod engine;
mod fleet;
pub mod input;
mod lives;
mod outcome;
mod places;
mod pods;
mod prices;
pub mod record;
mod rounds;
mod scenario;
mod tally;
#[cfg(test)]
mod tests;
mod workload;

pub use outcome::{Bought, Course, Figures, Moment, NeverPlaced, Outcome, Waiting};
pub use scenario::{Scenario, Variant};
pub use workload::{Load, Origin, Run};

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use jiff::{SignedDuration, Timestamp};

use crate::model::money::UsdPerHour;

/// A plan that the independent checker finds fault with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "a plan for {variant} at {at} breaks a rule that all plans must keep: {violation}. This is a fault of Tonnage and \
     not of what was given: please report it together with the arguments and files of this run"
)]
pub struct PlanFault {
    /// The variant.
    pub variant: String,
    /// The simulated moment.
    pub at: Timestamp,
    /// What is wrong.
    pub violation: String,
}

/// How far a run is.
#[derive(Debug, Clone, Copy)]
pub struct Progress<'run> {
    /// The variant that runs.
    pub variant: &'run str,
    /// Simulated time so far.
    pub passed: SignedDuration,
    /// How long work arrives.
    pub of: SignedDuration,
    /// Machines that run.
    pub machines: i64,
    /// Pods that wait.
    pub waiting: i64,
    /// Pods on nodes.
    pub running: i64,
    /// What the machines that run now cost per hour, fees apart.
    pub rate: UsdPerHour,
}

/// Whoever is told how far a run is.
pub trait Watcher: Sync {
    /// Some more has happened.
    fn look(&self, progress: &Progress<'_>);

    /// A variant has got as far as a moment, counted from its beginning: the next one comes later.
    fn moves(&self, _variant: &str, _to: SignedDuration) {}

    /// Nothing more will happen in the variant that this thread runs.
    fn ends(&self) {}
}

/// Nobody.
#[derive(Debug, Clone, Copy)]
pub struct Nobody;

impl Watcher for Nobody {
    fn look(&self, _progress: &Progress<'_>) {}
}

/// Runs every variant of a scenario, as many at a time as there are threads; the outcomes are in the order
/// of the variants, and the same for any number of threads.
///
/// # Errors
/// [`PlanFault`] of the first variant that has one.
pub fn run_all(
    scenario: &Scenario,
    variants: &[Variant],
    threads: usize,
    watcher: &dyn Watcher,
) -> Result<Vec<Outcome>, PlanFault> {
    let threads = threads.max(1);
    let each = (threads / variants.len().max(1)).max(1);
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<(usize, Result<Outcome, PlanFault>)>> = Mutex::default();
    let work = || {
        while let Some((index, variant)) = {
            let index = next.fetch_add(1, Ordering::Relaxed);
            variants.get(index).map(|variant| (index, variant))
        } {
            let outcome = run(scenario, variant, each, watcher);
            done.lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner)
                .push((index, outcome));
        }
    };
    thread::scope(|scope| {
        for _helper in 1..threads.min(variants.len()) {
            scope.spawn(work);
        }
        work();
    });
    let mut outcomes = done
        .into_inner()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    outcomes.sort_by_key(|(index, _outcome)| *index);
    outcomes
        .into_iter()
        .map(|(_index, outcome)| outcome)
        .collect()
}

/// Runs a variant of a scenario to its end; the lower bound is computed by so many threads.
///
/// # Errors
/// [`PlanFault`] when a plan breaks a rule.
pub fn run(
    scenario: &Scenario,
    variant: &Variant,
    threads: usize,
    watcher: &dyn Watcher,
) -> Result<Outcome, PlanFault> {
    engine::Engine::new(scenario, variant).run(threads, watcher)
}
