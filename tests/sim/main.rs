//! Random worlds with random work and faults: the controllers must be safe at every step, and once it
//! is quiet everything that can run must run, and nothing else may be left.
//!
//! `hack/sim --seeds N --start S` runs more and longer ones than the test suite, an hour each. Each of those seeds is
//! run twice and must give the same history. A failing seed prints what was violated, the smallest set of what was done
//! to its world that still fails, the end of that history, and the command that replays it.
//!
//! A run of the test suite has a few such seeds and hundreds of short ones, looks whether another process gives a
//! seed the same history, and breaks the controllers on purpose, in every way of [`mutations::ALL`],
//! and fails when the checks do not find one of them.

mod acts;
mod aftermath;
mod aims;
mod checks;
mod controllers;
mod coverage;
mod duplicates;
mod faults;
mod flags;
mod furniture;
mod kinds;
mod lasting;
mod leadership;
mod limits;
mod mutations;
mod phases;
mod plans;
mod quiet;
mod reasons;
mod room;
mod script;
mod server;
mod shapes;
mod shrink;
mod strikes;
mod trial;
mod verdict;
mod wander;
mod wishes;
mod workers;

use std::io::{self, Write};
use std::process::{self, Command, ExitCode};
use std::time::Duration;

use coverage::Coverage;
use flags::{Args, Asked};
use mutations::Mutation;
use serde_json::{Value, json};
use tonnage::settings::LogFormat;
use tonnage::sim::watchdog;
use tonnage::telemetry::start_logs;
use trial::{Plan, Report};
use verdict::{judged, judged_once, show};
use workers::in_parallel;

/// As in the binary: worlds are many small strings and maps.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Seeds of an hour that are run when nobody says how many.
const SEEDS: u64 = 2;
/// Seeds of a short world that are run besides.
const SHORT_SEEDS: u64 = 200;
/// How long those last at least, seconds.
const SHORT: u64 = 600;
/// The exit code when a world hangs.
const HUNG: i32 = 3;
/// One line of progress for so many seeds.
const PROGRESS: u64 = 25;

fn main() -> ExitCode {
    verdict::count_panics();
    let outcome = flags::read(std::env::args().skip(1)).and_then(|asked| {
        let done = match asked {
            Asked::Run(args) => run(&args),
            Asked::Help => flags::help(&mut io::stdout()).map(|()| true),
        };
        done.map_err(|error| error.to_string())
    });
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(problem) => {
            // Standard error may be closed; the exit code still says it.
            writeln!(io::stderr(), "{problem}").ok();
            ExitCode::from(2)
        }
    }
}

/// From now on a world that hangs ends everything, with the seed and the second.
#[expect(
    clippy::exit,
    reason = "a world that never yields cannot be told to end"
)]
fn end_when_hanging(patience: Duration) {
    watchdog::watch(patience, |hang| {
        // Standard error may be closed; the exit code still says it.
        writeln!(io::stderr(), "{hang}").ok();
        process::exit(HUNG);
    });
}

/// Runs every seed; true when all passed.
fn run(args: &Args) -> io::Result<bool> {
    end_when_hanging(args.patience);
    if let Some(filter) = &args.log {
        start_logs(LogFormat::Text, filter).map_err(io::Error::other)?;
    }
    let mut out = io::stdout().lock();
    if args.digest {
        let report = trial::run(&plan(args, args.start))?;
        writeln!(out, "{}", digest(&report))?;
        return Ok(true);
    }
    let mut runs = Runs::default();
    runs.run(&mut out, args, args.seeds.unwrap_or(SEEDS), judged)?;
    let mut found = true;
    if args.seeds.is_none() {
        found = another_process_agrees(&mut out, args.start, runs.first.as_deref())?;
        let short = Args {
            seconds: SHORT,
            ..args.clone()
        };
        runs.run(&mut out, &short, SHORT_SEEDS, judged_once)?;
        found &= mutations_are_found(&mut out, args)?;
    }
    let Runs {
        coverage,
        passed,
        failed,
        violations,
        ..
    } = runs;
    coverage.show(&mut out)?;
    let gaps = coverage.gaps();
    for gap in &gaps {
        writeln!(out, "gap: {gap}")?;
    }
    let mut summary = coverage.json();
    summary["seeds"] = json!(passed + failed);
    summary["violations"] = json!(violations);
    summary["gaps"] = json!(gaps);
    writeln!(out, "{summary}")?;
    if !found {
        writeln!(out, "beside the seeds something failed that is said above")?;
    }
    writeln!(out, "{passed} passed, {failed} failed")?;
    Ok(failed == 0 && found && gaps.is_empty())
}

/// What came of the seeds so far.
#[derive(Debug, Default)]
struct Runs {
    coverage: Coverage,
    passed: u64,
    failed: u64,
    violations: Vec<Value>,
    /// What the history of the first seed comes to.
    first: Option<String>,
}

