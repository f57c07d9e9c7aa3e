//! Divides classes between zones, or whatever other labels couple their pods.
//!
//! Given groups and what runs already; given back items, each with the label values that its node
//! must have. Pods are divided one by one so that the constraints hold when all have their places:
//! the cheapest value that the constraints allow comes first, so a spread costs only what its
//! maxSkew forces it to. Preferences choose only between values that are within what they are worth.

use std::collections::{BTreeMap, BTreeSet};

use super::choices;
use super::failure::Failure;
use super::group::{Group, Groups, Kind};
use super::order::order;
use super::sequence::Sequence;
use super::state::{Choice, Fork, Key, State, Tie, Tilts, Values};
use super::world::Placed;
use super::{Arranged, Stage};
use crate::plan::pack::Bits;
use crate::plan::pack::problem::Relation;
use crate::plan::provision::class::Class;
use crate::plan::provision::item::{Domain, Item};
use crate::plan::provision::settings::Premium;

/// The division of classes between label values, kept so that a finished plan can be judged.
#[derive(Debug, Clone, Default)]
pub struct Assignment {
    pub(super) groups: Groups,
    pub(super) keys: Vec<Key>,
    pub(super) states: BTreeMap<usize, State>,
    /// The states before anything was assigned.
    pub(super) before: BTreeMap<usize, State>,
    pub(super) ties: Vec<Vec<Tie>>,
    /// What a wish may cost.
    pub(super) premium: Premium,
}

/// What is known before classes are divided: what each has to do with the groups, and where it could go at
/// what price.
#[derive(Debug)]
pub struct Division {
    start: Assignment,
    choices: Vec<Vec<Choice>>,
    /// Pods that stay where a node on its way was bought for them.
    kept: Vec<BTreeMap<Values, u32>>,
    gathering: BTreeSet<usize>,
}

impl Division {
    /// Prices every place of every class. `relations` is what each class has to do with groups on single nodes.
    pub fn of(
        stage: &Stage<'_>,
        groups: &Groups,
        placed: &Placed,
        relations: &[Vec<Relation>],
    ) -> Self {
        let mut start = Assignment::new(stage, groups, placed);
        let ties = start.ties(stage.classes.len());
        let mut choices = choices::priced(&start, stage, &ties, relations);
        start.before = start.states.clone();
        let kept = stage
            .classes
            .iter()
            .zip(&ties)
            .zip(&mut choices)
            .map(|((class, ties), choices)| start.keep_promises(class, ties, choices))
            .collect();
        start.ties = ties;
        Self {
            start,
            choices,
            kept,
            gathering: groups.gathering(),
        }
    }

    /// The classes that could as well go elsewhere: those with several choices on one level that no room,
    /// promise or preference decides between.
    pub fn forks(&self) -> Vec<Fork> {
        let mut forks = Vec::new();
        for (class, (choices, ties)) in self.choices.iter().zip(&self.start.ties).enumerate() {
            let group = |tie: &&Tie| self.start.groups.groups.get(tie.group);
            let mut own = ties.iter().filter(|tie| tie.trigger);
            let prefers = own.any(|tie| group(&tie).is_some_and(|group| !group.required));
            let mut levels = choices.iter().map(|choice| choice.level);
            let first = levels.next();
            let decided = choices
                .iter()
                .any(|choice| choice.room > 0 || choice.cost.is_none());
            if choices.len() < 2 || prefers || decided || levels.any(|level| Some(level) != first) {
                continue;
            }
            let spread = |group: &Group| matches!(group.kind, Kind::Spread { .. });
            let mut own = ties.iter().filter(|tie| tie.trigger);
            forks.push(Fork {
                class,
                choices: choices.iter().map(|choice| choice.values.clone()).collect(),
                divides: own.any(|tie| group(&tie).is_some_and(spread)),
            });
        }
        forks
    }

    /// Makes items of all classes.
    pub fn assigned(&self, classes: &[Class], groups: &Groups, tilts: &Tilts) -> Arranged {
        let mut assignment = self.start.clone();
        let mut choices = self.choices.clone();
        for (class, (choice, lean)) in tilts {
            let choices = choices.get_mut(*class);
            if let Some(choice) = choices.and_then(|choices| choices.get_mut(*choice)) {
                choice.lean(*lean);
            }
        }
        let ties = std::mem::take(&mut assignment.ties);
        let mut arranged = Arranged {
            failed: vec![None; classes.len()],
            ..Arranged::default()
        };
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
            let promised = self.kept.get(index).cloned().unwrap_or_default();
            let together = self.gathering.contains(&index);
            if together {
                only_promised(choices, &promised);
            }
            let divided = assignment.divide(class, ties, choices, promised, together);
            if divided.counts.len() > 1 {
                let sequence = assignment.sequence(ties, choices, divided.turns);
                arranged.sequences.insert(index, sequence);
            }
            arranged
                .items
                .extend(assignment.items(index, class, ties, divided.counts));
            if let Some(failed) = arranged.failed.get_mut(index) {
                *failed = divided.failure;
            }
        }
        assignment.ties = ties;
        arranged.assignment = assignment;
        arranged
    }
}

