//! Proof that no content of a machine is worth more than the machine.
//!
//! Given prices of items and of a machine's capacities, and a limit; given back success, a content
//! that is worth more than the limit, or that the search did not end. Integers only, nothing of the
//! solver is used.
//!
//! A content of a machine with capacities `c`, whose capacities are said to be worth `w`, is worth
//! at most `sum of w` plus, for each item priced above its share `w·s/c`, that excess times the
//! most of it that a machine can hold. Where this does not suffice, all contents that fit and that
//! the caps of groups allow are searched, with the same bound for what is still free.

use std::collections::BTreeMap;

use super::problem::{Item, Machine, Problem};
use super::verify::Fault;

/// Steps that a proof may take before it is given up: some seconds of work.
pub const MOST_STEPS: u64 = 50_000_000;

/// How many of an item, at least zero, one machine can hold at most; `None` when it may not be
/// there.
pub fn most_on(problem: &Problem, item: &Item, machine: usize) -> Option<u32> {
    if !item.allowed.contains(machine) {
        return None;
    }
    let found = problem.machines.get(machine)?;
    let by_size = item
        .size
        .iter()
        .zip(&found.capacity)
        .filter(|(size, _capacity)| **size > 0)
        .map(|(size, capacity)| u32::try_from((*capacity).max(0) / size).unwrap_or(u32::MAX))
        .min()
        .unwrap_or(u32::MAX);
    // An item that only looks at a group (weight 0) and caps it is not limited by itself.
    let by_cap = item
        .relations
        .iter()
        .filter_map(|relation| relation.cap?.checked_div(relation.weight))
        .min()
        .unwrap_or(u32::MAX);
    Some(by_size.min(by_cap).min(item.count))
}

struct Candidate<'problem> {
    item: &'problem Item,
    price: i128,
    /// Price above the worth of the capacity it takes.
    excess: i128,
    /// Worth of the capacity it takes above its price.
    loss: i128,
    most: u32,
}

/// Succeeds when no content of the machine, the empty one included, is worth more than `limit`.
///
/// # Errors
/// [`Fault::Overvalued`] with a content found, [`Fault::Undecided`] when `steps` ran out.
pub fn no_content_is_worth_more(
    problem: &Problem,
    index: usize,
    prices: &[i64],
    worth: &[i64],
    limit: i128,
    steps: &mut u64,
) -> Result<(), Fault> {
    let Some(machine) = problem.machines.get(index) else {
        return Ok(());
    };
    let mut candidates: Vec<Candidate<'_>> = problem
        .items
        .iter()
        .zip(prices)
        .filter(|(_item, price)| **price > 0)
        .filter_map(|(item, price)| {
            let most = most_on(problem, item, index).filter(|most| *most > 0)?;
            let share = share(machine, worth, &item.size);
            let price = i128::from(*price);
            Some(Candidate {
                item,
                price,
                excess: (price - share).max(0),
                loss: (share - price).max(0),
                most,
            })
        })
        .collect();
    let whole: i128 = worth.iter().map(|worth| i128::from(*worth)).sum();
    if whole + excess_of_all(&candidates) <= limit {
        return Ok(());
    }
    // What costs most to take comes first: its counts are cut off soonest.
    candidates.sort_by_key(|candidate| {
        std::cmp::Reverse((candidate.loss + candidate.excess) * i128::from(candidate.most))
    });
    let mut excess_after: Vec<i128> = vec![0; candidates.len() + 1];
    for place in (0..candidates.len()).rev() {
        let own = candidates
            .get(place)
            .map_or(0, |found| found.excess * i128::from(found.most));
        let after = excess_after.get(place + 1).copied().unwrap_or(0);
        if let Some(slot) = excess_after.get_mut(place) {
            *slot = after + own;
        }
    }
    let rates = rates(&candidates, machine.capacity.len());
    let mut search = Search {
        index,
        machine,
        worth,
        limit,
        candidates: &candidates,
        excess_after: &excess_after,
        rates: &rates,
        held: Vec::new(),
        steps,
    };
    let mut free: Vec<i64> = machine.capacity.iter().map(|held| (*held).max(0)).collect();
    search.descend(0, 0, &mut free)
}

