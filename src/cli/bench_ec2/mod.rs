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
    /// The same in waves while 88 % of all offerings have no capacity, others in each wave, and the rest little
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

    /// How many pods come, and so how many machines are bought.
    const fn pods(self) -> Option<u32> {
        match self {
            Self::Calm => Some(CALM.pods),
            Self::Storm => Some(WAVES.pods),
            Self::List => None,
        }
    }

    /// Calls to EC2 for each instance at most, in hundredths, without those that name a machine.
    const fn most_calls(self) -> u64 {
        match self {
            Self::Calm | Self::List => 10,
            Self::Storm => 500,
        }
    }

    /// The same with them: one for each machine where calls are few.
    const fn most_calls_with_tags(self) -> u64 {
        match self {
            Self::Calm => 110,
            Self::List => 10,
            Self::Storm => 500,
        }
    }

    /// In how many waves the shortage must have been met at least.
    const fn least_short_rounds(self) -> u64 {
        match self {
            Self::Calm | Self::List => 0,
            Self::Storm => 3,
        }
    }
}

/// All at once.
const CALM: burst::Size = burst::Size {
    pods: 1_000,
    waves: 1,
};
/// What comes in the storm.
const WAVES: burst::Size = burst::Size {
    pods: 1_000,
    waves: 4,
};
/// 88 % of all offerings are dry, and no two of the others hold a wave of 250.
const STORM: burst::Storm = burst::Storm {
    dry_per_mille: 880,
    room: 100,
};

/// The most time from a decision to the answer to its last launch, in each wave, milliseconds.
const MOST_LAUNCH_MS: u64 = 15_000;
/// The most memory with 10 000 instances known, MiB; the region that has them included. It is to be under 150.
const MOST_MEMORY: u64 = 149;

/// What a case came to.
#[derive(Debug)]
struct Figures {
    instances: u64,
    /// Without those of `tag_calls`.
    calls: u64,
    /// Calls that name a machine for people.
    tag_calls: u64,
    /// From the first claim to the last answer to a launch, milliseconds, in the slowest wave; 0 without
    /// launches.
    launch_ms: u64,
    /// From the first claim until the last pod runs, milliseconds, in the slowest wave; `None` without pods.
    last_pod_ms: Option<u64>,
    /// From the deletion of all pods until no machine, Node or claim is left, milliseconds; `None` without pods.
    to_zero_ms: Option<u64>,
    /// Waves that met offerings without capacity.
    short_rounds: u64,
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
    /// What nobody needs any more stays.
    #[error(
        "{machines} machines and {claims} claims are left {minutes} virtual minutes after the last pod"
    )]
    Left {
        /// Machines that run.
        machines: usize,
        /// Claims that are there.
        claims: usize,
        /// How long was waited.
        minutes: u64,
    },
    /// Machines without their names.
    #[error(
        "not every machine carries the names of its Node and claim after {minutes} virtual minutes"
    )]
    Unnamed {
        /// How long was waited.
        minutes: u64,
    },
    /// The case was easier than it says.
    #[error(
        "{case}: the shortage was met in {found} waves, at least {least} are needed for the figures to say anything"
    )]
    TooEasy {
        /// The case.
        case: &'static str,
        /// Waves that met it.
        found: u64,
        /// How many should.
        least: u64,
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
            Case::Calm => burst::run(args.seed, CALM, None).await,
            Case::Storm => burst::run(args.seed, WAVES, Some(STORM)).await,
            Case::List => list::run(args.seed).await,
        }
    })??;
    let memory = peak_memory_mb();
    super::write_stdout(&format!("{}\n", figures.line(case, memory)))?;
    figures.judge(case, memory)
}

impl Figures {
    /// Calls for each instance, in thousandths.
    fn thousandths(&self, calls: u64) -> u64 {
        calls.saturating_mul(1_000) / self.instances.max(1)
    }

    fn line(&self, case: Case, memory: u64) -> serde_json::Value {
        let with_tags = self.calls + self.tag_calls;
        json!({
            "case": case.name(),
            "instances": self.instances,
            "calls": self.calls,
            "calls_per_instance": thousands(self.thousandths(self.calls)),
            "tag_calls": self.tag_calls,
            "calls_per_instance_with_tags": thousands(self.thousandths(with_tags)),
            "decision_to_last_launch_s": thousands(self.launch_ms),
            "decision_to_last_pod_s": self.last_pod_ms.map(thousands),
            "last_pod_to_zero_s": self.to_zero_ms.map(thousands),
            "short_rounds": self.short_rounds,
            "peak_rss_mb": memory,
            "operations": self.operations,
        })
    }

