//! What exists at EC2 without a claim, and claims without anything at EC2.
//!
//! Given complete lists of instances as they come in, [`CollectMemory::listed`] remembers what was
//! missing in each, and [`decide`] gives back what may be done about it. Nothing counts that was not
//! missing in two complete lists at least a minute apart. An instance whose Node has pods gets its
//! claim back instead of its end. When too much looks orphaned at once, nothing is collected until a
//! person acknowledges it: a restored API server must not cost anybody a fleet.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use sha2::{Digest, Sha256};

use super::decision::Decision;
use super::instances::VISIBLE_WITHIN;
use crate::api::conditions::ConditionType;
use crate::api::labels;
use crate::model::claim::Claim;
use crate::model::instance::{Instance, InstanceState, instance_id_of, tags};
use crate::model::node::Node;
use crate::model::snapshot::Snapshot;

/// How far apart the two lists are at least that must agree before anything is done.
pub const APART: SignedDuration = SignedDuration::from_mins(1);
/// So many orphans at once are never too many.
const FEW: usize = 3;
/// Beyond [`FEW`], orphans are too many when they are more than one in so many of the fleet.
const ONE_IN: usize = 10;

/// What complete lists have shown so far. Lost with the process, which delays collection by a
/// minute.
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
        self.last = Some((at, instances));
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

/// Keeps what is still missing with its first time, adds what is newly missing, drops the rest.
fn keep(known: &mut BTreeMap<String, Timestamp>, missing: BTreeSet<String>, at: Timestamp) {
    known.retain(|name, _since| missing.contains(name));
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
    /// Names this very set of orphans.
    pub token: String,
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
            step @ CollectStep::Readopt { .. } => collection.decision.push(step),
            step => condemned.push(step),
        }
    }
    let fleet = memory.instances().len();
    if condemned.len() > FEW.max(fleet / ONE_IN) {
        let ids: Vec<&str> = condemned
            .iter()
            .filter_map(|step| match step {
                CollectStep::Terminate { instance, .. } => Some(instance.id.as_str()),
                _ => None,
            })
            .collect();
        let halt = halt(&ids, fleet);
        let acknowledged = snapshot
            .node_pools
            .values()
            .any(|pool| pool.acknowledged_orphans.as_deref() == Some(&halt.token));
        if !acknowledged {
            condemned.clear();
            collection.halt = Some(halt);
        }
    }
    collection.decision.steps.append(&mut condemned);
    vanished(snapshot, memory, &mut collection.decision);
    missing_tags(snapshot, memory, &mut collection.decision);
    collection
}

fn orphan(snapshot: &Snapshot, instance: &Arc<Instance>) -> CollectStep {
    let node = snapshot
        .node_by_provider_id(&instance.provider_id())
        .cloned();
    let works = node.as_ref().is_some_and(|node| {
        node.deleting_since.is_none()
            && snapshot
                .pods_on(&node.name)
                .any(|pod| !pod.is_daemon() && !pod.mirror)
    });
    match node {
        Some(node) if works => CollectStep::Readopt {
            instance: Arc::clone(instance),
            node,
        },
        node => CollectStep::Terminate {
            instance: Arc::clone(instance),
            node,
        },
    }
}

