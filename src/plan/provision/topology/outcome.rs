//! Whether what was placed in the end keeps the constraints between pods.

use std::collections::BTreeMap;

use super::assign::Assignment;
use super::group::{Group, Kind};
use super::state::{State, Tie};
use crate::plan::provision::item::Item;
use crate::plan::provision::labels::HOSTNAME;

impl Assignment {
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

    /// True when every pod of the item finds in the item itself what its affinity over single nodes
    /// demands.
    pub fn stands_alone(&self, item: &Item) -> bool {
        // What must be on a certain node follows pods that run there.
        if item.domains.iter().any(|(key, _values)| key == HOSTNAME) {
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
