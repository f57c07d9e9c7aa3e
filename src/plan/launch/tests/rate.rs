//! Claims that wait until EC2 starts more instances.

use super::*;
use crate::plan::rate::Rate;

fn starting(per_second: u32, burst: u32) -> LaunchMemory {
    LaunchMemory::new(at(0)).with_rate(Rate {
        per_second: NonZeroU32::new(per_second).unwrap(),
        burst: NonZeroU32::new(burst).unwrap(),
    })
}

fn many(count: usize) -> Vec<Claim> {
    let names = (0..count).map(|number| format!("c{number:03}"));
    names.map(|name| claim(&name, ALL)).collect()
}

/// EC2's answer that gives the first so many of a proposal.
fn gives(proposal: &Proposal, count: usize) -> LaunchOutcome {
    let claims = proposal.claims.iter().take(count);
    LaunchOutcome {
        instances: claims
            .map(|claim| bought(&format!("i-{}", claim.name), SPOT_A))
            .collect(),
        shortfalls: Vec::new(),
    }
}

#[test]
fn a_burst_is_bought_at_once_and_the_rest_as_ec2_starts_it() {
    let mut memory = starting(1, 40);
    let mut waiting = many(100);
    let (mut calls, mut second) = (Vec::new(), 0);
    while !waiting.is_empty() {
        let decision = decide(&world(second, &waiting, &[], &[]), &memory);
        if let [LaunchStep::Propose(proposal)] = decision.steps.as_slice() {
            assert!(memory.reserve(proposal, at(second)).is_ok());
            let (record, _claims) = recorded(proposal);
            memory.chosen(&record, at(second));
            memory.called(&record, at(second));
            let outcome = gives(proposal, proposal.claims.len());
            memory.answered(&record, None, &outcome, at(second));
            calls.push((second, proposal.claims.len()));
            waiting.retain(|claim| !proposal.claims.iter().any(|sold| sold.uid == claim.uid));
            continue;
        }
        assert_eq!(decision.steps.len(), waiting.len(), "every claim is told");
        for step in &decision.steps {
            let LaunchStep::Report { change, .. } = step else {
                panic!("{step:#?}")
            };
            assert_eq!(
                (change.reason.as_str(), change.status),
                (RATE, ConditionStatus::False)
            );
            assert!(
                change.message.contains("40 instances"),
                "{}",
                change.message
            );
        }
        let wake = decision.wake.unwrap();
        assert!(wake > at(second), "it does not ask all the time");
        second = wake.as_second() - at(0).as_second();
    }
    assert_eq!(calls, [(0, 40), (20, 20), (40, 20), (60, 20)]);
}

#[test]
fn a_call_that_is_made_again_takes_nothing_more_and_a_short_answer_gives_back() {
    let mut memory = starting(1, 40);
    let chosen = proposal(decide(&world(1, &many(30), &[], &[]), &memory));
    assert!(memory.reserve(&chosen, at(1)).is_ok());
    let (record, claims) = recorded(&chosen);
    memory.chosen(&record, at(1));
    for second in [1, 2] {
        let before = memory.called(&record, at(second));
        memory.throttled(&record, before, at(second));
        let again = only(decide(&world(second, &claims, &[], &[]), &memory));
        assert!(matches!(again, LaunchStep::Call(batch) if batch.record == record));
    }
    memory.called(&record, at(3));
    memory.unanswered(&record, at(63));
    memory.called(&record, at(64));
    assert_eq!(memory.tokens.room(at(64)), 10);
    memory.answered(&record, None, &gives(&chosen, 12), at(64));
    assert_eq!(memory.tokens.room(at(64)), 28);
}

#[test]
fn of_many_that_begin_at_once_only_those_go_on_that_ec2_starts() {
    let mut memory = starting(1, 40);
    let first = proposal(decide(&world(1, &many(30), &[], &[]), &memory));
    let late = [claim("late", &[DEMAND_A]), claim("more", &[DEMAND_A])];
    let second = proposal(decide(&world(1, &late, &[], &[]), &memory));
    let taken = memory.reserve(&first, at(1)).unwrap();
    assert!(memory.reserve(&second, at(1)).is_ok());
    memory.give_back(&first, taken);
    let taken = memory.reserve(&first, at(1)).unwrap();
    let (record, _claims) = recorded(&first);
    memory.chosen(&record, at(1));
    let rest = proposal(decide(&world(1, &many(9), &[], &[]), &starting(1, 40)));
    assert!(matches!(memory.reserve(&rest, at(1)), Err(NoRoom::Rate(_))));
    // Its claims leave before anything was called.
    memory.settled(&record);
    assert!(memory.reserve(&rest, at(1)).is_ok());
    memory.give_back(&first, taken);
    assert_eq!(memory.tokens.room(at(1)), 29);
}
