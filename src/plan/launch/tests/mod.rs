//! Launch decisions, told as stories of a batch.

mod deleted;
mod doubted;
mod exhausted;
mod no_shows;
mod paused;
mod prices;
mod rate;
mod restored;

use std::num::NonZeroU32;

use super::*;
use crate::model::claim::ConditionStatus;
use crate::model::launch::{
    ErrorClass, LaunchOutcome, LaunchOverride, LaunchedInstance, Shortfall,
};
use crate::plan::examples::{at, claim, launched, offering, world};

const SPOT_A: &str = "c5.xlarge/us-east-1a/spot";
const SPOT_B: &str = "c5.xlarge/us-east-1b/spot";
const DEMAND_A: &str = "c5.xlarge/us-east-1a/on-demand";
const ALL: &[&str] = &[SPOT_A, SPOT_B, DEMAND_A];

fn template(offerings: &[OfferingKey]) -> Vec<TemplateOverrides> {
    vec![TemplateOverrides {
        name: "tonnage-1".to_owned(),
        overrides: offerings
            .iter()
            .zip(0..)
            .map(|(offering, priority)| LaunchOverride {
                instance_type: offering.instance_type.to_string(),
                zone: offering.zone.to_string(),
                subnet: "subnet-a".to_owned(),
                priority,
            })
            .collect(),
    }]
}

fn only(decision: Decision<LaunchStep>) -> LaunchStep {
    assert_eq!(decision.steps.len(), 1, "{:#?}", decision.steps);
    decision.steps.into_iter().next().unwrap()
}

fn proposal(decision: Decision<LaunchStep>) -> Proposal {
    match only(decision) {
        LaunchStep::Propose(proposal) => proposal,
        other => panic!("{other:#?}"),
    }
}

/// The claims of a proposal with its record written onto them.
fn recorded(proposal: &Proposal) -> (LaunchRecord, Vec<Claim>) {
    let record = proposal.record(template(&proposal.offerings));
    let claims = proposal
        .claims
        .iter()
        .map(|claim| {
            let mut claim = Claim::clone(claim);
            claim.launch = Some(Arc::new(record.clone()));
            claim
        })
        .collect();
    (record, claims)
}

fn short(text: &str) -> Shortfall {
    Shortfall {
        offering: Some(offering(text)),
        class: ErrorClass::InsufficientCapacity,
        code: "InsufficientInstanceCapacity".to_owned(),
        message: String::new(),
    }
}

fn bought(id: &str, text: &str) -> LaunchedInstance {
    LaunchedInstance {
        id: id.to_owned(),
        offering: offering(text),
        image_id: "ami-1".to_owned(),
        subnet_id: "subnet-a".to_owned(),
    }
}

#[test]
fn claims_that_want_the_same_are_one_batch_of_the_first_capacity_type() {
    let claims = [claim("b", ALL), claim("a", ALL), claim("c", &[DEMAND_A])];
    let decision = decide(&world(1, &claims, &[], &[]), &LaunchMemory::new(at(0)));
    let mut proposals: Vec<Proposal> = decision
        .steps
        .into_iter()
        .map(|step| match step {
            LaunchStep::Propose(proposal) => proposal,
            other => panic!("{other:#?}"),
        })
        .collect();
    proposals.sort_by_key(|proposal| proposal.claims.len());
    assert_eq!(proposals.len(), 2);
    let pair = &proposals[1];
    assert_eq!(pair.attempt, 1);
    assert_eq!(pair.capacity_type, CapacityType::Spot);
    assert_eq!(pair.offerings, [offering(SPOT_A), offering(SPOT_B)]);
    assert_eq!(pair.batch, batch_id(["uid-b", "uid-a"]));
    assert_eq!(proposals[0].capacity_type, CapacityType::OnDemand);
}

#[test]
fn a_written_record_is_called_and_called_again_unchanged_until_it_is_answered() {
    let start = world(1, &[claim("a", ALL), claim("b", ALL)], &[], &[]);
    let mut memory = LaunchMemory::new(at(0));
    let (record, claims) = recorded(&proposal(decide(&start, &memory)));
    for second in [1, 100, 1_000] {
        // A shortage learned meanwhile must not change a call that may have been made already.
        memory.shortages.note(
            &offering(SPOT_A),
            ErrorClass::InsufficientCapacity,
            at(second),
        );
        match only(decide(&world(second, &claims, &[], &[]), &memory)) {
            LaunchStep::Call(batch) => {
                assert_eq!(batch.record, record);
                assert_eq!(batch.claims.len(), 2);
            }
            other => panic!("{other:#?}"),
        }
    }
}

