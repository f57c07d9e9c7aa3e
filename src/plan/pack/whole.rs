//! The relaxation over whole contents for joined classes.
//!
//! Given a reduced problem of few classes, its rows and the kinds worth looking at; given back contents
//! of whole items with how often each is bought, and what one more item of each class would cost.
//! Contents are searched in steps that are counted: what is found is good, and not proven the best, so
//! no bound comes from here.

use super::budget::Meter;
use super::content::{self, Sought, TINY};
use super::knapsack::Knapsacks;
use super::master::{Column, Master};
use super::patterns::Bought;
use super::real::{real, work};
use super::reduced::Reduced;
use super::rows::Rows;

/// Steps of one search for contents, as long as such searches find some, and in the end.
const STEPS: [u64; 2] = [100, 600];
/// Units that one step stands for: each looks at all dimensions.
const STEP_UNITS: u64 = 2;
/// Steps that stand for the beginning of a search.
const FIRST_STEPS: u64 = 16;
/// Values are drawn so far to those that prove most (Wentges 1997).
const SMOOTH: f64 = 0.8;
/// The relaxation is solved when its price is this near to what its values prove.
const CLOSE: f64 = 1e-3;
/// What is missing costs so many times its value. Little at first: that keeps values near to those known.
const DEAR: [f64; 2] = [1.1, 20.0];
/// Known contents that are brought in between two looks at all of them.
const AT_ONCE: usize = 4;
/// So many times for each row contents come in before new ones are searched.
const MOST_ENTERED: usize = 40;
/// The kind of what is missing.
const NOTHING: usize = usize::MAX;

/// What the relaxation buys.
#[derive(Debug, Clone)]
pub struct Whole {
    /// Contents and how often.
    pub bought: Vec<Bought>,
    /// What one more item of each class would cost.
    pub values: Vec<f64>,
    /// What all of it costs.
    pub price: f64,
    /// Everything is bought.
    pub is_solved: bool,
    /// All contents that were found.
    known: Vec<Column>,
    /// The kinds that were looked at.
    kinds: Vec<usize>,
}

/// Solves the relaxation on these kinds until `percent` of the budget are spent. `values` are what
/// items are about worth.
pub fn whole<const D: usize>(
    reduced: &Reduced<D>,
    rows: &Rows<D>,
    kinds: &[usize],
    values: &[f64],
    percent: u64,
    meter: &mut Meter<'_>,
) -> Whole {
    let run = Run {
        reduced,
        rows,
        kinds,
        knapsacks: Knapsacks::of(reduced, rows),
        known: Vec::new(),
        center: values.to_vec(),
        bound: 0.0,
    };
    run.all(values, percent, meter)
}

impl Whole {
    /// The relaxation for other demands, with the contents that are known by now.
    pub fn again<const D: usize>(
        &self,
        reduced: &Reduced<D>,
        rows: &Rows<D>,
        percent: u64,
        meter: &mut Meter<'_>,
    ) -> Self {
        let demands = rows.list.iter().zip(&self.values);
        let run = Run {
            reduced,
            rows,
            kinds: &self.kinds,
            knapsacks: Knapsacks::of(reduced, rows),
            known: self.known.clone(),
            center: self.values.clone(),
            bound: demands.map(|(row, value)| row.demand * value).sum(),
        };
        run.all(&self.values, percent, meter)
    }
}

struct Run<'solve, const D: usize> {
    reduced: &'solve Reduced<D>,
    rows: &'solve Rows<D>,
    kinds: &'solve [usize],
    knapsacks: Knapsacks<'solve, D>,
    /// Contents found so far.
    known: Vec<Column>,
    /// The values that prove most so far, as far as the search sees.
    center: Vec<f64>,
    /// What they prove.
    bound: f64,
}

