//! The figures of a case, and the bounds that they are held against.
//!
//! Given what was counted; given back a line of JSON, and the first bound that is missed. Nothing is measured here.

use std::time::Duration;

use serde_json::{Value, json};

use super::{BenchError, path};

/// The most time from a decision to the answer to its last launch, in each round, milliseconds.
const MOST_LAUNCH_MS: u64 = 15_000;

/// What a case came to.
#[derive(Debug, Clone)]
pub(super) struct Figures {
    /// Machines that were bought, or that are there where none is.
    pub(super) instances: u64,
    /// Calls of all kinds until the last pod of each round runs.
    pub(super) calls: u64,
    /// From the first claim to the last answer to a launch, milliseconds, in the slowest round; 0 without launches.
    pub(super) launch_ms: u64,
    /// From the first claim until the last pod runs, milliseconds, in the slowest round; `None` without pods.
    pub(super) last_pod_ms: Option<u64>,
    /// From the deletion of all pods until no machine, Node or claim is left, milliseconds, in the slowest round; `None`
    /// without pods.
    pub(super) to_zero_ms: Option<u64>,
    /// Calls meanwhile; `None` without pods.
    pub(super) calls_to_zero: Option<u64>,
    /// Rounds that met offerings without capacity.
    pub(super) short_rounds: u64,
    /// What the world's own machines take of the process's memory, MiB; `None` where they are the case's.
    pub(super) world_mb: Option<u64>,
    /// `calls` by operation.
    pub(super) operations: Value,
}

/// What a case must keep to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// The case.
    pub(super) case: &'static str,
    /// Machines, no more and no fewer.
    pub(super) instances: u64,
    /// Calls for each machine at most, in hundredths.
    pub(super) most_calls: u64,
    /// In how many rounds the shortage must have been met at least.
    pub(super) least_short_rounds: u64,
    /// Pages of instances that must have been asked for at least: who lists nothing keeps to every other bound.
    pub(super) least_pages: u64,
    /// The most memory beside [`Figures::world_mb`], MiB; `None` where the whole embedded cluster is in it.
    pub(super) most_memory: Option<u64>,
}

impl Figures {
    /// What is left of the process's memory without that of the world's own machines, MiB.
    pub(super) fn own_memory(&self, memory: u64) -> u64 {
        memory.saturating_sub(self.world_mb.unwrap_or(0))
    }

    /// The line of a case.
    pub(super) fn line(&self, case: &str, memory: u64) -> Value {
        json!({
            "case": case,
            "through": path::NAME,
            "instances": self.instances,
            "calls": self.calls,
            "calls_per_instance": thousands(self.calls.saturating_mul(1_000) / self.instances.max(1)),
            "decision_to_last_launch_s": thousands(self.launch_ms),
            "decision_to_last_pod_s": self.last_pod_ms.map(thousands),
            "last_pod_to_zero_s": self.to_zero_ms.map(thousands),
            "calls_to_zero": self.calls_to_zero,
            "short_rounds": self.short_rounds,
            "peak_rss_mb": memory,
            "world_rss_mb": self.world_mb,
            "operations": self.operations,
        })
    }

