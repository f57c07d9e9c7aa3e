//! Proof by cases: a bound that holds however many machines of some kinds a fleet has.
//!
//! Given a problem and cases with prices for each; given back the bound that all of them prove, in
//! integers, or the first fault. Nothing of the solver is used here and nothing of its answer is
//! believed.
//!
//! A split says of a set of machines: a fleet has at most so many of them, or it has more. Every
//! fleet is in one case. In a case the machines of a set that is limited from above cost a fine
//! each, and those of a set that is limited from below earn a bonus each: prices of items, of which
//! no contents are worth more than the machine's price with fines and without bonuses, then prove
//! the sum of all item prices, less what the greatest number of fined machines pays, and with what
//! the least number of machines with a bonus earns. Whatever a fleet costs is a multiple of the
//! greatest common divisor of the prices of the machines that it may have, so the sum is rounded up
//! to that. Machines that another one replaces everywhere need not be looked at.

use super::bits::Bits;
use super::problem::{Machine, Problem};
use super::proof;
use super::verify::{Fault, first_that_takes, is_well_formed};

/// Deeper proofs are refused: the checker calls itself for each split.
pub const DEEPEST: usize = 60;

/// A proof, or a split into two.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cases {
    /// A case with its proof.
    Proven(Priced),
    /// Two cases.
    Split(Box<Split>),
}

/// Two cases: how many of some machines a fleet has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    /// The machines that are counted together.
    pub machines: Bits,
    /// The first case has at most so many of them, the second one has more.
    pub most: u32,
    /// The proof for at most so many.
    pub fewer: Cases,
    /// The proof for more.
    pub more: Cases,
}

/// Prices that prove one case.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Priced {
    /// What one of each item is worth in this case.
    pub class_prices: Vec<i64>,
    /// For each machine and dimension, what the whole capacity is worth; it only shortens the
    /// search for contents that are worth more than the machine.
    pub offering_prices: Vec<Vec<i64>>,
    /// Fine or bonus for a machine of each split on the way to this case.
    pub charges: Vec<i64>,
}

/// One side of a split.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Side {
    /// The machines that are counted together.
    pub machines: Bits,
    /// How many of them there are at most, or at least.
    pub count: u32,
    /// `count` is the least, not the most.
    pub at_least: bool,
}

impl Side {
    /// What the split's charge changes in the price that a machine's contents may be worth.
    fn change(&self, charge: i64) -> i128 {
        let charge = i128::from(charge);
        if self.at_least { -charge } else { charge }
    }
}

/// What the checker must know of a problem, however many cases there are.
#[derive(Debug)]
pub struct Checker<'problem> {
    problem: &'problem Problem,
    /// Machines that some best fleet is made of.
    needed: Vec<usize>,
    /// Items that some machine takes.
    placed: Vec<bool>,
}

impl<'problem> Checker<'problem> {
    /// For this problem.
    pub fn of(problem: &'problem Problem) -> Self {
        let placed: Vec<bool> = problem
            .items
            .iter()
            .map(|item| first_that_takes(problem, item).is_some())
            .collect();
        Self {
            needed: needed(problem, &placed),
            problem,
            placed,
        }
    }

    /// The bound that these cases prove together.
    ///
    /// # Errors
    /// The first [`Fault`].
    pub fn verify(&self, cases: &Cases, steps: &mut u64) -> Result<i64, Fault> {
        let mut path = Vec::new();
        self.descend(cases, &mut path, steps)
    }

    fn descend(&self, cases: &Cases, path: &mut Vec<Side>, steps: &mut u64) -> Result<i64, Fault> {
        let split = match cases {
            Cases::Proven(priced) => return self.verify_case(priced, path, steps),
            Cases::Split(split) => split,
        };
        let Some(more) = split.most.checked_add(1).filter(|_| path.len() < DEEPEST) else {
            return Err(Fault::Malformed);
        };
        path.push(Side {
            machines: split.machines.clone(),
            count: split.most,
            at_least: false,
        });
        let fewer = self.descend(&split.fewer, path, steps)?;
        if let Some(side) = path.last_mut() {
            side.count = more;
            side.at_least = true;
        }
        let more = self.descend(&split.more, path, steps)?;
        path.pop();
        Ok(fewer.min(more))
    }

