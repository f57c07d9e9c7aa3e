//! What one process remembers of the launches it made.
//!
//! Given what was written, called, answered and looked up, it says which records are settled, when an
//! empty answer of EC2 may be believed, and which claims must not hold up others. All of it may be
//! lost: a record that nobody remembers to be answered is repeated, and a repeated call launches
//! nothing more. Nothing is decided here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::doubt::Answers;
use super::recall::Recalls;
use super::refusals::is_of_class;
use super::{Hazards, NoShows, NodeMemory, Refusals, Shortages, TemplateUse, Wanted};
use crate::model::claim::Claim;
use crate::model::instance::{Ending, Lesson};
use crate::model::launch::{
    ErrorClass, LaunchOutcome, LaunchRecord, Shortfall, is_quota_of_launches,
};
use crate::model::node_class::NodeClass;
use crate::model::offering::OfferingKey;
use crate::model::snapshot::Snapshot;
use crate::plan::instances::VISIBLE_WITHIN;
use crate::plan::pace::Pace;
use crate::plan::rate::Tokens;

/// How long to wait before EC2 is asked again what came of a record while an instance may not be
/// visible yet.
pub(super) const LOOK_AGAIN: SignedDuration = SignedDuration::from_secs(15);

/// How long a call that was sent takes at most to be carried out: for as long whoever sent it waits for the answer.
const ON_ITS_WAY: SignedDuration = SignedDuration::from_mins(1);
/// How long a batch rests after an answer of faults and throttling alone; doubled with each attempt.
const FIRST_REST: SignedDuration = SignedDuration::from_secs(1);
/// How often that is doubled at most: 64 s.
const MOST_DOUBLINGS: u32 = 6;

/// True for an answer that says nothing but that EC2 could not serve the call now: closing no offering, it would be
/// asked for again at once.
fn is_unserved(outcome: &LaunchOutcome) -> bool {
    let passes = |found: &Shortfall| {
        matches!(
            found.class,
            ErrorClass::Throttled | ErrorClass::Transient | ErrorClass::TokenMismatch
        )
    };
    !outcome.shortfalls.is_empty() && outcome.shortfalls.iter().all(passes)
}

/// What this process remembers of launches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaunchMemory {
    /// What could not be bought lately.
    pub shortages: Shortages,
    /// What was refused to one class.
    pub refusals: Refusals,
    /// Which types of a class do not join.
    pub no_shows: NoShows,
    /// How often machines were taken back.
    pub hazards: Hazards,
    /// When launch templates were used.
    pub templates: TemplateUse,
    /// How much memory machines have.
    pub node_memory: NodeMemory,
    /// Calls that this process does not know of were made before this moment.
    since: Timestamp,
    /// The latest attempt of each batch that was answered and fully written down.
    answered: BTreeMap<String, u32>,
    /// Attempts whose answer was of faults and throttling alone, and until when the batch rests, by batch.
    resting: BTreeMap<String, (u32, Timestamp)>,
    /// Records that this process wrote, called or looked up, by batch.
    trails: BTreeMap<String, Trail>,
    /// Uids of claims that take no record: they are bought by themselves, or not at all.
    alone: BTreeSet<String>,
    /// Uids of claims that a record is being written onto: what they say meanwhile is half of it.
    in_hand: BTreeSet<String>,
    /// Instances that were asked for within the last minute, by record.
    pub(super) pace: Pace,
    /// What was launched by whoever was there before is in it.
    pub(super) has_inherited: bool,
    /// What EC2 starts at once, as far as it is not taken.
    pub(super) tokens: Tokens,
    /// What a restored API server may have taken back.
    pub(super) recalls: Recalls,
}

/// What this process did about the latest attempt of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Trail {
    attempt: u32,
    /// This process chose the attempt, so nobody called before it did.
    own: bool,
    /// When a call was made, at the latest, that may have bought something.
    pub(super) last_call: Option<Timestamp>,
    last_look: Option<Timestamp>,
    /// EC2 refused a call.
    refused: bool,
    /// What its answers are worth.
    pub(super) answers: Answers,
    /// When any of this was last learned.
    touched: Timestamp,
}