/// Half a record, seen between two writes, would be completed twice or called with half of its claims.
#[test]
fn nothing_is_decided_about_claims_while_their_record_is_being_written() {
    let start = world(1, &[claim("a", ALL), claim("b", ALL)], &[], &[]);
    let mut memory = LaunchMemory::new(at(0));
    let chosen = proposal(decide(&start, &memory));
    let (record, mut claims) = recorded(&chosen);
    claims[1].launch = None;
    let half = world(1, &claims, &[], &[]);
    memory.take(&chosen.claims);
    assert_eq!(decide(&half, &memory).steps, []);
    memory.let_go(&chosen.claims);
    match only(decide(&half, &memory)) {
        LaunchStep::Complete {
            record: again,
            missing,
        } => {
            assert_eq!(again, record);
            assert_eq!(missing.len(), 1);
            assert_eq!(missing[0].name, "b");
        }
        other => panic!("{other:#?}"),
    }
}

#[test]
fn after_a_partial_fleet_the_rest_is_a_batch_of_its_own() {
    let mut memory = LaunchMemory::new(at(0));
    let start = world(
        1,
        &[claim("a", ALL), claim("b", ALL), claim("c", ALL)],
        &[],
        &[],
    );
    let (record, claims) = recorded(&proposal(decide(&start, &memory)));
    let outcome = LaunchOutcome {
        instances: vec![bought("i-2", SPOT_A)],
        shortfalls: vec![short(SPOT_A), short(SPOT_B)],
    };
    let shared: Vec<Arc<Claim>> = claims.iter().cloned().map(Arc::new).collect();
    let instances: Vec<BatchInstance> = outcome.instances.iter().map(Into::into).collect();
    let pairs = assign(&shared, &instances);
    assert_eq!(pairs.len(), 1);
    assert_eq!(pairs[0].0.name, "a");
    memory.answered(&record, None, &outcome, at(2));

    let mut after = claims;
    let status = launched_status(
        &instances[0],
        start.node_classes.get("default").map(|class| &**class),
        &after[0].requests,
    );
    assert_eq!(status.provider_id, "aws:///us-east-1a/i-2");
    assert_eq!(status.labels["topology.kubernetes.io/region"], "us-east-1");
    assert_eq!(status.allocatable.get("cpu"), 3_920);
    after[0].provider_id = status.provider_id;
    let rest = proposal(decide(&world(2, &after, &[], &[]), &memory));
    assert_eq!(rest.attempt, 1);
    assert_eq!(rest.batch, batch_id(["uid-b", "uid-c"]));
    assert_eq!(rest.offerings, [offering(DEMAND_A)]);
}

#[test]
fn an_empty_look_is_believed_only_once_ec2_would_show_everything() {
    let mut memory = LaunchMemory::new(at(0));
    let start = world(1, &[claim("a", ALL)], &[], &[]);
    let (record, mut claims) = recorded(&proposal(decide(&start, &memory)));
    claims[0].deleting_since = Some(at(10));
    memory.chosen(&record, at(1));
    assert!(
        memory.visible_at(&record) < at(1),
        "what nobody called has bought nothing"
    );
    memory.called(&record, at(2));
    memory.unanswered(&record, at(62));
    assert_eq!(memory.visible_at(&record), at(182));
    memory.looked(&record, at(65));
    let decision = decide(&world(66, &claims, &[], &[]), &memory);
    assert_eq!((decision.steps.len(), decision.wake), (0, Some(at(80))));
    assert!(matches!(
        only(decide(&world(80, &claims, &[], &[]), &memory)),
        LaunchStep::LookUp(_)
    ));
    memory.looked(&record, at(179));
    let decision = decide(&world(180, &claims, &[], &[]), &memory);
    assert_eq!(
        decision.wake,
        Some(at(182)),
        "the last look is when all shows"
    );

    // Who started later cannot know when the last call was made, but that it was before: it may be on its way for a minute.
    let restarted = LaunchMemory::new(at(500));
    assert_eq!(restarted.visible_at(&record), at(680));
    assert!(!restarted.bought_nothing(&record));
}

