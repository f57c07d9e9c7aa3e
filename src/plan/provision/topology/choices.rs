//! Where each class could go: the label values that couple pods, and what they would cost.
//!
//! Given groups, candidates and bins; given back the keys with their values, what each class has to
//! do with each group, and every combination of values that has room for a class.

use std::collections::{BTreeMap, BTreeSet};

use super::assign::Assignment;
use super::group::{Groups, Kind};
use super::state::{Choice, Key, State, Tie};
use super::world::Placed;
use crate::model::snapshot::Snapshot;
use crate::model::taint::first_untolerated;
use crate::plan::pack::Bits;
use crate::plan::pack::problem::times_into;
use crate::plan::provision::class::{self, Class};
use crate::plan::provision::labels::Labelled;
use crate::plan::provision::stock::Bin;
use crate::plan::provision::supply::Supply;

impl Assignment {
    pub(super) fn new(
        snapshot: &Snapshot,
        supply: &Supply,
        bins: &[Bin],
        groups: &Groups,
        placed: &Placed,
    ) -> Self {
        let mut assignment = Self {
            groups: groups.clone(),
            ..Self::default()
        };
        for (index, group) in groups.groups.iter().enumerate() {
            if !group.is_on_domains() {
                continue;
            }
            let counts = placed.counts(snapshot, groups, index);
            let key = assignment.key(&group.key, supply, bins);
            let Some(known) = assignment.keys.get_mut(key) else {
                continue;
            };
            let mut state = State {
                key,
                ..State::default()
            };
            for (value, members) in &counts.members {
                let value_index = known.value(value, supply.candidates.len());
                let owners = counts.owners.get(value).copied().unwrap_or(0);
                state.ensure(value_index);
                if let (Some(slot), Some(owner), Some(eligible)) = (
                    state.members.get_mut(value_index),
                    state.owners.get_mut(value_index),
                    state.eligible.get_mut(value_index),
                ) {
                    *slot = *members;
                    *owner = owners;
                    *eligible = true;
                }
            }
            for (value_index, bits) in known.bits.iter().enumerate() {
                state.ensure(value_index);
                if bits
                    .iter()
                    .any(|candidate| could_count(supply, candidate, &group.kind))
                    && let Some(eligible) = state.eligible.get_mut(value_index)
                {
                    *eligible = true;
                }
            }
            assignment.states.insert(index, state);
        }
        for state in assignment.states.values_mut() {
            if let Some(last) = assignment
                .keys
                .get(state.key)
                .and_then(|key| key.values.len().checked_sub(1))
            {
                state.ensure(last);
            }
        }
        assignment
    }

    pub(super) fn key(&mut self, name: &str, supply: &Supply, bins: &[Bin]) -> usize {
        if let Some(index) = self.keys.iter().position(|key| key.name == name) {
            return index;
        }
        let count = supply.candidates.len();
        let mut key = Key {
            name: name.to_owned(),
            ..Key::default()
        };
        let mut values: BTreeSet<String> = bins
            .iter()
            .filter_map(|bin| bin.label(name).map(str::to_owned))
            .collect();
        for index in 0..count {
            values.extend(
                supply
                    .labels(index)
                    .and_then(|labels| labels.label(name).map(str::to_owned)),
            );
        }
        for value in &values {
            key.value(value, count);
        }
        for index in 0..count {
            let value = supply
                .labels(index)
                .and_then(|labels| labels.label(name).map(str::to_owned));
            if let Some(value) = value {
                let value = key.value(&value, count);
                if let Some(bits) = key.bits.get_mut(value) {
                    bits.insert(index);
                }
            }
        }
        key.of_bin = bins
            .iter()
            .map(|bin| {
                let value = bin.label(name)?;
                key.values.iter().position(|known| known == value)
            })
            .collect();
        self.keys.push(key);
        self.keys.len() - 1
    }

