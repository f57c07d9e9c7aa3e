//! What exists at EC2 without a claim, and claims without anything at EC2.
//!
//! Given complete lists of instances as they come in, [`CollectMemory::listed`] remembers what was
//! missing in each, and [`decide`] gives back what may be done about it. Nothing counts that was not
//! missing in two complete lists at least a minute apart. An instance whose Node has pods gets its
//! claim back instead of its end. When too much looks orphaned at once, nothing is collected until a
//! person acknowledges it: a restored API server must not cost anybody a fleet.

mod endings;

pub use endings::ended;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write as _;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use sha2::{Digest, Sha256};

use crate::api::conditions::ConditionType;
use crate::api::labels;
use crate::model::claim::Claim;
use crate::model::instance::{Instance, InstanceState, instance_id_of, tags};
use crate::model::node::Node;
use crate::model::snapshot::Snapshot;
use crate::plan::decision::Decision;
use crate::plan::instances::VISIBLE_WITHIN;

/// How far apart the two lists are at least that must agree before anything is done.
pub const APART: SignedDuration = SignedDuration::from_mins(1);
/// How long a machine is left to its registration, which tells EC2 its names: of a thousand that join at once the last
/// has its turn minutes later, as calls that change something are few in a second.
const NAMED_WITHIN: SignedDuration = SignedDuration::from_mins(5);
/// So many orphans at once are never too many.
const FEW: usize = 3;
/// For how long after its last list a process may go on from what it saw, if it leads again meanwhile: what happens
/// under others' eyes in so short a time makes no machine that was without a claim before and after one to keep.
const HANDED_ON: SignedDuration = SignedDuration::from_mins(3);
/// Beyond [`FEW`], orphans are too many when they are more than one in so many of the fleet.
const ONE_IN: usize = 10;
/// Halts that are remembered: a token that is older has to be given anew.
const MOST_TOLD: usize = 20;

/// What complete lists have shown so far. Lost with the process, which delays collection by a minute; a process that
/// leads again soon goes on from it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CollectMemory {
    /// The last complete list.
    last: Option<(Timestamp, Vec<Arc<Instance>>)>,
    /// Instances without a claim, by id: since which list.
    orphans: BTreeMap<String, Timestamp>,
    /// Claims without an instance, by uid: since which list.
    vanished: BTreeMap<String, Timestamp>,
    /// Nodes of ours without claim and instance, by uid: since which list.
    stray: BTreeMap<String, Timestamp>,
    /// Instances that were tagged since the last list, which cannot show it.
    tagged: BTreeSet<String>,
    /// Orphans whose end was decided, alone or by a person's leave: what failed is tried again without asking
    /// anew.
    condemned: BTreeSet<String>,
    /// Orphans that the brake holds: it does not let go because the fleet grew or some of them went.
    held: BTreeSet<String>,
    /// The last halts that a person was told of: what was told may be allowed, though some of it is gone since.
    told: VecDeque<Halt>,
}

impl CollectMemory {
    /// Takes in a complete list of the cluster's instances that are not terminated. `snapshot` must
    /// have been taken after the list, so that a claim made meanwhile counts.
    pub fn listed(&mut self, at: Timestamp, instances: Vec<Arc<Instance>>, snapshot: &Snapshot) {
        let present: BTreeSet<&str> = instances.iter().map(|found| found.id.as_str()).collect();
        let claimed: BTreeSet<&str> = snapshot
            .claims
            .values()
            .filter_map(|claim| claim.instance_id())
            .collect();
        // Instances of a batch whose claims still wait for theirs are not orphans yet.
        let pending: BTreeSet<&str> = snapshot
            .claims
            .values()
            .filter(|claim| claim.provider_id.is_empty())
            .filter_map(|claim| claim.launch.as_ref())
            .map(|record| record.batch.as_str())
            .collect();
        let is_pending = |instance: &Instance| {
            instance
                .tags
                .get(tags::BATCH)
                .is_some_and(|batch| pending.contains(batch.as_str()))
        };
        let orphans = instances
            .iter()
            .filter(|found| !found.state.is_ending())
            .filter(|found| !claimed.contains(found.id.as_str()) && !is_pending(found))
            .map(|found| found.id.clone())
            .collect();
        let vanished = snapshot
            .claims
            .values()
            .filter(|claim| claim.deleting_since.is_none())
            .filter(|claim| {
                claim
                    .instance_id()
                    .is_some_and(|id| !present.contains(id) && at >= visible_from(claim))
            })
            .map(|claim| claim.uid.clone())
            .collect();
        let stray = snapshot
            .nodes
            .values()
            .filter(|node| is_stray(node, snapshot))
            .filter(|node| instance_id_of(&node.provider_id).is_none_or(|id| !present.contains(id)))
            .map(|node| node.uid.clone())
            .collect();
        keep(&mut self.orphans, orphans, at);
        keep(&mut self.vanished, vanished, at);
        keep(&mut self.stray, stray, at);
        self.condemned.retain(|id| self.orphans.contains_key(id));
        self.held.retain(|id| self.orphans.contains_key(id));
        self.last = Some((at, instances));
        self.tagged.clear();
    }