/// Names the call of a batch's attempt.
pub(super) fn purpose(batch: &str, attempt: u32) -> String {
    format!("{batch}/{attempt}")
}

impl LaunchMemory {
    /// Remembers nothing yet. Whoever bought before did so before `since`.
    pub fn new(since: Timestamp) -> Self {
        Self {
            shortages: Shortages::default(),
            refusals: Refusals::default(),
            no_shows: NoShows::default(),
            hazards: Hazards::default(),
            templates: TemplateUse::default(),
            node_memory: NodeMemory::default(),
            since,
            answered: BTreeMap::new(),
            resting: BTreeMap::new(),
            trails: BTreeMap::new(),
            alone: BTreeSet::new(),
            in_hand: BTreeSet::new(),
            pace: Pace::default(),
            has_inherited: false,
            tokens: Tokens::default(),
            recalls: Recalls::default(),
        }
    }

    /// A record is being written onto these claims: nothing is decided about them until
    /// [`Self::let_go`].
    pub fn take(&mut self, claims: &[Arc<Claim>]) {
        let uids = claims.iter().map(|claim| claim.uid.clone());
        self.in_hand.extend(uids);
    }

    /// The writing of a record is over, however it ended.
    pub fn let_go(&mut self, claims: &[Arc<Claim>]) {
        for claim in claims {
            self.in_hand.remove(&claim.uid);
        }
    }

    pub(super) fn is_in_hand(&self, claim: &Claim) -> bool {
        self.in_hand.contains(&claim.uid)
    }

    /// This process is about to write a record that it chose itself: nothing was called under it yet.
    pub fn chosen(&mut self, record: &LaunchRecord, now: Timestamp) {
        self.pace
            .spend(&purpose(&record.batch, record.attempt), record.size, now);
        self.templates.used(&record.templates, now);
        self.trail(record, true, now);
    }

    /// A call of the record begins. Gives back when an earlier one was made, for
    /// [`Self::took_no_effect`].
    pub fn called(&mut self, record: &LaunchRecord, now: Timestamp) -> Option<Timestamp> {
        self.pace
            .spend(&purpose(&record.batch, record.attempt), record.size, now);
        self.templates.used(&record.templates, now);
        let is_repeated = !self.bought_nothing(record);
        let trail = self.trail(record, false, now);
        trail.answers.is_repeated = is_repeated;
        trail.last_call.replace(now)
    }

    /// EC2 refused a call, so nothing will come of it; `before` is what [`Self::called`] gave back.
    pub fn took_no_effect(
        &mut self,
        record: &LaunchRecord,
        before: Option<Timestamp>,
        now: Timestamp,
    ) {
        let trail = self.trail(record, false, now);
        trail.last_call = before;
        trail.refused = true;
        if self.bought_nothing(record) {
            self.pace
                .correct(&purpose(&record.batch, record.attempt), 0);
        }
    }

    /// EC2 throttled a call: it is made again, with what was taken for it. `before` is what [`Self::called`] gave
    /// back.
    pub fn throttled(&mut self, record: &LaunchRecord, before: Option<Timestamp>, now: Timestamp) {
        self.took_no_effect(record, before, now);
        self.tokens.throttled(now);
    }

    /// EC2 says that the token of the record was used for something else before, which is written down
    /// nowhere any more: what that bought need not be shown yet. `before` is what [`Self::called`] gave back.
    pub fn was_used(&mut self, record: &LaunchRecord, before: Option<Timestamp>, now: Timestamp) {
        let trail = self.trail(record, false, now);
        trail.own = false;
        // Nobody knows when that was, but that it was before the first call that is known.
        trail.last_call = before.or(Some(now));
        trail.refused = true;
    }

    /// A call of the record ended without an answer that says what was bought: it may have taken
    /// effect as late as this.
    pub fn unanswered(&mut self, record: &LaunchRecord, now: Timestamp) {
        self.trail(record, false, now).last_call = Some(now);
    }

