//! Volume claims that several pods mount.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::fleet::{Fleet, FutureNode};
use crate::model::pod::Pod;
use crate::model::snapshot::Snapshot;
use crate::model::workload::VolumeClaim;

const ZONE: &str = "topology.kubernetes.io/zone";

/// Checks every claim that a planned pod mounts: one pod where only one may use it, and one zone where
/// the volume is still to be made in one.
pub fn check(snapshot: &Snapshot, fleet: &Fleet, wrong: &mut Vec<String>) {
    let mut users: BTreeMap<String, Vec<(&FutureNode, &Arc<Pod>)>> = BTreeMap::new();
    for node in &fleet.nodes {
        for pod in node.present.iter().chain(&node.planned) {
            for name in pod.spec.constraints.iter().flat_map(|c| &c.volume_claims) {
                let key = format!("{}/{name}", pod.key.namespace);
                users.entry(key).or_default().push((node, pod));
            }
        }
    }
    for (key, users) in users {
        let is_planned = |(node, pod): &(&FutureNode, &Arc<Pod>)| {
            node.planned.iter().any(|planned| planned.key == pod.key)
        };
        let Some(claim) = snapshot.volume_claims.get(&key) else {
            continue;
        };
        if users.len() < 2 || !users.iter().any(is_planned) {
            continue;
        }
        if claim.one_pod {
            wrong.push(format!(
                "{key} is for one pod at a time, and {} would use it",
                users.len()
            ));
        }
        let mut zones: Vec<_> = users
            .iter()
            .flat_map(|(node, _pod)| std::iter::once(&node.labels).chain(&node.alternatives))
            .map(|labels| labels.get(ZONE))
            .collect();
        zones.sort();
        zones.dedup();
        if is_made_in_a_zone(claim) && zones.len() > 1 {
            wrong.push(format!(
                "{key} has no volume yet, and its pods would be in {zones:?}"
            ));
        }
    }
}

fn is_made_in_a_zone(claim: &VolumeClaim) -> bool {
    let speaks_of_zones = claim
        .node_terms
        .iter()
        .any(|term| term.expressions.iter().any(|part| part.key == ZONE));
    claim.volume_name.is_none() && (claim.driver == "ebs.csi.aws.com" || speaks_of_zones)
}
