//! `tonnage bench-ec2`: how many calls to EC2 a burst costs, and how long it takes.
//!
//! Given a case; given back one JSON object on standard output, and a failure when a bound is missed.
//! The controllers run as they are in the embedded world, against the simulated EC2 with its token
//! buckets, on virtual time. It is not listed in the help: `hack/bench-ec2` runs it, one process for
//! each case, so that peak memory is the case's own.

mod burst;
mod list;

use std::io;

use serde_json::json;

use super::memory::peak_memory_mb;
use crate::sim::api_server::Refusal;
use crate::sim::runtime;

/// Count the calls to EC2 that a burst costs
#[derive(Debug, clap::Args)]
#[command(hide = true)]
pub(super) struct Args {
    /// What happens
    #[arg(value_enum)]
    case: Case,
    /// Everything that is left to chance follows from it
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Case {
    /// 1000 pods, a machine each, capacity without end
    #[value(name = "calm-1000")]
    Calm,
    /// The same while 88 % of all offerings have no capacity and the others little
    #[value(name = "storm-1000")]
    Storm,
    /// A region with 10 000 instances, all listed
    #[value(name = "list-10000")]
    List,
}

impl Case {
    const fn name(self) -> &'static str {
        match self {
            Self::Calm => "calm-1000",
            Self::Storm => "storm-1000",
            Self::List => "list-10000",
        }
    }

    /// Calls to EC2 for each instance at most, in hundredths.
    const fn most_calls(self) -> u64 {
        match self {
            Self::Calm | Self::List => 10,
            Self::Storm => 500,
        }
    }
}

/// The most seconds from a decision to the answer to its last launch.
const MOST_SECONDS: f64 = 15.0;
/// The most memory with 10 000 instances known, MiB; the region that has them included.
const MOST_MEMORY: u64 = 150;

/// What a case came to.
#[derive(Debug)]
struct Figures {
    instances: u64,
    calls: u64,
    /// From the first claim to the last answer to a launch, milliseconds; 0 without launches.
    launch_ms: u64,
    /// Calls by operation.
    operations: serde_json::Value,
}

/// Why the bench failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum BenchError {
    /// A manifest of the bench was refused.
    #[error("the embedded API server refused a manifest of the bench: {0}")]
    Refused(#[from] Refusal),
    /// Pods without a machine.
    #[error("{running} of {wanted} pods run after {minutes} virtual minutes")]
    NotLanded {
        /// Pods that run.
        running: usize,
        /// Pods that should.
        wanted: usize,
        /// How long was waited.
        minutes: u64,
    },
    /// A bound is missed.
    #[error("{case}: {what} is {found}, at most {most} is allowed")]
    Missed {
        /// The case.
        case: &'static str,
        /// The figure.
        what: &'static str,
        /// What it is.
        found: String,
        /// What it may be.
        most: String,
    },
    /// Standard output is gone, or there is no runtime.
    #[error("the bench cannot run or print")]
    Io(#[from] io::Error),
}

/// Runs one case and prints its figures.
pub(super) fn run(args: &Args) -> Result<(), BenchError> {
    let case = args.case;
    let figures = runtime::run(async {
        match case {
            Case::Calm => burst::run(args.seed, 0).await,
            Case::Storm => burst::run(args.seed, burst::STORM_PER_MILLE).await,
            Case::List => list::run(args.seed).await,
        }
    })??;
    let seconds = std::time::Duration::from_millis(figures.launch_ms).as_secs_f64();
    let hundredths = figures.calls.saturating_mul(100) / figures.instances.max(1);
    let thousandths = figures.calls.saturating_mul(1_000) / figures.instances.max(1);
    let memory = peak_memory_mb();
    let line = json!({
        "case": case.name(),
        "instances": figures.instances,
        "calls": figures.calls,
        "calls_per_instance": std::time::Duration::from_millis(thousandths).as_secs_f64(),
        "decision_to_last_launch_s": seconds,
        "peak_rss_mb": memory,
        "operations": figures.operations,
    });
    super::write_stdout(&format!("{line}\n"))?;
    let missed = |what, found: String, most: String| {
        let case = case.name();
        Err(BenchError::Missed {
            case,
            what,
            found,
            most,
        })
    };
    if figures.calls * 100 > figures.instances * case.most_calls() {
        return missed(
            "calls_per_instance, in hundredths,",
            hundredths.to_string(),
            case.most_calls().to_string(),
        );
    }
    if seconds > MOST_SECONDS {
        return missed(
            "decision_to_last_launch_s",
            seconds.to_string(),
            MOST_SECONDS.to_string(),
        );
    }
    if case == Case::List && memory >= MOST_MEMORY {
        return missed("peak_rss_mb", memory.to_string(), MOST_MEMORY.to_string());
    }
    Ok(())
}