    /// EC2 was asked about the record and may not have shown everything yet.
    pub fn looked(&mut self, record: &LaunchRecord, now: Timestamp) {
        self.trail(record, false, now).last_look = Some(now);
    }

    pub(super) fn trail(&mut self, record: &LaunchRecord, own: bool, now: Timestamp) -> &mut Trail {
        let fresh = Trail {
            attempt: record.attempt,
            own,
            last_call: None,
            last_look: None,
            refused: false,
            answers: Answers::default(),
            touched: now,
        };
        let trail = self.trails.entry(record.batch.clone()).or_insert(fresh);
        if trail.attempt != record.attempt {
            *trail = fresh;
        }
        trail.touched = now;
        trail
    }

    pub(super) fn trail_of(&self, record: &LaunchRecord) -> Option<&Trail> {
        self.trails
            .get(&record.batch)
            .filter(|trail| trail.attempt == record.attempt)
    }

    /// True when EC2 refused a call of the record, as far as this process knows.
    pub(super) fn was_refused(&self, record: &LaunchRecord) -> bool {
        self.trail_of(record).is_some_and(|trail| trail.refused)
    }

    /// True when no call under the record can have bought anything: this process chose the record, and
    /// every call of its was refused.
    pub fn bought_nothing(&self, record: &LaunchRecord) -> bool {
        self.trail_of(record)
            .is_some_and(|trail| trail.own && trail.last_call.is_none())
    }

    /// From when on EC2 shows everything that was bought under a record, so that what is missing from
    /// its answer does not exist.
    pub fn visible_at(&self, record: &LaunchRecord) -> Timestamp {
        self.visible_after(self.trail_of(record))
    }

    /// The same of a batch, whatever its latest attempt.
    pub(super) fn shown_at(&self, batch: &str) -> Timestamp {
        self.visible_after(self.trails.get(batch))
    }

    fn visible_after(&self, trail: Option<&Trail>) -> Timestamp {
        let last = match trail {
            Some(Trail {
                last_call: Some(at),
                ..
            }) => *at,
            // Nothing can have been bought.
            Some(Trail { own: true, .. }) => return Timestamp::MIN,
            // Whoever called may have died right after: the call is on its way still.
            _ => self.since.saturating_add(ON_ITS_WAY).unwrap_or(self.since),
        };
        last.saturating_add(VISIBLE_WITHIN)
            .unwrap_or(Timestamp::MAX)
    }

    /// When EC2 is to be asked again what came of a record; `None` when it was not asked yet.
    pub fn look_again_at(&self, record: &LaunchRecord) -> Option<Timestamp> {
        let looked = self.trail_of(record)?.last_look?;
        let again = looked.saturating_add(LOOK_AGAIN).unwrap_or(looked);
        Some(again.min(self.visible_at(record)))
    }

    /// Remembers an answer whose instances have all been written down on their claims.
    /// `class` is the one that asked, if it is still known.
    pub fn answered(
        &mut self,
        record: &LaunchRecord,
        class: Option<&NodeClass>,
        outcome: &LaunchOutcome,
        now: Timestamp,
    ) {
        self.learn_of_the_region(record, class, outcome, now);
        if is_unserved(outcome) {
            let doublings = record.attempt.saturating_sub(1).min(MOST_DOUBLINGS);
            let rest = FIRST_REST.saturating_mul(1 << doublings);
            let until = now.saturating_add(rest).unwrap_or(now);
            let resting = (record.attempt, until);
            self.resting.insert(record.batch.clone(), resting);
        }
        if let Some(class) = class {
            self.refusals.learn(class, record, outcome, now);
        }
        let bought = u32::try_from(outcome.instances.len()).unwrap_or(u32::MAX);
        let purpose = purpose(&record.batch, record.attempt);
        self.pace.correct(&purpose, bought);
        self.tokens.settle(&purpose, bought, now);
        let mut shortfalls = outcome.shortfalls.iter();
        if shortfalls.any(|found| found.class == ErrorClass::Throttled) {
            self.tokens.throttled(now);
        }
        self.settled(record);
    }

