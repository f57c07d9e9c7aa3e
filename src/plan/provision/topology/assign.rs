//! Divides classes between zones, or whatever other labels couple their pods.
//!
//! Given groups and what runs already; given back items, each with the label values that its node
//! must have. Pods are divided one by one so that the constraints hold when all have their places:
//! the cheapest value that the constraints allow comes first, so a spread costs only what its
//! maxSkew forces it to. Preferences choose only between values that cost about the same.

use std::collections::{BTreeMap, BTreeSet};

use super::Arranged;
use super::group::{Groups, Kind};
use super::world::Placed;
use crate::model::snapshot::Snapshot;
use crate::model::taint::first_untolerated;
use crate::plan::pack::Bits;
use crate::plan::pack::problem::times_into;
use crate::plan::provision::class::{self, Class};
use crate::plan::provision::item::Item;
use crate::plan::provision::labels::Labelled;
use crate::plan::provision::stock::Bin;
use crate::plan::provision::supply::Supply;

/// How much dearer, in percent, a place may be that only a preference between pods asks for.
const PREFERENCE_PERCENT: i64 = 10;

/// A label key whose values couple pods.
#[derive(Debug, Clone, Default)]
struct Key {
    name: String,
    values: Vec<String>,
    /// Candidates by value.
    bits: Vec<Bits>,
    /// Value of each bin.
    of_bin: Vec<Option<usize>>,
}

/// The running state of a group.
#[derive(Debug, Clone, Default)]
struct State {
    key: usize,
    members: Vec<u32>,
    owners: Vec<u32>,
    /// Values that count when the least is looked for.
    eligible: Vec<bool>,
}

/// What a class has to do with a group.
#[derive(Debug, Clone, Copy)]
struct Tie {
    group: usize,
    member: bool,
    trigger: bool,
    weight: i32,
}

/// One choice of values, one for each key of a class.
#[derive(Debug, Clone)]
struct Choice {
    values: Vec<usize>,
    /// Price of one pod's share of the cheapest machine there.
    cost: Option<i64>,
    /// How many pods the bins there take.
    room: u32,
    /// How many pods of the class the bins there were bought for.
    promised: u32,
}

/// The division of classes between label values, kept so that a finished plan can be judged.
#[derive(Debug, Clone, Default)]
pub struct Assignment {
    groups: Groups,
    keys: Vec<Key>,
    states: BTreeMap<usize, State>,
    /// The states before anything was assigned.
    before: BTreeMap<usize, State>,
    ties: Vec<Vec<Tie>>,
}

/// Makes items of all classes.
pub fn assign(
    snapshot: &Snapshot,
    classes: &[Class],
    supply: &Supply,
    bins: &[Bin],
    suitable: &[Vec<usize>],
    groups: &Groups,
    placed: &Placed,
) -> Arranged {
    let mut assignment = Assignment::new(snapshot, supply, bins, groups, placed);
    let ties: Vec<Vec<Tie>> = (0..classes.len())
        .map(|class| assignment.ties(class))
        .collect();
    let mut choices: Vec<Vec<Choice>> = classes
        .iter()
        .enumerate()
        .map(|(index, class)| {
            let ties = ties.get(index).map_or(&[][..], Vec::as_slice);
            let bins_here = suitable.get(index).map_or(&[][..], Vec::as_slice);
            assignment.choices(class, ties, supply, bins, bins_here)
        })
        .collect();
    assignment.before = assignment.states.clone();
    let mut arranged = Arranged {
        failed: vec![None; classes.len()],
        ..Arranged::default()
    };
    let mut kept: Vec<BTreeMap<Vec<usize>, u32>> = classes
        .iter()
        .enumerate()
        .map(
            |(index, class)| match (ties.get(index), choices.get_mut(index)) {
                (Some(ties), Some(choices)) => assignment.keep_promises(class, ties, choices),
                _ => BTreeMap::new(),
            },
        )
        .collect();
    for index in order(classes, groups, &ties, &choices) {
        let (Some(class), Some(ties), Some(choices)) =
            (classes.get(index), ties.get(index), choices.get_mut(index))
        else {
            continue;
        };
        if ties.is_empty() {
            arranged.items.push(Item::of_class(index, class));
            continue;
        }
        if let Some(item) = assignment.excluded_only(index, class, ties, choices) {
            arranged.items.push(item);
            continue;
        }
        let promised = kept.get_mut(index).map(std::mem::take).unwrap_or_default();
        let (counts, failure) = assignment.divide(class, ties, choices, promised);
        arranged
            .items
            .extend(assignment.items(index, class, ties, counts));
        if let Some(failed) = arranged.failed.get_mut(index) {
            *failed = failure;
        }
    }
    assignment.ties = ties;
    arranged.assignment = assignment;
    arranged
}

