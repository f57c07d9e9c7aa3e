//! What exists at EC2 without a claim, and claims without anything at EC2.
//!
//! Given complete lists of instances as they come in, [`CollectMemory::listed`] remembers what was
//! missing in each, and [`decide`] gives back what may be done about it. Nothing counts that was not
//! missing in two complete lists at least a minute apart. An instance whose Node has pods gets its
//! claim back instead of its end. When too much looks orphaned at once, nothing is collected until a
//! person acknowledges it: a restored API server must not cost anybody a fleet. What a paused NodePool
//! holds back is told of, because it is paid for all the while.

mod endings;
mod memory;
mod text;

pub use endings::ended;
pub use memory::{APART, CollectMemory, add_listed};

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;

use jiff::SignedDuration;
use sha2::{Digest, Sha256};

use crate::api::conditions::ConditionType;
use crate::api::labels;
use crate::model::claim::Claim;
use crate::model::instance::{Instance, InstanceState, tags};
use crate::model::node::Node;
use crate::model::node_pool::NodePool;
use crate::model::snapshot::Snapshot;
use crate::plan::decision::Decision;

/// How long a machine is left to its registration, which tells EC2 its names: of a thousand that join at once the last
/// has its turn minutes later, as calls that change something are few in a second.
const NAMED_WITHIN: SignedDuration = SignedDuration::from_mins(5);
/// So many orphans at once are never too many.
const FEW: usize = 3;
/// Beyond [`FEW`], orphans are too many when they are more than one in so many of the fleet.
const ONE_IN: usize = 10;

/// True for a Node that Tonnage registered, that no claim knows, and whose kubelet is silent.
fn is_stray(node: &Node, snapshot: &Snapshot) -> bool {
    node.labels.contains_key(labels::NODE_CLASS)
        && node.deleting_since.is_none()
        && !node.ready
        && !snapshot
            .claims
            .values()
            .any(|claim| claim.node_name == node.name || claim.provider_id == node.provider_id)
}

/// What to do next about something that lost its other half.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CollectStep {
    /// Make the claim again: the instance's Node has pods.
    Readopt {
        /// The instance.
        instance: Arc<Instance>,
        /// Its Node.
        node: Arc<Node>,
    },
    /// Terminate the instance: nothing runs there and no claim knows it.
    Terminate {
        /// The instance.
        instance: Arc<Instance>,
        /// Its Node, which goes too.
        node: Option<Arc<Node>>,
    },
    /// The claim's instance is gone: delete the claim.
    DeleteClaim {
        /// The claim.
        claim: Arc<Claim>,
        /// Its instance.
        instance: String,
    },
    /// Neither claim nor instance is left: delete the Node.
    DeleteNode {
        /// The Node.
        node: Arc<Node>,
    },
    /// Put the claim's and the Node's name onto the instance.
    Tag {
        /// The instance.
        instance: String,
        /// Tags to set.
        tags: BTreeMap<String, String>,
    },
    /// Say on a NodePool which instances are not terminated because it is paused.
    HeldByPause {
        /// The NodePool.
        node_pool: Arc<NodePool>,
        /// The instances, in order of id.
        instances: Vec<Arc<Instance>>,
    },
}

impl CollectStep {
    /// What may not run twice at the same time.
    pub fn key(&self) -> String {
        match self {
            Self::Readopt { instance, .. } | Self::Terminate { instance, .. } => {
                format!("instance/{}", instance.id)
            }
            Self::DeleteClaim { claim, .. } => format!("claim/{}", claim.name),
            Self::DeleteNode { node } => format!("node/{}", node.name),
            Self::Tag { instance, .. } => format!("tag/{instance}"),
            Self::HeldByPause { node_pool, .. } => format!("pool/{}", node_pool.name),
        }
    }
}

/// Collection stands still until a person says otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Halt {
    /// Names this set of orphans, or the larger one that a person was told of first.
    pub token: String,
    /// Their instance ids.
    pub orphans: BTreeSet<String>,
    /// For people, with what to do.
    pub message: String,
}

