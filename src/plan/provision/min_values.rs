//! How full a machine may be so that a NodePool's minValues can still be kept, and by whom.
//!
//! Given what candidates offer; given back how much of it may be used: what is on a node must fit as
//! many other values of each key as minValues asks for, so a machine that few others equal is filled
//! only as far as those reach. Classes lose the candidates of pools whose minValues what they may use cannot
//! keep, and of nodes whose contents together cannot, what should go elsewhere is named. Candidates of pools
//! without minValues come back as they are.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::buy::Bought;
use super::class::{Class, fits};
use super::item::Item;
use super::labels::Labelled;
use super::supply::{PoolVariant, Supply};
use crate::plan::pack::Bits;

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
    others.sort_by_key(|(part, _other)| Reverse(*part));
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

/// The value of a candidate's label.
fn value(supply: &Supply, candidate: usize, key: &str) -> Option<String> {
    let labels = supply.labels(candidate)?;
    labels.label(key).map(str::to_owned)
}

/// The candidates of a variant that could be bought instead of each other.
fn exchangeable(supply: &Supply, variant: usize) -> Bits {
    Bits::of(supply.candidates.len(), |index| {
        let candidate = supply.candidates.get(index);
        candidate.is_some_and(|candidate| {
            candidate.variant == variant && candidate.offering.available && candidate.slot.is_none()
        })
    })
}

/// Takes from classes the candidates of pools whose minValues they cannot keep: no node with their pods could be
/// made of those, and whoever shared it would be left out with them. What is too few among the best that a
/// class likes is tried with the next best.
pub fn leave_to_others(
    supply: &Supply,
    (capacities, usable): (&[Vec<i64>], &[Vec<i64>]),
    classes: &mut [Class],
) {
    for (index, variant) in supply.variants.iter().enumerate() {
        let keys: Vec<(&str, usize)> = keys(variant).collect();
        if keys.is_empty() {
            continue;
        }
        let own = exchangeable(supply, index);
        let mut known: BTreeMap<Bits, Bits> = BTreeMap::new();
        for class in classes.iter_mut() {
            let all = own.and(&class.fitting);
            let mut carried = Bits::empty(supply.candidates.len());
            for level in &mut class.levels {
                let mut here = level.and(&own);
                here.add_all(&carried);
                // For a class that may use everything, what may be used of each candidate says enough.
                let is_free = own.is_subset(&class.suitable) && all.is_subset(&here);
                if is_free {
                    level.add_all(&carried);
                    carried = Bits::empty(supply.candidates.len());
                }
                if here.is_empty() || is_free {
                    continue;
                }
                let kept = known
                    .entry(here.clone())
                    .or_insert_with(|| kept(supply, (capacities, usable), &keys, &here));
                for candidate in here.iter() {
                    if kept.contains(candidate) {
                        level.insert(candidate);
                        carried.remove(candidate);
                    } else {
                        level.remove(candidate);
                        carried.insert(candidate);
                    }
                }
            }
            class.levels.retain(|level| !level.is_empty());
        }
    }
}

/// Those of `here` that enough other values reach as far as they may be used; where none is, all, if they have
/// enough values between them.
fn kept(
    supply: &Supply,
    (capacities, usable): (&[Vec<i64>], &[Vec<i64>]),
    keys: &[(&str, usize)],
    here: &Bits,
) -> Bits {
    let mut deep = here.clone();
    for (key, wanted) in keys {
        let mut kinds: BTreeSet<(String, &Vec<i64>)> = BTreeSet::new();
        for index in here.iter() {
            if let (Some(value), Some(capacity)) =
                (value(supply, index, key), capacities.get(index))
            {
                kinds.insert((value, capacity));
            }
        }
        let values: BTreeSet<&String> = kinds.iter().map(|(value, _capacity)| value).collect();
        if values.len() < *wanted {
            return Bits::empty(supply.candidates.len());
        }
        let mut reached: BTreeMap<&Vec<i64>, bool> = BTreeMap::new();
        for index in here.iter() {
            let Some(filled) = usable.get(index) else {
                continue;
            };
            let is_reached = *reached.entry(filled).or_insert_with(|| {
                let reaching = kinds.iter().filter(|(_value, other)| fits(filled, other));
                let values: BTreeSet<&String> = reaching.map(|(value, _)| value).collect();
                values.len() >= *wanted
            });
            if !is_reached {
                deep.remove(index);
            }
        }
    }
    if deep.is_empty() { here.clone() } else { deep }
}

/// What is to be changed so that nodes can keep minValues.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Crowded {
    /// An item may use too little beside these others.
    Apart {
        /// The item.
        item: usize,
        /// The others.
        others: BTreeSet<usize>,
    },
    /// So many of an item are too many.
    Fewer {
        /// The item.
        item: usize,
        /// How many.
        count: u32,
    },
}

