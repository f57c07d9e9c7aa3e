//! The lives of pods: they arrive, end, are evicted and made anew, or are ended with the simulated time.

use super::agenda::{Event, MachineId, PodId};
use super::engine::Engine;
use super::pods::{Stage, key_of};
use super::workload::Run;
use crate::model::pod::{DoNotDisrupt, PodKey};

/// From a pod's eviction until its successor is there, milliseconds.
const RECREATED: i64 = 1_000;

impl Engine<'_> {
    /// The first wave of a load arrives.
    pub(super) fn arrive(&mut self, number: usize) {
        let Some(load) = self.scenario.loads.get(number) else {
            return;
        };
        for ordinal in 0..load.first_wave() {
            self.make(number, ordinal, 0);
        }
    }

    fn make(&mut self, number: usize, ordinal: u32, attempt: u32) {
        let Some(load) = self.scenario.loads.get(number) else {
            return;
        };
        let now = (self.now, self.time());
        let id = self
            .pods
            .arrive((number, load), (ordinal, attempt), now, &mut self.snapshot);
        if let Some(record) = self.pods.records.get(id) {
            self.fresh.insert(record.class);
        }
        self.tally.figures.pods += usize::from(attempt == 0);
        self.tally.arrives();
    }

    /// A pod takes the place of one that was evicted.
    pub(super) fn succeed(&mut self, id: PodId) {
        // A service that has been ended makes no more pods.
        let over = self.now >= self.duration() && self.run_of(id).is_none();
        if let Some(record) = self.pods.records.get(id).filter(|_record| !over) {
            let (load, ordinal, attempt) = (record.load, record.ordinal, record.attempt);
            self.make(load, ordinal, attempt + 1);
        }
    }

    /// How long a pod runs; `None` is to the end.
    pub(super) fn run_of(&self, id: PodId) -> Option<i64> {
        let record = self.pods.records.get(id)?;
        let load = self.scenario.loads.get(record.load)?;
        match load.run {
            Run::ToTheEnd => None,
            Run::Between(least, most) => {
                // The same pod has the same work before it in every attempt and every variant.
                let index =
                    (u64::try_from(record.load).unwrap_or(0) << 32) | u64::from(record.ordinal);
                let spread = most.saturating_sub(least).saturating_add(1);
                Some(self.chance.milliseconds("run", index, (least, spread)))
            }
        }
    }

    /// The key of a pod.
    pub(super) fn key(&self, id: PodId) -> Option<PodKey> {
        let record = self.pods.records.get(id)?;
        let load = self.scenario.loads.get(record.load)?;
        Some(key_of(record.load, load, record.ordinal, record.attempt))
    }

    /// A pod's process ends well.
    pub(super) fn end(&mut self, id: PodId) {
        if !self.is_on_node(id) {
            return;
        }
        self.take_off(id);
        self.tally.figures.completed += 1;
        let next = self.pods.records.get(id).and_then(|record| {
            let load = self.scenario.loads.get(record.load)?;
            let started = load.first_wave();
            let done = self.waves.entry(record.load).or_insert(started);
            let next = *done;
            *done += 1;
            (next < load.count).then_some((record.load, next))
        });
        if let Some((load, ordinal)) = next {
            self.make(load, ordinal, 0);
        }
    }

    fn is_on_node(&self, id: PodId) -> bool {
        let record = self.pods.records.get(id);
        record.is_some_and(|record| matches!(record.stage, Stage::On { .. }))
    }

    /// Takes a pod off its node; gives back for how many milliseconds it had run.
    fn take_off(&mut self, id: PodId) -> i64 {
        let Some(key) = self.key(id) else { return 0 };
        let class = self.pods.records.get(id).map_or(0, |record| record.class);
        let Stage::On { node, starts } = self.pods.end(id, &key, &mut self.snapshot) else {
            return 0;
        };
        if let Some(spec) = self.pods.spec(class) {
            self.tally.unbinds(&spec.requests);
            if let Some(place) = self.places.get_mut(&node) {
                place.free.add(&spec.requests);
                place.pods.remove(&id);
                self.look_at_empties |= place.pods.is_empty();
            }
        }
        self.demand.change(self.now, class, false);
        self.dirty.insert(node);
        (self.now - starts).max(0)
    }

    /// Evicts the pods of a machine; gives back how many are protected and stay.
    pub(super) fn evict_all(&mut self, id: MachineId, forced: bool) -> usize {
        let Some(machine) = self.machines.get(id) else {
            return 0;
        };
        let Some(place) = self.places.get(&machine.node) else {
            return 0;
        };
        let mut protected = 0;
        for pod in place.pods.clone() {
            let load = self.pods.records.get(pod).map(|record| record.load);
            let load = load.and_then(|load| self.scenario.loads.get(load));
            let Some(load) = load else { continue };
            if !forced && load.do_not_disrupt != DoNotDisrupt::No {
                protected += 1;
                continue;
            }
            let ran = self.take_off(pod);
            // A service makes no headway that could be lost.
            if load.run != Run::ToTheEnd {
                self.tally.figures.lost_pod_seconds += ran.div_euclid(1_000);
            }
            if load.owner.is_some() {
                self.tally.figures.evictions += 1;
                self.agenda.plan(self.now + RECREATED, Event::Succeed(pod));
            } else {
                self.tally.figures.lost_pods += 1;
            }
        }
        protected
    }

    /// The simulated time is over: services end.
    pub(super) fn close(&mut self) {
        self.unserved = self.never_placed(|engine, id| engine.run_of(id).is_none());
        let services: Vec<PodId> = (0..self.pods.records.len())
            .filter(|id| {
                self.pods
                    .records
                    .get(*id)
                    .is_some_and(|pod| pod.stage != Stage::Over)
            })
            .filter(|id| self.run_of(*id).is_none())
            .collect();
        for id in services {
            if self.is_on_node(id) {
                self.take_off(id);
                self.tally.figures.completed += 1;
            } else if let Some(key) = self.key(id) {
                self.pods.end(id, &key, &mut self.snapshot);
                self.tally.leaves();
            }
        }
    }
}
