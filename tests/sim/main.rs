//! Random worlds with random work and faults: the controllers must be safe at every step, and once it
//! is quiet everything that can run must run, and nothing else may be left.
//!
//! `hack/sim --seeds N --start S` runs more of them than the default. Each seed is run twice and must
//! give the same history. A failing seed prints what was violated, the smallest set of what was done
//! to its world that still fails, the end of that history, and the command that replays it.
//!
//! A run of the test suite also breaks the controllers on purpose, in every way of [`mutations::ALL`],
//! and fails when the checks do not find one of them.

mod acts;
mod checks;
mod controllers;
mod coverage;
mod faults;
mod kinds;
mod leadership;
mod mutations;
mod phases;
mod script;
mod shrink;
mod strikes;
mod trial;
mod wander;

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};

use coverage::Coverage;
use mutations::Mutation;
use serde_json::json;
use tonnage::settings::LogFormat;
use tonnage::telemetry::start_logs;
use trial::{Plan, Report};

/// Seeds that are run when nobody says how many.
const SEEDS: u64 = 2;
/// One line of progress for so many seeds.
const PROGRESS: u64 = 25;
/// Lines of a failing history that are shown.
const SHOWN: usize = 40;

/// Panics so far: the controllers survive them, a trial does not.
static PANICS: AtomicUsize = AtomicUsize::new(0);

struct Args {
    /// `None` is a run of the test suite, which also looks whether the checks find what they should.
    seeds: Option<u64>,
    start: u64,
    history: bool,
    log: Option<String>,
    /// Disturbances that are left out.
    without: BTreeSet<usize>,
    /// Controllers that are broken in this way.
    mutation: Option<&'static Mutation>,
}

/// Reads the flags that `hack/sim --help` lists; the test runner's own flags are let through.
fn args() -> Result<Args, String> {
    let mut args = Args {
        seeds: None,
        start: 1,
        history: false,
        log: None,
        without: BTreeSet::new(),
        mutation: None,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().unwrap_or_default();
        let number = |value: String| {
            let wrong = |_error| format!("{word} takes a number, not `{value}`");
            value.parse::<u64>().map_err(wrong)
        };
        match word.as_str() {
            "--seeds" => args.seeds = Some(number(value())?),
            "--start" => args.start = number(value())?,
            "--history" => args.history = true,
            "--log" => args.log = Some(value()),
            "--without" => args.without = shrink::read(&value())?,
            "--mutation" => args.mutation = Some(mutations::named(&value())?),
            _ => {}
        }
    }
    Ok(args)
}

fn main() -> ExitCode {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        PANICS.fetch_add(1, Ordering::SeqCst);
        before(info);
    }));
    match args().and_then(|args| run(&args).map_err(|error| error.to_string())) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(problem) => {
            // Standard error may be closed; the exit code still says it.
            writeln!(io::stderr(), "{problem}").ok();
            ExitCode::from(2)
        }
    }
}

/// Runs every seed; true when all passed.
fn run(args: &Args) -> io::Result<bool> {
    if let Some(filter) = &args.log {
        start_logs(LogFormat::Text, filter).map_err(io::Error::other)?;
    }
    let mut out = io::stdout().lock();
    let mut coverage = Coverage::default();
    let mut violations = Vec::new();
    let mut failed: u64 = 0;
    let seeds = args.seeds.unwrap_or(SEEDS);
    for seed in args.start..args.start.saturating_add(seeds) {
        let plan = plan(args, seed);
        let report = judged(&plan)?;
        if seed % PROGRESS == 0 {
            writeln!(io::stderr(), "seed {seed} done, {failed} failed so far")?;
        }
        coverage.add(&report);
        if args.history {
            writeln!(out, "{}", report.history.join("\n"))?;
        }
        if !report.violations.is_empty() {
            failed += 1;
            show(&mut out, &plan, &report)?;
            violations.extend(
                report
                    .violations
                    .iter()
                    .map(|violation| json!({ "seed": seed, "violation": violation })),
            );
        }
    }
    let mut found = true;
    if args.seeds.is_none() {
        found = mutations_are_found(&mut out, args.start)?;
    }
    coverage.show(&mut out)?;
    let gaps = coverage.gaps();
    for gap in &gaps {
        writeln!(out, "gap: {gap}")?;
    }
    let mut summary = coverage.json();
    summary["seeds"] = json!(seeds);
    summary["violations"] = json!(violations);
    summary["gaps"] = json!(gaps);
    writeln!(out, "{summary}")?;
    writeln!(out, "{} passed, {failed} failed", seeds - failed)?;
    Ok(failed == 0 && found && gaps.is_empty())
}

