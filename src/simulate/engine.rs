//! The simulator: one event after the other, folded straight into a snapshot.
//!
//! Given a scenario and a variant; given back what comes of it. The decisions are the controller's own:
//! [`crate::plan::provision`], [`crate::plan::launch`] and [`crate::plan::empty`], asked whenever something
//! changed. What the API server, the loops and the kubelets do between them is folded to delays.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::agenda::{Agenda, Event, MachineId};
use super::bound;
use super::chance::Chance;
use super::demand::Demand;
use super::fleet::Machine;
use super::input::schedule::whole_milliseconds;
use super::outcome::{NeverPlaced, Outcome};
use super::places::Place;
use super::pods::{Pods, Stage};
use super::prices::Prices;
use super::rounds::Standing;
use super::scenario::{Scenario, Variant};
use super::tally::Tally;
use super::workload::Run;
use super::{PlanFault, Progress, Watcher};
use crate::model::claim::{ClaimCondition, ConditionStatus};
use crate::model::money::UsdPerHour;
use crate::model::node::Node;
use crate::model::offering::OfferingKey;
use crate::model::snapshot::Snapshot;
use crate::plan::empty::EmptyMemory;
use crate::plan::launch::LaunchMemory;

/// How long after the last arrival pods that nothing can be bought for are still tried, milliseconds.
const PATIENCE: i64 = 24 * 3_600 * 1_000;
/// Happenings between two looks of a watcher.
const LOOK: usize = 512;

/// A run.
pub(super) struct Engine<'run> {
    pub(super) scenario: &'run Scenario,
    pub(super) variant: &'run Variant,
    pub(super) chance: Chance,
    /// Milliseconds from the beginning.
    pub(super) now: i64,
    pub(super) agenda: Agenda,
    pub(super) snapshot: Snapshot,
    /// The nodes of the snapshot, closed for pods.
    pub(super) shut: BTreeMap<String, Arc<Node>>,
    pub(super) prices: Prices,
    pub(super) pods: Pods,
    pub(super) places: BTreeMap<Arc<str>, Place>,
    pub(super) machines: Vec<Machine>,
    pub(super) machine_of: BTreeMap<String, MachineId>,
    pub(super) alive: BTreeMap<OfferingKey, usize>,
    pub(super) launches: LaunchMemory,
    pub(super) launch_due: Option<i64>,
    pub(super) empties: EmptyMemory,
    pub(super) empty_due: Option<i64>,
    pub(super) look_at_empties: bool,
    pub(super) standing: Standing,
    pub(super) plan_due: Option<i64>,
    pub(super) retry_from: Option<i64>,
    /// Names of claims in order of their making.
    pub(super) claim_names: Vec<String>,
    pub(super) dirty: BTreeSet<Arc<str>>,
    pub(super) fresh: BTreeSet<usize>,
    pub(super) tally: Tally,
    pub(super) demand: Demand,
    /// How many pods of each load have been made, where not all come at once.
    pub(super) waves: BTreeMap<usize, u32>,
    last_arrival: i64,
    /// Pods of services that had no node when their time was over.
    pub(super) unserved: Vec<NeverPlaced>,
    /// What is wrong with the last plan.
    pub(super) fault: Option<PlanFault>,
}

/// A condition that has its status since a moment.
pub(super) const fn condition(status: ConditionStatus, since: Timestamp) -> ClaimCondition {
    ClaimCondition {
        status,
        reason: String::new(),
        message: String::new(),
        since,
    }
}

impl<'run> Engine<'run> {
    pub(super) fn new(scenario: &'run Scenario, variant: &'run Variant) -> Self {
        let duration = whole_milliseconds(scenario.duration);
        let mut engine = Self {
            scenario,
            variant,
            chance: Chance::new(scenario.seed),
            now: 0,
            agenda: Agenda::default(),
            snapshot: variant.furnished(scenario.begin),
            shut: BTreeMap::new(),
            prices: Prices::new(scenario, variant),
            pods: Pods::new(&scenario.loads),
            places: BTreeMap::new(),
            machines: Vec::new(),
            machine_of: BTreeMap::new(),
            alive: BTreeMap::new(),
            launches: LaunchMemory::new(scenario.begin),
            launch_due: None,
            empties: EmptyMemory::default(),
            empty_due: None,
            look_at_empties: false,
            standing: Standing::default(),
            plan_due: None,
            retry_from: None,
            claim_names: Vec::new(),
            dirty: BTreeSet::new(),
            fresh: BTreeSet::new(),
            tally: Tally::new(duration),
            demand: Demand::new(scenario.begin.as_second()),
            waves: BTreeMap::new(),
            last_arrival: 0,
            unserved: Vec::new(),
            fault: None,
        };
        for (number, load) in scenario.loads.iter().enumerate() {
            if load.at < duration {
                engine.agenda.plan(load.at, Event::Arrive(number));
                engine.last_arrival = engine.last_arrival.max(load.at);
            }
        }
        if scenario.loads.iter().any(|load| load.run == Run::ToTheEnd) {
            engine.agenda.plan(duration, Event::Close);
        }
        engine
    }

    /// The moment.
    pub(super) fn time(&self) -> Timestamp {
        self.at(self.now)
    }

    /// How long work arrives, milliseconds.
    pub(super) fn duration(&self) -> i64 {
        whole_milliseconds(self.scenario.duration)
    }