    pub(super) fn ties(&self, class: usize) -> Vec<Tie> {
        self.states
            .iter()
            .filter_map(|(index, state)| {
                let group = self.groups.groups.get(*index)?;
                let trigger = group.triggers.get(&class).copied();
                let matters = group.required
                    && match group.kind {
                        Kind::Anti => {
                            !group.triggers.is_empty() || state.owners.iter().any(|n| *n > 0)
                        }
                        Kind::Spread { .. } | Kind::Affinity => !group.triggers.is_empty(),
                        Kind::Port => false,
                    };
                let member = group.members.contains(&class);
                (trigger.is_some() || (member && matters)).then_some(Tie {
                    group: *index,
                    member,
                    trigger: trigger.is_some(),
                    weight: trigger.unwrap_or(0),
                })
            })
            .collect()
    }

    /// Every combination of values in which the class has candidates or bins.
    pub(super) fn choices(
        &self,
        class: &Class,
        ties: &[Tie],
        unit_prices: &[Vec<f64>],
        bins: &[Bin],
        suitable: &[usize],
    ) -> Vec<Choice> {
        if ties.is_empty() {
            return Vec::new();
        }
        let keys = self.keys_of(ties);
        let combinations = self.combinations(&keys, class, unit_prices.len(), suitable);
        let needed = class.size.len();
        combinations
            .into_iter()
            .filter_map(|values| {
                let there = self.bits(&keys, &values)?;
                let cost = class.levels.iter().find_map(|level| {
                    let here = level.and(&there);
                    cheapest_share(class, unit_prices, &here)
                });
                let (mut room, mut promised) = (0_u32, 0_u32);
                for bin in suitable
                    .iter()
                    .filter(|bin| self.bin_is_at(**bin, &keys, &values))
                    .filter_map(|bin| bins.get(*bin))
                {
                    let own = bin.promised.get(&class.hash).copied().unwrap_or(0);
                    promised = promised.saturating_add(own);
                    // What was bought for others is not free for this class.
                    if own > 0 || bin.promised.values().all(|count| *count == 0) {
                        room = room.saturating_add(room_on(class, bin, needed));
                    }
                }
                (cost.is_some() || room > 0).then_some(Choice {
                    values,
                    cost,
                    room,
                    promised: promised.min(room),
                })
            })
            .collect()
    }

    /// The combinations of values that some candidate or bin of the class has, in order: at most as many as
    /// there are of those, however many values the keys have.
    fn combinations(
        &self,
        keys: &[usize],
        class: &Class,
        candidates: usize,
        suitable: &[usize],
    ) -> Vec<Vec<usize>> {
        let mut allowed: BTreeSet<usize> = BTreeSet::new();
        for level in &class.levels {
            allowed.extend(level.iter());
        }
        let mut parts = vec![Part {
            values: Vec::new(),
            candidates: allowed.into_iter().collect(),
            bins: suitable.to_vec(),
        }];
        for key in keys.iter().filter_map(|key| self.keys.get(*key)) {
            let mut of_candidate = vec![None; candidates];
            for (value, bits) in key.bits.iter().enumerate() {
                for candidate in bits.iter() {
                    if let Some(slot) = of_candidate.get_mut(candidate) {
                        *slot = Some(value);
                    }
                }
            }
            let of_candidate = |candidate: &usize| of_candidate.get(*candidate).copied().flatten();
            let of_bin = |bin: &usize| key.of_bin.get(*bin).copied().flatten();
            parts = parts
                .into_iter()
                .flat_map(|part| part.split(&of_candidate, &of_bin))
                .collect();
        }
        parts.into_iter().map(|part| part.values).collect()
    }

    pub(super) fn keys_of(&self, ties: &[Tie]) -> Vec<usize> {
        let keys: BTreeSet<usize> = ties
            .iter()
            .filter_map(|tie| self.states.get(&tie.group).map(|state| state.key))
            .collect();
        keys.into_iter().collect()
    }

    pub(super) fn bits(&self, keys: &[usize], values: &[usize]) -> Option<Bits> {
        let mut there: Option<Bits> = None;
        for (key, value) in keys.iter().zip(values) {
            let bits = self.keys.get(*key)?.bits.get(*value)?;
            match &mut there {
                None => there = Some(bits.clone()),
                Some(known) => known.retain(bits),
            }
        }
        there
    }

