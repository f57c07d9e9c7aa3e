//! What is believed to be short of capacity.
//!
//! Given what EC2 answered, refusals and purchases alike, it tells how likely an offering is short,
//! and until when it is left alone. Beliefs are about offerings of the region, so all node classes
//! share them. They fade, a purchase ends them, and [`Shortages::write`] keeps them across a restart;
//! losing them costs a few more refused offerings, not correctness.

mod belief;
mod full;
mod hearsay;
mod quota;
mod text;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

pub(super) use self::belief::faded;
use self::belief::{Belief, CERTAIN, FAINT};
use self::full::Full;
use self::hearsay::Hearsay;
pub use self::text::UnreadableShortages;
use super::Wanted;
use crate::model::launch::{ErrorClass, LaunchOutcome, LaunchRecord, is_quota_of_machines};
use crate::model::offering::{Catalogue, OfferingKey, Outlook};
use crate::model::snapshot::Snapshot;

/// How long the proof of a purchase takes to halve: capacity that was there ten minutes ago is
/// likely still there, one of an hour ago says little.
const PROOF_HALF_LIFE: SignedDuration = SignedDuration::from_mins(10);

/// When an offering was last bought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Proof(Timestamp);

impl Proof {
    fn level(self, now: Timestamp) -> u32 {
        faded(CERTAIN, now.duration_since(self.0), PROOF_HALF_LIFE)
    }
}

/// Beliefs about shortages.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Shortages {
    beliefs: BTreeMap<OfferingKey, Belief>,
    proofs: BTreeMap<OfferingKey, Proof>,
    full: Full,
    /// Quotas of the account that were met, by what shares them, with what was refused.
    quotas: Full,
}

impl Shortages {
    /// Learns that an offering could not be bought, if the error is one of the region. What is left alone already stays as it is: calls
    /// that were on their way say nothing new.
    pub fn note(&mut self, offering: &OfferingKey, class: ErrorClass, now: Timestamp) {
        if !is_about_the_region(class) || self.is_short(offering, now) {
            return;
        }
        let known = self.beliefs.get(offering).copied();
        let belief = Belief::refused(known, now);
        self.beliefs.insert(offering.clone(), belief);
        self.proofs.remove(offering);
    }

    /// As [`Self::note`], of what was to be had from a capacity reservation too: only that one is full.
    pub fn note_wanted(
        &mut self,
        (offering, reservation): Wanted<'_>,
        class: ErrorClass,
        now: Timestamp,
    ) {
        match reservation {
            None => self.note(offering, class, now),
            Some(id) if is_about_the_region(class) => self.full.note(id, offering, now),
            Some(_) => {}
        }
    }

    /// Learns that there was capacity for what a launch bought.
    pub fn learn_purchases(
        &mut self,
        record: &LaunchRecord,
        outcome: &LaunchOutcome,
        now: Timestamp,
    ) {
        if let Some(id) = &record.reservation {
            if !outcome.instances.is_empty() {
                self.full.remove(id);
            }
            return;
        }
        for instance in &outcome.instances {
            self.quota_left_room(&instance.offering);
            self.beliefs.remove(&instance.offering);
            self.proofs.insert(instance.offering.clone(), Proof(now));
        }
    }

    /// What was bought did not start: no proof of capacity.
    pub fn doubt(&mut self, offering: &OfferingKey) {
        self.proofs.remove(offering);
    }

    /// Learns from the answer to a launch, whose shortfalls are all of the region: [`super::LaunchMemory::answered`]
    /// takes out what is of one class.
    pub fn learn(&mut self, record: &LaunchRecord, outcome: &LaunchOutcome, now: Timestamp) {
        self.learn_purchases(record, outcome, now);
        let reservation = record.reservation.as_deref();
        let bought: BTreeSet<&OfferingKey> = outcome
            .instances
            .iter()
            .map(|instance| &instance.offering)
            .collect();
        for shortfall in &outcome.shortfalls {
            match &shortfall.offering {
                // Whatever else the call named of the same quota would meet it too, but not what it
                // bought: that had room.
                Some(named) if shortfall.class == ErrorClass::QuotaExceeded => {
                    let shared = quota::shared_by(named);
                    let meets = |offering: &OfferingKey| {
                        !bought.contains(offering) && quota::shared_by(offering) == shared
                    };
                    self.note_those(record, shortfall.class, now, meets);
                    if is_quota_of_machines(&shortfall.code) {
                        self.note_quota(named, now);
                    }
                }
                Some(offering) => self.note_wanted((offering, reservation), shortfall.class, now),
                None => {
                    let missed = |offering: &OfferingKey| !bought.contains(offering);
                    self.note_those(record, shortfall.class, now, missed);
                }
            }
        }
        let missing = outcome.instances.len() < usize::try_from(record.size).unwrap_or(usize::MAX);
        if missing && outcome.shortfalls.is_empty() {
            let missed = |offering: &OfferingKey| !bought.contains(offering);
            self.note_those(record, ErrorClass::InsufficientCapacity, now, missed);
        }
    }

