//! Limits of NodePools, and slots of capacity reservations, over what exists and what is planned.

use std::collections::BTreeMap;

use crate::model::report::ProvisioningPlan;
use crate::model::snapshot::Snapshot;

const RESERVATION: &str = "karpenter.k8s.aws/capacity-reservation-id";

/// Checks that the plan has no more machines in a reservation than there is room for beside those of claims.
pub fn reservations(snapshot: &Snapshot, plan: &ProvisioningPlan, wrong: &mut Vec<String>) {
    let mut planned: BTreeMap<&str, usize> = BTreeMap::new();
    for node in &plan.new_nodes {
        if let Some(id) = node.labels.get(RESERVATION) {
            *planned.entry(id).or_default() += 1;
        }
    }
    for (id, planned) in planned {
        let named = |claim: &&std::sync::Arc<crate::model::claim::Claim>| {
            claim.labels.get(RESERVATION).is_some_and(|own| own == id)
        };
        let own = snapshot.claims.values().filter(named);
        let coming = own.clone().filter(|claim| claim.provider_id.is_empty());
        let (own, coming) = (own.count(), coming.count());
        let classes = snapshot.node_classes.values();
        let found = classes
            .flat_map(|class| &class.reservations)
            .filter(|found| found.id == id);
        for reservation in found {
            let (total, free) = (reservation.total as usize, reservation.free as usize);
            if planned + own > total || planned + coming > free {
                wrong.push(format!(
                    "reservation {id}: {planned} planned beside {own} claims, {coming} of them on their way, are \
                     too many for {total} machines, {free} of them free"
                ));
            }
        }
    }
}

/// Checks that the plan keeps every limit, whichever of its offerings a node turns out to be; what exceeded a
/// limit before is not the plan's fault.
pub fn check(snapshot: &Snapshot, plan: &ProvisioningPlan, wrong: &mut Vec<String>) {
    for pool in snapshot.node_pools.values() {
        let mut limits: BTreeMap<&str, i64> = pool.limits.iter().collect();
        limits.extend(pool.zero_limits.iter().map(|name| (name.as_str(), 0)));
        let Some(class) = snapshot.node_classes.get(&pool.node_class) else {
            continue;
        };
        let amount = |instance: &str, name: &str| {
            if name == "nodes" {
                1
            } else {
                class
                    .catalogue
                    .types
                    .get(instance)
                    .map_or(0, |found| found.capacity.get(name))
            }
        };
        for (name, limit) in limits {
            let mut planned = 0;
            for node in plan.new_nodes.iter().filter(|n| n.node_pool == pool.name) {
                let offered = node.offerings.iter();
                let most = offered.map(|key| amount(&key.instance_type, name)).max();
                planned += most.unwrap_or(0);
            }
            let mut used = 0;
            let own = |claim: &&std::sync::Arc<crate::model::claim::Claim>| {
                claim.node_pool.as_deref() == Some(pool.name.as_str())
            };
            for claim in snapshot.claims.values().filter(own) {
                let node = snapshot.nodes.get(&claim.node_name);
                used += match node {
                    _ if name == "nodes" => 1,
                    Some(node) if !node.capacity.is_empty() => node.capacity.get(name),
                    _ if !claim.capacity.is_empty() => claim.capacity.get(name),
                    _ => claim
                        .offerings
                        .iter()
                        .map(|key| amount(&key.instance_type, name))
                        .max()
                        .unwrap_or(0),
                };
            }
            if planned > 0 && used + planned > limit {
                wrong.push(format!(
                    "NodePool {}: {used} {name} in use and {planned} planned exceed the limit {limit}",
                    pool.name
                ));
            }
        }
    }
}
