//! What comes of a run, as values: what tables, JSON and pages are made of.

use crate::model::report::ReasonKind;

/// How long pods waited from their arrival to the start of their containers, seconds. Pods that were
/// evicted wait again, and count again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Waiting {
    /// Half of them at most so long.
    pub p50: i64,
    /// 95 of 100 at most so long.
    pub p95: i64,
    /// 99 of 100 at most so long.
    pub p99: i64,
    /// None longer.
    pub most: i64,
}

/// The figures of a run. Money is in 10⁻¹⁰ US dollars.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Figures {
    /// Pods that arrived; those made anew for evicted ones not counted.
    pub pods: usize,
    /// Pods that ran to their end.
    pub completed: usize,
    /// Pods that were on a node when it was taken, and made anew.
    pub evictions: usize,
    /// Pods without an owner that were on a node when it was taken: nobody makes them anew.
    pub lost_pods: usize,
    /// What evicted pods had run by then, seconds: work that is done twice. Services have none.
    pub lost_pod_seconds: i64,
    /// Spot machines that EC2 took back.
    pub interruptions: usize,
    /// Machines that were bought.
    pub nodes_bought: usize,
    /// The most machines at a time.
    pub most_nodes: usize,
    /// Rounds of planning.
    pub rounds: usize,
    /// Claims given up because EC2 had none of their offerings.
    pub given_up: usize,
    /// What on-demand machines cost.
    pub usd_on_demand: i64,
    /// What spot machines cost.
    pub usd_spot: i64,
    /// What volumes, addresses and fees per node cost.
    pub usd_fees: i64,
    /// All of it.
    pub usd_total: i64,
    /// What no fleet that ran the same pods at the same times could have cost less than.
    pub usd_lower_bound: i64,
    /// How long pods waited.
    pub waiting_seconds: Waiting,
    /// Billed seconds of all machines.
    pub instance_seconds: i64,
    /// Of these, spot.
    pub spot_seconds: i64,
    /// How much of the processors that pods could use they requested, of 1000.
    pub cpu_per_mille: i64,
    /// How much of the memory that pods could use they requested, of 1000.
    pub memory_per_mille: i64,
    /// Machines that run at the end.
    pub instances_left: usize,
    /// How long it took until the end, seconds.
    pub virtual_seconds: i64,
}

impl Figures {
    /// How far the total is above the bound, of 1000; `None` without a bound.
    pub fn above_per_mille(&self) -> Option<i64> {
        let (total, bound) = (i128::from(self.usd_total), i128::from(self.usd_lower_bound));
        ((total - bound) * 1_000)
            .checked_div(bound)
            .and_then(|share| i64::try_from(share).ok())
    }
}

/// Means over one step of the course: counts in thousandths, money in 10⁻¹⁰ US dollars for the step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Moment {
    /// Pods that wait.
    pub waiting: i64,
    /// Pods on nodes.
    pub running: i64,
    /// On-demand machines.
    pub on_demand: i64,
    /// Spot machines.
    pub spot: i64,
    /// What was billed in the step.
    pub usd: i64,
    /// What no fleet could have cost less than in the step.
    pub usd_bound: i64,
}

/// The course of a run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Course {
    /// How long each step is.
    pub step_seconds: i64,
    /// One entry for each step.
    pub moments: Vec<Moment>,
}

/// Pods that never got a node, all for the same reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NeverPlaced {
    /// The first of the loads that they are of.
    pub load: String,
    /// How many other loads they are of.
    pub other_loads: usize,
    /// How many.
    pub pods: usize,
    /// The kinds of reasons.
    pub reasons: Vec<ReasonKind>,
    /// For people: why, and what would make them fit.
    pub message: String,
}

/// Machines of one kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bought {
    /// NodePool.
    pub node_pool: String,
    /// Type, zone and capacity type.
    pub offering: crate::model::offering::OfferingKey,
    /// How many.
    pub count: usize,
    /// Their billed seconds.
    pub seconds: i64,
    /// What they cost, 10⁻¹⁰ US dollars, fees included.
    pub usd: i64,
}

/// What comes of one variant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The variant's name.
    pub variant: String,
    /// The figures.
    pub figures: Figures,
    /// Their course.
    pub course: Course,
    /// Pods that never got a node.
    pub never_placed: Vec<NeverPlaced>,
    /// What was bought, in order of NodePool and offering.
    pub bought: Vec<Bought>,
}
