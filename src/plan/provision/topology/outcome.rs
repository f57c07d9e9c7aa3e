//! Whether what was placed in the end keeps the constraints between pods.
//!
//! Given items and how many of each have a place; given back what of them is too many. Nothing is
//! placed or taken out here.

use std::collections::BTreeMap;

use super::assign::Assignment;
use super::group::{Group, Kind};
use super::state::{State, Tie};
use crate::plan::provision::item::Item;
use crate::plan::provision::labels::HOSTNAME;

/// What of an item would break a constraint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Excess {
    /// So many of the items are too many.
    Items(u32),
    /// Of the pods that share a node so many of a class are too many; the others may stay.
    Pods {
        /// The class.
        class: usize,
        /// How many of its pods.
        count: u32,
    },
}

/// A pod of an item in a group that counts on label values.
struct Member {
    class: usize,
    tie: Tie,
    value: usize,
    /// How many of the class's pods one item holds.
    each: u32,
}

impl Assignment {
    /// Items whose pods would break a constraint if so many of each item were placed as `placed`
    /// says, with what of them is too many.
    ///
    /// What was assigned may miss its place later, by a limit or for want of room, and then what
    /// relied on it must wait too.
    pub fn broken(&self, items: &[Item], placed: &[u32]) -> Vec<(usize, Excess)> {
        let mut states = self.before.clone();
        for (item, placed) in items.iter().zip(placed) {
            for member in self.members(item) {
                if let Some(state) = states.get_mut(&member.tie.group) {
                    let pods = placed.saturating_mul(member.each);
                    state.record(Some(member.value), &member.tie, pods);
                }
            }
        }
        let mut broken = Vec::new();
        for (index, (item, placed)) in items.iter().zip(placed).enumerate() {
            if let Some(excess) = self.excess_of(&states, item, *placed) {
                broken.push((index, excess));
            }
        }
        broken
    }

    /// True when a pod of an item needs pods of another for its place: by a spread or by affinity.
    pub fn counts_on(&self, item: &Item, other: &Item) -> bool {
        let needs = |group: &&Group| {
            group.required && matches!(group.kind, Kind::Spread { .. } | Kind::Affinity)
        };
        let has = |item: &Item, holds: &dyn Fn(&usize) -> bool| {
            item.content.iter().any(|(class, _each)| holds(class))
        };
        self.groups.groups.iter().filter(needs).any(|group| {
            has(item, &|class| group.triggers.contains_key(class))
                && has(other, &|class| group.members.contains(class))
        })
    }

    fn members(&self, item: &Item) -> Vec<Member> {
        item.content
            .iter()
            .filter_map(|(class, each)| Some((*class, self.ties.get(*class)?, *each)))
            .flat_map(|(class, ties, each)| ties.iter().map(move |tie| (class, tie, each)))
            .filter_map(|(class, tie, each)| {
                let key = self.keys.get(self.states.get(&tie.group)?.key)?;
                let value = item
                    .domains
                    .iter()
                    .find(|domain| domain.key == key.name)?
                    .single()?;
                let value = key.values.iter().position(|known| known == value)?;
                Some(Member {
                    class,
                    tie: *tie,
                    value,
                    each,
                })
            })
            .collect()
    }

    fn excess_of(
        &self,
        states: &BTreeMap<usize, State>,
        item: &Item,
        placed: u32,
    ) -> Option<Excess> {
        if placed == 0 {
            return None;
        }
        let faults: Vec<(Member, u32)> = self
            .members(item)
            .into_iter()
            .filter(|member| member.tie.trigger)
            .map(|member| {
                let pods = placed.saturating_mul(member.each);
                let excess = self.excess(states, &member.tie, member.value, pods);
                (member, excess)
            })
            .filter(|(_member, excess)| *excess > 0)
            .collect();
        let (worst, count) = faults.iter().max_by_key(|(_member, excess)| *excess)?;
        // Those that follow others onto a node may be fewer without the others having to go.
        let follows = item.leader.as_ref().is_some_and(|leader| {
            let leads = |(class, _each): &(usize, u32)| *class == worst.class;
            !leader.content.iter().any(leads)
        });
        let alone = faults.iter().all(|(member, _)| member.class == worst.class);
        if placed == 1 && follows && alone && *count < worst.each {
            return Some(Excess::Pods {
                class: worst.class,
                count: *count,
            });
        }
        Some(Excess::Items((*count).min(placed)))
    }

    /// True when every pod of the item finds in the item itself what its affinity over single nodes
    /// demands.
    pub fn stands_alone(&self, item: &Item) -> bool {
        // What must be on a certain node follows pods that run there.
        if item.domains.iter().any(|domain| domain.key == HOSTNAME) {
            return true;
        }
        let on_node = |group: &&Group| {
            group.required && group.kind == Kind::Affinity && group.key == HOSTNAME
        };
        self.groups.groups.iter().filter(on_node).all(|group| {
            let any = |holds: &dyn Fn(&usize) -> bool| {
                item.content.iter().any(|(class, _each)| holds(class))
            };
            !any(&|class| group.triggers.contains_key(class))
                || any(&|class| group.members.contains(class))
        })
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
}
