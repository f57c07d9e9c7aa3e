//! How machines end, step by step.

use std::num::NonZeroU32;
use std::slice;
use std::sync::Arc;

use super::*;
use crate::model::claim::ConditionStatus;
use crate::model::instance::{Instance, InstanceState};
use crate::model::pod::{DoNotDisrupt, PodSpec};
use crate::model::taint::{Toleration, TolerationOperator};
use crate::plan::examples::{
    self, as_empty, at, claim, daemon, initialized, instance, node, pod, set, world,
};

fn view(second: i64, state: InstanceState) -> InstanceView {
    let mut view = InstanceView::default();
    let mut seen = instance("a");
    seen.state = state;
    let found: [Arc<Instance>; 1] = [Arc::new(seen)];
    view.answered(&BTreeSet::new(), &found, at(second));
    view
}

fn going(second: i64) -> Claim {
    let mut claim = initialized("a");
    claim.deleting_since = Some(at(second));
    claim
}

fn fenced() -> Node {
    let mut node = examples::fenced("a");
    node.deleting_since = Some(at(100));
    node
}

fn decide_at(
    second: i64,
    claim: &Claim,
    node: &Node,
    pods: &[Pod],
    state: InstanceState,
) -> Decision<TerminateStep> {
    decide(
        &world(second, slice::from_ref(claim), slice::from_ref(node), pods),
        &view(second, state),
        &LaunchMemory::new(at(0)),
    )
}

fn names(decision: &Decision<TerminateStep>) -> Vec<String> {
    decision
        .steps
        .iter()
        .map(|step| match step {
            TerminateStep::DeleteClaim { .. } => "delete claim".to_owned(),
            TerminateStep::SetDeadline { .. } => "set deadline".to_owned(),
            TerminateStep::Fence { .. } => "fence".to_owned(),
            TerminateStep::DeleteNode { .. } => "delete node".to_owned(),
            TerminateStep::Evict { pod, .. } => format!("evict {}", pod.key.name),
            TerminateStep::ForceDelete {
                pod, grace_seconds, ..
            } => format!("force {} {grace_seconds}", pod.key.name),
            TerminateStep::Report { change, .. } => format!("report {}", change.reason.as_str()),
            TerminateStep::TerminateInstance { .. } => "terminate".to_owned(),
            TerminateStep::ReleaseNode { .. } => "release node".to_owned(),
            TerminateStep::ReleaseClaim { .. } => "release claim".to_owned(),
        })
        .collect()
}

#[test]
fn a_machine_that_was_stopped_is_ended_without_asking_anybody_to_leave() {
    let mut kept = pod("web", "ip-a");
    kept.do_not_disrupt = DoNotDisrupt::Always;
    let mut silent = fenced();
    silent.ready = false;
    let at_once = |node: &Node, state| {
        let pods = slice::from_ref(&kept);
        names(&decide_at(101, &going(100), node, pods, state))
    };
    let stopped = InstanceState::Stopped;
    assert_eq!(at_once(&silent, stopped), ["terminate"]);
    assert_ne!(at_once(&silent, InstanceState::Running), ["terminate"]);
    assert_ne!(at_once(&fenced(), stopped), ["terminate"], "it speaks");
}

