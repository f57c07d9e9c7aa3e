//! A ceiling on how many instances may be launched, or ended, within a minute.
//!
//! Given what was spent and when; given back how much room is left, and when there will be more. A
//! window that slides: in no sixty seconds is more spent than the ceiling. Without a ceiling there is
//! always room.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use jiff::{SignedDuration, Timestamp};

/// The window.
const WINDOW: SignedDuration = SignedDuration::from_mins(1);

/// What was spent within the last minute.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pace {
    ceiling: Option<NonZeroU32>,
    spent: BTreeMap<String, (Timestamp, u32)>,
}

impl Pace {
    /// A pace of at most so many a minute; `None` is without end.
    pub fn per_minute(ceiling: Option<NonZeroU32>) -> Self {
        Self {
            ceiling,
            spent: BTreeMap::new(),
        }
    }

    /// The most that may be spent at once.
    pub fn ceiling(&self) -> Option<NonZeroU32> {
        self.ceiling
    }

    /// Spends for a purpose; again for the same purpose replaces what was spent for it.
    pub fn spend(&mut self, purpose: &str, count: u32, now: Timestamp) {
        if self.ceiling.is_none() {
            return;
        }
        self.spent
            .retain(|_purpose, (at, _count)| is_within(*at, now));
        self.spent.insert(purpose.to_owned(), (now, count));
    }

    /// Corrects what was spent for a purpose, at the time it was.
    pub fn correct(&mut self, purpose: &str, count: u32) {
        if let Some((_at, spent)) = self.spent.get_mut(purpose) {
            *spent = count;
        }
    }

    /// How much may be spent now.
    pub fn room(&self, now: Timestamp) -> u32 {
        let Some(ceiling) = self.ceiling else {
            return u32::MAX;
        };
        let spent = self
            .spent
            .values()
            .filter(|(at, _count)| is_within(*at, now))
            .fold(0_u32, |sum, (_at, count)| sum.saturating_add(*count));
        ceiling.get().saturating_sub(spent)
    }

    /// When there will be more room than now; `None` when nothing is spent.
    pub fn more_at(&self, now: Timestamp) -> Option<Timestamp> {
        self.spent
            .values()
            .filter(|(at, count)| *count > 0 && is_within(*at, now))
            .map(|(at, _count)| at.saturating_add(WINDOW).unwrap_or(Timestamp::MAX))
            .min()
    }
}

fn is_within(at: Timestamp, now: Timestamp) -> bool {
    now.duration_since(at) < WINDOW
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::test_runner::RngSeed;

    use super::*;
    use crate::plan::examples::at;

    #[test]
    fn room_comes_back_a_minute_after_it_was_spent() {
        let mut pace = Pace::per_minute(NonZeroU32::new(10));
        pace.spend("a", 6, at(0));
        pace.spend("b", 4, at(20));
        assert_eq!((pace.room(at(20)), pace.more_at(at(20))), (0, Some(at(60))));
        pace.correct("a", 1);
        assert_eq!(pace.room(at(30)), 5);
        assert_eq!(pace.room(at(60)), 6);
        assert_eq!((pace.room(at(80)), pace.more_at(at(80))), (10, None));
    }

    #[test]
    fn without_a_ceiling_nothing_is_counted() {
        let mut pace = Pace::per_minute(None);
        pace.spend("a", u32::MAX, at(0));
        assert_eq!((pace.room(at(0)), pace.more_at(at(0))), (u32::MAX, None));
        assert_eq!(pace, Pace::default());
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            failure_persistence: None,
            rng_seed: RngSeed::Fixed(9),
            ..ProptestConfig::default()
        })]

        #[test]
        fn no_minute_sees_more_than_the_ceiling(
            ceiling in 1_u32..50,
            wishes in proptest::collection::vec((0_i64..30, 1_u32..80), 1..60),
        ) {
            let mut pace = Pace::per_minute(NonZeroU32::new(ceiling));
            let mut done: Vec<(i64, u32)> = Vec::new();
            let mut second = 0;
            for (index, (later, wish)) in wishes.into_iter().enumerate() {
                second += later;
                let count = wish.min(pace.room(at(second)));
                pace.spend(&index.to_string(), count, at(second));
                done.push((second, count));
            }
            for (begin, _count) in &done {
                let within: u32 = done
                    .iter()
                    .filter(|(at, _count)| (*begin..begin + 60).contains(at))
                    .map(|(_at, count)| count)
                    .sum();
                prop_assert!(within <= ceiling, "{} within a minute", within);
            }
        }
    }
}
