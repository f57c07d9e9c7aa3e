//! What a workload costs as a part of a plan.
//!
//! Given a plan of many workloads; given back, for the pods of one of them, their share of the price of
//! the nodes that they are on, and how many of them are on each. A pod's share of a node is by the
//! resource that it takes the largest part of; what is left free on a node is paid for by all of
//! its pods in the same proportion. Pods on nodes that are there already cost nothing more.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::model::money::UsdPerHour;
use crate::model::pod::{Pod, PodKey};
use crate::model::report::{PlannedNode, ProvisioningPlan};
use crate::model::resources::Resources;
use crate::model::snapshot::Snapshot;

/// Parts that a resource of a node is counted in.
const PARTS: i128 = 1_000_000;

/// The part of a plan that some pods are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Share {
    /// Their share of the price of new nodes, fees included.
    pub price: UsdPerHour,
    /// The instance types of the new nodes that they are on, with the most of them on one:
    /// `c5.2xlarge` to 3 means that three of them share a c5.2xlarge.
    pub fits: BTreeMap<String, usize>,
}

/// The share of some pods in a plan.
pub fn of(snapshot: &Snapshot, plan: &ProvisioningPlan, pods: &[Arc<Pod>]) -> Share {
    let own: BTreeSet<&PodKey> = pods.iter().map(|pod| &pod.key).collect();
    let mut share = Share::default();
    for node in &plan.new_nodes {
        let count = node.pods.iter().filter(|pod| own.contains(pod)).count();
        if count == 0 {
            continue;
        }
        share.price += part(snapshot, node, &own);
        if let Some(key) = node.offerings.first() {
            let most = share.fits.entry(key.instance_type.to_string()).or_insert(0);
            *most = count.max(*most);
        }
    }
    share
}

fn part(snapshot: &Snapshot, node: &PlannedNode, own: &BTreeSet<&PodKey>) -> UsdPerHour {
    let capacity = capacity(snapshot, node);
    let (mut mine, mut all) = (0_i128, 0_i128);
    for key in &node.pods {
        let weight = snapshot
            .pods
            .get(key)
            .map_or(1, |pod| weight(&pod.spec.requests, &capacity));
        all += weight;
        if own.contains(key) {
            mine += weight;
        }
    }
    let price = i128::from((node.price + node.fees).units());
    let part = price * mine / all.max(1);
    UsdPerHour::from_units(i64::try_from(part).unwrap_or(i64::MAX))
}

fn capacity(snapshot: &Snapshot, node: &PlannedNode) -> Resources {
    let instance = || {
        let pool = snapshot.node_pools.get(&node.node_pool)?;
        let class = snapshot.node_classes.get(&pool.node_class)?;
        class
            .catalogue
            .types
            .get(&node.offerings.first()?.instance_type)
    };
    instance().map_or_else(Resources::new, |instance| instance.allocatable())
}

/// The largest part that the requests take of any resource, at least one.
fn weight(requests: &Resources, capacity: &Resources) -> i128 {
    requests
        .iter()
        .map(|(name, amount)| i128::from(amount) * PARTS / i128::from(capacity.get(name).max(1)))
        .max()
        .unwrap_or(0)
        .max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::resources::{CPU, MEMORY};

    #[test]
    fn the_scarcest_resource_sets_the_share() {
        let capacity = Resources::new().with(CPU, 8_000).with(MEMORY, 16 << 30);
        let heavy = Resources::new().with(CPU, 1_000).with(MEMORY, 12 << 30);
        assert_eq!(weight(&heavy, &capacity), 750_000);
        assert_eq!(weight(&Resources::new(), &capacity), 1);
    }
}
