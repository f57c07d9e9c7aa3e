//! The pattern relaxation (Gilmore and Gomory 1961) for problems of few classes.
//!
//! Given the reduced problem with one row for each class; given back patterns of whole items with
//! how often the relaxation buys each, and the duals. Pricing is exact where a depth-first search
//! ends within its limit, so in the end the duals prove the bound of whole patterns.

use super::budget::Meter;
use super::knapsack::{Knapsacks, Worth};
use super::master::{Column, Master};
use super::pricing::Pricing;
use super::real::{real, short, whole_count};
use super::reduced::Reduced;
use super::relaxation::enter;
use super::rows::Rows;

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

impl Bought {
    /// What a master buys of a column: its entries are whole but for rounding.
    pub fn of((column, amount): (&Column, f64)) -> Self {
        let entries = column.entries.iter();
        Self {
            kind: column.kind,
            contents: entries
                .map(|(row, amount)| (*row, whole_count(amount + 0.5)))
                .collect(),
            amount,
        }
    }
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

/// Solves the relaxation over whole patterns until `percent` of the budget are spent.
pub fn patterns<const D: usize>(
    reduced: &Reduced<D>,
    rows: &Rows<D>,
    orders: &[Vec<u32>],
    seeds: &[(usize, Vec<(u32, u32)>)],
    percent: u64,
    meter: &mut Meter<'_>,
) -> Patterns {
    let mut pricing = Pricing::of(reduced, rows, orders, meter.limit());
    let prices: Vec<f64> = reduced.kinds.iter().map(|kind| real(kind.price)).collect();
    let demands: Vec<f64> = rows.list.iter().map(|row| row.demand).collect();
    let mut master = Master::of(&demands, singles(reduced));
    let seeds = seeds
        .iter()
        .map(|(kind, contents)| (1.0, column(reduced, *kind, contents)))
        .collect();
    enter(&mut master, seeds, usize::MAX, meter);
    loop {
        let values: Vec<f64> = master.duals().iter().map(|dual| dual.max(0.0)).collect();
        let columns = pricing
            .price(&values, &prices)
            .into_iter()
            .map(|found| {
                let ratio = found.value / prices[found.kind];
                (ratio, column(reduced, found.kind, &found.contents))
            })
            .collect();
        meter.spend(pricing.take_units());
        if enter(&mut master, columns, 4 * rows.list.len(), meter) == 0 || meter.is_past(percent) {
            break;
        }
    }
    Patterns {
        bought: master.bought().map(Bought::of).collect(),
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

fn column<const D: usize>(reduced: &Reduced<D>, kind: usize, contents: &[(u32, u32)]) -> Column {
    Column {
        kind,
        price: real(reduced.kinds[kind].price),
        entries: contents
            .iter()
            .map(|(class, count)| (*class, f64::from(*count)))
            .collect(),
    }
}

/// For each class the kind on which one item costs least, full of nothing else.
fn singles<const D: usize>(reduced: &Reduced<D>) -> Vec<Column> {
    reduced
        .classes
        .iter()
        .enumerate()
        .map(|(index, class)| {
            let best = (0..reduced.kinds.len())
                .filter_map(|kind| {
                    let most = reduced.most(class, kind);
                    let price = real(reduced.kinds[kind].price);
                    (most > 0).then_some((price / f64::from(most), kind, most))
                })
                .min_by(|left, right| left.0.total_cmp(&right.0));
            let (_each, kind, most) = best.unwrap_or((0.0, 0, 1));
            column(reduced, kind, &[(short(index), most)])
        })
        .collect()
}