/// The nodes whose contents together leave too few alternatives: where several items share one, the item that may
/// use least has to be apart from the others, and of a single one half has to go, or all where not even one of
/// it has enough.
pub fn crowded(
    supply: &Supply,
    capacities: &[Vec<i64>],
    items: &[Item],
    nodes: &[Bought],
) -> Vec<Crowded> {
    if supply
        .variants
        .iter()
        .all(|variant| keys(variant).next().is_none())
    {
        return Vec::new();
    }
    let mut known: BTreeMap<&Bought, bool> = BTreeMap::new();
    let mut apart: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
    let mut fewer: BTreeMap<usize, u32> = BTreeMap::new();
    for node in nodes {
        let judged = || is_crowded(supply, capacities, items, node);
        if !*known.entry(node).or_insert_with(judged) {
            continue;
        }
        let Some((_variant, own)) = bound(supply, node) else {
            continue;
        };
        let choices = |index: usize| {
            let levels = items.get(index).map(|item| &item.levels);
            let level = levels.and_then(|levels| levels.get(node.level));
            level.map_or(0, |level| level.and(&own).len())
        };
        let contents = node.contents.iter();
        let narrowest = contents.min_by_key(|(item, _count)| (choices(*item), Reverse(*item)));
        let Some((item, count)) = narrowest else {
            continue;
        };
        let others = node.contents.iter().map(|(other, _count)| *other);
        let others: BTreeSet<usize> = others.filter(|other| other != item).collect();
        if others.is_empty() {
            let single = Bought {
                contents: vec![(*item, 1)],
                ..node.clone()
            };
            let gone = if is_crowded(supply, capacities, items, &single) {
                u32::MAX
            } else {
                count.div_ceil(2)
            };
            let sum = fewer.entry(*item).or_default();
            *sum = sum.saturating_add(gone);
        } else {
            apart.entry(*item).or_default().extend(others);
        }
    }
    let apart = apart
        .into_iter()
        .map(|(item, others)| Crowded::Apart { item, others });
    let fewer = fewer
        .into_iter()
        .map(|(item, count)| Crowded::Fewer { item, count });
    apart.chain(fewer).collect()
}

/// True for a node whose pool's minValues its contents do not leave enough values for.
fn is_crowded(supply: &Supply, capacities: &[Vec<i64>], items: &[Item], node: &Bought) -> bool {
    let Some((variant, own)) = bound(supply, node) else {
        return false;
    };
    let alternatives = alternatives(node, items, (capacities, &own));
    keys(variant).any(|(key, wanted)| {
        let all = alternatives.iter();
        let values = all.filter_map(|index| value(supply, *index, key));
        values.collect::<BTreeSet<String>>().len() < wanted
    })
}

/// The variant of a node whose pool has minValues to keep, and what could be bought of it.
fn bound<'supply>(supply: &'supply Supply, node: &Bought) -> Option<(&'supply PoolVariant, Bits)> {
    let candidate = supply.candidates.get(node.candidate)?;
    let variant = supply.variants.get(candidate.variant)?;
    let is_bound = candidate.slot.is_none() && keys(variant).next().is_some();
    is_bound.then(|| (variant, exchangeable(supply, candidate.variant)))
}

/// The candidates of `own` that could hold what is on a node.
fn alternatives(
    node: &Bought,
    items: &[Item],
    (capacities, own): (&[Vec<i64>], &Bits),
) -> Vec<usize> {
    let mut allowed = own.clone();
    let mut need = vec![0_i64; items.first().map_or(0, |item| item.size.len())];
    for (index, count) in &node.contents {
        let Some(item) = items.get(*index) else {
            continue;
        };
        if let Some(level) = item.levels.get(node.level) {
            allowed.retain(level);
        }
        add_times(&mut need, &item.size, *count);
    }
    allowed
        .iter()
        .filter(|index| {
            let capacity = capacities.get(*index);
            capacity.is_some_and(|capacity| fits(&need, capacity))
        })
        .collect()
}

fn add_times(need: &mut [i64], size: &[i64], count: u32) {
    for (need, size) in need.iter_mut().zip(size) {
        *need = need.saturating_add(size.saturating_mul(i64::from(count)));
    }
}

/// Adds of `beyond` what brings another value, until every key with minValues has as many as it must keep; false
/// when there are not enough.
pub fn complete(
    supply: &Supply,
    variant: &PoolVariant,
    kept: &mut Vec<usize>,
    beyond: &[usize],
) -> bool {
    for (key, wanted) in keys(variant) {
        let known = kept.iter().filter_map(|index| value(supply, *index, key));
        let mut values: BTreeSet<String> = known.collect();
        for index in beyond {
            if values.len() >= wanted {
                break;
            }
            if let Some(value) = value(supply, *index, key)
                && values.insert(value)
                && !kept.contains(index)
            {
                kept.push(*index);
            }
        }
        if values.len() < wanted {
            return false;
        }
    }
    true
}

/// Leaves at most so many: of the first `liked`, but for the very first, those go that minValues can do without,
/// the last of them first.
pub fn trim(
    supply: &Supply,
    variant: &PoolVariant,
    kept: &mut Vec<usize>,
    liked: usize,
    most: usize,
) {
    let mut counted: Vec<(&str, usize, BTreeMap<String, usize>)> = Vec::new();
    for (key, wanted) in keys(variant) {
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for value in kept.iter().filter_map(|index| value(supply, *index, key)) {
            *counts.entry(value).or_default() += 1;
        }
        counted.push((key, wanted, counts));
    }
    for place in (1..liked).rev() {
        let Some(index) = kept.get(place).copied().filter(|_| kept.len() > most) else {
            return;
        };
        let is_spare = counted.iter().all(|(key, wanted, counts)| {
            let value = value(supply, index, key);
            value.is_none_or(|value| counts.get(&value) > Some(&1) || counts.len() > *wanted)
        });
        if !is_spare {
            continue;
        }
        kept.remove(place);
        for (key, _wanted, counts) in &mut counted {
            let Some(value) = value(supply, index, key) else {
                continue;
            };
            if let Some(count) = counts.get_mut(&value) {
                *count -= 1;
                if *count == 0 {
                    counts.remove(&value);
                }
            }
        }
    }
}
