//! What a run comes to: figures over all of it, and their course over time.
//!
//! Given what happened when; given back sums. Between two happenings nothing changes, so every sum
//! over time is exact.

use super::outcome::{Course, Figures, Moment, Waiting};
use crate::model::offering::CapacityType;
use crate::model::resources::{CPU, MEMORY, Resources};
use crate::sim::ec2::bill::Amount;
use crate::sim::ec2::market::PRICE_STEP;

/// Most points of a course: as many as a chart has room for.
const MOST_POINTS: i64 = 360;

/// Everything that is there at one moment.
#[derive(Debug, Clone, Copy, Default)]
struct State {
    waiting: i64,
    running: i64,
    on_demand: i64,
    spot: i64,
    used: [i64; 2],
    usable: [i64; 2],
}

/// Sums of a part of the time.
#[derive(Debug, Clone, Default)]
struct Bucket {
    waiting: i64,
    running: i64,
    on_demand: i64,
    spot: i64,
    cost: Amount,
    bound: Amount,
}

/// The sums so far.
#[derive(Debug)]
pub(super) struct Tally {
    now: i64,
    width: i64,
    state: State,
    buckets: Vec<Bucket>,
    used: [i128; 2],
    usable: [i128; 2],
    waits: Vec<u32>,
    on_demand_seconds: i64,
    spot_seconds: i64,
    /// What is counted as it happens.
    pub(super) figures: Figures,
    /// What on-demand machines cost.
    pub(super) on_demand: Amount,
    /// What spot machines cost.
    pub(super) spot: Amount,
    /// What volumes, addresses and fees cost.
    pub(super) fees: Amount,
}

fn amounts(resources: &Resources) -> [i64; 2] {
    [resources.get(CPU), resources.get(MEMORY)]
}

impl Tally {
    /// Nothing has happened yet; work arrives for so many milliseconds.
    pub(super) fn new(duration: i64) -> Self {
        let step = PRICE_STEP * 1_000;
        let steps = (duration / MOST_POINTS / step + 1).max(1);
        Self {
            now: 0,
            width: steps * step,
            state: State::default(),
            buckets: Vec::new(),
            used: [0; 2],
            usable: [0; 2],
            waits: Vec::new(),
            on_demand_seconds: 0,
            spot_seconds: 0,
            figures: Figures::default(),
            on_demand: Amount::default(),
            spot: Amount::default(),
            fees: Amount::default(),
        }
    }

    /// Time goes on to a moment at which something happens.
    pub(super) fn advance(&mut self, to: i64) {
        let passed = i128::from(to - self.now);
        let now = self.state.used.iter().chain(&self.state.usable);
        for (sum, now) in self.used.iter_mut().chain(&mut self.usable).zip(now) {
            *sum += i128::from(*now) * passed;
        }
        let state = self.state;
        while self.now < to {
            let until = ((self.now / self.width + 1) * self.width).min(to);
            let passed = until - self.now;
            self.change(self.now, |bucket| {
                bucket.waiting += state.waiting * passed;
                bucket.running += state.running * passed;
                bucket.on_demand += state.on_demand * passed;
                bucket.spot += state.spot * passed;
            });
            self.now = until;
        }
    }

    fn change(&mut self, at: i64, change: impl FnOnce(&mut Bucket)) {
        let index = usize::try_from(at / self.width).unwrap_or(0);
        if self.buckets.len() <= index {
            self.buckets.resize(index + 1, Bucket::default());
        }
        if let Some(bucket) = self.buckets.get_mut(index) {
            change(bucket);
        }
    }

    /// A pod arrives.
    pub(super) const fn arrives(&mut self) {
        self.state.waiting += 1;
    }

    /// A pod stops waiting without a node.
    pub(super) const fn leaves(&mut self) {
        self.state.waiting -= 1;
    }

    /// A pod that waited is on a node, and its containers start after so many milliseconds in all.
    pub(super) fn binds(&mut self, requests: &Resources, waited: i64) {
        self.state.waiting -= 1;
        self.state.running += 1;
        let [cpu, memory] = amounts(requests);
        self.state.used[0] += cpu;
        self.state.used[1] += memory;
        self.waits.push(u32::try_from(waited).unwrap_or(u32::MAX));
    }