    /// Holds the figures against the bounds of their case.
    fn judge(&self, case: Case, memory: u64) -> Result<(), BenchError> {
        let pods = case.pods().map(u64::from);
        if let Some(pods) = pods.filter(|pods| *pods != self.instances) {
            return Err(BenchError::Missed {
                case: case.name(),
                what: "instances",
                found: self.instances,
                most: pods,
            });
        }
        if self.short_rounds < case.least_short_rounds() {
            return Err(BenchError::TooEasy {
                case: case.name(),
                found: self.short_rounds,
                least: case.least_short_rounds(),
            });
        }
        let with_tags = self.calls + self.tag_calls;
        // Rounded up: what is a little over a bound is over it.
        let hundredths = |calls: u64| calls.saturating_mul(100).div_ceil(self.instances.max(1));
        let bounds = [
            (
                "calls_per_instance, in hundredths,",
                hundredths(self.calls),
                case.most_calls(),
            ),
            (
                "calls_per_instance_with_tags, in hundredths,",
                hundredths(with_tags),
                case.most_calls_with_tags(),
            ),
            (
                "decision_to_last_launch_s, in milliseconds,",
                self.launch_ms,
                MOST_LAUNCH_MS,
            ),
        ];
        let memory = (case == Case::List).then_some(("peak_rss_mb", memory, MOST_MEMORY));
        for (what, found, most) in bounds.into_iter().chain(memory) {
            if found > most {
                return Err(BenchError::Missed {
                    case: case.name(),
                    what,
                    found,
                    most,
                });
            }
        }
        Ok(())
    }
}

/// A number of thousandths as a decimal number.
fn thousands(thousandths: u64) -> f64 {
    std::time::Duration::from_millis(thousandths).as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures() -> Figures {
        Figures {
            instances: 1_000,
            calls: 100,
            tag_calls: 1_000,
            launch_ms: MOST_LAUNCH_MS,
            last_pod_ms: Some(90_000),
            to_zero_ms: Some(120_000),
            short_rounds: 3,
            operations: json!({}),
        }
    }

    fn missed(figures: &Figures, case: Case) -> Option<&'static str> {
        match figures.judge(case, MOST_MEMORY) {
            Ok(()) => None,
            Err(BenchError::Missed { what, .. }) => what.split(',').next(),
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn every_bound_fails_the_bench_when_it_is_missed_by_little() {
        assert_eq!(missed(&figures(), Case::Calm), None);
        assert_eq!(missed(&figures(), Case::Storm), None);
        let more = |change: fn(&mut Figures)| {
            let mut figures = figures();
            change(&mut figures);
            figures
        };
        let calls = more(|figures| figures.calls = 101);
        assert_eq!(missed(&calls, Case::Calm), Some("calls_per_instance"));
        let tags = more(|figures| figures.tag_calls = 1_001);
        let with_tags = Some("calls_per_instance_with_tags");
        assert_eq!(missed(&tags, Case::Calm), with_tags);
        let tags = more(|figures| figures.tag_calls = 4_901);
        assert_eq!(missed(&tags, Case::Storm), with_tags);
        let late = more(|figures| figures.launch_ms += 1);
        assert_eq!(
            missed(&late, Case::Storm),
            Some("decision_to_last_launch_s")
        );
        let list = Figures {
            instances: 10_000,
            tag_calls: 0,
            ..figures()
        };
        assert!(list.judge(Case::List, MOST_MEMORY).is_ok());
        assert!(list.judge(Case::List, MOST_MEMORY + 1).is_err());
    }

    #[test]
    fn a_storm_that_was_hardly_met_fails_the_bench() {
        let easy = Figures {
            short_rounds: 2,
            ..figures()
        };
        let judged = easy.judge(Case::Storm, 0);
        assert!(matches!(judged, Err(BenchError::TooEasy { found: 2, .. })));
        assert!(easy.judge(Case::Calm, 0).is_ok());
    }

    #[test]
    fn the_line_has_calls_with_and_without_tags() {
        let line = figures().line(Case::Calm, 80);
        assert_eq!(line["calls_per_instance"], 0.1);
        assert_eq!(line["calls_per_instance_with_tags"], 1.1);
        assert_eq!(line["decision_to_last_pod_s"], 90.0);
        assert_eq!(line["last_pod_to_zero_s"], 120.0);
    }
}
