//! The planner on small worlds built in code; scenes in manifests live in tests/it.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;

mod choices;
mod coupled;
mod couplings;
mod joining;
mod kept;
mod limits;
mod many_classes;
mod min_values;
mod proofs;
mod random;
mod reserved;
mod wishes;

use super::{ProvisionSettings, promise, provision_proven};
use crate::model::claim::Claim;
use crate::model::money::UsdPerHour;
use crate::model::node_class::NodeClass;
use crate::model::node_pool::NodePool;
use crate::model::offering::{
    CapacityType, Catalogue, InstanceType, Offering, OfferingKey, Outlook,
};
use crate::model::pod::{Pod, PodKey, PodSpec};
use crate::model::report::{ProvisioningPlan, ReasonKind};
use crate::model::requirement::Requirement;
use crate::model::resources::{CPU, MEMORY, PODS, Resources};
use crate::model::snapshot::Snapshot;
use crate::model::taint::{Taint, TaintEffect, Toleration, TolerationOperator};
use crate::plan::check;

const MIB: i64 = 1 << 20;

fn instance(name: &str, cpu: i64, memory_mib: i64, pods: i64, gpus: i64) -> InstanceType {
    let mut capacity = Resources::new()
        .with(CPU, cpu)
        .with(MEMORY, memory_mib * MIB)
        .with(PODS, pods);
    capacity.set("nvidia.com/gpu", gpus);
    InstanceType {
        name: name.into(),
        labels: BTreeMap::from([("kubernetes.io/arch".to_owned(), "amd64".to_owned())]),
        capacity,
        overhead: Resources::new(),
        volume_limit: 27,
    }
}

/// Allocatable figures of a few types, with list prices in thousandths of a dollar per hour.
fn catalogue() -> Catalogue {
    let types = [
        (instance("c5.xlarge", 3920, 6584, 58, 0), 170),
        (instance("c5.2xlarge", 7910, 14162, 58, 0), 340),
        (instance("c5.4xlarge", 15890, 27381, 234, 0), 680),
        (instance("t3.medium", 1930, 3300, 17, 0), 42),
        (instance("g4dn.xlarge", 3920, 14000, 29, 1), 526),
        (instance("g4dn.2xlarge", 7910, 29000, 29, 1), 752),
    ];
    let mut catalogue = Catalogue::default();
    for (instance, price) in types {
        for zone in ["us-east-1a", "us-east-1b", "us-east-1c"] {
            catalogue.offerings.push(Offering {
                key: OfferingKey::new(&instance.name, zone, CapacityType::OnDemand),
                price: UsdPerHour::from_micros(price * 1000),
                fees: UsdPerHour::ZERO,
                available: true,
                outlook: Outlook::default(),
            });
        }
        catalogue
            .types
            .insert(Arc::clone(&instance.name), Arc::new(instance));
    }
    catalogue
}

fn pool(name: &str, types: &[&str]) -> NodePool {
    let mut pool = NodePool::named(name, "default");
    pool.requirements.add(
        "node.kubernetes.io/instance-type",
        &Requirement::one_of(types.iter().copied()),
    );
    pool
}

fn world(pools: Vec<NodePool>) -> Snapshot {
    let mut snapshot = Snapshot::empty(Timestamp::UNIX_EPOCH);
    let class = NodeClass {
        name: "default".to_owned(),
        uid: String::new(),
        generation: 1,
        ready: true,
        not_ready: String::new(),
        subnets: BTreeMap::new(),
        security_groups: Vec::new(),
        images: BTreeMap::new(),
        hash: String::new(),
        catalogue: Arc::new(catalogue()),
        reservations: Vec::new(),
        placement_group: None,
        lists_interfaces: false,
    };
    snapshot
        .node_classes
        .insert("default".to_owned(), Arc::new(class));
    for pool in pools {
        snapshot
            .node_pools
            .insert(pool.name.clone(), Arc::new(pool));
    }
    snapshot
}

fn spec(cpu: i64, memory_mib: i64) -> PodSpec {
    PodSpec {
        namespace: "default".to_owned(),
        requests: Resources::new()
            .with(CPU, cpu)
            .with(MEMORY, memory_mib * MIB)
            .with(PODS, 1),
        ..PodSpec::default()
    }
}

fn add_pods(snapshot: &mut Snapshot, prefix: &str, count: usize, spec: &PodSpec) {
    let spec = Arc::new(spec.clone());
    for index in 0..count {
        let key = PodKey::new("default", &format!("{prefix}-{index}"));
        let pod = Pod::waiting(key.clone(), Arc::clone(&spec));
        snapshot.pods.insert(key, Arc::new(pod));
    }
}