/// Where the pods of a class go.
#[derive(Debug, Default)]
struct Divided {
    counts: BTreeMap<Values, u32>,
    /// The choice of each pod in turn.
    turns: Vec<usize>,
    /// Why some are left over.
    failure: Option<Failure>,
}

/// The choices of pods to which promises are kept, one of each in turn: in which order they were made is not known.
fn in_turn(promised: &BTreeMap<Values, u32>, choices: &[Choice]) -> Vec<usize> {
    let mut left = promised.clone();
    let mut turns = Vec::new();
    while left.values().any(|left| *left > 0) {
        let before = turns.len();
        for (index, choice) in choices.iter().enumerate() {
            if let Some(left) = left.get_mut(&choice.values).filter(|left| **left > 0) {
                *left -= 1;
                turns.push(index);
            }
        }
        if turns.len() == before {
            break;
        }
    }
    turns
}

/// Pods that must share a node cannot be divided by what they only prefer: once one has its place,
/// the others have no choice.
fn close_others(choices: &mut [Choice], kept: usize) {
    for (index, choice) in choices.iter_mut().enumerate() {
        if index != kept {
            choice.cost = None;
            choice.room = 0;
        }
    }
}

/// The same for pods that a node on its way was bought for.
fn only_promised(choices: &mut [Choice], promised: &BTreeMap<Values, u32>) {
    let known = choices
        .iter()
        .position(|choice| promised.contains_key(&choice.values));
    if let Some(known) = known {
        close_others(choices, known);
    }
}

impl Assignment {
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
        let mut domain = Domain::one_of(known.name.clone(), BTreeSet::new());
        for choice in choices {
            let value = *choice.values.first()?;
            let taken = ties.iter().any(|tie| {
                let state = self.states.get(&tie.group);
                let owners = value.and_then(|value| state?.owners.get(value));
                owners.is_some_and(|owners| *owners > 0)
            });
            if taken {
                continue;
            }
            match value {
                Some(value) => {
                    domain.values.insert(known.values.get(value)?.clone());
                }
                None => domain.or_none = true,
            }
            match (&mut there, known.bits_of(value)) {
                (Some(there), Some(bits)) => there.add_all(bits),
                (None, bits) => there = bits.cloned(),
                (Some(_), None) => {}
            }
        }
        let there = there?;
        item.domains.push(domain);
        item.restrict(&there);
        Some(item)
    }

    /// Which of a class's keys each tie is about.
    pub(super) fn positions(&self, ties: &[Tie]) -> Vec<usize> {
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
    ) -> BTreeMap<Values, u32> {
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

    /// Gives each pod of a class its values, one after the other.
    fn divide(
        &mut self,
        class: &Class,
        ties: &[Tie],
        choices: &mut [Choice],
        promised: BTreeMap<Values, u32>,
        together: bool,
    ) -> Divided {
        let position = self.positions(ties);
        let prefers = ties.iter().any(|tie| {
            tie.trigger
                && self
                    .groups
                    .groups
                    .get(tie.group)
                    .is_some_and(|group| !group.required)
        });
        let kept: u32 = promised.values().sum();
        let mut divided = Divided {
            turns: in_turn(&promised, choices),
            counts: promised,
            failure: None,
        };
        for _pod in class
            .pods
            .iter()
            .skip(usize::try_from(kept).unwrap_or(usize::MAX))
        {
            let Some(best) = self.best(ties, &position, choices, prefers) else {
                divided.failure = Some(self.failure(ties, &position, choices));
                break;
            };
            if together {
                close_others(choices, best);
            }
            let Some(choice) = choices.get_mut(best) else {
                break;
            };
            choice.room = choice.room.saturating_sub(1);
            divided.turns.push(best);
            *divided.counts.entry(choice.values.clone()).or_default() += 1;
            for (tie, position) in ties.iter().zip(&position) {
                if let (Some(state), Some(value)) = (
                    self.states.get_mut(&tie.group),
                    choice.values.get(*position),
                ) {
                    state.record(*value, tie, 1);
                }
            }
        }
        divided
    }

    /// The choices by turn, as places that items can be found at.
    fn sequence(&self, ties: &[Tie], choices: &[Choice], turns: Vec<usize>) -> Sequence {
        let keys = self.keys_of(ties);
        let domain = |(key, value): (&usize, &Option<usize>)| self.keys.get(*key)?.domain(*value);
        let place = |index: &usize| {
            let values = &choices.get(*index)?.values;
            let place = keys.iter().zip(values).filter_map(domain).collect();
            Some((*index, place))
        };
        let used: BTreeSet<usize> = turns.iter().copied().collect();
        Sequence::of(used.iter().filter_map(place).collect(), turns)
    }

    fn items(
        &self,
        index: usize,
        class: &Class,
        ties: &[Tie],
        counts: BTreeMap<Values, u32>,
    ) -> Vec<Item> {
        let keys = self.keys_of(ties);
        counts
            .into_iter()
            .filter_map(|(values, count)| {
                let there = self.bits(&keys, &values)?;
                let mut item = Item::of_class(index, class);
                item.count = count;
                for (key, value) in keys.iter().zip(&values) {
                    item.domains.push(self.keys.get(*key)?.domain(*value)?);
                }
                item.restrict(&there);
                Some(item)
            })
            .collect()
    }
}
