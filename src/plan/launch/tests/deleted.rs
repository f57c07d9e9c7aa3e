//! Claims that are deleted while they are being bought.

use super::*;

#[test]
fn a_claim_deleted_before_its_launch_was_answered_waits_for_a_look_at_ec2() {
    let mut memory = LaunchMemory::new(at(0));
    let start = world(1, &[claim("a", ALL)], &[], &[]);
    let (record, mut claims) = recorded(&proposal(decide(&start, &memory)));
    claims[0].deleting_since = Some(at(10));
    assert!(!memory.is_settled(&claims[0]));
    let early = decide(&world(12, &claims, &[], &[]), &memory);
    assert_eq!((early.steps.len(), early.wake), (0, Some(at(15))));
    assert!(matches!(
        only(decide(&world(15, &claims, &[], &[]), &memory)),
        LaunchStep::LookUp(batch) if batch.record == record
    ));
    memory.settled(&record);
    assert!(memory.is_settled(&claims[0]));
    assert_eq!(decide(&world(16, &claims, &[], &[]), &memory).steps, []);
}

#[test]
fn one_deleted_claim_does_not_change_the_call_of_its_batch() {
    let memory = LaunchMemory::new(at(0));
    let start = world(1, &[claim("a", ALL), claim("b", ALL)], &[], &[]);
    let (record, mut claims) = recorded(&proposal(decide(&start, &memory)));
    claims[0].deleting_since = Some(at(2));
    match only(decide(&world(3, &claims, &[], &[]), &memory)) {
        LaunchStep::Call(batch) => {
            assert_eq!(batch.record, record);
            assert_eq!(
                batch.claims.len(),
                2,
                "the deleted claim takes its instance too"
            );
        }
        other => panic!("{other:#?}"),
    }
}

/// EC2 throttled every call, or none was made yet: what nobody wants any more is not bought.
#[test]
fn a_batch_that_bought_nothing_is_not_bought_for_claims_that_are_being_deleted() {
    let mut memory = LaunchMemory::new(at(0));
    let start = world(1, &[claim("a", ALL), claim("b", ALL)], &[], &[]);
    let (record, mut claims) = recorded(&proposal(decide(&start, &memory)));
    memory.chosen(&record, at(1));
    let before = memory.called(&record, at(2));
    claims[0].deleting_since = Some(at(2));
    let under_way = decide(&world(3, &claims, &[], &[]), &memory);
    assert!(
        matches!(only(under_way), LaunchStep::Call(_)),
        "a call that may have bought is repeated as it was"
    );
    memory.took_no_effect(&record, before, at(3));
    assert!(matches!(
        only(decide(&world(4, &claims, &[], &[]), &memory)),
        LaunchStep::LookUp(batch) if batch.record == record
    ));
    memory.settled(&record);
    let rest = proposal(decide(&world(5, &claims, &[], &[]), &memory));
    assert_eq!(rest.batch, batch_id(["uid-b"]));
    assert!(memory.is_settled(&claims[0]), "the deleted claim may go");
}
