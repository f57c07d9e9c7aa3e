//! What could not be bought lately, remembered for a while that grows with each repetition.
//!
//! Given what EC2 answered, it tells for how long an offering should be left alone. The memory is a
//! value: it is lost with the process, which costs one more refused offering, not correctness.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use crate::model::launch::{ErrorClass, LaunchOutcome, LaunchRecord};
use crate::model::offering::{Catalogue, OfferingKey};
use crate::model::snapshot::Snapshot;

/// How long an offering is left alone after EC2 had no capacity for it once.
const FIRST: SignedDuration = SignedDuration::from_mins(1);
/// The longest time it is left alone, after repeated shortfalls.
const LONGEST: SignedDuration = SignedDuration::from_mins(16);
/// How long one is left alone that EC2 says can never be bought this way.
const INVALID: SignedDuration = SignedDuration::from_mins(30);
/// A shortage that is over for so long counts as the first one again.
const FORGET: SignedDuration = SignedDuration::from_mins(60);

/// Offerings that fell short.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Shortages(BTreeMap<OfferingKey, Shortage>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Shortage {
    until: Timestamp,
    times: u32,
}

impl Shortages {
    /// Remembers that an offering could not be bought.
    pub fn note(&mut self, offering: &OfferingKey, class: ErrorClass, now: Timestamp) {
        let rest = match class {
            ErrorClass::Throttled | ErrorClass::Transient | ErrorClass::TokenMismatch => return,
            ErrorClass::InsufficientCapacity | ErrorClass::QuotaExceeded => FIRST,
            ErrorClass::NotFound | ErrorClass::Unauthorized | ErrorClass::Invalid => INVALID,
        };
        let known = self.0.get(offering).copied();
        if known.is_some_and(|shortage| shortage.until > now) {
            return;
        }
        let times = known.map_or(0, |shortage| shortage.times).min(10);
        let pause = rest.saturating_mul(1 << times).min(LONGEST.max(rest));
        self.0.insert(
            offering.clone(),
            Shortage {
                until: now.saturating_add(pause).unwrap_or(Timestamp::MAX),
                times: times + 1,
            },
        );
    }

    /// Learns from the answer to a launch.
    pub fn learn(&mut self, record: &LaunchRecord, outcome: &LaunchOutcome, now: Timestamp) {
        for instance in &outcome.instances {
            self.0.remove(&instance.offering);
        }
        for shortfall in &outcome.shortfalls {
            match &shortfall.offering {
                Some(offering) => self.note(offering, shortfall.class, now),
                None => self.note_all(record, shortfall.class, now),
            }
        }
        let missing = outcome.instances.len() < usize::try_from(record.size).unwrap_or(usize::MAX);
        if missing && outcome.shortfalls.is_empty() {
            self.note_all(record, ErrorClass::InsufficientCapacity, now);
        }
    }

    /// Remembers everything that a record asked for as short.
    pub fn note_all(&mut self, record: &LaunchRecord, class: ErrorClass, now: Timestamp) {
        for template in &record.templates {
            for choice in &template.overrides {
                let offering =
                    OfferingKey::new(&choice.instance_type, &choice.zone, record.capacity_type);
                self.note(&offering, class, now);
            }
        }
    }

    /// True while an offering should be left alone.
    pub fn is_short(&self, offering: &OfferingKey, now: Timestamp) -> bool {
        self.until(offering, now).is_some()
    }

    /// Until when an offering should be left alone.
    pub fn until(&self, offering: &OfferingKey, now: Timestamp) -> Option<Timestamp> {
        self.0
            .get(offering)
            .map(|shortage| shortage.until)
            .filter(|until| *until > now)
    }

    /// The offerings that are short now.
    pub fn current(&self, now: Timestamp) -> impl Iterator<Item = (&OfferingKey, Timestamp)> {
        self.0
            .iter()
            .filter(move |(_offering, shortage)| shortage.until > now)
            .map(|(offering, shortage)| (offering, shortage.until))
    }

    /// Drops what was over long ago.
    pub fn forget(&mut self, now: Timestamp) {
        self.0.retain(|_offering, shortage| {
            shortage
                .until
                .saturating_add(FORGET)
                .is_ok_and(|end| end > now)
        });
    }

    /// Marks the offerings that are short as unavailable in every catalogue of a snapshot, so that
    /// no plan counts on them.
    pub fn mark(&self, snapshot: &mut Snapshot) {
        let now = snapshot.now;
        if self.current(now).next().is_none() {
            return;
        }
        for class in snapshot.node_classes.values_mut() {
            let affected = class
                .catalogue
                .offerings
                .iter()
                .any(|offering| offering.available && self.is_short(&offering.key, now));
            if affected {
                let catalogue = self.marked(&class.catalogue, now);
                Arc::make_mut(class).catalogue = Arc::new(catalogue);
            }
        }
    }

    fn marked(&self, catalogue: &Catalogue, now: Timestamp) -> Catalogue {
        let mut marked = catalogue.clone();
        for offering in &mut marked.offerings {
            offering.available &= !self.is_short(&offering.key, now);
        }
        marked
    }
}