#[test]
fn a_refusal_settles_a_record_that_has_no_lost_answer() {
    let mut memory = LaunchMemory::new(at(0));
    let start = world(1, &[claim("a", ALL)], &[], &[]);
    let (record, _claims) = recorded(&proposal(decide(&start, &memory)));
    memory.chosen(&record, at(1));
    for second in [2, 3] {
        let before = memory.called(&record, at(second));
        assert!(!memory.bought_nothing(&record), "the call is under way");
        memory.took_no_effect(&record, before, at(second));
        assert!(memory.bought_nothing(&record), "refused, once or twice");
    }
    memory.called(&record, at(4));
    memory.unanswered(&record, at(5));
    for second in [10, 50, 100] {
        let before = memory.called(&record, at(second));
        memory.took_no_effect(&record, before, at(second));
        assert!(!memory.bought_nothing(&record));
        assert_eq!(
            memory.visible_at(&record),
            at(125),
            "refusals do not put off the time when EC2 shows everything"
        );
    }
    let next = LaunchRecord {
        attempt: 2,
        ..record
    };
    memory.chosen(&next, at(105));
    assert!(
        memory.bought_nothing(&next),
        "another attempt, another token"
    );
}

#[test]
fn a_claim_that_takes_no_record_holds_up_nobody() {
    let mut memory = LaunchMemory::new(at(0));
    let names = ["a", "b", "c"].map(|name| claim(name, ALL));
    let start = world(1, &names, &[], &[]);
    let (_record, mut claims) = recorded(&proposal(decide(&start, &memory)));
    claims[1].launch = None;
    memory.set_alone(&claims[1]);
    let steps = decide(&world(2, &claims, &[], &[]), &memory).steps;
    let told: Vec<(&str, usize)> = steps
        .iter()
        .map(|step| match step {
            LaunchStep::LookUp(batch) => ("look up", batch.claims.len()),
            LaunchStep::Propose(proposal) => ("propose", proposal.claims.len()),
            other => panic!("{other:#?}"),
        })
        .collect();
    assert_eq!(told, [("look up", 2), ("propose", 1)]);
    let LaunchStep::LookUp(batch) = &steps[0] else {
        panic!("{steps:#?}")
    };
    memory.settled(&batch.record);
    let steps = decide(&world(3, &claims, &[], &[]), &memory).steps;
    let sizes: Vec<usize> = steps
        .iter()
        .filter_map(|step| match step {
            LaunchStep::Propose(proposal) => Some(proposal.claims.len()),
            _ => None,
        })
        .collect();
    assert_eq!(sizes, [2, 1], "the others are bought without it");
}

#[test]
fn no_minute_launches_more_than_the_ceiling_and_the_rest_says_why_it_waits() {
    let mut memory = LaunchMemory::new(at(0)).with_ceiling(NonZeroU32::new(2));
    let mut claims: Vec<Claim> = ["a", "b", "c", "d", "e"]
        .iter()
        .map(|name| claim(name, ALL))
        .collect();
    let mut launched = Vec::new();
    for second in [0, 30, 61, 100, 125] {
        let decision = decide(&world(second, &claims, &[], &[]), &memory);
        let wake = decision.wake;
        let mut waits = 0;
        let mut names = Vec::new();
        for step in decision.steps {
            match step {
                LaunchStep::Propose(proposal) => {
                    let (record, _claims) = recorded(&proposal);
                    memory.chosen(&record, at(second));
                    memory.called(&record, at(second));
                    let instances = proposal
                        .claims
                        .iter()
                        .map(|claim| bought(&format!("i-{}", claim.name), SPOT_A))
                        .collect();
                    let outcome = LaunchOutcome {
                        instances,
                        shortfalls: Vec::new(),
                    };
                    memory.answered(&record, None, &outcome, at(second));
                    names.extend(proposal.claims.iter().map(|claim| claim.name.clone()));
                }
                LaunchStep::Report { change, .. } => {
                    assert_eq!(change.reason.as_str(), CEILING);
                    assert_eq!(change.status, ConditionStatus::False);
                    waits += 1;
                }
                other => panic!("{other:#?}"),
            }
        }
        claims.retain(|claim| !names.contains(&claim.name));
        launched.push((names.len(), waits, wake.is_some()));
    }
    assert_eq!(
        launched,
        [
            (2, 0, true),
            (0, 3, true),
            (2, 0, true),
            (0, 1, true),
            (1, 0, false)
        ]
    );
}