/// Worth of the capacity that `size` takes, rounded down by dimension.
fn share(machine: &Machine, worth: &[i64], size: &[i64]) -> i128 {
    size.iter()
        .zip(&machine.capacity)
        .zip(worth)
        .filter(|((size, capacity), _worth)| **size > 0 && **capacity > 0)
        .map(|((size, capacity), worth)| {
            i128::from(*worth) * i128::from(*size) / i128::from(*capacity)
        })
        .sum()
}

/// The most that all excesses together add to one content: items of a capped group share its cap.
fn excess_of_all(candidates: &[Candidate<'_>]) -> i128 {
    let mut groups: BTreeMap<u32, (u32, i128)> = BTreeMap::new();
    let mut total: i128 = 0;
    for candidate in candidates.iter().filter(|candidate| candidate.excess > 0) {
        let capped = candidate.item.relations.iter().find_map(|relation| {
            let cap = relation.cap?;
            (relation.weight > 0).then_some((relation.group, relation.weight, cap))
        });
        match capped {
            Some((group, weight, cap)) => {
                let each = ceil(candidate.excess, i128::from(weight));
                let entry = groups.entry(group).or_insert((0, 0));
                entry.0 = entry.0.max(cap);
                entry.1 = entry.1.max(each);
            }
            None => total += candidate.excess * i128::from(candidate.most),
        }
    }
    for (cap, each) in groups.into_values() {
        total += i128::from(cap) * each;
    }
    total
}

struct Search<'run> {
    index: usize,
    machine: &'run Machine,
    worth: &'run [i64],
    limit: i128,
    candidates: &'run [Candidate<'run>],
    excess_after: &'run [i128],
    /// For each place and dimension the candidate from there on that is worth most for its size, as
    /// its price and size; `None` where one takes nothing.
    rates: &'run [Vec<Option<(i128, i64)>>],
    /// What is on the machine and has relations.
    held: Vec<(&'run Item, u32)>,
    steps: &'run mut u64,
}

impl Search<'_> {
    /// Tries every count of the candidate at `place`, given that what was taken is worth `taken`.
    fn descend(&mut self, place: usize, taken: i128, free: &mut [i64]) -> Result<(), Fault> {
        if taken > self.limit {
            return Err(Fault::Overvalued {
                machine: self.index,
                worth: taken,
                price: self.limit,
            });
        }
        let Some(candidate) = self.candidates.get(place) else {
            return Ok(());
        };
        if taken + self.open_worth(place, free) <= self.limit {
            return Ok(());
        }
        let (item, price) = (candidate.item, candidate.price);
        let mut most = room(item, free).min(candidate.most);
        let is_related = most > 0 && !item.relations.is_empty();
        if is_related {
            most = most.min(room_under_caps(item, &self.held));
            self.held.push((item, 0));
        }
        // Only the most of the last candidate matters.
        let first = if place + 1 == self.candidates.len() {
            most
        } else {
            0
        };
        for (size, free) in item.size.iter().zip(free.iter_mut()) {
            *free -= size.max(&0) * i64::from(first);
        }
        let mut count = first;
        let outcome = loop {
            *self.steps = self.steps.saturating_sub(1);
            if *self.steps == 0 {
                break Err(Fault::Undecided {
                    machine: self.index,
                });
            }
            let now = taken + price * i128::from(count);
            if let Some(held) = self.held.last_mut().filter(|_| is_related) {
                held.1 = count;
            }
            // With no excess, one more of this candidate can only lower what its share of the worth leaves
            // reachable. That is not so of the rates, which leave this candidate out.
            if candidate.excess == 0
                && now + self.by_shares(place + 1, free) <= self.limit
                && now <= self.limit
            {
                break Ok(());
            }
            if let Err(fault) = self.descend(place + 1, now, free) {
                break Err(fault);
            }
            if count == most {
                break Ok(());
            }
            count += 1;
            for (size, free) in item.size.iter().zip(free.iter_mut()) {
                *free -= size.max(&0);
            }
        };
        for (size, free) in item.size.iter().zip(free.iter_mut()) {
            *free += size.max(&0) * i64::from(count);
        }
        if is_related {
            self.held.pop();
        }
        outcome
    }

    /// The most that the candidates from `place` on can be worth in what is free, by the worth of the
    /// capacities.
    fn by_shares(&self, place: usize, free: &[i64]) -> i128 {
        let shares: i128 = free
            .iter()
            .zip(&self.machine.capacity)
            .zip(self.worth)
            .filter(|((_free, capacity), _worth)| **capacity > 0)
            .map(|((free, capacity), worth)| {
                ceil(
                    i128::from(*worth) * i128::from(*free),
                    i128::from(*capacity),
                )
            })
            .sum();
        shares + self.excess_after.get(place).copied().unwrap_or(0)
    }

    /// The same, by their values for their sizes too.
    fn open_worth(&self, place: usize, free: &[i64]) -> i128 {
        let rates = self.rates.get(place).map(Vec::as_slice).unwrap_or_default();
        free.iter()
            .zip(rates)
            .filter_map(|(free, rate)| {
                let (price, size) = (*rate)?;
                Some(ceil(price * i128::from(*free), i128::from(size)))
            })
            .fold(self.by_shares(place, free), i128::min)
    }
}

