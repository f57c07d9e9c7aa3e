//! How machines become nodes, told from the outside.

use super::*;
use crate::model::instance::{InstanceState, tags};
use crate::model::resources::Resources;
use crate::model::taint::{Taint, TaintEffect};
use crate::plan::examples::{
    at, booted, claim, initialized, instance, launched, node, pod, set, world,
};
use crate::plan::launch::{CEILING, RATE, admitted};
use std::collections::BTreeSet;
use std::slice;

fn seen(instances: &[Instance]) -> InstanceView {
    let mut view = InstanceView::default();
    let found: Vec<Arc<Instance>> = instances.iter().cloned().map(Arc::new).collect();
    view.answered(&BTreeSet::new(), &found, at(41));
    view
}

fn decide_at(
    second: i64,
    claims: &[Claim],
    nodes: &[Node],
    view: &InstanceView,
) -> Decision<LifecycleStep> {
    decide(
        &world(second, claims, nodes, &[]),
        view,
        &LifecycleSettings::default(),
    )
}

fn reported(decision: &Decision<LifecycleStep>) -> Vec<(&'static str, String)> {
    decision
        .steps
        .iter()
        .filter_map(|step| match step {
            LifecycleStep::Report { change, .. } => {
                Some((change.condition.as_str(), change.reason.as_str().to_owned()))
            }
            _ => None,
        })
        .collect()
}

#[test]
fn a_node_is_bound_when_provider_id_instance_and_claim_agree() {
    let claims = [launched("a")];
    let unknown = decide_at(42, &claims, &[booted("a")], &InstanceView::default());
    assert_eq!(unknown.steps, []);
    assert_eq!(unknown.look_at, BTreeSet::from(["i-a".to_owned()]));
    let decision = decide_at(42, &claims, &[booted("a")], &seen(&[instance("a")]));
    assert!(matches!(
        decision.steps.as_slice(),
        [LifecycleStep::Register { unmarked: false, node, .. }] if node.name == "ip-a"
    ));
}