impl Runs {
    /// Runs so many seeds, as long as the arguments have it, and judges each.
    fn run(
        &mut self,
        out: &mut impl Write,
        args: &Args,
        seeds: u64,
        judge: fn(&Plan) -> io::Result<Report>,
    ) -> io::Result<()> {
        let all = args.start..args.start.saturating_add(seeds);
        let work = |seed| judge(&plan(args, seed));
        in_parallel(all, args.jobs, work, |seed, report| {
            self.coverage.add(&report);
            self.first.get_or_insert_with(|| digest(&report));
            if args.history {
                writeln!(out, "{}", report.history.join("\n"))?;
            }
            if report.violations.is_empty() {
                self.passed += 1;
            } else {
                self.failed += 1;
                show(out, &plan(args, seed), &report)?;
                let of_seed = |violation| json!({ "seed": seed, "violation": violation });
                self.violations
                    .extend(report.violations.iter().map(of_seed));
            }
            if seed % PROGRESS == 0 {
                let failed = self.failed;
                writeln!(io::stderr(), "seed {seed} done, {failed} failed so far")?;
            }
            Ok(())
        })
    }
}

/// What a history comes to.
fn digest(report: &Report) -> String {
    format!("{:016x} {}", report.digest.0, report.digest.1)
}

/// Whether a process of its own gives a seed the same history.
fn another_process_agrees(out: &mut impl Write, seed: u64, here: Option<&str>) -> io::Result<bool> {
    let mut other = Command::new(std::env::current_exe()?);
    let output = other
        .args(["--start", &seed.to_string(), "--digest"])
        .output()?;
    let there = String::from_utf8_lossy(&output.stdout);
    let agrees = output.status.success() && here == Some(there.trim());
    let word = if agrees { "the same" } else { "ANOTHER" };
    writeln!(out, "in another process seed {seed} has {word} history")?;
    if !agrees {
        writeln!(out, "here: {here:?}; there: {}, {there:?}", output.status)?;
        out.write_all(&output.stderr)?;
    }
    Ok(agrees)
}

fn plan(args: &Args, seed: u64) -> Plan {
    let plan = args
        .mutation
        .map_or_else(|| Plan::of(seed), |broken| Plan::mutated(seed, broken));
    Plan {
        seconds: args.seconds,
        without: args.without.clone(),
        ..plan
    }
}

/// Whether a world that stands still is noticed, in a process of its own as that ends it.
fn hang_is_noticed(out: &mut impl Write, seed: u64) -> io::Result<bool> {
    let Mutation {
        name,
        wrong,
        found_by,
        ..
    } = mutations::HANGING;
    let mut other = Command::new(std::env::current_exe()?);
    let seed = seed.to_string();
    let world = ["--seeds", "1", "--start", &seed, "--mutation", name];
    let output = other.args(world).args(["--hang-after", "3"]).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    let is_noticed = output.status.code() == Some(HUNG) && said.contains(found_by);
    let word = if is_noticed { "found" } else { "NOT found" };
    writeln!(out, "{name} ({wrong}): {word} with seed {seed}")?;
    if !is_noticed {
        writeln!(out, "{}: {said}", output.status)?;
    }
    Ok(is_noticed)
}

/// Whether the checks find every mutation within a few seeds, and shrinking what it must.
fn mutations_are_found(out: &mut impl Write, args: &Args) -> io::Result<bool> {
    let mut all = true;
    for (what, is_found) in [
        (
            "the two of 260 disturbances that fail together",
            shrink::finds_a_pair()?,
        ),
        (
            "the machine too many of two launches that share a claim",
            duplicates::tells_machines_apart(),
        ),
        (
            "what is sent too late, among what is heard of late",
            leadership::tells_senders_apart(),
        ),
    ] {
        let word = if is_found { "found" } else { "NOT found" };
        writeln!(out, "{what}: {word}")?;
        all &= is_found;
    }
    let gaps = mutations::proofs::gaps();
    for gap in &gaps {
        writeln!(out, "the checks are not proven: {gap}")?;
    }
    let held = flags::are_held_to();
    let word = if held { "refused" } else { "NOT refused" };
    writeln!(out, "flags that there are not: {word}")?;
    all &= held && gaps.is_empty() && hang_is_noticed(out, args.start)?;
    let seeds = args.start..args.start.saturating_add(mutations::SEEDS);
    let search = |mutation: &'static Mutation| -> io::Result<Option<u64>> {
        for seed in seeds.clone() {
            let report = trial::run(&Plan::mutated(seed, mutation))?;
            let by = |violation: &String| violation.contains(mutation.found_by);
            if report.violations.iter().any(by) {
                return Ok(Some(seed));
            }
        }
        Ok(None)
    };
    in_parallel(&mutations::ALL, args.jobs, search, |mutation, found| {
        let (name, wrong) = (mutation.name, mutation.wrong);
        all &= found.is_some();
        match found {
            Some(seed) => writeln!(out, "{name} ({wrong}): found with seed {seed}"),
            None => writeln!(out, "{name} ({wrong}): NOT found with seeds {seeds:?}"),
        }
    })?;
    Ok(all)
}
