//! Limits of NodePools, exact inside one plan.
//!
//! Given machines in the order in which they matter; given back those that the limits allow, and
//! the rest. While machines are chosen the capacity of the chosen type counts; what a node may turn out to be
//! instead is held against what is left then, and the largest of it is counted.

use std::collections::BTreeMap;

use super::supply::{Room, Supply};
use crate::model::resources::{NODES, Resources};

/// What every pool may still buy.
#[derive(Debug, Clone, Default)]
pub struct Rooms(BTreeMap<String, Room>);

impl Rooms {
    /// The rooms of a supply before anything is bought.
    pub fn of(supply: &Supply) -> Self {
        Self(supply.room.clone())
    }

    /// True when one more node of the candidate stays within its pool's limits.
    pub fn allow(&self, supply: &Supply, candidate: usize) -> bool {
        let Some((pool, capacity)) = pool_and_capacity(supply, candidate) else {
            return false;
        };
        self.0.get(pool).is_none_or(|room| leaves(room, capacity))
    }

    /// Counts one node of the candidate.
    pub fn charge(&mut self, supply: &Supply, candidate: usize) {
        let Some((pool, capacity)) = pool_and_capacity(supply, candidate) else {
            return;
        };
        for (name, left) in self.0.get_mut(pool).into_iter().flatten() {
            *left = left.saturating_sub(amount(capacity, name));
        }
    }

    /// What a pool may still buy.
    pub fn of_pool(&self, pool: &str) -> Option<&Room> {
        self.0.get(pool)
    }

    /// Counts for a node that is counted already what it may turn out to have more, by what it may be instead.
    pub fn charge_instead(&mut self, supply: &Supply, counted: usize, others: &[usize]) {
        let Some((pool, before)) = pool_and_capacity(supply, counted) else {
            return;
        };
        for (name, left) in self.0.get_mut(pool).into_iter().flatten() {
            let most = others
                .iter()
                .filter_map(|other| pool_and_capacity(supply, *other))
                .map(|(_pool, after)| more(before, after, name))
                .max();
            *left = left.saturating_sub(most.unwrap_or(0));
        }
    }

    /// True when no pool has a limit.
    pub fn is_unlimited(&self) -> bool {
        self.0.values().all(BTreeMap::is_empty)
    }

    /// True when the candidate's pool limits the resource.
    pub fn counts(&self, supply: &Supply, candidate: usize, resource: &str) -> bool {
        pool_and_capacity(supply, candidate)
            .and_then(|(pool, _capacity)| self.0.get(pool))
            .is_some_and(|room| room.contains_key(resource))
    }

    /// The limits that keep the candidate out, in name order.
    pub fn short(&self, supply: &Supply, candidate: usize) -> Vec<Short> {
        let Some((pool, capacity)) = pool_and_capacity(supply, candidate) else {
            return Vec::new();
        };
        let room = self.0.get(pool).into_iter().flatten();
        room.map(|(name, left)| Short {
            resource: name.clone(),
            left: *left,
            amount: amount(capacity, name),
        })
        .filter(|short| short.amount > short.left.max(0))
        .collect()
    }
}

/// A limit that a machine exceeds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Short {
    /// The resource.
    pub resource: String,
    /// What the limit leaves of it; below zero where it is exceeded already.
    pub left: i64,
    /// What the machine has of it.
    pub amount: i64,
}

/// True when what a pool's limits leave is enough for one more node of a capacity.
pub fn leaves(room: &Room, capacity: &Resources) -> bool {
    room.iter()
        .all(|(name, left)| amount(capacity, name) <= (*left).max(0))
}

/// True when what a pool's limits leave is enough for one capacity in the place of another that is counted
/// already.
pub fn leaves_instead(room: &Room, counted: &Resources, other: &Resources) -> bool {
    room.iter()
        .all(|(name, left)| more(counted, other, name) <= (*left).max(0))
}

fn pool_and_capacity(supply: &Supply, candidate: usize) -> Option<(&str, &Resources)> {
    let candidate = supply.candidates.get(candidate)?;
    let variant = supply.variants.get(candidate.variant)?;
    Some((&variant.pool.name, &candidate.instance.capacity))
}

/// How much more of a resource one capacity has than another.
fn more(before: &Resources, after: &Resources, name: &str) -> i64 {
    amount(after, name)
        .saturating_sub(amount(before, name))
        .max(0)
}

fn amount(capacity: &Resources, name: &str) -> i64 {
    if name == NODES { 1 } else { capacity.get(name) }
}
