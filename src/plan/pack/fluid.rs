//! The fluid bound: one price for each resource, the same on every kind.
//!
//! Given the reduced problem and its rows; given back what each kind's capacities are worth when
//! demand may be poured over machines like water. Quick, never above any kind's price, and the start
//! of everything better: a small master with one row for each dimension and each capped group.

use super::knapsack::{Dimensions, Worth};
use super::master::{Column, Master};
use super::real::{real, short};
use super::reduced::{Class, Reduced};
use super::rows::Rows;

/// Pivots after which the prices are taken as they are.
const MOST_PIVOTS: usize = 200;

/// What the capacities of every kind are worth, scaled up to its price.
pub fn worth<const D: usize>(reduced: &Reduced<D>, rows: &Rows<D>) -> Vec<Worth<D>> {
    let mut demands = vec![0.0; D + rows.caps.len()];
    for row in &rows.list {
        for (demand, size) in demands.iter_mut().zip(&row.size) {
            *demand += size * row.demand;
        }
        if let Some((group, weight)) = row.capped {
            demands[D + group] += weight * row.demand;
        }
    }
    let prices = unit_prices(reduced, rows, &demands);
    reduced
        .kinds
        .iter()
        .map(|kind| {
            let mut worth = Worth {
                whole: Dimensions(std::array::from_fn(|dimension| {
                    prices[dimension] * real(kind.capacity[dimension])
                })),
                load: prices.get(D..).unwrap_or_default().to_vec(),
            };
            let total = worth.total(&rows.caps);
            if total > 0.0 {
                worth.scale(real(kind.price) / total);
            }
            worth
        })
        .collect()
}

/// What one item of each class takes by the prices of what is left: so many of each class.
pub fn values<const D: usize>(reduced: &Reduced<D>, rows: &Rows<D>, left: &[u32]) -> Vec<f64> {
    let mut demands = vec![0.0; D + rows.caps.len()];
    let group = |class: &Class<D>| {
        let capped = class.capped?;
        Some((
            D + rows.groups.get(&capped.group)?,
            f64::from(capped.weight),
        ))
    };
    for (class, left) in reduced.classes.iter().zip(left) {
        let left = f64::from(*left);
        for (demand, size) in demands.iter_mut().zip(&class.size) {
            *demand += real(*size) * left;
        }
        if let Some((row, weight)) = group(class) {
            demands[row] += weight * left;
        }
    }
    let prices = unit_prices(reduced, rows, &demands);
    reduced
        .classes
        .iter()
        .map(|class| {
            let carried: f64 = class
                .size
                .iter()
                .zip(&prices)
                .map(|(size, price)| real(*size) * price)
                .sum();
            carried + group(class).map_or(0.0, |(row, weight)| weight * prices[row])
        })
        .collect()
}

/// Price of one unit of each dimension, then of one unit of load of each group.
fn unit_prices<const D: usize>(reduced: &Reduced<D>, rows: &Rows<D>, demands: &[f64]) -> Vec<f64> {
    let size = demands.len();
    // Rows that nothing asks for would have no first column.
    let asked: Vec<usize> = (0..size).filter(|row| demands[*row] > 0.0).collect();
    let amounts = |kind: usize| -> Vec<(u32, f64)> {
        asked
            .iter()
            .enumerate()
            .map(|(position, row)| {
                let amount = if *row < D {
                    real(reduced.kinds[kind].capacity[*row])
                } else {
                    rows.caps[*row - D]
                };
                (short(position), amount)
            })
            .filter(|(_position, amount)| *amount > 0.0)
            .collect()
    };
    let columns: Vec<Column> = (0..reduced.kinds.len())
        .map(|kind| Column {
            kind,
            price: real(reduced.kinds[kind].price),
            entries: amounts(kind),
        })
        .collect();
    let singles: Vec<Column> = (0..short(asked.len()))
        .filter_map(|position| single(&columns, position))
        .collect();
    let mut prices = vec![0.0; size];
    if singles.len() < asked.len() {
        return prices;
    }
    let asked_for: Vec<f64> = asked.iter().map(|row| demands[*row]).collect();
    let mut master = Master::of(&asked_for, singles);
    for _pivot in 0..MOST_PIVOTS {
        let value = |column: &Column| -> f64 {
            let value: f64 = column
                .entries
                .iter()
                .map(|(row, amount)| master.duals()[*row as usize] * amount)
                .sum();
            value / column.price
        };
        let best = columns
            .iter()
            .max_by(|left, right| value(left).total_cmp(&value(right)))
            .filter(|column| value(column) > 1.0 + 1e-9)
            .cloned();
        if !best.is_some_and(|column| master.enter(column)) {
            break;
        }
        master.settle();
    }
    for (row, dual) in asked.iter().zip(master.duals()) {
        prices[*row] = dual.max(0.0);
    }
    prices
}

/// The column that gives most of one row for its price, with nothing else of it.
fn single(columns: &[Column], position: u32) -> Option<Column> {
    let amount = |column: &Column| {
        column
            .entries
            .iter()
            .find(|(row, _amount)| *row == position)
            .map_or(0.0, |(_row, amount)| *amount)
    };
    let best = columns.iter().max_by(|left, right| {
        (amount(left) / left.price).total_cmp(&(amount(right) / right.price))
    })?;
    (amount(best) > 0.0).then(|| Column {
        entries: vec![(position, amount(best))],
        ..best.clone()
    })
}