/// What [`Search::rates`] are for these candidates.
fn rates(candidates: &[Candidate<'_>], dimensions: usize) -> Vec<Vec<Option<(i128, i64)>>> {
    let mut best: Vec<Option<(i128, i64)>> = vec![Some((0, 1)); dimensions];
    let mut rates: Vec<Vec<Option<(i128, i64)>>> = Vec::with_capacity(candidates.len());
    for candidate in candidates.iter().rev() {
        for (dimension, slot) in best.iter_mut().enumerate() {
            let size = candidate.item.size.get(dimension).copied().unwrap_or(0);
            *slot = slot.filter(|_| size > 0).map(|(price, known)| {
                if candidate.price * i128::from(known) > price * i128::from(size) {
                    (candidate.price, size)
                } else {
                    (price, known)
                }
            });
        }
        rates.push(best.clone());
    }
    rates.reverse();
    rates.push(vec![Some((0, 1)); dimensions]);
    rates
}

/// How many of the item go into what is free.
fn room(item: &Item, free: &[i64]) -> u32 {
    item.size
        .iter()
        .zip(free)
        .filter(|(size, _free)| **size > 0)
        .map(|(size, free)| u32::try_from(free / size).unwrap_or(u32::MAX))
        .min()
        .unwrap_or(u32::MAX)
}

/// How many of the item the caps of its groups allow beside what is there: the load of a group must
/// not exceed the least cap that any item on the machine sets.
fn room_under_caps(item: &Item, held: &[(&Item, u32)]) -> u32 {
    let mut most = u32::MAX;
    for relation in &item.relations {
        let (mut load, mut cap) = (0_u64, relation.cap.map_or(u64::MAX, u64::from));
        for (other, count) in held.iter().filter(|(_other, count)| *count > 0) {
            for theirs in &other.relations {
                if theirs.group == relation.group {
                    load += u64::from(theirs.weight) * u64::from(*count);
                    cap = cap.min(theirs.cap.map_or(u64::MAX, u64::from));
                }
            }
        }
        let room = match cap.checked_sub(load) {
            None => 0,
            Some(room) => room
                .checked_div(u64::from(relation.weight))
                .unwrap_or(u64::MAX),
        };
        most = most.min(u32::try_from(room).unwrap_or(u32::MAX));
    }
    most
}

/// Quotient of non-negative numbers, rounded up.
const fn ceil(dividend: i128, divisor: i128) -> i128 {
    (dividend + divisor - 1) / divisor
}
