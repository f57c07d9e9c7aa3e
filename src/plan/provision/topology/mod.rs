//! Constraints that couple pods: spread, affinity and anti-affinity between pods, host ports.
//!
//! Given classes, candidates and bins; given back items. Coupling over zones, or any other label
//! that nodes share, is resolved here by dividing a class between label values, cheapest values
//! first as far as the constraints allow. Coupling on single nodes becomes caps that the packer
//! keeps, and pods that must share a node become one item. So packing itself is the same for all.

pub mod assign;
pub mod bundle;
mod choices;
pub mod failure;
pub mod group;
pub mod index;
mod judge;
mod order;
pub mod outcome;
pub(super) mod price;
pub mod sequence;
mod state;
pub mod world;

use std::collections::{BTreeMap, BTreeSet};

use super::class::Class;
use super::item::Item;
use super::labels::HOSTNAME;
use super::settings::Premium;
use super::stock::Bin;
use super::supply::Supply;
use crate::model::snapshot::Snapshot;
use crate::plan::pack::problem::{Loads, Relation};
use assign::Division;
use failure::Failure;
use group::{Group, Groups, Kind};
use sequence::Sequence;
pub use state::{Fork, Lean, Tilts};
use world::Placed;

/// Items, and what is on the bins already.
#[derive(Debug, Clone, Default)]
pub struct Arranged {
    /// What is to be packed.
    pub items: Vec<Item>,
    /// Loads of the groups on each bin.
    pub bin_loads: Vec<Loads>,
    /// For each class what kept some of its pods from becoming items.
    pub failed: Vec<Option<Failure>>,
    /// In which order the pods of classes that are divided were given their places, by class.
    pub sequences: BTreeMap<usize, Sequence>,
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
    /// What may be used of each candidate, by dimension.
    pub capacities: &'round [Vec<i64>],
    /// Names of the dimensions.
    pub dimensions: &'round [String],
    /// What a wish of pods may cost.
    pub premium: Premium,
    /// By class whether its wishes of other pods count; those of the others are as if nobody had them.
    pub heard: &'round [bool],
}

/// Everything about constraints between pods that does not depend on which of several places classes go to.
#[derive(Debug)]
pub struct Layout<'round> {
    stage: Stage<'round>,
    groups: Groups,
    placed: Placed,
    relations: Vec<Vec<Relation>>,
    /// Classes that can never be placed, and why.
    hopeless: BTreeMap<usize, Failure>,
    division: Option<Division>,
}

impl<'round> Layout<'round> {
    /// Reads the constraints of all classes.
    pub fn of(stage: Stage<'round>) -> Self {
        let classes = stage.classes.len();
        let mut groups = Groups::demanded(stage.snapshot, stage.classes);
        groups.forget_wishes(|class| stage.heard.get(class) == Some(&false));
        let mut missing = BTreeMap::new();
        if !groups.is_empty() {
            missing = groups.take_unlabelled(&carried(&stage));
            groups.count(stage.classes, |class| !missing.contains_key(&class));
        }
        let mut hopeless: BTreeMap<usize, Failure> = missing
            .into_iter()
            .map(|(class, keys)| (class, Failure::unlabelled(keys.iter().map(String::as_str))))
            .collect();
        let mut layout = Self {
            stage,
            groups: Groups::default(),
            placed: Placed::default(),
            relations: vec![Vec::new(); classes],
            hopeless: BTreeMap::new(),
            division: None,
        };
        if !groups.is_empty() {
            layout.placed = Placed::of(stage.snapshot, &groups);
            for class in groups.take_stuck(|group| layout.placed.has_members(group)) {
                hopeless.entry(class).or_insert_with(Failure::stuck);
            }
            layout.relations = relations(&groups, classes);
            let division = Division::of(&stage, &groups, &layout.placed, &layout.relations);
            layout.division = Some(division);
            layout.groups = groups;
        }
        layout.hopeless = hopeless;
        layout
    }

