//! Zones, and whatever other labels nodes share, of machines that cost the same everywhere.
//!
//! Given a fleet; given back the same machines, each where the wishes of its pods for company and distance are met
//! best among equal offerings of its type: what that changes costs nothing. A node that would be liked less
//! elsewhere is kept where it is. Nodes of NodePools with minValues stay as they were bought, because they need
//! their alternatives.

use std::collections::{BTreeMap, BTreeSet};

use super::super::buy::Bought;
use super::super::class::Class;
use super::super::item::{Domain, Item};
use super::super::labels::Labelled;
use super::super::min_values;
use super::super::supply::Supply;
use super::super::topology::group::{Group, Kind};
use super::tries::{Attempt, Ground};
use super::{Wishes, is_wish};
use crate::model::offering::CapacityType;
use crate::plan::pack::Bits;

/// How often all nodes are looked at, while that still changes something.
const SWEEPS: usize = 4;

/// What of a wish is somewhere: pods that count, and the weights of those that wish.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Tally {
    members: i64,
    weight: i64,
}

impl Tally {
    const fn add(&mut self, other: Self, sign: i64) {
        self.members = self
            .members
            .saturating_add(other.members.saturating_mul(sign));
        self.weight = self
            .weight
            .saturating_add(other.weight.saturating_mul(sign));
    }
}

/// A wish over a label, with what is at each of its values.
struct Counted<'round> {
    group: &'round Group,
    at: BTreeMap<String, Tally>,
}

impl Counted<'_> {
    /// How much better the pods of `own` make the wish met at a value: every pair of one that wishes and one that
    /// counts is worth the weight, as for kube-scheduler.
    fn score(&self, value: Option<&str>, own: Tally) -> i64 {
        let there = value.and_then(|value| self.at.get(value));
        let there = there.copied().unwrap_or_default();
        let pairs = there.weight.saturating_mul(own.members);
        let pairs = pairs.saturating_add(own.weight.saturating_mul(there.members));
        match self.group.kind {
            Kind::Affinity => pairs,
            Kind::Spread { .. } | Kind::Anti | Kind::Port => -pairs,
        }
    }

    fn count(&mut self, value: Option<&str>, own: Tally, sign: i64) {
        if let Some(value) = value {
            let known = self.at.entry(value.to_owned()).or_default();
            known.add(own, sign);
        }
    }
}

/// What the contents of a node are to the wishes: place in the list of wishes, and what of it.
type Roles = Vec<(usize, Tally)>;

struct Settling<'round> {
    ground: &'round Ground<'round>,
    wishes: Vec<Counted<'round>>,
    /// By class the same for one pod.
    of_class: Vec<Roles>,
    /// Candidates that differ in nothing but where they are.
    siblings: BTreeMap<(usize, &'round str, CapacityType), Vec<usize>>,
}

/// Moves nodes to equal offerings where wishes are met better, and keeps them there.
pub(super) fn settle(ground: &Ground<'_>, wishes: &Wishes, fleet: &mut Attempt) {
    if fleet.placement.purchase.nodes.is_empty() {
        return;
    }
    let Some(mut settling) = Settling::of(ground, wishes, &fleet.classes) else {
        return;
    };
    let items = &fleet.arranged.items;
    for (bin, state) in ground.bins.iter().zip(&fleet.placement.states) {
        let roles = settling.roles(items, &state.taken);
        settling.count(&roles, &|key| bin.label(key), 1);
    }
    let nodes = &mut fleet.placement.purchase.nodes;
    let roles: Vec<Roles> = nodes
        .iter()
        .map(|node| settling.roles(items, &node.contents))
        .collect();
    for (node, roles) in nodes.iter().zip(&roles) {
        settling.count_node(roles, node.candidate, 1);
    }
    let places: Vec<Vec<usize>> = nodes
        .iter()
        .zip(&roles)
        .map(|(node, roles)| settling.places(items, node, roles))
        .collect();
    for _sweep in 0..SWEEPS {
        let mut moved = false;
        for ((node, roles), places) in nodes.iter_mut().zip(&roles).zip(&places) {
            moved |= settling.move_to_best(node, roles, places);
        }
        if !moved {
            break;
        }
    }
    for ((node, roles), places) in nodes.iter_mut().zip(&roles).zip(&places) {
        settling.keep(node, roles, places);
    }
}

impl<'round> Settling<'round> {
    /// `None` when no pods wish for company or distance.
    fn of(
        ground: &'round Ground<'round>,
        wishes: &'round Wishes,
        classes: &[Class],
    ) -> Option<Self> {
        let (groups, placed) = wishes.company.as_ref()?;
        let all = groups.groups.iter().enumerate();
        let wished: Vec<Counted<'_>> = all
            .filter(|(_index, group)| is_wish(group))
            .map(|(index, group)| {
                let running = placed.counts(ground.snapshot, group, index).into_iter();
                let at = running.map(|(value, counted)| {
                    let members = i64::from(counted.members);
                    (value, Tally { members, weight: 0 })
                });
                Counted {
                    group,
                    at: at.collect(),
                }
            })
            .collect();
        let of_class = (0..classes.len())
            .map(|class| {
                let own = wished.iter().enumerate().map(|(place, wish)| {
                    let tally = Tally {
                        members: i64::from(wish.group.members.contains(&class)),
                        weight: wish.group.weight_for(class),
                    };
                    (place, tally)
                });
                own.filter(|(_place, tally)| *tally != Tally::default())
                    .collect()
            })
            .collect();
        Some(Self {
            ground,
            wishes: wished,
            of_class,
            siblings: siblings(ground.supply),
        })
    }