    /// Learns that a quota of the account was met. While it is left alone only the refusal of what is smaller says
    /// something new: less is left of the quota than was thought.
    fn note_quota(&mut self, named: &OfferingKey, now: Timestamp) {
        let shared = quota::shared_by(named);
        let known = self.quotas.0.get_mut(&shared);
        let closed = known.filter(|(_refused, belief)| belief.closed_until(now).is_some());
        if let Some((refused, belief)) = closed
            && quota::size(&named.instance_type) < quota::size(&refused.instance_type)
        {
            refused.clone_from(named);
            belief.at = now;
        } else {
            self.quotas.note(&shared, named, now);
        }
    }

    /// Learns that nothing which a record asked for could be bought.
    pub fn note_all(&mut self, record: &LaunchRecord, class: ErrorClass, now: Timestamp) {
        self.note_those(record, class, now, |_offering| true);
    }

    fn note_those(
        &mut self,
        record: &LaunchRecord,
        class: ErrorClass,
        now: Timestamp,
        which: impl Fn(&OfferingKey) -> bool,
    ) {
        for offering in record.offerings().filter(which) {
            let wanted = (&offering, record.reservation.as_deref());
            self.note_wanted(wanted, class, now);
        }
    }

    /// True while an offering is left alone.
    pub fn is_short(&self, offering: &OfferingKey, now: Timestamp) -> bool {
        self.until(offering, now).is_some()
    }

    /// Until when an offering is left alone. Only what EC2 refused itself ever is, and never for
    /// longer than one half-life without another refusal.
    pub fn until(&self, offering: &OfferingKey, now: Timestamp) -> Option<Timestamp> {
        let own = self.beliefs.get(offering);
        let own = own.and_then(|belief| belief.closed_until(now));
        own.max(
            self.met_quota(offering)
                .and_then(|(_refused, belief)| belief.closed_until(now)),
        )
    }

    /// What was refused for the quota of the account that an offering would meet too, while it is left alone for that.
    pub fn quota_refused(&self, offering: &OfferingKey, now: Timestamp) -> Option<&OfferingKey> {
        let (refused, belief) = self.met_quota(offering)?;
        belief.closed_until(now).map(|_until| refused)
    }

    /// The quota that an offering shares with one that was refused for it. What is smaller than that may have room,
    /// and so may what was bought since.
    fn met_quota(&self, offering: &OfferingKey) -> Option<&(OfferingKey, Belief)> {
        // Every offering is asked about, and most often no quota was met: then no word is made to look it up.
        if self.quotas.0.is_empty() {
            return None;
        }
        let met = self.quotas.0.get(&quota::shared_by(offering))?;
        let (refused, belief) = met;
        let is_smaller = quota::size(&offering.instance_type) < quota::size(&refused.instance_type);
        let proof = self.proofs.get(offering);
        let is_bought = proof.is_some_and(|proof| proof.0 >= belief.at);
        (!is_smaller && !is_bought).then_some(met)
    }

    /// What was bought had room in its quota: so has whatever is not larger, and what is larger may have it.
    fn quota_left_room(&mut self, offering: &OfferingKey) {
        if self.met_quota(offering).is_some() {
            self.quotas.remove(&quota::shared_by(offering));
        }
    }

    /// As [`Self::until`], of what is to be had from a capacity reservation too.
    pub fn until_of(
        &self,
        (offering, reservation): Wanted<'_>,
        now: Timestamp,
    ) -> Option<Timestamp> {
        match reservation {
            None => self.until(offering, now),
            Some(id) => self.full.until(id, now),
        }
    }

    /// The offerings that EC2 refused and that are still believed short, with how strongly, in
    /// millionths.
    pub fn current(&self, now: Timestamp) -> impl Iterator<Item = (&OfferingKey, u32)> {
        self.beliefs
            .iter()
            .map(move |(offering, belief)| (offering, belief.level(now)))
            .filter(|(_offering, level)| *level >= FAINT)
    }

    /// Drops what is not believed any more. Evidence from times to come is from before the clock was
    /// set back: it counts as new, or it would stay as strong as it is until then.
    pub fn forget(&mut self, now: Timestamp) {
        for belief in self.beliefs.values_mut() {
            belief.at = belief.at.min(now);
        }
        for proof in self.proofs.values_mut() {
            proof.0 = proof.0.min(now);
        }
        self.beliefs
            .retain(|_offering, belief| belief.level(now) >= FAINT);
        self.proofs
            .retain(|_offering, proof| proof.level(now) >= FAINT);
        self.full.forget(now);
        self.quotas.forget(now);
    }