    /// A term begins: it goes on from what an earlier one of the same process saw lately, and decides nothing before a
    /// list of its own is in.
    pub fn begin_term(&mut self, now: Timestamp) {
        let last = self.last.take();
        let is_fresh = last.is_some_and(|(last, _instances)| {
            (SignedDuration::ZERO..=HANDED_ON).contains(&now.duration_since(last))
        });
        if !is_fresh {
            *self = Self::default();
        }
    }

    /// Remembers what was decided. Tags are not asked for again from the same list: one that failed is
    /// missing from the next, too.
    pub fn asked(&mut self, collection: &Collection) {
        for step in &collection.decision.steps {
            match step {
                CollectStep::Tag { instance, .. } => {
                    self.tagged.insert(instance.clone());
                }
                CollectStep::Terminate { instance, .. } => {
                    self.condemned.insert(instance.id.clone());
                    self.held.remove(&instance.id);
                }
                _ => {}
            }
        }
        if let Some(halt) = &collection.halt {
            self.held.extend(halt.orphans.iter().cloned());
            if !self.told.contains(halt) {
                self.told.push_back(halt.clone());
            }
            if self.told.len() > MOST_TOLD {
                self.told.pop_front();
            }
        }
    }

    /// The token by which a person was told of all of these already: what goes meanwhile makes no new one, or it would
    /// change under the eyes of whoever compares. What is only not asked about now, as its NodePool is paused, does.
    fn told_token(&self, orphans: &BTreeSet<String>) -> Option<&str> {
        let is_gone = |id: &String| !self.orphans.contains_key(id);
        let mut told = self.told.iter().rev();
        told.find(|told| {
            orphans.is_subset(&told.orphans) && told.orphans.difference(orphans).all(is_gone)
        })
        .map(|told| told.token.as_str())
    }

    /// True when a person allowed the end of all of these, by the token of this halt or of one before it.
    fn is_allowed(&self, halt: &Halt, snapshot: &Snapshot) -> bool {
        let tokens: BTreeSet<&str> = snapshot
            .node_pools
            .values()
            .filter_map(|pool| pool.acknowledged_orphans.as_deref())
            .collect();
        // The last set by a token is what the person compared with.
        let told = |token: &&str| {
            let mut halts = std::iter::once(halt).chain(self.told.iter().rev());
            halts.find(|told| told.token == *token)
        };
        let mut allowed = tokens.iter().filter_map(told);
        allowed.any(|told| halt.orphans.is_subset(&told.orphans))
    }

    /// The last complete list.
    pub fn instances(&self) -> &[Arc<Instance>] {
        self.last
            .as_ref()
            .map_or(&[], |(_at, instances)| instances.as_slice())
    }

    /// True when the first list that missed it and the last one are far enough apart.
    fn confirmed(&self, since: Option<&Timestamp>) -> bool {
        match (since, &self.last) {
            (Some(since), Some((last, _instances))) => last.duration_since(*since) >= APART,
            _ => false,
        }
    }
}

/// Keeps what is still missing with its first time, adds what is newly missing, drops the rest. After a
/// clock that was far ahead has been set right a first time may be of the future: it begins anew.
fn keep(known: &mut BTreeMap<String, Timestamp>, missing: BTreeSet<String>, at: Timestamp) {
    known.retain(|name, since| missing.contains(name) && *since <= at);
    for name in missing {
        known.entry(name).or_insert(at);
    }
}

/// When EC2 certainly shows the instance of a claim.
fn visible_from(claim: &Claim) -> Timestamp {
    let launched = claim
        .conditions
        .get(ConditionType::Launched.as_str())
        .map_or(claim.created, |found| found.since);
    launched
        .saturating_add(VISIBLE_WITHIN)
        .unwrap_or(Timestamp::MAX)
}

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
    let mut condemned: Vec<CollectStep> = Vec::new();
    for instance in memory.instances() {
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
            Some(CollectStep::Terminate { .. })
                if snapshot.is_paused(instance.tags.get(tags::NODE_POOL)) => {}
            Some(step @ CollectStep::Readopt { .. }) => collection.decision.push(step),
            Some(step) => condemned.push(step),
            None => {}
        }
    }
    let fleet = memory.instances().len();
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
    missing_tags(snapshot, memory, &mut collection.decision);
    collection
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