#[test]
fn the_order_is_fence_drain_instance_node_claim() {
    let running = InstanceState::Running;
    let mut claim = going(100);
    let pods = [pod("web", "ip-a")];
    assert_eq!(
        names(&decide_at(100, &claim, &node("a"), &pods, running)),
        ["fence"]
    );

    let mut machine = fenced();
    machine.deleting_since = None;
    let told = ["delete node", "evict web", "report Draining"];
    assert_eq!(
        names(&decide_at(101, &claim, &machine, &pods, running)),
        told
    );

    let early = decide_at(103, &claim, &fenced(), &[], running);
    assert_eq!((names(&early).len(), early.wake), (0, Some(at(105))));
    assert_eq!(
        names(&decide_at(105, &claim, &fenced(), &[], running)),
        ["terminate"]
    );

    let ending = decide_at(106, &claim, &fenced(), &[], InstanceState::ShuttingDown);
    assert_eq!(names(&ending), ["report InstanceTerminating"]);
    set(
        &mut claim,
        "InstanceTerminating",
        ConditionStatus::True,
        at(105),
    );
    let ending = decide_at(106, &claim, &fenced(), &[], InstanceState::ShuttingDown);
    assert_eq!((names(&ending).len(), ending.wake), (0, Some(at(111))));
    let gone = InstanceState::Terminated;
    assert_eq!(
        names(&decide_at(120, &claim, &fenced(), &[], gone)),
        ["release node"]
    );
    let without_node = decide(
        &world(121, &[claim], &[], &[]),
        &view(121, gone),
        &LaunchMemory::new(at(0)),
    );
    assert_eq!(names(&without_node), ["release claim"]);
}

#[test]
fn groups_leave_one_after_the_other() {
    let mut critical = pod("dns", "ip-a");
    critical.spec = Arc::new(PodSpec {
        critical: true,
        ..PodSpec::clone(&critical.spec)
    });
    let mut critical_daemon = daemon("cni", "ip-a");
    critical_daemon.spec = Arc::clone(&critical.spec);
    let mut pods = vec![
        pod("web", "ip-a"),
        daemon("logs", "ip-a"),
        critical,
        critical_daemon,
    ];
    for first in ["web", "logs", "dns", "cni"] {
        let decision = decide_at(110, &going(100), &fenced(), &pods, InstanceState::Running);
        assert_eq!(
            names(&decision),
            [format!("evict {first}"), "report Draining".to_owned()]
        );
        pods.retain(|pod| &*pod.key.name != first);
    }
}

#[test]
fn a_pod_that_must_not_be_disrupted_is_waited_for_until_the_deadline() {
    let mut claim = going(100);
    claim.termination_grace = Some(SignedDuration::from_secs(600));
    let mut job = pod("job", "ip-a");
    job.do_not_disrupt = DoNotDisrupt::Always;
    let running = InstanceState::Running;
    let decision = decide_at(110, &claim, &fenced(), &[job.clone()], running);
    assert_eq!(names(&decision), ["set deadline", "report Draining"]);
    assert_eq!(
        decision.wake,
        Some(at(670)),
        "30 s of its own grace before the deadline"
    );
    let told = |claim: &Claim| {
        let decision = decide_at(110, claim, &fenced(), &[job.clone()], running);
        let messages = decision.steps.into_iter().filter_map(|step| match step {
            TerminateStep::Report { change, .. } => Some(change.message),
            _ => None,
        });
        messages.collect::<String>()
    };
    assert_eq!(told(&claim), "pods are still on the node");
    assert!(told(&going(100)).contains("default/job must not be disrupted and runs to its end"));
    let late = decide_at(680, &claim, &fenced(), &[job.clone()], running);
    assert_eq!(
        names(&late),
        ["set deadline", "force job 20", "report Draining"]
    );
    let passed = decide_at(700, &claim, &fenced(), &[job.clone()], running);
    assert!(names(&passed).contains(&"terminate".to_owned()));

    job.do_not_disrupt = DoNotDisrupt::For(SignedDuration::from_secs(60));
    let over = decide_at(121, &going(100), &fenced(), &[job.clone()], running);
    assert_eq!(names(&over), ["evict job", "report Draining"]);
    let still = decide_at(119, &going(100), &fenced(), &[job], running);
    assert_eq!(still.wake, Some(at(120)));
}

#[test]
fn what_slipped_onto_an_empty_node_runs_to_its_end() {
    let claim = as_empty(going(100));
    let late = [pod("late", "ip-a")];
    let decision = decide_at(110, &claim, &fenced(), &late, InstanceState::Running);
    assert_eq!(names(&decision), ["report Draining"]);
    let decision = decide_at(101, &claim, &fenced(), &[], InstanceState::Running);
    assert_eq!(names(&decision), ["terminate"]);
}