#[test]
fn what_was_refused_leaves_room_for_others() {
    let mut memory = LaunchMemory::new(at(0)).with_ceiling(NonZeroU32::new(2));
    let start = world(1, &[claim("a", ALL), claim("b", ALL)], &[], &[]);
    let (record, _claims) = recorded(&proposal(decide(&start, &memory)));
    memory.chosen(&record, at(1));
    let before = memory.called(&record, at(1));
    assert_eq!(memory.pace.room(at(1)), 0);
    memory.took_no_effect(&record, before, at(2));
    assert_eq!(memory.pace.room(at(2)), 2);
}

#[test]
fn what_ec2_refused_stands_behind_what_it_may_accept() {
    let mut memory = LaunchMemory::new(at(0)).with_ceiling(NonZeroU32::new(1));
    let start = world(1, &[claim("a", ALL)], &[], &[]);
    let first = proposal(decide(&start, &memory));
    assert!(memory.reserve(&first, at(1)).is_ok());
    let (record, mut claims) = recorded(&first);
    memory.chosen(&record, at(1));
    let before = memory.called(&record, at(1));
    memory.took_no_effect(&record, before, at(2));
    memory.settled(&record);
    claims.push(claim("b", &[SPOT_B]));
    let steps = decide(&world(3, &claims, &[], &[]), &memory).steps;
    let [LaunchStep::Propose(good), LaunchStep::Propose(refused)] = steps.as_slice() else {
        panic!("{steps:#?}")
    };
    assert_eq!(
        (&*good.claims[0].name, &*refused.claims[0].name),
        ("b", "a")
    );
    // Who fails before its record is written leaves the room to the other.
    let before = memory.reserve(refused, at(3)).unwrap();
    assert!(memory.reserve(good, at(3)).is_err());
    memory.give_back(refused, before);
    assert!(memory.reserve(good, at(4)).is_ok());
    assert!(memory.reserve(refused, at(4)).is_err());
}

#[test]
fn a_half_written_record_is_completed_not_called() {
    let memory = LaunchMemory::new(at(0));
    let start = world(1, &[claim("a", ALL), claim("b", ALL)], &[], &[]);
    let (_record, mut claims) = recorded(&proposal(decide(&start, &memory)));
    claims[1].launch = None;
    // A claim that came later and wants the same must not be mistaken for the missing one.
    let mut later = claim("later", ALL);
    later.created = at(5);
    claims.push(later);
    let decision = decide(&world(6, &claims, &[], &[]), &memory);
    let [complete, propose] = decision.steps.as_slice() else {
        panic!("{:#?}", decision.steps)
    };
    assert!(matches!(
        complete,
        LaunchStep::Complete { missing, .. } if missing.len() == 1 && missing[0].name == "b"
    ));
    assert!(matches!(
        propose,
        LaunchStep::Propose(proposal) if proposal.claims.len() == 1 && proposal.claims[0].name == "later"
    ));
}

#[test]
fn a_record_whose_other_claims_cannot_be_proven_is_looked_up_not_repeated() {
    let memory = LaunchMemory::new(at(0));
    let start = world(1, &[claim("a", ALL), claim("b", ALL)], &[], &[]);
    let (_record, mut claims) = recorded(&proposal(decide(&start, &memory)));
    claims.truncate(1);
    assert!(matches!(
        only(decide(&world(2, &claims, &[], &[]), &memory)),
        LaunchStep::LookUp(_)
    ));
}

#[test]
fn a_half_written_second_attempt_is_completed() {
    let mut memory = LaunchMemory::new(at(0));
    let start = world(1, &[claim("a", ALL), claim("b", ALL)], &[], &[]);
    let (record, claims) = recorded(&proposal(decide(&start, &memory)));
    memory.answered(
        &record,
        None,
        &LaunchOutcome {
            instances: Vec::new(),
            shortfalls: vec![short(SPOT_A)],
        },
        at(1),
    );
    let (_second, mut written) = recorded(&proposal(decide(&world(1, &claims, &[], &[]), &memory)));
    written[1].launch = Some(Arc::new(record));
    assert!(matches!(
        only(decide(&world(2, &written, &[], &[]), &LaunchMemory::new(at(0)))),
        LaunchStep::Complete { record, missing } if record.attempt == 2 && missing[0].name == "b"
    ));
}

