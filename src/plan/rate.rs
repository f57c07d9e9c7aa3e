//! How many instances EC2 starts for an account: so many at once, then so many a second.
//!
//! Given what is taken for which purpose, what came of it, and when EC2 throttled; given back how many instances may be
//! started now, and when so many may. A purpose pays once, however often its call is made, and gets back what did not
//! start. Whoever counts so has never more than EC2 counts, so that EC2 refuses nobody. Nothing waits here.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use jiff::{SignedDuration, Timestamp};

/// How long until something that waits asks again at the latest.
const ASK_AGAIN: SignedDuration = SignedDuration::from_secs(10);
/// The most that the room is divided by: an eighth is left.
const MOST_SLOWED: u32 = 8;
/// Seconds without throttling until the room is divided by one less.
const RECOVERS_IN: i64 = 10;

/// The refill and the size of the bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Instances that may be started per second, on average.
    pub per_second: NonZeroU32,
    /// Instances that may be started at once.
    pub burst: NonZeroU32,
}

impl Default for Rate {
    /// AWS's for an account and region.
    fn default() -> Self {
        Self {
            per_second: NonZeroU32::MIN.saturating_add(1),
            burst: NonZeroU32::MIN.saturating_add(999),
        }
    }
}

/// What was taken for a purpose before; whoever gives up what it took gives this back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct Before(u32);

/// There is not enough now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("EC2 starts no more instances at the moment; it goes on when there is room")]
pub struct Empty;

/// What was taken for a purpose that is not settled yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Taken {
    count: u32,
    at: Timestamp,
}

/// EC2 throttles, so others draw on the same bucket and less is there than was counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Slowed {
    divisor: u32,
    since: Timestamp,
}

/// The bucket as it is believed to be.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tokens {
    /// `None` is without end.
    rate: Option<Rate>,
    /// Thousandths of a token.
    level: u64,
    /// When that was so; `None` while nothing was taken.
    counted: Option<Timestamp>,
    taken: BTreeMap<String, Taken>,
    slowed: Option<Slowed>,
}

fn thousandths(count: u32) -> u64 {
    u64::from(count) * 1_000
}

impl Tokens {
    /// A full bucket.
    pub fn of(rate: Rate) -> Self {
        Self {
            rate: Some(rate),
            level: thousandths(rate.burst.get()),
            ..Self::default()
        }
    }

    /// Refill and size; `None` is without end.
    pub fn rate(&self) -> Option<Rate> {
        self.rate
    }

    /// Thousandths that are there. What is taken and not settled may not have reached EC2 yet, whose bucket
    /// does not refill before it has: it counts against the size until then.
    fn level_at(&self, rate: Rate, now: Timestamp) -> u64 {
        let taken = self.taken.values();
        let taken = taken.fold(0_u32, |sum, taken| sum.saturating_add(taken.count));
        let most = thousandths(rate.burst.get().saturating_sub(taken));
        // A clock that is set back must not stop the refill until it has caught up.
        let passed = self
            .counted
            .map_or(0, |counted| now.duration_since(counted).as_millis().abs());
        let passed = u64::try_from(passed).unwrap_or(u64::MAX);
        let refilled = passed.saturating_mul(u64::from(rate.per_second.get()));
        self.level.saturating_add(refilled).min(most)
    }

    fn refill(&mut self, rate: Rate, now: Timestamp) {
        self.level = self.level_at(rate, now);
        self.counted = Some(now);
    }

    fn divisor(&self, now: Timestamp) -> u32 {
        let Some(slowed) = self.slowed else {
            return 1;
        };
        let passed = now.duration_since(slowed.since).as_secs().abs();
        let steps = u32::try_from(passed / RECOVERS_IN).unwrap_or(u32::MAX);
        slowed.divisor.saturating_sub(steps).max(1)
    }

    /// EC2 throttled a launch: of what was counted half is believed, and all of it again the longer no launch is
    /// throttled.
    pub fn throttled(&mut self, now: Timestamp) {
        let divisor = self.divisor(now).saturating_mul(2).min(MOST_SLOWED);
        let since = now;
        self.slowed = self.rate.map(|_rate| Slowed { divisor, since });
    }

    /// How many instances may be started now.
    pub fn room(&self, now: Timestamp) -> u32 {
        let Some(rate) = self.rate else {
            return u32::MAX;
        };
        let there = self.level_at(rate, now) / 1_000 / u64::from(self.divisor(now));
        u32::try_from(there).unwrap_or(u32::MAX)
    }

    /// When there may be room for so many, or when to ask again.
    pub fn ready_at(&self, count: u32, now: Timestamp) -> Timestamp {
        let Some(rate) = self.rate else {
            return now;
        };
        let wanted = thousandths(count).saturating_mul(u64::from(self.divisor(now)));
        let missing = wanted.saturating_sub(self.level_at(rate, now));
        let wait = missing.div_ceil(u64::from(rate.per_second.get()));
        let wait = SignedDuration::from_millis(i64::try_from(wait).unwrap_or(i64::MAX));
        now.saturating_add(wait.min(ASK_AGAIN)).unwrap_or(now)
    }

