//! The independent checker: is a packing valid, and is a bound proven?
//!
//! Given a problem and an answer; given back the price, or the bound, computed anew in integers, or
//! the first fault. Nothing of the solver is used here and nothing of its answer is believed.

use super::cases::{Cases, Checker};
use super::problem::{Item, Machine, Packed, Packing, Problem};
use super::proof;

/// A lower bound's proof.
///
/// Any packing costs at least the sum of the class prices of the items it holds when no content of
/// a machine is worth more than the machine's price.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Certificate {
    /// What one of each item is worth, in the unit of prices.
    pub class_prices: Vec<i64>,
    /// For each machine and dimension, what the whole capacity is worth, in the unit of prices: it
    /// shows quickly that contents are not worth more than the machine.
    pub offering_prices: Vec<Vec<i64>>,
    /// A better bound by cases, where there is one.
    pub cases: Option<Cases>,
}

/// What is wrong with an answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A packing names a machine or an item that the problem does not have.
    #[error("entry {entry} names machine or item {index}, which the problem does not have")]
    Unknown {
        /// Entry of the packing.
        entry: usize,
        /// The index that names nothing.
        index: usize,
    },
    /// An entry without copies, or with none of an item.
    #[error("entry {entry} is empty or holds none of an item; leave such entries out")]
    Empty {
        /// Entry of the packing.
        entry: usize,
    },
    /// A machine holds more than its capacity.
    #[error("entry {entry}: {load} of dimension {dimension} on a machine with {capacity}")]
    OverCapacity {
        /// Entry of the packing.
        entry: usize,
        /// The dimension.
        dimension: usize,
        /// What the contents need.
        load: i128,
        /// What there is.
        capacity: i64,
    },
    /// An item is on a machine that it may not be on.
    #[error("entry {entry}: item {item} may not be on that machine")]
    NotAllowed {
        /// Entry of the packing.
        entry: usize,
        /// The item.
        item: usize,
    },
    /// A machine's load of a group is above a cap.
    #[error("entry {entry}: load {load} of group {group} above the cap {cap}")]
    OverCap {
        /// Entry of the packing.
        entry: usize,
        /// The group.
        group: u32,
        /// Its load.
        load: u64,
        /// The least cap among the contents.
        cap: u32,
    },
    /// Not every item is placed or left exactly once.
    #[error("item {item}: {placed} placed and left, {count} asked for")]
    Count {
        /// The item.
        item: usize,
        /// Placed and left together.
        placed: u64,
        /// How many the problem has.
        count: u32,
    },
    /// An item was left although a machine takes it.
    #[error("item {item} was left although machine {machine} takes it")]
    Left {
        /// The item.
        item: usize,
        /// A machine that takes it.
        machine: usize,
    },
    /// The certificate's lists do not have the problem's lengths, or hold a negative price.
    #[error(
        "the certificate does not have one non-negative price for each item, capacity and split, \
         or splits too deeply"
    )]
    Malformed,
    /// A content of a machine is worth more than the machine costs.
    #[error("contents worth {worth} fit machine {machine}, which may hold {price}")]
    Overvalued {
        /// The machine.
        machine: usize,
        /// Worth of the contents found.
        worth: i128,
        /// The machine's price, with what a case charges and without what it grants.
        price: i128,
    },
    /// The search for contents worth more than the machine did not end within its limit.
    #[error(
        "machine {machine}: too many contents to look at; the bound is neither proven nor refuted"
    )]
    Undecided {
        /// The machine.
        machine: usize,
    },
}

/// The price of a packing, if it is valid: every item placed once or left because no machine takes
/// it, no machine above capacity or cap.
///
/// # Errors
/// The first [`Fault`].
pub fn verify_packing(problem: &Problem, packing: &Packing) -> Result<i64, Fault> {
    let mut placed: Vec<u64> = vec![0; problem.items.len()];
    let mut price: i128 = 0;
    for (entry, packed) in packing.machines.iter().enumerate() {
        let machine = check_entry(problem, entry, packed)?;
        price += i128::from(machine.price) * i128::from(packed.copies);
        for (index, count) in &packed.contents {
            if let Some(placed) = placed.get_mut(*index) {
                *placed += u64::from(*count) * u64::from(packed.copies);
            }
        }
    }
    for (index, item) in problem.items.iter().enumerate() {
        let left = packing.left.get(index).copied().unwrap_or(0);
        let placed = placed.get(index).copied().unwrap_or(0) + u64::from(left);
        if placed != u64::from(item.count) {
            return Err(Fault::Count {
                item: index,
                placed,
                count: item.count,
            });
        }
        if left > 0
            && let Some(machine) = first_that_takes(problem, item)
        {
            return Err(Fault::Left {
                item: index,
                machine,
            });
        }
    }
    Ok(i64::try_from(price).unwrap_or(i64::MAX))
}

