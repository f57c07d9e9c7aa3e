//! New nodes: the packer, asked level by level and held to the limits.
//!
//! Given items that no existing room took; given back machines with contents. An item is tried on
//! its best level first; what limits keep out there goes to the next.

use super::bits::Bits;
use super::item::Item;
use super::limits::Rooms;
use super::pack::greedy::{greedy, real};
use super::pack::problem::{self, Loads, Machine, Packed, Problem, take, times_into};
use super::supply::Supply;

/// A node to buy: candidate and contents by item.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bought {
    /// Index of the candidate.
    pub candidate: usize,
    /// Item index and how many.
    pub contents: Vec<(usize, u32)>,
}

/// What one planning round buys.
#[derive(Debug, Clone, Default)]
pub struct Purchase {
    /// The nodes.
    pub nodes: Vec<Bought>,
    /// For each item the candidates that it would have used but for limits.
    pub limited: Vec<Bits>,
}

/// Buys for everything that is left.
pub fn buy(
    items: &[Item],
    supply: &Supply,
    capacities: &[Vec<i64>],
    rooms: &mut Rooms,
    left: &mut [u32],
) -> Purchase {
    let count = supply.candidates.len();
    let mut purchase = Purchase {
        nodes: Vec::new(),
        limited: vec![Bits::empty(count); items.len()],
    };
    let deepest = items
        .iter()
        .map(|item| item.levels.len())
        .max()
        .unwrap_or(0);
    for level in 0..deepest {
        let wanted: Vec<usize> = (0..items.len())
            .filter(|index| {
                left.get(*index).is_some_and(|left| *left > 0)
                    && items
                        .get(*index)
                        .is_some_and(|item| level < item.levels.len())
            })
            .collect();
        if wanted.is_empty() {
            continue;
        }
        let problem = problem_of(items, &wanted, level, supply, capacities, left);
        let packing = greedy(&problem, &values(&problem));
        let nodes = expand(&packing.machines, &wanted);
        if let Some(after) = charged(rooms, supply, &nodes) {
            *rooms = after;
            settle(&nodes, left);
            purchase.nodes.extend(nodes);
        } else {
            within_limits(
                items,
                &wanted,
                level,
                supply,
                capacities,
                rooms,
                left,
                &mut purchase,
            );
        }
    }
    purchase
}

fn problem_of(
    items: &[Item],
    wanted: &[usize],
    level: usize,
    supply: &Supply,
    capacities: &[Vec<i64>],
    left: &[u32],
) -> Problem {
    let dimensions = items.first().map_or(0, |item| item.size.len());
    Problem {
        dimensions,
        items: wanted
            .iter()
            .filter_map(|index| {
                let item = items.get(*index)?;
                Some(problem::Item {
                    size: item.size.clone(),
                    count: left.get(*index).copied().unwrap_or(0),
                    allowed: item.levels.get(level).cloned().unwrap_or_default(),
                    relations: item.relations.clone(),
                })
            })
            .collect(),
        machines: supply
            .candidates
            .iter()
            .zip(capacities)
            .map(|(candidate, capacity)| Machine {
                price: candidate.price.units(),
                capacity: capacity.clone(),
            })
            .collect(),
    }
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

fn expand(machines: &[Packed], wanted: &[usize]) -> Vec<Bought> {
    let mut nodes = Vec::new();
    for packed in machines {
        let contents: Vec<(usize, u32)> = packed
            .contents
            .iter()
            .filter_map(|(index, count)| Some((*wanted.get(*index)?, *count)))
            .collect();
        for _copy in 0..packed.copies {
            nodes.push(Bought {
                candidate: packed.machine,
                contents: contents.clone(),
            });
        }
    }
    nodes
}

/// The rooms after all of these nodes, if the limits allow them.
fn charged(rooms: &Rooms, supply: &Supply, nodes: &[Bought]) -> Option<Rooms> {
    if rooms.is_unlimited() {
        return Some(rooms.clone());
    }
    let mut rooms = rooms.clone();
    for node in nodes {
        if !rooms.allow(supply, node.candidate) {
            return None;
        }
        rooms.charge(supply, node.candidate);
    }
    Some(rooms)
}

fn settle(nodes: &[Bought], left: &mut [u32]) {
    for node in nodes {
        for (index, count) in &node.contents {
            if let Some(left) = left.get_mut(*index) {
                *left = left.saturating_sub(*count);
            }
        }
    }
}

/// Limits bind: the highest priority first, node by node, each item of lower priority also into the
/// room that is left on nodes bought before it.
#[expect(
    clippy::too_many_arguments,
    reason = "one step of `buy`, which owns all of these"
)]
fn within_limits(
    items: &[Item],
    wanted: &[usize],
    level: usize,
    supply: &Supply,
    capacities: &[Vec<i64>],
    rooms: &mut Rooms,
    left: &mut [u32],
    purchase: &mut Purchase,
) {
    let priority = |index: &usize| items.get(*index).map_or(0, |item| item.priority);
    let mut priorities: Vec<i32> = wanted.iter().map(priority).collect();
    priorities.sort_unstable();
    priorities.dedup();
    for rank in priorities.into_iter().rev() {
        let ranked: Vec<usize> = wanted
            .iter()
            .copied()
            .filter(|index| priority(index) == rank)
            .collect();
        top_up(items, &ranked, level, capacities, left, &mut purchase.nodes);
        loop {
            let mut problem = problem_of(items, &ranked, level, supply, capacities, left);
            for (item, index) in problem.items.iter_mut().zip(&ranked) {
                let full = item.allowed.clone();
                for candidate in full.iter() {
                    if !rooms.allow(supply, candidate) {
                        item.allowed.remove(candidate);
                        if let Some(limited) = purchase.limited.get_mut(*index) {
                            limited.insert(candidate);
                        }
                    }
                }
            }
            let packing = greedy(&problem, &values(&problem));
            let nodes = expand(&packing.machines, &ranked);
            let mut accepted = Vec::new();
            for node in nodes {
                if rooms.allow(supply, node.candidate) {
                    rooms.charge(supply, node.candidate);
                    accepted.push(node);
                }
            }
            if accepted.is_empty() {
                break;
            }
            settle(&accepted, left);
            purchase.nodes.extend(accepted);
        }
    }
}

/// Puts what is left of these items into the room on nodes that are bought already.
fn top_up(
    items: &[Item],
    ranked: &[usize],
    level: usize,
    capacities: &[Vec<i64>],
    left: &mut [u32],
    nodes: &mut [Bought],
) {
    for node in nodes {
        let Some(mut free) = capacities.get(node.candidate).cloned() else {
            continue;
        };
        let mut loads = Loads::default();
        for (index, count) in &node.contents {
            if let Some(item) = items.get(*index) {
                take(&mut free, &item.size, *count);
                loads.add(&item.relations, *count);
            }
        }
        for index in ranked {
            let (Some(item), Some(left)) = (items.get(*index), left.get_mut(*index)) else {
                continue;
            };
            if !item
                .levels
                .get(level)
                .is_some_and(|allowed| allowed.contains(node.candidate))
            {
                continue;
            }
            let count = times_into(&item.size, &free, *left).min(loads.room(&item.relations));
            if count > 0 {
                take(&mut free, &item.size, count);
                loads.add(&item.relations, count);
                node.contents.push((*index, count));
                *left -= count;
            }
        }
    }
}
