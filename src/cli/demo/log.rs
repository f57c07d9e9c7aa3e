//! The demo as a log: a line for each thing that people want to know.

use std::fmt::Write as _;

use jiff::Timestamp;

use crate::sim::demo::Play;
use crate::sim::history::Line;

/// How often the state of things is said, virtual seconds.
const STATE_EVERY: i64 = 900;

/// A log on standard output.
#[derive(Debug)]
pub(super) struct Log {
    act: &'static str,
    said: i64,
}

impl Log {
    pub(super) const fn new() -> Self {
        Self { act: "", said: 0 }
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
            if let Some(said) = sentence(line) {
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
fn short(at: &str) -> String {
    at.chars().skip(11).take(8).collect()
}

/// What a line of the history says to people; most of it is only for the file.
pub(super) fn sentence(line: &Line) -> Option<String> {
    let text = |field: &str| {
        let value = line.fields.get(field).and_then(|value| value.as_str());
        value.unwrap_or_default()
    };
    Some(match line.event {
        "InstanceLaunched" => format!(
            "bought   {} {} at {} USD per hour for {}",
            text("instance"),
            text("offering"),
            text("usdPerHour"),
            text("nodePool")
        ),
        "InterruptionNotice" => format!(
            "reclaim  EC2 takes {} back in two minutes",
            text("instance")
        ),
        "InstanceEnds" if text("cause") == "terminated" => {
            format!("gone     {} cost {} USD", text("instance"), text("usd"))
        }
        "NodeUsable" => format!(
            "joined   {} {} {} in {}",
            text("node"),
            text("instanceType"),
            text("capacityType"),
            text("nodePool")
        ),
        "Told" if text("reason") == "FailedScheduling" => {
            format!("waits    {}: {}", text("name"), text("note"))
        }
        "Told" if text("reason") == "InsufficientCapacityError" => {
            format!("short    {}", text("note"))
        }
        _ => return None,
    })
}
