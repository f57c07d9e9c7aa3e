//! How fast the demo plays: real seconds between virtual ones.

use std::str::FromStr;
use std::time::{Duration, Instant};

use jiff::SignedDuration;

/// Pictures a second, at most.
const DRAW_EVERY: Duration = Duration::from_millis(80);

/// How fast.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Speed {
    /// So many virtual seconds for each real one.
    Times(u32),
    /// As fast as the machine can.
    Max,
}

impl FromStr for Speed {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "max" {
            return Ok(Self::Max);
        }
        match text.trim_end_matches('x').parse() {
            Ok(times) if times > 0 => Ok(Self::Times(times)),
            _ => Err(format!(
                "`{text}` is not a speed: write a number such as 600, or max"
            )),
        }
    }
}

/// Keeps virtual time from running ahead of real time.
#[derive(Debug)]
pub(super) struct Pace {
    speed: Speed,
    begun: Instant,
    drawn: Option<Instant>,
}

impl Pace {
    pub(super) fn new(speed: Speed) -> Self {
        Self {
            speed,
            begun: Instant::now(),
            drawn: None,
        }
    }

    /// Waits until real time has caught up with so much virtual time. The world stands still then.
    pub(super) fn wait(&self, virtual_time: SignedDuration) {
        let Speed::Times(times) = self.speed else {
            return;
        };
        let due = Duration::try_from(virtual_time).unwrap_or_default() / times;
        std::thread::sleep(due.saturating_sub(self.begun.elapsed()));
    }

    /// True when the last picture is old enough for another.
    pub(super) fn is_time_to_draw(&mut self) -> bool {
        let due = self.drawn.is_none_or(|drawn| drawn.elapsed() >= DRAW_EVERY);
        if due {
            self.drawn = Some(Instant::now());
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speeds_are_numbers_or_max() {
        assert_eq!("600".parse(), Ok(Speed::Times(600)));
        assert_eq!("60x".parse(), Ok(Speed::Times(60)));
        assert_eq!("max".parse(), Ok(Speed::Max));
        assert!("0".parse::<Speed>().is_err() && "fast".parse::<Speed>().is_err());
    }
}
