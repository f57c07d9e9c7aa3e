//! The fit-aware linear relaxation: what capacities are worth on every kind of machine.
//!
//! Given the reduced problem and its rows; given back for each kind what its capacities are worth,
//! never more than its price. Whatever these are, a class is worth no more than what it takes on any
//! kind that takes it, so they always prove a lower bound; column generation makes it a good one.

use super::budget::Meter;
use super::fluid;
use super::knapsack::{Dimensions, Knapsacks, Worth};
use super::master::{Column, Master};
use super::real::{real, short};
use super::reduced::{Class, Reduced};
use super::rows::Rows;

/// The relaxation is solved when the master is this near to the bound.
const CLOSE: f64 = 1e-5;
/// Above this gap the duals are smoothed (Wentges 1997).
const WIDE: f64 = 0.02;
/// Most kinds that one round prices anew: those whose worth is farthest from carrying the values.
const MOST_PRICED: usize = 100;
/// Most columns that one round brings in for each row.
const COLUMNS_PER_ROW: usize = 2;

/// What the relaxation found.
#[derive(Debug, Clone)]
pub struct Relaxation<const D: usize> {
    /// By kind.
    pub worth: Vec<Worth<D>>,
    /// Kinds that the relaxation buys, the most important first, then the others by how near they
    /// are to being bought.
    pub kinds: Vec<usize>,
    /// For each row the kind that most of it is bought on.
    pub home: Vec<usize>,
}

struct Run<'solve, const D: usize> {
    rows: &'solve Rows<D>,
    prices: Vec<f64>,
    knapsacks: Knapsacks<'solve, D>,
    worth: Vec<Worth<D>>,
    best: Vec<Worth<D>>,
    best_values: Vec<f64>,
    bound: f64,
}

/// Solves the relaxation until `percent` of the budget are spent; one round of pricing always
/// completes.
pub fn relax<const D: usize>(
    reduced: &Reduced<D>,
    rows: &Rows<D>,
    percent: u64,
    meter: &mut Meter<'_>,
) -> Relaxation<D> {
    let mut run = Run {
        rows,
        prices: reduced.kinds.iter().map(|kind| real(kind.price)).collect(),
        knapsacks: Knapsacks::of(reduced, rows),
        worth: fluid::worth(reduced, rows),
        best: Vec::new(),
        best_values: Vec::new(),
        bound: -1.0,
    };
    let singles = run.singles();
    let demands: Vec<f64> = rows.list.iter().map(|row| row.demand).collect();
    let mut master = Master::of(&demands, singles);
    run.note_bound();
    let mut smooth = true;
    loop {
        let values: Vec<f64> = master
            .duals()
            .iter()
            .enumerate()
            .map(|(row, dual)| {
                let dual = dual.max(0.0);
                if smooth {
                    0.5 * dual + 0.5 * run.best_values[row]
                } else {
                    dual
                }
            })
            .collect();
        let columns = run.price(&values, &master);
        run.note_bound();
        meter.spend(run.knapsacks.units);
        run.knapsacks.units = 0;
        let price = master.price();
        let gap = (price - run.bound) / price.max(f64::MIN_POSITIVE);
        if gap < CLOSE || meter.is_past(percent) {
            break;
        }
        let entered = enter(
            &mut master,
            columns,
            COLUMNS_PER_ROW * rows.list.len(),
            meter,
        );
        if entered == 0 {
            if !smooth {
                break;
            }
            smooth = false;
            continue;
        }
        smooth = gap > WIDE;
    }
    let kinds = run.promising(&master);
    Relaxation {
        home: home(&master, rows.list.len()),
        worth: run.best,
        kinds,
    }
}

/// The kind that takes most of each row in the master's fleet.
fn home(master: &Master, rows: usize) -> Vec<usize> {
    let mut most: Vec<(f64, usize)> = vec![(0.0, 0); rows];
    for (column, often) in master.bought() {
        for (row, amount) in &column.entries {
            let known = &mut most[*row as usize];
            if amount * often > known.0 {
                *known = (amount * often, column.kind);
            }
        }
    }
    most.into_iter().map(|(_amount, kind)| kind).collect()
}

