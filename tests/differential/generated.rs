//! The generator itself, without a cluster: what a set says that it carries is in its pods.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::constraints::Constraint;
use crate::generate::{Set, machines, set};
use crate::{LEAST, SETS, counts, rare};

fn sets() -> Vec<Set> {
    (0..SETS).map(set).collect()
}

fn spreads(set: &Set) -> Vec<&Value> {
    let lists = set.pods.iter();
    lists
        .filter_map(|pod| pod["spec"]["topologySpreadConstraints"].as_array())
        .flatten()
        .collect()
}

#[test]
fn every_constraint_is_carried_by_enough_sets() {
    let counts = counts(&sets());
    assert_eq!(
        rare(&counts),
        Vec::<Constraint>::new(),
        "each in {LEAST} sets at least: {counts:?}"
    );
}

/// The API server refuses a second spread over the same label, so the generator leaves it out: that one is
/// not counted.
#[test]
fn a_spread_that_a_set_counts_is_on_one_of_its_pods() {
    type Mark = fn(&Value) -> bool;
    let marks: [(Constraint, Mark); 6] = [
        (Constraint::SpreadMinDomains, |spread| {
            spread["minDomains"].is_number()
        }),
        (Constraint::SpreadIgnoringAffinity, |spread| {
            spread["nodeAffinityPolicy"] == "Ignore"
        }),
        (Constraint::SpreadHonoringTaints, |spread| {
            spread["nodeTaintsPolicy"] == "Honor"
        }),
        (Constraint::SpreadMatchLabelKeys, |spread| {
            spread["matchLabelKeys"].is_array()
        }),
        (Constraint::SpreadAnyway, |spread| {
            spread["whenUnsatisfiable"] == "ScheduleAnyway"
        }),
        (Constraint::SpreadSelectingNothing, |spread| {
            spread["labelSelector"] == serde_json::json!({})
        }),
    ];
    for set in sets() {
        let spreads = spreads(&set);
        for (constraint, mark) in marks {
            assert_eq!(
                set.used.contains(&constraint),
                spreads.iter().any(|spread| mark(spread)),
                "{}: {constraint:?}",
                set.name
            );
        }
    }
}

#[test]
fn pods_with_many_volumes_have_more_than_the_smallest_machine_attaches() {
    let least = machines().iter().map(|machine| machine.volumes).min();
    for set in sets() {
        let most = set.pods.iter().map(|pod| {
            let volumes = pod["spec"]["volumes"].as_array().into_iter().flatten();
            let scratch = volumes.filter(|volume| {
                let name = volume["name"].as_str().unwrap();
                name.starts_with("scratch-")
            });
            u32::try_from(scratch.count()).unwrap()
        });
        let is_more = most.max() > least;
        assert_eq!(
            set.used.contains(&Constraint::ManyVolumes),
            is_more,
            "{}",
            set.name
        );
    }
}

#[test]
fn nodes_that_stand_have_names_of_their_own_and_a_pod_that_counts() {
    let sets = sets();
    let all: Vec<_> = sets.iter().flat_map(|set| &set.standing).collect();
    let names: BTreeSet<&str> = all.iter().map(|found| found.name.as_str()).collect();
    assert_eq!(names.len(), all.len());
    for set in &sets {
        assert_eq!(
            set.used.contains(&Constraint::StandingNode),
            !set.standing.is_empty()
        );
        for found in &set.standing {
            assert_eq!(found.occupant["spec"]["nodeName"], found.name.as_str());
            let labels = &found.occupant["metadata"]["labels"];
            let same = set
                .pods
                .iter()
                .filter(|pod| pod["metadata"]["labels"]["app"] == labels["app"]);
            assert!(same.count() > 0, "{}", found.name);
        }
    }
}
