//! Fewer and larger machines, where a limit on the number of nodes binds.
//!
//! Given a problem whose cheapest fleet has more nodes than a NodePool may have; given back the cheapest
//! fleet found that keeps to the limits, or else the one that takes most pods first. Such a pool's nodes
//! are given a price for being there at all, which rises until few enough are left: what a node costs
//! when nodes are scarce. Nobody pays it, and it is part of no price that is shown.

use super::buy::{Bought, Market, charged, expand};
use super::limits::Rooms;
use crate::model::resources::NODES;
use crate::plan::pack::problem::Problem;
use crate::plan::pack::{self, Budget};

/// How much dearer a node becomes from try to try: larger steps overshoot, smaller ones take long.
const STEP: i64 = 4;
/// How often the price is halved towards the last one that was too low.
const REFINEMENTS: u32 = 2;

/// One rank of items on one level, to be bought within the limits.
#[derive(Debug)]
pub(super) struct Scarce<'round> {
    /// The items by their place in the problem.
    pub(super) ranked: &'round [usize],
    /// The level that they are bought on.
    pub(super) level: usize,
    /// What the limits leave.
    pub(super) rooms: &'round Rooms,
    /// Units of work of each try.
    pub(super) units: u64,
}

impl Market<'_> {
    /// Nodes in the order in which limits are to be held against them.
    pub(super) fn scarce(&self, problem: &Problem, scarce: &Scarce<'_>) -> Vec<Bought> {
        let cheapest = self.at_price(problem, 0, scarce);
        let counted: Vec<usize> = (0..self.supply.candidates.len())
            .filter(|candidate| scarce.rooms.counts(self.supply, *candidate, NODES))
            .collect();
        let fits = |nodes: &[Bought]| charged(scarce.rooms, self.supply, nodes).is_some();
        let prices = || {
            let machines = &problem.machines;
            let known = counted.iter().filter_map(|index| machines.get(*index));
            known.map(|machine| machine.price)
        };
        let (Some(least), Some(most)) = (prices().min(), prices().max()) else {
            return cheapest;
        };
        if fits(&cheapest) {
            return cheapest;
        }
        let mut low = 0;
        let mut fee = (least / 2).max(1);
        let mut largest = cheapest;
        while fee <= most.saturating_mul(STEP) {
            let nodes = self.at_price(problem, fee, scarce);
            if fits(&nodes) {
                return self.refined(problem, scarce, (low, fee), nodes);
            }
            largest = nodes;
            low = fee;
            fee = fee.saturating_mul(STEP);
        }
        largest.sort_by_key(|node| std::cmp::Reverse(self.pods_on(node)));
        largest
    }

    /// A cheaper fleet that still fits, from a price between one that was too low and one that is not.
    fn refined(
        &self,
        problem: &Problem,
        scarce: &Scarce<'_>,
        (mut low, mut high): (i64, i64),
        mut best: Vec<Bought>,
    ) -> Vec<Bought> {
        let price = |nodes: &[Bought]| -> i64 {
            let machines = nodes
                .iter()
                .filter_map(|node| problem.machines.get(node.candidate));
            machines.fold(0, |sum, machine| sum.saturating_add(machine.price))
        };
        for _ in 0..REFINEMENTS {
            let middle = low + (high - low) / 2;
            let nodes = self.at_price(problem, middle, scarce);
            if charged(scarce.rooms, self.supply, &nodes).is_none() {
                low = middle;
                continue;
            }
            high = middle;
            if price(&nodes) < price(&best) {
                best = nodes;
            }
        }
        best
    }

    /// The fleet when each node of a pool that limits its nodes costs so much more.
    fn at_price(&self, problem: &Problem, fee: i64, scarce: &Scarce<'_>) -> Vec<Bought> {
        let mut problem = problem.clone();
        if fee > 0 {
            for (index, machine) in problem.machines.iter_mut().enumerate() {
                if scarce.rooms.counts(self.supply, index, NODES) {
                    machine.price = machine.price.saturating_add(fee);
                }
            }
        }
        let budget = Budget {
            units: scarce.units,
        };
        let solution = pack::solve_guarded(&problem, budget, self.over);
        expand(&solution.packing.machines, scarce.ranked, scarce.level)
    }

    fn pods_on(&self, node: &Bought) -> u64 {
        let pods = node.contents.iter().filter_map(|(index, count)| {
            let item = self.items.get(*index)?;
            let each: u64 = item
                .content
                .iter()
                .map(|(_class, each)| u64::from(*each))
                .sum();
            Some(each.saturating_mul(u64::from(*count)))
        });
        pods.fold(0, u64::saturating_add)
    }
}
