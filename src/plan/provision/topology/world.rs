//! Pods that run already, as the groups see them.
//!
//! Given a snapshot and groups; given back how many members and owners of each group are on each
//! node. Pods that are ending keep others away until they are gone, as for kube-scheduler. Nothing follows them, and
//! no spread counts them: a machine for company that is gone when it joins would be bought in vain. Pods that need a
//! new place themselves do not count, and no pod that ends on a node which is leaving.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::group::{Group, Groups, Kind};
use super::index::Index;
use super::relations_of;
use crate::model::node::Node;
use crate::model::pod::PodSpec;
use crate::model::snapshot::Snapshot;
use crate::model::taint::first_untolerated;
use crate::plan::pack::problem::Loads;
use crate::plan::provision::demand;
use crate::plan::provision::labels::{HOSTNAME, NodeLabels};
use crate::plan::provision::stock::{Bin, BinName};

/// What a running pod is to the groups, both in order.
#[derive(Debug, Clone, Default)]
struct Role {
    member: Vec<usize>,
    owner: Vec<usize>,
}

impl Role {
    /// What a pod is while it ends. Kube-scheduler leaves it out of spreads (`podtopologyspread`,
    /// `countPodsMatchSelector`), and of nothing else.
    fn only_keeps_away(&mut self, groups: &Groups) {
        self.member.retain(|index| {
            let group = groups.groups.get(*index);
            group.is_some_and(|group| matches!(group.kind, Kind::Anti | Kind::Port))
        });
    }
}

/// Pods that run already.
#[derive(Debug, Clone, Default)]
pub struct Placed {
    roles: Vec<Role>,
    /// Role and count by node.
    on: BTreeMap<String, BTreeMap<usize, u32>>,
    /// Node and count by role.
    of_role: Vec<BTreeMap<String, u32>>,
    /// Roles that have to do with each group.
    of_group: BTreeMap<usize, Vec<usize>>,
}

/// What of a group is at one label value.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counted {
    /// Pods that count.
    pub members: u32,
    /// Pods that demand it.
    pub owners: u32,
}

impl Placed {
    /// Counts what runs.
    pub fn of(snapshot: &Snapshot, groups: &Groups) -> Self {
        let leaving = demand::Leaving::of(snapshot);
        let index = Index::of(&groups.groups);
        let mut placed = Self::default();
        let mut known: BTreeMap<(*const PodSpec, bool), usize> = BTreeMap::new();
        for pod in snapshot.pods.values() {
            let Some(node) = pod.node_name.as_deref() else {
                continue;
            };
            let ends = pod.deleting_until.is_some();
            let leaves =
                leaving.goes(node) && ends || leaving.sends_away(pod) && demand::will_move(pod);
            if !pod.is_active_on_node() || leaves {
                continue;
            }
            let identity = (Arc::as_ptr(&pod.spec), ends);
            let role = *known.entry(identity).or_insert_with(|| {
                let mut role = Role {
                    member: index.counting(&groups.groups, &pod.spec),
                    owner: index.owned(snapshot, &groups.groups, &pod.spec),
                };
                if ends {
                    role.only_keeps_away(groups);
                }
                placed.roles.push(role);
                placed.roles.len() - 1
            });
            *placed
                .on
                .entry(node.to_owned())
                .or_default()
                .entry(role)
                .or_default() += 1;
        }
        placed.of_role = vec![BTreeMap::new(); placed.roles.len()];
        for (node, roles) in &placed.on {
            for (role, count) in roles {
                if let Some(nodes) = placed.of_role.get_mut(*role) {
                    nodes.insert(node.clone(), *count);
                }
            }
        }
        for (index, role) in placed.roles.iter().enumerate() {
            for group in role.member.iter().chain(&role.owner) {
                let roles = placed.of_group.entry(*group).or_default();
                if roles.last() != Some(&index) {
                    roles.push(index);
                }
            }
        }
        placed
    }

    /// Members and owners of a group by label value, over all nodes that count for it and have some.
    pub fn counts(
        &self,
        snapshot: &Snapshot,
        group: &Group,
        index: usize,
    ) -> BTreeMap<String, Counted> {
        let mut counts: BTreeMap<String, Counted> = BTreeMap::new();
        for role in self.of_group.get(&index).into_iter().flatten() {
            let (Some(nodes), Some(known)) = (self.of_role.get(*role), self.roles.get(*role))
            else {
                continue;
            };
            for (node, count) in nodes {
                let value = snapshot.nodes.get(node).and_then(|node| value(node, group));
                if let Some(value) = value {
                    let counted = counts.entry(value.to_owned()).or_default();
                    if known.member.binary_search(&index).is_ok() {
                        counted.members = counted.members.saturating_add(*count);
                    }
                    if known.owner.binary_search(&index).is_ok() {
                        counted.owners = counted.owners.saturating_add(*count);
                    }
                }
            }
        }
        counts
    }

    /// How many members of a group are on a node.
    pub fn members_on(&self, node: &str, group: usize) -> u32 {
        self.on
            .get(node)
            .into_iter()
            .flatten()
            .filter(|(role, _count)| self.is_member(**role, group))
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
        self.of_group
            .get(&group)
            .into_iter()
            .flatten()
            .any(|role| self.is_member(*role, group))
    }

    fn is_member(&self, role: usize, group: usize) -> bool {
        self.roles
            .get(role)
            .is_some_and(|role| role.member.binary_search(&group).is_ok())
    }
}

/// The values of a group's label that nodes have which count for it.
pub fn values(snapshot: &Snapshot, group: &Group) -> BTreeSet<String> {
    let nodes = snapshot.nodes.values();
    nodes
        .filter_map(|node| value(node, group))
        .map(str::to_owned)
        .collect()
}

/// The value of a group's label on a node that counts for it.
fn value<'world>(node: &'world Node, group: &Group) -> Option<&'world str> {
    let labels = NodeLabels {
        name: &node.name,
        labels: &node.labels,
    };
    let counts = is_eligible(node, &labels, &group.kind);
    let own = node.labels.get(&group.key).map(String::as_str);
    let own = own.or_else(|| (group.key == HOSTNAME).then_some(node.name.as_str()));
    own.filter(|_value| counts)
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
