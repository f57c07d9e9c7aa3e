//! What EC2 refused because of how a node class makes its machines.
//!
//! Given refusals that name an offering, and the class that asked; it tells which offerings that class leaves
//! alone, until when and why. An image that is gone, a missing permission or a full subnet say nothing about
//! what EC2 has, so no other class learns of them, and a change of the class ends them. Nothing of it is kept
//! across a restart: to lose it costs a refused call.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::Wanted;
use crate::model::launch::{ErrorClass, LaunchOutcome, LaunchRecord, Shortfall};
use crate::model::node_class::NodeClass;
use crate::model::offering::OfferingKey;
use crate::model::snapshot::Snapshot;

/// How long a class leaves alone what was refused to it once: mending a permission or an image takes minutes.
const FIRST_REST: SignedDuration = SignedDuration::from_mins(2);
/// How long it does at most, when it is refused again and again: a claim is made and given up each time.
const LONGEST_REST: SignedDuration = SignedDuration::from_mins(30);

/// A refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Refusal {
    until: Timestamp,
    /// The next rest is twice as long, if it comes within one more of this one.
    rest: SignedDuration,
    why: String,
}

impl Refusal {
    fn rest_after(known: Option<&Self>, now: Timestamp) -> SignedDuration {
        let lately = |known: &&Self| now.duration_since(known.until) < known.rest;
        known.filter(lately).map_or(FIRST_REST, |known| {
            known.rest.saturating_mul(2).min(LONGEST_REST)
        })
    }
}

/// What one class was refused, as it was then.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct OfClass {
    uid: String,
    generation: i64,
    /// By the capacity reservation that it was to be had from, empty without one.
    refused: BTreeMap<String, BTreeMap<OfferingKey, Refusal>>,
}

impl OfClass {
    fn is_about(&self, class: &NodeClass) -> bool {
        self.uid == class.uid && self.generation == class.generation
    }
}

/// Refusals by name of the class.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Refusals(BTreeMap<String, OfClass>);

impl Refusals {
    /// Learns that a class cannot have an offering as it is.
    pub fn note(
        &mut self,
        class: &NodeClass,
        (offering, reservation): Wanted<'_>,
        why: &str,
        now: Timestamp,
    ) {
        let known = self.0.entry(class.name.clone()).or_default();
        if !known.is_about(class) {
            *known = OfClass {
                uid: class.uid.clone(),
                generation: class.generation,
                refused: BTreeMap::new(),
            };
        }
        let place = reservation.unwrap_or_default().to_owned();
        let refused = known.refused.entry(place).or_default();
        let before = refused.get(offering);
        if before.is_some_and(|before| before.until > now) {
            // Calls that were on their way say nothing new.
            return;
        }
        let rest = Refusal::rest_after(before, now);
        let refusal = Refusal {
            until: now.saturating_add(rest).unwrap_or(Timestamp::MAX),
            rest,
            why: why.to_owned(),
        };
        refused.insert(offering.clone(), refusal);
    }

    /// Learns from the answer to a launch.
    pub fn learn(
        &mut self,
        class: &NodeClass,
        record: &LaunchRecord,
        outcome: &LaunchOutcome,
        now: Timestamp,
    ) {
        let reservation = record.reservation.as_deref();
        let known = self.0.get_mut(&class.name);
        let refused =
            known.and_then(|known| known.refused.get_mut(reservation.unwrap_or_default()));
        if let Some(refused) = refused {
            for bought in &outcome.instances {
                refused.remove(&bought.offering);
            }
        }
        let of_class = outcome
            .shortfalls
            .iter()
            .filter(|found| is_of_class(Some(class), found));
        let bought = |offering: &OfferingKey| {
            let mut instances = outcome.instances.iter();
            instances.any(|found| found.offering == *offering)
        };
        for shortfall in of_class {
            let why = told(shortfall);
            let named = shortfall.offering.clone();
            // A quota of what every machine of the class has is met by whatever else the call named.
            let is_of_all = named.is_none() || shortfall.class == ErrorClass::QuotaExceeded;
            let all = record.offerings();
            let others = all.filter(|offering| is_of_all && !bought(offering));
            for offering in named.into_iter().chain(others) {
                self.note(class, (&offering, reservation), &why, now);
            }
        }
    }

