//! Nodes that have joined and are not in use yet: what they were bought for stays with them.

use std::sync::Arc;

use super::{add_pods, claims_of, plan, pool, spec, world};
use crate::api::labels;
use crate::model::claim::Claim;
use crate::model::labels::LabelSet;
use crate::model::node::Node;
use crate::model::node_class::NodeClass;
use crate::model::pod::{Pod, PodConstraints, PodKey, PodPhase, PodSpec};
use crate::model::snapshot::Snapshot;
use crate::model::taint::{Taint, TaintEffect};
use crate::model::workload::VolumeClaim;
use crate::plan::examples::booted;
use crate::plan::launch::{BatchInstance, launched_status};
use crate::plan::provision::class::EBS_DRIVER;

/// A pool of one type, whose Nodes have the label of its family once they are registered.
fn families() -> Snapshot {
    let mut snapshot = world(vec![pool("executors", &["c5.xlarge"])]);
    let mut class = NodeClass::clone(&snapshot.node_classes["default"]);
    for (name, known) in &mut Arc::make_mut(&mut class.catalogue).types {
        let family = name.split('.').next().unwrap().to_owned();
        let own = &mut Arc::make_mut(known).labels;
        own.insert(labels::INSTANCE_FAMILY.to_owned(), family);
    }
    snapshot
        .node_classes
        .insert("default".to_owned(), Arc::new(class));
    snapshot
}

/// One machine is bought for `count` pods and has joined: its Node has the labels that a kubelet may give
/// itself, the taint of a Node that is not registered, and these.
fn joined(count: usize, spec: &PodSpec, taints: &[Taint]) -> Snapshot {
    let mut snapshot = families();
    add_pods(&mut snapshot, "pod", count, spec);
    let first = plan(&snapshot);
    assert_eq!(first.new_nodes.len(), 1, "{first:#?}");
    let mut claim = Claim::clone(&claims_of(&first)["claim-0"]);
    let machine = BatchInstance {
        id: "i-a".to_owned(),
        offering: claim.offerings[0].clone(),
        image_id: String::new(),
        claim: None,
        ending: false,
    };
    let class = Arc::clone(&snapshot.node_classes["default"]);
    let status = launched_status(&machine, Some(&class), &claim.requests);
    claim.provider_id = status.provider_id;
    claim.allocatable = status.allocatable;
    Arc::make_mut(&mut claim.labels).extend(status.labels);
    let mut node = Node {
        provider_id: claim.provider_id.clone(),
        labels: LabelSet::from_iter([(labels::OS.to_owned(), "linux".to_owned())]),
        allocatable: claim.allocatable.clone(),
        ..booted("a")
    };
    node.taints.extend_from_slice(taints);
    snapshot.nodes.insert(node.name.clone(), Arc::new(node));
    let name = claim.name.clone();
    snapshot.claims.insert(name, Arc::new(claim));
    snapshot
}

/// All pods have a place on the Node, and nothing more is bought.
fn stays(snapshot: &Snapshot) {
    let next = plan(snapshot);
    assert!(next.new_nodes.is_empty(), "{next:#?}");
    assert_eq!(next.existing["ip-a"].len(), snapshot.pods.len());
}

#[test]
fn pods_that_select_what_a_kubelet_may_not_say_wait_for_the_machine_that_joins() {
    let mut executor = spec(1500, 2048);
    for (label, value) in [
        (labels::INSTANCE_FAMILY, "c5"),
        (labels::INSTANCE_TYPE, "c5.xlarge"),
        (labels::ZONE, "us-east-1a"),
        (labels::ARCH, "amd64"),
    ] {
        let selector = &mut executor.node_selector;
        selector.insert(label.to_owned(), value.to_owned());
    }
    stays(&joined(2, &executor, &[]));
}

#[test]
fn what_a_node_says_of_itself_wins_over_its_claim() {
    let mut executor = spec(1500, 2048);
    let selector = &mut executor.node_selector;
    selector.insert(labels::INSTANCE_FAMILY.to_owned(), "c5".to_owned());
    let mut snapshot = joined(2, &executor, &[]);
    let mut node = Node::clone(&snapshot.nodes["ip-a"]);
    let own = &mut node.labels;
    own.insert(labels::INSTANCE_FAMILY.to_owned(), "other".to_owned());
    snapshot.nodes.insert(node.name.clone(), Arc::new(node));
    let next = plan(&snapshot);
    assert!(next.existing.is_empty());
    assert_eq!(next.new_nodes.len(), 1);
}

