//! Claims of which nothing can be bought any more.

use super::*;
use crate::plan::examples::node_class;

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
        memory.answered(&record, &outcome, at(1));
        claims = with_record;
    }
    assert_eq!(walked, ALL);

    // The NodePool may buy larger machines too: they are no longer too dear when these cannot be had.
    match only(decide(&world(1, &claims, &[], &[]), &memory)) {
        LaunchStep::GiveUp { claim, message } => {
            assert_eq!(claim.name, "a");
            assert!(message.contains("3 offerings"), "{message}");
            assert!(message.contains("c5.2xlarge"), "{message}");
        }
        other => panic!("{other:#?}"),
    }
    let nothing_else = |second| {
        let mut snapshot = world(second, &claims, &[], &[]);
        let mut class = node_class();
        let mut catalogue = (*class.catalogue).clone();
        catalogue
            .offerings
            .retain(|offering| ALL.contains(&offering.key.to_string().as_str()));
        class.catalogue = Arc::new(catalogue);
        snapshot
            .node_classes
            .insert(class.name.clone(), Arc::new(class));
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
