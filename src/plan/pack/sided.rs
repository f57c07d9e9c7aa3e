//! The pattern relaxation with sides: fleets that have at most, or at least, so many machines of
//! some kinds.
//!
//! Given sides of splits; given back what classes are worth and what each side charges or grants for
//! a machine, how many machines of each kind the relaxation buys, and the bound. Patterns found for
//! one case are known to all later ones.

use super::bits::Bits;
use super::budget::Meter;
use super::master::{Column, Master};
use super::pricing::Pricing;
use super::real::{real, short, work};
use super::reduced::Reduced;
use super::rows::Rows;

/// Rounds of pricing after which a relaxation is taken as it is.
const MOST_ROUNDS: usize = 60;
/// The kind of a column that stands for what is not bought at all.
const NOTHING: usize = usize::MAX;
/// Units that one step of a search through contents stands for here: each looks at all dimensions.
const STEP_UNITS: u64 = 2;

/// Kinds and contents.
pub type Pattern = (usize, Vec<(u32, u32)>);

/// Classes and how many of each.
type Contents<'known> = &'known [(u32, u32)];

/// One side of a split, in kinds.
#[derive(Debug, Clone)]
pub struct Branch {
    /// The kinds that are counted together.
    pub kinds: Bits,
    /// How many machines of them there are at most, or at least.
    pub count: u32,
    /// `count` is the least, not the most.
    pub at_least: bool,
}

/// What a relaxation came to.
#[derive(Debug, Clone)]
pub struct Relaxed {
    /// What one of each class is worth.
    pub values: Vec<f64>,
    /// What each side charges for a machine, or grants for one.
    pub charges: Vec<f64>,
    /// How many machines of each kind are bought.
    pub counts: Vec<f64>,
    /// Nothing in this case costs less, but for errors of rounding.
    pub bound: f64,
}

/// Solves relaxations of one problem with different sides.
#[derive(Debug)]
pub struct Sided<'run, const D: usize> {
    reduced: &'run Reduced<D>,
    pricing: Pricing<'run, D>,
    patterns: Vec<Pattern>,
    prices: Vec<f64>,
    /// Price of the best fleet: no bound needs to be above it.
    price: f64,
}

impl<'run, const D: usize> Sided<'run, D> {
    /// For these rows, one for each class, counted. `price` is that of the best fleet and `units`
    /// the whole budget.
    pub fn of(
        reduced: &'run Reduced<D>,
        rows: &'run Rows<D>,
        orders: &[Vec<u32>],
        patterns: Vec<Pattern>,
        price: i64,
        units: u64,
    ) -> Self {
        Self {
            reduced,
            pricing: Pricing::of(reduced, rows, orders, units),
            patterns,
            prices: reduced.kinds.iter().map(|kind| real(kind.price)).collect(),
            price: real(price),
        }
    }

    /// The pattern relaxation of a case.
    pub fn relax(&mut self, path: &[Branch], meter: &mut Meter<'_>) -> Relaxed {
        let mut master = self.master(path);
        let classes = self.reduced.classes.len();
        let mut relaxed = Relaxed {
            values: Vec::new(),
            charges: Vec::new(),
            counts: vec![0.0; self.prices.len()],
            bound: 0.0,
        };
        for round in 0..MOST_ROUNDS {
            self.enter_known(&mut master, path, meter);
            let duals: Vec<f64> = master.duals().iter().map(|dual| dual.max(0.0)).collect();
            let (values, charges) = duals.split_at(classes);
            let changes = self.changes(path, charges);
            let limits: Vec<f64> = self
                .prices
                .iter()
                .zip(&changes)
                .map(|(price, change)| price + change)
                .collect();
            let found = self.pricing.price(values, &limits);
            meter.spend(STEP_UNITS * self.pricing.take_units());
            // Farley 1990, with charges.
            let factor = self
                .pricing
                .most
                .iter()
                .zip(&changes)
                .zip(&self.prices)
                .map(|((most, change), price)| (most - change) / price)
                .fold(1.0, f64::max);
            let bound = self.sum(path, values, charges) / factor;
            if bound > relaxed.bound || round == 0 {
                relaxed.bound = bound;
                relaxed.values = values.iter().map(|value| value / factor).collect();
                relaxed.charges = charges.iter().map(|charge| charge / factor).collect();
            }
            let added = found.len();
            self.patterns
                .extend(found.into_iter().map(|found| (found.kind, found.contents)));
            if added == 0 || bound >= self.price || is_over(meter) {
                break;
            }
        }
        for (column, amount) in master.bought() {
            if let Some(count) = relaxed.counts.get_mut(column.kind) {
                *count += amount;
            }
        }
        relaxed
    }

