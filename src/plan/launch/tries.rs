//! Types whose last machines did not join, tried with one machine at a time.
//!
//! Given what is known of machines that do not join; given back the offerings and claims of a launch, and the nodes
//! of a plan, that make one try for each such type and class. Nothing is bought or written here.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::no_shows::WHAT_TO_LOOK_AT;
use super::{LaunchMemory, offering_of, wanted_by};
use crate::api::conditions::ConditionType;
use crate::model::claim::Claim;
use crate::model::node_class::NodeClass;
use crate::model::offering::{NO_SHOWS_IN_A_ROW, OfferingKey};
use crate::model::report::{PlannedNode, PoolReason, ProvisioningPlan, ReasonKind, Unschedulable};
use crate::model::snapshot::Snapshot;

/// True for a claim that may show whether a machine of the type joins the cluster.
pub(super) fn tries(claim: &Claim, class: &NodeClass, instance_type: &Arc<str>) -> bool {
    let is_of = |offering: &OfferingKey| offering.instance_type == *instance_type;
    if claim.node_class != class.name
        || claim.deleting_since.is_some()
        || claim.is(ConditionType::Registered.as_str())
    {
        return false;
    }
    if claim.provider_id.is_empty() {
        return claim.offerings.iter().any(is_of);
    }
    offering_of(claim).is_some_and(|bought| is_of(&bought))
}

/// Which of the offerings claims that want the same may be bought as now, and how many of the claims, the first ones:
/// what is left alone is left out, and of types on trial there is one machine at a time.
pub(super) fn narrowed(
    (snapshot, memory): (&Snapshot, &LaunchMemory),
    class: &NodeClass,
    claims: &[&Arc<Claim>],
    affordable: Vec<&OfferingKey>,
) -> (Vec<OfferingKey>, usize) {
    let now = snapshot.now;
    let Some(first) = claims.first() else {
        return (Vec::new(), 0);
    };
    let is_open = |offering: &&OfferingKey| {
        let wanted = wanted_by(first, offering);
        memory.closed_until(class, wanted, now).is_none()
    };
    let open = affordable.into_iter().filter(is_open);
    let mut offerings: Vec<OfferingKey> = open.cloned().collect();
    let on_trial: BTreeSet<Arc<str>> = offerings
        .iter()
        .map(|offering| &offering.instance_type)
        .filter(|name| memory.no_shows.is_on_trial(class, name, now))
        .cloned()
        .collect();
    if on_trial.is_empty() {
        return (offerings, claims.len());
    }
    let is_before = |other: &Claim, name: &Arc<str>| {
        let is_asked_for = |offering: OfferingKey| offering.instance_type == *name;
        let mut record = other.launch.iter();
        let is_bought = !other.provider_id.is_empty()
            || record
                .any(|record| !memory.is_settled(other) && record.offerings().any(is_asked_for));
        is_bought || (other.created, &other.uid) < (first.created, &first.uid)
    };
    let taken = |name: &Arc<str>| {
        let mut others = snapshot.claims.values();
        others.any(|other| {
            other.uid != first.uid && tries(other, class, name) && is_before(other, name)
        })
    };
    let open: BTreeSet<&Arc<str>> = on_trial.iter().filter(|name| !taken(name)).collect();
    offerings.retain(|offering| {
        let name = &offering.instance_type;
        !on_trial.contains(name) || open.contains(name)
    });
    let count = if open.is_empty() { claims.len() } else { 1 };
    (offerings, count)
}

/// Leaves one machine in a plan for each type on trial: the others of it, which can be nothing else, are not
/// bought, and their pods are told why.
pub fn one_try_each(snapshot: &Snapshot, plan: &mut ProvisioningPlan) {
    let mut tried: BTreeSet<(String, Arc<str>)> = BTreeSet::new();
    let mut left = Vec::new();
    plan.new_nodes.retain(|node| {
        let pool = snapshot.node_pools.get(&node.node_pool);
        let class = pool.and_then(|pool| snapshot.node_classes.get(&pool.node_class));
        let Some(class) = class else {
            return true;
        };
        let is_doubted = |key: &OfferingKey| {
            let offering = class.offering(key);
            offering.is_some_and(|found| found.outlook.no_shows >= NO_SHOWS_IN_A_ROW)
        };
        if !node.offerings.iter().all(is_doubted) {
            return true;
        }
        let types = node.offerings.iter().map(|key| &key.instance_type);
        let named = types.map(|name| (class.name.clone(), Arc::clone(name)));
        let named: BTreeSet<(String, Arc<str>)> = named.collect();
        let is_kept = named.is_disjoint(&tried);
        if is_kept {
            tried.extend(named);
        } else {
            left.push((node.clone(), class.name.clone()));
        }
        is_kept
    });
    for (node, class) in left {
        plan.price = plan.price - (node.price + node.fees);
        let why = one_at_a_time(&node, &class);
        let told = node.pods.into_iter().map(|pod| (pod, why.clone()));
        plan.unschedulable.extend(told);
    }
    plan.lower_bound = plan.lower_bound.min(plan.price);
}

/// Why the pods of a node that is not bought wait.
fn one_at_a_time(node: &PlannedNode, class: &str) -> Unschedulable {
    let reason = PoolReason {
        node_pool: node.node_pool.clone(),
        reason: ReasonKind::OfferingsUnavailable,
        detail: format!(
            "the last machines of EC2NodeClass {class} that could hold the pod did not join the cluster, so one is \
             tried at a time; look at {WHAT_TO_LOOK_AT}"
        ),
        nearest_miss: None,
    };
    Unschedulable {
        reasons: vec![reason],
    }
}
