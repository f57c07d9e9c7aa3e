//! Which nodes go as empty, told as stories of pods.

use std::slice;

use super::*;
use crate::model::labels::LabelSet;
use crate::model::node_pool::{BudgetNodes, PoolBudget};
use crate::model::pod::PodPhase;
use crate::plan::examples::{
    as_empty, at, claim, daemon, fenced, initialized, launched, node, node_pool, pod, world,
};

/// Plays seconds of a world in which pods come and go; gives back the last decision.
fn play(story: &[(i64, &[Pod])], claims: &[Claim], nodes: &[Node]) -> Decision<EmptyStep> {
    let mut memory = EmptyMemory::default();
    let mut last = Decision::default();
    for (second, pods) in story {
        let snapshot = world(*second, claims, nodes, pods);
        memory.observe(&snapshot, None);
        last = decide(&snapshot, &memory);
    }
    last
}

fn fence(node: &mut Node, claim: &mut Claim) {
    *node = fenced("a");
    *claim = as_empty(claim.clone());
    if let Some(found) = claim.conditions.get_mut("DisruptionReason") {
        found.message = "no pods were left on the node".to_owned();
    }
}

#[test]
fn a_node_goes_after_consolidate_after_without_work_fenced_first() {
    let mut claim = initialized("a");
    let mut machine = node("a");
    let busy = [pod("job", "ip-a"), daemon("logs", "ip-a")];
    let idle = [daemon("logs", "ip-a")];
    let story: &[(i64, &[Pod])] = &[(100, &busy), (200, &idle), (229, &idle)];
    let waiting = play(story, &[claim.clone()], &[machine.clone()]);
    assert_eq!(waiting.wake, Some(at(230)));
    assert!(
        waiting
            .steps
            .iter()
            .all(|step| matches!(step, EmptyStep::Touch { .. }))
    );

    let story: &[(i64, &[Pod])] = &[(100, &busy), (200, &idle), (230, &idle)];
    let due = play(story, &[claim.clone()], &[machine.clone()]);
    assert!(matches!(due.steps.as_slice(), [EmptyStep::Fence { .. }]));

    fence(&mut machine, &mut claim);
    let gone = play(story, &[claim.clone()], &[machine.clone()]);
    assert!(matches!(gone.steps.as_slice(), [EmptyStep::Remove { .. }]));

    let story: &[(i64, &[Pod])] = &[(230, &idle), (231, &busy)];
    let back = play(story, &[claim], &[machine]);
    assert!(matches!(back.steps.as_slice(), [EmptyStep::Unfence { .. }]));
}

#[test]
fn half_a_fence_is_taken_off_a_node_in_use_and_off_no_node_that_goes() {
    let busy = [pod("job", "ip-a")];
    let (mut unwritten, mut machine) = (initialized("a"), node("a"));
    fence(&mut machine, &mut unwritten);
    let back = play(
        &[(230, &busy)],
        &[initialized("a")],
        slice::from_ref(&machine),
    );
    assert!(matches!(back.steps.as_slice(), [EmptyStep::Unfence { .. }]));
    machine.deleting_since = Some(at(220));
    let going = play(&[(230, &busy)], &[initialized("a")], &[machine]);
    assert_eq!(going.steps, []);
}

#[test]
fn when_a_node_fell_idle_is_written_down_once() {
    let busy = [pod("job", "ip-a")];
    let story: &[(i64, &[Pod])] = &[(100, &busy), (200, &[])];
    let decision = play(story, &[initialized("a")], &[node("a")]);
    assert!(matches!(
        decision.steps.as_slice(),
        [EmptyStep::Touch { at: time, .. }] if *time == at(200)
    ));
    let mut written = initialized("a");
    written.last_pod_event = Some(at(200));
    assert_eq!(play(story, &[written.clone()], &[node("a")]).steps, []);
    // After a restart the status counts.
    let restarted = play(&[(215, &[])], &[written], &[node("a")]);
    assert_eq!(restarted.wake, Some(at(230)));
}

#[test]
fn an_ended_pod_is_no_work_and_a_nominated_one_is() {
    let mut ended = pod("job", "ip-a");
    ended.phase = PodPhase::Succeeded;
    let decision = play(&[(500, &[ended])], &[initialized("a")], &[node("a")]);
    assert!(matches!(
        decision.steps.as_slice(),
        [EmptyStep::Fence { .. }]
    ));
    let mut coming = pod("next", "");
    coming.node_name = None;
    coming.nominated_node = Some("ip-a".to_owned());
    assert_eq!(
        play(&[(500, &[coming])], &[initialized("a")], &[node("a")]).steps,
        []
    );
}

