//! Claims that may be bought as a type whose last machines did not join.

use super::*;
use crate::plan::examples::node_class;

const LARGE: &str = "c5.2xlarge/us-east-1a/spot";

/// Two machines of the size did not join, and it has rested since.
fn doubted(size: &str) -> LaunchMemory {
    let mut memory = LaunchMemory::new(at(0));
    for claim in ["one", "other"] {
        let machine = (&Arc::from(size), at(0));
        memory
            .no_shows
            .timed_out(&node_class(), machine, claim, at(900));
    }
    memory
}

fn proposed(second: i64, claims: &[Claim], memory: &LaunchMemory) -> Vec<(String, String)> {
    let mut proposed: Vec<(String, String)> = decide(&world(second, claims, &[], &[]), memory)
        .steps
        .into_iter()
        .filter_map(|step| match step {
            LaunchStep::Propose(proposal) => Some(proposal),
            _ => None,
        })
        .flat_map(|proposal| {
            let types = proposal.offerings.iter().map(|key| &*key.instance_type);
            let types = types.collect::<Vec<_>>().join(" ");
            let claims = proposal.claims.into_iter();
            claims.map(move |claim| (claim.name.clone(), types.clone()))
        })
        .collect();
    proposed.sort();
    proposed
}

fn said(claim: &str, types: &str) -> (String, String) {
    (claim.to_owned(), types.to_owned())
}

#[test]
fn while_it_rests_claims_are_bought_as_something_else_and_then_one_of_them_tries_it() {
    let memory = doubted("c5.xlarge");
    let mut claims = vec![claim("a", &[SPOT_A, LARGE]), claim("b", &[SPOT_A, LARGE])];
    let both = [said("a", "c5.2xlarge"), said("b", "c5.2xlarge")];
    assert_eq!(proposed(901, &claims, &memory), both);
    let tried = [said("a", "c5.xlarge c5.2xlarge")];
    assert_eq!(proposed(1_500, &claims, &memory), tried, "b waits a moment");

    // The record of the try is on its claim, and then its machine boots.
    let start = world(1_500, &claims[..1], &[], &[]);
    let (_record, recorded) = recorded(&proposal(decide(&start, &memory)));
    claims[0] = recorded[0].clone();
    let other = [said("b", "c5.2xlarge")];
    assert_eq!(proposed(1_501, &claims, &memory), other);
    claims[0].provider_id = "aws:///us-east-1a/i-1".to_owned();
    claims[0].labels = Arc::new(labels_of(&offering(SPOT_A), None));
    assert_eq!(proposed(1_502, &claims, &memory), other);
}

/// The names of claims say nothing of their age, and only the oldest of those that want a type on trial may try it.
#[test]
fn a_batch_that_is_bought_again_lets_its_oldest_claim_try() {
    let mut claims = [claim("a", &[SPOT_A]), claim("b", &[SPOT_A])];
    claims[0].created = at(1);
    let before = LaunchMemory::new(at(0));
    let start = world(2, &claims, &[], &[]);
    let (record, claims) = recorded(&proposal(decide(&start, &before)));
    let mut memory = doubted("c5.xlarge");
    memory.answered(&record, None, &LaunchOutcome::default(), at(900));
    let tried = [said("b", "c5.xlarge")];
    assert_eq!(proposed(1_500, &claims, &memory), tried);
}

#[test]
fn a_claim_that_can_be_nothing_else_is_given_up_and_says_what_to_look_at() {
    let memory = doubted("c5.xlarge");
    match only(decide(
        &world(901, &[claim("a", &[SPOT_A])], &[], &[]),
        &memory,
    )) {
        LaunchStep::GiveUp {
            reason, message, ..
        } => {
            assert_eq!(reason, NO_SHOWS);
            assert!(
                message.contains("c5.xlarge") && message.contains("user data"),
                "{message}"
            );
        }
        other => panic!("{other:#?}"),
    }
}