    /// A moment from milliseconds.
    pub(super) fn at(&self, milliseconds: i64) -> Timestamp {
        self.scenario
            .begin
            .saturating_add(SignedDuration::from_millis(milliseconds))
            .unwrap_or(Timestamp::MAX)
    }

    /// Milliseconds from a moment, rounded up.
    pub(super) fn millis(&self, at: Timestamp) -> i64 {
        let nanoseconds = at.duration_since(self.scenario.begin).as_nanos();
        i64::try_from((nanoseconds + 999_999).div_euclid(1_000_000)).unwrap_or(i64::MAX)
    }

    /// Runs to the end, or to the first plan that breaks a rule.
    pub(super) fn run(
        mut self,
        threads: usize,
        watcher: &dyn Watcher,
    ) -> Result<Outcome, PlanFault> {
        let mut happened = 0_usize;
        watcher.moves(&self.variant.name, SignedDuration::ZERO);
        while let Some(next) = self.next() {
            if next > self.now {
                watcher.moves(&self.variant.name, SignedDuration::from_millis(next));
            }
            self.tally.advance(next);
            self.now = next;
            while let Some(event) = self.agenda.take(next) {
                self.perform(event);
                happened += 1;
            }
            self.settle();
            if let Some(fault) = self.fault.take() {
                watcher.ends();
                return Err(fault);
            }
            if happened >= LOOK {
                happened = 0;
                watcher.look(&self.progress());
            }
        }
        watcher.look(&self.progress());
        watcher.ends();
        Ok(self.finish(threads))
    }

    fn progress(&self) -> Progress<'_> {
        let (machines, waiting, running) = self.tally.now();
        Progress {
            variant: &self.variant.name,
            passed: SignedDuration::from_millis(self.now),
            of: self.scenario.duration,
            machines,
            waiting,
            running,
            rate: self.rate(),
        }
    }

    /// What the machines that run now cost per hour.
    fn rate(&self) -> UsdPerHour {
        let (markets, now) = (self.prices.markets(), self.time());
        let kinds = self.alive.iter().filter(|(_offering, count)| **count > 0);
        kinds
            .filter_map(|(offering, count)| {
                let price = markets.price(offering, now)?;
                Some(price.times(i64::try_from(*count).unwrap_or(i64::MAX)))
            })
            .sum()
    }

    /// When something happens next; `None` when nothing will any more.
    fn next(&mut self) -> Option<i64> {
        let (machines, pods) = (&self.machines, &self.pods.records);
        self.agenda.forget(|event| match event {
            // What happens to machines and pods that are gone by then.
            Event::Notice(id) => machines.get(id).is_none_or(|machine| machine.ending),
            Event::End(id) => pods.get(id).is_none_or(|pod| pod.stage == Stage::Over),
            _ => false,
        });
        let event = self.agenda.next();
        // Pods that nothing can be bought for are no reason to go on for ever.
        let hopeless = self.now > self.last_arrival.saturating_add(PATIENCE);
        let retry = self
            .retry_from
            .filter(|_at| !hopeless || event.is_some())
            .map(|at| at.max(self.now));
        [event, self.plan_due, self.launch_due, self.empty_due, retry]
            .into_iter()
            .flatten()
            .min()
            .map(|at| at.max(self.now))
    }

    fn perform(&mut self, event: Event) {
        match event {
            Event::Arrive(load) => self.arrive(load),
            Event::Succeed(pod) => self.succeed(pod),
            Event::End(pod) => self.end(pod),
            Event::Running(machine) => self.run_billed(machine),
            Event::Ready(machine) => self.ready(machine),
            Event::Notice(machine) => self.notice(machine),
            Event::Force(machine) => self.force(machine),
            Event::Terminate(machine) => self.terminate(machine),
            Event::Forget(machine) => self.forget(machine),
            Event::GiveUp(claim) => self.give_up(claim),
            Event::Close => self.close(),
        }
    }

    /// Everything that follows from what has just happened.
    fn settle(&mut self) {
        self.schedule();
        self.plan_if_due();
        if self.launch_due.is_some_and(|due| due <= self.now) {
            self.launch();
        }
        self.let_go_of_empties();
    }

    fn finish(mut self, threads: usize) -> Outcome {
        // What still runs is billed up to here.
        let left: Vec<MachineId> = (0..self.machines.len())
            .filter(|id| {
                self.machines
                    .get(*id)
                    .is_some_and(|known| known.ended.is_none())
            })
            .collect();
        self.tally.figures.instances_left = left.len();
        for id in left {
            self.terminate(id);
        }
        let mut never_placed = std::mem::take(&mut self.unserved);
        never_placed.extend(self.never_placed(|_engine, _id| true));
        let bought = self.bought();
        let now = self.now;
        let steps = self.demand.finish(now);
        let classes = self.pods.specs();
        let bounds = bound::integrate(self.scenario, self.variant, &classes, &steps, threads);
        let mut tally = self.tally;
        tally.figures.virtual_seconds = now.div_euclid(1_000);
        let mut total = crate::sim::ec2::bill::Amount::default();
        for (step, amount) in bounds {
            tally.bound_at(step, amount);
            total += amount;
        }
        let (figures, course) = tally.finish(total);
        Outcome {
            variant: self.variant.name.clone(),
            figures,
            course,
            never_placed,
            bought,
        }
    }
}
