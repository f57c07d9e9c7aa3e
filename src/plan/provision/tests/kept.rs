//! Pods that are alike keep their places from plan to plan.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{add_pods, claims_of, plan, pool, spec, world};
use crate::model::claim::Claim;
use crate::model::node::Node;
use crate::model::pod::{Pod, PodKey};
use crate::model::report::ProvisioningPlan;
use crate::model::snapshot::Snapshot;
use crate::plan::examples::node;

/// Twenty pods of two sizes, claims for all of them, and the plan that finds places for all on those.
fn bought() -> (Snapshot, ProvisioningPlan) {
    let types = ["c5.xlarge", "c5.2xlarge", "c5.4xlarge"];
    let mut snapshot = world(vec![pool("executors", &types)]);
    add_pods(&mut snapshot, "executor", 14, &spec(2000, 4096));
    add_pods(&mut snapshot, "odd", 6, &spec(1300, 3000));
    let first = plan(&snapshot);
    assert!(first.new_nodes.len() > 2);
    snapshot.claims = claims_of(&first);
    let second = plan(&snapshot);
    assert!(second.new_nodes.is_empty() && second.unschedulable.is_empty());
    (snapshot, second)
}

/// The same places with other names: each pod gives its place to the one before it of its size.
fn exchanged(places: &BTreeMap<String, Vec<PodKey>>) -> BTreeMap<String, Vec<PodKey>> {
    let size = |pod: &PodKey| pod.name.split('-').next().map(str::to_owned);
    let mut of_size: BTreeMap<_, Vec<PodKey>> = BTreeMap::new();
    for pod in places.values().flatten() {
        of_size.entry(size(pod)).or_default().push(pod.clone());
    }
    for pods in of_size.values_mut() {
        pods.rotate_left(1);
    }
    let mut next = |pod: &PodKey| of_size.get_mut(&size(pod)).unwrap().remove(0);
    let exchanged = places.iter().map(|(name, pods)| {
        let mut pods: Vec<PodKey> = pods.iter().map(&mut next).collect();
        pods.sort();
        (name.clone(), pods)
    });
    exchanged.collect()
}

/// The Node of a claim that is launched and has not registered.
fn node_of(snapshot: &mut Snapshot, claim: &str) -> String {
    let mut launched = Claim::clone(&snapshot.claims[claim]);
    launched.provider_id = format!("aws:///us-east-1a/i-{claim}");
    let name = format!("ip-{claim}");
    let class = &snapshot.node_classes["default"];
    let instance_type = &class.catalogue.types[&launched.offerings[0].instance_type];
    let found = Node {
        name: name.clone(),
        provider_id: launched.provider_id.clone(),
        labels: (*launched.labels).clone().into(),
        allocatable: instance_type.allocatable(),
        ..node(&name)
    };
    snapshot.nodes.insert(name.clone(), Arc::new(found));
    snapshot.claims.insert(claim.to_owned(), Arc::new(launched));
    name
}

#[test]
fn pods_stay_where_the_last_plan_put_them() {
    let (mut snapshot, second) = bought();
    let other = exchanged(&second.in_flight);
    assert_ne!(other, second.in_flight);
    snapshot.expected = other.clone();
    assert_eq!(plan(&snapshot).in_flight, other);
}

#[test]
fn what_was_planned_onto_a_claim_stays_with_its_node() {
    let (mut snapshot, second) = bought();
    let other = exchanged(&second.in_flight);
    snapshot.expected = other.clone();
    let claim = snapshot.claims.keys().next().unwrap().clone();
    let node = node_of(&mut snapshot, &claim);
    let third = plan(&snapshot);
    assert_eq!(third.existing[&node], other[&claim]);
}

#[test]
fn a_pod_that_was_nominated_stays_whatever_a_later_plan_said() {
    let (mut snapshot, second) = bought();
    let claim = snapshot.claims.keys().next().unwrap().clone();
    let node = node_of(&mut snapshot, &claim);
    let said = exchanged(&second.in_flight)[&claim].clone();
    for key in &said {
        let mut pod = Pod::clone(&snapshot.pods[key]);
        pod.nominated_node = Some(node.clone());
        snapshot.pods.insert(key.clone(), Arc::new(pod));
    }
    snapshot.expected = second.in_flight;
    assert_eq!(plan(&snapshot).existing[&node], said);
}

#[test]
fn whom_a_place_has_no_room_for_any_more_goes_elsewhere() {
    let (mut snapshot, second) = bought();
    // All of them are expected at one claim, which has room for some.
    let claim = snapshot.claims.keys().next().unwrap().clone();
    let all: Vec<PodKey> = snapshot.pods.keys().cloned().collect();
    snapshot.expected = BTreeMap::from([(claim, all)]);
    let third = plan(&snapshot);
    let counts =
        |plan: &ProvisioningPlan| -> Vec<usize> { plan.in_flight.values().map(Vec::len).collect() };
    assert_eq!(counts(&third), counts(&second));
    assert!(third.unschedulable.is_empty() && third.new_nodes.is_empty());
}
