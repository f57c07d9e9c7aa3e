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

/// What was spent for a purpose before; whoever gives up what it spent gives this back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct Before(Option<(Timestamp, u32)>);

/// There is not enough room now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the ceiling of {ceiling} a minute is reached; it goes on when there is room")]
pub struct Full {
    /// The ceiling.
    pub ceiling: NonZeroU32,
}

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

    /// Spends for a purpose if there is room, so that of many that begin at once only so many go on as
    /// the ceiling allows. What was spent for the purpose within the minute is not spent again.
    ///
    /// # Errors
    /// [`Full`], and nothing is spent.
    pub fn try_spend(&mut self, purpose: &str, count: u32, now: Timestamp) -> Result<Before, Full> {
        let Some(ceiling) = self.ceiling else {
            return Ok(Before(None));
        };
        let before = self
            .spent
            .get(purpose)
            .copied()
            .filter(|(at, _count)| is_within(*at, now));
        let counted = before.map_or(0, |(_at, count)| count);
        if count > counted {
            if self.room(now).saturating_add(counted) < count {
                return Err(Full { ceiling });
            }
            self.spend(purpose, count, now);
        }
        Ok(Before(before))
    }

    /// Takes back what [`Self::try_spend`] spent: nothing came of it.
    pub fn give_back(&mut self, purpose: &str, before: Before) {
        match before.0 {
            Some(spent) => self.spent.insert(purpose.to_owned(), spent),
            None => self.spent.remove(purpose),
        };
    }

    /// Spends for a purpose, room or not; again for the same purpose replaces what was spent for it.
    pub fn spend(&mut self, purpose: &str, count: u32, now: Timestamp) {
        if self.ceiling.is_none() {
            return;
        }
        self.spent
            .retain(|_purpose, (at, _count)| is_within(*at, now));
        self.spent.insert(purpose.to_owned(), (now, count));
    }

    /// Learns what was spent by whoever was there before; what was spent since stands.
    pub fn inherit(&mut self, purpose: &str, count: u32, at: Timestamp, now: Timestamp) {
        if self.ceiling.is_some() && is_within(at, now) {
            let known = self.spent.entry(purpose.to_owned());
            known.or_insert((at, count));
        }
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

/// True for what was spent less than a minute ago. A clock that is set back puts what was spent into
/// the future: up to a minute of that is held on to, because clocks jitter, but more would close the
/// ceiling for as long as the clock was set back.
fn is_within(at: Timestamp, now: Timestamp) -> bool {
    now.duration_since(at).abs() < WINDOW
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
    fn a_clock_that_is_set_back_an_hour_does_not_close_the_ceiling_for_an_hour() {
        let mut pace = Pace::per_minute(NonZeroU32::new(2));
        pace.spend("a", 2, at(3_600));
        assert_eq!(pace.room(at(3_599)), 0, "a second is jitter");
        assert_eq!((pace.room(at(0)), pace.more_at(at(0))), (2, None));
        pace.spend("b", 2, at(0));
        assert_eq!((pace.room(at(59)), pace.room(at(60))), (0, 2));
    }

    #[test]
    fn of_many_that_begin_at_once_only_those_go_on_that_there_is_room_for() {
        let mut pace = Pace::per_minute(NonZeroU32::new(2));
        let full = Full {
            ceiling: NonZeroU32::new(2).unwrap(),
        };
        let broken = pace.try_spend("broken", 1, at(0)).unwrap();
        let good = pace.try_spend("good", 1, at(0)).unwrap();
        assert_eq!(pace.try_spend("late", 1, at(0)), Err(full));
        assert_eq!(
            pace.try_spend("good", 1, at(1)),
            Ok(Before(Some((at(0), 1))))
        );
        assert_eq!(pace.try_spend("good", 2, at(1)), Err(full));
        pace.give_back("broken", broken);
        assert!(pace.try_spend("late", 1, at(2)).is_ok());
        // Another try of what was counted gives back no more than itself.
        let again = pace.try_spend("good", 1, at(3)).unwrap();
        pace.give_back("good", again);
        assert_eq!(pace.room(at(3)), 0);
        pace.give_back("good", good);
        assert_eq!(pace.room(at(3)), 1);
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
                if pace.try_spend(&index.to_string(), wish, at(second)).is_ok() {
                    done.push((second, wish));
                } else {
                    let count = pace.room(at(second));
                    pace.spend(&index.to_string(), count, at(second));
                    done.push((second, count));
                }
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
