//! Limits of NodePools, whatever a node turns out to be.

use std::sync::Arc;

use super::{add_pods, claims_of, plan, pool, spec, world};
use crate::model::node_pool::NodePool;
use crate::model::pod::{HostPort, PodConstraints, PodSpec};
use crate::model::resources::CPU;
use crate::model::snapshot::Snapshot;

/// A pod of three processors that shares its node with none of its kind.
fn alone() -> PodSpec {
    let port = HostPort {
        address: String::new(),
        port: 8080,
        protocol: "TCP".to_owned(),
    };
    let constraints = PodConstraints {
        host_ports: vec![port],
        ..PodConstraints::default()
    };
    PodSpec {
        constraints: Some(Arc::new(constraints)),
        ..spec(3000, 4096)
    }
}

/// A pool that may have so many processors.
fn limited(cpu: i64) -> NodePool {
    let mut pool = pool("executors", &["c5.xlarge", "c5.2xlarge"]);
    pool.limits.set(CPU, cpu);
    pool
}

fn two_alone(cpu: i64) -> Snapshot {
    let mut snapshot = world(vec![limited(cpu)]);
    add_pods(&mut snapshot, "alone", 2, &alone());
    snapshot
}

/// How many of the planned nodes may turn out larger than planned.
fn may_be_larger(snapshot: &Snapshot) -> usize {
    let plan = plan(snapshot);
    assert_eq!(super::types(&plan), ["c5.xlarge", "c5.xlarge"]);
    let larger = plan.new_nodes.iter().filter(|node| {
        let mut offered = node.offerings.iter();
        offered.any(|key| &*key.instance_type == "c5.2xlarge")
    });
    larger.count()
}

#[test]
fn alternatives_keep_to_the_limit_that_the_plan_keeps_to() {
    assert_eq!(may_be_larger(&two_alone(8_000)), 0);
    assert_eq!(may_be_larger(&two_alone(12_000)), 1);
    assert_eq!(may_be_larger(&two_alone(16_000)), 2);
}

#[test]
fn what_is_on_its_way_counts_as_the_largest_that_it_may_become() {
    let mut snapshot = two_alone(16_000);
    let first = plan(&snapshot);
    snapshot.claims = claims_of(&first);
    add_pods(&mut snapshot, "late", 1, &alone());
    let second = plan(&snapshot);
    assert!(second.new_nodes.is_empty(), "{second:#?}");
    assert_eq!(second.unschedulable.len(), 1);
}

#[test]
fn what_limits_leave_goes_to_the_important_pods_whichever_pool_others_like_better() {
    let one_node = |name: &str, weight| {
        let mut pool = pool(name, &["c5.xlarge"]);
        pool.weight = weight;
        pool.limits.set("nodes", 1);
        pool.labels.insert("team".to_owned(), name.to_owned());
        pool
    };
    let mut snapshot = world(vec![one_node("heavy", 10), one_node("light", 0)]);
    let mut high = spec(3000, 4096);
    high.priority = 1000;
    add_pods(&mut snapshot, "high", 2, &high);
    // The only pool for these is the first choice that they have, and the second one of the others.
    let mut low = spec(3000, 4096);
    low.node_selector
        .insert("team".to_owned(), "light".to_owned());
    add_pods(&mut snapshot, "low", 1, &low);
    let plan = plan(&snapshot);
    let left: Vec<String> = plan.unschedulable.keys().map(ToString::to_string).collect();
    assert_eq!(left, ["default/low-0"]);
    assert_eq!(plan.new_nodes.len(), 2);
}
