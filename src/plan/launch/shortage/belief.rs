//! How strongly something is believed, and how that fades.
//!
//! Given evidence and a time; given back a level between nothing and certainty, in millionths. A
//! level halves in equal times and falls on straight lines in between, so it is exact in integers,
//! never rises by itself and ends at nothing.

use jiff::{SignedDuration, Timestamp};

/// Certainty, in millionths.
pub(super) const CERTAIN: u32 = 1_000_000;
/// From here on an offering is left alone: it is more likely short than not.
pub(super) const CLOSED: u32 = CERTAIN / 2;
/// Below this a belief is forgotten, and with it how often it was confirmed: six half-lives.
pub(super) const FAINT: u32 = CERTAIN / 64;

/// How long the belief in a first shortage takes to halve. EC2 advises to try again "in a few
/// minutes", and a try too early costs one refused override of a call that has others; so the first
/// time is short and what is refused again and again is asked for ever less often.
pub(super) const FIRST_HALF_LIFE: SignedDuration = SignedDuration::from_mins(1);
/// The longest half-life, after repeated refusals. Shortages of whole families last for hours, and
/// a try every quarter of an hour finds their end soon enough.
pub(super) const LONGEST_HALF_LIFE: SignedDuration = SignedDuration::from_mins(16);
/// Refusals beyond this many make no difference: [`FIRST_HALF_LIFE`] doubled four times is the
/// longest.
pub(super) const MOST_REFUSALS: u32 = 5;

/// A belief that fades.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Belief {
    /// How strong it was, in millionths.
    pub(super) level: u32,
    /// When.
    pub(super) at: Timestamp,
    /// In how long it halves.
    pub(super) half_life: SignedDuration,
    /// How often it was confirmed without a sign of the contrary.
    pub(super) refusals: u32,
}

impl Belief {
    /// How strong it is at a time; at times before its evidence as strong as then.
    pub(super) fn level(&self, now: Timestamp) -> u32 {
        faded(self.level, now.duration_since(self.at), self.half_life)
    }

    /// Certainty after a refusal, upon what was believed before.
    pub(super) fn refused(known: Option<Self>, now: Timestamp) -> Self {
        let before = known
            .filter(|known| known.level(now) >= FAINT)
            .map_or(0, |known| known.refusals)
            .min(MOST_REFUSALS - 1);
        let half_life = FIRST_HALF_LIFE
            .saturating_mul(1 << before)
            .min(LONGEST_HALF_LIFE);
        Self {
            level: CERTAIN,
            at: now,
            half_life,
            refusals: before + 1,
        }
    }

    /// Until when the offering is left alone.
    pub(super) fn closed_until(&self, now: Timestamp) -> Option<Timestamp> {
        if self.level(now) < CLOSED {
            return None;
        }
        // In one half-life it loses half of itself, on a straight line.
        let above = i128::from(self.level.saturating_sub(CLOSED)) * 2;
        let length = above * self.half_life.as_nanos() / i128::from(self.level.max(1));
        let length = SignedDuration::from_nanos_i128(length);
        let until = self.at.saturating_add(length).unwrap_or(Timestamp::MAX);
        (until > now).then_some(until)
    }
}

/// What is left of a level after a time.
pub(in crate::plan::launch) fn faded(
    level: u32,
    elapsed: SignedDuration,
    half_life: SignedDuration,
) -> u32 {
    let half_life = half_life.as_millis().max(1);
    let elapsed = elapsed.as_millis().max(0);
    let Ok(halvings) = u32::try_from(elapsed / half_life) else {
        return 0;
    };
    let level = level.checked_shr(halvings).unwrap_or(0);
    let gone = i128::from(level) * (elapsed % half_life) / half_life / 2;
    level.saturating_sub(u32::try_from(gone).unwrap_or(u32::MAX))
}

/// The level of "this or that", both believed independently of each other.
pub(super) fn either(one: u32, other: u32) -> u32 {
    let doubt = |level: u32| u64::from(CERTAIN - level.min(CERTAIN));
    let both = doubt(one) * doubt(other) / u64::from(CERTAIN);
    CERTAIN - u32::try_from(both).unwrap_or(CERTAIN)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::test_runner::RngSeed;

    use super::*;
    use crate::plan::examples::at;

    fn after(seconds: i64, half_life: i64) -> u32 {
        let elapsed = SignedDuration::from_secs(seconds);
        faded(CERTAIN, elapsed, SignedDuration::from_secs(half_life))
    }

    #[test]
    fn a_level_halves_in_equal_times_on_straight_lines() {
        assert_eq!(after(-5, 60), CERTAIN);
        assert_eq!(after(0, 60), CERTAIN);
        assert_eq!(after(30, 60), 750_000);
        assert_eq!(after(60, 60), CLOSED);
        assert_eq!(after(90, 60), 375_000);
        assert_eq!(after(360, 60), FAINT);
        assert_eq!(after(86_400, 60), 0);
    }

    #[test]
    fn what_is_refused_again_is_believed_for_longer() {
        let mut known = None;
        let mut now = at(0);
        let mut pauses = Vec::new();
        for _refusal in 0..7 {
            let belief = Belief::refused(known, now);
            let until = belief.closed_until(now).unwrap();
            pauses.push(until.duration_since(now).as_secs() / 60);
            now = until;
            known = Some(belief);
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 16, 16]);
        let forgotten = now + SignedDuration::from_mins(16 * 6);
        let anew = Belief::refused(known, forgotten);
        assert_eq!((anew.half_life, anew.refusals), (FIRST_HALF_LIFE, 1));
    }

    #[test]
    fn two_halves_make_three_quarters() {
        assert_eq!(either(CLOSED, CLOSED), 750_000);
        assert_eq!(either(0, CERTAIN), CERTAIN);
        assert_eq!(either(0, 0), 0);
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            failure_persistence: None,
            rng_seed: RngSeed::Fixed(11),
            ..ProptestConfig::default()
        })]

        #[test]
        fn it_only_fades_and_ends_at_nothing(
            level in 0..=CERTAIN,
            half_life in 1_i64..4_000,
            early in 0_i64..100_000,
            later in 0_i64..100_000,
        ) {
            let half_life = SignedDuration::from_secs(half_life);
            let left = |seconds: i64| faded(level, SignedDuration::from_secs(seconds), half_life);
            prop_assert!(left(early + later) <= left(early));
            prop_assert_eq!(faded(level, half_life.saturating_mul(21), half_life), 0);
        }

        #[test]
        fn it_closes_exactly_until_it_says(level in 0..=CERTAIN, seconds in 0_i64..2_000) {
            let belief = Belief {
                level,
                at: at(0),
                half_life: FIRST_HALF_LIFE,
                refusals: 1,
            };
            let now = at(seconds);
            match belief.closed_until(now) {
                Some(until) => {
                    prop_assert!(belief.level(now) >= CLOSED);
                    prop_assert!(belief.level(until + SignedDuration::from_millis(1)) <= CLOSED);
                }
                None => prop_assert!(belief.level(now) <= CLOSED),
            }
        }
    }
}