fn plan(snapshot: &Snapshot) -> ProvisioningPlan {
    // Enough for a search among a few pods, and quick without optimisation.
    let settings = ProvisionSettings {
        budget_units: 30_000,
        ..ProvisionSettings::default()
    };
    let (plan, wrong) = judged(snapshot, &settings);
    assert_eq!(wrong, Vec::<String>::new(), "{plan:#?}");
    plan
}

/// The plan, and everything that is wrong with it or with the proof of its lower bound.
fn judged(snapshot: &Snapshot, settings: &ProvisionSettings) -> (ProvisioningPlan, Vec<String>) {
    let (plan, proofs) = provision_proven(snapshot, settings, &|| false);
    let wrong = check::faults(snapshot, &plan, &proofs);
    (plan, wrong)
}

fn types(plan: &ProvisioningPlan) -> Vec<String> {
    plan.new_nodes
        .iter()
        .map(|node| node.offerings[0].instance_type.to_string())
        .collect()
}

/// The claims that a controller would make of a plan, not launched yet.
fn claims_of(plan: &ProvisioningPlan) -> BTreeMap<String, Arc<Claim>> {
    plan.new_nodes
        .iter()
        .enumerate()
        .map(|(index, node)| {
            let name = format!("claim-{index}");
            let claim = Claim {
                name: name.clone(),
                generation: 1,
                node_pool: Some(node.node_pool.clone()),
                node_class: "default".to_owned(),
                labels: Arc::new(node.labels.clone()),
                annotations: node.annotations.clone(),
                requests: node.requests.clone(),
                offerings: node.offerings.as_slice().into(),
                ..Claim::default()
            };
            (name, Arc::new(claim))
        })
        .collect()
}

#[test]
fn ten_executors_cost_what_the_cheapest_mix_costs() {
    let mut snapshot = world(vec![pool(
        "executors",
        &["c5.xlarge", "c5.2xlarge", "c5.4xlarge"],
    )]);
    add_pods(&mut snapshot, "executor", 10, &spec(2000, 4096));
    let plan = plan(&snapshot);
    assert_eq!(plan.price.to_string(), "1.190");
    assert!(plan.unschedulable.is_empty());
    assert_eq!(
        plan.new_nodes
            .iter()
            .map(|node| node.pods.len())
            .sum::<usize>(),
        10
    );
}

#[test]
fn pinned_executors_take_a_small_node_each() {
    let mut snapshot = world(vec![pool("executors", &["c5.xlarge", "c5.2xlarge"])]);
    let mut executor = spec(2000, 4096);
    executor.node_selector.insert(
        "node.kubernetes.io/instance-type".to_owned(),
        "c5.xlarge".to_owned(),
    );
    add_pods(&mut snapshot, "executor", 10, &executor);
    assert_eq!(plan(&snapshot).price.to_string(), "1.700");
}

#[test]
fn a_gpu_job_that_misses_its_type_is_told_by_how_much() {
    let mut gpu = pool("gpu", &["g4dn.xlarge", "g4dn.2xlarge"]);
    gpu.taints = vec![Taint::new(
        "nvidia.com/gpu",
        "true",
        TaintEffect::NoSchedule,
    )];
    let mut snapshot = world(vec![gpu, pool("general", &["c5.xlarge", "t3.medium"])]);
    let mut job = spec(4000, 8192);
    job.requests.set("nvidia.com/gpu", 1);
    job.node_selector.insert(
        "node.kubernetes.io/instance-type".to_owned(),
        "g4dn.xlarge".to_owned(),
    );
    job.tolerations.push(Toleration {
        key: "nvidia.com/gpu".to_owned(),
        operator: TolerationOperator::Exists,
        value: String::new(),
        effect: None,
        seconds: None,
    });
    add_pods(&mut snapshot, "train", 1, &job);
    let plan = plan(&snapshot);
    assert!(plan.new_nodes.is_empty());
    let reasons = &plan.unschedulable[&PodKey::new("default", "train-0")].reasons;
    let gpu = reasons
        .iter()
        .find(|reason| reason.node_pool == "gpu")
        .unwrap();
    assert_eq!(gpu.reason, ReasonKind::ResourcesDoNotFit);
    assert_eq!(
        gpu.nearest_miss.as_deref(),
        Some(
            "g4dn.xlarge: 3920m cpu allocatable, pod asks 4: lower the request by 80m, or let the pod use g4dn.2xlarge"
        )
    );
    let general = reasons
        .iter()
        .find(|reason| reason.node_pool == "general")
        .unwrap();
    assert_eq!(general.reason, ReasonKind::RequirementsIncompatible);
}

