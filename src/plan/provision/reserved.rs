//! Machines in capacity reservations: they are paid for already, so they are filled first.
//!
//! Given items, candidates and free slots; given back nodes in reservations, at most as many as there
//! are slots, within the limits. Pods that nothing else could hold come first; of the slots always the
//! one that is best used next. How many machines there are is bounded here, which the packer does not
//! know, so it is not asked.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::buy::{Bought, Market, Purchase};
use super::limits::Rooms;
use super::slots::Slots;
use super::supply::{Candidate, Supply};
use crate::model::resources::NODES;
use crate::plan::pack::Bits;
use crate::plan::pack::problem::{Loads, take, times_into};

/// A whole, in millionths.
const WHOLE: i128 = 1_000_000;

/// An item in its turn.
#[derive(Debug, Clone, Copy)]
struct Turn {
    item: usize,
    /// What one costs elsewhere, in money units; `None` where nothing else that is sold holds it.
    elsewhere: Option<i128>,
}

/// A slot with what would be put into it.
#[derive(Debug, Clone)]
struct Filled {
    candidate: usize,
    level: usize,
    contents: Vec<(usize, u32)>,
    /// Some of it has no other place.
    needed: bool,
    /// What its contents would cost elsewhere, in millionths of what such a machine costs.
    use_of_it: i128,
}

/// The candidates that are sold for money, one after the other without end; the rest are slots.
pub(super) fn sold(supply: &Supply) -> Bits {
    let is_sold = |candidate: &Candidate| candidate.slot.is_none();
    Bits::of(supply.candidates.len(), |index| {
        supply.candidates.get(index).is_some_and(is_sold)
    })
}

/// The slots that are free.
#[derive(Debug)]
pub(super) struct Free {
    slots: Slots,
    /// How many of them pools may take that limit the number of their nodes.
    limited: u32,
}

impl Free {
    /// All slots of a supply, of which pools that limit their nodes may take so many.
    pub(super) fn of(supply: &Supply, limited: u32) -> Self {
        Self {
            slots: supply.slots.clone(),
            limited,
        }
    }
}