#[test]
fn who_is_not_waited_for() {
    let toleration = |key: &str| Toleration {
        key: key.to_owned(),
        operator: TolerationOperator::Exists,
        value: String::new(),
        effect: None,
        seconds: None,
    };
    let tolerant = |mut pod: Pod, key: &str| {
        pod.spec = Arc::new(PodSpec {
            tolerations: vec![toleration(key)],
            ..PodSpec::clone(&pod.spec)
        });
        pod
    };
    let mut mirror = pod("static", "ip-a");
    mirror.mirror = true;
    let mut stuck = pod("stuck", "ip-a");
    stuck.deleting_until = Some(at(40));
    let pods = [
        mirror,
        stuck,
        tolerant(daemon("agent", "ip-a"), ""),
        tolerant(pod("operator", "ip-a"), labels::DISRUPTED_TAINT),
    ];
    let decision = decide_at(110, &going(100), &fenced(), &pods, InstanceState::Running);
    assert_eq!(names(&decision), ["terminate"]);
    let habit = [tolerant(pod("job", "ip-a"), "")];
    let decision = decide_at(110, &going(100), &fenced(), &habit, InstanceState::Running);
    assert_eq!(names(&decision), ["evict job", "report Draining"]);
}

#[test]
fn a_deleted_node_takes_its_claim_along() {
    let mut machine = node("a");
    machine.deleting_since = Some(at(100));
    let decision = decide_at(
        100,
        &initialized("a"),
        &machine,
        &[],
        InstanceState::Running,
    );
    assert_eq!(names(&decision), ["delete claim"]);
    // Somebody removed the claim and its finalizer: the instance must not outlive its Node.
    let alone = decide(
        &world(110, &[], &[fenced()], &[]),
        &view(110, InstanceState::Running),
        &LaunchMemory::new(at(0)),
    );
    assert_eq!(names(&alone), ["terminate"]);
}

#[test]
fn no_minute_ends_more_than_the_ceiling_and_the_rest_stays_fenced() {
    let names = ["a", "b", "c"];
    let claims: Vec<Claim> = names
        .iter()
        .map(|name| {
            let mut claim = initialized(name);
            claim.deleting_since = Some(at(100));
            claim
        })
        .collect();
    let nodes: Vec<Node> = names
        .iter()
        .map(|name| Node {
            taints: fenced().taints,
            deleting_since: Some(at(100)),
            ..node(name)
        })
        .collect();
    let mut view = InstanceView::default().with_ceiling(NonZeroU32::new(2));
    let mut ended = |second: i64| {
        let decision = decide(
            &world(second, &claims, &nodes, &[]),
            &view,
            &LaunchMemory::new(at(0)),
        );
        let mut ended = Vec::new();
        for step in decision.steps {
            if let TerminateStep::TerminateInstance { instance, .. } = step
                && (view.terminated_at(&instance).is_some()
                    || view.endings.try_spend(&instance, 1, at(second)).is_ok())
            {
                view.terminated(&instance, at(second));
                ended.push(instance);
            }
        }
        (ended, decision.wake)
    };
    let (first, wake) = ended(110);
    assert_eq!(first, ["i-a", "i-b"]);
    assert!(wake.is_some());
    // EC2 has not ended the first two: asking again is no further termination.
    assert_eq!(ended(145).0, ["i-a", "i-b"]);
    assert_eq!(ended(160).0, Vec::<String>::new());
    assert!(ended(206).0.contains(&"i-c".to_owned()));
}