#[test]
fn a_node_with_anothers_provider_id_is_reported_and_left_alone() {
    let mut impostor = booted("a");
    impostor.name = "ip-evil".to_owned();
    let view = seen(&[instance("a")]);
    let alone = decide_at(42, &[launched("a")], &[impostor.clone()], &view);
    assert!(
        matches!(&alone.steps[0], LifecycleStep::Impostor { node, .. } if node.name == "ip-evil")
    );
    assert_eq!(
        reported(&alone),
        [("Registered", "NodeNotFound".to_owned())]
    );
    let both = decide_at(
        42,
        &[launched("a")],
        &[impostor.clone(), booted("a")],
        &view,
    );
    let names: Vec<(&str, &str)> = both
        .steps
        .iter()
        .map(|step| match step {
            LifecycleStep::Register { node, .. } => ("register", node.name.as_str()),
            LifecycleStep::Impostor { node, .. } => ("impostor", node.name.as_str()),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(names, [("register", "ip-a"), ("impostor", "ip-evil")]);
    let later = decide_at(99, &[initialized("a")], &[impostor, node("a")], &view);
    assert!(matches!(
        later.steps.as_slice(),
        [LifecycleStep::Impostor { .. }]
    ));
}

#[test]
fn an_instance_tagged_for_another_claim_binds_to_no_node() {
    let mut tagged = instance("a");
    tagged.tags.insert(tags::CLAIM.to_owned(), "b".to_owned());
    let decision = decide_at(42, &[launched("a")], &[booted("a")], &seen(&[tagged]));
    assert!(matches!(&decision.steps[0], LifecycleStep::Impostor { .. }));
}

#[test]
fn a_node_is_usable_only_when_nothing_holds_pods_off() {
    let mut claim = initialized("a");
    claim.conditions.remove("Initialized");
    let startup = Taint::new("cni", "", TaintEffect::NoSchedule);
    claim.startup_taints.push(startup.clone());
    claim.requests.set("nvidia.com/gpu", 1);
    let mut machine = node("a");
    machine.ready = false;
    machine.taints.push(startup);
    machine.taints.push(Taint::new(
        labels::NOT_READY_TAINT,
        "",
        TaintEffect::NoSchedule,
    ));
    let view = InstanceView::default();
    let mut told = Vec::new();
    for change in 0..4 {
        match change {
            1 => machine.ready = true,
            2 => drop(machine.taints.remove(0)),
            3 => machine.taints.clear(),
            _ => {}
        }
        let decision = decide_at(70, &[claim.clone()], &[machine.clone()], &view);
        told.extend(
            reported(&decision)
                .into_iter()
                .map(|(_condition, reason)| reason),
        );
    }
    let expected = [
        "NodeNotReady",
        "StartupTaintsExist",
        "KnownEphemeralTaintsExist",
        "ResourceNotRegistered",
    ];
    assert_eq!(told, expected);
    machine.allocatable.set("nvidia.com/gpu", 1);
    let decision = decide_at(70, &[claim], &[machine], &view);
    assert!(matches!(
        decision.steps.as_slice(),
        [LifecycleStep::Initialize { .. }]
    ));
}

#[test]
fn a_node_that_its_kubelet_registers_anew_is_registered_again() {
    let view = seen(&[instance("a")]);
    let used = [initialized("a")];
    let moments_later = decide_at(54, &used, &[booted("a")], &view);
    assert_eq!(
        (moments_later.steps.len(), moments_later.wake),
        (0, Some(at(55)))
    );
    let said = decide_at(70, &used, &[booted("a")], &view);
    assert_eq!(
        reported(&said),
        [("Initialized", "NodeNotReady".to_owned())]
    );

    let mut claim = initialized("a");
    let unknown = crate::model::claim::ConditionStatus::Unknown;
    set(&mut claim, "Initialized", unknown, at(70));
    let claims = [claim];
    let unseen = decide_at(80, &claims, &[booted("a")], &InstanceView::default());
    assert_eq!(unseen.look_at, BTreeSet::from(["i-a".to_owned()]));
    let is_registered = |node: &Node, view: &InstanceView| {
        let decision = decide_at(80, &claims, slice::from_ref(node), view);
        decision.steps.iter().any(|step| {
            matches!(step, LifecycleStep::Register { node: found, .. } if found.name == node.name)
        })
    };
    assert!(is_registered(&booted("a"), &view));
    let mut untainted = booted("a");
    untainted.taints.clear();
    assert!(is_registered(&untainted, &view), "whatever it came with");
    let mut half_open = node("a");
    let closed = |effect| Taint::new(labels::UNREGISTERED_TAINT, "", effect);
    half_open.taints.push(closed(TaintEffect::NoSchedule));
    assert!(
        is_registered(&half_open, &view),
        "who opened it was cut off"
    );
    let mut tainted = node("a");
    tainted.taints.push(closed(TaintEffect::NoExecute));
    assert!(
        !is_registered(&tainted, &view),
        "somebody else's taint stays"
    );
    let mut leaving = booted("a");
    leaving.deleting_since = Some(at(75));
    assert!(!is_registered(&leaving, &view));
    let mut stopped = instance("a");
    stopped.state = InstanceState::Stopped;
    assert!(!is_registered(&booted("a"), &seen(&[stopped])));
    let mut other = instance("a");
    other.private_dns_name = "ip-b".to_owned();
    assert!(!is_registered(&booted("a"), &seen(&[other])));
}

#[test]
fn who_registers_anew_has_its_time_to_become_usable_again() {
    let mut claim = initialized("a");
    let unknown = crate::model::claim::ConditionStatus::Unknown;
    set(&mut claim, "Initialized", unknown, at(1_000));
    let mut machine = node("a");
    machine.ready = false;
    let settings = LifecycleSettings {
        initialization_timeout: Some(SignedDuration::from_secs(100)),
        ..LifecycleSettings::default()
    };
    let steps = |second| {
        let snapshot = world(
            second,
            slice::from_ref(&claim),
            slice::from_ref(&machine),
            &[],
        );
        decide(&snapshot, &InstanceView::default(), &settings).steps
    };
    let is_given_up = |steps: Vec<LifecycleStep>| {
        let gives_up = |step: &LifecycleStep| matches!(step, LifecycleStep::GiveUp { .. });
        steps.iter().any(gives_up)
    };
    assert!(!is_given_up(steps(1_099)));
    assert!(is_given_up(steps(1_100)));
}

#[test]
fn timeouts_of_the_pool_give_a_claim_up() {
    let view = InstanceView::default();
    let waiting = [claim("a", &["c5.xlarge/us-east-1a/spot"])];
    let early = decide_at(299, &waiting, &[], &view);
    assert_eq!((early.steps.len(), early.wake), (0, Some(at(300))));
    let late = decide_at(300, &waiting, &[], &view);
    assert!(matches!(
        late.steps.as_slice(),
        [LifecycleStep::GiveUp {
            reason: GiveUp::LaunchTimeout,
            ..
        }]
    ));
    let unregistered = decide_at(10 + 900, &[launched("a")], &[], &view);
    assert!(matches!(
        unregistered.steps.as_slice(),
        [LifecycleStep::GiveUp {
            reason: GiveUp::RegistrationTimeout,
            ..
        }]
    ));
}

#[test]
fn a_node_that_registered_while_nobody_looked_is_bound_however_late() {
    let late = 10 + 5_000;
    let unknown = decide_at(
        late,
        &[launched("a")],
        &[booted("a")],
        &InstanceView::default(),
    );
    assert_eq!(
        unknown.steps,
        [],
        "EC2 is asked before anything is given up"
    );
    assert_eq!(unknown.look_at, BTreeSet::from(["i-a".to_owned()]));
    let seen = seen(&[instance("a")]);
    let known = decide_at(late, &[launched("a")], &[booted("a")], &seen);
    assert!(matches!(
        known.steps.as_slice(),
        [LifecycleStep::Register { .. }]
    ));
    let mut impostor = booted("a");
    impostor.name = "ip-evil".to_owned();
    let alone = decide_at(late, &[launched("a")], &[impostor], &seen);
    assert!(
        matches!(
            alone.steps.as_slice(),
            [LifecycleStep::GiveUp {
                reason: GiveUp::RegistrationTimeout,
                ..
            }]
        ),
        "a Node that is not the instance's own keeps no claim"
    );
}

#[test]
fn a_node_that_never_becomes_usable_is_given_up_unless_pods_run_on_it() {
    let mut claim = initialized("a");
    set(
        &mut claim,
        "Initialized",
        crate::model::claim::ConditionStatus::Unknown,
        at(50),
    );
    let mut machine = node("a");
    machine.allocatable = Resources::new();
    let settings = LifecycleSettings {
        initialization_timeout: Some(SignedDuration::from_secs(100)),
        ..LifecycleSettings::default()
    };
    let view = InstanceView::default();
    let idle = world(150, &[claim.clone()], &[machine.clone()], &[]);
    assert!(matches!(
        decide(&idle, &view, &settings).steps.as_slice(),
        [LifecycleStep::GiveUp {
            reason: GiveUp::InitializationTimeout,
            ..
        }]
    ));
    let busy = world(150, &[claim], &[machine], &[pod("p", "ip-a")]);
    assert!(matches!(
        decide(&busy, &view, &settings).steps.as_slice(),
        [LifecycleStep::Report { .. }]
    ));
}

#[test]
fn a_claim_that_waits_for_room_is_not_given_up() {
    for reason in [CEILING, RATE] {
        is_not_given_up_while_it_says(reason);
    }
}

fn is_not_given_up_while_it_says(reason: &str) {
    let mut waiting = claim("a", &["c5.xlarge/us-east-1a/spot"]);
    let nothing = InstanceView::default();
    let late = decide_at(100_000, &[waiting.clone()], &[], &nothing);
    assert!(matches!(
        late.steps.as_slice(),
        [LifecycleStep::GiveUp {
            reason: GiveUp::LaunchTimeout,
            ..
        }]
    ));
    waiting.conditions.insert(
        "Launched".to_owned(),
        crate::model::claim::ClaimCondition {
            status: crate::model::claim::ConditionStatus::False,
            reason: reason.to_owned(),
            message: String::new(),
            since: at(1),
        },
    );
    let held = decide_at(100_000, slice::from_ref(&waiting), &[], &nothing);
    assert_eq!(held.steps, []);
    // There is room for it: from now on it has its five minutes.
    let change = admitted(&waiting).unwrap();
    assert_ne!(change.status, crate::model::claim::ConditionStatus::False);
    let said = waiting.conditions.get_mut("Launched").unwrap();
    said.status = change.status;
    said.reason = change.reason.as_str().to_owned();
    said.since = at(100_000);
    assert_eq!(admitted(&waiting), None, "it is said once");
    let early = decide_at(100_299, slice::from_ref(&waiting), &[], &nothing);
    assert_eq!((early.steps, early.wake), (vec![], Some(at(100_300))));
    assert!(matches!(
        decide_at(100_300, &[waiting], &[], &nothing)
            .steps
            .as_slice(),
        [LifecycleStep::GiveUp { .. }]
    ));
}

#[test]
fn an_instance_that_ends_before_it_joins_is_given_up_at_once() {
    let mut ended = instance("a");
    ended.state = InstanceState::Terminated;
    let decision = decide_at(42, &[launched("a")], &[], &seen(&[ended]));
    assert!(matches!(
        decision.steps.as_slice(),
        [LifecycleStep::GiveUp {
            reason: GiveUp::InstanceEnded,
            ..
        }]
    ));
    // A fresh instance may be invisible for a while.
    let mut view = InstanceView::default();
    view.answered(&BTreeSet::from(["i-a".to_owned()]), &[], at(41));
    let decision = decide_at(42, &[launched("a")], &[], &view);
    assert_eq!(
        reported(&decision),
        [("Registered", "NodeNotFound".to_owned())]
    );
}

#[test]
fn a_machine_that_ec2_has_for_on_demand_has_left_its_reservation() {
    let left_after = |seconds: i64, said: &str, state: InstanceState| {
        let mut claim = initialized("a");
        Arc::make_mut(&mut claim.labels).insert(labels::CAPACITY_TYPE.to_owned(), said.to_owned());
        let shown = Instance {
            state,
            ..instance("a")
        };
        let mut view = seen(slice::from_ref(&shown));
        view.answered(&BTreeSet::new(), &[Arc::new(shown)], at(41 + seconds));
        let decision = decide_at(700, &[claim], &[node("a")], &view);
        decision
            .steps
            .iter()
            .any(|step| matches!(step, LifecycleStep::LeaveReservation { .. }))
    };
    let left = |said: &str, state: InstanceState| left_after(5, said, state);
    assert!(left("reserved", InstanceState::Running));
    // One answer is not believed: the labels would never come back.
    assert!(!left_after(4, "reserved", InstanceState::Running));
    assert!(!left("on-demand", InstanceState::Running));
    assert!(!left("spot", InstanceState::Running));
    // EC2 may not say yet where a machine is that starts, or no longer where one was.
    assert!(!left("reserved", InstanceState::Pending));
    assert!(!left("reserved", InstanceState::ShuttingDown));
    // Nobody has looked.
    let mut claim = initialized("a");
    Arc::make_mut(&mut claim.labels)
        .insert(labels::CAPACITY_TYPE.to_owned(), "reserved".to_owned());
    let unseen = decide_at(700, &[claim], &[node("a")], &InstanceView::default());
    assert_eq!(unseen.steps, []);
}
