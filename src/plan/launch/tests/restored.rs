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

    assert!(!memory.is_looked_for(&after[0]));
    assert!(
        memory.is_looked_for(&before[0]),
        "also before a round has seen it"
    );
    let restored = world(60, &before, &[], &[]);
    memory.forget(&restored);
    assert!(!memory.is_settled(&before[0]) && memory.is_looked_for(&before[0]));
    let LaunchStep::Recall { batch, claims } = only(decide(&restored, &memory)) else {
        panic!("what was bought is looked for first");
    };
    assert_eq!((batch.as_str(), claims.len()), (first.batch.as_str(), 1));
    memory.recalled(&batch, &claims, (false, at(61)));
    let waiting = decide(&world(62, &before, &[], &[]), &memory);
    assert_eq!((waiting.steps.len(), waiting.wake), (0, Some(at(76))));
    let shown = at(5) + VISIBLE_WITHIN;
    memory.recalled(&batch, &claims, (false, shown));
    let LaunchStep::Call(batch) = only(decide(&restored, &memory)) else {
        panic!("EC2 answers a call that it knows as it did");
    };
    assert_eq!(batch.record, first);
    assert_eq!(
        memory.visible_at(&first),
        shown,
        "what the last call bought need not be shown yet"
    );
}

/// What is decided in a round that sees these claims.
fn round(memory: &mut LaunchMemory, second: i64, claims: &[Claim]) -> Decision<LaunchStep> {
    let snapshot = world(second, claims, &[], &[]);
    memory.forget(&snapshot);
    decide(&snapshot, memory)
}

/// The claims of a proposal once it was called and EC2 has given one machine.
fn bought_by(memory: &mut LaunchMemory, proposal: &Proposal, second: i64) -> Vec<Claim> {
    let (record, claims) = recorded(proposal);
    memory.chosen(&record, at(second));
    memory.moves_on(&proposal.claims, &record.batch);
    let called = round(memory, second, &claims);
    assert!(matches!(only(called), LaunchStep::Call(_)));
    memory.called(&record, at(second));
    let one = LaunchOutcome {
        instances: vec![bought("i-1", DEMAND_A)],
        shortfalls: Vec::new(),
    };
    memory.answered(&record, None, &one, at(second));
    claims
}

#[test]
fn a_claim_that_lost_its_instance_gets_it_back_before_anything_is_bought() {
    let mut memory = LaunchMemory::new(at(0));
    let start = [claim("a", ALL)];
    let proposal = proposal(round(&mut memory, 1, &start));
    let recorded = bought_by(&mut memory, &proposal, 2);
    let mut launched = recorded.clone();
    launched[0].provider_id = "aws:///us-east-1a/i-1".to_owned();
    assert_eq!(round(&mut memory, 10, &launched).steps, []);
    // Long after its launch, and whether or not the backup has the record.
    for (second, restored) in [(1_000, &recorded[..]), (2_000, &start[..])] {
        let LaunchStep::Recall { batch, claims } = only(round(&mut memory, second, restored))
        else {
            panic!("it is looked for");
        };
        assert_eq!(batch, proposal.batch);
        memory.recalled(&batch, &claims, (true, at(second)));
        assert_eq!(round(&mut memory, second + 1, &launched).steps, []);
    }
}

#[test]
fn what_is_left_of_a_batch_is_looked_for_in_each_batch_that_it_came_to_be() {
    let mut memory = LaunchMemory::new(at(0));
    let start = [claim("a", ALL), claim("b", ALL)];
    let both = proposal(round(&mut memory, 1, &start));
    let early = bought_by(&mut memory, &both, 2);
    let mut half = early.clone();
    half[0].provider_id = "aws:///us-east-1a/i-1".to_owned();
    let rest = proposal(round(&mut memory, 3, &half));
    assert_ne!(rest.batch, both.batch);
    let late = bought_by(&mut memory, &rest, 4);
    let mut all = [half[0].clone(), late[0].clone()];
    all[1].provider_id = "aws:///us-east-1a/i-2".to_owned();
    assert_eq!(round(&mut memory, 5, &all).steps, []);

    let restored = round(&mut memory, 300, &early);
    let batches: BTreeSet<&str> = restored
        .steps
        .iter()
        .map(|step| match step {
            LaunchStep::Recall { batch, .. } => batch.as_str(),
            other => panic!("{other:#?}"),
        })
        .collect();
    assert_eq!(batches, BTreeSet::from([&*both.batch, &*rest.batch]));
}

#[test]
fn what_was_there_before_this_process_is_asked_about_once_for_each_batch() {
    let mut memory = LaunchMemory::new(at(0));
    let claims = [claim("a", ALL)];
    let old = proposal(round(&mut memory, 1, &claims));
    assert!(memory.is_unasked(&old.batch, &old.claims));
    memory.asked_about(&old.batch);
    assert!(!memory.is_unasked(&old.batch, &old.claims));
    let fresh = [Arc::new(claim("b", ALL))];
    assert!(!memory.is_unasked("another", &fresh));
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

/// Who comes to lead after a restore does not know what it took back, and EC2 hides a machine for a while.
#[test]
fn what_a_restore_may_have_taken_back_is_looked_for_as_long_as_ec2_may_hide_it() {
    let mut memory = LaunchMemory::new(at(0));
    let claims = [claim("a", ALL)];
    let proposed = proposal(round(&mut memory, 1, &claims));
    assert!(memory.is_unasked(&proposed.batch, &proposed.claims));
    memory.asked_about(&proposed.batch);
    memory.suspects(&proposed.batch, &proposed.claims, at(2));
    let waiting = round(&mut memory, 3, &claims);
    assert_eq!((waiting.steps.len(), waiting.wake), (0, Some(at(17))));
    let LaunchStep::Recall {
        batch,
        claims: found,
    } = only(round(&mut memory, 17, &claims))
    else {
        panic!("it is asked for again");
    };
    assert_eq!((&batch, found.len()), (&proposed.batch, 1));
    memory.recalled(&batch, &found, (false, at(60) + VISIBLE_WITHIN));
    let again = proposal(round(&mut memory, 181, &claims));
    assert!(
        !memory.is_unasked(&again.batch, &again.claims),
        "it is bought now"
    );
}
