//! Claims of which nothing can be bought any more.

use super::*;
use crate::model::node_pool::NodePool;
use crate::model::offering::Offering;
use crate::model::pod::{Pod, PodConstraints, PodKey, PodSpec};
use crate::model::resources::Resources;
use crate::plan::examples::{node_class, zone_spread};
use crate::plan::provision::promise;

/// What EC2 offers.
fn set_offerings(snapshot: &mut Snapshot, change: impl Fn(&mut Vec<Offering>)) {
    let mut class = node_class();
    let mut catalogue = (*class.catalogue).clone();
    change(&mut catalogue.offerings);
    class.catalogue = Arc::new(catalogue);
    snapshot
        .node_classes
        .insert(class.name.clone(), Arc::new(class));
}

fn is_named(offering: &Offering) -> bool {
    ALL.contains(&offering.key.to_string().as_str())
}

/// The claims of a batch that found nothing anywhere, and what is known then.
fn walked_through() -> (LaunchMemory, Vec<Claim>) {
    let mut memory = LaunchMemory::new(at(0));
    let mut claims = vec![claim("a", ALL)];
    for missing in [SPOT_A, SPOT_B, DEMAND_A] {
        let proposal = proposal(decide(&world(1, &claims, &[], &[]), &memory));
        let (record, with_record) = recorded(&proposal);
        let outcome = LaunchOutcome {
            instances: Vec::new(),
            shortfalls: vec![short(missing)],
        };
        memory.answered(&record, None, &outcome, at(1));
        claims = with_record;
    }
    (memory, claims)
}

#[test]
fn what_ec2_refuses_to_a_class_is_said_so_and_held_against_no_other_class() {
    let mut memory = LaunchMemory::new(at(0));
    let mut claims = vec![claim("a", &[SPOT_A])];
    let mut snapshot = world(1, &claims, &[], &[]);
    set_offerings(&mut snapshot, |offerings| offerings.retain(is_named));
    let (record, with_record) = recorded(&proposal(decide(&snapshot, &memory)));
    let outcome = LaunchOutcome {
        instances: Vec::new(),
        shortfalls: vec![Shortfall {
            class: ErrorClass::Invalid,
            code: "InvalidBlockDeviceMapping".to_owned(),
            message: "the volume is smaller than the snapshot".to_owned(),
            ..short(SPOT_A)
        }],
    };
    let class = Arc::clone(&snapshot.node_classes["default"]);
    memory.answered(&record, Some(&class), &outcome, at(1));
    claims = with_record;
    let mut other = claim("b", &[SPOT_A]);
    other.node_class = "other".to_owned();
    claims.push(other);
    let mut snapshot = world(2, &claims, &[], &[]);
    set_offerings(&mut snapshot, |offerings| {
        offerings.retain(|found| found.key == offering(SPOT_A));
    });
    let mut good = NodeClass::clone(&snapshot.node_classes["default"]);
    good.name = "other".to_owned();
    snapshot
        .node_classes
        .insert("other".to_owned(), Arc::new(good));
    let steps = decide(&snapshot, &memory).steps;
    let told: Vec<&str> = steps
        .iter()
        .map(|step| match step {
            LaunchStep::Propose(proposal) => proposal.claims[0].name.as_str(),
            LaunchStep::GiveUp {
                reason, message, ..
            } => {
                assert!(message.contains("InvalidBlockDeviceMapping"), "{message}");
                reason
            }
            other => panic!("{other:#?}"),
        })
        .collect();
    assert_eq!(told, ["NodeClassRefused", "b"]);
}

