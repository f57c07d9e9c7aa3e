//! The pattern relaxation (Gilmore and Gomory 1961) for problems of few classes.
//!
//! Given the reduced problem with one row for each class; given back patterns of whole items with
//! how often the relaxation buys each, and the duals. Pricing is exact where a depth-first search
//! ends within its limit, so in the end the duals prove the bound of whole patterns.

use super::budget::Meter;
use super::fill::{Filler, Lot, Taken};
use super::knapsack::{Knapsacks, Worth};
use super::master::{Column, Master};
use super::problem::times_into;
use super::real::{real, short, whole_count};
use super::reduced::{Reduced, fits};
use super::relaxation::enter;
use super::rows::Rows;

/// With more classes the exact search of patterns does not end in time.
const MOST_EXACT: usize = 24;
/// Steps of one exact search: a part of the budget, within these bounds.
const STEPS: std::ops::RangeInclusive<u64> = 2_000..=200_000;
/// One search may take this part of the budget.
const STEPS_PART: u64 = 2_000;
/// Gains below this share of a price are none.
const TINY: f64 = 1e-7;

/// A pattern and how often it is bought.
#[derive(Debug, Clone)]
pub struct Bought {
    /// The kind.
    pub kind: usize,
    /// Classes and how many of each.
    pub contents: Vec<(u32, u32)>,
    /// How often.
    pub amount: f64,
}

/// What the relaxation found.
#[derive(Debug, Clone)]
pub struct Patterns {
    /// What it buys.
    pub bought: Vec<Bought>,
    /// What one more item of each class would cost.
    pub values: Vec<f64>,
    /// For each kind what no pattern of it is worth more than.
    pub most: Vec<f64>,
}

struct Pricing<'solve, const D: usize> {
    reduced: &'solve Reduced<D>,
    rows: &'solve Rows<D>,
    knapsacks: Knapsacks<'solve, D>,
    filler: Filler<'solve, D>,
    orders: Vec<Vec<u32>>,
    exact: bool,
    most: Vec<f64>,
    steps: u64,
}

/// Solves the relaxation over whole patterns until `percent` of the budget are spent.
pub fn patterns<const D: usize>(
    reduced: &Reduced<D>,
    rows: &Rows<D>,
    orders: &[Vec<u32>],
    seeds: &[(usize, Vec<(u32, u32)>)],
    percent: u64,
    meter: &mut Meter<'_>,
) -> Patterns {
    let mut pricing = Pricing {
        reduced,
        rows,
        knapsacks: Knapsacks::of(reduced, rows),
        filler: Filler::of(reduced),
        orders: orders.to_vec(),
        exact: reduced.groups == 0 && rows.list.len() <= MOST_EXACT,
        most: vec![0.0; reduced.kinds.len()],
        steps: (meter.limit() / STEPS_PART).clamp(*STEPS.start(), *STEPS.end()),
    };
    let demands: Vec<f64> = rows.list.iter().map(|row| row.demand).collect();
    let mut master = Master::of(&demands, pricing.singles());
    let seeds = seeds
        .iter()
        .map(|(kind, contents)| (1.0, pricing.column(*kind, contents)))
        .collect();
    enter(&mut master, seeds, usize::MAX, meter);
    loop {
        let values: Vec<f64> = master.duals().iter().map(|dual| dual.max(0.0)).collect();
        let columns = pricing.price(&values);
        meter.spend(pricing.knapsacks.units + pricing.filler.take_units());
        pricing.knapsacks.units = 0;
        if enter(&mut master, columns, 4 * rows.list.len(), meter) == 0 || meter.is_past(percent) {
            break;
        }
    }
    Patterns {
        bought: master
            .bought()
            .map(|(column, amount)| Bought {
                kind: column.kind,
                contents: column
                    .entries
                    .iter()
                    .map(|(row, amount)| (*row, whole_count(amount + 0.5)))
                    .collect(),
                amount,
            })
            .collect(),
        values: master.duals().iter().map(|dual| dual.max(0.0)).collect(),
        most: pricing.most,
    }
}

/// The worths of all kinds that carry these values, whatever the kinds cost.
pub fn carrying<const D: usize>(
    reduced: &Reduced<D>,
    rows: &Rows<D>,
    values: &[f64],
) -> Vec<Worth<D>> {
    let mut knapsacks = Knapsacks::of(reduced, rows);
    (0..reduced.kinds.len())
        .map(|kind| knapsacks.solve(kind, values).1)
        .collect()
}