    /// Holds the figures against bounds.
    pub(super) fn judge(&self, bounds: &Bounds, memory: u64) -> Result<(), BenchError> {
        let case = bounds.case;
        if self.instances != bounds.instances {
            return Err(BenchError::Count {
                case,
                found: self.instances,
                wanted: bounds.instances,
            });
        }
        if self.short_rounds < bounds.least_short_rounds {
            return Err(BenchError::TooEasy {
                case,
                found: self.short_rounds,
                least: bounds.least_short_rounds,
            });
        }
        let pages = self.operations["DescribeInstances"].as_u64().unwrap_or(0);
        if pages < bounds.least_pages {
            return Err(BenchError::Unread {
                case,
                found: pages,
                least: bounds.least_pages,
            });
        }
        // Rounded up: what is a little over a bound is over it.
        let calls = self
            .calls
            .saturating_mul(100)
            .div_ceil(self.instances.max(1));
        let held = [
            (
                "calls_per_instance, in hundredths,",
                calls,
                bounds.most_calls,
            ),
            (
                "decision_to_last_launch_s, in milliseconds,",
                self.launch_ms,
                MOST_LAUNCH_MS,
            ),
        ];
        let memory = bounds.most_memory.map(|most| ("peak_rss_mb", memory, most));
        for (what, found, most) in held.into_iter().chain(memory) {
            if found > most {
                return Err(BenchError::Missed {
                    case,
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
    Duration::from_millis(thousandths).as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::bench_ec2::Case;

    fn figures(bounds: &Bounds) -> Figures {
        Figures {
            instances: bounds.instances,
            calls: bounds.instances * bounds.most_calls / 100,
            launch_ms: MOST_LAUNCH_MS,
            last_pod_ms: Some(90_000),
            to_zero_ms: Some(120_000),
            calls_to_zero: Some(30),
            short_rounds: bounds.least_short_rounds,
            world_mb: None,
            operations: json!({ "DescribeInstances": bounds.least_pages }),
        }
    }

    fn missed(bounds: &Bounds, change: impl FnOnce(&mut Figures)) -> Option<&'static str> {
        let mut figures = figures(bounds);
        change(&mut figures);
        match figures.judge(bounds, 149) {
            Ok(()) => None,
            Err(BenchError::Missed { what, .. }) => what.split(',').next(),
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn every_bound_fails_the_bench_when_it_is_missed_by_little() {
        for case in [Case::Calm, Case::Storm, Case::List] {
            let bounds = case.bounds();
            assert_eq!(missed(&bounds, |_figures| {}), None, "{case:?}");
            let calls = missed(&bounds, |figures| figures.calls += 1);
            assert_eq!(calls, Some("calls_per_instance"), "{case:?}");
            let late = missed(&bounds, |figures| figures.launch_ms += 1);
            assert_eq!(late, Some("decision_to_last_launch_s"), "{case:?}");
        }
        let list = Case::List.bounds();
        assert!(figures(&list).judge(&list, 150).is_err());
    }

    #[test]
    fn the_bounds_are_those_that_are_promised() {
        let calls = [Case::Calm, Case::Storm].map(|case| case.bounds().most_calls);
        assert_eq!(calls, [10, 500]);
        assert_eq!(Case::Storm.bounds().least_short_rounds, 3);
        assert_eq!(Case::List.bounds().most_memory, Some(149));
        // Ten pages each time.
        assert_eq!(Case::List.bounds().least_pages, 50);
    }

    #[test]
    fn who_lists_too_little_fails_the_bench() {
        let bounds = Case::List.bounds();
        for (pages, enough) in [(0, false), (49, false), (50, true)] {
            let figures = Figures {
                operations: json!({ "DescribeInstances": pages }),
                ..figures(&bounds)
            };
            let judged = figures.judge(&bounds, 0);
            assert_eq!(judged.is_ok(), enough, "{judged:?}");
        }
        let silent = Figures {
            operations: json!({}),
            ..figures(&bounds)
        };
        let judged = silent.judge(&bounds, 0);
        assert!(matches!(judged, Err(BenchError::Unread { found: 0, .. })));
    }

    #[test]
    fn the_memory_of_the_worlds_own_machines_is_not_the_controllers() {
        let bounds = Case::List.bounds();
        let figures = Figures {
            world_mb: Some(300),
            ..figures(&bounds)
        };
        assert!(figures.judge(&bounds, figures.own_memory(449)).is_ok());
        assert!(figures.judge(&bounds, figures.own_memory(450)).is_err());
        assert_eq!(figures.line("list-10000", 149)["world_rss_mb"], 300);
    }

    #[test]
    fn a_machine_too_many_or_too_few_fails_the_bench() {
        let bounds = Case::Calm.bounds();
        for instances in [bounds.instances - 1, bounds.instances + 1] {
            let other = Figures {
                instances,
                ..figures(&bounds)
            };
            let judged = other.judge(&bounds, 0);
            assert!(matches!(judged, Err(BenchError::Count { found, .. }) if found == instances));
        }
    }

    #[test]
    fn a_storm_that_was_hardly_met_fails_the_bench() {
        let bounds = Case::Storm.bounds();
        let easy = Figures {
            short_rounds: 2,
            ..figures(&bounds)
        };
        let judged = easy.judge(&bounds, 0);
        assert!(matches!(judged, Err(BenchError::TooEasy { found: 2, .. })));
    }

    #[test]
    fn the_line_counts_every_call_in_one_figure() {
        let line = figures(&Case::Calm.bounds()).line("calm-1000", 80);
        assert_eq!(line["calls"], 100);
        assert_eq!(line["calls_per_instance"], 0.1);
        assert_eq!(line["decision_to_last_pod_s"], 90.0);
        assert_eq!(line["last_pod_to_zero_s"], 120.0);
        assert_eq!(line["peak_rss_mb"], 80);
    }
}
