//! Pricing with fractions: the contents of one machine that are worth most, items divisible.
//!
//! Given values of rows and a kind; given back the best divisible contents and the worth of each
//! capacity that proves that no contents are worth more. A small simplex: one row for each dimension
//! and for each capped group.

use super::real::real;
use super::reduced::Reduced;
use super::rows::Rows;

/// Most steps; with a dozen rows some twenty are needed.
const MOST_STEPS: usize = 60;
/// Gains below this share of a value are none.
const TINY: f64 = 1e-10;

/// What a machine's capacities are worth.
#[derive(Debug, Clone, PartialEq)]
pub struct Worth<const D: usize> {
    /// Of the whole capacity, by dimension.
    pub whole: Dimensions<D>,
    /// Of one unit of load of each capped group.
    pub load: Vec<f64>,
}

/// An amount for each dimension.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dimensions<const D: usize>(pub [f64; D]);

impl<const D: usize> Worth<D> {
    /// Worth nothing, with so many capped groups.
    pub fn none(groups: usize) -> Self {
        Self {
            whole: Dimensions([0.0; D]),
            load: vec![0.0; groups],
        }
    }

    /// Worth of everything on the machine.
    pub fn total(&self, caps: &[f64]) -> f64 {
        self.whole.0.iter().sum::<f64>()
            + self
                .load
                .iter()
                .zip(caps)
                .map(|(load, cap)| load * cap)
                .sum::<f64>()
    }

    /// The same worth times a factor.
    pub fn scale(&mut self, factor: f64) {
        for whole in &mut self.whole.0 {
            *whole *= factor;
        }
        for load in &mut self.load {
            *load *= factor;
        }
    }
}

/// The pricing problems of one relaxation.
#[derive(Debug)]
pub struct Knapsacks<'solve, const D: usize> {
    rows: &'solve Rows<D>,
    /// One over each capacity, by kind.
    shares: Vec<[f64; D]>,
    /// Work done since it was last asked for.
    pub units: u64,
}

/// The rows of one small simplex.
struct Small<'solve, const D: usize> {
    rows: &'solve Rows<D>,
    shares: &'solve [f64; D],
    size: usize,
    basis: Vec<Option<u32>>,
    inverse: Vec<f64>,
    amounts: Vec<f64>,
    duals: Vec<f64>,
}

impl<'solve, const D: usize> Knapsacks<'solve, D> {
    /// For these rows.
    pub fn of(reduced: &Reduced<D>, rows: &'solve Rows<D>) -> Self {
        Self {
            rows,
            shares: reduced
                .kinds
                .iter()
                .map(|kind| {
                    kind.capacity.map(|capacity| {
                        if capacity > 0 {
                            1.0 / real(capacity)
                        } else {
                            0.0
                        }
                    })
                })
                .collect(),
            units: 0,
        }
    }

    /// What one item of the row is worth on the kind by the worth of what it takes.
    #[inline]
    pub fn value(&self, row: usize, kind: usize, worth: &Worth<D>) -> f64 {
        let row = &self.rows.list[row];
        let shares = &self.shares[kind];
        let mut value = 0.0;
        for ((size, share), whole) in row.size.iter().zip(shares).zip(&worth.whole.0) {
            value += size * share * whole;
        }
        if let Some((group, weight)) = row.capped {
            value += worth.load[group] * weight;
        }
        value
    }

    /// How many items of the row go on a machine of the kind, fractions included; never 0.
    pub fn most(&self, row: usize, kind: usize) -> f64 {
        let row = &self.rows.list[row];
        let mut share = 1e-6_f64;
        for (size, of_one) in row.size.iter().zip(&self.shares[kind]) {
            share = share.max(size * of_one);
        }
        if let Some((group, weight)) = row.capped {
            share = share.max(weight / self.rows.caps[group].max(TINY));
        }
        1.0 / share
    }

    /// The most that a row is worth for the worth of what it takes.
    pub fn ratio(&mut self, kind: usize, values: &[f64], worth: &Worth<D>) -> f64 {
        let rows = &self.rows.of_kind[kind];
        self.units += rows.len() as u64;
        let mut most = 0.0_f64;
        for row in rows {
            let carried = self.value(*row as usize, kind, worth);
            let value = values[*row as usize];
            if value > carried * most {
                most = value / carried.max(f64::MIN_POSITIVE);
            }
        }
        most
    }