    fn of<'here>(
        &'here self,
        class: &NodeClass,
        (offering, reservation): Wanted<'_>,
    ) -> Option<&'here Refusal> {
        let known = self
            .0
            .get(&class.name)
            .filter(|known| known.is_about(class))?;
        let refused = known.refused.get(reservation.unwrap_or_default())?;
        refused.get(offering)
    }

    /// Until when a class leaves an offering alone.
    pub fn until(
        &self,
        class: &NodeClass,
        wanted: Wanted<'_>,
        now: Timestamp,
    ) -> Option<Timestamp> {
        let until = self.of(class, wanted)?.until;
        (until > now).then_some(until)
    }

    /// Why a class leaves an offering alone, for people.
    pub fn why(&self, class: &NodeClass, wanted: Wanted<'_>, now: Timestamp) -> Option<&str> {
        let refusal = self.of(class, wanted)?;
        (refusal.until > now).then_some(refusal.why.as_str())
    }

    /// Drops what is over.
    pub fn forget(&mut self, now: Timestamp) {
        for known in self.0.values_mut() {
            for refused in known.refused.values_mut() {
                refused.retain(|_offering, refusal| {
                    // Of a time to come is what was noted before the clock was set back.
                    let left = refusal.until.duration_since(now);
                    -refusal.rest < left && left <= refusal.rest
                });
            }
            known.refused.retain(|_place, refused| !refused.is_empty());
        }
        self.0.retain(|_name, known| !known.refused.is_empty());
    }

    /// Writes it into the catalogues of the classes that it is about.
    pub fn mark(&self, snapshot: &mut Snapshot) {
        let now = snapshot.now;
        for (name, known) in &self.0 {
            let Some(class) = snapshot.node_classes.get_mut(name) else {
                continue;
            };
            if !known.is_about(class) {
                continue;
            }
            for (reservation, offering) in Arc::make_mut(class).offerings_mut() {
                let refused = known.refused.get(reservation.unwrap_or_default());
                let refused = refused.and_then(|refused| refused.get(&offering.key));
                if let Some(refusal) = refused.filter(|refusal| refusal.until > now) {
                    offering.available = false;
                    let closed = offering.outlook.closed_until.max(Some(refusal.until));
                    offering.outlook.closed_until = closed;
                }
            }
        }
    }
}

/// True when a shortfall says something of the class alone, which may be gone since. What a placement group has no
/// room for may be had beside it.
pub(super) fn is_of_class(class: Option<&NodeClass>, shortfall: &Shortfall) -> bool {
    let in_group = class.is_some_and(|class| class.placement_group.is_some());
    let of_group = in_group && shortfall.class == ErrorClass::InsufficientCapacity;
    shortfall.is_of_the_class() || of_group
}

