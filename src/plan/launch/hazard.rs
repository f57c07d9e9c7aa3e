//! How often EC2 takes spot machines back.
//!
//! Given the machines that run and the announcements about them; given back interruptions to be
//! expected per machine and hour, for each type and zone. Both what happened and how long machines
//! ran without it count, recent days more than earlier ones. Integers only; losing it costs nothing
//! but what was learned.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::assign::offering_of;
use super::shortage::faded;
use crate::model::offering::{CapacityType, Offering, OfferingKey};
use crate::model::snapshot::Snapshot;

/// How long what was seen takes to count half. Demand for capacity follows the day and the week: a
/// day keeps last night's batch window in mind and forgets last month's.
const HALF_LIFE: SignedDuration = SignedDuration::from_hours(24);
/// Machine time that every pool is taken to have had without an interruption, so that one early
/// interruption is not taken for a habit: a first one counts as one in twenty machine-hours.
const PRIOR: SignedDuration = SignedDuration::from_hours(20);
/// What an interruption counts, in millionths.
const INTERRUPTION: u32 = 1_000_000;
/// What a rebalance recommendation counts: EC2 gives it when the risk has risen, and follows it up far
/// from always.
const ADVICE: u32 = 250_000;
/// The most that is believed: one interruption an hour.
const MOST: u64 = 1_000_000;
/// Looks closer to each other are one, so that what is kept does not change all the time.
const SHORTEST_GAP: SignedDuration = SignedDuration::from_mins(2);
/// A gap between two looks that is longer is not counted as machine time: nobody saw what happened.
const LONGEST_GAP: SignedDuration = SignedDuration::from_mins(5);
/// How long it is remembered what was said about a machine: SQS keeps a message for four days unless
/// told otherwise.
const TOLD_FOR: SignedDuration = SignedDuration::from_hours(96);
/// Pools that are written at most, the most hazardous first.
const MOST_ENTRIES: usize = 1_000;

/// What was seen of one type in one zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    /// Weighted interruptions, in millionths.
    events: u32,
    /// Weighted machine time, in seconds.
    seconds: u32,
    /// When both were last counted.
    at: Timestamp,
}

impl Seen {
    fn nothing(at: Timestamp) -> Self {
        Self {
            events: 0,
            seconds: 0,
            at,
        }
    }

    /// As it counts at a later time.
    fn faded(self, now: Timestamp) -> Self {
        let passed = now.duration_since(self.at);
        Self {
            events: faded(self.events, passed, HALF_LIFE),
            seconds: faded(self.seconds, passed, HALF_LIFE),
            at: self.at.max(now),
        }
    }

    /// Interruptions per machine and hour, in millionths.
    fn per_hour(self) -> u32 {
        let prior = PRIOR.as_secs().unsigned_abs();
        let seconds = u64::from(self.seconds) + prior;
        let rate = u64::from(self.events) * 3_600 / seconds;
        u32::try_from(rate.min(MOST)).unwrap_or(u32::MAX)
    }
}

/// What was seen of every type and zone.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Hazards {
    pools: BTreeMap<OfferingKey, Seen>,
    looked: Option<Timestamp>,
    /// What was said about which machine, and when last: queues deliver more than once.
    told: BTreeMap<(&'static str, String), Timestamp>,
}

/// A text that is no memory of interruptions.
#[derive(Debug, thiserror::Error)]
#[error("the learned interruptions cannot be read; delete the entry to begin anew")]
pub struct UnreadableHazards(#[from] serde_json::Error);

#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    offering: String,
    events: u32,
    seconds: u32,
    at: Timestamp,
}

impl Hazards {
    /// Learns that EC2 takes a machine back. The same machine counts once, however often EC2 says it.
    pub fn interrupted(&mut self, offering: &OfferingKey, instance: &str, now: Timestamp) {
        if self.is_news("taken", instance, now) {
            self.add(offering, INTERRUPTION, 0, now);
        }
    }

    /// Learns that EC2 advises to leave a machine.
    pub fn advised(&mut self, offering: &OfferingKey, instance: &str, now: Timestamp) {
        if self.is_news("advised", instance, now) {
            self.add(offering, ADVICE, 0, now);
        }
    }

    fn is_news(&mut self, what: &'static str, instance: &str, now: Timestamp) -> bool {
        let told = (what, instance.to_owned());
        self.told.insert(told, now).is_none()
    }