#[test]
fn an_instance_that_cannot_be_terminated_takes_no_room_from_the_others() {
    let names = ["a", "b", "c"];
    let claims = names.map(|name| Claim {
        deleting_since: Some(at(100)),
        ..initialized(name)
    });
    let nodes = names.map(|name| Node {
        taints: fenced().taints,
        deleting_since: Some(at(100)),
        ..node(name)
    });
    let mut view = InstanceView::default().with_ceiling(NonZeroU32::new(1));
    let mut ended = Vec::new();
    for second in 110..180 {
        let launches = LaunchMemory::new(at(0));
        let decision = decide(&world(second, &claims, &nodes, &[]), &view, &launches);
        let mut failed = None;
        let mut began = 0;
        for step in decision.steps {
            let TerminateStep::TerminateInstance { instance, .. } = step else {
                continue;
            };
            if view.terminated_at(&instance).is_some() {
                continue;
            }
            began += 1;
            // The broken one is tried every other second and holds its room until it has failed.
            if instance == "i-a" {
                if second % 2 == 0 {
                    failed = view.endings.try_spend(&instance, 1, at(second)).ok();
                }
            } else if view.endings.try_spend(&instance, 1, at(second)).is_ok() {
                view.terminated(&instance, at(second));
                ended.push((second, instance));
            }
        }
        if let Some(before) = failed {
            view.endings.give_back("i-a", before);
        } else if began == 0 {
            // Held: nothing is begun in vain, and it is decided again when there is room, not before.
            assert!(decision.wake.is_some_and(|wake| wake > at(second)));
        }
    }
    let expected = [(111, "i-b".to_owned()), (171, "i-c".to_owned())];
    assert_eq!(ended, expected);
}

#[test]
fn a_node_of_another_provisioner_is_left_alone() {
    let mut foreign = fenced();
    foreign.labels.remove(labels::NODE_CLASS);
    let decision = decide(
        &world(110, &[], &[foreign], &[]),
        &InstanceView::default(),
        &LaunchMemory::new(at(0)),
    );
    assert_eq!(decision.steps, []);
    assert!(decision.look_at.is_empty());
}

#[test]
fn a_claim_without_instance_goes_only_when_its_launch_is_settled() {
    let mut unlaunched = claim("a", &["c5.xlarge/us-east-1a/spot"]);
    unlaunched.deleting_since = Some(at(5));
    let record = crate::model::launch::LaunchRecord {
        batch: "b".to_owned(),
        attempt: 1,
        size: 1,
        capacity_type: crate::model::offering::CapacityType::Spot,
        reservation: None,
        templates: Vec::new(),
    };
    let mut called = unlaunched.clone();
    called.launch = Some(Arc::new(record.clone()));
    let mut launches = LaunchMemory::new(at(0));
    let steps = |claim: &Claim, launches: &LaunchMemory| {
        names(&decide(
            &world(10, slice::from_ref(claim), &[], &[]),
            &InstanceView::default(),
            launches,
        ))
    };
    assert_eq!(steps(&unlaunched, &launches), ["release claim"]);
    assert_eq!(steps(&called, &launches), Vec::<String>::new());
    launches.settled(&record);
    assert_eq!(steps(&called, &launches), ["release claim"]);
}

#[test]
fn a_young_instance_that_ec2_does_not_show_yet_is_not_gone() {
    let mut claim = going(20);
    claim.node_name.clear();
    let mut absent = InstanceView::default();
    absent.answered(&BTreeSet::from(["i-a".to_owned()]), &[], at(21));
    let first = world(21, &[claim.clone()], &[], &[]);
    assert_eq!(
        names(&decide(&first, &absent, &LaunchMemory::new(at(0)))),
        ["terminate"]
    );
    absent.terminated("i-a", at(22));
    let poll = decide(
        &world(23, &[claim.clone()], &[], &[]),
        &absent,
        &LaunchMemory::new(at(0)),
    );
    assert_eq!(
        (names(&poll), poll.wake),
        (vec!["report InstanceTerminating".to_owned()], Some(at(26)))
    );
    absent.answered(&BTreeSet::from(["i-a".to_owned()]), &[], at(141));
    let snapshot = world(141, &[claim.clone()], &[], &[]);
    let late = decide(&snapshot, &absent, &LaunchMemory::new(at(0)));
    assert_eq!(names(&late), ["terminate"], "EC2 took the first too early");
    absent.terminated("i-a", at(142));
    let proven = decide(&snapshot, &absent, &LaunchMemory::new(at(0)));
    assert_eq!(names(&proven), ["release claim"]);
}