impl<const D: usize> Pricing<'_, D> {
    fn column(&self, kind: usize, contents: &[(u32, u32)]) -> Column {
        Column {
            kind,
            price: real(self.reduced.kinds[kind].price),
            entries: contents
                .iter()
                .map(|(class, count)| (*class, f64::from(*count)))
                .collect(),
        }
    }

    fn singles(&self) -> Vec<Column> {
        self.reduced
            .classes
            .iter()
            .enumerate()
            .map(|(index, class)| {
                let best = (0..self.reduced.kinds.len())
                    .filter_map(|kind| {
                        let most = self.reduced.most(class, kind);
                        let price = real(self.reduced.kinds[kind].price);
                        (most > 0).then_some((price / f64::from(most), kind, most))
                    })
                    .min_by(|left, right| left.0.total_cmp(&right.0));
                let (_each, kind, most) = best.unwrap_or((0.0, 0, 1));
                self.column(kind, &[(short(index), most)])
            })
            .collect()
    }

    /// Patterns that would make the master cheaper, by value per price.
    fn price(&mut self, values: &[f64]) -> Vec<(f64, Column)> {
        let mut columns = Vec::new();
        let mut orders = self.orders.clone();
        let mut by_value: Vec<u32> = (0..short(values.len())).collect();
        by_value.sort_by(|left, right| {
            values[*right as usize]
                .total_cmp(&values[*left as usize])
                .then(left.cmp(right))
        });
        orders.push(by_value);
        let lots: Vec<Lot<D>> = if self.exact {
            Vec::new()
        } else {
            orders
                .iter()
                .map(|order| {
                    let entries = order
                        .iter()
                        .map(|class| (*class, self.reduced.classes[*class as usize].count));
                    Lot::of(self.reduced, entries, values)
                })
                .collect()
        };
        for kind in 0..self.reduced.kinds.len() {
            if self.rows.of_kind[kind].is_empty() {
                continue;
            }
            let price = real(self.reduced.kinds[kind].price);
            let (_contents, worth) = self.knapsacks.solve(kind, values);
            let total = worth.total(&self.rows.caps);
            self.most[kind] = total;
            if total <= price * (1.0 + TINY) {
                continue;
            }
            let found = if self.exact {
                self.search(kind, values, &worth)
            } else {
                self.try_orders(kind, values, &worth, &lots)
            };
            if let Some((value, contents)) = found {
                columns.push((value / price, self.column(kind, &contents)));
            }
        }
        columns
    }

    fn try_orders(
        &mut self,
        kind: usize,
        values: &[f64],
        worth: &Worth<D>,
        lots: &[Lot<D>],
    ) -> Option<(f64, Vec<(u32, u32)>)> {
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
        let mut best = real(self.reduced.kinds[kind].price) * (1.0 + TINY);
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
                found = Some((value, contents));
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
    ) -> Option<(f64, Vec<(u32, u32)>)> {
        let machine = &self.reduced.kinds[kind];
        let unit: [f64; D] = std::array::from_fn(|dimension| {
            worth.whole.0[dimension] / real(machine.capacity[dimension].max(1))
        });
        let mut candidates: Vec<Candidate<D>> = self.rows.of_kind[kind]
            .iter()
            .filter(|row| values[**row as usize] > 0.0)
            .map(|row| {
                let class = &self.reduced.classes[*row as usize];
                let carried: f64 = class
                    .size
                    .iter()
                    .zip(&unit)
                    .map(|(size, unit)| real(*size) * unit)
                    .sum();
                let value = values[*row as usize];
                Candidate {
                    class: *row,
                    size: class.size,
                    count: class.count,
                    value,
                    loss: (carried - value).max(0.0),
                    excess: (value - carried).max(0.0),
                    carried,
                }
            })
            .collect();
        candidates.sort_by(|left, right| {
            let density = |candidate: &Candidate<D>| {
                candidate.value / candidate.carried.max(f64::MIN_POSITIVE)
            };
            density(right)
                .total_cmp(&density(left))
                .then(left.class.cmp(&right.class))
        });
        let mut excess_after = vec![0.0; candidates.len() + 1];
        for (place, candidate) in candidates.iter().enumerate().rev() {
            let most = times_into(&candidate.size, &machine.capacity, candidate.count);
            excess_after[place] = excess_after[place + 1] + candidate.excess * f64::from(most);
        }
        let mut search = Search {
            excess_after,
            unit,
            counts: vec![0; candidates.len()],
            best: real(machine.price) * (1.0 + TINY),
            found: None,
            steps: self.steps,
            candidates,
        };
        search.descend(0, &machine.capacity, 0.0);
        self.filler.units += self.steps - search.steps;
        if search.steps > 0 {
            self.most[kind] = search.best;
        }
        let counts = search.found?;
        let contents = search
            .candidates
            .iter()
            .zip(counts)
            .filter(|(_candidate, count)| *count > 0)
            .map(|(candidate, count)| (candidate.class, count))
            .collect();
        Some((search.best, contents))
    }
}

struct Candidate<const D: usize> {
    class: u32,
    size: [i64; D],
    count: u32,
    value: f64,
    /// Worth of what it takes above its value.
    loss: f64,
    /// Its value above the worth of what it takes.
    excess: f64,
    carried: f64,
}

struct Search<const D: usize> {
    unit: [f64; D],
    candidates: Vec<Candidate<D>>,
    /// What the excess of the candidates from each place on adds at most.
    excess_after: Vec<f64>,
    counts: Vec<u32>,
    best: f64,
    found: Option<Vec<u32>>,
    /// Steps that are left.
    steps: u64,
}

impl<const D: usize> Search<D> {
    fn open(&self, free: &[i64; D]) -> f64 {
        free.iter()
            .zip(&self.unit)
            .map(|(free, unit)| real(*free) * unit)
            .sum()
    }

    fn descend(&mut self, place: usize, free: &[i64; D], value: f64) {
        if value > self.best {
            self.best = value;
            self.found = Some(self.counts.clone());
        }
        let Some(candidate) = self.candidates.get(place) else {
            return;
        };
        let reachable = value + self.open(free) + self.excess_after[place];
        if reachable <= self.best || self.steps == 0 {
            return;
        }
        let (size, each, loss) = (candidate.size, candidate.value, candidate.loss);
        let mut most = if fits(&size, free) {
            times_into(&size, free, candidate.count)
        } else {
            0
        };
        if loss > 0.0 && candidate.excess == 0.0 {
            most = most.min(whole_count((reachable - self.best) / loss));
        }
        let mut rest = *free;
        for (rest, size) in rest.iter_mut().zip(&size) {
            *rest -= size * i64::from(most);
        }
        loop {
            self.steps = self.steps.saturating_sub(1);
            self.counts[place] = most;
            self.descend(place + 1, &rest, value + each * f64::from(most));
            if most == 0 || self.steps == 0 {
                break;
            }
            most -= 1;
            for (rest, size) in rest.iter_mut().zip(&size) {
                *rest += size;
            }
        }
        self.counts[place] = 0;
    }
}