    /// The bound that these prices prove for the case that `path` leads to.
    ///
    /// # Errors
    /// The first [`Fault`].
    pub fn verify_case(
        &self,
        priced: &Priced,
        path: &[Side],
        steps: &mut u64,
    ) -> Result<i64, Fault> {
        let prices = &priced.class_prices;
        let worths = &priced.offering_prices;
        let problem = self.problem;
        let charged =
            priced.charges.len() == path.len() && priced.charges.iter().all(|charge| *charge >= 0);
        if !charged || !is_well_formed(problem, prices, worths) {
            return Err(Fault::Malformed);
        }
        let mut unit: i64 = 0;
        for index in &self.needed {
            let excluded = path
                .iter()
                .any(|side| !side.at_least && side.count == 0 && side.machines.contains(*index));
            let (false, Some(machine)) = (excluded, problem.machines.get(*index)) else {
                continue;
            };
            unit = greatest_common_divisor(unit, machine.price);
            let change: i128 = path
                .iter()
                .zip(&priced.charges)
                .filter(|(side, _charge)| side.machines.contains(*index))
                .map(|(side, charge)| side.change(*charge))
                .sum();
            let limit = i128::from(machine.price) + change;
            let worth = worths.get(*index).map(Vec::as_slice).unwrap_or_default();
            proof::no_content_is_worth_more(problem, *index, prices, worth, limit, steps)?;
        }
        let items: i128 = problem
            .items
            .iter()
            .zip(prices)
            .zip(&self.placed)
            .filter(|(_item, placed)| **placed)
            .map(|((item, price), _placed)| i128::from(*price) * i128::from(item.count))
            .sum();
        let charged: i128 = path
            .iter()
            .zip(&priced.charges)
            .map(|(side, charge)| side.change(*charge) * i128::from(side.count))
            .sum();
        let total = round_up((items - charged).max(0), i128::from(unit));
        Ok(i64::try_from(total).unwrap_or(i64::MAX))
    }
}

/// Machines that hold something and that no other one replaces: for every fleet there is one of
/// these alone that costs no more.
fn needed(problem: &Problem, placed: &[bool]) -> Vec<usize> {
    let items: Vec<usize> = (0..problem.items.len())
        .filter(|item| placed.get(*item).is_some_and(|placed| *placed))
        .collect();
    let used: Vec<usize> = (0..problem.dimensions)
        .filter(|dimension| {
            items.iter().any(|item| {
                problem
                    .items
                    .get(*item)
                    .and_then(|item| item.size.get(*dimension))
                    .is_some_and(|size| *size > 0)
            })
        })
        .collect();
    let accepts: Vec<Bits> = (0..problem.machines.len())
        .map(|machine| {
            Bits::of(problem.items.len(), |item| {
                placed.get(item).is_some_and(|placed| *placed)
                    && problem
                        .items
                        .get(item)
                        .is_some_and(|item| item.allowed.contains(machine))
            })
        })
        .collect();
    let holds = |machine: usize| {
        items.iter().any(|item| {
            problem.items.get(*item).is_some_and(|item| {
                proof::most_on(problem, item, machine).is_some_and(|most| most > 0)
            })
        })
    };
    let all: Vec<(usize, &Machine, &Bits)> = problem
        .machines
        .iter()
        .zip(&accepts)
        .enumerate()
        .map(|(index, (machine, accepts))| (index, machine, accepts))
        .filter(|(index, _machine, _accepts)| holds(*index))
        .collect();
    all.iter()
        .filter(|own| !all.iter().any(|other| replaces(other, own, &used)))
        .map(|(index, _machine, _accepts)| *index)
        .collect()
}

/// True when the first machine can stand in for the second wherever that is. Of equal machines the
/// first one in the problem replaces the others.
fn replaces(
    other: &(usize, &Machine, &Bits),
    own: &(usize, &Machine, &Bits),
    used: &[usize],
) -> bool {
    let held = |machine: &Machine, dimension: usize| {
        machine.capacity.get(dimension).copied().unwrap_or(0).max(0)
    };
    let replaces = |one: &(usize, &Machine, &Bits), two: &(usize, &Machine, &Bits)| {
        one.1.price <= two.1.price
            && two.2.is_subset(one.2)
            && used
                .iter()
                .all(|dimension| held(one.1, *dimension) >= held(two.1, *dimension))
    };
    other.0 != own.0 && replaces(other, own) && (other.0 < own.0 || !replaces(own, other))
}

/// The least multiple of `unit` that is at least `total`; `total` itself where there is no unit.
const fn round_up(total: i128, unit: i128) -> i128 {
    if unit <= 0 {
        return total;
    }
    (total + unit - 1) / unit * unit
}

/// The greatest number that divides both, of their absolute values.
const fn greatest_common_divisor(one: i64, other: i64) -> i64 {
    let (mut one, mut other) = (one.saturating_abs(), other.saturating_abs());
    while other != 0 {
        (one, other) = (other, one % other);
    }
    one
}