/// A refusal in the words of EC2.
fn told(shortfall: &Shortfall) -> String {
    format!("{} ({})", shortfall.message, shortfall.code)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::launch::{LaunchOverride, TemplateOverrides};
    use crate::model::placement_group::{PlacementGroup, Strategy};
    use crate::plan::examples::{at, node_class, offering, world};
    use crate::plan::launch::{LaunchMemory, Shortages};

    const KEY: &str = "c5.xlarge/us-east-1a/spot";

    fn refused(code: &str, class: ErrorClass) -> LaunchOutcome {
        LaunchOutcome {
            instances: Vec::new(),
            shortfalls: vec![Shortfall {
                offering: Some(offering(KEY)),
                class,
                code: code.to_owned(),
                message: "the volume is smaller than the snapshot".to_owned(),
            }],
        }
    }

    fn record() -> LaunchRecord {
        LaunchRecord {
            batch: "batch".to_owned(),
            attempt: 1,
            size: 1,
            capacity_type: offering(KEY).capacity_type,
            reservation: None,
            templates: Vec::new(),
        }
    }

    /// One that names an offering.
    fn record_of(key: &OfferingKey) -> LaunchRecord {
        let choice = LaunchOverride {
            instance_type: key.instance_type.to_string(),
            zone: key.zone.to_string(),
            subnet: "subnet-1".to_owned(),
            priority: 0,
        };
        LaunchRecord {
            capacity_type: key.capacity_type,
            templates: vec![TemplateOverrides {
                name: "tonnage-1".to_owned(),
                overrides: vec![choice],
            }],
            ..record()
        }
    }

    #[test]
    fn what_one_class_is_refused_is_open_to_every_other() {
        let (broken, good) = (
            node_class(),
            NodeClass {
                name: "good".to_owned(),
                ..node_class()
            },
        );
        let outcome = refused("InvalidBlockDeviceMapping", ErrorClass::Invalid);
        let mut memory = LaunchMemory::new(at(0));
        memory.answered(&record(), Some(&broken), &outcome, at(1));
        let is_short = memory.shortages.is_short(&offering(KEY), at(2));
        assert!(!is_short, "EC2 has it");
        let refusals = memory.refusals;

        let mut snapshot = world(2, &[], &[], &[]);
        snapshot
            .node_classes
            .insert("good".to_owned(), Arc::new(good.clone()));
        refusals.mark(&mut snapshot);
        let open = |class: &str| {
            let class = &snapshot.node_classes[class];
            class.offering(&offering(KEY)).unwrap().available
        };
        assert_eq!((open(&broken.name), open("good")), (false, true));
        let why = refusals
            .why(&broken, (&offering(KEY), None), at(2))
            .unwrap();
        assert!(why.contains("InvalidBlockDeviceMapping"), "{why}");
        assert_eq!(refusals.until(&good, (&offering(KEY), None), at(2)), None);
    }

    #[test]
    fn a_quota_of_volumes_stops_the_class_that_meets_it_whatever_the_type_and_no_other() {
        let class = node_class();
        let other = offering("m5.xlarge/us-east-1b/spot");
        let asked = record_of(&other);
        let code = "VolumeLimitExceeded";
        let quota = ErrorClass::QuotaExceeded;
        let mut named = LaunchMemory::new(at(0));
        named.answered(&asked, Some(&class), &refused(code, quota), at(0));
        let mut whole = LaunchMemory::new(at(0));
        whole.refused(&asked, Some(&class), (quota, code, "no room"), at(0));
        for memory in [&named, &whole] {
            let why = memory.refusals.why(&class, (&other, None), at(1));
            assert!(why.is_some());
            assert_eq!(memory.shortages, Shortages::default());
        }
        let why = named.refusals.why(&class, (&offering(KEY), None), at(1));
        assert!(why.is_some_and(|why| why.contains(code)), "{why:?}");
        // Nobody is left to be told, and nobody else is.
        let mut gone = LaunchMemory::new(at(0));
        gone.refused(&asked, None, (quota, code, "no room"), at(0));
        assert_eq!(gone, LaunchMemory::new(at(0)));
    }

    #[test]
    fn a_quota_of_machines_or_fleets_is_everybodys() {
        let (class, key) = (node_class(), offering(KEY));
        for code in ["VcpuLimitExceeded", "MaxFleetCountExceeded"] {
            let mut memory = LaunchMemory::new(at(0));
            let outcome = refused(code, ErrorClass::QuotaExceeded);
            memory.answered(&record_of(&key), Some(&class), &outcome, at(0));
            assert_eq!(memory.refusals, Refusals::default(), "{code}");
            assert!(memory.shortages.is_short(&key, at(1)), "{code}");
        }
    }

    #[test]
    fn a_change_of_the_class_ends_it_and_time_does_later_each_time() {
        let broken = node_class();
        let mut refusals = Refusals::default();
        let denied = refused("UnauthorizedOperation", ErrorClass::Unauthorized);
        refusals.learn(&broken, &record(), &denied, at(0));
        assert_eq!(
            refusals.until(&broken, (&offering(KEY), None), at(1)),
            Some(at(120))
        );
        let mended = NodeClass {
            generation: broken.generation + 1,
            ..broken.clone()
        };
        assert_eq!(refusals.until(&mended, (&offering(KEY), None), at(1)), None);
        assert_eq!(
            refusals.until(&broken, (&offering(KEY), None), at(120)),
            None
        );
        refusals.forget(at(121));
        refusals.learn(&broken, &record(), &denied, at(121));
        let twice_as_long = refusals.until(&broken, (&offering(KEY), None), at(122));
        assert_eq!(twice_as_long, Some(at(361)));
        refusals.forget(at(602));
        assert_eq!(refusals, Refusals::default());
    }

    #[test]
    fn what_a_placement_group_has_no_room_for_may_be_had_beside_it() {
        let grouped = NodeClass {
            placement_group: Some(PlacementGroup {
                id: "pg-1".to_owned(),
                name: "training".to_owned(),
                strategy: Strategy::Cluster,
            }),
            ..node_class()
        };
        let full = refused(
            "InsufficientInstanceCapacity",
            ErrorClass::InsufficientCapacity,
        );
        let mut memory = LaunchMemory::new(at(0));
        memory.answered(&record(), Some(&grouped), &full, at(0));
        assert!(
            memory
                .closed_until(&grouped, (&offering(KEY), None), at(1))
                .is_some()
        );
        assert!(!memory.shortages.is_short(&offering(KEY), at(1)));
    }

    #[test]
    fn a_full_subnet_is_the_classs_own_and_a_full_zone_is_everybodys() {
        let class = node_class();
        let subnet = refused(
            "InsufficientFreeAddressesInSubnet",
            ErrorClass::InsufficientCapacity,
        );
        let zone = refused(
            "InsufficientInstanceCapacity",
            ErrorClass::InsufficientCapacity,
        );
        let mut memory = LaunchMemory::new(at(0));
        memory.answered(&record(), None, &subnet, at(0));
        memory.answered(&record(), Some(&class), &subnet, at(0));
        let closed = memory.refusals.until(&class, (&offering(KEY), None), at(1));
        assert!(closed.is_some());
        assert!(!memory.shortages.is_short(&offering(KEY), at(1)));
        let mut memory = LaunchMemory::new(at(0));
        memory.answered(&record(), Some(&class), &zone, at(0));
        assert_eq!(memory.refusals, Refusals::default());
        assert!(memory.shortages.is_short(&offering(KEY), at(1)));
    }
}
