//! What is counted while classes are divided between label values.

use std::collections::BTreeMap;

use super::world::Counted;
use crate::plan::pack::Bits;
use crate::plan::provision::item::Domain;

/// A label key whose values couple pods.
#[derive(Debug, Clone, Default)]
pub(super) struct Key {
    pub(super) name: String,
    pub(super) values: Vec<String>,
    /// Candidates by value.
    pub(super) bits: Vec<Bits>,
    /// Candidates without the label.
    pub(super) none: Bits,
    /// Value of each bin.
    pub(super) of_bin: Vec<Option<usize>>,
}

/// The running state of a group.
#[derive(Debug, Clone, Default)]
pub(super) struct State {
    pub(super) key: usize,
    pub(super) members: Vec<u32>,
    pub(super) owners: Vec<u32>,
    /// Values that count when the least is looked for.
    pub(super) eligible: Vec<bool>,
}

/// What a class has to do with a group.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tie {
    pub(super) group: usize,
    pub(super) member: bool,
    pub(super) trigger: bool,
    pub(super) weight: i32,
}

/// One value for each key of a class; `None` is a node without the label.
pub(super) type Values = Vec<Option<usize>>;

/// One choice of values.
#[derive(Debug, Clone)]
pub(super) struct Choice {
    pub(super) values: Values,
    /// How many better levels of the class have nothing there.
    pub(super) level: usize,
    /// Price of one pod there.
    pub(super) cost: Option<i64>,
    /// How many pods the bins there take.
    pub(super) room: u32,
    /// How many pods of the class the bins there were bought for.
    pub(super) promised: u32,
}

/// Whether a class is made to go to one of its choices, or to keep off it, as far as constraints allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lean {
    /// It goes there.
    To,
    /// It goes elsewhere.
    Off,
}

/// By class the choice that is not left to its price.
pub type Tilts = BTreeMap<usize, (usize, Lean)>;

/// A class that has several choices which only price tells apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fork {
    /// The class.
    pub class: usize,
    /// The values of each choice: equal ones are the same place for every class over the same labels.
    pub choices: Vec<Vec<Option<usize>>>,
    /// Its pods are divided between several places, not all at one.
    pub divides: bool,
}

/// How many times cheaper or dearer a place is made for a class that leans.
const LEANING: i64 = 1000;

impl Choice {
    pub(super) fn lean(&mut self, lean: Lean) {
        self.cost = self.cost.map(|cost| match lean {
            Lean::To => cost / LEANING,
            Lean::Off => cost.saturating_mul(LEANING),
        });
    }
}

/// What a group says about a place.
#[derive(Debug, Clone, Copy)]
pub(super) enum Judgement {
    Forbidden,
    /// Allowed, but it may get in the way of others.
    Excess,
    /// Allowed: how much it is preferred, and how many are there.
    Liked(i64, u64),
}

impl Key {
    pub(super) fn value(&mut self, value: &str, candidates: usize) -> usize {
        if let Some(index) = self.values.iter().position(|known| known == value) {
            return index;
        }
        self.values.push(value.to_owned());
        self.bits.push(Bits::empty(candidates));
        self.values.len() - 1
    }

    /// Candidates with a value, or without the label.
    pub(super) fn bits_of(&self, value: Option<usize>) -> Option<&Bits> {
        value.map_or(Some(&self.none), |value| self.bits.get(value))
    }

    /// What the value is called; `None` for a value that is not known.
    pub(super) fn domain(&self, value: Option<usize>) -> Option<Domain> {
        let name = match value {
            Some(value) => Some(self.values.get(value)?.clone()),
            None => None,
        };
        Some(Domain::exactly(self.name.clone(), name))
    }
}

impl State {
    pub(super) fn ensure(&mut self, value: usize) {
        let length = self.members.len().max(value + 1);
        self.members.resize(length, 0);
        self.owners.resize(length, 0);
        self.eligible.resize(length, false);
    }

    /// Whether a value counts when the least is looked for; it does once anything says so.
    pub(super) fn allow(&mut self, value: usize, counts: bool) {
        if let Some(eligible) = self.eligible.get_mut(value) {
            *eligible |= counts;
        }
    }

    /// Takes in what is at a value before anything is assigned.
    pub(super) fn count(&mut self, value: usize, counted: Counted) {
        self.ensure(value);
        if let (Some(members), Some(owners)) =
            (self.members.get_mut(value), self.owners.get_mut(value))
        {
            *members = counted.members;
            *owners = counted.owners;
        }
    }

    /// Counts pods at a value. Where the label is missing nothing is near or far, and nobody counts.
    pub(super) fn record(&mut self, value: Option<usize>, tie: &Tie, count: u32) {
        let Some(value) = value else {
            return;
        };
        self.ensure(value);
        if let (true, Some(members)) = (tie.member, self.members.get_mut(value)) {
            *members = members.saturating_add(count);
        }
        if let (true, Some(owners)) = (tie.trigger, self.owners.get_mut(value)) {
            *owners = owners.saturating_add(count);
        }
    }

    /// How many values count when the least is looked for.
    pub(super) fn counting(&self) -> i32 {
        let number = self.eligible.iter().filter(|eligible| **eligible).count();
        i32::try_from(number).unwrap_or(i32::MAX)
    }

    pub(super) fn least(&self, min_domains: i32) -> u32 {
        if self.counting() < min_domains {
            return 0;
        }
        let counted = self.members.iter().zip(&self.eligible);
        let counted = counted.filter(|(_members, eligible)| **eligible);
        counted.map(|(members, _)| *members).min().unwrap_or(0)
    }
}