    /// What a placement group has no room for may be had beside it, so it is not held against the region.
    fn learn_of_the_region(
        &mut self,
        record: &LaunchRecord,
        class: Option<&NodeClass>,
        outcome: &LaunchOutcome,
        now: Timestamp,
    ) {
        let is_own = |found: &&Shortfall| is_of_class(class, found);
        if !outcome.shortfalls.iter().any(|found| is_own(&found)) {
            return self.shortages.learn(record, outcome, now);
        }
        let of_others = outcome.shortfalls.iter().filter(|found| !is_own(found));
        let others = LaunchOutcome {
            instances: outcome.instances.clone(),
            shortfalls: of_others.cloned().collect(),
        };
        if others.shortfalls.is_empty() {
            self.shortages.learn_purchases(record, &others, now);
        } else {
            self.shortages.learn(record, &others, now);
        }
    }

    /// Learns that a call was refused as a whole, with EC2's code and why; `class` is the one that asked, if it is still
    /// known. What is missing or not allowed may be mended meanwhile, and says nothing of the offerings.
    pub fn refused(
        &mut self,
        record: &LaunchRecord,
        class: Option<&NodeClass>,
        (error, code, why): (ErrorClass, &str, &str),
        now: Timestamp,
    ) {
        let is_of_the_class = match error {
            ErrorClass::Invalid => true,
            ErrorClass::QuotaExceeded => !is_quota_of_launches(code),
            ErrorClass::InsufficientCapacity => {
                class.is_some_and(|class| class.placement_group.is_some())
            }
            _ => false,
        };
        if !is_of_the_class {
            return self.shortages.note_all(record, error, now);
        }
        let Some(class) = class else {
            return;
        };
        for offering in record.offerings() {
            let wanted = (&offering, record.reservation.as_deref());
            self.refusals.note(class, wanted, why, now);
        }
    }

