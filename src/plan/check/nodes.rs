//! Each node by itself: room, labels, taints, ports and volumes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::fleet::{Fleet, FutureNode};
use crate::model::pod::{HostPort, Pod};
use crate::model::resources::Resources;
use crate::model::snapshot::Snapshot;
use crate::model::taint::first_untolerated;

/// Checks every node that the plan puts pods on.
pub fn check(snapshot: &Snapshot, fleet: &Fleet, wrong: &mut Vec<String>) {
    for node in fleet.nodes.iter().filter(|node| !node.planned.is_empty()) {
        room(node, wrong);
        ports(node, wrong);
        volumes(snapshot, node, wrong);
        for pod in &node.planned {
            if let Some(taint) = first_untolerated(&node.taints, &pod.spec.tolerations) {
                wrong.push(format!(
                    "{}: {} does not tolerate {taint}",
                    node.name, pod.key
                ));
            }
            for labels in std::iter::once(&node.labels).chain(&node.alternatives) {
                placement(snapshot, node, pod, labels, wrong);
            }
        }
    }
}

fn placement(
    snapshot: &Snapshot,
    node: &FutureNode,
    pod: &Pod,
    labels: &BTreeMap<String, String>,
    wrong: &mut Vec<String>,
) {
    if !pod.spec.selects(&node.name, labels) {
        wrong.push(format!(
            "{}: {} does not accept the labels {labels:?}",
            node.name, pod.key
        ));
    }
    let claims = pod.spec.constraints.iter().flat_map(|c| &c.volume_claims);
    for name in claims {
        let key = format!("{}/{name}", pod.key.namespace);
        let Some(claim) = snapshot.volume_claims.get(&key) else {
            wrong.push(format!(
                "{}: {} mounts {key}, which does not exist",
                node.name, pod.key
            ));
            continue;
        };
        let there = claim.node_terms.is_empty()
            || claim
                .node_terms
                .iter()
                .any(|term| term.matches(&node.name, labels));
        if claim.problem.is_some() || !there {
            wrong.push(format!(
                "{}: the volume of {key} cannot be there",
                node.name
            ));
        }
    }
}

/// Requests of everything on the node, DaemonSet pods to come included, within allocatable.
fn room(node: &FutureNode, wrong: &mut Vec<String>) {
    let mut sum = Resources::new();
    let all = node.present.iter().chain(&node.planned).chain(&node.coming);
    for pod in all {
        sum.add(&pod.spec.requests);
    }
    let mut asked: BTreeSet<&str> = BTreeSet::new();
    for pod in &node.planned {
        asked.extend(pod.spec.requests.iter().map(|(name, _)| name));
    }
    for name in asked {
        if sum.get(name) > node.allocatable.get(name) {
            wrong.push(format!(
                "{}: pods ask for {} {name}, {} are allocatable",
                node.name,
                sum.get(name),
                node.allocatable.get(name)
            ));
        }
    }
}

fn ports(node: &FutureNode, wrong: &mut Vec<String>) {
    let mut taken: Vec<(&HostPort, &Arc<Pod>)> = Vec::new();
    let planned: BTreeSet<_> = node.planned.iter().map(|pod| &pod.key).collect();
    let all = node.present.iter().chain(&node.coming).chain(&node.planned);
    for pod in all {
        for port in pod.spec.constraints.iter().flat_map(|c| &c.host_ports) {
            let clash = taken.iter().find(|(other, owner)| {
                owner.key != pod.key
                    && other.port == port.port
                    && other.protocol == port.protocol
                    && (other.address.is_empty()
                        || port.address.is_empty()
                        || other.address == port.address)
            });
            if let Some((_, owner)) = clash
                && (planned.contains(&pod.key) || planned.contains(&owner.key))
            {
                wrong.push(format!(
                    "{}: {} and {} both want host port {}",
                    node.name, pod.key, owner.key, port.port
                ));
            }
            taken.push((port, pod));
        }
    }
}

fn volumes(snapshot: &Snapshot, node: &FutureNode, wrong: &mut Vec<String>) {
    let mut attached: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for pod in &node.planned {
        for name in pod.spec.constraints.iter().flat_map(|c| &c.volume_claims) {
            let key = format!("{}/{name}", pod.key.namespace);
            if let Some(claim) = snapshot.volume_claims.get(&key) {
                attached.entry(&claim.driver).or_default().insert(key);
            }
        }
    }
    for (driver, volumes) in attached {
        let count = i64::try_from(volumes.len()).unwrap_or(i64::MAX);
        if node.volumes.get(driver).is_some_and(|room| count > *room) {
            wrong.push(format!(
                "{}: {count} volumes of {driver} are too many",
                node.name
            ));
        }
    }
}