impl Market<'_> {
    /// How many of the nodes are in slots and count against a limit on nodes.
    pub(super) fn slots_of_limited_pools(&self, purchase: &Purchase, rooms: &Rooms) -> u32 {
        let counts = |node: &&Bought| {
            self.reservation_of(node.candidate).is_some()
                && rooms.counts(self.supply, node.candidate, NODES)
        };
        u32::try_from(purchase.nodes.iter().filter(counts).count()).unwrap_or(u32::MAX)
    }

    /// How many pods are left of each priority that there is, the highest first. Of two such lists the lesser one
    /// is the better plan.
    pub(super) fn waiting(&self, left: &[u32]) -> Vec<u64> {
        let mut waiting: BTreeMap<Reverse<i32>, u64> = BTreeMap::new();
        for (item, left) in self.items.iter().zip(left) {
            let each: u64 = item
                .content
                .iter()
                .map(|(_class, each)| u64::from(*each))
                .sum();
            let sum = waiting.entry(Reverse(item.priority)).or_default();
            *sum = sum.saturating_add(each.saturating_mul(u64::from(*left)));
        }
        waiting.into_values().collect()
    }

    /// Nodes in reservations for items of one level. What they hold is taken off `left`, their slots off
    /// `slots`, and the limits are charged.
    pub(super) fn take_slots(
        &self,
        level: usize,
        slots: &mut Free,
        rooms: &mut Rooms,
        left: &mut [u32],
    ) -> Vec<Bought> {
        let mut nodes = Vec::new();
        let candidates = self.slots_of_level(level, left);
        if candidates.is_empty() {
            return nodes;
        }
        let turns = self.turns(level, &candidates);
        loop {
            let filled = candidates
                .iter()
                .copied()
                .filter(|index| {
                    self.free_slots(slots, rooms, *index) > 0 && rooms.allow(self.supply, *index)
                })
                .filter_map(|index| self.filled(index, level, &turns, left));
            let best = filled
                .max_by_key(|filled| (filled.needed, filled.use_of_it, Reverse(filled.candidate)));
            let Some(best) = best else {
                return nodes;
            };
            self.settle_slots(&best, slots, rooms, left, &mut nodes);
        }
    }

    /// Puts the same contents into as many slots as there are, as long as there are enough of them.
    fn settle_slots(
        &self,
        filled: &Filled,
        slots: &mut Free,
        rooms: &mut Rooms,
        left: &mut [u32],
        nodes: &mut Vec<Bought>,
    ) {
        let enough = |left: &[u32]| {
            let mut contents = filled.contents.iter();
            contents.all(|(item, count)| left.get(*item).is_some_and(|left| left >= count))
        };
        let is_limited = rooms.counts(self.supply, filled.candidate, NODES);
        while enough(left) && rooms.allow(self.supply, filled.candidate) {
            if self.free_slots(slots, rooms, filled.candidate) == 0 {
                return;
            }
            let slot = self.reservation_of(filled.candidate);
            if let Some(free) = slot.and_then(|id| slots.slots.get_mut(id)) {
                *free = free.saturating_sub(1);
            }
            if is_limited {
                slots.limited = slots.limited.saturating_sub(1);
            }
            rooms.charge(self.supply, filled.candidate);
            for (item, count) in &filled.contents {
                if let Some(left) = left.get_mut(*item) {
                    *left = left.saturating_sub(*count);
                }
            }
            nodes.push(Bought {
                candidate: filled.candidate,
                level: filled.level,
                contents: filled.contents.clone(),
                places: Vec::new(),
            });
        }
    }

    fn reservation_of(&self, candidate: usize) -> Option<&str> {
        let slot = self.supply.candidates.get(candidate)?.slot.as_ref()?;
        Some(&slot.reservation.id)
    }

    fn free_slots(&self, slots: &Free, rooms: &Rooms, candidate: usize) -> u32 {
        let id = self.reservation_of(candidate);
        let free = id.and_then(|id| slots.slots.get(id)).copied().unwrap_or(0);
        if rooms.counts(self.supply, candidate, NODES) {
            free.min(slots.limited)
        } else {
            free
        }
    }

    /// The slots that some item may use that is left.
    fn slots_of_level(&self, level: usize, left: &[u32]) -> Vec<usize> {
        let mut wanted = Bits::empty(self.supply.candidates.len());
        for (item, left) in self.items.iter().zip(left) {
            if let (Some(allowed), 1..) = (item.levels.get(level), *left) {
                wanted.add_all(allowed);
            }
        }
        let is_slot = |index: &usize| {
            let candidate = self.supply.candidates.get(*index);
            candidate.is_some_and(|candidate| candidate.slot.is_some())
        };
        wanted.iter().filter(is_slot).collect()
    }

    /// The items that may use any of these slots, in the order in which they are put into them: by
    /// priority, then what has no other place, then what costs most elsewhere.
    fn turns(&self, level: usize, slots: &[usize]) -> Vec<Turn> {
        let mut turns: Vec<Turn> = self
            .items
            .iter()
            .enumerate()
            .filter_map(|(item, of)| {
                let allowed = of.levels.get(level)?;
                let may = slots.iter().any(|slot| allowed.contains(*slot));
                may.then(|| Turn {
                    item,
                    elsewhere: self.elsewhere(item, &allowed.and(self.sold)),
                })
            })
            .collect();
        turns.sort_by_key(|turn| {
            let priority = self.items.get(turn.item).map_or(0, |item| item.priority);
            let cost = turn.elsewhere.unwrap_or(i128::MAX);
            (Reverse(priority), Reverse(cost), turn.item)
        });
        turns
    }

    /// What the share of a machine that one of an item takes costs where that is cheapest.
    fn elsewhere(&self, item: usize, sold: &Bits) -> Option<i128> {
        let share = |index: usize| {
            let price = self.supply.candidates.get(index)?.weighed().units();
            Some(self.share(item, index)? * i128::from(price) / WHOLE)
        };
        sold.iter().filter_map(share).min()
    }

    /// How much of a candidate one of an item takes, by what it takes most of, in millionths.
    fn share(&self, item: usize, candidate: usize) -> Option<i128> {
        let size = &self.items.get(item)?.size;
        let capacity = self.capacities.get(candidate)?;
        let shares = size.iter().zip(capacity).map(|(size, capacity)| {
            i128::from((*size).max(0)) * WHOLE / i128::from((*capacity).max(1))
        });
        Some(shares.max().unwrap_or(0))
    }

    /// What would be put into one more machine of a slot; `None` when that is nothing.
    fn filled(
        &self,
        candidate: usize,
        level: usize,
        turns: &[Turn],
        left: &[u32],
    ) -> Option<Filled> {
        let mut free = self.capacities.get(candidate)?.clone();
        let slot = self.supply.candidates.get(candidate)?.slot.as_ref()?;
        let whole = i128::from(slot.instead.units()).max(1);
        let mut loads = Loads::default();
        let mut filled = Filled {
            candidate,
            level,
            contents: Vec::new(),
            needed: false,
            use_of_it: 0,
        };
        for turn in turns {
            let (Some(item), Some(left)) = (self.items.get(turn.item), left.get(turn.item)) else {
                continue;
            };
            let allowed = item.levels.get(level);
            if !allowed.is_some_and(|allowed| allowed.contains(candidate)) {
                continue;
            }
            let count = times_into(&item.size, &free, *left).min(loads.room(&item.relations));
            if count == 0 {
                continue;
            }
            take(&mut free, &item.size, count);
            loads.add(&item.relations, count);
            let share = self.share(turn.item, candidate).unwrap_or(0);
            let each = turn.elsewhere.map_or(share, |cost| cost * WHOLE / whole);
            filled.use_of_it += each * i128::from(count);
            filled.needed |= turn.elsewhere.is_none();
            filled.contents.push((turn.item, count));
        }
        (!filled.contents.is_empty()).then_some(filled)
    }
}
