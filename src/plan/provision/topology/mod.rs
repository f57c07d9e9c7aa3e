//! Constraints that couple pods: spread, affinity and anti-affinity between pods, host ports.
//!
//! Given classes, candidates and bins; given back items. Coupling over zones, or any other label
//! that nodes share, is resolved here by dividing a class between label values, cheapest values
//! first as far as the constraints allow. Coupling on single nodes becomes caps that the packer
//! keeps, and pods that must share a node become one item. So packing itself is the same for all.

pub mod assign;
pub mod bundle;
mod choices;
pub mod group;
mod judge;
pub mod outcome;
mod state;
pub mod world;

use std::collections::BTreeSet;

use super::class::Class;
use super::item::Item;
use super::labels::HOSTNAME;
use super::stock::Bin;
use super::supply::Supply;
use crate::model::snapshot::Snapshot;
use crate::plan::pack::problem::{Loads, Relation};
use group::{Group, Groups, Kind};
use world::Placed;

const STUCK: &str = "no pod that the pod's affinity selects runs, and those that wait, if any, wait for this pod in turn";

/// Items, and what is on the bins already.
#[derive(Debug, Clone, Default)]
pub struct Arranged {
    /// What is to be packed.
    pub items: Vec<Item>,
    /// Loads of the groups on each bin.
    pub bin_loads: Vec<Loads>,
    /// For each class what kept some of its pods from becoming items.
    pub failed: Vec<Option<String>>,
    /// Judges what was placed in the end.
    pub assignment: assign::Assignment,
}

/// What constraints are resolved in.
#[derive(Debug, Clone, Copy)]
pub struct Stage<'round> {
    /// The world.
    pub snapshot: &'round Snapshot,
    /// The classes.
    pub classes: &'round [Class],
    /// What could be bought.
    pub supply: &'round Supply,
    /// Nodes that are there or on their way.
    pub bins: &'round [Bin],
    /// The bins that suit each class.
    pub suitable: &'round [Vec<usize>],
    /// What each candidate offers, by dimension.
    pub capacities: &'round [Vec<i64>],
    /// Names of the dimensions.
    pub dimensions: &'round [String],
}

/// Turns classes into items.
pub fn arrange(stage: &Stage<'_>) -> Arranged {
    let Stage {
        snapshot,
        classes,
        bins,
        ..
    } = *stage;
    let mut groups = Groups::of(snapshot, classes);
    if groups.is_empty() {
        return Arranged {
            items: classes
                .iter()
                .enumerate()
                .filter(|(_index, class)| class.problem.is_none())
                .map(|(index, class)| Item::of_class(index, class))
                .collect(),
            bin_loads: vec![Loads::default(); bins.len()],
            failed: vec![None; classes.len()],
            ..Arranged::default()
        };
    }
    let placed = Placed::of(snapshot, &groups);
    let stuck = groups.take_stuck(classes.len(), |group| placed.has_members(group));
    let mut arranged = assign::assign(stage, &groups, &placed);
    leave_stuck(&mut arranged, &stuck);
    for item in &mut arranged.items {
        if let Some(class) = item.main_class() {
            item.relations = relations(&groups, class);
            for part in &mut item.parts {
                part.relations.clone_from(&item.relations);
            }
        }
    }
    arranged.bin_loads = bins
        .iter()
        .map(|bin| placed.loads_on(&groups, bin))
        .collect();
    bundle::bundle(&mut arranged, stage, &groups, &placed);
    arranged
}

/// Pods that could never be bound are not packed.
fn leave_stuck(arranged: &mut Arranged, stuck: &BTreeSet<usize>) {
    arranged.items.retain(|item| {
        !item
            .main_class()
            .is_some_and(|class| stuck.contains(&class))
    });
    for class in stuck {
        if let Some(failed) = arranged.failed.get_mut(*class) {
            *failed = Some(STUCK.to_owned());
        }
    }
}

/// What a class has to do with the groups that count on single nodes.
fn relations(groups: &Groups, class: usize) -> Vec<Relation> {
    groups
        .groups
        .iter()
        .enumerate()
        .filter(|(_index, group)| group.is_on_node())
        .filter_map(|(index, group)| {
            let member = group.members.contains(&class);
            let cap = group
                .triggers
                .contains_key(&class)
                .then(|| cap(group, member))
                .flatten();
            (member || cap.is_some()).then(|| Relation {
                group: u32::try_from(index).unwrap_or(u32::MAX),
                weight: u32::from(member),
                cap,
            })
        })
        .collect()
}

/// The relations of a running pod that is a member of some groups and an owner of others.
fn relations_of(groups: &Groups, members: &[usize], owners: &[usize]) -> Vec<Relation> {
    let mut relations = Vec::new();
    for (index, group) in groups.groups.iter().enumerate() {
        let member = members.contains(&index);
        // Only anti-affinity and ports bind others to a pod that runs already.
        let owner = owners.contains(&index) && matches!(group.kind, Kind::Anti | Kind::Port);
        if group.is_on_node() && (member || owner) {
            relations.push(Relation {
                group: u32::try_from(index).unwrap_or(u32::MAX),
                weight: u32::from(member),
                cap: owner.then_some(u32::from(member)),
            });
        }
    }
    relations
}

/// The most members that a node with a pod of the group's own may have.
fn cap(group: &Group, member: bool) -> Option<u32> {
    match &group.kind {
        // A new node is empty, so the least count of all nodes is taken as zero.
        Kind::Spread { max_skew, .. } => Some(u32::try_from(*max_skew).unwrap_or(0)),
        Kind::Anti | Kind::Port => Some(u32::from(member)),
        Kind::Affinity => None,
    }
}

impl Group {
    /// True for groups that count on single nodes and cap what they hold.
    pub fn is_on_node(&self) -> bool {
        self.required && self.key == HOSTNAME && self.kind != Kind::Affinity
    }

    /// True for groups that are resolved by dividing classes between label values.
    pub fn is_on_domains(&self) -> bool {
        self.key != HOSTNAME
    }
}
