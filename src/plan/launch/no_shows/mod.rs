//! Machines that never join the cluster.
//!
//! Given machines whose Node did not register in time, and those whose Node did; it tells which instance types a
//! class leaves alone, until when, and which it tries again with one machine. User data, an image or a route that
//! is missing say nothing about what EC2 has, so no other class learns of them, and a change of the class ends
//! them. [`NoShows::write`] keeps it across a restart: to lose it costs two machines that do not join.

mod text;

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

pub use self::text::UnreadableNoShows;
use super::tries::tries;
use crate::model::node_class::NodeClass;
use crate::model::offering::NO_SHOWS_IN_A_ROW;
use crate::model::snapshot::Snapshot;

/// How long a class leaves a type alone first: machines of other types show meanwhile whether they join.
const FIRST_REST: SignedDuration = SignedDuration::from_mins(10);
/// How long it does at most: each try costs a machine for the whole registration timeout.
const LONGEST_REST: SignedDuration = SignedDuration::from_hours(2);
/// How long a type is known after its rest, or after a machine of it joined or did not; longer than machines are
/// waited for.
const KNOWN_FOR: SignedDuration = SignedDuration::from_hours(24);

/// What to look at when machines do not join.
pub const WHAT_TO_LOOK_AT: &str = "user data, image, security groups, role and the route to the API server of the \
     EC2NodeClass; the console output of such a machine says more";

/// What is known of a type.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Known {
    /// Machines in a row that did not join.
    in_a_row: u32,
    /// The uid of the claim of the last of them.
    last: String,
    /// Until when the type is left alone; in the past where it never was.
    until: Timestamp,
    rest: SignedDuration,
    /// When a machine of it last joined.
    joined: Timestamp,
    /// When any of this was last learned.
    touched: Timestamp,
}

impl Default for Known {
    fn default() -> Self {
        Self {
            in_a_row: 0,
            last: String::new(),
            until: Timestamp::MIN,
            rest: SignedDuration::ZERO,
            joined: Timestamp::MIN,
            touched: Timestamp::MIN,
        }
    }
}

impl Known {
    const fn is_doubted(&self) -> bool {
        self.in_a_row >= NO_SHOWS_IN_A_ROW
    }
}

/// What is known of the machines of a class, as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
struct OfClass {
    uid: String,
    generation: i64,
    /// Machines that were launched before are not of the class as it is.
    since: Timestamp,
    types: BTreeMap<Arc<str>, Known>,
}

impl OfClass {
    fn new(class: &NodeClass, since: Timestamp) -> Self {
        Self {
            uid: class.uid.clone(),
            generation: class.generation,
            since,
            types: BTreeMap::new(),
        }
    }

    fn is_about(&self, class: &NodeClass) -> bool {
        self.uid == class.uid && self.generation == class.generation
    }
}

/// A type that is left alone from now on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rest {
    /// Machines in a row that did not join.
    pub in_a_row: u32,
    /// Until when.
    pub until: Timestamp,
}

/// What machines did not join, by name of their class.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NoShows(BTreeMap<String, OfClass>);

impl NoShows {
    fn of(&mut self, class: &NodeClass, now: Timestamp) -> &mut OfClass {
        let known = self.0.entry(class.name.clone());
        let known = known.or_insert_with(|| OfClass::new(class, Timestamp::MIN));
        if !known.is_about(class) {
            *known = OfClass::new(class, now);
        }
        known
    }

    /// Learns that a machine joined. When the last ones of its type did not, what kept them away is mended, and may be
    /// for other types: each of them is tried now.
    pub fn joined(&mut self, class: &NodeClass, instance_type: &Arc<str>, now: Timestamp) {
        let types = &mut self.of(class, now).types;
        let joined = Known {
            joined: now,
            touched: now,
            ..Known::default()
        };
        let before = types.insert(Arc::clone(instance_type), joined);
        if before.is_some_and(|before| before.is_doubted()) {
            for known in types.values_mut() {
                known.until = known.until.min(now);
            }
        }
    }

    /// Learns that the machine of a claim, launched then, runs and did not join in time. Gives back what follows
    /// for its type, if that is news.
    pub fn timed_out(
        &mut self,
        class: &NodeClass,
        (instance_type, launched): (&Arc<str>, Timestamp),
        claim: &str,
        now: Timestamp,
    ) -> Option<Rest> {
        let of_class = self.of(class, now);
        if launched < of_class.since {
            return None;
        }
        let known = of_class.types.entry(Arc::clone(instance_type)).or_default();
        // While it did not join another did, or the type was left alone already: it says nothing new.
        let rests_since = known.until.saturating_sub(known.rest);
        let is_older = known.is_doubted() && rests_since.is_ok_and(|since| launched < since);
        if launched <= known.joined || known.until > now || is_older || known.last == claim {
            return None;
        }
        known.in_a_row = known.in_a_row.saturating_add(1);
        claim.clone_into(&mut known.last);
        known.touched = now;
        if !known.is_doubted() {
            return None;
        }
        known.rest = known.rest.saturating_mul(2).clamp(FIRST_REST, LONGEST_REST);
        known.until = now.saturating_add(known.rest).unwrap_or(Timestamp::MAX);
        Some(Rest {
            in_a_row: known.in_a_row,
            until: known.until,
        })
    }

