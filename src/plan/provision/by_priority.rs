//! Buying when limits bind: who goes first.
//!
//! Given items that the limits do not leave room for together; given back nodes within the limits, those of the
//! highest priority first. That holds within a level, and, where somebody has to wait, over all levels: what
//! limits leave goes to the important pods on whatever level they can use it, before others have it on a
//! level that they like better.

use std::cmp::Reverse;

use super::buy::{Bought, Market, Purchase, charged, settle};
use super::fewer::Scarce;
use super::limits::Rooms;
use super::reserved::Free;
use crate::plan::pack::Bits;
use crate::plan::pack::problem::{Loads, take, times_into};

/// Part of the budget, in percent, that goes to solving again when limits bind, each time.
const AGAIN_PERCENT: u64 = 5;

impl Market<'_> {
    /// The priorities of the items, the highest first.
    pub(super) fn priorities(&self) -> Vec<i32> {
        let mut priorities: Vec<i32> = self.items.iter().map(|item| item.priority).collect();
        priorities.sort_unstable_by_key(|priority| Reverse(*priority));
        priorities.dedup();
        priorities
    }

    /// Buys priority by priority, each through all its levels.
    pub(super) fn by_priority(
        &self,
        most_slots: u32,
        rooms: &mut Rooms,
        left: &mut [u32],
    ) -> Purchase {
        let mut purchase = Purchase::none(self);
        let mut slots = Free::of(self.supply, most_slots);
        for rank in self.priorities() {
            let of_rank = |index: &usize| {
                let item = self.items.get(*index);
                item.is_some_and(|item| item.priority == rank)
            };
            let ranked: Vec<usize> = (0..self.items.len()).filter(of_rank).collect();
            for level in 0..self.deepest() {
                let mut own = vec![0; left.len()];
                copy(&ranked, left, &mut own);
                let reserved = self.take_slots(level, &mut slots, rooms, &mut own);
                purchase.nodes.extend(reserved);
                copy(&ranked, &own, left);
                let wanted = self.wanted(&ranked, level, left);
                if !wanted.is_empty() {
                    let state = (&mut *rooms, &mut *left);
                    self.rank_within_limits(&wanted, level, state, &mut purchase, None);
                }
            }
        }
        if self.proves {
            for level in 0..self.deepest() {
                let is_of_level =
                    |node: &&Bought| node.level == level && self.sold.contains(node.candidate);
                let bought = purchase.nodes.iter().filter(is_of_level);
                let bought: Vec<Bought> = bought.cloned().collect();
                purchase.proofs.extend(self.prove(&bought, level));
            }
        }
        purchase
    }

    /// Limits bind: everything within them if fewer and larger nodes do it, else the highest priority
    /// first, node by node, each item of lower priority also into the room that is left on nodes bought
    /// before it.
    pub(super) fn within_limits(
        &self,
        wanted: &[usize],
        level: usize,
        rooms: &mut Rooms,
        left: &mut [u32],
        purchase: &mut Purchase,
    ) {
        let everything = self.ask(wanted, level, rooms, left, purchase);
        if let Some(after) = charged(rooms, self.supply, &everything) {
            // What is left is taken by no machine within the limits.
            *rooms = after;
            settle(&everything, left);
            purchase.nodes.extend(everything);
            return;
        }
        let priority = |index: &usize| self.items.get(*index).map_or(0, |item| item.priority);
        let mut priorities: Vec<i32> = wanted.iter().map(priority).collect();
        priorities.sort_unstable();
        priorities.dedup();
        // With one priority the first question below was just answered.
        let mut answered = (priorities.len() == 1).then_some(everything);
        for rank in priorities.into_iter().rev() {
            let ranked: Vec<usize> = wanted
                .iter()
                .copied()
                .filter(|index| priority(index) == rank)
                .collect();
            let answered = answered.take();
            self.rank_within_limits(
                &ranked,
                level,
                (&mut *rooms, &mut *left),
                purchase,
                answered,
            );
        }
    }

    /// Buys for items of one priority on one level what the limits allow. `answered` are nodes for them that were
    /// asked for already.
    fn rank_within_limits(
        &self,
        ranked: &[usize],
        level: usize,
        (rooms, left): (&mut Rooms, &mut [u32]),
        purchase: &mut Purchase,
        mut answered: Option<Vec<Bought>>,
    ) {
        self.top_up(ranked, level, left, &mut purchase.nodes);
        loop {
            let mut accepted = Vec::new();
            let asked = answered
                .take()
                .unwrap_or_else(|| self.ask(ranked, level, rooms, left, purchase));
            for node in asked {
                if rooms.allow(self.supply, node.candidate) {
                    rooms.charge(self.supply, node.candidate);
                    accepted.push(node);
                }
            }
            if accepted.is_empty() {
                break;
            }
            settle(&accepted, left);
            purchase.nodes.extend(accepted);
        }
        // What was meant for nodes beyond the limit may fit beside what was bought.
        self.top_up(ranked, level, left, &mut purchase.nodes);
    }

    /// Nodes for these items of what the limits leave, in the order in which to hold them against the
    /// limits.
    fn ask(
        &self,
        ranked: &[usize],
        level: usize,
        rooms: &Rooms,
        left: &[u32],
        purchase: &mut Purchase,
    ) -> Vec<Bought> {
        let mut problem = self.problem(ranked, level, left);
        for (item, index) in problem.items.iter_mut().zip(ranked) {
            let limited = purchase.limited.get_mut(*index);
            self.keep_affordable(&mut item.allowed, rooms, limited);
        }
        let units = self.budget / 100 * AGAIN_PERCENT;
        let scarce = Scarce {
            ranked,
            level,
            rooms,
            units,
        };
        let (nodes, truncated) = self.scarce(problem, &scarce);
        purchase.truncated |= truncated;
        nodes
    }

    /// Drops the candidates that exceed a limit by themselves, and notes them.
    fn keep_affordable(&self, allowed: &mut Bits, rooms: &Rooms, limited: Option<&mut Bits>) {
        let mut kept_out = Bits::empty(self.supply.candidates.len());
        for candidate in allowed.clone().iter() {
            if !rooms.allow(self.supply, candidate) {
                allowed.remove(candidate);
                kept_out.insert(candidate);
            }
        }
        if let Some(limited) = limited {
            limited.add_all(&kept_out);
        }
    }

    /// Puts what is left of these items into the room on nodes that are bought already.
    fn top_up(&self, ranked: &[usize], level: usize, left: &mut [u32], nodes: &mut [Bought]) {
        for node in nodes.iter_mut().filter(|node| node.level == level) {
            let Some(mut free) = self.capacities.get(node.candidate).cloned() else {
                continue;
            };
            let mut loads = Loads::default();
            for (index, count) in &node.contents {
                if let Some(item) = self.items.get(*index) {
                    take(&mut free, &item.size, *count);
                    loads.add(&item.relations, *count);
                }
            }
            for index in ranked {
                let (Some(item), Some(left)) = (self.items.get(*index), left.get_mut(*index))
                else {
                    continue;
                };
                if !item
                    .levels
                    .get(level)
                    .is_some_and(|allowed| allowed.contains(node.candidate))
                {
                    continue;
                }
                let count = times_into(&item.size, &free, *left).min(loads.room(&item.relations));
                if count > 0 {
                    take(&mut free, &item.size, count);
                    loads.add(&item.relations, count);
                    node.contents.push((*index, count));
                    *left -= count;
                }
            }
        }
    }
}

/// Copies the amounts of some items.
fn copy(items: &[usize], from: &[u32], to: &mut [u32]) {
    for index in items {
        if let (Some(from), Some(to)) = (from.get(*index), to.get_mut(*index)) {
            *to = *from;
        }
    }
}
