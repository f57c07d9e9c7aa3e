//! What pods only wish for, and what that may cost.
//!
//! Given classes and the world; given back the fleet in which wishes are met as far as they are worth it: those
//! of nodes (preferred node affinity), and those of company and distance over zones and the like (preferred
//! affinity and anti-affinity between pods, spreads that may be broken). A wish never keeps a pod from a place,
//! and none over single nodes buys a machine. What cannot be undone is decided elsewhere: nothing is bought here.

mod bill;
mod settle;
mod tries;
mod words;

pub(super) use tries::{Ground, best};
pub(super) use words::told;

use std::collections::BTreeMap;

use super::class::Class;
use super::labels::HOSTNAME;
use super::levels::{self, Priced};
use super::topology::group::{Group, Groups};
use super::topology::price::{Demand, Prices, Wish};
use super::topology::world::Placed;
use crate::plan::pack::Bits;

/// The wishes of all classes.
#[derive(Debug, Default)]
pub(super) struct Wishes {
    /// By class how much its wishes weigh together; 0 where it has none that anything could cost.
    weights: Vec<i64>,
    /// Levels of the classes that wish for nodes: with what is worth its price first, and without wishes.
    nodes: BTreeMap<usize, (Priced, Vec<Bits>)>,
    /// All groups, when some pods wish for company or distance over a label that nodes share, with what runs.
    company: Option<(Groups, Placed)>,
}

/// True for what pods only wish for over a label that several nodes share.
pub(super) fn is_wish(group: &Group) -> bool {
    !group.required && group.key != HOSTNAME && !group.triggers.is_empty()
}

impl Wishes {
    /// Reads the wishes of classes whose candidates are matched.
    pub(super) fn read(ground: &Ground<'_>, classes: &[Class], drivers_on_demand: bool) -> Self {
        let mut wishes = Self {
            weights: vec![0; classes.len()],
            ..Self::default()
        };
        if classes.iter().any(wishes_company) {
            let groups = Groups::of(ground.snapshot, classes);
            for group in groups.groups.iter().filter(|group| is_wish(group)) {
                for class in group.triggers.keys() {
                    wishes.add_weight(*class, group.weight_for(*class));
                }
            }
            let placed = Placed::of(ground.snapshot, &groups);
            wishes.company = Some((groups, placed));
        }
        wishes.read_nodes(ground, classes, drivers_on_demand);
        wishes
    }

    fn add_weight(&mut self, class: usize, weight: i64) {
        if let Some(sum) = self.weights.get_mut(class) {
            *sum = sum.saturating_add(weight);
        }
    }

    /// Orders what classes that wish for nodes may use by what the wishes are worth.
    fn read_nodes(&mut self, ground: &Ground<'_>, classes: &[Class], drivers_on_demand: bool) {
        let supply = ground.supply;
        let of_variant = levels::by_variant(supply);
        let mut ranks = BTreeMap::new();
        for (index, class) in classes.iter().enumerate() {
            let own = class.spec.constraints.as_ref();
            if own.is_none_or(|own| own.preferred_node_terms.is_empty()) {
                continue;
            }
            let mut usable = Bits::empty(supply.candidates.len());
            for level in &class.levels {
                usable.add_all(level);
            }
            let own = levels::ranked(class, supply, (&usable, &of_variant), drivers_on_demand);
            if own.len() > 1 {
                ranks.insert(index, own);
            }
        }
        if ranks.is_empty() {
            return;
        }
        let asks = |class: &Class| u32::try_from(class.pods.len()).unwrap_or(u32::MAX);
        let mut demand = Demand::default();
        for (index, class) in classes.iter().enumerate() {
            let unwished = ranks.get(&index).map(levels::without_wishes);
            let first = unwished.as_ref().unwrap_or(&class.levels).first();
            if let Some(first) = first {
                demand.add(&Wish::of(class, asks(class), u32::MAX), first.clone());
            }
        }
        let mut prices = Prices::of(supply, ground.usable, &demand);
        for (index, ranks) in ranks {
            let Some(class) = classes.get(index) else {
                continue;
            };
            let wish = Wish::of(class, asks(class), u32::MAX);
            let price = |bits: &Bits| prices.cheapest(&wish, bits.clone());
            let priced = levels::by_worth(&ranks, ground.premium, price);
            let unwished = levels::without_wishes(&ranks);
            let likings = || ranks.keys().map(|rank| rank.liking);
            let most = likings().max().unwrap_or(0);
            self.add_weight(index, most - likings().min().unwrap_or(most));
            self.nodes.insert(index, (priced, unwished));
        }
    }

    /// By class whether it has wishes that something could cost.
    fn heard(&self) -> Vec<bool> {
        self.weights.iter().map(|weight| *weight > 0).collect()
    }

    fn is_empty(&self) -> bool {
        self.weights.iter().all(|weight| *weight == 0)
    }

    /// Gives classes the levels that their wishes come to where they are heard, and those without wishes elsewhere.
    fn apply(&self, classes: &mut [Class], heard: &[bool]) {
        for (index, (priced, unwished)) in &self.nodes {
            let Some(class) = classes.get_mut(*index) else {
                continue;
            };
            if heard.get(*index) == Some(&true) && priced.levels != *unwished {
                class.levels.clone_from(&priced.levels);
                class.unwished.clone_from(unwished);
            } else {
                class.levels.clone_from(unwished);
                class.unwished.clear();
            }
        }
    }
}

fn wishes_company(class: &Class) -> bool {
    class.spec.constraints.as_ref().is_some_and(|own| {
        let spreads = own.spread.iter().filter(|spread| !spread.required);
        let terms = own
            .preferred_affinity
            .iter()
            .chain(&own.preferred_anti_affinity);
        spreads
            .map(|spread| &spread.topology_key)
            .chain(terms.map(|(_weight, term)| &term.topology_key))
            .any(|key| key != HOSTNAME)
    })
}
