//! What must hold once nothing goes wrong any more: everything runs, nothing is idle, and what belongs together is
//! there together.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use tonnage::sim::Embedded;
use tonnage::sim::api_server::Resource;

use crate::checks::claims;
use crate::phases::text;

/// Pods that neither run nor have ended. Those of DaemonSets are for one Node each, which may be full: nothing is
/// bought for them.
pub(crate) fn waiting(world: &Embedded) -> Vec<String> {
    let mut waiting = Vec::new();
    world.api.each(Resource::Pod, |key, pod| {
        let is_there = text(pod, "/status/phase") == "Running" || has_ended(pod);
        if !is_there && !is_daemon(pod) {
            waiting.push(key.to_string());
        }
    });
    waiting
}

/// True for a pod that has ended, well or not.
pub(crate) fn has_ended(pod: &Value) -> bool {
    matches!(text(pod, "/status/phase"), "Succeeded" | "Failed")
}

/// True for a pod that a DaemonSet has put onto a Node.
pub(crate) fn is_daemon(pod: &Value) -> bool {
    let owners = pod["metadata"]["ownerReferences"].as_array();
    let mut owners = owners.into_iter().flatten();
    owners.any(|owner| owner["kind"] == "DaemonSet")
}

/// How long a Node may be idle while nothing waits, seconds: it is let go after ten, and its pods' deletion, what is
/// asked before a machine ends and faults of the calm market take some more.
const IDLE: u64 = 300;

/// Since when Nodes have been idle.
#[derive(Debug, Default)]
pub(crate) struct Idle {
    since: BTreeMap<String, u64>,
}

/// Nodes that are idle at a moment.
#[derive(Debug)]
pub(crate) struct IdleNow {
    pub(crate) now: usize,
    /// What is wrong if one has been so for too long.
    pub(crate) too_long: Option<String>,
}

impl Idle {
    /// Looks in a second; a Node counts only while nothing else is going on.
    pub(crate) fn look(&mut self, world: &Embedded, is_settled: bool, second: u64) -> IdleNow {
        let idle = idle(world);
        self.since
            .retain(|name, _since| is_settled && idle.contains(name));
        let mut too_long = None;
        for name in idle.iter().filter(|_name| is_settled) {
            let since = *self.since.entry(name.clone()).or_insert(second);
            if second - since > IDLE {
                too_long = Some(format!(
                    "Node {name} has been idle for {IDLE} quiet seconds"
                ));
            }
        }
        IdleNow {
            now: idle.len(),
            too_long,
        }
    }
}

/// Nodes that no pod is on but those of DaemonSets.
fn idle(world: &Embedded) -> Vec<String> {
    let mut used = BTreeSet::new();
    world.api.each(Resource::Pod, |_key, pod| {
        if !has_ended(pod) && !is_daemon(pod) {
            used.insert(text(pod, "/spec/nodeName").to_owned());
        }
    });
    let mut idle = Vec::new();
    world.api.each(Resource::Node, |key, _node| {
        if !used.contains(&key.name) {
            idle.push(key.name.clone());
        }
    });
    idle
}

/// What is left of machines, nodes and claims.
pub(crate) fn left(world: &Embedded) -> Vec<String> {
    let mut left: Vec<String> = world
        .ec2
        .alive()
        .iter()
        .map(|machine| format!("machine {}", machine.id()))
        .collect();
    for resource in [Resource::Node, Resource::NodeClaim] {
        world
            .api
            .each(resource, |key, _object| left.push(key.to_string()));
    }
    left
}

/// Claims, nodes and machines that do not belong together.
pub(crate) fn mismatches(world: &Embedded) -> Vec<String> {
    let now = world.now();
    let claims: BTreeSet<String> = claims(world)
        .into_iter()
        .map(|claim| claim.provider_id)
        .collect();
    let mut nodes = BTreeSet::new();
    world.api.each(Resource::Node, |_key, node| {
        nodes.insert(text(node, "/spec/providerID").to_owned());
    });
    let machines: BTreeSet<String> = world
        .ec2
        .alive()
        .iter()
        .filter_map(|machine| machine.shown(now))
        .map(|shown| shown.provider_id())
        .collect();
    let all: BTreeSet<&String> = claims.iter().chain(&nodes).chain(&machines).collect();
    all.into_iter()
        .filter(|id| !(claims.contains(*id) && nodes.contains(*id) && machines.contains(*id)))
        .map(|id| {
            format!(
                "`{id}`: claim {}, node {}, machine {}",
                claims.contains(id),
                nodes.contains(id),
                machines.contains(id)
            )
        })
        .collect()
}