#[test]
fn limits_hold_within_one_plan_and_the_important_pods_go_first() {
    let mut limited = pool("executors", &["c5.xlarge"]);
    limited.limits.set("nodes", 2);
    let mut snapshot = world(vec![limited]);
    add_pods(&mut snapshot, "low", 3, &spec(2000, 4096));
    let mut high = spec(2000, 4096);
    high.priority = 1000;
    add_pods(&mut snapshot, "high", 2, &high);
    let plan = plan(&snapshot);
    assert_eq!(plan.new_nodes.len(), 2);
    let left: Vec<String> = plan.unschedulable.keys().map(ToString::to_string).collect();
    assert_eq!(left, ["default/low-0", "default/low-1", "default/low-2"]);
    let reason = &plan.unschedulable.values().next().unwrap().reasons[0];
    assert_eq!(reason.reason, ReasonKind::LimitReached);
    assert!(
        reason.detail.contains("limit of 2 nodes leaves 0"),
        "{}",
        reason.detail
    );
}

#[test]
fn where_nodes_are_limited_they_are_larger() {
    let limited = |nodes| {
        let mut pool = pool("executors", &["c5.xlarge", "c5.2xlarge", "c5.4xlarge"]);
        pool.limits.set("nodes", nodes);
        world(vec![pool])
    };
    let mut snapshot = limited(1);
    let mut high = spec(2000, 4096);
    high.priority = 1000;
    add_pods(&mut snapshot, "high", 1, &high);
    add_pods(&mut snapshot, "low", 4, &spec(2000, 4096));
    let all = plan(&snapshot);
    assert_eq!(types(&all), ["c5.4xlarge"]);
    assert!(all.unschedulable.is_empty(), "{:?}", all.unschedulable);

    // With three nodes no more is paid than it takes to hold all ten.
    let mut snapshot = limited(3);
    add_pods(&mut snapshot, "executor", 10, &spec(2000, 4096));
    let three = plan(&snapshot);
    assert_eq!(types(&three), ["c5.2xlarge", "c5.4xlarge", "c5.xlarge"]);

    // Where not even the largest hold all, they hold as many as they can.
    let mut snapshot = limited(2);
    add_pods(&mut snapshot, "executor", 20, &spec(2000, 4096));
    let most = plan(&snapshot);
    assert_eq!(types(&most), ["c5.4xlarge", "c5.4xlarge"]);
    assert_eq!(
        most.unschedulable.len(),
        20 - 2 * most.new_nodes[0].pods.len()
    );
}

#[test]
fn the_heavier_pool_is_tried_first_and_spills_over_at_its_limit() {
    let mut heavy = pool("heavy", &["c5.4xlarge"]);
    heavy.weight = 10;
    heavy.limits.set("nodes", 1);
    let mut snapshot = world(vec![heavy, pool("light", &["c5.xlarge"])]);
    add_pods(&mut snapshot, "executor", 8, &spec(2000, 4096));
    assert_eq!(
        types(&plan(&snapshot)),
        ["c5.4xlarge", "c5.xlarge", "c5.xlarge"]
    );
}

#[test]
fn a_plan_that_is_carried_out_leaves_nothing_to_plan() {
    let mut snapshot = world(vec![pool(
        "executors",
        &["c5.xlarge", "c5.2xlarge", "c5.4xlarge"],
    )]);
    add_pods(&mut snapshot, "executor", 10, &spec(2000, 4096));
    add_pods(&mut snapshot, "small", 7, &spec(500, 512));
    add_pods(&mut snapshot, "odd", 3, &spec(1300, 3000));
    let first = plan(&snapshot);
    assert!(
        first
            .new_nodes
            .iter()
            .all(|node| node.annotations.contains_key(promise::PROMISE))
    );
    snapshot.claims = claims_of(&first);
    let second = plan(&snapshot);
    assert!(second.new_nodes.is_empty(), "{second:#?}");
    assert!(second.unschedulable.is_empty());
    let placed: usize = second.in_flight.values().map(Vec::len).sum();
    assert_eq!(placed, 20);
}

#[test]
fn equal_snapshots_give_equal_plans() {
    let mut snapshot = world(vec![pool(
        "executors",
        &["c5.xlarge", "c5.2xlarge", "c5.4xlarge"],
    )]);
    add_pods(&mut snapshot, "executor", 33, &spec(1700, 2500));
    add_pods(&mut snapshot, "small", 17, &spec(300, 512));
    assert_eq!(plan(&snapshot), plan(&snapshot));
}

#[test]
fn without_a_pool_every_pod_says_so() {
    let mut snapshot = world(Vec::new());
    add_pods(&mut snapshot, "executor", 1, &spec(100, 100));
    let plan = plan(&snapshot);
    assert_eq!(
        plan.unschedulable.values().next().unwrap().reasons[0].reason,
        ReasonKind::NoNodePool
    );
}
