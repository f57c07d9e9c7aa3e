//! Machines in capacity reservations: they are paid for already, so they are filled first.
//!
//! Given items, candidates and free slots; given back nodes in reservations, at most as many as there
//! are slots, within the limits. Pods that nothing else could hold come first; of the slots always the
//! one that is best used next. How many machines there are is bounded here, which the packer does not
//! know, so it is not asked.

use std::cmp::Reverse;

use super::buy::{Bought, Market};
use super::limits::Rooms;
use super::slots::Slots;
use super::supply::{Candidate, Supply};
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

impl Market<'_> {
    /// Nodes in reservations for items of one level. What they hold is taken off `left`, their slots off
    /// `slots`, and the limits are charged.
    pub(super) fn take_slots(
        &self,
        level: usize,
        slots: &mut Slots,
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
                    self.free_slots(slots, *index) > 0 && rooms.allow(self.supply, *index)
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
        slots: &mut Slots,
        rooms: &mut Rooms,
        left: &mut [u32],
        nodes: &mut Vec<Bought>,
    ) {
        let enough = |left: &[u32]| {
            let mut contents = filled.contents.iter();
            contents.all(|(item, count)| left.get(*item).is_some_and(|left| left >= count))
        };
        while enough(left) && rooms.allow(self.supply, filled.candidate) {
            let slot = self.reservation_of(filled.candidate);
            let Some(free) = slot
                .and_then(|id| slots.get_mut(id))
                .filter(|free| **free > 0)
            else {
                return;
            };
            *free -= 1;
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
            });
        }
    }

    fn reservation_of(&self, candidate: usize) -> Option<&str> {
        let slot = self.supply.candidates.get(candidate)?.slot.as_ref()?;
        Some(&slot.reservation.id)
    }

    fn free_slots(&self, slots: &Slots, candidate: usize) -> u32 {
        let id = self.reservation_of(candidate);
        id.and_then(|id| slots.get(id)).copied().unwrap_or(0)
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
