//! The demo as a log: a line for each thing that people want to know.

use std::fmt::Write as _;

use jiff::Timestamp;

use super::narrator::Narrator;
use crate::sim::demo::Play;

/// How often the state of things is said, virtual seconds.
const STATE_EVERY: i64 = 900;

/// A log on standard output.
#[derive(Debug)]
pub(super) struct Log {
    narrator: Narrator,
    act: &'static str,
    said: i64,
}

impl Log {
    pub(super) fn new() -> Self {
        Self {
            narrator: Narrator::default(),
            act: "",
            said: 0,
        }
    }

    /// Says what is new.
    pub(super) fn look(&mut self, play: &Play) {
        let mut text = String::new();
        if self.act != play.act {
            self.act = play.act;
            // Writing to a String cannot fail.
            let _infallible = writeln!(text, "{} -- {}", time(play.world.now()), play.act);
        }
        for line in &play.tally.latest {
            if let Some(said) = self.narrator.tell(line) {
                let _infallible = writeln!(text, "{} {said}", short(&line.at));
            }
        }
        let second = play.world.now().as_second();
        if second / STATE_EVERY != self.said {
            self.said = second / STATE_EVERY;
            let _infallible = writeln!(
                text,
                "{} {} machines at {} USD per hour, {:.2} USD so far, {} pods made",
                time(play.world.now()),
                play.world.ec2.alive().len(),
                play.world.ec2.rate(),
                dollars(play),
                play.tally.pods,
            );
        }
        // Whoever does not read any more has seen enough.
        crate::cli::write_stdout(&text).ok();
    }
}

pub(super) fn dollars(play: &Play) -> f64 {
    play.world.ec2.billed().to_string().parse().unwrap_or(0.0)
}

/// Hours, minutes and seconds.
pub(super) fn time(at: Timestamp) -> String {
    short(&at.to_string())
}

/// The time of day out of RFC 3339.
pub(super) fn short(at: &str) -> String {
    at.chars().skip(11).take(8).collect()
}