    /// The best divisible contents of the kind, and the worth that proves it.
    pub fn solve(&mut self, kind: usize, values: &[f64]) -> (Vec<(u32, f64)>, Worth<D>) {
        let groups = self.rows.caps.len();
        let size = D + groups;
        let mut small = Small {
            rows: self.rows,
            shares: &self.shares[kind],
            size,
            basis: vec![None; size],
            inverse: vec![0.0; size * size],
            amounts: vec![1.0; size],
            duals: vec![0.0; size],
        };
        for row in 0..size {
            small.inverse[row * size + row] = 1.0;
        }
        let candidates = &self.rows.of_kind[kind];
        for _step in 0..MOST_STEPS {
            self.units += candidates.len() as u64;
            if !small.step(candidates, values) {
                break;
            }
        }
        let contents = small
            .basis
            .iter()
            .zip(&small.amounts)
            .filter_map(|(basic, amount)| Some((((*basic)?), *amount)))
            .filter(|(_row, amount)| *amount > TINY)
            .collect();
        let mut worth = Worth {
            whole: Dimensions(std::array::from_fn(|dimension| {
                small.duals[dimension].max(0.0)
            })),
            load: (0..groups)
                .map(|group| {
                    let cap = self.rows.caps[group];
                    if cap > 0.0 {
                        small.duals[D + group].max(0.0) / cap
                    } else {
                        0.0
                    }
                })
                .collect(),
        };
        // Whatever the simplex missed is made good here: the worth must carry every value.
        let factor = candidates
            .iter()
            .map(|row| {
                let value = values[*row as usize];
                let carried = self.value(*row as usize, kind, &worth);
                if value <= carried {
                    1.0
                } else if carried > 0.0 {
                    value / carried
                } else {
                    f64::INFINITY
                }
            })
            .fold(1.0, f64::max);
        if factor.is_finite() {
            worth.scale(factor);
        }
        (contents, worth)
    }
}

impl<const D: usize> Small<'_, D> {
    /// How much of each row of the small problem one item takes.
    #[inline]
    fn amount(&self, item: u32, row: usize) -> f64 {
        let item = &self.rows.list[item as usize];
        if row < D {
            return item.size[row] * self.shares[row];
        }
        match item.capped {
            Some((group, weight)) if group == row - D && self.rows.caps[group] > 0.0 => {
                weight / self.rows.caps[group]
            }
            _ => 0.0,
        }
    }

    /// One step to better contents; false when there is none.
    fn step(&mut self, candidates: &[u32], values: &[f64]) -> bool {
        let mut best: Option<(f64, Option<u32>, usize)> = None;
        for row in 0..self.size {
            if self.duals[row] < -TINY {
                let gain = -self.duals[row];
                if best.is_none_or(|(most, _, _)| gain > most) {
                    best = Some((gain, None, row));
                }
            }
        }
        if best.is_none() {
            for item in candidates {
                let row = &self.rows.list[*item as usize];
                let mut carried = 0.0;
                let mut largest = 0.0_f64;
                for dimension in 0..D {
                    let amount = row.size[dimension] * self.shares[dimension];
                    carried += amount * self.duals[dimension];
                    largest = largest.max(amount);
                }
                if let Some((group, weight)) = row.capped {
                    let amount = weight / self.rows.caps[group].max(TINY);
                    carried += amount * self.duals[D + group];
                    largest = largest.max(amount);
                }
                let value = values[*item as usize];
                if value > carried * (1.0 + TINY) + f64::MIN_POSITIVE {
                    // The gain that a machine full of it would bring: sizes differ by far.
                    let gain = (value - carried) / largest.max(TINY);
                    if best.is_none_or(|(most, _, _)| gain > most) {
                        best = Some((gain, Some(*item), 0));
                    }
                }
            }
        }
        let Some((_gain, item, slack)) = best else {
            return false;
        };
        self.enter(item, slack, values)
    }

    fn enter(&mut self, item: Option<u32>, slack: usize, values: &[f64]) -> bool {
        let size = self.size;
        let direction: Vec<f64> = (0..size)
            .map(|row| match item {
                None => self.inverse[row * size + slack],
                Some(item) => (0..size)
                    .map(|column| self.inverse[row * size + column] * self.amount(item, column))
                    .sum(),
            })
            .collect();
        let mut leaving: Option<(f64, usize)> = None;
        for (row, step) in direction.iter().enumerate() {
            if *step > TINY {
                let ratio = self.amounts[row].max(0.0) / step;
                if leaving.is_none_or(|(least, _)| ratio < least) {
                    leaving = Some((ratio, row));
                }
            }
        }
        let Some((ratio, out)) = leaving else {
            return false;
        };
        let step = direction[out];
        let old: Vec<f64> = self.inverse[out * size..(out + 1) * size].to_vec();
        for (row, factor) in direction.iter().enumerate() {
            if row == out {
                continue;
            }
            self.amounts[row] -= factor * ratio;
            let slots = &mut self.inverse[row * size..(row + 1) * size];
            for (slot, entry) in slots.iter_mut().zip(&old) {
                *slot -= factor / step * entry;
            }
        }
        let slots = &mut self.inverse[out * size..(out + 1) * size];
        for (slot, entry) in slots.iter_mut().zip(&old) {
            *slot = entry / step;
        }
        self.amounts[out] = ratio;
        self.basis[out] = item;
        self.duals = vec![0.0; size];
        for row in 0..size {
            if let Some(basic) = self.basis[row] {
                for column in 0..size {
                    self.duals[column] +=
                        values[basic as usize] * self.inverse[row * size + column];
                }
            }
        }
        true
    }
}
