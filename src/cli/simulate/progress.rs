//! How far the simulation is, on standard error when that is a terminal; and somebody who notices when it gets no further.

use std::io::{self, IsTerminal};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use jiff::SignedDuration;

use crate::sim::watchdog;
use crate::simulate::{Progress, Watcher};

/// How often a line is drawn at most.
const EVERY: Duration = Duration::from_millis(150);

/// How long a simulation may stand still: one moment of a large cluster takes seconds to plan, on a slow machine minutes.
pub(super) const PATIENCE: Duration = Duration::from_mins(15);

/// One line that is drawn again and again; nothing where nobody looks.
#[derive(Debug)]
pub(super) struct Watch {
    shown: bool,
    drawn: Mutex<Option<Instant>>,
}

impl Watch {
    pub(super) fn new(quiet: bool) -> Self {
        Self {
            shown: !quiet && io::stderr().is_terminal(),
            drawn: Mutex::new(None),
        }
    }

    /// Takes the line away.
    pub(super) fn clear(&self) {
        if self.shown {
            crate::cli::write_stderr("\r\x1b[K");
        }
    }
}

impl Watcher for Watch {
    fn moves(&self, variant: &str, to: SignedDuration) {
        let second = u64::try_from(to.as_secs()).unwrap_or(0);
        if !watchdog::lives(second) {
            let name = format!(
                "please report what `tonnage simulate` was asked for, and that it was variant {variant}"
            );
            watchdog::begins(name, second);
        }
    }

    fn ends(&self) {
        watchdog::rests();
    }

    fn look(&self, progress: &Progress<'_>) {
        if !self.shown {
            return;
        }
        let Ok(mut drawn) = self.drawn.try_lock() else {
            return;
        };
        if drawn.is_some_and(|at| at.elapsed() < EVERY) {
            return;
        }
        *drawn = Some(Instant::now());
        crate::cli::write_stderr(&format!("\r\x1b[K{}", line(progress)));
    }
}

fn line(progress: &Progress<'_>) -> String {
    let hours = |seconds: i64| format!("{}.{}", seconds / 86_400, seconds % 86_400 / 8_640);
    format!(
        "{}: day {} of {}, {} machines at {} USD per hour, {} pods run, {} wait",
        progress.variant,
        hours(progress.passed.as_secs()),
        hours(progress.of.as_secs()),
        progress.machines,
        super::table::dollars(progress.rate.units()),
        progress.running,
        progress.waiting,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::money::UsdPerHour;

    #[test]
    fn a_variant_is_watched_until_nothing_more_happens_in_it() {
        let watch = Watch::new(true);
        watch.moves("base", SignedDuration::ZERO);
        watch.moves("base", SignedDuration::from_secs(7));
        assert!(watchdog::is_watched());
        watch.ends();
        assert!(!watchdog::is_watched());
    }

    #[test]
    fn a_line_tells_time_machines_and_dollars() {
        let progress = Progress {
            variant: "base",
            passed: SignedDuration::from_hours(36),
            of: SignedDuration::from_hours(720),
            machines: 12,
            waiting: 3,
            running: 40,
            rate: UsdPerHour::from_micros(1_234_567),
        };
        assert_eq!(
            line(&progress),
            "base: day 1.5 of 30.0, 12 machines at 1.23 USD per hour, 40 pods run, 3 wait"
        );
    }
}