    /// Learns how long spot machines have run since the last look.
    pub fn look(&mut self, snapshot: &Snapshot) {
        let now = snapshot.now;
        let Some(since) = self.looked.replace(now) else {
            return;
        };
        let passed = now.duration_since(since);
        let Ok(seconds) = u32::try_from(passed.as_secs()) else {
            return;
        };
        if passed < SHORTEST_GAP {
            // The next look counts it.
            self.looked = Some(since);
            return;
        }
        if passed > LONGEST_GAP {
            return;
        }
        let mut running: BTreeMap<OfferingKey, u32> = BTreeMap::new();
        for claim in snapshot.claims.values() {
            if claim.provider_id.is_empty() {
                continue;
            }
            if let Some(offering) = offering_of(claim)
                && offering.capacity_type == CapacityType::Spot
            {
                *running.entry(offering).or_default() += 1;
            }
        }
        for (offering, machines) in running {
            self.add(&offering, 0, seconds.saturating_mul(machines), now);
        }
    }

    fn add(&mut self, offering: &OfferingKey, events: u32, seconds: u32, now: Timestamp) {
        if offering.capacity_type != CapacityType::Spot {
            return;
        }
        let known = self.pools.get(offering).copied();
        let mut seen = known.map_or_else(|| Seen::nothing(now), |known| known.faded(now));
        seen.events = seen.events.saturating_add(events);
        seen.seconds = seen.seconds.saturating_add(seconds);
        self.pools.insert(offering.clone(), seen);
    }

    /// Interruptions to be expected per machine and hour, in millionths.
    pub fn per_hour(&self, offering: &OfferingKey, now: Timestamp) -> u32 {
        let seen = self.pools.get(offering);
        seen.map_or(0, |seen| seen.faded(now).per_hour())
    }

    /// Every type and zone with a hazard, in millionths.
    pub fn current(&self, now: Timestamp) -> impl Iterator<Item = (&OfferingKey, u32)> {
        self.pools
            .iter()
            .map(move |(offering, seen)| (offering, seen.faded(now).per_hour()))
            .filter(|(_offering, rate)| *rate > 0)
    }

    /// Writes the hazards into every catalogue of a snapshot.
    pub fn mark(&self, snapshot: &mut Snapshot) {
        let now = snapshot.now;
        let rates: BTreeMap<&OfferingKey, u32> = self.current(now).collect();
        if rates.is_empty() {
            return;
        }
        for class in snapshot.node_classes.values_mut() {
            let known = |offering: &Offering| rates.contains_key(&offering.key);
            if !class.catalogue.offerings.iter().any(known) {
                continue;
            }
            let catalogue = Arc::make_mut(&mut Arc::make_mut(class).catalogue);
            for offering in &mut catalogue.offerings {
                if let Some(rate) = rates.get(&offering.key) {
                    offering.outlook.interruptions = *rate;
                }
            }
        }
    }

    /// Drops what nothing is left of.
    pub fn forget(&mut self, now: Timestamp) {
        self.pools.retain(|_offering, seen| {
            let left = seen.faded(now);
            left.events > 0 || left.seconds > 0
        });
        self.told
            .retain(|_told, at| now.duration_since(*at) < TOLD_FOR);
    }

    /// True when the other text would say the same.
    pub fn says_the_same(&self, other: &Self) -> bool {
        self.pools == other.pools
    }

    /// As text, for [`Hazards::read`].
    pub fn write(&self, now: Timestamp) -> String {
        let mut entries: Vec<(u32, &OfferingKey, &Seen)> = self
            .pools
            .iter()
            .map(|(key, seen)| (seen.faded(now).per_hour(), key, seen))
            .collect();
        entries.sort_by(|one, other| other.0.cmp(&one.0).then_with(|| one.1.cmp(other.1)));
        let entries: Vec<Entry> = entries
            .into_iter()
            .take(MOST_ENTRIES)
            .map(|(_rate, key, seen)| Entry {
                offering: key.to_string(),
                events: seen.events,
                seconds: seen.seconds,
                at: seen.at,
            })
            .collect();
        // Names and numbers can always be written.
        serde_json::to_string(&entries).unwrap_or_default()
    }

    /// From the text of [`Hazards::write`], which may be old, and may come from anybody.
    ///
    /// # Errors
    /// The text is not of that form.
    pub fn read(text: &str, now: Timestamp) -> Result<Self, UnreadableHazards> {
        let entries: Vec<Entry> = serde_json::from_str(text)?;
        let mut hazards = Self::default();
        for entry in entries {
            let Ok(key) = entry.offering.parse::<OfferingKey>() else {
                continue;
            };
            let seen = Seen {
                events: entry.events,
                seconds: entry.seconds,
                at: entry.at.min(now),
            };
            if key.capacity_type == CapacityType::Spot {
                hazards.pools.insert(key, seen);
            }
        }
        Ok(hazards)
    }