/// What to do, and whether the brake holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Collection {
    /// What to do.
    pub decision: Decision<CollectStep>,
    /// Set while the brake holds.
    pub halt: Option<Halt>,
}

/// Decides about orphans, vanished instances, stray Nodes and missing tags.
pub fn decide(snapshot: &Snapshot, memory: &CollectMemory) -> Collection {
    let mut collection = Collection::default();
    let mut condemned = orphans(snapshot, memory, &mut collection.decision);
    let fleet = memory.listed_instances().map_or(0, <[_]>::len);
    let new: BTreeSet<String> = condemned
        .iter()
        .filter_map(|step| match step {
            CollectStep::Terminate { instance, .. } => Some(instance.id.clone()),
            _ => None,
        })
        .filter(|id| !memory.condemned.contains(id))
        .collect();
    let is_held = new.iter().any(|id| memory.held.contains(id));
    if is_held || new.len() > FEW.max(fleet / ONE_IN) {
        let token = memory.told_token(&new);
        let halt = halt(new, token, fleet, snapshot);
        if !memory.is_allowed(&halt, snapshot) {
            condemned.retain(|step| match step {
                CollectStep::Terminate { instance, .. } => memory.condemned.contains(&instance.id),
                _ => true,
            });
            collection.halt = Some(halt);
        }
    }
    collection.decision.steps.append(&mut condemned);
    vanished(snapshot, memory, &mut collection.decision);
    if memory.names_instances {
        missing_tags(snapshot, memory, &mut collection.decision);
    }
    collection
}

/// Decides about each instance that was without a claim in two lists. Gives back the ends, which the brake may
/// still hold.
fn orphans(
    snapshot: &Snapshot,
    memory: &CollectMemory,
    decision: &mut Decision<CollectStep>,
) -> Vec<CollectStep> {
    let mut condemned = Vec::new();
    let mut held: Vec<(&Arc<NodePool>, &Arc<Instance>)> = Vec::new();
    for instance in memory.listed_instances().unwrap_or_default() {
        if !memory.confirmed(memory.orphans.get(&instance.id)) {
            continue;
        }
        // A claim may have come since the list.
        let known = snapshot
            .claims
            .values()
            .any(|claim| claim.instance_id() == Some(&instance.id));
        if known || instance.state == InstanceState::Terminated {
            continue;
        }
        match orphan(snapshot, instance) {
            Some(step @ CollectStep::Readopt { .. }) => decision.push(step),
            Some(step) => match snapshot.paused_pool(instance.tags.get(tags::NODE_POOL)) {
                Some(pool) => held.push((pool, instance)),
                None => condemned.push(step),
            },
            None => {}
        }
    }
    held_by_pause(held, decision);
    condemned
}

/// One step for each paused NodePool. In order, because an event is told once only if it says the same again.
fn held_by_pause(
    mut held: Vec<(&Arc<NodePool>, &Arc<Instance>)>,
    decision: &mut Decision<CollectStep>,
) {
    held.sort_by(|left, right| (&left.0.name, &left.1.id).cmp(&(&right.0.name, &right.1.id)));
    for of_pool in held.chunk_by(|left, right| left.0.name == right.0.name) {
        let Some((node_pool, _first)) = of_pool.first() else {
            continue;
        };
        let instances = of_pool.iter();
        decision.push(CollectStep::HeldByPause {
            node_pool: Arc::clone(node_pool),
            instances: instances
                .map(|(_pool, instance)| Arc::clone(instance))
                .collect(),
        });
    }
}

