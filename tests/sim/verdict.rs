//! What is said about a seed: whether it passes twice alike, and how little it takes to make it fail.

use std::cell::Cell;
use std::io::{self, Write};

use crate::shrink;
use crate::trial::{self, Plan, Report};

/// Lines of a failing history that are shown.
const SHOWN: usize = 40;

thread_local! {
    /// Panics so far: the controllers survive them, a trial does not. A world lives on one thread.
    static PANICS: Cell<usize> = const { Cell::new(0) };
}

/// From now on panics are counted.
pub(crate) fn count_panics() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        PANICS.set(PANICS.get() + 1);
        before(info);
    }));
}

/// Runs a seed.
pub(crate) fn judged_once(plan: &Plan) -> io::Result<Report> {
    let panics = PANICS.get();
    let mut report = trial::run(plan)?;
    if PANICS.get() > panics {
        report.violations.push("something panicked".to_owned());
    }
    Ok(report)
}

/// Runs a seed twice.
pub(crate) fn judged(plan: &Plan) -> io::Result<Report> {
    let mut first = judged_once(plan)?;
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
    Ok(first)
}

/// Shows a failure, as small as it gets.
pub(crate) fn show(out: &mut impl Write, plan: &Plan, report: &Report) -> io::Result<()> {
    writeln!(out, "seed {} failed:", plan.seed)?;
    for violation in &report.violations {
        writeln!(out, "  {violation}")?;
    }
    let count = report.disturbances.len();
    let mut last = None;
    let shrunk = shrink::shrink(count, &plan.without, |without| {
        let panics = PANICS.get();
        let plan = Plan {
            without: without.clone(),
            hasty: true,
            ..plan.clone()
        };
        let report = trial::run(&plan)?;
        let fails = !report.violations.is_empty() || PANICS.get() > panics;
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
    let replay = plan.replay();
    let without = shrink::write(
        &(0..count)
            .filter(|number| !shrunk.kept.contains(number))
            .collect(),
    );
    writeln!(out, "replay all of it: {replay} --history")?;
    writeln!(out, "replay these: {replay} --without {without} --history")
}