    /// Takes for a purpose if there is room; what was taken for it before is not taken again.
    ///
    /// # Errors
    /// [`Empty`], and nothing is taken.
    pub fn try_take(&mut self, purpose: &str, count: u32, now: Timestamp) -> Result<Before, Empty> {
        let Some(rate) = self.rate else {
            return Ok(Before(0));
        };
        let known = self.taken.get(purpose).map_or(0, |taken| taken.count);
        let more = count.saturating_sub(known);
        if more > self.room(now) {
            return Err(Empty);
        }
        if more > 0 {
            self.refill(rate, now);
            self.level = self.level.saturating_sub(thousandths(more));
            let taken = Taken { count, at: now };
            self.taken.insert(purpose.to_owned(), taken);
        }
        Ok(Before(known))
    }

    /// Takes back what [`Self::try_take`] took: nothing came of it.
    pub fn give_back(&mut self, purpose: &str, before: Before) {
        let Some(taken) = self.taken.get_mut(purpose) else {
            return;
        };
        let back = taken.count.saturating_sub(before.0);
        taken.count = before.0;
        if before.0 == 0 {
            self.taken.remove(purpose);
        }
        self.level = self.level.saturating_add(thousandths(back));
    }

    /// A purpose is settled, and so many instances were started for it.
    pub fn settle(&mut self, purpose: &str, started: u32, now: Timestamp) {
        let Some(rate) = self.rate.filter(|_rate| self.taken.contains_key(purpose)) else {
            return;
        };
        self.refill(rate, self.counted.map_or(now, |counted| counted.max(now)));
        let taken = self.taken.remove(purpose).map_or(0, |taken| taken.count);
        let back = taken.saturating_sub(started);
        self.level = self.level.saturating_add(thousandths(back));
    }

    /// Forgets purposes of before a time that nobody pursues any more.
    pub fn forget(&mut self, before: Timestamp, is_pursued: impl Fn(&str) -> bool) {
        self.taken
            .retain(|purpose, taken| taken.at > before || is_pursued(purpose));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::examples::at;

    fn tokens(per_second: u32, burst: u32) -> Tokens {
        Tokens::of(Rate {
            per_second: NonZeroU32::new(per_second).unwrap(),
            burst: NonZeroU32::new(burst).unwrap(),
        })
    }

    #[test]
    fn a_burst_is_free_and_what_follows_waits_for_the_refill() {
        let mut tokens = tokens(2, 1_000);
        for batch in ["a", "b"] {
            assert!(tokens.try_take(batch, 500, at(0)).is_ok());
            tokens.settle(batch, 500, at(0));
        }
        assert_eq!(tokens.try_take("c", 1, at(0)), Err(Empty));
        assert_eq!(tokens.ready_at(8, at(0)), at(4));
        assert_eq!((tokens.room(at(3)), tokens.room(at(25))), (6, 50));
        assert_eq!(tokens.room(at(100_000)), 1_000);
    }

    #[test]
    fn a_purpose_pays_once_and_gets_back_what_did_not_start() {
        let mut tokens = tokens(1, 100);
        let first = tokens.try_take("a", 60, at(0)).unwrap();
        for second in [1, 5, 60] {
            assert_eq!(tokens.try_take("a", 60, at(second)), Ok(Before(60)));
        }
        assert_eq!(tokens.room(at(60)), 40, "EC2 may not have heard of it yet");
        tokens.settle("a", 10, at(60));
        assert_eq!(tokens.room(at(60)), 90);
        tokens.give_back("a", first);
        assert_eq!(tokens.room(at(60)), 90, "it is settled");
        let none = tokens.try_take("b", 90, at(60)).unwrap();
        assert_eq!(tokens.try_take("c", 1, at(60)), Err(Empty));
        tokens.give_back("b", none);
        assert!(tokens.try_take("c", 90, at(60)).is_ok());
    }

    #[test]
    fn throttling_leaves_a_part_of_what_was_counted_for_a_while() {
        let mut tokens = tokens(1, 80);
        tokens.throttled(at(0));
        assert_eq!((tokens.room(at(0)), tokens.room(at(10))), (40, 80));
        for _call in 0..9 {
            tokens.throttled(at(20));
        }
        assert_eq!(tokens.room(at(20)), 10, "not less than an eighth");
        assert_eq!(tokens.ready_at(11, at(20)), at(28));
        assert_eq!((tokens.room(at(50)), tokens.room(at(90))), (16, 80));
    }

    #[test]
    fn what_nobody_pursues_is_forgotten_and_a_clock_set_back_stops_nothing() {
        let mut tokens = tokens(1, 10);
        let _kept = tokens.try_take("kept", 4, at(7_200)).unwrap();
        let _gone = tokens.try_take("gone", 6, at(7_200)).unwrap();
        assert_eq!(tokens.room(at(7_300)), 0);
        tokens.forget(at(7_300), |purpose| purpose == "kept");
        assert_eq!((tokens.room(at(7_203)), tokens.room(at(7_300))), (3, 6));
        assert_eq!(tokens.room(at(0)), 6);
    }

    #[test]
    fn without_a_rate_nothing_is_counted() {
        let mut tokens = Tokens::default();
        assert_eq!(tokens.try_take("a", u32::MAX, at(0)), Ok(Before(0)));
        tokens.throttled(at(0));
        assert_eq!(
            (tokens.room(at(0)), tokens.ready_at(9, at(0))),
            (u32::MAX, at(0))
        );
        assert_eq!(tokens, Tokens::default());
    }
}