    fn known(&self, class: &NodeClass, instance_type: &str) -> Option<&Known> {
        let of_class = self.0.get(&class.name)?;
        let known = of_class.types.get(instance_type)?;
        (of_class.is_about(class) && known.is_doubted()).then_some(known)
    }

    /// Until when a class leaves a type alone.
    pub fn until(
        &self,
        class: &NodeClass,
        instance_type: &str,
        now: Timestamp,
    ) -> Option<Timestamp> {
        let until = self.known(class, instance_type)?.until;
        (until > now).then_some(until)
    }

    /// True for a type of which the last machines did not join, whether it is left alone now or tried.
    pub(super) fn is_doubted(&self, class: &NodeClass, instance_type: &str) -> bool {
        self.known(class, instance_type).is_some()
    }

    /// True for a type that is not left alone, and of which one machine at a time shall show whether it joins.
    pub(super) fn is_on_trial(
        &self,
        class: &NodeClass,
        instance_type: &str,
        now: Timestamp,
    ) -> bool {
        self.known(class, instance_type)
            .is_some_and(|known| known.until <= now)
    }

    /// As text, for [`Self::read`].
    pub fn write(&self) -> String {
        text::write(self)
    }

    /// From the text of [`Self::write`], which may be old.
    ///
    /// # Errors
    /// The text is not of that form.
    pub fn read(text: &str, now: Timestamp) -> Result<Self, UnreadableNoShows> {
        text::read(text, now)
    }

    /// Takes over what others learned of classes that are still as they were; what was learned here wins.
    pub fn absorb(&mut self, earlier: Self) {
        for (name, theirs) in earlier.0 {
            let ours = self.0.entry(name).or_insert_with(|| OfClass {
                types: BTreeMap::new(),
                ..theirs.clone()
            });
            if ours.uid == theirs.uid && ours.generation == theirs.generation {
                for (instance_type, known) in theirs.types {
                    ours.types.entry(instance_type).or_insert(known);
                }
            }
        }
    }

    /// Learns of classes that were changed, and drops what is over.
    pub fn forget(&mut self, snapshot: &Snapshot) {
        let now = snapshot.now;
        for class in snapshot.node_classes.values() {
            self.of(class, now);
        }
        self.0
            .retain(|name, _known| snapshot.node_classes.contains_key(name));
        for known in self.0.values_mut() {
            known.types.retain(|_name, known| {
                // Of a time to come is what was noted before the clock was set back.
                known.touched <= now
                    && now.duration_since(known.until.max(known.touched)) < KNOWN_FOR
            });
        }
    }