/// Brings the best columns in; gives back how many made the master cheaper.
pub fn enter(
    master: &mut Master,
    mut columns: Vec<(f64, Column)>,
    most: usize,
    meter: &mut Meter<'_>,
) -> usize {
    columns.sort_by(|left, right| {
        right
            .0
            .total_cmp(&left.0)
            .then(left.1.kind.cmp(&right.1.kind))
    });
    let mut entered = 0;
    for (_ratio, column) in columns.into_iter().take(most.max(8)) {
        if master.enter(column) {
            entered += 1;
            meter.spend(master.pivot_units());
            let pivots = master.settle();
            meter.spend(pivots * master.pivot_units());
        }
    }
    entered
}

impl<const D: usize> Run<'_, D> {
    /// For each row the kind on which one item costs least, full of nothing else.
    fn singles(&mut self) -> Vec<Column> {
        let mut best: Vec<Option<(f64, usize, f64)>> = vec![None; self.rows.list.len()];
        for kind in 0..self.prices.len() {
            let rows: Vec<u32> = self.rows.of_kind[kind].clone();
            for row in rows {
                let amount = self.knapsacks.most(row as usize, kind);
                let each = self.prices[kind] / amount;
                let slot = &mut best[row as usize];
                if slot.is_none_or(|(least, _, _)| each < least) {
                    *slot = Some((each, kind, amount));
                }
            }
        }
        best.into_iter()
            .enumerate()
            .map(|(row, found)| {
                let (_each, kind, amount) = found.unwrap_or((0.0, 0, 1.0));
                Column {
                    kind,
                    price: self.prices.get(kind).copied().unwrap_or(1.0),
                    entries: vec![(short(row), amount)],
                }
            })
            .collect()
    }

    /// Prices every kind anew whose worth does not carry the values. The columns given back would
    /// make the master cheaper.
    fn price(&mut self, values: &[f64], master: &Master) -> Vec<(f64, Column)> {
        let mut columns = Vec::new();
        let mut broken: Vec<(f64, usize)> = (0..self.prices.len())
            .map(|kind| (self.knapsacks.ratio(kind, values, &self.worth[kind]), kind))
            .filter(|(ratio, _kind)| *ratio > 1.0 + 1e-7)
            .collect();
        broken.sort_by(|left, right| right.0.total_cmp(&left.0).then(left.1.cmp(&right.1)));
        broken.truncate(MOST_PRICED);
        for (_ratio, kind) in broken {
            let (entries, mut worth) = self.knapsacks.solve(kind, values);
            let price = self.prices[kind];
            let total = worth.total(&self.rows.caps);
            if total > 0.0 && total.is_finite() {
                worth.scale(price / total);
                self.worth[kind] = worth;
            }
            let value: f64 = entries
                .iter()
                .map(|(row, amount)| master.duals()[*row as usize] * amount)
                .sum();
            if value > price * (1.0 + 1e-9) {
                columns.push((
                    value / price,
                    Column {
                        kind,
                        price,
                        entries,
                    },
                ));
            }
        }
        columns
    }

    fn note_bound(&mut self) {
        let mut values = vec![f64::INFINITY; self.rows.list.len()];
        for (kind, rows) in self.rows.of_kind.iter().enumerate() {
            for row in rows {
                let value = self.knapsacks.value(*row as usize, kind, &self.worth[kind]);
                let slot = &mut values[*row as usize];
                *slot = slot.min(value);
            }
            self.knapsacks.units += rows.len() as u64 / 2;
        }
        let bound: f64 = self
            .rows
            .list
            .iter()
            .zip(&values)
            .map(|(row, value)| row.demand * value)
            .sum();
        if bound > self.bound && bound.is_finite() {
            self.bound = bound;
            self.best.clone_from(&self.worth);
            self.best_values = values;
        } else if self.best.is_empty() {
            self.best.clone_from(&self.worth);
            self.best_values = vec![0.0; self.rows.list.len()];
        }
    }

    fn promising(&self, master: &Master) -> Vec<usize> {
        let mut scores: Vec<(f64, usize)> = self
            .prices
            .iter()
            .enumerate()
            .map(|(kind, price)| {
                // The share of its worth that items find at the values of the bound.
                let nearest = self.rows.of_kind[kind]
                    .iter()
                    .map(|row| {
                        let carried = self.knapsacks.value(*row as usize, kind, &self.best[kind]);
                        self.best_values[*row as usize] / carried.max(f64::MIN_POSITIVE)
                    })
                    .fold(0.0, f64::max);
                (if *price > 0.0 { nearest } else { 0.0 }, kind)
            })
            .collect();
        for (column, amount) in master.bought() {
            if let Some(score) = scores.get_mut(column.kind) {
                score.0 += 1.0 + amount * column.price;
            }
        }
        scores.sort_by(|left, right| right.0.total_cmp(&left.0).then(left.1.cmp(&right.1)));
        scores.into_iter().map(|(_score, kind)| kind).collect()
    }
}

