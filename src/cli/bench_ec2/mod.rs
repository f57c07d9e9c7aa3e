//! `tonnage bench-ec2`: how many calls to EC2 a burst costs, and how long it takes.
//!
//! Given a case; given back one JSON object on standard output, and a failure when a bound is missed.
//! The controllers run as they are in the embedded world, against the simulated EC2 with its token
//! buckets, on virtual time; with the feature `aws` through the adapter for the real EC2. It is not listed in the
//! help: `hack/bench-ec2` runs it, one process for each case, so that peak memory is the case's own.

mod burst;
mod figures;
mod fleet;
mod list;
mod path;

use std::io;

use self::burst::{Size, Storm};
use self::figures::Bounds;
use super::memory::peak_memory_mb;
use crate::cloud::CloudError;
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
    /// 1000 pods at once, a machine each, capacity without end
    #[value(name = "calm-1000")]
    Calm,
    /// The same again and again, each time from zero, while 88 % of all offerings have no capacity, others each time, and
    /// the rest little
    #[value(name = "storm-1000")]
    Storm,
    /// A fleet of 10 000 instances with claims and Nodes, all listed again and again
    #[value(name = "list-10000")]
    List,
}

/// Pods of a burst.
const PODS: u32 = 1_000;
/// Bursts in the storm.
const ROUNDS: u32 = 3;
/// Instances that are listed.
const LISTED: u64 = 10_000;
/// 88 % of all offerings are dry, and it takes four of the others to hold a burst.
const STORM: Storm = Storm {
    dry_per_mille: 880,
    room: 250,
};

impl Case {
    const fn name(self) -> &'static str {
        match self {
            Self::Calm => "calm-1000",
            Self::Storm => "storm-1000",
            Self::List => "list-10000",
        }
    }

    /// What comes.
    const fn size(self) -> Size {
        Size {
            pods: PODS,
            rounds: match self {
                Self::Calm | Self::List => 1,
                Self::Storm => ROUNDS,
            },
        }
    }

    /// What must hold.
    fn bounds(self) -> Bounds {
        let bounds = Bounds {
            case: self.name(),
            instances: self.size().machines(),
            most_calls: 10,
            least_short_rounds: 0,
            least_pages: 0,
            most_memory: None,
        };
        match self {
            Self::Calm => bounds,
            Self::Storm => Bounds {
                most_calls: 500,
                least_short_rounds: u64::from(ROUNDS),
                ..bounds
            },
            // It is to be under 150.
            Self::List => Bounds {
                instances: LISTED,
                least_pages: list::least_pages(LISTED),
                most_memory: Some(149),
                ..bounds
            },
        }
    }
}

/// Why the bench failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum BenchError {
    /// A manifest of the bench was refused.
    #[error("the embedded API server refused a manifest of the bench: {0}")]
    Refused(#[from] Refusal),
    /// The adapter did not come up.
    #[error("the adapter did not connect to the simulated EC2: {0}")]
    Connect(#[from] CloudError),
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
    /// What nobody needs any more stays.
    #[error(
        "{machines} machines and {objects} pods, claims and Nodes are left {minutes} virtual minutes after the last pod"
    )]
    Left {
        /// Machines that run.
        machines: usize,
        /// What the API server holds of them.
        objects: usize,
        /// How long was waited.
        minutes: u64,
    },
    /// The case was easier than it says.
    #[error(
        "{case}: the shortage was met in {found} rounds, at least {least} are needed for the figures to say anything"
    )]
    TooEasy {
        /// The case.
        case: &'static str,
        /// Rounds that met it.
        found: u64,
        /// How many should.
        least: u64,
    },
    /// There is nothing to make a fleet like.
    #[error("the machine that the fleet is to be like has no claim or no Node")]
    NoPattern,
    /// Not everybody counts the machines that there are.
    #[error(
        "of {wanted} machines there are {claims} claims and {nodes} Nodes, and the controller counts {known} as its own"
    )]
    Unknown {
        /// How many machines there should be.
        wanted: u64,
        /// Claims that the API server holds.
        claims: u64,
        /// Nodes that it holds.
        nodes: u64,
        /// Nodes in the figures of the controller.
        known: u64,
    },
    /// The list was read too seldom, or in part.
    #[error(
        "{case}: {found} pages of instances were asked for, complete lists for as long as this take {least} at least"
    )]
    Unread {
        /// The case.
        case: &'static str,
        /// Pages that were asked for.
        found: u64,
        /// How many should be.
        least: u64,
    },
    /// Machines that nobody asked for, or too few.
    #[error("{case}: there are {found} machines, {wanted} were asked for")]
    Count {
        /// The case.
        case: &'static str,
        /// How many there are.
        found: u64,
        /// How many there should be.
        wanted: u64,
    },
    /// A bound is missed.
    #[error("{case}: {what} is {found}, at most {most} is allowed")]
    Missed {
        /// The case.
        case: &'static str,
        /// The figure.
        what: &'static str,
        /// What it is.
        found: u64,
        /// What it may be.
        most: u64,
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
            Case::Calm => burst::run(args.seed, case.size(), None).await,
            Case::Storm => burst::run(args.seed, case.size(), Some(STORM)).await,
            Case::List => list::run(args.seed, LISTED).await,
        }
    })??;
    let memory = figures.own_memory(peak_memory_mb());
    super::write_stdout(&format!("{}\n", figures.line(case.name(), memory)))?;
    figures.judge(&case.bounds(), memory)
}

/// The bounds at a size that fits into every run of the tests.
#[cfg(test)]
mod tests {
    use super::figures::Figures;
    use super::*;

    fn burst(pods: u32, rounds: u32, storm: Option<Storm>) -> Figures {
        let size = Size { pods, rounds };
        runtime::run(burst::run(3, size, storm)).unwrap().unwrap()
    }

    /// What is read from time to time counts for little among 1000 machines and for much among a few: so what a few more
    /// machines add is held against the bound.
    #[test]
    fn machines_that_a_calm_burst_has_more_add_hardly_a_call() {
        let (few, many) = (burst(100, 1, None), burst(250, 1, None));
        let more = Figures {
            instances: many.instances - few.instances,
            calls: many.calls.saturating_sub(few.calls),
            ..many.clone()
        };
        let bounds = Bounds {
            instances: 150,
            ..Case::Calm.bounds()
        };
        let judged = more.judge(&bounds, 0);
        assert!(judged.is_ok(), "{judged:?}: {few:?} {many:?}");
    }

    #[test]
    fn small_bursts_land_in_a_storm_that_moves_within_the_bounds() {
        let storm = Storm { room: 6, ..STORM };
        let figures = burst(24, ROUNDS, Some(storm));
        let bounds = Bounds {
            instances: 24 * u64::from(ROUNDS),
            ..Case::Storm.bounds()
        };
        let judged = figures.judge(&bounds, 0);
        assert!(judged.is_ok(), "{judged:?}: {figures:?}");
        assert!(figures.last_pod_ms > Some(figures.launch_ms), "{figures:?}");
        assert!(figures.to_zero_ms.is_some(), "{figures:?}");
    }

    #[test]
    fn a_small_fleet_is_listed_within_the_bounds_and_what_is_nobodys_is_ended() {
        let figures = runtime::run(list::run(3, 2_000)).unwrap().unwrap();
        let bounds = Bounds {
            instances: 2_000,
            least_pages: list::least_pages(2_000),
            most_memory: None,
            ..Case::List.bounds()
        };
        let judged = figures.judge(&bounds, 0);
        assert!(judged.is_ok(), "{judged:?}: {figures:?}");
    }
}
