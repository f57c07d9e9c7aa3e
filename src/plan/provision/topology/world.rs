//! Pods that run already, as the groups see them.
//!
//! Given a snapshot and groups; given back how many members and owners of each group are on each
//! node. Pods that are ending, and pods that need a new place themselves, do not count.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::group::{self, Groups, Kind};
use super::relations_of;
use crate::model::node::Node;
use crate::model::pod::PodSpec;
use crate::model::snapshot::Snapshot;
use crate::model::taint::first_untolerated;
use crate::plan::pack::problem::{Loads, Relation};
use crate::plan::provision::demand;
use crate::plan::provision::labels::{Labelled, NodeLabels};
use crate::plan::provision::stock::{Bin, BinName};

/// What a running pod is to the groups.
#[derive(Debug, Clone, Default)]
struct Role {
    member: Vec<usize>,
    owner: Vec<usize>,
}

/// Pods that run already.
#[derive(Debug, Clone, Default)]
pub struct Placed {
    roles: Vec<Role>,
    /// Role and count by node.
    on: BTreeMap<String, BTreeMap<usize, u32>>,
}

/// Counts of one group by label value.
#[derive(Debug, Clone, Default)]
pub struct Counts {
    /// Members by value.
    pub members: BTreeMap<String, u32>,
    /// Pods that demand the group by value; values of eligible nodes without any are there with 0.
    pub owners: BTreeMap<String, u32>,
}

impl Placed {
    /// Counts what runs.
    pub fn of(snapshot: &Snapshot, groups: &Groups) -> Self {
        let leaving = demand::leaving_nodes(snapshot);
        let mut placed = Self::default();
        let mut known: BTreeMap<*const PodSpec, usize> = BTreeMap::new();
        for pod in snapshot.pods.values() {
            let Some(node) = pod.node_name.as_deref() else {
                continue;
            };
            if !pod.is_active_on_node()
                || pod.deleting_until.is_some()
                || (leaving.contains(node) && demand::will_move(pod))
            {
                continue;
            }
            let role = *known.entry(Arc::as_ptr(&pod.spec)).or_insert_with(|| {
                placed.roles.push(role(snapshot, groups, &pod.spec));
                placed.roles.len() - 1
            });
            *placed
                .on
                .entry(node.to_owned())
                .or_default()
                .entry(role)
                .or_default() += 1;
        }
        placed
    }

    /// Members and owners of a group by label value, over all nodes that count for it.
    pub fn counts(&self, snapshot: &Snapshot, groups: &Groups, index: usize) -> Counts {
        let mut counts = Counts::default();
        let Some(group) = groups.groups.get(index) else {
            return counts;
        };
        for node in snapshot.nodes.values() {
            let labels = NodeLabels {
                name: &node.name,
                labels: &node.labels,
            };
            let Some(value) = labels.label(&group.key) else {
                continue;
            };
            if !is_eligible(node, &labels, &group.kind) {
                continue;
            }
            let (mut members, mut owners) = (0, 0);
            for (role, count) in self.on.get(&node.name).into_iter().flatten() {
                let Some(role) = self.roles.get(*role) else {
                    continue;
                };
                if role.member.contains(&index) {
                    members += count;
                }
                if role.owner.contains(&index) {
                    owners += count;
                }
            }
            *counts.members.entry(value.to_owned()).or_default() += members;
            *counts.owners.entry(value.to_owned()).or_default() += owners;
        }
        counts
    }

    /// How many members of a group are on a node.
    pub fn members_on(&self, node: &str, group: usize) -> u32 {
        self.on
            .get(node)
            .into_iter()
            .flatten()
            .filter(|(role, _count)| {
                self.roles
                    .get(**role)
                    .is_some_and(|role| role.member.contains(&group))
            })
            .map(|(_role, count)| *count)
            .sum()
    }

    /// The loads of a bin before anything is planned.
    pub fn loads_on(&self, groups: &Groups, bin: &Bin) -> Loads {
        let mut loads = Loads::default();
        let BinName::Node(node) = &bin.name else {
            return loads;
        };
        for (role, count) in self.on.get(node).into_iter().flatten() {
            if let Some(role) = self.roles.get(*role) {
                loads.add(&relations_of(groups, &role.member, &role.owner), *count);
            }
        }
        loads
    }

    /// True when a member of the group is on some node.
    pub fn has_members(&self, group: usize) -> bool {
        self.on.values().flatten().any(|(role, _count)| {
            self.roles
                .get(*role)
                .is_some_and(|role| role.member.contains(&group))
        })
    }
}

/// The relations of a pod that waits for nothing, such as a DaemonSet's.
pub fn relations_of_spec(snapshot: &Snapshot, groups: &Groups, spec: &PodSpec) -> Vec<Relation> {
    let role = role(snapshot, groups, spec);
    relations_of(groups, &role.member, &role.owner)
}

fn role(snapshot: &Snapshot, groups: &Groups, spec: &PodSpec) -> Role {
    let mut role = Role::default();
    for (index, found) in groups.groups.iter().enumerate() {
        if found.scope.counts(spec) {
            role.member.push(index);
        }
        if group::owns(snapshot, spec, found) {
            role.owner.push(index);
        }
    }
    role
}

fn is_eligible(node: &Node, labels: &NodeLabels<'_>, kind: &Kind) -> bool {
    match kind {
        Kind::Spread {
            affinity, taints, ..
        } => {
            affinity
                .as_ref()
                .is_none_or(|demand| demand.accepts(labels))
                && taints.as_ref().is_none_or(|tolerations| {
                    first_untolerated(&node.taints, tolerations).is_none()
                })
        }
        _ => true,
    }
}