    /// A master for the classes and the splits of a path that buys nothing yet, at a price that no
    /// best fleet has.
    fn master(&self, path: &[Branch]) -> Master {
        let classes = self.reduced.classes.iter();
        let demands: Vec<f64> = classes
            .map(|class| f64::from(class.count))
            .chain(path.iter().map(|branch| {
                if branch.at_least {
                    f64::from(branch.count)
                } else {
                    // "At most none" must not look like a demand for nothing.
                    -f64::from(branch.count) - 1e-9
                }
            }))
            .collect();
        let dear = self.price;
        let nothing = (0..demands.len())
            .map(|row| Column {
                kind: NOTHING,
                price: dear,
                entries: vec![(short(row), 1.0)],
            })
            .collect();
        Master::of(&demands, nothing)
    }

    /// Brings in every known pattern, and empty machines, that make the master cheaper.
    fn enter_known(&self, master: &mut Master, path: &[Branch], meter: &mut Meter<'_>) {
        let classes = self.reduced.classes.len();
        loop {
            let duals = master.duals();
            let extra: Vec<f64> = (0..self.prices.len())
                .map(|kind| {
                    sides(path, kind)
                        .map(|(row, amount)| duals[classes + row] * amount)
                        .sum()
                })
                .collect();
            let mut best: Option<(f64, usize, Contents<'_>)> = None;
            let empty = (0..self.prices.len()).map(|kind| (kind, [].as_slice()));
            let known = self
                .patterns
                .iter()
                .map(|(kind, contents)| (*kind, contents.as_slice()));
            for (kind, contents) in known.chain(empty) {
                let value: f64 = contents
                    .iter()
                    .map(|(class, count)| duals[*class as usize] * f64::from(*count))
                    .sum();
                let gain = (value + extra[kind] - self.prices[kind]) / self.prices[kind];
                if gain > best.map_or(1e-9, |best| best.0) {
                    best = Some((gain, kind, contents));
                }
            }
            meter.spend(work(self.patterns.len() + self.prices.len()) / 4);
            let Some((_gain, kind, contents)) = best else {
                return;
            };
            let entries = contents
                .iter()
                .map(|(class, count)| (*class, f64::from(*count)))
                .chain(sides(path, kind).map(|(row, amount)| (short(classes + row), amount)))
                .collect();
            let entered = master.enter(Column {
                kind,
                price: self.prices[kind],
                entries,
            });
            let pivots = 1 + master.settle();
            meter.spend(pivots * master.pivot_units());
            if !entered {
                return;
            }
        }
    }

    /// What the charges of a path change in the price of each kind.
    pub fn changes(&self, path: &[Branch], charges: &[f64]) -> Vec<f64> {
        (0..self.prices.len())
            .map(|kind| {
                -sides(path, kind)
                    .map(|(row, amount)| charges[row] * amount)
                    .sum::<f64>()
            })
            .collect()
    }

    fn sum(&self, path: &[Branch], values: &[f64], charges: &[f64]) -> f64 {
        let classes = self.reduced.classes.iter();
        let items: f64 = classes
            .zip(values)
            .map(|(class, value)| f64::from(class.count) * value)
            .sum();
        let charged: f64 = path
            .iter()
            .zip(charges)
            .map(|(branch, charge)| {
                let count = f64::from(branch.count);
                charge * if branch.at_least { count } else { -count }
            })
            .sum();
        items + charged
    }
}

/// True when the budget is spent or the wall-clock guard wants an end.
pub fn is_over(meter: &mut Meter<'_>) -> bool {
    meter.is_past(100) || meter.ask_guard()
}

/// The rows of a path that count a kind, with its amount there.
fn sides(path: &[Branch], kind: usize) -> impl Iterator<Item = (usize, f64)> + '_ {
    path.iter()
        .enumerate()
        .filter(move |(_row, branch)| branch.kinds.contains(kind))
        .map(|(row, branch)| (row, if branch.at_least { 1.0 } else { -1.0 }))
}
