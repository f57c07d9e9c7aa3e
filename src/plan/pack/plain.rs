//! Greedy for any number of dimensions: the answer of last resort for problems too wide for the
//! solver proper.
//!
//! Given a problem and a value for each item; given back a packing that is always valid. Items that
//! no machine takes are left.

use super::problem::{Item, Loads, Packed, Packing, Problem, take, times_into};

/// How a fill goes through the items.
type Order = Vec<usize>;
/// Item index and how many.
type Contents = Vec<(usize, u32)>;

/// Packs everything that can be packed. `values` rate one of each item.
pub fn greedy(problem: &Problem, values: &[f64]) -> Packing {
    let mut left: Vec<u32> = problem.items.iter().map(|item| item.count).collect();
    let orders = orders(problem, values);
    let mut machines: Vec<Packed> = Vec::new();
    while let Some((machine, contents)) = best_fill(problem, values, &orders, &left) {
        let copies = contents
            .iter()
            .map(|(item, count)| left.get(*item).copied().unwrap_or(0) / count)
            .min()
            .unwrap_or(0)
            .max(1);
        for (item, count) in &contents {
            if let Some(left) = left.get_mut(*item) {
                *left = left.saturating_sub(count.saturating_mul(copies));
            }
        }
        let machine = shrink(problem, machine, &contents);
        machines.push(Packed {
            machine,
            contents,
            copies,
        });
    }
    Packing { machines, left }
}

fn orders(problem: &Problem, values: &[f64]) -> Vec<Order> {
    let largest: Vec<f64> = (0..problem.dimensions)
        .map(|dimension| {
            problem
                .machines
                .iter()
                .filter_map(|machine| machine.capacity.get(dimension))
                .max()
                .map_or(1.0, |most| real((*most).max(1)))
        })
        .collect();
    let share = |item: &Item| {
        item.size
            .iter()
            .zip(&largest)
            .map(|(size, largest)| real(*size) / largest)
            .fold(0.0, f64::max)
    };
    let mut keys: Vec<Vec<f64>> = vec![problem.items.iter().map(share).collect(), values.to_vec()];
    for dimension in 0..problem.dimensions.min(4) {
        keys.push(
            problem
                .items
                .iter()
                .map(|item| item.size.get(dimension).map_or(0.0, |size| real(*size)))
                .collect(),
        );
    }
    keys.into_iter()
        .map(|key| {
            let mut order: Order = (0..problem.items.len()).collect();
            order.sort_by(|left, right| {
                let of = |index: &usize| key.get(*index).copied().unwrap_or(0.0);
                of(right).total_cmp(&of(left)).then(left.cmp(right))
            });
            order
        })
        .collect()
}

fn best_fill(
    problem: &Problem,
    values: &[f64],
    orders: &[Order],
    left: &[u32],
) -> Option<(usize, Vec<(usize, u32)>)> {
    let mut best: Option<(f64, usize, Contents)> = None;
    for machine in 0..problem.machines.len() {
        let price = problem
            .machines
            .get(machine)
            .map_or(1.0, |machine| real(machine.price.max(1)));
        for order in orders {
            let contents = fill(problem, machine, order, left);
            if contents.is_empty() {
                break;
            }
            let value: f64 = contents
                .iter()
                .map(|(item, count)| values.get(*item).copied().unwrap_or(0.0) * f64::from(*count))
                .sum();
            let score = value / price;
            if best.as_ref().is_none_or(|(most, _, _)| score > *most) {
                best = Some((score, machine, contents));
            }
        }
    }
    best.map(|(_score, machine, contents)| (machine, contents))
}

fn fill(problem: &Problem, machine: usize, order: &[usize], left: &[u32]) -> Vec<(usize, u32)> {
    let Some(capacity) = problem.machines.get(machine).map(|found| &found.capacity) else {
        return Vec::new();
    };
    let mut free = capacity.clone();
    let mut loads = Loads::default();
    let mut contents = Vec::new();
    for index in order {
        let (Some(item), Some(most)) = (problem.items.get(*index), left.get(*index)) else {
            continue;
        };
        if *most == 0 || !item.allowed.contains(machine) {
            continue;
        }
        let count = times_into(&item.size, &free, *most).min(loads.room(&item.relations));
        if count > 0 {
            take(&mut free, &item.size, count);
            loads.add(&item.relations, count);
            contents.push((*index, count));
        }
    }
    contents.sort_unstable();
    contents
}

/// The cheapest machine that holds the contents.
pub fn shrink(problem: &Problem, machine: usize, contents: &[(usize, u32)]) -> usize {
    let mut need = vec![0_i64; problem.dimensions];
    for (index, count) in contents {
        if let Some(item) = problem.items.get(*index) {
            for (need, size) in need.iter_mut().zip(&item.size) {
                *need = need.saturating_add(size.saturating_mul(i64::from(*count)));
            }
        }
    }
    let holds = |candidate: usize| {
        problem.machines.get(candidate).is_some_and(|found| {
            need.iter()
                .zip(&found.capacity)
                .all(|(need, capacity)| *need <= 0 || need <= capacity)
        }) && contents.iter().all(|(index, _count)| {
            problem
                .items
                .get(*index)
                .is_some_and(|item| item.allowed.contains(candidate))
        })
    };
    let price = |candidate: usize| {
        problem
            .machines
            .get(candidate)
            .map_or(i64::MAX, |m| m.price)
    };
    (0..problem.machines.len())
        .filter(|candidate| *candidate == machine || holds(*candidate))
        .min_by_key(|candidate| (price(*candidate), *candidate))
        .unwrap_or(machine)
}

/// An integer as a real number, for scores only.
#[expect(
    clippy::cast_precision_loss,
    reason = "scores only rank; amounts above 2^53 lose digits that no rank depends on"
)]
pub const fn real(value: i64) -> f64 {
    value as f64
}
/// A first estimate of what an item is worth: its share of the cheapest machine that it fits.
pub fn values(problem: &Problem) -> Vec<f64> {
    problem
        .items
        .iter()
        .map(|item| {
            item.allowed
                .iter()
                .filter_map(|index| problem.machines.get(index))
                .map(|machine| {
                    let share = item
                        .size
                        .iter()
                        .zip(&machine.capacity)
                        .map(|(size, capacity)| real(*size) / real((*capacity).max(1)))
                        .fold(0.0, f64::max);
                    share * real(machine.price)
                })
                .fold(f64::INFINITY, f64::min)
        })
        .map(|value| if value.is_finite() { value } else { 0.0 })
        .collect()
}