#[test]
fn taints_that_a_starting_node_sheds_keep_nobody_from_waiting_for_it() {
    let executor = spec(1500, 2048);
    for (key, effect) in [
        ("readiness.k8s.io/cni", TaintEffect::NoSchedule),
        ("readiness.k8s.io/storage", TaintEffect::NoExecute),
        (labels::NOT_READY_TAINT, TaintEffect::NoExecute),
        (labels::UNREACHABLE_TAINT, TaintEffect::NoExecute),
        (labels::UNINITIALIZED_TAINT, TaintEffect::NoSchedule),
        (labels::NETWORK_UNAVAILABLE_TAINT, TaintEffect::NoSchedule),
    ] {
        stays(&joined(2, &executor, &[Taint::new(key, "", effect)]));
    }
    let dedicated = Taint::new("dedicated", "others", TaintEffect::NoSchedule);
    let next = plan(&joined(2, &executor, &[dedicated]));
    assert_eq!(next.new_nodes.len(), 1, "what stays keeps pods off");
}

/// A pod with a volume of EBS of its own.
fn with_volume(snapshot: &mut Snapshot, name: &str) -> Pod {
    let claim = VolumeClaim {
        namespace: "default".to_owned(),
        name: name.to_owned(),
        volume_name: None,
        storage_class: None,
        driver: EBS_DRIVER.to_owned(),
        one_pod: false,
        node_terms: Vec::new(),
        problem: None,
    };
    let key = format!("default/{name}");
    snapshot.volume_claims.insert(key, Arc::new(claim));
    let constraints = PodConstraints {
        volume_claims: vec![name.to_owned()],
        ..PodConstraints::default()
    };
    let spec = PodSpec {
        constraints: Some(Arc::new(constraints)),
        ..spec(10, 10)
    };
    Pod::waiting(PodKey::new("default", name), Arc::new(spec))
}

#[test]
fn a_node_takes_no_more_volumes_before_its_driver_says_how_many() {
    let mut snapshot = joined(1, &spec(1500, 2048), &[]);
    for index in 0..20 {
        let mut pod = with_volume(&mut snapshot, &format!("bound-{index}"));
        pod.node_name = Some("ip-a".to_owned());
        pod.phase = PodPhase::Running;
        snapshot.pods.insert(pod.key.clone(), Arc::new(pod));
    }
    for index in 0..10 {
        let pod = with_volume(&mut snapshot, &format!("waiting-{index}"));
        snapshot.pods.insert(pod.key.clone(), Arc::new(pod));
    }
    let on_node = |snapshot: &Snapshot| {
        let pods = plan(snapshot).existing["ip-a"].clone();
        let waited = pods.iter().filter(|pod| pod.name.starts_with("waiting"));
        waited.count()
    };
    assert_eq!(on_node(&snapshot), 7, "27 less 20");
    let driver = ("ip-a".to_owned(), EBS_DRIVER.to_owned());
    snapshot.volume_room.insert(driver, 4);
    assert_eq!(on_node(&snapshot), 4, "as the driver says");
}

#[test]
fn types_that_did_not_join_are_told_from_those_that_are_short() {
    let said = |no_shows: &[&str]| {
        let mut snapshot = world(vec![pool("executors", &["c5.xlarge", "c5.2xlarge"])]);
        let mut class = NodeClass::clone(&snapshot.node_classes["default"]);
        for offering in &mut Arc::make_mut(&mut class.catalogue).offerings {
            offering.available = false;
            if no_shows.contains(&&*offering.key.instance_type) {
                offering.outlook.no_shows = 2;
            } else {
                offering.outlook.refusals = 1;
            }
        }
        let class = ("default".to_owned(), Arc::new(class));
        snapshot.node_classes.extend([class]);
        add_pods(&mut snapshot, "pod", 1, &spec(1500, 2048));
        let plan = plan(&snapshot);
        let reason = &plan.unschedulable.values().next().unwrap().reasons[0];
        reason.detail.clone()
    };
    let (joined, short) = (
        "so what fits is left alone",
        "EC2 has no capacity now for what fits",
    );
    assert!(said(&["c5.xlarge", "c5.2xlarge"]).contains(joined));
    assert!(said(&[]).starts_with(short), "{}", said(&[]));
    let both = said(&["c5.xlarge"]);
    assert!(both.contains(" of what fits is left alone"), "{both}");
    assert!(
        both.contains("; EC2 has no capacity now for the rest ("),
        "{both}"
    );
}
