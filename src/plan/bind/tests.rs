//! Who is bound to a Node and who is left to kube-scheduler, by what is different about the pod or the Node.

use super::*;
use crate::api::labels;
use crate::model::pod::{LabelSelector, PodConstraints, PodPhase, PodSpec, PodTerm};
use crate::model::resources::{CPU, Resources};
use crate::model::taint::{TaintEffect, Toleration, TolerationOperator};
use crate::model::workload::DaemonSet;
use crate::plan::examples::{at, booted, launched, node, pod, world, zone_spread};

const ZONE: &str = "topology.kubernetes.io/zone";

fn taint(key: &str, effect: TaintEffect) -> Taint {
    Taint::new(key, "", effect)
}

/// The Node `ip-a` as registration holds it: ready, with 3.92 cores.
fn held() -> Node {
    let mut held = booted("a");
    held.taints = vec![taint(labels::UNREGISTERED_TAINT, TaintEffect::NoSchedule)];
    for (key, value) in [(labels::REGISTERED, "true"), (ZONE, "us-east-1a")] {
        held.labels.insert(key.to_owned(), value.to_owned());
    }
    held
}

/// A pod that waits and asks for so many thousandths of a core.
fn waiting(name: &str, millis: i64) -> Pod {
    let mut waiting = pod(name, "");
    waiting.node_name = None;
    waiting.phase = PodPhase::Pending;
    waiting.unschedulable = true;
    with_spec(&mut waiting, |spec| {
        DEFAULT_SCHEDULER.clone_into(&mut spec.scheduler_name);
        spec.requests = Resources::new().with(CPU, millis);
    });
    waiting
}

fn with_spec(pod: &mut Pod, change: impl FnOnce(&mut PodSpec)) {
    change(Arc::make_mut(&mut pod.spec));
}

fn with_constraints(pod: &mut Pod, constraints: PodConstraints) {
    with_spec(pod, |spec| spec.constraints = Some(Arc::new(constraints)));
}

/// Labelled `app=web`, and away from pods of that label over zones.
fn alone_in_its_zone(pod: &mut Pod) {
    let app = BTreeMap::from([("app".to_owned(), "web".to_owned())]);
    let term = PodTerm {
        topology_key: ZONE.to_owned(),
        selector: Some(LabelSelector {
            match_labels: app.clone(),
            match_expressions: Vec::new(),
        }),
        namespaces: Vec::new(),
        namespace_selector: None,
        match_label_keys: Vec::new(),
        mismatch_label_keys: Vec::new(),
    };
    with_constraints(
        pod,
        PodConstraints {
            anti_affinity: vec![term],
            ..PodConstraints::default()
        },
    );
    with_spec(pod, |spec| spec.labels = app);
}

/// Decides about all waiting pods of a world whose plan put them onto `ip-a`.
fn bindings(snapshot: &Snapshot) -> Bindings {
    let waiting = snapshot.pods.values().filter(|pod| pod.node_name.is_none());
    let planned: Vec<PodKey> = waiting.map(|pod| pod.key.clone()).collect();
    decide(snapshot, ("a", "ip-a"), &planned, &[])
}

fn bound(snapshot: &Snapshot) -> Vec<String> {
    let bindings = bindings(snapshot);
    let names = bindings.pods.iter().map(|pod| pod.key.name.to_string());
    names.collect()
}

fn around(node: Node, pods: &[Pod]) -> Snapshot {
    world(100, &[launched("a")], &[node], pods)
}

#[test]
fn the_pods_of_the_plan_are_bound_to_a_node_that_is_held_and_ready() {
    let snapshot = around(held(), &[waiting("one", 2_000), waiting("two", 1_900)]);
    assert_eq!(bound(&snapshot), ["one", "two"]);
    assert_eq!(bindings(&snapshot).left, []);
}

