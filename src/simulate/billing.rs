//! What machines come to: billed from when they run until they end, by the second.

use std::collections::BTreeMap;

use super::agenda::{Event, MachineId};
use super::engine::Engine;
use super::fleet::Machine;
use super::outcome::Bought;
use crate::model::money::UsdPerHour;
use crate::model::offering::{CapacityType, OfferingKey};
use crate::sim::ec2::bill::{self, Amount, LEAST_SECONDS};

/// From a machine's end until nothing of it is left, milliseconds: at least, and how much more at most.
const SHUTDOWN: (u64, u64) = (8_000, 12_000);

impl Engine<'_> {
    /// A machine is billed from now on.
    pub(super) fn run_billed(&mut self, id: MachineId) {
        if let Some(machine) = self
            .machines
            .get(id)
            .filter(|machine| machine.ended.is_none())
        {
            self.tally
                .machine_runs(machine.offering.capacity_type, &machine.allocatable);
        }
    }

    /// A machine ends, and its bill is written.
    pub(super) fn terminate(&mut self, id: MachineId) {
        let Some(machine) = self
            .machines
            .get(id)
            .filter(|machine| machine.ended.is_none())
        else {
            return;
        };
        let machine = machine.clone();
        self.places.remove(&machine.node);
        let until = self.now.max(machine.running);
        let (mut amount, mut seconds) = (Amount::default(), 0);
        // EC2 bills nothing of a machine that never got as far as running.
        if self.now >= machine.running {
            amount = self.bill(&machine, until);
            seconds = self.seconds(machine.running, until).max(LEAST_SECONDS);
            let kind = machine.offering.capacity_type;
            self.tally.machine_ends(kind, &machine.allocatable, seconds);
        }
        if let Some(known) = self.machines.get_mut(id) {
            known.ending = true;
            known.ended = Some((seconds, amount));
        }
        if let Some(count) = self.alive.get_mut(&machine.offering) {
            *count = count.saturating_sub(1);
        }
        let index = u64::try_from(id).unwrap_or(0);
        let after = self.chance.milliseconds("shutdown", index, SHUTDOWN);
        self.agenda.plan(self.now + after, Event::Forget(id));
    }

    /// What a machine comes to, by part of the course and in all.
    fn bill(&mut self, machine: &Machine, until: i64) -> Amount {
        let whole = (self.at(machine.running), self.at(until));
        let markets = self.prices.markets();
        let (nothing, offering) = (UsdPerHour::ZERO, &machine.offering);
        let compute = bill::machine(markets, offering, nothing, whole);
        let all = bill::machine(markets, offering, machine.fees, whole);
        let seconds = self.seconds(machine.running, until);
        let fees = Amount::of(machine.fees, seconds.max(LEAST_SECONDS));
        let mut parts = self.tally.parts(machine.running, until);
        if seconds < LEAST_SECONDS {
            parts.clear();
            self.tally.cost_at(machine.running, all);
        }
        for (from, to) in parts {
            let (from_at, to_at) = (self.at(from), self.at(to));
            let seconds = self.seconds(from, to);
            let part = if seconds < LEAST_SECONDS {
                // The minimum is for the whole, not for its parts.
                let price = self.prices.markets().price(offering, from_at);
                Amount::of(price.unwrap_or(nothing) + machine.fees, seconds)
            } else {
                let markets = self.prices.markets();
                bill::machine(markets, offering, machine.fees, (from_at, to_at))
            };
            self.tally.cost_at(from, part);
        }
        match offering.capacity_type {
            CapacityType::Spot => self.tally.spot += compute,
            CapacityType::OnDemand | CapacityType::Reserved => self.tally.on_demand += compute,
        }
        self.tally.fees += fees;
        all
    }

    /// Whole seconds between two moments, as bills count them.
    fn seconds(&self, from: i64, until: i64) -> i64 {
        self.at(until).as_second() - self.at(from).as_second()
    }

    /// Nothing of a machine is left.
    pub(super) fn forget(&mut self, id: MachineId) {
        let Some(machine) = self.machines.get(id) else {
            return;
        };
        self.snapshot.claims.remove(&machine.claim);
        self.snapshot.nodes.remove(&*machine.node);
        self.shut.remove(&*machine.node);
        self.machine_of.remove(&machine.claim);
        // What a limit kept out may be bought now.
        self.retry_from = Some(self.now);
    }

    /// What was bought, by NodePool and offering.
    pub(super) fn bought(&self) -> Vec<Bought> {
        let mut kinds: BTreeMap<(&String, &OfferingKey), (usize, i64, Amount)> = BTreeMap::new();
        for machine in &self.machines {
            let kind = kinds
                .entry((&machine.node_pool, &machine.offering))
                .or_default();
            kind.0 += 1;
            if let Some((seconds, amount)) = machine.ended {
                kind.1 += seconds;
                kind.2 += amount;
            }
        }
        let kinds = kinds.into_iter();
        let kinds = kinds.map(|((pool, offering), (count, seconds, usd))| Bought {
            node_pool: pool.clone(),
            offering: offering.clone(),
            count,
            seconds,
            usd: usd.units(),
        });
        kinds.collect()
    }
}