impl<const D: usize> Run<'_, D> {
    fn all(mut self, values: &[f64], percent: u64, meter: &mut Meter<'_>) -> Whole {
        let misses = |master: &Master| {
            let mut bought = master.bought();
            bought.any(|(column, amount)| column.kind == NOTHING && amount > 1e-6)
        };
        let mut master = self.master(values, DEAR[0], meter);
        self.solve(&mut master, percent, meter);
        for dear in &DEAR[1..] {
            if misses(&master) {
                master = self.master(values, *dear, meter);
                self.solve(&mut master, percent, meter);
            }
        }
        Whole {
            bought: master
                .bought()
                .filter(|(column, _amount)| column.kind != NOTHING)
                .map(Bought::of)
                .collect(),
            price: master.price(),
            is_solved: !misses(&master),
            values: self.center,
            known: self.known,
            kinds: self.kinds.to_vec(),
        }
    }

    /// A master that buys what is known, and what is missing at so many times its value.
    fn master(&self, values: &[f64], dear: f64, meter: &mut Meter<'_>) -> Master {
        let demands: Vec<f64> = self.rows.list.iter().map(|row| row.demand).collect();
        let least = values.iter().copied().fold(1.0, f64::max) / 1000.0;
        let nothing = (0_u32..)
            .zip(values)
            .map(|(row, value)| Column {
                kind: NOTHING,
                price: value.max(least) * dear,
                entries: vec![(row, 1.0)],
            })
            .collect();
        let mut master = Master::of(&demands, nothing);
        self.enter_known(&mut master, meter);
        master
    }

    fn solve(&mut self, master: &mut Master, percent: u64, meter: &mut Meter<'_>) {
        let mut effort = STEPS.into_iter();
        let mut steps = effort.next();
        let mut is_smooth = true;
        while let Some(most) = steps.filter(|_| !meter.is_past(percent) && !meter.ask_guard()) {
            let smooth = if is_smooth { SMOOTH } else { 0.0 };
            let values: Vec<f64> = master
                .duals()
                .iter()
                .zip(&self.center)
                .map(|(dual, center)| (1.0 - smooth) * dual.max(0.0) + smooth * center)
                .collect();
            let best = self.price(&values, most, meter);
            self.note_center(&values, best);
            let entered = self.enter_known(master, meter);
            if master.price() < self.bound * (1.0 + CLOSE) {
                break;
            }
            // Smoothed values may show nothing where those of the master do.
            if entered == 0 && !is_smooth {
                steps = effort.next();
            }
            is_smooth = entered > 0 || !is_smooth;
        }
    }

    /// Brings in contents that are known, the best ones first, until none makes the master cheaper;
    /// gives back how many came in.
    fn enter_known(&self, master: &mut Master, meter: &mut Meter<'_>) -> usize {
        let mut entered = 0;
        loop {
            let duals = master.duals();
            let mut gains: Vec<(f64, usize)> = self
                .known
                .iter()
                .enumerate()
                .filter_map(|(index, column)| {
                    let entries = column.entries.iter();
                    let value: f64 = entries
                        .map(|(row, amount)| duals[*row as usize] * amount)
                        .sum();
                    let gain = value / column.price;
                    (gain > 1.0 + 10.0 * TINY).then_some((gain, index))
                })
                .collect();
            meter.spend(work(self.known.len()) / 4);
            gains.sort_by(|left, right| right.0.total_cmp(&left.0).then(left.1.cmp(&right.1)));
            let mut now = 0;
            for (_gain, index) in gains.into_iter().take(AT_ONCE) {
                if master.enter(self.known[index].clone()) {
                    now += 1;
                    let pivots = 1 + master.settle();
                    meter.spend(pivots * master.pivot_units());
                }
            }
            entered += now;
            // Where many are worth the same the simplex may go round in circles.
            if now == 0 || entered > MOST_ENTERED * self.rows.list.len() || meter.is_truncated() {
                return entered;
            }
        }
    }

    /// Values that prove more than those before are what others are drawn to. `best` is the most that
    /// contents were worth by them for their price.
    fn note_center(&mut self, values: &[f64], best: f64) {
        let rows = self.rows.list.iter().zip(values);
        let sum: f64 = rows.map(|(row, value)| row.demand * value).sum();
        if sum / best > self.bound {
            self.bound = sum / best;
            self.center = values.iter().map(|value| value / best).collect();
        }
    }

    /// Notes contents worth more than their kind: for each kind the best with each class that keeps
    /// apart, and without any. Gives back the most that one is worth for its price, at least 1.
    fn price(&mut self, values: &[f64], most: u64, meter: &mut Meter<'_>) -> f64 {
        let mut best = 1.0_f64;
        let mut taken = 0;
        for kind in self.kinds {
            let price = real(self.reduced.kinds[*kind].price);
            let (_contents, worth) = self.knapsacks.solve(*kind, values);
            let above = price * (1.0 + 10.0 * TINY);
            if worth.total(&self.rows.caps) <= above {
                continue;
            }
            let sought = Sought {
                kind: *kind,
                values,
                worth: &worth.whole.0,
                above,
            };
            let (apart, mut others): (Vec<u32>, Vec<u32>) = self.rows.of_kind[*kind]
                .iter()
                .partition(|row| self.rows.list[**row as usize].capped.is_some());
            for own in apart.into_iter().map(Some).chain([None]) {
                let length = others.len();
                others.extend(own);
                let outcome = content::best(self.reduced, &others, sought, most);
                others.truncate(length);
                taken += outcome.steps + FIRST_STEPS;
                if let Some((value, contents)) = outcome.found {
                    best = best.max(value / price);
                    self.known.push(Column {
                        kind: *kind,
                        price,
                        entries: contents
                            .iter()
                            .map(|(class, count)| (*class, f64::from(*count)))
                            .collect(),
                    });
                }
            }
        }
        meter.spend(taken * STEP_UNITS + std::mem::take(&mut self.knapsacks.units));
        best
    }
}