fn halt(ids: &[&str], fleet: usize) -> Halt {
    let mut sorted = ids.to_vec();
    sorted.sort_unstable();
    let digest = Sha256::digest(sorted.join("\n").as_bytes());
    let token = digest.iter().take(6).fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        write!(text, "{byte:02x}").ok();
        text
    });
    let shown = sorted
        .iter()
        .take(5)
        .copied()
        .collect::<Vec<_>>()
        .join(", ");
    let message = format!(
        "{} of {fleet} instances of this cluster have no NodeClaim ({shown}{}); nothing is collected, \
         because a restored or wrong API server looks like this. Compare with EC2, then allow it: \
         kubectl annotate nodepool NAME --overwrite tonnage.dev/acknowledge-orphans={token}",
        sorted.len(),
        if sorted.len() > 5 { ", ..." } else { "" },
    );
    Halt { token, message }
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
    for instance in memory.instances() {
        let Some(claim) = claims.get(instance.id.as_str()) else {
            continue;
        };
        let wanted = [(tags::CLAIM, &claim.name), (tags::NAME, &claim.node_name)];
        let missing: BTreeMap<String, String> = wanted
            .into_iter()
            .filter(|(key, _value)| !instance.tags.contains_key(*key))
            .map(|(key, value)| (key.to_owned(), value.clone()))
            .collect();
        if !missing.is_empty() && !instance.state.is_ending() {
            decision.push(CollectStep::Tag {
                instance: instance.id.clone(),
                tags: missing,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::launch::LaunchRecord;
    use crate::model::node_pool::NodePool;
    use crate::model::offering::CapacityType;
    use crate::plan::examples::{at, claim, initialized, instance, launched, node, pod, world};

    fn tagged(name: &str) -> Arc<Instance> {
        let mut found = instance(name);
        found.tags.insert(tags::CLAIM.to_owned(), name.to_owned());
        found
            .tags
            .insert(tags::NAME.to_owned(), format!("ip-{name}"));
        Arc::new(found)
    }

    /// Two complete lists with the same content, the second at `second`.
    fn twice(
        first: i64,
        second: i64,
        instances: &[Arc<Instance>],
        snapshot: &Snapshot,
    ) -> CollectMemory {
        let mut memory = CollectMemory::default();
        memory.listed(at(first), instances.to_vec(), snapshot);
        memory.listed(at(second), instances.to_vec(), snapshot);
        memory
    }

    fn steps(collection: &Collection) -> Vec<String> {
        collection
            .decision
            .steps
            .iter()
            .map(|step| match step {
                CollectStep::Readopt { instance, node } => {
                    format!("readopt {} {}", instance.id, node.name)
                }
                CollectStep::Terminate { instance, .. } => format!("terminate {}", instance.id),
                CollectStep::DeleteClaim { claim, .. } => format!("delete {}", claim.name),
                CollectStep::DeleteNode { node } => format!("delete {}", node.name),
                CollectStep::Tag { instance, .. } => format!("tag {instance}"),
            })
            .collect()
    }

    #[test]
    fn an_orphan_goes_after_two_lists_a_minute_apart() {
        let snapshot = world(1_000, &[launched("b")], &[], &[]);
        let list = [tagged("a"), tagged("b")];
        let early = twice(900, 959, &list, &snapshot);
        assert_eq!(steps(&decide(&snapshot, &early)), Vec::<String>::new());
        let late = twice(900, 960, &list, &snapshot);
        assert_eq!(steps(&decide(&snapshot, &late)), ["terminate i-a"]);
        // It had a claim in between: the count begins again.
        let mut memory = CollectMemory::default();
        memory.listed(at(800), list.to_vec(), &snapshot);
        let both = world(850, &[launched("a"), launched("b")], &[], &[]);
        memory.listed(at(850), list.to_vec(), &both);
        memory.listed(at(900), list.to_vec(), &snapshot);
        assert_eq!(steps(&decide(&snapshot, &memory)), Vec::<String>::new());
    }

    #[test]
    fn an_instance_of_a_batch_that_still_waits_is_no_orphan() {
        let mut waiting = claim("a", &["c5.xlarge/us-east-1a/spot"]);
        waiting.launch = Some(LaunchRecord {
            batch: "batch-1".to_owned(),
            attempt: 1,
            size: 1,
            capacity_type: CapacityType::Spot,
            templates: Vec::new(),
        });
        let snapshot = world(1_000, &[waiting], &[], &[]);
        let mut found = instance("x");
        found
            .tags
            .insert(tags::BATCH.to_owned(), "batch-1".to_owned());
        let memory = twice(800, 1_000, &[Arc::new(found)], &snapshot);
        assert_eq!(steps(&decide(&snapshot, &memory)), Vec::<String>::new());
    }

    #[test]
    fn an_orphan_whose_node_has_pods_is_adopted_again() {
        let snapshot = world(1_000, &[], &[node("a")], &[pod("job", "ip-a")]);
        let memory = twice(900, 1_000, &[tagged("a")], &snapshot);
        assert_eq!(steps(&decide(&snapshot, &memory)), ["readopt i-a ip-a"]);
        let idle = world(1_000, &[], &[node("a")], &[]);
        assert_eq!(steps(&decide(&idle, &memory)), ["terminate i-a"]);
    }

    #[test]
    fn a_restored_api_server_does_not_cost_a_fleet() {
        let mut snapshot = world(1_000, &[], &[], &[]);
        let names = ["a", "b", "c", "d"];
        let fleet: Vec<Arc<Instance>> = names.into_iter().map(tagged).collect();
        let memory = twice(900, 1_000, &fleet, &snapshot);
        let collection = decide(&snapshot, &memory);
        assert_eq!(steps(&collection), Vec::<String>::new());
        let halt = collection.halt.unwrap();
        assert!(
            halt.message.contains("4 of 4") && halt.message.contains(&halt.token),
            "{}",
            halt.message
        );
        let acknowledge = |snapshot: &mut Snapshot, token: &str| {
            let pool: &mut NodePool =
                Arc::make_mut(snapshot.node_pools.get_mut("general").unwrap());
            pool.acknowledged_orphans = Some(token.to_owned());
        };
        acknowledge(&mut snapshot, "yes");
        assert!(
            decide(&snapshot, &memory).halt.is_some(),
            "only this very set is acknowledged"
        );
        acknowledge(&mut snapshot, &halt.token);
        assert_eq!(steps(&decide(&snapshot, &memory)).len(), 4);
        // Three are never too many.
        let memory = twice(900, 1_000, &fleet[..3], &snapshot);
        assert_eq!(steps(&decide(&snapshot, &memory)).len(), 3);
    }

    #[test]
    fn a_claim_whose_instance_vanished_is_deleted_unless_its_node_is_alive() {
        let mut silent = node("a");
        silent.ready = false;
        let claims = [initialized("a"), initialized("b"), launched("c")];
        let snapshot = world(1_000, &claims, &[silent, node("b")], &[]);
        let memory = twice(900, 1_000, &[], &snapshot);
        assert_eq!(steps(&decide(&snapshot, &memory)), ["delete a", "delete c"]);
        let young = world(100, &[launched("c")], &[], &[]);
        let memory = twice(30, 100, &[], &young);
        assert_eq!(steps(&decide(&young, &memory)), Vec::<String>::new());
    }

    #[test]
    fn a_silent_node_without_claim_and_instance_is_deleted() {
        let mut silent = node("a");
        silent.ready = false;
        let mut foreign = silent.clone();
        foreign.name = "ip-f".to_owned();
        foreign.labels.remove(labels::NODE_CLASS);
        let snapshot = world(1_000, &[], &[silent, foreign, node("b")], &[]);
        let memory = twice(900, 1_000, &[], &snapshot);
        assert_eq!(steps(&decide(&snapshot, &memory)), ["delete ip-a"]);
    }

    #[test]
    fn tags_that_are_missing_are_put_on() {
        let snapshot = world(1_000, &[initialized("a"), initialized("b")], &[], &[]);
        let mut memory = CollectMemory::default();
        memory.listed(
            at(1_000),
            vec![Arc::new(instance("a")), tagged("b")],
            &snapshot,
        );
        assert_eq!(steps(&decide(&snapshot, &memory)), ["tag i-a"]);
    }
}