fn waiting_pod() -> Pod {
    let mut waiting = pod("next", "");
    waiting.node_name = None;
    waiting.phase = PodPhase::Pending;
    waiting
}

fn planned(second: i64, onto: &[&str]) -> Planned {
    Planned {
        at: at(second),
        onto: onto
            .iter()
            .map(|name| ((*name).to_owned(), Vec::new()))
            .collect(),
    }
}

#[test]
fn a_node_that_its_claim_does_not_name_yet_stays_while_pods_are_planned_onto_it() {
    let mut coming = node("a");
    coming.labels = LabelSet::default();
    let mut memory = EmptyMemory::default();
    let mut steps_at = |second: i64, onto: &[&str]| {
        let snapshot = world(
            second,
            &[launched("a")],
            slice::from_ref(&coming),
            &[waiting_pod()],
        );
        memory.observe(&snapshot, Some(&planned(second, onto)));
        decide(&snapshot, &memory).steps.len()
    };
    for second in [500, 540, 580] {
        assert_eq!(steps_at(second, &["ip-a"]), 0, "{second}");
    }
    assert_eq!(steps_at(600, &[]), 0, "it may be between two plans");
    assert_eq!(steps_at(631, &[]), 1, "nobody wants it");
}

#[test]
fn a_node_that_waiting_pods_are_planned_onto_stays() {
    let snapshot = world(500, &[initialized("a")], &[node("a")], &[waiting_pod()]);
    let steps = |planned: Option<&Planned>| {
        let mut memory = EmptyMemory::default();
        memory.observe(&snapshot, planned);
        decide(&snapshot, &memory).steps.len()
    };
    assert_eq!(steps(Some(&planned(490, &["ip-a"]))), 0);
    assert_eq!(steps(Some(&planned(490, &["ip-b"]))), 1);
    assert_eq!(
        steps(Some(&planned(400, &["ip-a"]))),
        1,
        "an old plan holds nothing"
    );
}

#[test]
fn no_node_goes_before_the_first_plan_for_pods_that_wait() {
    let mut memory = EmptyMemory::default();
    let mut steps = |second: i64, pods: &[Pod], planned: Option<&Planned>| {
        let snapshot = world(second, &[initialized("a")], &[node("a")], pods);
        memory.observe(&snapshot, planned);
        decide(&snapshot, &memory).steps.len()
    };
    let waiting = [waiting_pod()];
    assert_eq!(steps(500, &waiting, None), 0, "they may go onto it");
    assert_eq!(steps(510, &waiting, Some(&planned(509, &["ip-a"]))), 0);
    assert_eq!(steps(511, &waiting, Some(&planned(510, &["ip-b"]))), 1);
    let mut memory = EmptyMemory::default();
    let mut steps = |second: i64, pods: &[Pod]| {
        let snapshot = world(second, &[initialized("a")], &[node("a")], pods);
        memory.observe(&snapshot, None);
        decide(&snapshot, &memory).steps.len()
    };
    assert_eq!(steps(500, &waiting), 0);
    assert_eq!(steps(519, &waiting), 0);
    assert_eq!(steps(520, &waiting), 1, "whoever plans is held up");
}

#[test]
fn a_machine_for_pods_whose_eviction_is_held_up_stays() {
    let mut leaving = initialized("old");
    leaving.deleting_since = Some(at(400));
    let claims = [leaving, initialized("new")];
    let nodes = [node("old"), node("new")];
    let steps = |pods: &[Pod]| {
        let snapshot = world(500, &claims, &nodes, pods);
        let mut memory = EmptyMemory::default();
        memory.observe(&snapshot, Some(&planned(495, &["ip-new"])));
        decide(&snapshot, &memory).steps.len()
    };
    assert_eq!(steps(&[pod("held", "ip-old")]), 0);
    assert_eq!(steps(&[]), 1, "once it is gone nothing keeps the machine");
}

