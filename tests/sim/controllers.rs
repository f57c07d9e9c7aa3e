//! The controllers of a trial: how many there are, and when each is started again.

use std::sync::Arc;

use jiff::SignedDuration;
use tonnage::controllers::assembly::Connections;
use tonnage::settings::{InstanceNames, LeaseSettings, Mode};
use tonnage::sim::clock::WallClock;
use tonnage::sim::embedded::{ProcessOptions, default_settings};
use tonnage::sim::{Embedded, Process};
use tonnage::world::{Clock, RandomStream};

use crate::faults::Storm;
use crate::leadership::PREFIX;
use crate::mutations::Mutation;
use crate::plans::Plans;

/// Which controllers run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Controllers {
    /// One, without a lease.
    Alone,
    /// Two, of which the one acts that holds the lease.
    Two,
}

impl Controllers {
    /// Those of a seed: two of three worlds have two.
    pub(crate) const fn of(seed: u64) -> Self {
        if seed.is_multiple_of(3) {
            Self::Alone
        } else {
            Self::Two
        }
    }

    /// Whether they need a lease.
    pub(crate) fn elect(self) -> bool {
        self != Self::Alone
    }
}

/// Whether a controller binds pods itself: one of three does, and who comes after it may not.
const fn binds(seed: u64) -> bool {
    seed.is_multiple_of(3)
}

/// How far a wall clock is off at most, seconds.
const CLOCK_OFF: u64 = 300;

/// One place for a controller: it is empty between a crash and the next start.
#[derive(Debug)]
struct Place {
    /// The wall clock of the machine that it is on.
    clock: WallClock,
    who: String,
    process: Option<Process>,
    restart: u64,
}

/// Where controllers run.
#[derive(Debug)]
pub(crate) struct Places {
    controllers: Controllers,
    mutation: Option<&'static Mutation>,
    slots: Vec<Place>,
    generation: u64,
    /// What they plan.
    pub(crate) plans: Plans,
}

impl Places {
    /// Nobody runs yet.
    pub(crate) fn new(
        world: &Embedded,
        controllers: Controllers,
        mutation: Option<&'static Mutation>,
    ) -> Self {
        let place = |_number| Place {
            clock: WallClock::new(&world.clock),
            who: String::new(),
            process: None,
            restart: 0,
        };
        let count = if controllers.elect() { 2 } else { 1 };
        Self {
            controllers,
            mutation,
            slots: (0..count).map(place).collect(),
            generation: 0,
            plans: Plans::default(),
        }
    }

    /// Fills the places whose time has come.
    pub(crate) fn fill(&mut self, world: &Embedded, storm: &Storm, second: u64) {
        for index in 0..self.slots.len() {
            let due = |place: &&Place| place.process.is_none() && second >= place.restart;
            let Some(place) = self.slots.get(index).filter(due) else {
                continue;
            };
            let clock = Arc::new(place.clock.clone());
            self.generation += 1;
            let who = format!("{PREFIX}{}", self.generation);
            let seed = world.options.seed.wrapping_mul(1_000) + self.generation;
            let process = self.start(world, storm, (&who, seed), clock);
            if let Some(place) = self.slots.get_mut(index) {
                place.who = who;
                place.process = Some(process);
            }
        }
    }

    /// Starts a controller under a name of its own, which knows nothing of those before it.
    fn start(
        &self,
        world: &Embedded,
        storm: &Storm,
        (who, seed): (&str, u64),
        clock: Arc<dyn Clock>,
    ) -> Process {
        let mut settings = default_settings(Mode::Run, 1);
        settings.lifecycle.registration_timeout = SignedDuration::from_mins(5);
        settings.lease = self.controllers.elect().then(LeaseSettings::default);
        settings.bind_pods = binds(seed);
        // Whatever holds must hold for machines with names of their own and for those without.
        if world.options.seed.is_multiple_of(2) {
            settings.instance_names = InstanceNames::OfNode;
        }
        let options = ProcessOptions {
            who: who.to_owned(),
            faults: Arc::new(storm.clone()),
            clock: Some(clock),
            ..ProcessOptions::new(seed, settings)
        };
        world.start_with(options, |connections| {
            let connections = match self.mutation {
                Some(mutation) => mutation.put_between(world, connections),
                None => connections,
            };
            Connections {
                plans: Some(Arc::new(self.plans.clone())),
                ..connections
            }
        })
    }

    /// Takes a controller out of its place, which stays empty for a while.
    pub(crate) fn take(&mut self, dice: &RandomStream, second: u64) -> Option<Process> {
        let index = usize::try_from(dice.below(self.slots.len() as u64)).ok()?;
        let restart = second + dice.below(90);
        let place = self.slots.get_mut(index)?;
        let process = place.process.take()?;
        place.restart = restart;
        Some(process)
    }

    /// The wall clock of one machine jumps: a third of the times to the right time, else to one that is off.
    /// Says whether it did.
    pub(crate) fn step_clock(&self, dice: &RandomStream) -> bool {
        let index = usize::try_from(dice.below(self.slots.len() as u64)).unwrap_or(0);
        let off = i64::try_from(1 + dice.below(CLOCK_OFF)).unwrap_or(0);
        let ahead = match dice.below(3) {
            0 => 0,
            1 => off,
            _ => -off,
        };
        let place = self.slots.get(index);
        let jump = place.map(|place| place.clock.set_ahead(SignedDuration::from_secs(ahead)));
        jump.is_some_and(|jump| !jump.is_zero())
    }

    /// Every wall clock is right again.
    pub(crate) fn set_clocks_right(&self) {
        for place in &self.slots {
            place.clock.set_ahead(SignedDuration::ZERO);
        }
    }

    /// The names of those who run or ran last.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.slots.iter().map(|place| place.who.as_str())
    }

    /// Stops everybody.
    pub(crate) async fn stop(&self) {
        for process in self.slots.iter().filter_map(|place| place.process.as_ref()) {
            process.stop().await;
        }
    }
}