/// EC2 does not show the instance, and has not for long enough.
fn hidden() -> InstanceView {
    let mut view = InstanceView::default();
    not_shown(&mut view, 200);
    not_shown(&mut view, 320);
    view
}

fn not_shown(view: &mut InstanceView, second: i64) {
    view.answered(&BTreeSet::from(["i-a".to_owned()]), &[], at(second));
}

fn silent() -> Node {
    Node {
        ready: false,
        ..fenced()
    }
}

fn decide_on(
    second: i64,
    view: &InstanceView,
    claims: &[Claim],
    nodes: &[Node],
) -> Decision<TerminateStep> {
    let snapshot = world(second, claims, nodes, &[pod("web", "ip-a")]);
    decide(&snapshot, view, &LaunchMemory::new(at(0)))
}

#[test]
fn what_ec2_does_not_show_is_terminated_before_node_and_claim_go() {
    let mut view = hidden();
    let steps = |view: &InstanceView, node: Node| {
        let decision = decide_on(320, view, &[going(100)], &[node]);
        names(&decision)
    };
    let drained = ["evict web", "report Draining"];
    assert_eq!(steps(&view, fenced()), drained, "its kubelet speaks");
    assert_eq!(steps(&view, silent()), ["terminate"]);
    view.terminated("i-a", at(320));
    assert_eq!(steps(&view, silent()), ["release node"]);
    assert_eq!(steps(&view, fenced()), drained);
    let without_node = decide_on(321, &view, &[going(100)], &[]);
    assert_eq!(names(&without_node), ["release claim"]);
}

#[test]
fn where_ec2_refuses_to_terminate_what_it_does_not_show_the_claim_waits_for_an_hour() {
    let mut view = hidden();
    view.refused("i-a");
    let first = decide_on(330, &view, &[going(100)], &[silent()]);
    assert_eq!(names(&first), ["terminate", "release node"]);
    assert_eq!((first.look_at.len(), first.wake), (0, Some(at(380))));
    let later = decide_on(380, &view, &[going(100)], &[]);
    assert_eq!(names(&later), ["terminate"]);
    assert!(later.look_at.contains("i-a"));
    // Of a Node whose claim is gone nothing else would be left.
    let alone = decide_on(380, &view, &[], &[silent()]);
    assert_eq!(names(&alone), ["terminate"]);
    not_shown(&mut view, 3_800);
    let settled = decide_on(3_800, &view, &[going(100)], &[]);
    assert_eq!(names(&settled), ["release claim"]);
}

#[test]
fn a_node_that_only_its_claim_knows_is_asked_for_pods_before_its_machine_goes() {
    let decision = decide(
        &world(110, slice::from_ref(&going(100)), &[], &[]),
        &view(110, InstanceState::Running),
        &LaunchMemory::new(at(0)),
    );
    let asked = decision.steps.iter().find_map(|step| match step {
        TerminateStep::TerminateInstance { nodes, pods, .. } => Some((nodes.clone(), pods.len())),
        _ => None,
    });
    let named = BTreeSet::from([going(100).node_name]);
    assert_eq!(asked, Some((named, 0)));
}

/// A Node is open for pods before its claim says which it is, and another may say that it is on the same machine.
#[test]
fn pods_on_one_of_two_nodes_that_may_be_the_machines_hold_it() {
    let claim = Claim {
        node_name: String::new(),
        ..going(100)
    };
    let impostor = Node {
        name: "impostor".to_owned(),
        deleting_since: None,
        ..silent()
    };
    let decided = |pods: &[Pod]| {
        let snapshot = world(
            150,
            slice::from_ref(&claim),
            &[fenced(), impostor.clone()],
            pods,
        );
        let view = view(150, InstanceState::Running);
        names(&decide(&snapshot, &view, &LaunchMemory::new(at(0))))
    };
    let held = decided(&[pod("web", "ip-a")]);
    assert!(held.contains(&"evict web".to_owned()), "{held:?}");
    assert!(!held.contains(&"terminate".to_owned()), "{held:?}");
    assert!(decided(&[]).contains(&"terminate".to_owned()));
}