    /// As text, for [`Shortages::read`].
    pub fn write(&self, now: Timestamp) -> String {
        text::write(self, now)
    }

    /// From the text of [`Shortages::write`], which may be old.
    ///
    /// # Errors
    /// The text is not of that form.
    pub fn read(text: &str, now: Timestamp) -> Result<Self, UnreadableShortages> {
        text::read(text, now)
    }

    /// Takes over what others learned; what was learned later wins.
    pub fn absorb(&mut self, other: Self) {
        self.full.absorb(other.full);
        self.quotas.absorb(other.quotas);
        for (offering, belief) in other.beliefs {
            let newer = |known: &Belief| known.at >= belief.at;
            let bought = self.proofs.get(&offering);
            if !self.beliefs.get(&offering).is_some_and(newer)
                && bought.is_none_or(|proof| proof.0 < belief.at)
            {
                self.beliefs.insert(offering, belief);
            }
        }
        for (offering, proof) in other.proofs {
            let refused = self.beliefs.get(&offering);
            if refused.is_none_or(|belief| belief.at < proof.0) {
                let known = self.proofs.entry(offering).or_insert(proof);
                known.0 = known.0.max(proof.0);
            }
        }
    }

    /// Writes what is believed into every catalogue of a snapshot, and into its capacity reservations: what
    /// is left alone is not available, so that no plan counts on it.
    pub fn mark(&self, snapshot: &mut Snapshot) {
        let now = snapshot.now;
        self.mark_full(snapshot);
        if self.current(now).next().is_none() && self.quotas.0.is_empty() {
            return;
        }
        let hearsay = Hearsay::of(self.current(now));
        for class in snapshot.node_classes.values_mut() {
            if let Some(catalogue) = self.marked(&class.catalogue, &hearsay, now) {
                Arc::make_mut(class).catalogue = Arc::new(catalogue);
            }
        }
    }

    fn mark_full(&self, snapshot: &mut Snapshot) {
        let now = snapshot.now;
        for class in snapshot.node_classes.values_mut() {
            let mut reservations = class.reservations.iter();
            if !reservations.any(|found| self.full.0.contains_key(&found.id)) {
                continue;
            }
            for reservation in &mut Arc::make_mut(class).reservations {
                if let Some(outlook) = self.full.outlook(&reservation.id, now) {
                    reservation.offering.available &= outlook.closed_until.is_none();
                    reservation.offering.outlook = outlook;
                }
            }
        }
    }

    /// The catalogue with what is believed, unless that is nothing.
    fn marked(
        &self,
        catalogue: &Catalogue,
        hearsay: &Hearsay<'_>,
        now: Timestamp,
    ) -> Option<Catalogue> {
        let mut marked: Option<Catalogue> = None;
        for (index, offering) in catalogue.offerings.iter().enumerate() {
            let outlook = self.outlook(&offering.key, hearsay, now);
            if outlook == Outlook::default() {
                continue;
            }
            let marked = marked.get_or_insert_with(|| catalogue.clone());
            if let Some(offering) = marked.offerings.get_mut(index) {
                offering.available &= outlook.closed_until.is_none();
                offering.outlook = outlook;
            }
        }
        marked
    }

    fn outlook(&self, key: &OfferingKey, hearsay: &Hearsay<'_>, now: Timestamp) -> Outlook {
        let own = self.beliefs.get(key);
        let quota = self.met_quota(key);
        let quota = quota.and_then(|(_refused, belief)| belief.closed_until(now));
        let proven = self.proofs.get(key).map_or(0, |proof| proof.level(now));
        let doubted = u64::from(hearsay.about(key)) * u64::from(CERTAIN - proven.min(CERTAIN));
        let heard = u32::try_from(doubted / u64::from(CERTAIN)).unwrap_or(0);
        Outlook {
            shortage: own.map_or(0, |belief| belief.level(now)).max(heard),
            refusals: own.map_or(0, |belief| belief.refusals),
            closed_until: own.and_then(|belief| belief.closed_until(now)).max(quota),
            over_quota: quota.is_some(),
            ..Outlook::default()
        }
    }
}

/// True for an error that says something of what EC2 has, whoever asks.
const fn is_about_the_region(class: ErrorClass) -> bool {
    matches!(
        class,
        ErrorClass::InsufficientCapacity | ErrorClass::QuotaExceeded
    )
}

#[cfg(test)]
mod tests;