#[test]
fn a_machine_on_its_way_stays_until_a_fresh_plan_finds_no_use_for_it() {
    let coming = claim("a", &["c5.xlarge/us-east-1a/spot"]);
    let mut memory = EmptyMemory::default();
    let mut steps = |second: i64, pods: &[Pod], planned: Option<&Planned>| {
        let snapshot = world(second, slice::from_ref(&coming), &[], pods);
        memory.observe(&snapshot, planned);
        decide(&snapshot, &memory).steps.len()
    };
    assert_eq!(
        steps(100, &[waiting_pod()], None),
        0,
        "no plan was made yet"
    );
    assert_eq!(
        steps(200, &[waiting_pod()], Some(&planned(100, &[]))),
        0,
        "the plan is old"
    );
    assert_eq!(steps(210, &[waiting_pod()], Some(&planned(209, &["a"]))), 0);
    assert_eq!(steps(220, &[waiting_pod()], Some(&planned(219, &["b"]))), 0);
    assert_eq!(steps(249, &[waiting_pod()], Some(&planned(248, &["b"]))), 0);
    assert_eq!(steps(250, &[waiting_pod()], Some(&planned(249, &["b"]))), 1);
    assert_eq!(steps(250, &[], None), 1, "nobody waits");
}

#[test]
fn a_claim_whose_pods_went_away_before_it_was_usable_goes_too_but_not_at_once() {
    let unused = claim("a", &["c5.xlarge/us-east-1a/spot"]);
    let mut snapshot = world(10, &[unused], &[], &[]);
    let mut pool = node_pool("general");
    pool.consolidate_after = Some(SignedDuration::ZERO);
    snapshot
        .node_pools
        .insert("general".to_owned(), Arc::new(pool));
    let mut memory = EmptyMemory::default();
    memory.observe(&snapshot, None);
    assert_eq!(decide(&snapshot, &memory).wake, Some(at(40)));
    snapshot.now = at(40);
    memory.observe(&snapshot, None);
    assert!(matches!(
        decide(&snapshot, &memory).steps.as_slice(),
        [EmptyStep::Remove { .. }]
    ));
}

#[test]
fn what_people_keep_is_kept() {
    let mut machine = node("a");
    machine
        .annotations
        .insert(labels::DO_NOT_DISRUPT.to_owned(), "true".to_owned());
    assert_eq!(
        play(&[(500, &[])], &[initialized("a")], &[machine]).steps,
        []
    );
    for change in [
        |pool: &mut NodePool| pool.paused = true,
        |pool: &mut NodePool| pool.consolidate_after = None,
    ] {
        let mut snapshot = world(500, &[initialized("a")], &[node("a")], &[]);
        let mut pool = node_pool("general");
        change(&mut pool);
        snapshot
            .node_pools
            .insert("general".to_owned(), Arc::new(pool));
        let mut memory = EmptyMemory::default();
        memory.observe(&snapshot, None);
        assert_eq!(decide(&snapshot, &memory).steps, []);
    }
}

#[test]
fn the_default_budget_does_not_hold_empty_nodes_back_but_one_that_names_them_does() {
    let claims: Vec<Claim> = ["a", "b", "c"].into_iter().map(initialized).collect();
    let nodes: Vec<Node> = ["a", "b", "c"].into_iter().map(node).collect();
    let steps = |nodes_allowed, reasons: &[&str]| {
        let mut snapshot = world(500, &claims, &nodes, &[]);
        let mut pool = node_pool("general");
        pool.budgets = vec![PoolBudget {
            nodes: nodes_allowed,
            reasons: reasons.iter().map(|reason| (*reason).to_owned()).collect(),
            window: None,
        }];
        snapshot
            .node_pools
            .insert("general".to_owned(), Arc::new(pool));
        let mut memory = EmptyMemory::default();
        memory.observe(&snapshot, None);
        decide(&snapshot, &memory).steps.len()
    };
    assert_eq!(steps(BudgetNodes::Percent(10), &[]), 3);
    assert_eq!(steps(BudgetNodes::Percent(34), &["Empty"]), 2);
    assert_eq!(steps(BudgetNodes::Count(1), &["Drifted"]), 3);
    assert_eq!(steps(BudgetNodes::Count(0), &[]), 0, "zero is a freeze");
}

#[test]
fn work_on_a_node_that_its_claim_does_not_name_yet_keeps_both() {
    let busy = [pod("job", "ip-a")];
    let story: &[(i64, &[Pod])] = &[(100, &busy), (500, &busy)];
    let kept = play(story, &[launched("a")], &[node("a")]);
    assert_eq!(kept.steps, []);
    let story: &[(i64, &[Pod])] = &[(100, &busy), (200, &[]), (500, &[])];
    let spare = play(story, &[launched("a")], &[node("a")]);
    assert!(matches!(spare.steps.as_slice(), [EmptyStep::Fence { .. }]));
}
