//! Where each class could go: the label values that couple pods, and what they would cost.
//!
//! Given groups, candidates and bins; given back the keys with their values, what each class has to
//! do with each group, and every combination of values that has room for a class, with the price of
//! a pod there.

use std::collections::{BTreeMap, BTreeSet};

use super::Stage;
use super::assign::Assignment;
use super::group::{Filters, Group, Groups, Kind};
use super::price::{Demand, Prices, Wish};
use super::state::{Choice, Key, State, Tie, Values};
use super::world::{self, Placed};
use crate::model::taint::first_untolerated;
use crate::plan::pack::Bits;
use crate::plan::pack::problem::{Loads, Relation, times_into};
use crate::plan::provision::class::{self, Class};
use crate::plan::provision::labels::Labelled;
use crate::plan::provision::limits;
use crate::plan::provision::stock::Bin;
use crate::plan::provision::supply::Supply;

/// What decides which combinations of values a class has: candidates, bins, and keys with whether it needs
/// a value of them.
type Reach = (Bits, Vec<usize>, Vec<(usize, bool)>);
/// Combinations that are known already: many classes reach alike.
type Known = BTreeMap<Reach, Vec<Values>>;

/// The choices of every class, in class order; none for classes that nothing divides.
pub(super) fn priced(
    assignment: &Assignment,
    stage: &Stage<'_>,
    ties: &[Vec<Tie>],
    relations: &[Vec<Relation>],
) -> Vec<Vec<Choice>> {
    let free: Vec<Vec<i64>> = stage
        .bins
        .iter()
        .map(|bin| class::dense(stage.dimensions, &bin.free, &bin.volume_room))
        .collect();
    let affordable = affordable(stage.supply);
    let mut demand = Demand::default();
    let mut known = Known::new();
    let mut wishes = Vec::new();
    let mut choices = Vec::new();
    for (index, class) in stage.classes.iter().enumerate() {
        let ties = ties.get(index).map_or(&[][..], Vec::as_slice);
        let suitable = stage.suitable.get(index).map_or(&[][..], Vec::as_slice);
        let mut own = assignment.choices(class, ties, stage, (suitable, &free), &mut known);
        if let Some(affordable) = &affordable {
            assignment.leave_used_up(class, ties, affordable, &mut own);
        }
        let each = relations
            .get(index)
            .map_or(u32::MAX, |relations| Loads::default().room(relations));
        let most = assignment.most_at_one(ties, &own, left(class, suitable, &free));
        let wish = Wish::of(class, most, each);
        if own.is_empty() {
            if let Some(first) = class.levels.first() {
                demand.add(&wish, first.clone());
            }
        } else {
            let keys = assignment.keys_of(ties);
            for choice in &own {
                demand.add(&wish, assignment.candidates(class, &keys, choice));
            }
        }
        wishes.push(wish);
        choices.push(own);
    }
    let mut prices = Prices::of(stage.supply, stage.capacities, &demand);
    for (index, own) in choices.iter_mut().enumerate() {
        let (Some(class), Some(ties), Some(wish)) =
            (stage.classes.get(index), ties.get(index), wishes.get(index))
        else {
            continue;
        };
        let keys = assignment.keys_of(ties);
        for choice in own {
            choice.cost = prices.cheapest(wish, assignment.candidates(class, &keys, choice));
        }
    }
    choices
}

/// How many pods of a class the bins leave at least, as far as its own kind is concerned.
fn left(class: &Class, suitable: &[usize], free: &[Vec<i64>]) -> u32 {
    let mut left = u32::try_from(class.pods.len()).unwrap_or(u32::MAX);
    for free in suitable.iter().filter_map(|bin| free.get(*bin)) {
        if left == 0 {
            break;
        }
        left -= times_into(&class.size, free, left);
    }
    left
}

