//! Random worlds with random work and faults: the controllers must be safe at every step, and once it
//! is quiet everything that can run must run, and nothing else may be left.
//!
//! `hack/sim --seeds N --start S` runs more of them than the default. Each seed is run twice and must
//! give the same history. A failing seed prints what was violated, the end of its history, and the
//! command that replays it.

mod checks;
mod controllers;
mod deceived;
mod faults;
mod leadership;
mod trial;
mod wander;

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};

use controllers::Controllers;
use serde_json::json;
use tonnage::settings::LogFormat;
use tonnage::telemetry::start_logs;
use trial::Report;

/// Seeds that are run when nobody says how many.
const SEEDS: u64 = 2;
/// Seeds within which a deceived controller must be found out.
const DECEIVED_SEEDS: u64 = 3;
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
}

/// Reads `--seeds N`, `--start S`, `--history` and `--log FILTER`; the test runner's own flags are let through.
fn args() -> Result<Args, String> {
    let mut args = Args {
        seeds: None,
        start: 1,
        history: false,
        log: None,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut number = || {
            let value = words.next().unwrap_or_default();
            let wrong = |_error| format!("{word} takes a number, not `{value}`");
            value.parse::<u64>().map_err(wrong)
        };
        match word.as_str() {
            "--seeds" => args.seeds = Some(number()?),
            "--start" => args.start = number()?,
            "--history" => args.history = true,
            "--log" => args.log = words.next(),
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
    let mut faults: BTreeMap<&'static str, usize> = BTreeMap::new();
    let mut violations = Vec::new();
    let mut failed: u64 = 0;
    let seeds = args.seeds.unwrap_or(SEEDS);
    for seed in args.start..args.start.saturating_add(seeds) {
        let report = judged(seed)?;
        if seed % PROGRESS == 0 {
            writeln!(io::stderr(), "seed {seed} done, {failed} failed so far")?;
        }
        for (kind, count) in &report.faults {
            *faults.entry(kind).or_default() += count;
        }
        if args.history {
            writeln!(out, "{}", report.history.join("\n"))?;
        }
        if !report.violations.is_empty() {
            failed += 1;
            show(&mut out, seed, &report)?;
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
        found = deceived_is_found(args.start)?;
        let word = if found { "found" } else { "NOT found" };
        writeln!(out, "a controller that believes it leads for ever: {word}")?;
    }
    let summary = json!({ "seeds": seeds, "faults": faults, "violations": violations });
    writeln!(out, "{summary}")?;
    writeln!(out, "{} passed, {failed} failed", seeds - failed)?;
    Ok(failed == 0 && found)
}

/// Whether the checks find controllers that act without the lease because their guard never says so.
fn deceived_is_found(start: u64) -> io::Result<bool> {
    for seed in start..start.saturating_add(DECEIVED_SEEDS) {
        let report = trial::run(seed, Controllers::Deceived)?;
        let acted = |violation: &String| violation.contains("acted without the lease");
        if report.violations.iter().any(acted) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Runs a seed twice.
fn judged(seed: u64) -> io::Result<Report> {
    let panics = PANICS.load(Ordering::SeqCst);
    let controllers = Controllers::of(seed);
    let mut first = trial::run(seed, controllers)?;
    let second = trial::run(seed, controllers)?;
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

fn show(out: &mut impl io::Write, seed: u64, report: &Report) -> io::Result<()> {
    writeln!(out, "seed {seed} failed:")?;
    for violation in &report.violations {
        writeln!(out, "  {violation}")?;
    }
    writeln!(out, "the end of its history:")?;
    let from = report.history.len().saturating_sub(SHOWN);
    for line in report.history.iter().skip(from) {
        writeln!(out, "  {line}")?;
    }
    writeln!(out, "replay: hack/sim --seeds 1 --start {seed} --history")
}