    /// Writes it into the catalogues of the classes that it is about.
    pub fn mark(&self, snapshot: &mut Snapshot) {
        let now = snapshot.now;
        for (name, of_class) in &self.0 {
            let Some(class) = snapshot.node_classes.get(name) else {
                continue;
            };
            let doubted: BTreeMap<&Arc<str>, (&Known, bool)> = of_class
                .types
                .iter()
                .filter(|(_type, known)| of_class.is_about(class) && known.is_doubted())
                .map(|(name, known)| {
                    let is_tried = snapshot
                        .claims
                        .values()
                        .any(|claim| tries(claim, class, name));
                    (name, (known, known.until > now || is_tried))
                })
                .collect();
            let Some(class) = snapshot
                .node_classes
                .get_mut(name)
                .filter(|_class| !doubted.is_empty())
            else {
                continue;
            };
            for (_reservation, offering) in Arc::make_mut(class).offerings_mut() {
                let Some((known, is_closed)) = doubted.get(&offering.key.instance_type) else {
                    continue;
                };
                offering.outlook.no_shows = known.in_a_row;
                if *is_closed {
                    offering.available = false;
                    let rests = (known.until > now).then_some(known.until);
                    offering.outlook.closed_until = offering.outlook.closed_until.max(rests);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::examples::{at, node_class, world};

    fn minutes(minutes: i64) -> Timestamp {
        at(minutes * 60)
    }

    fn xlarge() -> Arc<str> {
        Arc::from("c5.xlarge")
    }

    /// A machine that was launched a quarter of an hour before is given up.
    fn gives_up(known: &mut NoShows, claim: &str, now: i64) -> Option<Timestamp> {
        let machine = (&xlarge(), minutes(now - 15));
        let rest = known.timed_out(&node_class(), machine, claim, minutes(now));
        rest.map(|rest| rest.until)
    }

    #[test]
    fn a_type_rests_after_two_machines_and_twice_as_long_after_each_try_that_fails() {
        let mut known = NoShows::default();
        assert_eq!(gives_up(&mut known, "a", 15), None);
        assert_eq!(
            gives_up(&mut known, "a", 15),
            None,
            "it is the same machine"
        );
        assert_eq!(gives_up(&mut known, "b", 16), Some(minutes(26)));
        assert_eq!(gives_up(&mut known, "c", 17), None, "it was on its way");
        assert_eq!(gives_up(&mut known, "d", 45), Some(minutes(65)));
        let mut now = 65;
        for rest in [40, 80, 120, 120] {
            now += 15;
            let until = gives_up(&mut known, &now.to_string(), now);
            assert_eq!(until, Some(minutes(now + rest)));
            now += rest;
        }
    }

    #[test]
    fn a_machine_that_joins_ends_it_and_speaks_for_those_that_were_launched_before() {
        let mut known = NoShows::default();
        gives_up(&mut known, "a", 15);
        known.joined(&node_class(), &xlarge(), minutes(16));
        assert_eq!(gives_up(&mut known, "b", 17), None);
        assert_eq!(gives_up(&mut known, "c", 18), None);
        gives_up(&mut known, "d", 40);
        assert!(gives_up(&mut known, "e", 40).is_some());
        known.joined(&node_class(), &xlarge(), minutes(41));
        assert_eq!(known.until(&node_class(), "c5.xlarge", minutes(41)), None);
    }

    #[test]
    fn where_one_type_joins_again_the_others_are_tried_at_once() {
        let (class, other) = (node_class(), Arc::from("c5.2xlarge"));
        let mut known = NoShows::default();
        gives_up(&mut known, "a", 15);
        gives_up(&mut known, "b", 15);
        for claim in ["c", "d"] {
            known.timed_out(&class, (&other, minutes(0)), claim, minutes(15));
        }
        known.joined(&class, &Arc::from("m5.large"), minutes(16));
        assert!(
            known.until(&class, &other, minutes(16)).is_some(),
            "it never failed"
        );
        known.joined(&class, &xlarge(), minutes(17));
        assert_eq!(known.until(&class, &other, minutes(17)), None);
        assert!(known.is_on_trial(&class, &other, minutes(17)));
    }

    #[test]
    fn no_other_class_learns_of_it_and_a_change_of_the_class_ends_it() {
        let mut known = NoShows::default();
        gives_up(&mut known, "a", 15);
        gives_up(&mut known, "b", 15);
        let class = node_class();
        let rests = |known: &NoShows, class: &NodeClass| {
            let until = known.until(class, "c5.xlarge", minutes(16));
            until.is_some()
        };
        let other = NodeClass {
            name: "other".to_owned(),
            ..class.clone()
        };
        let changed = NodeClass {
            generation: class.generation + 1,
            ..class.clone()
        };
        assert!(rests(&known, &class));
        assert!(!rests(&known, &other) && !rests(&known, &changed));

        let mut snapshot = world(16 * 60, &[], &[], &[]);
        let name = changed.name.clone();
        snapshot
            .node_classes
            .insert(name, Arc::new(changed.clone()));
        known.forget(&snapshot);
        // Machines of the class as it was say nothing of the class as it is.
        let before = (&xlarge(), minutes(15));
        for claim in ["c", "d"] {
            assert_eq!(known.timed_out(&changed, before, claim, minutes(30)), None);
        }
        assert!(!rests(&known, &changed));
    }

    #[test]
    fn it_is_kept_across_a_restart_while_the_class_is_as_it_was() {
        let mut before = NoShows::default();
        for (claim, now) in [("a", 15), ("b", 15), ("c", 45)] {
            gives_up(&mut before, claim, now);
        }
        let text = before.write();
        let read = |now| NoShows::read(&text, minutes(now)).unwrap();
        let mut after = NoShows::default();
        after.forget(&world(46 * 60, &[], &[], &[]));
        after.absorb(read(46));
        let until = |known: &NoShows, now| known.until(&node_class(), "c5.xlarge", minutes(now));
        assert_eq!(until(&after, 46), Some(minutes(65)));
        assert_eq!(gives_up(&mut after, "d", 80), Some(minutes(120)));
        assert_eq!(
            until(&read(1), 1),
            Some(minutes(21)),
            "the clock was set back"
        );
        let mut changed = NoShows::default();
        let class = NodeClass {
            generation: node_class().generation + 1,
            ..node_class()
        };
        changed.joined(&class, &xlarge(), minutes(46));
        changed.absorb(read(46));
        assert_eq!(changed.until(&class, "c5.xlarge", minutes(46)), None);
        for text in ["", "{}", "[{}]", "[1]"] {
            assert!(NoShows::read(text, minutes(0)).is_err(), "{text}");
        }
    }

    #[test]
    fn it_is_forgotten_with_its_class_and_after_a_day() {
        let mut known = NoShows::default();
        gives_up(&mut known, "a", 15);
        known.forget(&world(16 * 60, &[], &[], &[]));
        assert!(gives_up(&mut known, "b", 16).is_some(), "one is remembered");
        let mut later = world(25 * 60 * 60, &[], &[], &[]);
        known.forget(&later);
        assert_eq!(gives_up(&mut known, "c", 25 * 60), None);
        later.node_classes.clear();
        known.forget(&later);
        assert_eq!(known, NoShows::default());
    }
}