impl Assignment {
    pub(super) fn new(stage: &Stage<'_>, groups: &Groups, placed: &Placed) -> Self {
        let Stage {
            snapshot,
            supply,
            bins,
            ..
        } = *stage;
        let mut assignment = Self {
            groups: groups.clone(),
            premium: stage.premium,
            ..Self::default()
        };
        // Many groups filter alike.
        let mut seen: BTreeMap<(&str, Filters<'_>), BTreeSet<String>> = BTreeMap::new();
        let mut possible: BTreeMap<(&str, Filters<'_>), Vec<bool>> = BTreeMap::new();
        for (index, group) in groups.groups.iter().enumerate() {
            if !group.is_on_domains() {
                continue;
            }
            let alike = (group.key.as_str(), group.kind.filters());
            let key = assignment.key(&group.key, supply, bins);
            let Some(known) = assignment.keys.get_mut(key) else {
                continue;
            };
            let mut state = State {
                key,
                ..State::default()
            };
            let possible = possible
                .entry(alike)
                .or_insert_with(|| could_count(known, supply, group));
            for (value, possible) in possible.iter().enumerate() {
                state.ensure(value);
                state.allow(value, *possible);
            }
            let seen = seen
                .entry(alike)
                .or_insert_with(|| world::values(snapshot, group));
            for value in seen.iter() {
                let value = known.value(value, supply.candidates.len());
                state.ensure(value);
                state.allow(value, true);
            }
            for (value, counted) in placed.counts(snapshot, group, index) {
                let value = known.value(&value, supply.candidates.len());
                state.count(value, counted);
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
        let of_candidate: Vec<Option<String>> = (0..count)
            .map(|index| {
                let labels = supply.labels(index)?;
                labels.label(name).map(str::to_owned)
            })
            .collect();
        let of_bins = bins.iter().filter_map(|bin| bin.label(name));
        let values: BTreeSet<&str> = of_candidate
            .iter()
            .flatten()
            .map(String::as_str)
            .chain(of_bins)
            .collect();
        let place: BTreeMap<&str, usize> = values
            .iter()
            .enumerate()
            .map(|(index, value)| (*value, index))
            .collect();
        let mut key = Key {
            name: name.to_owned(),
            values: values.iter().map(|value| (*value).to_owned()).collect(),
            bits: vec![Bits::empty(count); values.len()],
            none: Bits::empty(count),
            of_bin: bins
                .iter()
                .map(|bin| place.get(bin.label(name)?).copied())
                .collect(),
        };
        for (index, value) in of_candidate.iter().enumerate() {
            let value = value.as_ref().and_then(|value| place.get(value.as_str()));
            match value.and_then(|value| key.bits.get_mut(*value)) {
                Some(bits) => bits.insert(index),
                None => key.none.insert(index),
            }
        }
        self.keys.push(key);
        self.keys.len() - 1
    }

    /// What each class has to do with the groups that are resolved by dividing classes.
    pub(super) fn ties(&self, classes: usize) -> Vec<Vec<Tie>> {
        let mut ties = vec![Vec::new(); classes];
        for (index, state) in &self.states {
            let Some(group) = self.groups.groups.get(*index) else {
                continue;
            };
            let matters = group.required
                && match group.kind {
                    Kind::Anti => !group.triggers.is_empty() || state.owners.iter().any(|n| *n > 0),
                    Kind::Spread { .. } | Kind::Affinity => !group.triggers.is_empty(),
                    Kind::Port => false,
                };
            let members = group.members.iter().filter(|_member| matters);
            let tied: BTreeSet<usize> = group.triggers.keys().chain(members).copied().collect();
            for class in tied {
                let trigger = group.triggers.get(&class).copied();
                if let Some(ties) = ties.get_mut(class) {
                    ties.push(Tie {
                        group: *index,
                        member: group.members.contains(&class),
                        trigger: trigger.is_some(),
                        weight: trigger.unwrap_or(0),
                    });
                }
            }
        }
        ties
    }

    /// Every combination of values in which the class has candidates or bins, with no price yet.
    fn choices(
        &self,
        class: &Class,
        ties: &[Tie],
        stage: &Stage<'_>,
        (suitable, free): (&[usize], &[Vec<i64>]),
        known: &mut Known,
    ) -> Vec<Choice> {
        if ties.is_empty() {
            return Vec::new();
        }
        let keys = self.keys_of(ties);
        let reach = self.reach(
            class,
            ties,
            &keys,
            (stage.supply.candidates.len(), suitable),
        );
        let pods = u32::try_from(class.pods.len()).unwrap_or(u32::MAX);
        known
            .entry(reach)
            .or_insert_with_key(|reach| self.combinations(reach))
            .iter()
            .cloned()
            .filter_map(|values| {
                let there = self.bits(&keys, &values)?;
                let level = class
                    .levels
                    .iter()
                    .position(|level| level.intersects(&there));
                let (mut room, mut promised) = (0_u32, 0_u32);
                for (bin, free) in suitable
                    .iter()
                    .filter(|bin| self.bin_is_at(**bin, &keys, &values))
                    .filter_map(|bin| Some((stage.bins.get(*bin)?, free.get(*bin)?)))
                {
                    let own = bin.promised.get(&class.hash).copied().unwrap_or(0);
                    promised = promised.saturating_add(own);
                    // What was bought for others is not free for this class.
                    if own > 0 || bin.promised.values().all(|count| *count == 0) {
                        room = room.saturating_add(times_into(&class.size, free, pods));
                    }
                }
                (level.is_some() || room > 0).then_some(Choice {
                    values,
                    level: level.unwrap_or(class.levels.len()),
                    cost: None,
                    room,
                    promised: promised.min(room),
                })
            })
            .collect()
    }

    /// Drops the choices in which limits leave no room for a new node and no bin has any, unless there is no other.
    fn leave_used_up(
        &self,
        class: &Class,
        ties: &[Tie],
        affordable: &Bits,
        choices: &mut Vec<Choice>,
    ) {
        let keys = self.keys_of(ties);
        let is_open = |choice: &Choice| {
            let there = self.bits(&keys, &choice.values);
            let there = there.map(|there| there.and(affordable));
            let mut levels = class.levels.iter();
            choice.room > 0
                || there.is_some_and(|there| levels.any(|level| level.intersects(&there)))
        };
        if choices.iter().any(is_open) {
            choices.retain(is_open);
        }
    }

    /// The candidates of the best level that a class has there.
    fn candidates(&self, class: &Class, keys: &[usize], choice: &Choice) -> Bits {
        let there = self.bits(keys, &choice.values);
        let level = class.levels.get(choice.level);
        match (level, there) {
            (Some(level), Some(there)) => level.and(&there),
            _ => Bits::default(),
        }
    }

    /// How many of so many pods the class's own constraints let be at one place at most, when they are
    /// as far apart as they must be.
    fn most_at_one(&self, ties: &[Tie], choices: &[Choice], pods: u32) -> u32 {
        let position = self.positions(ties);
        let mut most = pods;
        for (tie, position) in ties.iter().zip(position) {
            let Some(group) = self.groups.groups.get(tie.group) else {
                continue;
            };
            if !(tie.trigger && tie.member && group.required) {
                continue;
            }
            let limit = match &group.kind {
                Kind::Spread { max_skew, .. } => {
                    let values: BTreeSet<Option<usize>> = choices
                        .iter()
                        .filter_map(|choice| choice.values.get(position).copied())
                        .collect();
                    let others = u32::try_from(values.len().saturating_sub(1)).unwrap_or(u32::MAX);
                    let ahead = u32::try_from(*max_skew).unwrap_or(0).saturating_mul(others);
                    pods.saturating_add(ahead) / others.saturating_add(1)
                }
                Kind::Anti => 1,
                Kind::Affinity | Kind::Port => pods,
            };
            most = most.min(limit);
        }
        most
    }

    /// What a class reaches. To lack a label is a value of it where the class's own constraints allow that.
    fn reach(
        &self,
        class: &Class,
        ties: &[Tie],
        keys: &[usize],
        (candidates, suitable): (usize, &[usize]),
    ) -> Reach {
        let mut allowed = Bits::empty(candidates);
        for level in &class.levels {
            allowed.add_all(level);
        }
        let needed: BTreeSet<usize> = ties
            .iter()
            .filter(|tie| {
                let group = self.groups.groups.get(tie.group);
                tie.trigger && group.is_some_and(Group::needs_label)
            })
            .filter_map(|tie| self.states.get(&tie.group).map(|state| state.key))
            .collect();
        let keys = keys.iter().map(|key| (*key, needed.contains(key)));
        (allowed, suitable.to_vec(), keys.collect())
    }

    /// The combinations of values that some candidate or bin has, in order: at most as many as there are of
    /// those, however many values the keys have.
    fn combinations(&self, (allowed, suitable, keys): &Reach) -> Vec<Values> {
        let mut parts = vec![Part {
            values: Vec::new(),
            candidates: allowed.iter().collect(),
            bins: suitable.clone(),
        }];
        for (key, needed) in keys {
            let Some(key) = self.keys.get(*key) else {
                continue;
            };
            let mut of_candidate: BTreeMap<usize, usize> = BTreeMap::new();
            for (value, bits) in key.bits.iter().enumerate() {
                of_candidate.extend(bits.iter().map(|candidate| (candidate, value)));
            }
            let of_candidate = |candidate: &usize| of_candidate.get(candidate).copied();
            let of_bin = |bin: &usize| key.of_bin.get(*bin).copied().flatten();
            parts = parts
                .into_iter()
                .flat_map(|part| part.split(&of_candidate, &of_bin))
                .filter(|part| !needed || part.values.last().is_some_and(Option::is_some))
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

    pub(super) fn bits(&self, keys: &[usize], values: &[Option<usize>]) -> Option<Bits> {
        let mut there: Option<Bits> = None;
        for (key, value) in keys.iter().zip(values) {
            let bits = self.keys.get(*key)?.bits_of(*value)?;
            match &mut there {
                None => there = Some(bits.clone()),
                Some(known) => known.retain(bits),
            }
        }
        there
    }

    fn bin_is_at(&self, bin: usize, keys: &[usize], values: &[Option<usize>]) -> bool {
        keys.iter().zip(values).all(|(key, value)| {
            self.keys
                .get(*key)
                .is_some_and(|key| key.of_bin.get(bin).copied().flatten() == *value)
        })
    }
}

/// What has the same values of the keys so far.
struct Part {
    values: Values,
    candidates: Vec<usize>,
    bins: Vec<usize>,
}

impl Part {
    /// Its parts by the value of one more key, in order of the value; what has none comes last.
    fn split(
        self,
        of_candidate: &dyn Fn(&usize) -> Option<usize>,
        of_bin: &dyn Fn(&usize) -> Option<usize>,
    ) -> Vec<Self> {
        // Candidates and bins.
        type There = (Vec<usize>, Vec<usize>);
        let mut by_value: BTreeMap<(bool, Option<usize>), There> = BTreeMap::new();
        let place = |value: Option<usize>| (value.is_none(), value);
        for candidate in self.candidates {
            let value = place(of_candidate(&candidate));
            by_value.entry(value).or_default().0.push(candidate);
        }
        for bin in self.bins {
            let value = place(of_bin(&bin));
            by_value.entry(value).or_default().1.push(bin);
        }
        by_value
            .into_iter()
            .map(|((_none, value), (candidates, bins))| Self {
                values: self.values.iter().copied().chain([value]).collect(),
                candidates,
                bins,
            })
            .collect()
    }
}

/// The candidates of which the limits leave room for a node by itself; `None` when no pool has limits.
fn affordable(supply: &Supply) -> Option<Bits> {
    if supply.room.values().all(BTreeMap::is_empty) {
        return None;
    }
    Some(Bits::of(supply.candidates.len(), |index| {
        is_affordable(supply, index)
    }))
}

fn is_affordable(supply: &Supply, candidate: usize) -> bool {
    let Some(candidate) = supply.candidates.get(candidate) else {
        return false;
    };
    let variant = supply.variants.get(candidate.variant);
    let room = variant.and_then(|variant| supply.room.get(&variant.pool.name));
    room.is_none_or(|room| limits::leaves(room, &candidate.instance.capacity))
}

/// By value of the key, whether a new node there would count for a spread: whoever it is bought for, its
/// value of the label is there then. Where limits leave room for none, none will be there.
fn could_count(key: &Key, supply: &Supply, group: &Group) -> Vec<bool> {
    let Kind::Spread {
        affinity, taints, ..
    } = &group.kind
    else {
        return vec![false; key.bits.len()];
    };
    let counts = |candidate: usize| {
        let (Some(found), Some(labels)) =
            (supply.candidates.get(candidate), supply.labels(candidate))
        else {
            return false;
        };
        found.offering.available
            && is_affordable(supply, candidate)
            && affinity
                .as_ref()
                .is_none_or(|demand| demand.accepts(&labels))
            && taints.as_ref().is_none_or(|tolerations| {
                first_untolerated(&labels.variant.pool.taints, tolerations).is_none()
            })
    };
    key.bits
        .iter()
        .map(|bits| bits.iter().any(counts))
        .collect()
}