impl<const D: usize> Relaxation<D> {
    /// What one item of each class is worth: the least of what it takes on any kind that takes it.
    pub fn values(&self, reduced: &Reduced<D>, rows: &Rows<D>, meter: &mut Meter<'_>) -> Vec<f64> {
        let unit: Vec<[f64; D]> = self
            .worth_or_near(reduced, rows)
            .iter()
            .zip(&reduced.kinds)
            .map(|(worth, kind)| {
                std::array::from_fn(|dimension| {
                    let capacity = kind.capacity[dimension];
                    if capacity > 0 {
                        worth.whole.0[dimension] / real(capacity)
                    } else {
                        0.0
                    }
                })
            })
            .collect();
        let pairs = reduced.classes.len() * reduced.kinds.len();
        meter.spend(real_work(pairs));
        reduced
            .classes
            .iter()
            .map(|class| self.value(reduced, rows, class, &unit))
            .collect()
    }

    fn value(
        &self,
        reduced: &Reduced<D>,
        rows: &Rows<D>,
        class: &Class<D>,
        unit: &[[f64; D]],
    ) -> f64 {
        let size = class.size.map(real);
        let capped = class.capped.and_then(|relation| {
            let group = *rows.groups.get(&relation.group)?;
            Some((group, f64::from(relation.weight)))
        });
        let mut least = f64::INFINITY;
        for (kind, unit) in unit.iter().enumerate() {
            let mut value = 0.0;
            for dimension in 0..D {
                value += size[dimension] * unit[dimension];
            }
            if let Some((group, weight)) = capped {
                value += self.worth[kind].load.get(group).copied().unwrap_or(0.0) * weight;
            }
            if value < least && reduced.takes(class, kind) {
                least = value;
            }
        }
        if least.is_finite() { least } else { 0.0 }
    }

    /// The worths; those of kinds that no row looks at follow the unit prices of the nearest one
    /// that some row does.
    pub fn worth_or_near(&self, reduced: &Reduced<D>, rows: &Rows<D>) -> Vec<Worth<D>> {
        let known: Vec<usize> = (0..self.worth.len())
            .filter(|kind| self.worth[*kind].total(&rows.caps) > 0.0)
            .collect();
        let mut worth = self.worth.clone();
        for (kind, own) in worth.iter_mut().enumerate() {
            if own.total(&rows.caps) > 0.0 {
                continue;
            }
            let Some(near) = known.iter().min_by_key(|known| known.abs_diff(kind)) else {
                continue;
            };
            let near_capacity = reduced.kinds[*near].capacity;
            let capacity = reduced.kinds[kind].capacity;
            *own = Worth {
                whole: Dimensions(std::array::from_fn(|dimension| {
                    self.worth[*near].whole.0[dimension] * real(capacity[dimension])
                        / real(near_capacity[dimension].max(1))
                })),
                load: vec![0.0; rows.caps.len()],
            };
            let total = own.total(&rows.caps);
            if total > 0.0 {
                own.scale(real(reduced.kinds[kind].price) / total);
            }
        }
        worth
    }
}

fn real_work(pairs: usize) -> u64 {
    // Half a unit for each pair: a few multiplications without a branch.
    super::real::work(pairs) / 2
}