#[test]
fn a_claim_that_a_quota_of_the_account_stops_says_so_and_tries_no_other_type_of_it() {
    let mut memory = LaunchMemory::new(at(0));
    let on_demand = |offerings: &mut Vec<Offering>| {
        offerings.retain(|found| found.key.capacity_type == CapacityType::OnDemand);
    };
    let mut snapshot = world(1, &[claim("a", &[DEMAND_A])], &[], &[]);
    set_offerings(&mut snapshot, on_demand);
    let (record, claims) = recorded(&proposal(decide(&snapshot, &memory)));
    let outcome = LaunchOutcome {
        instances: Vec::new(),
        shortfalls: vec![Shortfall {
            class: ErrorClass::QuotaExceeded,
            code: "VcpuLimitExceeded".to_owned(),
            ..short(DEMAND_A)
        }],
    };
    memory.answered(&record, None, &outcome, at(1));
    let mut snapshot = world(2, &claims, &[], &[]);
    set_offerings(&mut snapshot, on_demand);
    let steps = decide(&snapshot, &memory).steps;
    let [LaunchStep::Report { change, .. }] = steps.as_slice() else {
        panic!("{steps:#?}");
    };
    assert_eq!(change.reason.as_str(), "QuotaExceeded");
    assert!(
        change.message.contains("Service Quotas"),
        "{}",
        change.message
    );
}

/// Giving a claim up for something that its pods will not get would have them planned, bought for and given
/// up in a circle.
#[test]
fn a_claim_waits_where_its_pool_can_buy_nothing_else_for_its_pods() {
    type Change = fn(&mut Snapshot, &mut NodePool);
    let (memory, claims) = walked_through();
    let limit: Change = |_snapshot, pool| {
        // Lowered since: not even what the claim gives back is enough.
        pool.limits = Resources::from_iter([("cpu", 3_000)]);
    };
    let delete: Change = |_snapshot, pool| pool.deleting_since = Some(at(0));
    let other_zone: Change = |snapshot, _pool| {
        set_offerings(snapshot, |offerings| {
            for offering in offerings.iter_mut().filter(|found| !is_named(found)) {
                let key = &offering.key;
                offering.key =
                    OfferingKey::new(&key.instance_type, "us-east-1c", key.capacity_type);
            }
        });
    };
    for change in [limit, delete, other_zone] {
        let mut snapshot = world(1, &claims, &[], &[]);
        let mut pool = NodePool::clone(&snapshot.node_pools["general"]);
        change(&mut snapshot, &mut pool);
        snapshot
            .node_pools
            .insert("general".to_owned(), Arc::new(pool));
        match only(decide(&snapshot, &memory)) {
            LaunchStep::Report { change, .. } => {
                assert_eq!(change.reason.as_str(), "InsufficientCapacity");
            }
            other => panic!("{other:#?}"),
        }
    }
}

#[test]
fn a_batch_that_got_nothing_walks_on_from_zone_to_zone_and_from_spot_to_on_demand() {
    let mut memory = LaunchMemory::new(at(0));
    let mut claims = vec![claim("a", ALL)];
    let mut walked = Vec::new();
    for (attempt, missing) in [(1, SPOT_A), (2, SPOT_B), (3, DEMAND_A)] {
        let proposal = proposal(decide(&world(1, &claims, &[], &[]), &memory));
        assert_eq!(proposal.attempt, attempt);
        walked.push(proposal.offerings[0].to_string());
        let (record, with_record) = recorded(&proposal);
        let outcome = LaunchOutcome {
            instances: Vec::new(),
            shortfalls: vec![short(missing)],
        };
        memory.answered(&record, None, &outcome, at(1));
        claims = with_record;
    }
    assert_eq!(walked, ALL);

    // The NodePool may buy larger machines too: they are no longer too dear when these cannot be had.
    match only(decide(&world(1, &claims, &[], &[]), &memory)) {
        LaunchStep::GiveUp {
            claim,
            reason,
            message,
        } => {
            assert_eq!(reason, crate::plan::launch::exhausted::REASON);
            assert_eq!(claim.name, "a");
            assert!(message.contains("3 offerings"), "{message}");
            assert!(message.contains("c5.2xlarge"), "{message}");
        }
        other => panic!("{other:#?}"),
    }
    let nothing_else = |second| {
        let mut snapshot = world(second, &claims, &[], &[]);
        set_offerings(&mut snapshot, |offerings| offerings.retain(is_named));
        snapshot
    };
    let decision = decide(&nothing_else(1), &memory);
    assert_eq!(
        decision.wake,
        Some(at(61)),
        "the first shortage ends after a minute"
    );
    match only(decision) {
        LaunchStep::Report { change, .. } => {
            assert_eq!(change.reason.as_str(), "InsufficientCapacity");
            assert!(change.message.contains("3 offerings"), "{}", change.message);
        }
        other => panic!("{other:#?}"),
    }
    let again = proposal(decide(&nothing_else(62), &memory));
    assert_eq!(again.attempt, 4);
    assert_eq!(again.offerings, [offering(SPOT_A), offering(SPOT_B)]);
}

