//! How full a machine may be so that a NodePool's minValues can still be kept.
//!
//! Given what candidates offer; given back how much of it may be used: what is on a node must fit as
//! many other values of each key as minValues asks for, so a machine that few others equal is filled
//! only as far as those reach. Candidates of pools without minValues come back as they are.

use std::collections::{BTreeMap, BTreeSet};

use super::labels::Labelled;
use super::supply::{PoolVariant, Supply};

/// A whole, in millionths.
const WHOLE: i128 = 1_000_000;

/// What may be used of each candidate, by dimension.
pub fn usable(supply: &Supply, capacities: &[Vec<i64>]) -> Vec<Vec<i64>> {
    let mut usable = capacities.to_vec();
    for (index, variant) in supply.variants.iter().enumerate() {
        for (key, wanted) in keys(variant) {
            narrow(supply, (capacities, &mut usable), index, (key, wanted));
        }
    }
    usable
}

/// The keys with minValues, and how many values each must keep.
pub fn keys(variant: &PoolVariant) -> impl Iterator<Item = (&str, usize)> {
    variant
        .pool
        .requirements
        .0
        .iter()
        .filter_map(|(key, requirement)| {
            let wanted = usize::try_from(requirement.min_values?).unwrap_or(usize::MAX);
            Some((key.as_str(), wanted))
        })
}

fn narrow(
    supply: &Supply,
    (capacities, usable): (&[Vec<i64>], &mut [Vec<i64>]),
    variant: usize,
    (key, wanted): (&str, usize),
) {
    let own: Vec<usize> = (0..supply.candidates.len())
        .filter(|index| {
            // A slot of a reservation is there: it needs no alternatives.
            let candidate = supply.candidates.get(*index);
            candidate.is_some_and(|candidate| {
                candidate.variant == variant
                    && candidate.offering.available
                    && candidate.slot.is_none()
            })
        })
        .collect();
    let value = |index: usize| {
        let labels = supply.labels(index);
        labels.and_then(|labels| labels.label(key).map(str::to_owned))
    };
    // Zones repeat the same types.
    let mut kinds: BTreeSet<(String, &Vec<i64>)> = BTreeSet::new();
    for index in &own {
        if let (Some(value), Some(capacity)) = (value(*index), capacities.get(*index)) {
            kinds.insert((value, capacity));
        }
    }
    let mut known: BTreeMap<(Option<String>, &Vec<i64>), Vec<i64>> = BTreeMap::new();
    for index in own {
        let (Some(capacity), Some(usable)) = (capacities.get(index), usable.get_mut(index)) else {
            continue;
        };
        let value = value(index);
        let reach = known
            .entry((value.clone(), capacity))
            .or_insert_with(|| reach(capacity, value.as_deref(), &kinds, wanted));
        for (usable, reach) in usable.iter_mut().zip(reach) {
            *usable = (*usable).min(*reach);
        }
    }
}

/// How far `capacity` may be used when so many values must reach as far, its own included.
fn reach(
    capacity: &[i64],
    own: Option<&str>,
    kinds: &BTreeSet<(String, &Vec<i64>)>,
    wanted: usize,
) -> Vec<i64> {
    let mut best: BTreeMap<&str, (i128, &Vec<i64>)> = BTreeMap::new();
    for (value, other) in kinds {
        if own == Some(value.as_str()) {
            continue;
        }
        let part = part(other, capacity);
        let known = best.entry(value).or_insert((part, other));
        if part > known.0 {
            *known = (part, other);
        }
    }
    let mut others: Vec<(i128, &Vec<i64>)> = best.into_values().collect();
    others.sort_by_key(|(part, _other)| std::cmp::Reverse(*part));
    let needed = wanted.saturating_sub(usize::from(own.is_some()));
    if others.len() < needed {
        return vec![0; capacity.len()];
    }
    let mut reach = capacity.to_vec();
    for (_part, other) in others.into_iter().take(needed) {
        for (reach, other) in reach.iter_mut().zip(other) {
            *reach = (*reach).min(*other);
        }
    }
    reach
}

/// The part of a machine's capacity that another one has of every dimension, in millionths.
fn part(other: &[i64], capacity: &[i64]) -> i128 {
    let parts = other.iter().zip(capacity).filter(|(_other, own)| **own > 0);
    parts
        .map(|(other, own)| i128::from((*other).max(0)) * WHOLE / i128::from(*own))
        .map(|part| part.min(WHOLE))
        .min()
        .unwrap_or(WHOLE)
}
