//! Answers to repeated calls.

use super::*;

fn gives(ids: &[&str]) -> LaunchOutcome {
    LaunchOutcome {
        instances: ids.iter().map(|id| bought(id, SPOT_A)).collect(),
        shortfalls: Vec::new(),
    }
}

/// A pair of claims with their record.
fn recorded_pair() -> (LaunchRecord, Vec<Claim>) {
    let start = world(1, &[claim("a", ALL), claim("b", ALL)], &[], &[]);
    recorded(&proposal(decide(&start, &LaunchMemory::new(at(0)))))
}

#[test]
fn a_short_answer_after_a_lost_one_is_no_proof_that_nothing_was_bought() {
    let (record, claims) = recorded_pair();
    let mut memory = LaunchMemory::new(at(0));
    memory.chosen(&record, at(1));
    memory.called(&record, at(2));
    memory.unanswered(&record, at(62));
    for (second, ids) in [(70, &[][..]), (80, &["i-1"][..])] {
        let before = memory.called(&record, at(second));
        assert!(!memory.tells_all(&record, &gives(ids), before, at(second)));
        assert_eq!(
            memory.visible_at(&record),
            at(182),
            "as without the repetition"
        );
        let step = only(decide(&world(second, &claims, &[], &[]), &memory));
        assert!(matches!(step, LaunchStep::LookUp(_)), "{step:#?}");
    }
    let before = memory.called(&record, at(90));
    assert!(memory.tells_all(&record, &gives(&["i-1", "i-2"]), before, at(90)));
}

#[test]
fn whoever_takes_a_launch_over_does_not_believe_a_short_answer() {
    let (record, claims) = recorded_pair();
    let mut memory = LaunchMemory::new(at(100));
    let before = memory.called(&record, at(101));
    assert!(!memory.tells_all(&record, &gives(&[]), before, at(101)));
    let step = only(decide(&world(102, &claims, &[], &[]), &memory));
    assert!(matches!(step, LaunchStep::LookUp(_)), "{step:#?}");
    assert_eq!(memory.visible_at(&record), at(280));
}

#[test]
fn a_call_that_is_made_again_because_of_the_api_server_is_believed_to_list_what_it_did() {
    let (record, claims) = recorded_pair();
    let mut memory = LaunchMemory::new(at(0));
    memory.chosen(&record, at(1));
    let before = memory.called(&record, at(2));
    memory.took_no_effect(&record, before, at(2));
    let before = memory.called(&record, at(3));
    assert!(memory.tells_all(&record, &gives(&["i-1"]), before, at(3)));
    // The instance could not be written onto its claim: the call is made once more.
    let before = memory.called(&record, at(4));
    assert!(memory.tells_all(&record, &gives(&["i-1"]), before, at(4)));
    let before = memory.called(&record, at(5));
    assert!(!memory.tells_all(&record, &gives(&[]), before, at(5)));
    let step = only(decide(&world(6, &claims, &[], &[]), &memory));
    assert!(matches!(step, LaunchStep::LookUp(_)), "{step:#?}");
}