/// The zone was the plan's choice: to a pod that is spread over zones another is as good, to no other pod.
#[test]
fn a_claim_that_a_spread_put_into_a_zone_is_given_up_for_another_zone() {
    let constraints = PodConstraints {
        spread: vec![zone_spread()],
        ..PodConstraints::default()
    };
    for (constraints, leaves) in [(Some(Arc::new(constraints)), true), (None, false)] {
        let spec = PodSpec {
            constraints,
            ..PodSpec::default()
        };
        let class = promise::class_hash(&spec);
        let pod = Pod::waiting(PodKey::new("default", "p"), Arc::new(spec));
        let around = |claims: &[Claim]| {
            let mut snapshot = world(1, claims, &[], std::slice::from_ref(&pod));
            let is_spot =
                |offering: &Offering| [SPOT_A, SPOT_B].contains(&&*offering.key.to_string());
            set_offerings(&mut snapshot, |offerings| offerings.retain(is_spot));
            snapshot
        };
        let mut memory = LaunchMemory::new(at(0));
        let mut claim = claim("a", &[SPOT_A]);
        let promised = promise::write(&[(class, 1)].into());
        claim
            .annotations
            .insert(promise::PROMISE.to_owned(), promised);
        let proposal = proposal(decide(&around(&[claim]), &memory));
        let (record, claims) = recorded(&proposal);
        let outcome = LaunchOutcome {
            instances: Vec::new(),
            shortfalls: vec![short(SPOT_A)],
        };
        memory.answered(&record, None, &outcome, at(1));
        let step = only(decide(&around(&claims), &memory));
        let is_given_up =
            matches!(&step, LaunchStep::GiveUp { message, .. } if message.contains(SPOT_B));
        assert_eq!(is_given_up, leaves, "{step:#?}");
    }
}

/// Throttling inside a good answer closes nothing: without a rest it would be asked for twice a second.
#[test]
fn what_ec2_could_not_serve_is_asked_for_again_later_each_time() {
    let mut memory = LaunchMemory::new(at(0));
    let mut claims = vec![claim("a", ALL)];
    let (mut second, mut rests) = (1, Vec::new());
    for _attempt in 0..4 {
        let (record, with_record) = recorded(&proposal(decide(
            &world(second, &claims, &[], &[]),
            &memory,
        )));
        let outcome = LaunchOutcome {
            instances: Vec::new(),
            shortfalls: vec![Shortfall {
                class: ErrorClass::Throttled,
                code: "RequestLimitExceeded".to_owned(),
                ..short(SPOT_A)
            }],
        };
        memory.answered(&record, None, &outcome, at(second));
        claims = with_record;
        let decision = decide(&world(second, &claims, &[], &[]), &memory);
        assert_eq!(decision.steps, []);
        let until = decision.wake.unwrap();
        rests.push(until.duration_since(at(second)).as_secs());
        second += rests[rests.len() - 1];
    }
    assert_eq!(rests, [1, 2, 4, 8]);
}

#[test]
fn a_machine_that_does_not_start_is_no_proof_of_capacity() {
    let class = node_class();
    let ending = |code: &str| crate::model::instance::Ending {
        code: code.to_owned(),
        message: "it ended".to_owned(),
    };
    let closed = |code: &str, other: &NodeClass| {
        let mut memory = LaunchMemory::new(at(0));
        let ended = offering(SPOT_A);
        memory.ended_early(Some(&class), ((&ended, None), &[]), &ending(code), at(0));
        memory
            .closed_until(other, (&offering(SPOT_A), None), at(1))
            .is_some()
    };
    let other = NodeClass {
        name: "other".to_owned(),
        ..node_class()
    };
    let cases = [
        ("Client.InternalError", (true, false)),
        ("Server.InsufficientInstanceCapacity", (true, true)),
        ("Client.UserInitiatedShutdown", (false, false)),
    ];
    for (code, expected) in cases {
        assert_eq!(
            (closed(code, &class), closed(code, &other)),
            expected,
            "{code}"
        );
    }
}
