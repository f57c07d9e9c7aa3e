//! `tonnage bench-schedule`: times the planning of synthetic worlds.
//!
//! Given numbers of pods and instance types; given back one JSON object on standard output: time,
//! nodes, price, lower bound and peak memory. The plan is judged by the independent checker where
//! asked, and the figures and the proof of the bound are judged by what a plan must reach, or by a file of bounds. It is not
//! listed in the help: `hack/bench-schedule` runs it, one process for each case, so that peak memory is the case's own.

mod judge;
mod world;

use std::io;
use std::path::PathBuf;
use std::time::Instant;

use serde_json::json;

use super::memory::peak_memory_mb;
use crate::plan::check;
use crate::plan::provision::{ProvisionSettings, provision_proven};
use judge::{Bounds, Figures};

/// Time the planning of a synthetic world
#[derive(Debug, clap::Args)]
#[command(hide = true)]
pub(super) struct Args {
    /// Pods that wait
    #[arg(long, default_value_t = 1000)]
    pods: usize,
    /// Instance types
    #[arg(long, default_value_t = 400)]
    types: i64,
    /// Pods that are all alike and have preferences that cannot all be met
    #[arg(long)]
    wishes: bool,
    /// Search effort in milliseconds
    #[arg(long, default_value_t = 100)]
    budget_ms: u64,
    /// Judge the plan with the independent checker, which takes longer than planning
    #[arg(long)]
    check: bool,
    /// Judge time, memory, price and the proof of the lower bound; each miss is named on standard
    /// error, and any makes the command fail
    #[arg(long)]
    judge: bool,
    /// Judge by the bounds of this file instead of the aims of docs/planner.md; implies --judge
    #[arg(long, value_name = "FILE")]
    bounds: Option<PathBuf>,
}

/// Why the bench failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum BenchError {
    /// A plan that may not be carried out.
    #[error("the plan is wrong: {0}")]
    Violation(String),
    /// Pods without a place, though everything can be bought.
    #[error("{count} pods were left out; the first: {first}")]
    LeftOut {
        /// How many.
        count: usize,
        /// One of them, with its reason.
        first: String,
    },
    /// Bounds that cannot be read.
    #[error(
        "{path} cannot be read: {reason}; hack/bench-schedule says what a file of bounds holds"
    )]
    Bounds {
        /// The file.
        path: String,
        /// What is wrong.
        reason: String,
    },
    /// Figures that miss what a plan must reach.
    #[error("{count} misses, the first: {first}")]
    Missed {
        /// How many.
        count: usize,
        /// The first of them.
        first: String,
    },
    /// Standard output is gone.
    #[error("standard output cannot be written to")]
    Write(#[from] io::Error),
}

/// Plans one world and prints its figures.
pub(super) fn run(args: &Args) -> Result<(), BenchError> {
    let bounds = (args.judge || args.bounds.is_some())
        .then(|| Bounds::read(args.bounds.as_deref()))
        .transpose()?;
    let snapshot = world::world(args.pods, args.types, args.wishes);
    let settings = ProvisionSettings::default().with_budget_ms(args.budget_ms);
    let began = Instant::now();
    let (plan, proofs) = provision_proven(&snapshot, &settings, &|| false);
    let elapsed = began.elapsed();
    let memory = peak_memory_mb();
    let pods = u64::try_from(args.pods).unwrap_or(u64::MAX);
    let microseconds = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
    let case = if args.wishes {
        "preferences"
    } else {
        "diverse"
    };
    let line = json!({
        "case": case,
        "pods": pods,
        "types": args.types,
        "elapsed_ms": elapsed.as_secs_f64() * 1000.0,
        "pods_per_s": pods.saturating_mul(1_000_000) / microseconds.max(1),
        "nodes": plan.new_nodes.len(),
        "usd_per_hour": plan.price.to_string(),
        "lower_bound": plan.lower_bound.to_string(),
        "peak_rss_mb": memory,
    });
    super::write_stdout(&format!("{line}\n"))?;
    if let Some((pod, why)) = plan.unschedulable.iter().next() {
        let detail = why.reasons.first().map_or("", |reason| &reason.detail);
        return Err(BenchError::LeftOut {
            count: plan.unschedulable.len(),
            first: format!("{pod}: {detail}"),
        });
    }
    if args.check
        && let Some(violation) = check::violations(&snapshot, &plan).first()
    {
        return Err(BenchError::Violation(violation.clone()));
    }
    let Some(bounds) = bounds else {
        return Ok(());
    };
    let figures = Figures {
        pods,
        types: args.types,
        wishes: args.wishes,
        elapsed_ms: u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
        memory_mb: memory,
        price: plan.price,
        lower_bound: plan.lower_bound,
    };
    let mut misses = judge::misses(&figures, &bounds);
    misses.extend(check::unproven(&plan, &proofs));
    for miss in &misses {
        super::write_stderr(&format!("miss: {case} {pods} x {}: {miss}\n", args.types));
    }
    match misses.first() {
        None => Ok(()),
        Some(first) => Err(BenchError::Missed {
            count: misses.len(),
            first: first.clone(),
        }),
    }
}