fn plan(args: &Args, seed: u64) -> Plan {
    let plan = args
        .mutation
        .map_or_else(|| Plan::of(seed), |broken| Plan::mutated(seed, broken));
    Plan {
        without: args.without.clone(),
        ..plan
    }
}

/// Whether the checks find every mutation within a few seeds, and shrinking what it must.
fn mutations_are_found(out: &mut impl Write, start: u64) -> io::Result<bool> {
    let mut all = shrink::finds_a_pair()?;
    let word = if all { "found" } else { "NOT found" };
    writeln!(
        out,
        "the two of 260 disturbances that fail together: {word}"
    )?;
    for mutation in &mutations::ALL {
        let mut seed = start;
        let mut found = false;
        while !found && seed < start.saturating_add(mutations::SEEDS) {
            let report = trial::run(&Plan::mutated(seed, mutation))?;
            let by = |violation: &String| violation.contains(mutation.found_by);
            found = report.violations.iter().any(by);
            seed += 1;
        }
        let (name, wrong) = (mutation.name, mutation.wrong);
        let word = if found { "found" } else { "NOT found" };
        writeln!(
            out,
            "{name} ({wrong}): {word}, seeds {start} to {}",
            seed - 1
        )?;
        all &= found;
    }
    Ok(all)
}

/// Runs a seed twice.
fn judged(plan: &Plan) -> io::Result<Report> {
    let panics = PANICS.load(Ordering::SeqCst);
    let mut first = trial::run(plan)?;
    let second = trial::run(plan)?;
    if first.digest != second.digest {
        let parted = first
            .history
            .iter()
            .zip(&second.history)
            .find(|(one, other)| one != other);
        first.violations.push(format!(
            "two runs of the seed differ, first in {parted:?} (lines {} and {})",
            first.digest.1, second.digest.1
        ));
    }
    if PANICS.load(Ordering::SeqCst) > panics {
        first.violations.push("something panicked".to_owned());
    }
    Ok(first)
}

/// Shows a failure, as small as it gets.
fn show(out: &mut impl Write, plan: &Plan, report: &Report) -> io::Result<()> {
    writeln!(out, "seed {} failed:", plan.seed)?;
    for violation in &report.violations {
        writeln!(out, "  {violation}")?;
    }
    let count = report.disturbances.len();
    let mut last = None;
    let shrunk = shrink::shrink(count, &plan.without, |without| {
        let panics = PANICS.load(Ordering::SeqCst);
        let plan = Plan {
            without: without.clone(),
            hasty: true,
            ..plan.clone()
        };
        let report = trial::run(&plan)?;
        let fails = !report.violations.is_empty() || PANICS.load(Ordering::SeqCst) > panics;
        if fails {
            last = Some(report);
        }
        Ok(fails)
    })?;
    let word = if shrunk.smallest { "" } else { " at most" };
    writeln!(
        out,
        "of {count} disturbances it takes{word} {}, found in {} runs:",
        shrunk.kept.len(),
        shrunk.runs
    )?;
    for (number, disturbance) in report.disturbances.iter().enumerate() {
        if shrunk.kept.contains(&number) {
            writeln!(out, "  {number}: {disturbance}")?;
        }
    }
    let small = last.as_ref().unwrap_or(report);
    for violation in &small.violations {
        writeln!(out, "  {violation}")?;
    }
    writeln!(out, "the end of their history:")?;
    let from = small.history.len().saturating_sub(SHOWN);
    for line in small.history.iter().skip(from) {
        writeln!(out, "  {line}")?;
    }
    let broken = plan
        .mutation
        .map_or_else(String::new, |found| format!(" --mutation {}", found.name));
    let replay = format!("hack/sim --seeds 1 --start {}{broken}", plan.seed);
    let without = shrink::write(
        &(0..count)
            .filter(|number| !shrunk.kept.contains(number))
            .collect(),
    );
    writeln!(out, "replay all of it: {replay} --history")?;
    writeln!(out, "replay these: {replay} --without {without} --history")
}