    /// What the contents of a node are to the wishes together.
    fn roles(&self, items: &[Item], contents: &[(usize, u32)]) -> Roles {
        let mut sums: BTreeMap<usize, Tally> = BTreeMap::new();
        for (index, count) in contents {
            let content = items.get(*index).map(|item| &item.content);
            for (class, each) in content.into_iter().flatten() {
                let pods = i64::from(*count) * i64::from(*each);
                for (wish, one) in self.of_class.get(*class).into_iter().flatten() {
                    sums.entry(*wish).or_default().add(*one, pods);
                }
            }
        }
        sums.into_iter().collect()
    }

    fn count<'labels>(
        &mut self,
        roles: &Roles,
        label: &dyn Fn(&str) -> Option<&'labels str>,
        sign: i64,
    ) {
        for (wish, own) in roles {
            if let Some(wish) = self.wishes.get_mut(*wish) {
                wish.count(label(&wish.group.key), *own, sign);
            }
        }
    }

    fn count_node(&mut self, roles: &Roles, candidate: usize, sign: i64) {
        let Some(labels) = self.ground.supply.labels(candidate) else {
            return;
        };
        for (wish, own) in roles {
            if let Some(wish) = self.wishes.get_mut(*wish) {
                wish.count(labels.label(&wish.group.key), *own, sign);
            }
        }
    }

    /// How well the wishes of what is on a node are met on a candidate, the node itself not counted.
    fn score(&self, roles: &Roles, candidate: usize) -> i64 {
        let Some(labels) = self.ground.supply.labels(candidate) else {
            return i64::MIN;
        };
        let scores = roles.iter().filter_map(|(wish, own)| {
            let wish = self.wishes.get(*wish)?;
            Some(wish.score(labels.label(&wish.group.key), *own))
        });
        scores.fold(0, i64::saturating_add)
    }

    /// The same machine wherever it may be, at whatever price; where it is now is one of those places.
    fn places(&self, items: &[Item], node: &Bought, roles: &Roles) -> Vec<usize> {
        let supply = self.ground.supply;
        let Some(chosen) = supply.candidates.get(node.candidate) else {
            return Vec::new();
        };
        let variant = supply.variants.get(chosen.variant);
        let has_min_values = variant.is_some_and(|own| min_values::keys(own).next().is_some());
        if roles.is_empty() || chosen.slot.is_some() || has_min_values {
            return Vec::new();
        }
        let own_type = chosen.offering.key.capacity_type;
        let siblings = (chosen.variant, &*chosen.instance.name, own_type);
        let Some(siblings) = self.siblings.get(&siblings) else {
            return Vec::new();
        };
        let allowed: Bits = node.allowed(items, supply);
        let room = |index: usize| self.ground.usable.get(index);
        let equal = siblings
            .iter()
            .copied()
            .filter(|index| allowed.contains(*index) && room(*index) == room(node.candidate));
        equal.collect()
    }

    /// True when the wishes are met better on another candidate of the same price, where the node is now.
    fn move_to_best(&mut self, node: &mut Bought, roles: &Roles, places: &[usize]) -> bool {
        if places.is_empty() {
            return false;
        }
        self.count_node(roles, node.candidate, -1);
        let price = |index: usize| {
            let candidate = self.ground.supply.candidates.get(index);
            candidate.map(|candidate| (candidate.price, candidate.risk))
        };
        let own = price(node.candidate);
        let here = self.score(roles, node.candidate);
        let equal = places.iter().copied().filter(|index| price(*index) == own);
        let best = equal
            .map(|index| (self.score(roles, index), std::cmp::Reverse(index)))
            .max()
            .filter(|(score, _index)| *score > here);
        if let Some((_score, std::cmp::Reverse(index))) = best {
            node.candidate = index;
        }
        self.count_node(roles, node.candidate, 1);
        best.is_some()
    }

    /// Keeps a node where it is if its pods would like it less elsewhere.
    fn keep(&mut self, node: &mut Bought, roles: &Roles, places: &[usize]) {
        if places.is_empty() {
            return;
        }
        self.count_node(roles, node.candidate, -1);
        let here = self.score(roles, node.candidate);
        if places.iter().any(|index| self.score(roles, *index) < here) {
            let keys: BTreeSet<&str> = roles
                .iter()
                .filter_map(|(wish, _own)| self.wishes.get(*wish))
                .map(|wish| wish.group.key.as_str())
                .collect();
            if let Some(labels) = self.ground.supply.labels(node.candidate) {
                let places = keys.into_iter().filter_map(|key| {
                    let value = labels.label(key)?.to_owned();
                    Some(Domain::exactly(key.to_owned(), Some(value)))
                });
                node.places = places.collect();
            }
        }
        self.count_node(roles, node.candidate, 1);
    }
}

/// Candidates by pool variant, type and capacity type: those that are sold.
fn siblings(supply: &Supply) -> BTreeMap<(usize, &str, CapacityType), Vec<usize>> {
    let mut found: BTreeMap<_, Vec<usize>> = BTreeMap::new();
    for (index, candidate) in supply.candidates.iter().enumerate() {
        if candidate.slot.is_none() && candidate.offering.available {
            let capacity_type = candidate.offering.key.capacity_type;
            found
                .entry((candidate.variant, &*candidate.instance.name, capacity_type))
                .or_default()
                .push(index);
        }
    }
    found
}
