//! kube-scheduler's part: which waiting pod goes onto which node.
//!
//! Pods are looked at by priority, then age. Pods that ask for the same are one class: when the first of a
//! class fits nowhere none of it does, and what did not fit before can only fit where something changed.
//! Preemption is not played.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::agenda::{Event, MachineId, PodId};
use super::engine::Engine;
use super::places::ports_agree;
use super::pods::Stage;
use crate::model::node::Node;
use crate::model::pod::Pod;
use crate::sim::cluster::kubelet::POD_START;
use crate::sim::cluster::topology::Placed;

impl Engine<'_> {
    /// Binds what was planned onto a machine whose Node is ready.
    pub(super) fn bind_expected(&mut self, machine: MachineId) {
        let Some((claim, node)) = self
            .machines
            .get(machine)
            .map(|machine| (machine.claim.clone(), Arc::clone(&machine.node)))
        else {
            return;
        };
        for key in self.standing.onto.get(&claim).cloned().unwrap_or_default() {
            let Some(id) = self.pods.id(&key).filter(|id| self.pods.is_waiting(*id)) else {
                continue;
            };
            if self.may_be_on(id, &node) {
                self.bind(id, &node);
            }
        }
    }

    /// Looks at the waiting pods once.
    pub(super) fn schedule(&mut self) {
        let dirty = std::mem::take(&mut self.dirty);
        let fresh = std::mem::take(&mut self.fresh);
        if dirty.is_empty() && fresh.is_empty() {
            return;
        }
        let mut failed: BTreeSet<usize> = BTreeSet::new();
        while let Some((class, id)) = self.first_waiting(&failed) {
            let social = self
                .pods
                .classes
                .get(class)
                .is_some_and(|class| class.social);
            let everywhere = social || fresh.contains(&class);
            match self.best(id, class, (!everywhere).then_some(&dirty)) {
                Some(node) => self.bind(id, &node),
                None => {
                    failed.insert(class);
                }
            }
        }
        let unplanned = fresh
            .iter()
            .any(|class| self.pods.waiting.contains_key(class));
        if unplanned {
            self.wait_for_more();
        }
    }

    /// The first pod of the most urgent class that has not failed.
    fn first_waiting(&self, failed: &BTreeSet<usize>) -> Option<(usize, PodId)> {
        let heads = self.pods.waiting.iter().filter_map(|(class, queue)| {
            let (arrived, id) = *queue.first()?;
            let priority = self.pods.spec(*class).map_or(0, |spec| spec.priority);
            Some((std::cmp::Reverse(priority), arrived, id, *class))
        });
        heads
            .filter(|(_priority, _arrived, _id, class)| !failed.contains(class))
            .min()
            .map(|(_priority, _arrived, id, class)| (class, id))
    }

    /// The emptiest node that takes a pod, among some or all.
    fn best(
        &self,
        id: PodId,
        class: usize,
        among: Option<&BTreeSet<Arc<str>>>,
    ) -> Option<Arc<str>> {
        let spec = self.pods.spec(class)?;
        let mut takers: Vec<(i64, &Arc<str>)> = Vec::new();
        let some = among.into_iter().flatten();
        let some = some.filter_map(|name| self.places.get_key_value(name));
        let all = self.places.iter().filter(|_place| among.is_none());
        for (name, place) in some.chain(all) {
            if place.takes((class, spec), || self.node(name), &self.snapshot) {
                takers.push((place.emptiness(spec), name));
            }
        }
        // The emptiest first, then by name.
        takers.sort_by_key(|(empty, name)| (std::cmp::Reverse(*empty), *name));
        takers
            .into_iter()
            .map(|(_empty, name)| name)
            .find(|name| self.gets_along(id, class, name))
            .cloned()
    }

    fn node(&self, name: &str) -> Option<&Arc<Node>> {
        self.snapshot.nodes.get(name)
    }

    fn may_be_on(&self, id: PodId, name: &Arc<str>) -> bool {
        let class = self.pods.records.get(id).map_or(0, |record| record.class);
        let (Some(place), Some(spec)) = (self.places.get(name), self.pods.spec(class)) else {
            return false;
        };
        place.takes((class, spec), || self.node(name), &self.snapshot)
            && self.gets_along(id, class, name)
    }

    /// True when neither the pod nor those that are there mind each other.
    fn gets_along(&self, id: PodId, class: usize, name: &Arc<str>) -> bool {
        let social = self
            .pods
            .classes
            .get(class)
            .is_some_and(|class| class.social);
        if !social && self.pods.guards.is_empty() {
            return true;
        }
        let (Some(node), Some(pod)) = (self.node(name), self.pod(id)) else {
            return false;
        };
        let there = |id: &PodId| {
            let pod = self.pod(*id)?;
            let node = pod.node_name.clone()?;
            Some((Arc::clone(pod), node))
        };
        let pods = if social {
            let all = self.places.values().flat_map(|place| &place.pods);
            all.filter_map(there).collect()
        } else {
            self.pods.guards.iter().filter_map(there).collect()
        };
        let placed = Placed {
            nodes: &self.snapshot.nodes,
            pods,
        };
        let neighbours = self
            .places
            .get(name)
            .into_iter()
            .flat_map(|place| &place.pods);
        placed.allows(pod, node)
            && neighbours
                .filter_map(|id| self.pod(*id))
                .all(|other| ports_agree(&pod.spec, &other.spec))
    }

    fn pod(&self, id: PodId) -> Option<&Arc<Pod>> {
        self.snapshot.pods.get(&self.key(id)?)
    }

    /// Binds a pod to a node.
    fn bind(&mut self, id: PodId, node: &Arc<str>) {
        let Some(key) = self.key(id) else { return };
        let Some(record) = self.pods.records.get(id) else {
            return;
        };
        let (class, arrived) = (record.class, record.arrived);
        if record.stage != Stage::Waiting {
            return;
        }
        let index = u64::try_from(id).unwrap_or(0);
        let starts = self.now + self.chance.milliseconds("pod", index, POD_START);
        let starts_at = self.at(starts);
        self.pods
            .bind((id, &key), node, (starts, starts_at), &mut self.snapshot);
        if let (Some(place), Some(spec)) = (self.places.get_mut(node), self.pods.spec(class)) {
            place.free.subtract(&spec.requests);
            self.look_at_empties |= place.pods.is_empty();
            place.pods.insert(id);
            self.tally.binds(&spec.requests, starts - arrived);
        }
        self.demand.change(self.now, class, true);
        if let Some(run) = self.run_of(id) {
            self.agenda.plan(starts + run, Event::End(id));
        }
    }
}
