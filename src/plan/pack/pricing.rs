//! Pricing of whole patterns: contents of any kind worth more than the kind may cost.
//!
//! Given values of classes and what each kind may cost; given back contents that are worth more,
//! and for each kind what no contents of it are worth more than. Exact where a depth-first search
//! ends within its limit; otherwise fills in several orders, and what divisible contents are worth.

use super::content::{self, Sought, TINY};
use super::fill::{Filler, Lot, Taken};
use super::knapsack::{Knapsacks, Worth};
use super::real::short;
use super::reduced::Reduced;
use super::rows::Rows;

/// With more classes the exact search of patterns does not end in time.
const MOST_EXACT: usize = 24;
/// Steps of one exact search: a part of the budget, within these bounds.
const STEPS: std::ops::RangeInclusive<u64> = 2_000..=200_000;
/// One search may take this part of the budget.
const STEPS_PART: u64 = 2_000;

/// Contents worth more than their kind may cost.
#[derive(Debug, Clone)]
pub struct Found {
    /// The kind.
    pub kind: usize,
    /// What they are worth.
    pub value: f64,
    /// Classes and how many of each.
    pub contents: Vec<(u32, u32)>,
}

/// Prices patterns for one problem.
#[derive(Debug)]
pub struct Pricing<'solve, const D: usize> {
    reduced: &'solve Reduced<D>,
    rows: &'solve Rows<D>,
    knapsacks: Knapsacks<'solve, D>,
    filler: Filler<'solve, D>,
    orders: Vec<Vec<u32>>,
    exact: bool,
    steps: u64,
    /// For each kind what no contents of it are worth more than, by the values priced last.
    pub most: Vec<f64>,
}

impl<'solve, const D: usize> Pricing<'solve, D> {
    /// For these rows, one for each class, with fills in these orders; `units` is the whole budget.
    pub fn of(
        reduced: &'solve Reduced<D>,
        rows: &'solve Rows<D>,
        orders: &[Vec<u32>],
        units: u64,
    ) -> Self {
        Self {
            reduced,
            rows,
            knapsacks: Knapsacks::of(reduced, rows),
            filler: Filler::of(reduced),
            orders: orders.to_vec(),
            exact: is_exact(reduced),
            steps: (units / STEPS_PART).clamp(*STEPS.start(), *STEPS.end()),
            most: vec![0.0; reduced.kinds.len()],
        }
    }

    /// Work done since it was last asked for.
    pub fn take_units(&mut self) -> u64 {
        std::mem::take(&mut self.knapsacks.units) + self.filler.take_units()
    }

    /// Contents worth more than their kind may cost, at most one for each kind.
    pub fn price(&mut self, values: &[f64], limits: &[f64]) -> Vec<Found> {
        let lots = if self.exact {
            Vec::new()
        } else {
            self.lots(values)
        };
        let mut all = Vec::new();
        for (kind, limit) in limits.iter().enumerate() {
            if self.rows.of_kind[kind].is_empty() {
                continue;
            }
            let (_contents, worth) = self.knapsacks.solve(kind, values);
            let total = worth.total(&self.rows.caps);
            self.most[kind] = total;
            let above = limit + limit.abs() * TINY;
            if total <= above {
                continue;
            }
            let found = if self.exact {
                self.search(kind, values, &worth, above)
            } else {
                self.try_orders(kind, values, &worth, above, &lots)
            };
            all.extend(found);
        }
        all
    }

    fn lots(&self, values: &[f64]) -> Vec<Lot<D>> {
        let mut by_value: Vec<u32> = (0..short(values.len())).collect();
        by_value.sort_by(|left, right| {
            values[*right as usize]
                .total_cmp(&values[*left as usize])
                .then(left.cmp(right))
        });
        self.orders
            .iter()
            .chain(std::iter::once(&by_value))
            .map(|order| {
                let entries = order
                    .iter()
                    .map(|class| (*class, self.reduced.classes[*class as usize].count));
                Lot::of(self.reduced, entries, values)
            })
            .collect()
    }

    fn try_orders(
        &mut self,
        kind: usize,
        values: &[f64],
        worth: &Worth<D>,
        above: f64,
        lots: &[Lot<D>],
    ) -> Option<Found> {
        let mut by_density: Vec<(f64, u32)> = self.rows.of_kind[kind]
            .iter()
            .map(|row| {
                let carried = self.knapsacks.value(*row as usize, kind, worth);
                (values[*row as usize] / carried.max(f64::MIN_POSITIVE), *row)
            })
            .collect();
        by_density.sort_by(|left, right| right.0.total_cmp(&left.0).then(left.1.cmp(&right.1)));
        let entries = by_density
            .iter()
            .map(|(_density, class)| (*class, self.reduced.classes[*class as usize].count));
        let dense = Lot::of(self.reduced, entries, values);
        let mut best = above;
        let mut found = None;
        let mut taken = Taken::new();
        for lot in lots.iter().chain(std::iter::once(&dense)) {
            let value = self.filler.fill(lot, kind, None, &mut taken);
            if value > best {
                best = value;
                let contents: Vec<(u32, u32)> = taken
                    .iter()
                    .map(|(position, count)| (lot.class[*position as usize], *count))
                    .collect();
                found = Some(Found {
                    kind,
                    value,
                    contents,
                });
            }
        }
        found
    }

    /// The best pattern of the kind, if one is worth more than its price.
    fn search(
        &mut self,
        kind: usize,
        values: &[f64],
        worth: &Worth<D>,
        above: f64,
    ) -> Option<Found> {
        let sought = Sought {
            kind,
            values,
            worth: &worth.whole.0,
            above,
        };
        let outcome = content::best(self.reduced, &self.rows.of_kind[kind], sought, self.steps);
        self.filler.units += outcome.steps;
        if let Some(most) = outcome.most {
            self.most[kind] = most;
        }
        outcome.found.map(|(value, contents)| Found {
            kind,
            value,
            contents,
        })
    }
}

/// True when all contents of the problem's kinds are searched, not only fills in some orders.
pub fn is_exact<const D: usize>(reduced: &Reduced<D>) -> bool {
    reduced.classes.len() <= MOST_EXACT
}