    /// Learns that a machine ended before it joined, which is no proof that there is capacity. Machines that their
    /// class makes so that they do not start are not bought again at once.
    pub fn ended_early(
        &mut self,
        class: Option<&NodeClass>,
        (wanted, alternatives): (Wanted<'_>, &[OfferingKey]),
        ending: &Ending,
        now: Timestamp,
    ) {
        let (offering, reservation) = wanted;
        self.shortages.doubt(offering);
        match (ending.lesson(), class) {
            (Lesson::Region, _) => {
                let class = ErrorClass::InsufficientCapacity;
                self.shortages.note_wanted(wanted, class, now);
            }
            (Lesson::Class, Some(class)) => {
                let why = format!("{} ({})", ending.message, ending.code);
                // Image, key or user data are at fault, not the size: the alternatives would end alike.
                for offering in alternatives.iter().chain([offering]) {
                    self.refusals
                        .note(class, (offering, reservation), &why, now);
                }
            }
            (Lesson::Class, None) | (Lesson::Nothing, _) => {}
        }
    }

    /// Until when a batch rests because EC2 could not serve its last call.
    pub(super) fn rests_until(&self, record: &LaunchRecord, now: Timestamp) -> Option<Timestamp> {
        let (attempt, until) = self.resting.get(&record.batch)?;
        (*attempt == record.attempt && *until > now).then_some(*until)
    }

    /// Remembers that nothing more will come of a record.
    pub fn settled(&mut self, record: &LaunchRecord) {
        let started = if self.bought_nothing(record) {
            0
        } else {
            record.size
        };
        let known_at = self
            .trail_of(record)
            .map_or(self.since, |trail| trail.touched);
        let purpose = purpose(&record.batch, record.attempt);
        self.tokens.settle(&purpose, started, known_at);
        let attempt = self.answered.entry(record.batch.clone()).or_insert(0);
        *attempt = record.attempt.max(*attempt);
    }

    /// True when no call for the claim can still bring an instance that it does not know of, and none has that a
    /// restore took back.
    pub fn is_settled(&self, claim: &Claim) -> bool {
        let mut record = claim.launch.iter();
        !self.recalls.is_waiting(claim) && record.all(|record| self.is_answered(record))
    }

    pub(super) fn is_answered(&self, record: &LaunchRecord) -> bool {
        self.answered
            .get(&record.batch)
            .is_some_and(|attempt| *attempt >= record.attempt)
    }

    /// The API server takes no record for the claim: others shall not wait for it.
    pub fn set_alone(&mut self, claim: &Claim) {
        self.alone.insert(claim.uid.clone());
    }

    /// True for a claim that others do not wait for.
    pub fn is_alone(&self, claim: &Claim) -> bool {
        self.alone.contains(&claim.uid)
    }

    /// Until when an offering is left alone by a class, whoever's fault it is.
    pub(super) fn closed_until(
        &self,
        class: &NodeClass,
        wanted: Wanted<'_>,
        now: Timestamp,
    ) -> Option<Timestamp> {
        let no_shows = &self.no_shows;
        self.shortages
            .until_of(wanted, now)
            .max(self.refusals.until(class, wanted, now))
            .max(no_shows.until(class, &wanted.0.instance_type, now))
    }

    /// Writes what experience says into every catalogue of a snapshot.
    pub fn mark(&self, snapshot: &mut Snapshot) {
        self.shortages.mark(snapshot);
        self.refusals.mark(snapshot);
        self.no_shows.mark(snapshot);
        self.hazards.mark(snapshot);
    }

    /// Forgets batches that no claim carries any more, claims that are gone, and shortages long over.
    pub fn forget(&mut self, snapshot: &Snapshot) {
        self.inherit(snapshot);
        self.recalls.observe(snapshot);
        let mut carried: BTreeMap<&str, u32> = BTreeMap::new();
        let records = snapshot
            .claims
            .values()
            .filter_map(|claim| claim.launch.as_ref());
        for record in records {
            let latest = carried.entry(&record.batch).or_default();
            *latest = record.attempt.max(*latest);
        }
        self.forget_what_was_taken_back(&carried);
        // A record that was chosen a moment ago is on no claim yet.
        let lately = snapshot
            .now
            .saturating_sub(VISIBLE_WITHIN)
            .unwrap_or(Timestamp::MIN);
        self.tokens.forget(lately, |purpose| {
            let batch = purpose.split('/').next();
            batch.is_some_and(|batch| carried.contains_key(batch))
        });
        self.answered
            .retain(|batch, _attempt| carried.contains_key(batch.as_str()));
        self.resting
            .retain(|batch, _rest| carried.contains_key(batch.as_str()));
        self.trails
            .retain(|batch, trail| carried.contains_key(batch.as_str()) || trail.touched > lately);
        if !self.alone.is_empty() {
            let uids: BTreeSet<&str> = snapshot
                .claims
                .values()
                .map(|claim| claim.uid.as_str())
                .collect();
            self.alone.retain(|uid| uids.contains(uid.as_str()));
        }
        self.shortages.forget(snapshot.now);
        self.refusals.forget(snapshot.now);
        self.no_shows.forget(snapshot);
    }

    /// Claims of these batches carry these attempts at the latest. Where a later one was answered, a restored
    /// API server has them back as they were before it, and what was bought is written down nowhere: to go on
    /// from the answer would buy once more. So the attempts are made again from there; EC2 answers each as it
    /// did, or says that the token was used for something else, and shows what was bought.
    fn forget_what_was_taken_back(&mut self, carried: &BTreeMap<&str, u32>) {
        for (batch, attempt) in carried {
            let later = self.answered.get(*batch).filter(|known| *known > attempt);
            if later.is_none() {
                continue;
            }
            self.answered.remove(*batch);
            self.resting.remove(*batch);
            if let Some(trail) = self.trails.get_mut(*batch) {
                *trail = Trail {
                    attempt: *attempt,
                    own: false,
                    last_look: None,
                    refused: false,
                    answers: Answers::default(),
                    ..*trail
                };
            }
        }
    }
}
