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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::node::Node;
    use crate::model::pod::{PodConstraints, PodPhase, PodSpec};
    use crate::model::report::ProvisioningPlan;
    use crate::plan::examples::{node, pod, world};

    fn in_zone(name: &str, zone: &str) -> Node {
        let mut node = node(name);
        node.labels.insert(ZONE.to_owned(), zone.to_owned());
        node
    }

    fn user(name: &str) -> Pod {
        let mut user = pod(name, "");
        user.node_name = None;
        user.phase = PodPhase::Pending;
        user.unschedulable = true;
        user.spec = Arc::new(PodSpec {
            constraints: Some(Arc::new(PodConstraints {
                volume_claims: vec!["data".to_owned()],
                ..PodConstraints::default()
            })),
            ..PodSpec::clone(&user.spec)
        });
        user
    }

    /// What is wrong when one user of the claim goes to the first node and one to the second.
    fn wrong(claim: VolumeClaim) -> Vec<String> {
        let nodes = [in_zone("one", "us-east-1a"), in_zone("two", "us-east-1b")];
        let pods = [user("first"), user("second")];
        let mut snapshot = world(0, &[], &nodes, &pods);
        snapshot
            .volume_claims
            .insert("default/data".to_owned(), Arc::new(claim));
        let places = nodes.iter().zip(&pods);
        let plan = ProvisioningPlan {
            existing: places
                .map(|(node, pod)| (node.name.clone(), vec![pod.key.clone()]))
                .collect(),
            ..ProvisioningPlan::default()
        };
        let mut wrong = Vec::new();
        let fleet = Fleet::after(&snapshot, &plan, &mut wrong);
        check(&snapshot, &fleet, &mut wrong);
        wrong
    }

    #[test]
    fn pods_of_a_claim_are_in_one_zone_until_it_is_bound_and_alone_where_they_must_be() {
        let claim = VolumeClaim {
            namespace: "default".to_owned(),
            name: "data".to_owned(),
            volume_name: None,
            storage_class: None,
            driver: "ebs.csi.aws.com".to_owned(),
            one_pod: false,
            node_terms: Vec::new(),
            problem: None,
        };
        let apart = wrong(claim.clone());
        assert!(apart[0].contains("has no volume yet"), "{apart:?}");
        let everywhere = VolumeClaim {
            driver: "efs.csi.aws.com".to_owned(),
            ..claim.clone()
        };
        assert_eq!(wrong(everywhere.clone()), [""; 0]);
        let exclusive = VolumeClaim {
            one_pod: true,
            ..everywhere
        };
        let both = wrong(exclusive);
        assert!(both[0].contains("for one pod at a time"), "{both:?}");
        let bound = VolumeClaim {
            volume_name: Some("volume".to_owned()),
            ..claim
        };
        assert_eq!(wrong(bound), [""; 0]);
    }
}
