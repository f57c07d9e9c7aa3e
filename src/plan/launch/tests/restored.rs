//! A restored API server has claims back as they were before what was bought was written down.

use super::*;
use crate::plan::instances::VISIBLE_WITHIN;

#[test]
fn attempts_that_a_restore_takes_back_are_made_again_and_not_gone_on_from() {
    let mut memory = LaunchMemory::new(at(0));
    let start = world(1, &[claim("a", ALL)], &[], &[]);
    let (first, before) = recorded(&proposal(decide(&start, &memory)));
    memory.chosen(&first, at(1));
    memory.called(&first, at(2));
    let nothing = LaunchOutcome {
        instances: Vec::new(),
        shortfalls: vec![short(SPOT_A), short(SPOT_B)],
    };
    memory.answered(&first, None, &nothing, at(3));
    let again = world(4, &before, &[], &[]);
    let (second, after) = recorded(&proposal(decide(&again, &memory)));
    assert_eq!(second.attempt, 2);
    memory.chosen(&second, at(4));
    memory.called(&second, at(5));
    let one = LaunchOutcome {
        instances: vec![bought("i-1", DEMAND_A)],
        shortfalls: Vec::new(),
    };
    memory.answered(&second, None, &one, at(6));
    memory.forget(&world(7, &after, &[], &[]));
    assert!(memory.is_settled(&after[0]));

    let restored = world(60, &before, &[], &[]);
    memory.forget(&restored);
    let LaunchStep::Call(batch) = only(decide(&restored, &memory)) else {
        panic!("EC2 answers a call that it knows as it did");
    };
    assert_eq!(batch.record, first);
    assert_eq!(
        memory.visible_at(&first),
        at(5) + VISIBLE_WITHIN,
        "what the last call bought need not be shown yet"
    );
}

#[test]
fn a_token_that_was_used_before_has_bought_what_ec2_may_not_show_yet() {
    let mut memory = LaunchMemory::new(at(0));
    let start = world(300, &[claim("a", ALL)], &[], &[]);
    let (record, _claims) = recorded(&proposal(decide(&start, &memory)));
    memory.chosen(&record, at(300));
    let before = memory.called(&record, at(301));
    memory.was_used(&record, before, at(302));
    assert!(!memory.bought_nothing(&record));
    assert_eq!(memory.visible_at(&record), at(302) + VISIBLE_WITHIN);
    let before = memory.called(&record, at(310));
    memory.was_used(&record, before, at(311));
    assert_eq!(
        memory.visible_at(&record),
        at(302) + VISIBLE_WITHIN,
        "it was used before the first of these calls"
    );
}
