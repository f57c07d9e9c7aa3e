//! The planner against kube-scheduler, both ways, on a real control plane.
//!
//! For generated sets of pods: the nodes of the plan are created, and every pod that the plan placed
//! must be bound; then one node of every offering that the set may buy is created, and kube-scheduler
//! must refuse every pod that the plan left out. No machine is bought: nodes are created through the
//! API. Nodes that a set calls standing are known to the planner and come into the cluster with those of
//! the plan. `hack/test differential` starts the services and sets the environment.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking, and its figures go to its output"
)]

mod cluster;
mod constraints;
mod generate;
mod generated;
mod judge;
mod objects;
mod plan;
#[path = "../waiting/mod.rs"]
mod waiting;

use std::collections::BTreeMap;

use cluster::Cluster;
use constraints::Constraint;

/// How many sets are judged.
const SETS: usize = 220;
/// How many share the cluster at a time: their nodes and pods are listed again and again.
const BATCH: usize = 44;
/// Each constraint occurs in at least so many sets.
const LEAST: usize = 20;

#[tokio::test(flavor = "multi_thread")]
async fn kube_scheduler_agrees_with_every_plan() {
    let sets: Vec<generate::Set> = chosen().into_iter().map(generate::set).collect();
    let counts = counts(&sets);
    for (constraint, count) in &counts {
        eprintln!("{count:4} sets with {constraint:?}");
    }
    let cluster = Cluster::connect().await;
    cluster.create_all(&objects::shared()).await;
    let mut verdict = judge::Verdict::default();
    for batch in sets.chunks(BATCH) {
        verdict.add(judge::batch(&cluster, batch).await);
        eprintln!("{verdict}");
    }
    for line in &verdict.disagreements {
        eprintln!("{line}");
    }
    assert!(
        verdict.disagreements.is_empty(),
        "{} disagreements",
        verdict.disagreements.len()
    );
    if sets.len() == SETS {
        assert_eq!(rare(&counts), Vec::<Constraint>::new(), "too rare");
    }
}

/// In how many sets each constraint occurs.
fn counts(sets: &[generate::Set]) -> BTreeMap<Constraint, usize> {
    let mut counts: BTreeMap<Constraint, usize> = BTreeMap::new();
    for constraint in sets.iter().flat_map(|set| &set.used) {
        *counts.entry(*constraint).or_default() += 1;
    }
    counts
}

fn rare(counts: &BTreeMap<Constraint, usize>) -> Vec<Constraint> {
    let all = Constraint::ALL.iter().copied();
    all.filter(|constraint| counts.get(constraint).copied().unwrap_or(0) < LEAST)
        .collect()
}

/// All sets, or those that `TONNAGE_SETS` names by number, to look into one again.
fn chosen() -> Vec<usize> {
    match std::env::var("TONNAGE_SETS") {
        Ok(list) => list
            .split(',')
            .map(|number| number.trim().parse().unwrap())
            .collect(),
        Err(_unset) => (0..SETS).collect(),
    }
}