#[test]
fn instances_map_by_provider_id_then_tag_then_order_and_dead_ones_last() {
    let mut known = launched("k");
    known.provider_id = "aws:///us-east-1a/i-1".to_owned();
    let claims: Vec<Arc<Claim>> = [known, claim("a", ALL), claim("b", ALL), claim("c", ALL)]
        .into_iter()
        .map(Arc::new)
        .collect();
    let seen = |id: &str, claim: Option<&str>, ending| BatchInstance {
        claim: claim.map(str::to_owned),
        ending,
        ..(&bought(id, SPOT_A)).into()
    };
    let instances = [
        seen("i-0", None, true),
        seen("i-1", None, false),
        seen("i-2", None, false),
        seen("i-3", Some("a"), false),
        seen("i-4", Some("somebody-else"), false),
    ];
    let pairs: Vec<(String, String)> = assign(&claims, &instances)
        .into_iter()
        .map(|(claim, instance)| (claim.name.clone(), instance.id))
        .collect();
    let expected = [("a", "i-3"), ("b", "i-2"), ("c", "i-0")];
    assert_eq!(
        pairs,
        expected.map(|(claim, id)| (claim.to_owned(), id.to_owned()))
    );
}

#[test]
fn a_missing_node_class_is_said_once() {
    let mut snapshot = world(1, &[claim("a", ALL)], &[], &[]);
    snapshot.node_classes.clear();
    let LaunchStep::Report { change, .. } = only(decide(&snapshot, &LaunchMemory::new(at(0))))
    else {
        panic!("no report");
    };
    assert_eq!(change.reason, ConditionReason::NodeClassNotFound);
    let mut told = claim("a", ALL);
    told.conditions.insert(
        "Launched".to_owned(),
        crate::model::claim::ClaimCondition {
            status: ConditionStatus::Unknown,
            reason: change.reason.as_str().to_owned(),
            message: change.message,
            since: at(1),
        },
    );
    let mut snapshot = world(2, &[told], &[], &[]);
    snapshot.node_classes.clear();
    assert_eq!(decide(&snapshot, &LaunchMemory::new(at(0))).steps, []);
}

#[test]
fn shortages_last_longer_each_time_and_are_cleared_by_a_purchase() {
    let mut shortages = Shortages::default();
    let key = offering(SPOT_A);
    shortages.note(&key, ErrorClass::InsufficientCapacity, at(0));
    assert_eq!(shortages.until(&key, at(1)), Some(at(60)));
    shortages.note(&key, ErrorClass::InsufficientCapacity, at(70));
    assert_eq!(shortages.until(&key, at(71)), Some(at(190)));
    let mut snapshot = world(71, &[], &[], &[]);
    shortages.mark(&mut snapshot);
    let catalogue = &snapshot.node_classes["default"].catalogue;
    let unavailable: Vec<String> = catalogue
        .offerings
        .iter()
        .filter(|offering| !offering.available)
        .map(|offering| offering.key.to_string())
        .collect();
    assert_eq!(unavailable, [SPOT_A]);
    shortages.note(&key, ErrorClass::Throttled, at(300));
    assert!(
        !shortages.is_short(&key, at(300)),
        "throttling says nothing of capacity"
    );
    let record = LaunchRecord {
        batch: "b".to_owned(),
        attempt: 1,
        size: 1,
        capacity_type: CapacityType::Spot,
        reservation: None,
        templates: template(std::slice::from_ref(&key)),
    };
    let nothing = LaunchOutcome::default();
    shortages.learn(&record, &nothing, at(400));
    assert!(
        shortages.is_short(&key, at(401)),
        "an empty answer must not be asked for again at once"
    );
    let outcome = LaunchOutcome {
        instances: vec![bought("i-1", SPOT_A)],
        shortfalls: Vec::new(),
    };
    shortages.learn(&record, &outcome, at(402));
    assert!(!shortages.is_short(&key, at(403)));
}