    pub(super) fn bin_is_at(&self, bin: usize, keys: &[usize], values: &[usize]) -> bool {
        keys.iter().zip(values).all(|(key, value)| {
            self.keys
                .get(*key)
                .and_then(|key| key.of_bin.get(bin).copied().flatten())
                == Some(*value)
        })
    }
}

/// What has the same values of the keys so far.
struct Part {
    values: Vec<usize>,
    candidates: Vec<usize>,
    bins: Vec<usize>,
}

impl Part {
    /// Its parts by the value of one more key, in order of the value; what has none is left out.
    fn split(
        self,
        of_candidate: &dyn Fn(&usize) -> Option<usize>,
        of_bin: &dyn Fn(&usize) -> Option<usize>,
    ) -> Vec<Self> {
        let mut by_value: BTreeMap<usize, (Vec<usize>, Vec<usize>)> = BTreeMap::new();
        for candidate in self.candidates {
            if let Some(value) = of_candidate(&candidate) {
                by_value.entry(value).or_default().0.push(candidate);
            }
        }
        for bin in self.bins {
            if let Some(value) = of_bin(&bin) {
                by_value.entry(value).or_default().1.push(bin);
            }
        }
        by_value
            .into_iter()
            .map(|(value, (candidates, bins))| Self {
                values: self.values.iter().copied().chain([value]).collect(),
                candidates,
                bins,
            })
            .collect()
    }
}

/// True when a node of the candidate would count for a spread: whoever it is bought for, its value
/// of the label is there then.
fn could_count(supply: &Supply, candidate: usize, kind: &Kind) -> bool {
    let Kind::Spread {
        affinity, taints, ..
    } = kind
    else {
        return false;
    };
    let (Some(found), Some(labels)) = (supply.candidates.get(candidate), supply.labels(candidate))
    else {
        return false;
    };
    found.offering.available
        && affinity
            .as_ref()
            .is_none_or(|demand| demand.accepts(&labels))
        && taints.as_ref().is_none_or(|tolerations| {
            first_untolerated(&labels.variant.pool.taints, tolerations).is_none()
        })
}

/// What one unit of each dimension costs on each candidate, if that dimension alone is paid for.
pub(super) fn unit_prices(supply: &Supply, capacities: &[Vec<i64>]) -> Vec<Vec<f64>> {
    supply
        .candidates
        .iter()
        .zip(capacities)
        .map(|(candidate, capacity)| {
            // There are few slots: most pods pay for what comes after them.
            let instead = candidate.slot.as_ref().map(|slot| slot.instead);
            let price = real(instead.unwrap_or_else(|| candidate.weighed()).units());
            capacity
                .iter()
                .map(|capacity| {
                    if *capacity > 0 {
                        price / real(*capacity)
                    } else {
                        0.0
                    }
                })
                .collect()
        })
        .collect()
}

/// The price of one pod's share of the machine where that share is cheapest, rounded down.
fn cheapest_share(class: &Class, unit_prices: &[Vec<f64>], candidates: &Bits) -> Option<i64> {
    let size: Vec<f64> = class.size.iter().map(|size| real(*size)).collect();
    candidates
        .iter()
        .filter_map(|index| unit_prices.get(index))
        .map(|prices| {
            size.iter()
                .zip(prices)
                .map(|(size, price)| size * price)
                .fold(0.0, f64::max)
        })
        .min_by(f64::total_cmp)
        .map(whole)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "only compares places; what is beyond 2^53 differs by less than any price"
)]
const fn real(value: i64) -> f64 {
    value as f64
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "saturates, and only compares places"
)]
const fn whole(value: f64) -> i64 {
    value as i64
}

fn room_on(class: &Class, bin: &Bin, needed: usize) -> u32 {
    let names: Vec<String> = class
        .needs
        .iter()
        .map(|(name, _)| name.to_owned())
        .collect();
    let free = class::dense(&names, &bin.free, &bin.volume_room);
    let size = class::dense_needs(&names, &class.needs);
    debug_assert!(
        size.len() <= needed,
        "a class needs nothing beyond the dimensions"
    );
    let most = u32::try_from(class.pods.len()).unwrap_or(u32::MAX);
    times_into(&size, &free, most)
}
