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
use crate::plan::pack::{self, Bits, Budget};

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

/// Tries of one problem at several prices.
struct Tries<'round> {
    market: &'round Market<'round>,
    scarce: &'round Scarce<'round>,
    problem: Problem,
    /// Machines that an item may use and whose pool limits its nodes, with their own prices.
    counted: Vec<(usize, i64)>,
    truncated: bool,
}

impl Market<'_> {
    /// Nodes in the order in which limits are to be held against them, and whether the wall-clock guard
    /// ended a search early.
    pub(super) fn scarce(&self, problem: Problem, scarce: &Scarce<'_>) -> (Vec<Bought>, bool) {
        let mut usable = Bits::empty(self.supply.candidates.len());
        for item in &problem.items {
            usable.add_all(&item.allowed);
        }
        let counted = usable
            .iter()
            .filter(|index| scarce.rooms.counts(self.supply, *index, NODES))
            .filter_map(|index| Some((index, problem.machines.get(index)?.price)))
            .collect();
        let mut tries = Tries {
            market: self,
            scarce,
            problem,
            counted,
            truncated: false,
        };
        (tries.run(), tries.truncated)
    }
}

impl Tries<'_> {
    fn run(&mut self) -> Vec<Bought> {
        let cheapest = self.at_price(0);
        let prices = || self.counted.iter().map(|(_machine, price)| *price);
        let (Some(least), Some(most)) = (prices().min(), prices().max()) else {
            return cheapest;
        };
        if self.fits(&cheapest) {
            return cheapest;
        }
        let mut low = 0;
        let mut fee = (least / 2).max(1);
        let mut largest = cheapest;
        while fee <= most.saturating_mul(STEP) {
            let nodes = self.at_price(fee);
            if self.fits(&nodes) {
                return self.refined((low, fee), nodes);
            }
            largest = nodes;
            low = fee;
            fee = fee.saturating_mul(STEP);
        }
        largest.sort_by_key(|node| std::cmp::Reverse(self.pods_on(node)));
        largest
    }

    /// A cheaper fleet that still fits, from a price between one that was too low and one that is not.
    fn refined(&mut self, (mut low, mut high): (i64, i64), mut best: Vec<Bought>) -> Vec<Bought> {
        for _ in 0..REFINEMENTS {
            let middle = low + (high - low) / 2;
            let nodes = self.at_price(middle);
            if !self.fits(&nodes) {
                low = middle;
                continue;
            }
            high = middle;
            if self.price(&nodes) < self.price(&best) {
                best = nodes;
            }
        }
        best
    }

    /// The fleet when each node of a pool that limits its nodes costs so much more.
    fn at_price(&mut self, fee: i64) -> Vec<Bought> {
        for (index, price) in &self.counted {
            if let Some(machine) = self.problem.machines.get_mut(*index) {
                machine.price = price.saturating_add(fee);
            }
        }
        let budget = Budget {
            units: self.scarce.units,
        };
        let solution = pack::solve_guarded(&self.problem, budget, self.market.over);
        self.truncated |= solution.truncated;
        let machines = &solution.packing.machines;
        expand(machines, self.scarce.ranked, self.scarce.level)
    }

    fn fits(&self, nodes: &[Bought]) -> bool {
        charged(self.scarce.rooms, self.market.supply, nodes).is_some()
    }

    /// What nodes are compared by, without any price for being there.
    fn price(&self, nodes: &[Bought]) -> i64 {
        let candidates = &self.market.supply.candidates;
        let known = nodes
            .iter()
            .filter_map(|node| candidates.get(node.candidate));
        known.fold(0, |sum, candidate| {
            sum.saturating_add(candidate.weighed().units())
        })
    }

    fn pods_on(&self, node: &Bought) -> u64 {
        let pods = node.contents.iter().filter_map(|(index, count)| {
            let item = self.market.items.get(*index)?;
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