#[test]
fn pods_that_kube_scheduler_would_not_place_are_left_to_it() {
    type Change = fn(&mut Pod);
    let changes: [(&str, Change); 7] = [
        ("it has a node", |pod| {
            pod.node_name = Some("ip-b".to_owned());
        }),
        ("it does not wait", |pod| pod.deleting_until = Some(at(200))),
        ("it does not wait", |pod| pod.phase = PodPhase::Failed),
        ("it does not wait", |pod| pod.mirror = true),
        ("it has scheduling gates", |pod| {
            with_spec(pod, |spec| spec.gated = true);
        }),
        ("scheduler batch places it", |pod| {
            with_spec(pod, |spec| spec.scheduler_name = "batch".to_owned());
        }),
        ("spec.resourceClaims", |pod| {
            with_spec(pod, |spec| {
                spec.problem = Some("spec.resourceClaims (gpu)".to_owned());
            });
        }),
    ];
    for (why, change) in changes {
        let mut pod = waiting("one", 500);
        change(&mut pod);
        let snapshot = around(held(), &[pod.clone()]);
        let bindings = decide(&snapshot, ("a", "ip-a"), &[pod.key], &[]);
        assert_eq!(bindings.pods, [], "{why}");
        assert!(bindings.left[0].1.starts_with(why), "{bindings:?}");
    }
}

#[test]
fn a_pod_waits_for_kube_scheduler_until_its_volume_is_there() {
    let mut pod = waiting("one", 500);
    with_constraints(
        &mut pod,
        PodConstraints {
            volume_claims: vec!["data".to_owned()],
            ..PodConstraints::default()
        },
    );
    let mut snapshot = around(held(), &[pod]);
    assert_eq!(bound(&snapshot), [""; 0], "there is no claim");
    let settled = VolumeClaim {
        namespace: "default".to_owned(),
        name: "data".to_owned(),
        volume_name: Some("volume-1".to_owned()),
        driver: "ebs.csi.aws.com".to_owned(),
        storage_class: None,
        one_pod: false,
        node_terms: Vec::new(),
        problem: None,
    };
    let waits_for_consumer = VolumeClaim {
        volume_name: None,
        ..settled.clone()
    };
    let exclusive = VolumeClaim {
        one_pod: true,
        ..settled.clone()
    };
    for (claim, expected) in [
        (waits_for_consumer, Vec::new()),
        (exclusive, Vec::new()),
        (settled, vec!["one"]),
    ] {
        let key = "default/data".to_owned();
        snapshot.volume_claims.insert(key, Arc::new(claim));
        assert_eq!(bound(&snapshot), expected);
    }
}

#[test]
fn nobody_is_bound_to_a_node_that_is_not_ready_goes_or_is_open() {
    type Change = fn(&mut Node);
    let changes: [(&str, Change); 8] = [
        ("is not ready", |node| node.ready = false),
        ("is not ready", |node| {
            let not_ready = taint(labels::NOT_READY_TAINT, TaintEffect::NoSchedule);
            node.taints.push(not_ready);
        }),
        ("is not ready", |node| {
            // A watch that shows the Node as it was before it was registered.
            let unregistered = taint(labels::UNREGISTERED_TAINT, TaintEffect::NoExecute);
            node.taints.push(unregistered);
        }),
        ("is cordoned", |node| node.unschedulable = true),
        ("goes", |node| node.deleting_since = Some(at(90))),
        ("goes", |node| {
            let fence = taint(labels::DISRUPTED_TAINT, TaintEffect::NoSchedule);
            node.taints.push(fence);
        }),
        ("is open", |node| node.taints.clear()),
        ("does not tolerate startup", |node| {
            node.taints.push(taint("startup", TaintEffect::NoExecute));
        }),
    ];
    for (why, change) in changes {
        let mut node = held();
        change(&mut node);
        let bindings = bindings(&around(node, &[waiting("one", 500)]));
        assert_eq!(bindings.pods, [], "{why}");
        assert!(bindings.left[0].1.contains(why), "{why}: {bindings:?}");
    }
    let mut going = launched("a");
    going.deleting_since = Some(at(90));
    let snapshot = world(100, &[going], &[held()], &[waiting("one", 500)]);
    assert_eq!(bound(&snapshot), [""; 0], "its claim goes");
}

#[test]
fn a_pod_that_tolerates_a_startup_taint_is_bound_under_it() {
    let mut pod = waiting("one", 500);
    with_spec(&mut pod, |spec| {
        spec.tolerations.push(Toleration {
            key: "startup".to_owned(),
            operator: TolerationOperator::Exists,
            value: String::new(),
            effect: None,
            seconds: None,
        });
    });
    let mut node = held();
    node.taints.push(taint("startup", TaintEffect::NoSchedule));
    let snapshot = around(node, &[pod, waiting("two", 500)]);
    assert_eq!(bound(&snapshot), ["one"]);
}