    /// Turns classes into items.
    pub fn arranged(&self, tilts: &Tilts) -> Arranged {
        let bins = self.stage.bins;
        let Some(division) = &self.division else {
            let mut arranged = Arranged {
                items: self
                    .stage
                    .classes
                    .iter()
                    .enumerate()
                    .filter(|(_index, class)| class.problem.is_none())
                    .map(|(index, class)| Item::of_class(index, class))
                    .collect(),
                bin_loads: vec![Loads::default(); bins.len()],
                failed: vec![None; self.stage.classes.len()],
                ..Arranged::default()
            };
            self.leave_hopeless(&mut arranged);
            return arranged;
        };
        let mut arranged = division.assigned(self.stage.classes, &self.groups, tilts);
        self.leave_hopeless(&mut arranged);
        for item in &mut arranged.items {
            let relations = item
                .main_class()
                .and_then(|class| self.relations.get(class));
            if let Some(relations) = relations {
                item.relations.clone_from(relations);
                for part in &mut item.parts {
                    part.relations.clone_from(relations);
                }
            }
        }
        arranged.bin_loads = bins
            .iter()
            .map(|bin| self.placed.loads_on(&self.groups, bin))
            .collect();
        bundle::bundle(&mut arranged, &self.stage, &self.groups, &self.placed);
        arranged
    }

    /// The classes whose pods could go to one of several places for all that their constraints say.
    pub fn forks(&self) -> Vec<Fork> {
        let forks = self.division.as_ref().map(Division::forks);
        let mut forks = forks.unwrap_or_default();
        forks.retain(|fork| !self.hopeless.contains_key(&fork.class));
        forks
    }

    /// Pods that could never be bound are not packed.
    fn leave_hopeless(&self, arranged: &mut Arranged) {
        arranged.items.retain(|item| {
            let class = item.main_class();
            !class.is_some_and(|class| self.hopeless.contains_key(&class))
        });
        for (class, reason) in &self.hopeless {
            if let Some(failed) = arranged.failed.get_mut(*class) {
                *failed = Some(reason.clone());
            }
        }
    }
}

/// The labels that some node has, or could have that is bought.
fn carried<'round>(stage: &Stage<'round>) -> BTreeSet<&'round str> {
    let mut names = stage.supply.label_names();
    names.insert(HOSTNAME);
    names.extend(stage.bins.iter().flat_map(Bin::label_names));
    let nodes = stage.snapshot.nodes.values();
    names.extend(nodes.flat_map(|node| node.labels.keys()));
    names
}

/// What each class has to do with the groups that count on single nodes.
fn relations(groups: &Groups, classes: usize) -> Vec<Vec<Relation>> {
    let mut relations = vec![Vec::new(); classes];
    let all = groups.groups.iter().enumerate();
    for (index, group) in all.filter(|(_index, group)| group.is_on_node()) {
        let related: BTreeSet<usize> = group
            .triggers
            .keys()
            .chain(&group.members)
            .copied()
            .collect();
        for class in related {
            let member = group.members.contains(&class);
            let cap = group
                .triggers
                .contains_key(&class)
                .then(|| cap(group, member))
                .flatten();
            if let (true, Some(own)) = (member || cap.is_some(), relations.get_mut(class)) {
                own.push(Relation {
                    group: u32::try_from(index).unwrap_or(u32::MAX),
                    weight: u32::from(member),
                    cap,
                });
            }
        }
    }
    relations
}

/// The relations of a running pod that is a member of some groups and an owner of others, both in order.
fn relations_of(groups: &Groups, members: &[usize], owners: &[usize]) -> Vec<Relation> {
    let mut relations = Vec::new();
    let related: BTreeSet<usize> = members.iter().chain(owners).copied().collect();
    for index in related {
        let Some(group) = groups.groups.get(index) else {
            continue;
        };
        let member = members.binary_search(&index).is_ok();
        // Only anti-affinity and ports bind others to a pod that runs already.
        let owner =
            owners.binary_search(&index).is_ok() && matches!(group.kind, Kind::Anti | Kind::Port);
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
