//! The embedded API server against the real kube-apiserver: the same requests go to both through
//! kube's client, and answers and watch events must be the same.
//!
//! `hack/test contract` starts a bare API server (etcd and kube-apiserver, nobody else, so that nobody
//! else writes) and sets the environment. The cases are in `cases/`, one file per area, and every
//! manifest of `tests/fixtures/api` is one more. What may differ is in one table, each line with its
//! reason; a line that meets no difference any more fails as well. `TONNAGE_CASE` runs the cases whose
//! name contains it, and prints every answer.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking, and its figures go to its output"
)]

mod compare;
mod differences;
mod embedded;
mod manifests;
mod normal;
mod play;
mod real;
mod script;
#[path = "../waiting/mod.rs"]
mod waiting;

use std::collections::BTreeSet;

use compare::Difference;
use differences::KNOWN;
use script::Case;

#[test]
fn the_embedded_api_server_answers_as_the_real_one() {
    let only = std::env::var("TONNAGE_CASE").ok();
    let mut cases = script::read_all("tests/contract/cases");
    cases.extend(manifests::cases("tests/fixtures/api"));
    if let Some(only) = &only {
        cases.retain(|case| case.name.contains(only));
    }
    assert!(!cases.is_empty(), "no case has {only:?} in its name");
    let names: BTreeSet<&str> = cases.iter().map(|case| case.name.as_str()).collect();
    assert_eq!(names.len(), cases.len(), "two cases have one name");

    let space = real::new_space();
    let embedded = embedded::play(&cases, &space);
    let real = real::play(&cases, &space);
    let mut met = BTreeSet::new();
    let mut failures = Vec::new();
    for (number, (embedded, real)) in embedded.iter().zip(&real).enumerate() {
        let (case, space) = (&cases[number], real::space_of(&space, number));
        let (embedded, real) = (
            normal::answers(embedded, &space),
            normal::answers(real, &space),
        );
        let found = compare::case(&case.name, &embedded, &real);
        let (known, new): (Vec<_>, Vec<_>) = found
            .into_iter()
            .partition(|difference| note_known(difference, &mut met));
        if only.is_some() {
            eprintln!("{}", compare::both(case, &embedded, &real));
            for difference in &known {
                eprintln!("known: {difference}");
            }
        }
        if !new.is_empty() {
            let lines: Vec<String> = new.iter().map(ToString::to_string).collect();
            failures.push(format!(
                "{}\n{}",
                lines.join("\n"),
                compare::of_steps(case, &new, &embedded, &real)
            ));
        }
    }
    if only.is_none() {
        failures.extend(vanished(&met));
    }
    eprintln!(
        "{} cases, {} requests, {} known differences met",
        cases.len(),
        cases.iter().map(Case::requests).sum::<usize>(),
        met.len()
    );
    assert!(
        failures.is_empty(),
        "{} cases differ:\n\n{}",
        failures.len(),
        failures.join("\n\n")
    );
}

/// True for a difference that the table lists; the lines that list it are noted.
fn note_known(difference: &Difference, met: &mut BTreeSet<usize>) -> bool {
    let lines: Vec<usize> = KNOWN
        .iter()
        .enumerate()
        .filter(|(_number, known)| known.covers(difference))
        .map(|(number, _known)| number)
        .collect();
    met.extend(&lines);
    !lines.is_empty()
}

/// The lines of the table that no difference met.
fn vanished(met: &BTreeSet<usize>) -> Vec<String> {
    KNOWN
        .iter()
        .enumerate()
        .filter(|(number, _known)| !met.contains(number))
        .map(|(_number, known)| {
            format!("no such difference any more, take it off the table: {known:?}")
        })
        .collect()
}