/// How far chains of pods that follow other pods are followed.
const CHAIN: usize = 4;

/// Classes that only wait for their own kind first, those that follow other classes after them;
/// within that by priority, then the ones with the least choice.
fn order(
    classes: &[Class],
    groups: &Groups,
    ties: &[Vec<Tie>],
    choices: &[Vec<Choice>],
) -> Vec<usize> {
    let rank = ranks(groups, ties);
    let mut order: Vec<usize> = (0..classes.len())
        .filter(|index| {
            classes
                .get(*index)
                .is_some_and(|class| class.problem.is_none())
        })
        .collect();
    order.sort_by_key(|index| {
        let (priority, pods) = classes
            .get(*index)
            .map_or((0, 0), |class| (class.spec.priority, class.pods.len()));
        (
            rank.get(*index).copied().unwrap_or(0),
            std::cmp::Reverse(priority),
            choices.get(*index).map_or(0, Vec::len),
            std::cmp::Reverse(pods),
            *index,
        )
    });
    order
}

/// How long the chain of classes is that each class follows.
fn ranks(groups: &Groups, ties: &[Vec<Tie>]) -> Vec<usize> {
    let mut rank = vec![0; ties.len()];
    for _link in 0..CHAIN {
        for (index, ties) in ties.iter().enumerate() {
            let followed = ties
                .iter()
                .filter(|tie| tie.trigger)
                .filter_map(|tie| Some((tie, groups.groups.get(tie.group)?)))
                .filter(|(_tie, group)| group.required)
                .flat_map(|(tie, group)| {
                    // Pods with affinity that select each other follow only those that do not.
                    group.members.iter().filter(move |member| {
                        **member != index
                            && (!tie.member
                                || (group.kind == Kind::Affinity
                                    && !group.triggers.contains_key(member)))
                    })
                })
                .filter_map(|member| rank.get(*member).copied())
                .max();
            if let (Some(followed), Some(own)) = (followed, rank.get_mut(index)) {
                *own = (followed + 1).min(CHAIN);
            }
        }
    }
    rank
}

