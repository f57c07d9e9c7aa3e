//! What the worlds that were run have covered: how large they were, and which faults have met claims in
//! which phases of their lives.

use std::collections::BTreeMap;
use std::io::{self, Write};

use serde_json::{Value, json};

use crate::faults::Counts;
use crate::kinds::Fault;
use crate::phases::Phase;
use crate::trial::{HOUR, Report};

/// From so many hours on, what they have not covered is a failure: chance does not explain it.
const ENOUGH: u64 = 100;

/// What the median world must have at least.
const LEAST: [(&str, usize); 4] = [("pods", 150), ("nodes", 20), ("faults", 10), ("kinds", 6)];

/// Figures of every world so far.
#[derive(Debug, Default)]
pub(crate) struct Coverage {
    worlds: usize,
    seconds: u64,
    /// Worlds of less than an hour, which say nothing of medians.
    short: usize,
    counts: Counts,
    /// How often a controller took a lease.
    terms: usize,
    figures: BTreeMap<&'static str, Vec<usize>>,
}

impl Coverage {
    /// Takes in a world.
    pub(crate) fn add(&mut self, report: &Report) {
        self.worlds += 1;
        self.seconds += report.seconds;
        self.short += usize::from(report.seconds < HOUR);
        self.terms += report.terms;
        for (fault, count) in &report.counts.of {
            *self.counts.of.entry(*fault).or_default() += count;
        }
        for (met, count) in &report.counts.met {
            *self.counts.met.entry(*met).or_default() += count;
        }
        let minutes = usize::try_from(report.seconds / 60).unwrap_or(0);
        for (name, figure) in [
            ("pods", report.pods),
            ("nodes", report.nodes),
            ("faults", report.counts.of.values().sum()),
            ("kinds", report.counts.of.len()),
            ("minutes", minutes),
            ("requests", report.busiest),
        ] {
            self.figures.entry(name).or_default().push(figure);
        }
    }

    fn median(&self, name: &str) -> usize {
        let mut figures = self.figures.get(name).cloned().unwrap_or_default();
        figures.sort_unstable();
        figures.get(figures.len() / 2).copied().unwrap_or(0)
    }

    fn met(&self, fault: Fault, phase: Phase) -> usize {
        self.counts.met.get(&(fault, phase)).copied().unwrap_or(0)
    }

    /// What is missing, if they lasted long enough to say so.
    pub(crate) fn gaps(&self) -> Vec<String> {
        if self.seconds < ENOUGH * HOUR {
            return Vec::new();
        }
        let mut gaps = Vec::new();
        for (name, least) in LEAST.into_iter().filter(|_least| self.short == 0) {
            let median = self.median(name);
            if median < least {
                gaps.push(format!("the median world has {median} {name}, not {least}"));
            }
        }
        for fault in Fault::ALL {
            if !self.counts.of.contains_key(&fault) {
                gaps.push(format!("`{}` has never struck", fault.name()));
            }
            for phase in Phase::ALL {
                let met = self.met(fault, phase);
                let (fault, phase, never) = (fault.name(), phase.name(), fault.why_never(phase));
                match never {
                    None if met == 0 => {
                        gaps.push(format!("`{fault}` has met no claim that is {phase}"));
                    }
                    Some(why) if met > 0 => gaps.push(format!(
                        "`{fault}` has met a claim that is {phase}, which was held to be impossible: {why}"
                    )),
                    _ => {}
                }
            }
        }
        gaps
    }

    /// Writes the table of faults and phases, and the medians.
    pub(crate) fn show(&self, out: &mut impl Write) -> io::Result<()> {
        write!(out, "{:20} {:>8}", "faults", "all")?;
        for phase in Phase::ALL {
            write!(out, " {:>9}", phase.name())?;
        }
        writeln!(out)?;
        for fault in Fault::ALL {
            let all = self.counts.of.get(&fault).copied().unwrap_or(0);
            write!(out, "{:20} {all:>8}", fault.name())?;
            for phase in Phase::ALL {
                let met = self.met(fault, phase);
                if fault.can_meet(phase) || met > 0 {
                    write!(out, " {met:>9}")?;
                } else {
                    write!(out, " {:>9}", "-")?;
                }
            }
            writeln!(out)?;
        }
        writeln!(
            out,
            "the median of {} worlds: {} pods, {} nodes, {} faults of {} kinds, {} minutes, {} requests in the \
             busiest second",
            self.worlds,
            self.median("pods"),
            self.median("nodes"),
            self.median("faults"),
            self.median("kinds"),
            self.median("minutes"),
            self.median("requests"),
        )
    }

    /// The figures for programs.
    pub(crate) fn json(&self) -> Value {
        let of = &self.counts.of;
        let faults: BTreeMap<&str, usize> = of
            .iter()
            .map(|(fault, count)| (fault.name(), *count))
            .collect();
        let mut phases: BTreeMap<&str, BTreeMap<&str, usize>> = BTreeMap::new();
        for ((fault, phase), count) in &self.counts.met {
            let of_fault = phases.entry(fault.name()).or_default();
            of_fault.insert(phase.name(), *count);
        }
        let medians: BTreeMap<&str, usize> = self
            .figures
            .keys()
            .map(|name| (*name, self.median(name)))
            .collect();
        json!({ "faults": faults, "phases": phases, "medians": medians, "leaseTaken": self.terms })
    }
}