/// The bound that a certificate proves, in the unit of prices. Items that no machine takes do not
/// count.
///
/// # Errors
/// The first [`Fault`]; [`Fault::Undecided`] when the proof would take more than some ten million
/// steps.
pub fn verify_certificate(problem: &Problem, certificate: &Certificate) -> Result<i64, Fault> {
    let mut steps = proof::MOST_STEPS;
    verify_certificate_within(problem, certificate, &mut steps)
}

/// As [`verify_certificate`], with its own limit of steps, which are counted down.
///
/// # Errors
/// The first [`Fault`].
pub fn verify_certificate_within(
    problem: &Problem,
    certificate: &Certificate,
    steps: &mut u64,
) -> Result<i64, Fault> {
    let prices = &certificate.class_prices;
    let worths = &certificate.offering_prices;
    if !is_well_formed(problem, prices, worths) {
        return Err(Fault::Malformed);
    }
    for (index, worth) in worths.iter().enumerate() {
        let price = problem
            .machines
            .get(index)
            .map_or(0, |machine| machine.price);
        proof::no_content_is_worth_more(problem, index, prices, worth, i128::from(price), steps)?;
    }
    let bound: i128 = problem
        .items
        .iter()
        .zip(prices)
        .filter(|(item, price)| **price > 0 && first_that_takes(problem, item).is_some())
        .map(|(item, price)| i128::from(*price) * i128::from(item.count))
        .sum();
    let bound = i64::try_from(bound).unwrap_or(i64::MAX);
    match &certificate.cases {
        None => Ok(bound),
        Some(cases) => {
            let by_cases = Checker::of(problem).verify(cases, steps)?;
            Ok(bound.max(by_cases))
        }
    }
}

fn check_entry<'problem>(
    problem: &'problem Problem,
    entry: usize,
    packed: &Packed,
) -> Result<&'problem Machine, Fault> {
    let unknown = |index| Fault::Unknown { entry, index };
    let machine = problem
        .machines
        .get(packed.machine)
        .ok_or_else(|| unknown(packed.machine))?;
    if packed.copies == 0 || packed.contents.iter().any(|(_item, count)| *count == 0) {
        return Err(Fault::Empty { entry });
    }
    let mut loads = vec![0_i128; problem.dimensions];
    let mut items = Vec::with_capacity(packed.contents.len());
    for (index, count) in &packed.contents {
        let item = problem.items.get(*index).ok_or_else(|| unknown(*index))?;
        if !item.allowed.contains(packed.machine) {
            return Err(Fault::NotAllowed {
                entry,
                item: *index,
            });
        }
        for (load, size) in loads.iter_mut().zip(&item.size) {
            *load += i128::from((*size).max(0)) * i128::from(*count);
        }
        items.push((item, *count));
    }
    for (dimension, load) in loads.into_iter().enumerate() {
        let capacity = machine.capacity.get(dimension).copied().unwrap_or(0);
        if load > 0 && load > i128::from(capacity) {
            return Err(Fault::OverCapacity {
                entry,
                dimension,
                load,
                capacity,
            });
        }
    }
    check_groups(entry, &items)?;
    Ok(machine)
}

fn check_groups(entry: usize, items: &[(&Item, u32)]) -> Result<(), Fault> {
    for relation in items.iter().flat_map(|(item, _count)| &item.relations) {
        let Some(cap) = relation.cap else { continue };
        let load: u64 = items
            .iter()
            .flat_map(|(item, count)| item.relations.iter().map(move |other| (other, *count)))
            .filter(|(other, _count)| other.group == relation.group)
            .map(|(other, count)| u64::from(other.weight) * u64::from(count))
            .sum();
        if load > u64::from(cap) {
            return Err(Fault::OverCap {
                entry,
                group: relation.group,
                load,
                cap,
            });
        }
    }
    Ok(())
}

/// True when there is a price of at least zero for each item and for each dimension of each machine.
pub(super) fn is_well_formed(problem: &Problem, prices: &[i64], worths: &[Vec<i64>]) -> bool {
    prices.len() == problem.items.len()
        && worths.len() == problem.machines.len()
        && worths.iter().all(|worth| worth.len() == problem.dimensions)
        && worths
            .iter()
            .flatten()
            .chain(prices)
            .all(|price| *price >= 0)
}

/// The first machine that takes one of the item.
pub(super) fn first_that_takes(problem: &Problem, item: &Item) -> Option<usize> {
    (0..problem.machines.len())
        .find(|machine| proof::most_on(problem, item, *machine).is_some_and(|most| most > 0))
}