    /// Adds what was learned before this process began to look.
    pub fn absorb(&mut self, earlier: Self, now: Timestamp) {
        for (offering, seen) in earlier.pools {
            let seen = seen.faded(now);
            self.add(&offering, seen.events, seen.seconds, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::test_runner::RngSeed;

    use super::*;
    use crate::model::claim::Claim;
    use crate::plan::examples::{as_spot, at, launched, offering, world};

    const SPOT: &str = "c5.xlarge/us-east-1a/spot";

    fn running(name: &str) -> Claim {
        let mut claim = as_spot(launched(name));
        claim.provider_id = format!("aws:///us-east-1a/i-{name}");
        claim
    }

    #[test]
    fn a_first_interruption_is_one_in_twenty_hours_and_fades() {
        let key = offering(SPOT);
        let mut hazards = Hazards::default();
        assert_eq!(hazards.per_hour(&key, at(0)), 0);
        hazards.interrupted(&key, "i-1", at(0));
        assert_eq!(hazards.per_hour(&key, at(0)), 50_000);
        assert_eq!(hazards.per_hour(&key, at(86_400)), 25_000);
        hazards.advised(&key, "i-1", at(86_400));
        hazards.advised(&key, "i-1", at(86_400));
        assert_eq!(hazards.per_hour(&key, at(86_400)), 37_500);
        hazards.forget(at(86_400 * 60));
        assert_eq!(hazards, Hazards::default());
    }

    #[test]
    fn machines_that_run_undisturbed_count_too() {
        let key = offering(SPOT);
        let claims: Vec<Claim> = ["a", "b", "c"].into_iter().map(running).collect();
        let mut hazards = Hazards::default();
        hazards.interrupted(&key, "i-1", at(0));
        for minute in 0..=60 {
            hazards.look(&world(minute * 60, &claims, &[], &[]));
        }
        let rate = hazards.per_hour(&key, at(3_600));
        // Three machine-hours more: 1 in 23, less what an hour fades.
        assert!((41_000..44_000).contains(&rate), "{rate}");
        // Nobody looked for a day.
        let before = hazards.pools[&key];
        hazards.look(&world(100_000, &claims, &[], &[]));
        assert_eq!(hazards.pools[&key], before);
    }

    #[test]
    fn only_spot_is_taken_back() {
        let key = offering("c5.xlarge/us-east-1a/on-demand");
        let mut hazards = Hazards::default();
        hazards.interrupted(&key, "i-1", at(0));
        assert_eq!(hazards.pools, BTreeMap::new());
    }

    #[test]
    fn a_restart_forgets_nothing_and_a_hostile_text_breaks_nothing() {
        let key = offering(SPOT);
        let mut hazards = Hazards::default();
        hazards.interrupted(&key, "i-1", at(5));
        let read = Hazards::read(&hazards.write(at(9)), at(9)).unwrap();
        assert_eq!(read.pools, hazards.pools);
        let mut anew = Hazards::default();
        anew.absorb(read, at(9));
        assert_eq!(anew.per_hour(&key, at(9)), hazards.per_hour(&key, at(9)));
        assert!(Hazards::read("{}", at(0)).is_err());
        let hostile = format!(
            r#"[{{"offering":"{SPOT}","events":4294967295,"seconds":0,"at":"9999-01-01T00:00:00Z"}},
                {{"offering":"x","events":1,"seconds":1,"at":"2026-01-01T00:00:00Z"}}]"#
        );
        let mut read = Hazards::read(&hostile, at(0)).unwrap();
        assert_eq!(read.per_hour(&key, at(0)), 1_000_000);
        read.interrupted(&key, "i-2", at(1));
        assert_eq!(read.pools.len(), 1);
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            failure_persistence: None,
            rng_seed: RngSeed::Fixed(13),
            cases: 64,
            ..ProptestConfig::default()
        })]

        #[test]
        fn a_hazard_is_bounded_and_time_alone_only_lessens_it(
            events in proptest::collection::vec((0_i64..100_000, proptest::bool::ANY), 0..200),
            wait in 0_i64..1_000_000,
        ) {
            let key = offering(SPOT);
            let mut hazards = Hazards::default();
            let mut second = 0;
            for (index, (later, taken)) in events.into_iter().enumerate() {
                second += later;
                let id = format!("i-{index}");
                if taken {
                    hazards.interrupted(&key, &id, at(second));
                } else {
                    hazards.advised(&key, &id, at(second));
                }
            }
            let now = hazards.per_hour(&key, at(second));
            prop_assert!(now <= 1_000_000);
            prop_assert!(hazards.per_hour(&key, at(second + wait)) <= now);
        }
    }
}