impl Assignment {
    fn new(
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

    fn key(&mut self, name: &str, supply: &Supply, bins: &[Bin]) -> usize {
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

    fn ties(&self, class: usize) -> Vec<Tie> {
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
    fn choices(
        &self,
        class: &Class,
        ties: &[Tie],
        supply: &Supply,
        bins: &[Bin],
        suitable: &[usize],
    ) -> Vec<Choice> {
        if ties.is_empty() {
            return Vec::new();
        }
        let keys = self.keys_of(ties);
        let mut combinations: Vec<Vec<usize>> = vec![Vec::new()];
        for key in &keys {
            let count = self.keys.get(*key).map_or(0, |key| key.values.len());
            combinations = combinations
                .into_iter()
                .flat_map(|values| {
                    (0..count).map(move |value| {
                        let mut values = values.clone();
                        values.push(value);
                        values
                    })
                })
                .collect();
        }
        let needed = class.size.len();
        combinations
            .into_iter()
            .filter_map(|values| {
                let there = self.bits(&keys, &values)?;
                let cost = class.levels.iter().find_map(|level| {
                    let here = level.and(&there);
                    cheapest_share(class, supply, &here)
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

    /// Items whose pods would break a constraint if so many of each item were placed as `placed`
    /// says, with how many of them are too many.
    ///
    /// What was assigned may miss its place later, by a limit or for want of room, and then what
    /// relied on it must wait too.
    pub fn broken(&self, items: &[Item], placed: &[u32]) -> Vec<(usize, u32)> {
        let mut states = self.before.clone();
        let of_item = |item: &Item| -> Vec<(Tie, usize, u32)> {
            item.content
                .iter()
                .filter_map(|(class, each)| Some((self.ties.get(*class)?, *each)))
                .flat_map(|(ties, each)| ties.iter().map(move |tie| (tie, each)))
                .filter_map(|(tie, each)| {
                    let key = self.keys.get(self.states.get(&tie.group)?.key)?;
                    let (_, values) = item.domains.iter().find(|(name, _)| *name == key.name)?;
                    let value = values.first().filter(|_| values.len() == 1)?;
                    let value = key.values.iter().position(|known| known == value)?;
                    Some((*tie, value, each))
                })
                .collect()
        };
        for (item, placed) in items.iter().zip(placed) {
            for (tie, value, each) in of_item(item) {
                if let Some(state) = states.get_mut(&tie.group) {
                    state.record(value, &tie, placed.saturating_mul(each));
                }
            }
        }
        let mut broken = Vec::new();
        for (index, (item, placed)) in items.iter().zip(placed).enumerate() {
            let excess = of_item(item)
                .into_iter()
                .filter(|(tie, _value, _each)| tie.trigger && *placed > 0)
                .map(|(tie, value, _each)| self.excess(&states, &tie, value, *placed))
                .max()
                .unwrap_or(0);
            if excess > 0 {
                broken.push((index, excess));
            }
        }
        broken
    }

    fn excess(&self, states: &BTreeMap<usize, State>, tie: &Tie, value: usize, placed: u32) -> u32 {
        let (Some(group), Some(state)) =
            (self.groups.groups.get(tie.group), states.get(&tie.group))
        else {
            return 0;
        };
        if !group.required {
            return 0;
        }
        let members = state.members.get(value).copied().unwrap_or(0);
        let too_many = match &group.kind {
            Kind::Spread {
                max_skew,
                min_domains,
                ..
            } => {
                let skew = u32::try_from(*max_skew).unwrap_or(0);
                let over = members.saturating_sub(state.least(*min_domains).saturating_add(skew));
                if tie.member || over == 0 {
                    over
                } else {
                    placed
                }
            }
            Kind::Affinity => {
                let all: u32 = state.members.iter().sum();
                let near = if tie.member {
                    members >= 2 || all == members
                } else {
                    members >= 1
                };
                if near { 0 } else { placed }
            }
            Kind::Anti => {
                if members > u32::from(tie.member) {
                    placed
                } else {
                    0
                }
            }
            Kind::Port => 0,
        };
        too_many.min(placed)
    }

    fn keys_of(&self, ties: &[Tie]) -> Vec<usize> {
        let keys: BTreeSet<usize> = ties
            .iter()
            .filter_map(|tie| self.states.get(&tie.group).map(|state| state.key))
            .collect();
        keys.into_iter().collect()
    }

    fn bits(&self, keys: &[usize], values: &[usize]) -> Option<Bits> {
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

    fn bin_is_at(&self, bin: usize, keys: &[usize], values: &[usize]) -> bool {
        keys.iter().zip(values).all(|(key, value)| {
            self.keys
                .get(*key)
                .and_then(|key| key.of_bin.get(bin).copied().flatten())
                == Some(*value)
        })
    }

    /// A class that must only stay away from pods that run already keeps every other value.
    fn excluded_only(
        &self,
        index: usize,
        class: &Class,
        ties: &[Tie],
        choices: &[Choice],
    ) -> Option<Item> {
        let fixed = ties.iter().all(|tie| {
            !tie.trigger
                && self
                    .groups
                    .groups
                    .get(tie.group)
                    .is_some_and(|group| group.kind == Kind::Anti && group.triggers.is_empty())
        });
        let keys = self.keys_of(ties);
        let [key] = keys.as_slice() else {
            return None;
        };
        if !fixed {
            return None;
        }
        let known = self.keys.get(*key)?;
        let mut item = Item::of_class(index, class);
        let mut there: Option<Bits> = None;
        let mut values = BTreeSet::new();
        for choice in choices {
            let value = *choice.values.first()?;
            let taken = ties.iter().any(|tie| {
                self.states
                    .get(&tie.group)
                    .is_some_and(|state| state.owners.get(value).is_some_and(|n| *n > 0))
            });
            if taken {
                continue;
            }
            values.insert(known.values.get(value)?.clone());
            match (&mut there, known.bits.get(value)) {
                (Some(there), Some(bits)) => there.add_all(bits),
                (None, bits) => there = bits.cloned(),
                (Some(_), None) => {}
            }
        }
        let there = there?;
        item.domains.push((known.name.clone(), values));
        item.restrict(&there);
        Some(item)
    }

    /// Which of a class's keys each tie is about.
    fn positions(&self, ties: &[Tie]) -> Vec<usize> {
        let keys = self.keys_of(ties);
        ties.iter()
            .map(|tie| {
                let key = self.states.get(&tie.group).map(|state| state.key);
                keys.iter()
                    .position(|known| Some(*known) == key)
                    .unwrap_or(0)
            })
            .collect()
    }

    /// Pods that a node on its way was bought for go there, as they did when it was bought.
    fn keep_promises(
        &mut self,
        class: &Class,
        ties: &[Tie],
        choices: &mut [Choice],
    ) -> BTreeMap<Vec<usize>, u32> {
        let positions = self.positions(ties);
        let mut open = u32::try_from(class.pods.len()).unwrap_or(u32::MAX);
        let mut counts = BTreeMap::new();
        for choice in choices {
            let kept = choice.promised.min(open);
            if kept == 0 {
                continue;
            }
            open -= kept;
            choice.room = choice.room.saturating_sub(kept);
            counts.insert(choice.values.clone(), kept);
            for (tie, position) in ties.iter().zip(&positions) {
                if let (Some(state), Some(value)) = (
                    self.states.get_mut(&tie.group),
                    choice.values.get(*position),
                ) {
                    state.record(*value, tie, kept);
                }
            }
        }
        counts
    }

    /// Gives each pod of a class its values; what is left over comes with the reason.
    fn divide(
        &mut self,
        class: &Class,
        ties: &[Tie],
        choices: &mut [Choice],
        mut counts: BTreeMap<Vec<usize>, u32>,
    ) -> (BTreeMap<Vec<usize>, u32>, Option<String>) {
        let position = self.positions(ties);
        let prefers = ties.iter().any(|tie| {
            tie.trigger
                && self
                    .groups
                    .groups
                    .get(tie.group)
                    .is_some_and(|group| !group.required)
        });
        let kept: u32 = counts.values().sum();
        for _pod in class
            .pods
            .iter()
            .skip(usize::try_from(kept).unwrap_or(usize::MAX))
        {
            let Some(best) = self.best(ties, &position, choices, prefers) else {
                let failure = self.failure(ties, &position, choices);
                return (counts, Some(failure));
            };
            let Some(choice) = choices.get_mut(best) else {
                break;
            };
            choice.room = choice.room.saturating_sub(1);
            *counts.entry(choice.values.clone()).or_default() += 1;
            for (tie, position) in ties.iter().zip(&position) {
                if let (Some(state), Some(value)) = (
                    self.states.get_mut(&tie.group),
                    choice.values.get(*position),
                ) {
                    state.record(*value, tie, 1);
                }
            }
        }
        (counts, None)
    }

    fn best(
        &self,
        ties: &[Tie],
        position: &[usize],
        choices: &[Choice],
        prefers: bool,
    ) -> Option<usize> {
        let mut open: Vec<(u32, i64, i64, u64, usize)> = Vec::new();
        for (index, choice) in choices.iter().enumerate() {
            let cost = match choice.cost {
                _ if choice.room > 0 => 0,
                Some(cost) => cost,
                None => continue,
            };
            let mut excess = 0;
            let mut liking: i64 = 0;
            let mut crowd: u64 = 0;
            let mut allowed = true;
            for (tie, position) in ties.iter().zip(position) {
                let Some(value) = choice.values.get(*position) else {
                    continue;
                };
                match self.judge(tie, *value) {
                    Judgement::Forbidden => {
                        allowed = false;
                        break;
                    }
                    Judgement::Excess => excess += 1,
                    Judgement::Liked(weight, others) => {
                        liking = liking.saturating_add(weight);
                        crowd = crowd.saturating_add(others);
                    }
                }
            }
            if allowed {
                open.push((excess, cost, -liking, crowd, index));
            }
        }
        let least = open.iter().map(|entry| (entry.0, entry.1)).min()?;
        let ceiling = if prefers {
            least.1.saturating_add(least.1 / 100 * PREFERENCE_PERCENT)
        } else {
            least.1
        };
        open.into_iter()
            .filter(|entry| entry.0 == least.0 && entry.1 <= ceiling)
            .min_by_key(|(_excess, cost, dislike, crowd, index)| (*dislike, *crowd, *cost, *index))
            .map(|entry| entry.4)
    }

    fn judge(&self, tie: &Tie, value: usize) -> Judgement {
        let (Some(group), Some(state)) = (
            self.groups.groups.get(tie.group),
            self.states.get(&tie.group),
        ) else {
            return Judgement::Liked(0, 0);
        };
        let members = state.members.get(value).copied().unwrap_or(0);
        let owners = state.owners.get(value).copied().unwrap_or(0);
        let weight = i64::from(tie.weight);
        match (&group.kind, group.required) {
            (
                Kind::Spread {
                    max_skew,
                    min_domains,
                    ..
                },
                true,
            ) => {
                let after = i64::from(members) + i64::from(tie.member);
                let least = i64::from(state.least(*min_domains));
                let within = after - least <= i64::from(*max_skew);
                match (within, tie.trigger) {
                    (true, _) => Judgement::Liked(0, u64::from(members)),
                    (false, true) => Judgement::Forbidden,
                    (false, false) => Judgement::Excess,
                }
            }
            (Kind::Spread { .. }, false) => Judgement::Liked(0, u64::from(members)),
            (Kind::Affinity, true) if tie.trigger => {
                let first = tie.member && state.members.iter().all(|count| *count == 0);
                if members > 0 || first {
                    Judgement::Liked(0, 0)
                } else {
                    Judgement::Forbidden
                }
            }
            (Kind::Affinity, false) => Judgement::Liked(if members > 0 { weight } else { 0 }, 0),
            (Kind::Anti, true) => {
                if (tie.trigger && members > 0) || (tie.member && owners > 0) {
                    Judgement::Forbidden
                } else {
                    // Those that must be avoided keep together, so that the others have room.
                    Judgement::Liked(i64::from(!tie.trigger && members > 0), 0)
                }
            }
            (Kind::Anti, false) => Judgement::Liked(if members > 0 { -weight } else { 0 }, 0),
            (Kind::Affinity | Kind::Port, _) => Judgement::Liked(0, 0),
        }
    }

    fn failure(&self, ties: &[Tie], position: &[usize], choices: &[Choice]) -> String {
        if choices.is_empty() {
            return "no node that could be had carries the label that the pod's spread or affinity is about".to_owned();
        }
        let blocking = ties.iter().zip(position).find(|(tie, position)| {
            choices.iter().all(|choice| {
                choice
                    .values
                    .get(**position)
                    .is_some_and(|value| matches!(self.judge(tie, *value), Judgement::Forbidden))
            })
        });
        let group = blocking.and_then(|(tie, _)| self.groups.groups.get(tie.group));
        match group.map(|group| (&group.kind, group.key.as_str())) {
            Some((Kind::Spread { max_skew, .. }, key)) => {
                format!(
                    "no value of {key} may take one more pod without breaking maxSkew {max_skew}"
                )
            }
            Some((Kind::Affinity, key)) => {
                format!(
                    "no node that could be had shares {key} with a pod that the pod's affinity selects"
                )
            }
            Some((Kind::Anti, key)) => {
                format!(
                    "every value of {key} has a pod that anti-affinity keeps this pod away from"
                )
            }
            _ => {
                "no place meets all of the pod's spread and affinity constraints at once".to_owned()
            }
        }
    }

    fn items(
        &self,
        index: usize,
        class: &Class,
        ties: &[Tie],
        counts: BTreeMap<Vec<usize>, u32>,
    ) -> Vec<Item> {
        let keys = self.keys_of(ties);
        counts
            .into_iter()
            .filter_map(|(values, count)| {
                let there = self.bits(&keys, &values)?;
                let mut item = Item::of_class(index, class);
                item.count = count;
                for (key, value) in keys.iter().zip(&values) {
                    let key = self.keys.get(*key)?;
                    let value = key.values.get(*value)?.clone();
                    item.domains
                        .push((key.name.clone(), BTreeSet::from([value])));
                }
                item.restrict(&there);
                Some(item)
            })
            .collect()
    }
}

/// What a group says about a place.
enum Judgement {
    Forbidden,
    /// Allowed, but it may get in the way of others.
    Excess,
    /// Allowed: how much it is preferred, and how many are there.
    Liked(i64, u64),
}

impl Key {
    fn value(&mut self, value: &str, candidates: usize) -> usize {
        if let Some(index) = self.values.iter().position(|known| known == value) {
            return index;
        }
        self.values.push(value.to_owned());
        self.bits.push(Bits::empty(candidates));
        self.values.len() - 1
    }
}

impl State {
    fn ensure(&mut self, value: usize) {
        let length = self.members.len().max(value + 1);
        self.members.resize(length, 0);
        self.owners.resize(length, 0);
        self.eligible.resize(length, false);
    }

    fn record(&mut self, value: usize, tie: &Tie, count: u32) {
        self.ensure(value);
        if let (true, Some(members)) = (tie.member, self.members.get_mut(value)) {
            *members = members.saturating_add(count);
        }
        if let (true, Some(owners)) = (tie.trigger, self.owners.get_mut(value)) {
            *owners = owners.saturating_add(count);
        }
    }

    fn least(&self, min_domains: i32) -> u32 {
        let counted = self
            .members
            .iter()
            .zip(&self.eligible)
            .filter(|(_members, eligible)| **eligible);
        let number = counted.clone().count();
        if i64::try_from(number).unwrap_or(i64::MAX) < i64::from(min_domains) {
            return 0;
        }
        counted.map(|(members, _)| *members).min().unwrap_or(0)
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

/// The price of one pod's share of the machine where that share is cheapest.
fn cheapest_share(class: &Class, supply: &Supply, candidates: &Bits) -> Option<i64> {
    candidates
        .iter()
        .filter_map(|index| supply.candidates.get(index))
        .map(|candidate| {
            let mut most: i64 = 0;
            for (name, amount) in class.needs.iter() {
                let free = candidate.free.get(name);
                if free > 0 {
                    let share =
                        i128::from(amount) * i128::from(candidate.price.units()) / i128::from(free);
                    most = most.max(i64::try_from(share).unwrap_or(i64::MAX));
                }
            }
            most
        })
        .min()
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