    /// A pod leaves its node.
    pub(super) fn unbinds(&mut self, requests: &Resources) {
        self.state.running -= 1;
        let [cpu, memory] = amounts(requests);
        self.state.used[0] -= cpu;
        self.state.used[1] -= memory;
    }

    /// A machine is billed from now on.
    pub(super) fn machine_runs(&mut self, kind: CapacityType, usable: &Resources) {
        self.count_machine(kind, 1);
        let [cpu, memory] = amounts(usable);
        self.state.usable[0] += cpu;
        self.state.usable[1] += memory;
    }

    /// A machine that was billed has ended.
    pub(super) fn machine_ends(&mut self, kind: CapacityType, usable: &Resources, seconds: i64) {
        self.count_machine(kind, -1);
        let [cpu, memory] = amounts(usable);
        self.state.usable[0] -= cpu;
        self.state.usable[1] -= memory;
        match kind {
            CapacityType::Spot => self.spot_seconds += seconds,
            CapacityType::OnDemand | CapacityType::Reserved => self.on_demand_seconds += seconds,
        }
    }

    const fn count_machine(&mut self, kind: CapacityType, by: i64) {
        match kind {
            CapacityType::Spot => self.state.spot += by,
            CapacityType::OnDemand | CapacityType::Reserved => self.state.on_demand += by,
        }
    }

    /// Parts of a time in buckets: where each begins and ends.
    pub(super) fn parts(&self, from: i64, until: i64) -> Vec<(i64, i64)> {
        let mut parts = Vec::new();
        let mut at = from;
        while at < until {
            let next = ((at / self.width + 1) * self.width).min(until);
            parts.push((at, next));
            at = next;
        }
        parts
    }

    /// A machine cost so much in a part of the time that begins there.
    pub(super) fn cost_at(&mut self, at: i64, amount: Amount) {
        self.change(at, |bucket| bucket.cost += amount);
    }

    /// No fleet could have cost less in the price step that begins there.
    pub(super) fn bound_at(&mut self, at: i64, amount: Amount) {
        self.change(at.max(0), |bucket| bucket.bound += amount);
    }

    /// Machines that run now, and pods that wait and that run.
    pub(super) const fn now(&self) -> (i64, i64, i64) {
        let state = self.state;
        (state.on_demand + state.spot, state.waiting, state.running)
    }

    /// What machines cost so far, those that still run apart.
    pub(super) fn spent(&self) -> Amount {
        self.on_demand + self.spot + self.fees
    }

    /// The figures and their course.
    pub(super) fn finish(mut self, bound: Amount) -> (Figures, Course) {
        let total = self.spent();
        self.waits.sort_unstable();
        let percentile = |percent: usize| {
            let rank = (self.waits.len() * percent).div_ceil(100).max(1) - 1;
            self.waits
                .get(rank)
                .map_or(0, |wait| i64::from(*wait).div_euclid(1_000))
        };
        let share = |used: i128, usable: i128| {
            let share = (used * 1_000).checked_div(usable).unwrap_or(0);
            i64::try_from(share).unwrap_or(0)
        };
        let figures = Figures {
            usd_on_demand: self.on_demand.units(),
            usd_spot: self.spot.units(),
            usd_fees: self.fees.units(),
            usd_total: total.units(),
            usd_lower_bound: bound.units(),
            waiting_seconds: Waiting {
                p50: percentile(50),
                p95: percentile(95),
                p99: percentile(99),
                most: percentile(100),
            },
            instance_seconds: self.on_demand_seconds + self.spot_seconds,
            spot_seconds: self.spot_seconds,
            cpu_per_mille: share(self.used[0], self.usable[0]),
            memory_per_mille: share(self.used[1], self.usable[1]),
            ..self.figures
        };
        let width = self.width;
        let moments = self.buckets.iter().map(|bucket| Moment {
            // Thousandths, so that a short appearance shows.
            waiting: bucket.waiting.saturating_mul(1_000) / width,
            running: bucket.running.saturating_mul(1_000) / width,
            on_demand: bucket.on_demand.saturating_mul(1_000) / width,
            spot: bucket.spot.saturating_mul(1_000) / width,
            usd: bucket.cost.units(),
            usd_bound: bucket.bound.units(),
        });
        let course = Course {
            step_seconds: width / 1_000,
            moments: moments.collect(),
        };
        (figures, course)
    }
}
