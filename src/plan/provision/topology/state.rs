//! What is counted while classes are divided between label values.

use crate::plan::pack::Bits;

/// A label key whose values couple pods.
#[derive(Debug, Clone, Default)]
pub(super) struct Key {
    pub(super) name: String,
    pub(super) values: Vec<String>,
    /// Candidates by value.
    pub(super) bits: Vec<Bits>,
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

/// One choice of values, one for each key of a class.
#[derive(Debug, Clone)]
pub(super) struct Choice {
    pub(super) values: Vec<usize>,
    /// Price of one pod's share of the cheapest machine there.
    pub(super) cost: Option<i64>,
    /// How many pods the bins there take.
    pub(super) room: u32,
    /// How many pods of the class the bins there were bought for.
    pub(super) promised: u32,
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
}

impl State {
    pub(super) fn ensure(&mut self, value: usize) {
        let length = self.members.len().max(value + 1);
        self.members.resize(length, 0);
        self.owners.resize(length, 0);
        self.eligible.resize(length, false);
    }

    pub(super) fn record(&mut self, value: usize, tie: &Tie, count: u32) {
        self.ensure(value);
        if let (true, Some(members)) = (tie.member, self.members.get_mut(value)) {
            *members = members.saturating_add(count);
        }
        if let (true, Some(owners)) = (tie.trigger, self.owners.get_mut(value)) {
            *owners = owners.saturating_add(count);
        }
    }

    pub(super) fn least(&self, min_domains: i32) -> u32 {
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