/// What was planned with is a guess; a kubelet refuses what has no room, and the pod fails.
#[test]
fn what_has_no_room_beside_what_is_there_and_comes_is_left() {
    let mut urgent = waiting("urgent", 1_500);
    with_spec(&mut urgent, |spec| spec.priority = 10);
    let pods = [waiting("one", 2_000), waiting("two", 2_000), urgent];
    let mut small = held();
    small.allocatable.set(CPU, 3_600);
    let snapshot = around(small, &pods);
    assert_eq!(bound(&snapshot), ["urgent", "one"], "the urgent pod first");
    let left = bindings(&snapshot).left;
    assert!(left[0].1.contains("3600 are allocatable"), "{left:?}");

    let mut there = pod("there", "ip-a");
    with_spec(&mut there, |spec| {
        spec.requests = Resources::new().with(CPU, 2_000);
    });
    let snapshot = around(held(), &[there, waiting("one", 1_900), waiting("two", 20)]);
    assert_eq!(bound(&snapshot), ["one", "two"]);

    let mut snapshot = around(held(), &[waiting("one", 3_900)]);
    let daemon_set = DaemonSet {
        namespace: "default".to_owned(),
        name: "agent".to_owned(),
        spec: Arc::clone(&waiting("agent", 100).spec),
    };
    let key = "default/agent".to_owned();
    snapshot.daemon_sets.insert(key, Arc::new(daemon_set));
    assert_eq!(
        bound(&snapshot),
        [""; 0],
        "a DaemonSet's pod is still to come"
    );
}

#[test]
fn a_device_that_its_plugin_has_not_registered_yet_is_not_there() {
    let mut pod = waiting("one", 500);
    with_spec(&mut pod, |spec| spec.requests.set("nvidia.com/gpu", 1));
    let mut claim = launched("a");
    claim.allocatable.set("nvidia.com/gpu", 1);
    let snapshot = world(100, &[claim], &[held()], &[pod]);
    assert_eq!(bound(&snapshot), [""; 0]);
}

#[test]
fn anti_affinity_to_pods_on_other_nodes_holds() {
    let mut elsewhere = node("b");
    let zone = "us-east-1a".to_owned();
    elsewhere.labels.insert(ZONE.to_owned(), zone);
    let mut running = pod("running", "ip-b");
    alone_in_its_zone(&mut running);
    let mut web = waiting("web", 500);
    with_spec(&mut web, |spec| {
        spec.labels.insert("app".to_owned(), "web".to_owned());
    });
    let nodes = [held(), elsewhere];
    let pods = [running, web, waiting("other", 500)];
    let snapshot = world(100, &[launched("a")], &nodes, &pods);
    assert_eq!(bound(&snapshot), ["other"]);

    let mut two = [waiting("one", 500), waiting("two", 500)];
    two.iter_mut().for_each(alone_in_its_zone);
    assert_eq!(
        bound(&around(held(), &two)),
        ["one"],
        "of two that keep apart"
    );
}

#[test]
fn a_default_spread_that_must_hold_is_left_to_kube_scheduler() {
    let mut spread = zone_spread();
    let pod = waiting("one", 500);
    let snapshot = around(held(), std::slice::from_ref(&pod));
    let with = |spread: &TopologySpread| {
        let defaults = std::slice::from_ref(spread);
        let planned = std::slice::from_ref(&pod.key);
        decide(&snapshot, ("a", "ip-a"), planned, defaults)
            .pods
            .len()
    };
    assert_eq!(with(&spread), 0);
    spread.required = false;
    assert_eq!(with(&spread), 1);
}

#[test]
fn a_node_is_held_only_for_pods_that_may_be_bound_to_it() {
    let pod = waiting("one", 500);
    let planned = [pod.key.clone()];
    let mut claim = launched("a");
    let worth = |claim: &Claim, pod: Pod| {
        let snapshot = world(100, &[], &[], &[pod]);
        let known = (&snapshot.pods, &snapshot.volume_claims);
        is_worth_a_hold(known, claim, &planned, &[])
    };
    assert!(worth(&claim, pod.clone()));
    let mut gated = pod.clone();
    with_spec(&mut gated, |spec| spec.gated = true);
    assert!(!worth(&claim, gated));
    claim.startup_taints = vec![taint("startup", TaintEffect::NoSchedule)];
    assert!(
        !worth(&claim, pod),
        "its Node opens when the startup taint goes"
    );
}
