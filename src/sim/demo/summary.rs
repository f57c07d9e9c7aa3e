//! The demo in figures, as `summary.json` has them.

use jiff::Timestamp;
use serde::Serialize;

use super::{Bound, Tally};
use crate::sim::Embedded;

/// How long pods waited for their start, seconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Latency {
    /// Half of them at most so long.
    pub p50: i64,
    /// 95 of 100 at most so long.
    pub p95: i64,
    /// 99 of 100 at most so long.
    pub p99: i64,
}

/// The figures.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// The seed.
    pub seed: u64,
    /// How long it took in virtual time.
    pub virtual_seconds: i64,
    /// Pods that were made.
    pub pods: usize,
    /// Machines that were bought.
    pub nodes_bought: usize,
    /// Machines that are left.
    pub instances_left: usize,
    /// Spot machines that EC2 took back.
    pub interruptions: usize,
    /// Evictions of running pods from machines that nothing was wrong with.
    pub voluntary_evictions_of_protected_pods: usize,
    /// What was billed, US dollars.
    pub usd_total: String,
    /// What no fleet could have cost less than, US dollars.
    pub usd_lower_bound: String,
    /// How long pods waited.
    pub start_latency_seconds: Latency,
}

impl Summary {
    /// The figures of a world that has ended.
    pub fn new(world: &Embedded, tally: &Tally, bound: &Bound, began: Timestamp) -> Self {
        let percentile = |percent| tally.percentile(percent).unwrap_or(0);
        Self {
            seed: world.options.seed,
            virtual_seconds: world.now().duration_since(began).as_secs(),
            pods: tally.pods,
            nodes_bought: tally.nodes_bought,
            instances_left: world.ec2.alive().len(),
            interruptions: tally.interruptions,
            voluntary_evictions_of_protected_pods: tally.voluntary_evictions,
            usd_total: world.ec2.billed().to_string(),
            usd_lower_bound: bound.total().to_string(),
            start_latency_seconds: Latency {
                p50: percentile(50),
                p95: percentile(95),
                p99: percentile(99),
            },
        }
    }
}