/// What becomes of an instance without a claim. Nothing, while its Node is being drained: the
/// termination of the Node ends the instance too, and not before its pods have left.
fn orphan(snapshot: &Snapshot, instance: &Arc<Instance>) -> Option<CollectStep> {
    let node = snapshot
        .node_by_provider_id(&instance.provider_id())
        .cloned();
    let is_leaving = node.as_ref().is_some_and(|node| {
        let is_ours = |finalizer: &String| finalizer == labels::TERMINATION_FINALIZER;
        node.deleting_since.is_some() && node.finalizers.iter().any(is_ours)
    });
    if is_leaving {
        return None;
    }
    let works = node.as_ref().is_some_and(|node| {
        node.deleting_since.is_none() && snapshot.pods_on(&node.name).any(|pod| pod.is_work())
    });
    Some(match node {
        Some(node) if works => CollectStep::Readopt {
            instance: Arc::clone(instance),
            node,
        },
        node => CollectStep::Terminate {
            instance: Arc::clone(instance),
            node,
        },
    })
}

/// Names a set of orphans: SHA-256 over their ids in order, the first 12 hex digits.
fn token_of(ids: &[&str]) -> String {
    let digest = Sha256::digest(ids.join("\n").as_bytes());
    digest.iter().take(6).fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        write!(text, "{byte:02x}").ok();
        text
    })
}

fn halt(orphans: BTreeSet<String>, told: Option<&str>, fleet: usize, snapshot: &Snapshot) -> Halt {
    let ids: Vec<&str> = orphans.iter().map(String::as_str).collect();
    let token = told.map_or_else(|| token_of(&ids), str::to_owned);
    let shown = ids.iter().take(5).copied().collect::<Vec<_>>().join(", ");
    let message = format!(
        "{} of {fleet} instances of this cluster have no NodeClaim ({shown}{}); nothing is collected, \
         because a restored or wrong API server looks like this. Compare with EC2, then allow it: \
         {}kubectl annotate nodepool NAME --overwrite tonnage.dev/acknowledge-orphans={token}",
        ids.len(),
        if ids.len() > 5 { ", ..." } else { "" },
        if snapshot.node_pools.is_empty() {
            "there is no NodePool of Tonnage to say so on, so make one, any will do; then "
        } else {
            ""
        },
    );
    Halt {
        token,
        orphans,
        message,
    }
}

fn vanished(snapshot: &Snapshot, memory: &CollectMemory, decision: &mut Decision<CollectStep>) {
    for claim in snapshot.claims.values() {
        if claim.deleting_since.is_some() || !memory.confirmed(memory.vanished.get(&claim.uid)) {
            continue;
        }
        // A Node that is Ready proves that the instance is alive, whatever the list says.
        let alive = snapshot
            .nodes
            .get(&claim.node_name)
            .is_some_and(|node| node.ready);
        if let Some(id) = claim.instance_id().filter(|_id| !alive) {
            decision.push(CollectStep::DeleteClaim {
                claim: Arc::clone(claim),
                instance: id.to_owned(),
            });
        }
    }
    for node in snapshot.nodes.values() {
        if is_stray(node, snapshot) && memory.confirmed(memory.stray.get(&node.uid)) {
            decision.push(CollectStep::DeleteNode {
                node: Arc::clone(node),
            });
        }
    }
}

fn missing_tags(snapshot: &Snapshot, memory: &CollectMemory, decision: &mut Decision<CollectStep>) {
    let claims: BTreeMap<&str, &Arc<Claim>> = snapshot
        .claims
        .values()
        .filter(|claim| claim.is(ConditionType::Registered.as_str()))
        .filter_map(|claim| Some((claim.instance_id()?, claim)))
        .collect();
    let Some((listed, instances)) = &memory.last else {
        return;
    };
    for instance in instances {
        let Some(claim) = claims.get(instance.id.as_str()) else {
            continue;
        };
        // Registration tags the machine itself: only a list from well after it can tell whether that failed.
        let registered = claim.conditions.get(ConditionType::Registered.as_str());
        let is_young = registered
            .is_some_and(|registered| listed.duration_since(registered.since) < NAMED_WITHIN);
        if is_young || memory.tagged.contains(&instance.id) {
            continue;
        }
        let missing = instance.missing_names(&claim.name, &claim.node_name);
        if !missing.is_empty() && !instance.state.is_ending() {
            decision.push(CollectStep::Tag {
                instance: instance.id.clone(),
                tags: missing,
            });
        }
    }
}

#[cfg(test)]
mod tests;
