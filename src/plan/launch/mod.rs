//! Launching: which claims are bought together, with which call, and what to do with the answer.
//!
//! Given a snapshot and what this process remembers of launches, [`decide`] gives back the steps for
//! every claim that has no instance yet. A record that was written but not answered is repeated
//! unchanged; a batch that fell short walks on with the offerings that remain; a claim that is being
//! deleted holds its finalizer until its launch is settled. Nothing is bought or written here.

mod admission;
mod assign;
mod doubt;
mod exhausted;
mod hazard;
mod memory;
mod no_shows;
mod node_memory;
mod prices;
mod recall;
mod refusals;
mod shortage;
mod templates;
mod tries;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use sha2::{Digest, Sha256};

pub use admission::{CEILING, NoRoom, RATE, Reserved, admitted, is_held};
pub use assign::{
    BatchInstance, LaunchedStatus, Wanted, assign, labels_of, launched_status, offering_of,
    relabelled, reservation_of, wanted_by,
};
pub use exhausted::{NO_SHOWS, REFUSED};
pub use hazard::{Hazards, UnreadableHazards};
pub use memory::LaunchMemory;
pub use no_shows::{NoShows, Rest, UnreadableNoShows, WHAT_TO_LOOK_AT};
pub use node_memory::{MemoryReport, NodeMemory, UnreadableMemory, images_in_use, memory_reports};
pub use prices::TOO_DEAR;
pub use refusals::Refusals;
pub use shortage::{Shortages, UnreadableShortages};
pub use templates::{TemplateUse, UnreadableTemplates};
pub use tries::one_try_each;

use super::condition::ConditionChange;
use super::decision::Decision;
use crate::api::conditions::{ConditionReason, ConditionType};
use crate::model::claim::Claim;
use crate::model::launch::{LaunchRecord, TemplateOverrides};
use crate::model::node_class::NodeClass;
use crate::model::offering::{CapacityType, OfferingKey};
use crate::model::resources::EFA;
use crate::model::snapshot::Snapshot;

/// Most claims in one batch. One CreateFleet call of type `instant` may ask for a thousand
/// instances (EC2 quota "instances per instant fleet request"); half of it keeps the answer, which
/// lists every instance, well below EC2's response limits.
pub const LARGEST_BATCH: usize = 500;

/// How long a batch rests after its last claim was deleted before EC2 is asked what came of it: an
/// instance launched just before is usually visible by then, and its claim need not wait longer.
const SETTLE_AFTER: SignedDuration = SignedDuration::from_secs(5);

/// A batch with its record and every claim that carries it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// The persisted record.
    pub record: LaunchRecord,
    /// Its claims in order of uid, those with an instance and those being deleted included.
    pub claims: Vec<Arc<Claim>>,
}

/// A record about to be made: all of it but the launch templates, which EC2 must have first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposal {
    /// Hash of the claims' uids.
    pub batch: String,
    /// Counts the choices of offerings for these claims.
    pub attempt: u32,
    /// The claims, in order of uid.
    pub claims: Vec<Arc<Claim>>,
    /// Their node class.
    pub node_class: Arc<NodeClass>,
    /// The capacity type of `offerings`.
    pub capacity_type: CapacityType,
    /// What may be bought, best first.
    pub offerings: Vec<OfferingKey>,
    /// Names what the claims want; two proposals of one key never share a claim.
    pub wanted: String,
}

/// What to do next about launches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LaunchStep {
    /// Make the launch templates, write the record onto every claim, and only then call EC2.
    Propose(Proposal),
    /// Write a record onto those of its claims that miss it: the process ended half-way.
    Complete {
        /// The record.
        record: LaunchRecord,
        /// The claims without it.
        missing: Vec<Arc<Claim>>,
    },
    /// Make the call of a record, for the first time or again.
    Call(Batch),
    /// Ask EC2 what came of a record, because nobody wants it any more.
    LookUp(Batch),
    /// Ask EC2 what was bought under a batch that a restored API server has taken back.
    Recall {
        /// The batch.
        batch: String,
        /// The claims that carried it.
        claims: Vec<Arc<Claim>>,
    },
    /// Say on a claim why it waits.
    Report {
        /// The claim.
        claim: Arc<Claim>,
        /// Its condition Launched.
        change: ConditionChange,
    },
    /// Delete a claim of which nothing can be bought now, because its NodePool may buy something else: its
    /// pods are planned anew with what is known now.
    GiveUp {
        /// The claim.
        claim: Arc<Claim>,
        /// What stands against its offerings.
        reason: &'static str,
        /// Why, for people.
        message: String,
    },
}

impl LaunchStep {
    /// What may not run twice at the same time.
    pub fn key(&self) -> String {
        match self {
            Self::Propose(proposal) => format!("want/{}", proposal.wanted),
            Self::Complete { record, .. } => format!("batch/{}", record.batch),
            Self::Call(batch) | Self::LookUp(batch) => format!("batch/{}", batch.record.batch),
            Self::Recall { batch, .. } => format!("batch/{batch}"),
            Self::Report { claim, .. } | Self::GiveUp { claim, .. } => {
                format!("claim/{}", claim.name)
            }
        }
    }
}

impl Proposal {
    /// The record, once the launch templates are known.
    pub fn record(&self, templates: Vec<TemplateOverrides>) -> LaunchRecord {
        LaunchRecord {
            batch: self.batch.clone(),
            attempt: self.attempt,
            size: u32::try_from(self.claims.len()).unwrap_or(u32::MAX),
            capacity_type: self.capacity_type,
            reservation: self.reservation().map(str::to_owned),
            templates,
        }
    }

    /// The capacity reservation that its claims name.
    pub fn reservation(&self) -> Option<&str> {
        let is_reserved = self.capacity_type == CapacityType::Reserved;
        let first = self.claims.first().filter(|_claim| is_reserved);
        first.and_then(|claim| reservation_of(claim))
    }
}

/// Names a batch: SHA-256 over the claims' uids in order, the first 32 hex digits.
pub fn batch_id<'uids>(uids: impl IntoIterator<Item = &'uids str>) -> String {
    let sorted: BTreeSet<&str> = uids.into_iter().collect();
    let mut hash = Sha256::new();
    for uid in sorted {
        hash.update(uid.as_bytes());
        hash.update(b"\n");
    }
    short_hex(&hash.finalize())
}

fn short_hex(bytes: &[u8]) -> String {
    bytes.iter().take(16).fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        write!(text, "{byte:02x}").ok();
        text
    })
}

/// What must be equal for claims to be bought by one call: where they come from, what may be bought,
/// and what their user data will say.
fn wanted(claim: &Claim) -> String {
    let mut hash = Sha256::new();
    hash.update(format!(
        "{:?}",
        (
            &claim.node_pool,
            &claim.node_class,
            &claim.offerings,
            &claim.labels,
            &claim.taints,
            &claim.startup_taints,
            // Their network interfaces differ.
            claim.requests.get(EFA) > 0,
        )
    ));
    short_hex(&hash.finalize())
}

/// Decides about every claim that has no instance.
pub fn decide(snapshot: &Snapshot, memory: &LaunchMemory) -> Decision<LaunchStep> {
    let mut decision = Decision::default();
    let mut by_batch: BTreeMap<&str, Vec<&Arc<Claim>>> = BTreeMap::new();
    let mut fresh: BTreeMap<String, Vec<&Arc<Claim>>> = BTreeMap::new();
    let recalled = recall::decide(snapshot, memory, &mut decision);
    // A batch waits as a whole: its record is for all of its claims.
    let is_recalled = |claim: &Arc<Claim>| recalled.contains(claim.uid.as_str());
    for claim in snapshot.claims.values() {
        if memory.is_in_hand(claim) {
            continue;
        }
        match &claim.launch {
            Some(record) => by_batch.entry(&record.batch).or_default().push(claim),
            None if is_recalled(claim) => {}
            None if is_waiting(claim) && claim.deleting_since.is_none() => {
                let mut key = wanted(claim);
                if memory.is_alone(claim) {
                    key.push_str(&claim.uid);
                }
                fresh.entry(key).or_default().push(claim);
            }
            None => {}
        }
    }
    for claims in by_batch.values() {
        if claims.iter().any(|claim| is_recalled(claim)) {
            continue;
        }
        decide_batch(snapshot, memory, claims, &fresh, &mut decision);
    }
    let completing: BTreeSet<String> = decision
        .steps
        .iter()
        .filter_map(|step| match step {
            LaunchStep::Complete { missing, .. } => Some(missing),
            _ => None,
        })
        .flatten()
        .map(|claim| claim.uid.clone())
        .collect();
    for (wanted, claims) in &fresh {
        let mut free: Vec<&Arc<Claim>> = claims
            .iter()
            .copied()
            .filter(|claim| !completing.contains(&claim.uid))
            .collect();
        free.sort_by_key(|claim| (claim.created, &claim.uid));
        for chunk in free.chunks(LARGEST_BATCH) {
            propose(snapshot, memory, chunk, 0, wanted, &mut decision);
        }
    }
    // Each takes its room under the ceiling when it is carried out, in this order: what EC2 refused the
    // last time must not stand before what it may accept.
    decision.steps.sort_by_key(|step| match step {
        LaunchStep::Propose(proposal) => proposal
            .claims
            .iter()
            .filter_map(|claim| claim.launch.as_ref())
            .any(|record| memory.was_refused(record)),
        _ => false,
    });
    decision
}

fn is_waiting(claim: &Claim) -> bool {
    claim.provider_id.is_empty() && !claim.is(ConditionType::Launched.as_str())
}

/// Decides about the claims that carry records of one batch.
fn decide_batch(
    snapshot: &Snapshot,
    memory: &LaunchMemory,
    claims: &[&Arc<Claim>],
    fresh: &BTreeMap<String, Vec<&Arc<Claim>>>,
    decision: &mut Decision<LaunchStep>,
) {
    let latest = claims
        .iter()
        .filter_map(|claim| claim.launch.as_ref())
        .max_by_key(|record| record.attempt);
    let Some(record) = latest else { return };
    let mut carriers: Vec<Arc<Claim>> = claims
        .iter()
        .filter(|claim| claim.launch.as_ref() == Some(record))
        .map(|claim| Arc::clone(claim))
        .collect();
    carriers.sort_by(|left, right| left.uid.cmp(&right.uid));
    let mut waiting: Vec<&Arc<Claim>> = claims
        .iter()
        .copied()
        .filter(|claim| is_waiting(claim))
        .collect();
    // The oldest first, as when they were proposed the first time: of a type on trial and under a ceiling it is they who
    // go on.
    waiting.sort_by_key(|claim| (claim.created, &claim.uid));
    if waiting.is_empty() {
        return;
    }
    if memory.is_answered(record) {
        if let Some(until) = memory.rests_until(record, snapshot.now) {
            return decision.wake_at(until);
        }
        let (alone, left): (Vec<_>, Vec<_>) = waiting
            .into_iter()
            .filter(|claim| claim.deleting_since.is_none())
            .partition(|claim| memory.is_alone(claim));
        for claim in &alone {
            let wanted = wanted(claim) + &claim.uid;
            let attempt = record.attempt;
            propose(snapshot, memory, &[*claim], attempt, &wanted, decision);
        }
        if let Some(first) = left.first() {
            let wanted = wanted(first);
            propose(snapshot, memory, &left, record.attempt, &wanted, decision);
        }
        return;
    }
    let batch = Batch {
        record: LaunchRecord::clone(record),
        claims: carriers,
    };
    let complete = batch.claims.len() >= usize::try_from(record.size).unwrap_or(usize::MAX);
    if !complete {
        let missing = missing_carriers(&batch, claims, fresh)
            .filter(|missing| !missing.iter().any(|claim| memory.is_alone(claim)));
        match missing {
            Some(missing) => decision.push(LaunchStep::Complete {
                record: LaunchRecord::clone(record),
                missing,
            }),
            // The record never reached all of its claims, or some are gone since: either nothing was
            // bought, or EC2 shows it under the batch's tag.
            None => look_up(snapshot, memory, batch, decision),
        }
        return;
    }
    decide_written(snapshot, memory, batch, &waiting, decision);
}

/// Decides about a record that all of its claims carry: it is called as it stands, unless nobody needs
/// that any more.
fn decide_written(
    snapshot: &Snapshot,
    memory: &LaunchMemory,
    batch: Batch,
    waiting: &[&Arc<Claim>],
    decision: &mut Decision<LaunchStep>,
) {
    let anybody_leaves = waiting.iter().any(|claim| claim.deleting_since.is_some());
    if anybody_leaves && memory.bought_nothing(&batch.record) {
        // The call would buy for claims that nobody wants any more. It need not be made: those that
        // remain are a batch of their own once this one is settled.
        return look_up(snapshot, memory, batch, decision);
    }
    let last_deletion = waiting
        .iter()
        .map(|claim| claim.deleting_since)
        .collect::<Option<Vec<Timestamp>>>()
        .and_then(|times| times.into_iter().max());
    if memory.is_doubted(&batch.record) {
        return look_up(snapshot, memory, batch, decision);
    }
    match last_deletion {
        None => decision.push(LaunchStep::Call(batch)),
        Some(deleted) => {
            let due = deleted.saturating_add(SETTLE_AFTER).unwrap_or(deleted);
            if snapshot.now >= due {
                look_up(snapshot, memory, batch, decision);
            } else {
                decision.wake_at(due);
            }
        }
    }
}

/// Asks EC2 what came of a record, unless it was asked a moment ago.
fn look_up(
    snapshot: &Snapshot,
    memory: &LaunchMemory,
    batch: Batch,
    decision: &mut Decision<LaunchStep>,
) {
    match memory.look_again_at(&batch.record) {
        Some(due) if due > snapshot.now => decision.wake_at(due),
        _ => decision.push(LaunchStep::LookUp(batch)),
    }
}

/// The claims that a half-written record was meant for, if the batch's hash proves them.
fn missing_carriers(
    batch: &Batch,
    of_batch: &[&Arc<Claim>],
    fresh: &BTreeMap<String, Vec<&Arc<Claim>>>,
) -> Option<Vec<Arc<Claim>>> {
    let proves = |missing: &[&Arc<Claim>]| {
        let uids = batch
            .claims
            .iter()
            .map(|claim| claim.uid.as_str())
            .chain(missing.iter().map(|claim| claim.uid.as_str()));
        batch_id(uids) == batch.record.batch
    };
    let clone = |missing: &[&Arc<Claim>]| missing.iter().map(|claim| Arc::clone(claim)).collect();
    let older: Vec<&Arc<Claim>> = of_batch
        .iter()
        .copied()
        .filter(|claim| claim.launch.as_deref() != Some(&batch.record))
        .collect();
    if !older.is_empty() && proves(&older) {
        // A claim that is being deleted may lose its finalizer any moment: no record may reach it.
        let leaving = older.iter().any(|claim| claim.deleting_since.is_some());
        return (!leaving).then(|| clone(&older));
    }
    let lacking = usize::try_from(batch.record.size)
        .unwrap_or(usize::MAX)
        .saturating_sub(batch.claims.len());
    let mut candidates = fresh.get(&wanted(batch.claims.first()?))?.clone();
    candidates.sort_by_key(|claim| (claim.created, &claim.uid));
    candidates.truncate(lacking);
    proves(&candidates).then(|| clone(&candidates))
}

/// Proposes a record for claims that want the same, or says why they wait.
fn propose(
    snapshot: &Snapshot,
    memory: &LaunchMemory,
    claims: &[&Arc<Claim>],
    last_attempt: u32,
    wanted: &str,
    decision: &mut Decision<LaunchStep>,
) {
    let Some(first) = claims.first() else { return };
    let report = |reason: ConditionReason, message: String, decision: &mut Decision<LaunchStep>| {
        let change = ConditionChange::unknown(ConditionType::Launched, reason, message);
        tell(claims, &change, decision);
    };
    let node_class = match ready_class(snapshot, first) {
        Ok(class) => class,
        Err((reason, message)) => return report(reason, message, decision),
    };
    if snapshot.is_paused(first.node_pool.as_ref()) {
        let message = "the NodePool is paused by the annotation tonnage.dev/paused: nothing is bought until it is removed";
        return report(ConditionReason::from(PAUSED), message.to_owned(), decision);
    }
    let affordable = match prices::affordable(snapshot, node_class, first) {
        Ok(affordable) => affordable,
        Err(message) => return give_up(claims, TOO_DEAR, &message, decision),
    };
    let now = snapshot.now;
    let claims = match admission::with_room(claims, memory, now, decision) {
        Ok(claims) => claims,
        Err(held) => return tell(claims, &held, decision),
    };
    let known = (snapshot, memory);
    let (remaining, tried) = tries::narrowed(known, node_class, claims, affordable);
    let claims = claims.get(..tried).unwrap_or(claims);
    let Some(capacity_type) = remaining.first().map(|offering| offering.capacity_type) else {
        let told = exhausted::none_left(snapshot, memory, claims, node_class, decision);
        if let Some((reason, message)) = told {
            report(ConditionReason::from(reason), message, decision);
        }
        return;
    };
    let offerings = remaining
        .into_iter()
        .filter(|offering| offering.capacity_type == capacity_type)
        .collect();
    let mut sorted: Vec<Arc<Claim>> = claims.iter().map(|claim| Arc::clone(claim)).collect();
    sorted.sort_by(|left, right| left.uid.cmp(&right.uid));
    let batch = batch_id(sorted.iter().map(|claim| claim.uid.as_str()));
    let same_claims = first
        .launch
        .as_ref()
        .is_some_and(|record| record.batch == batch);
    decision.push(LaunchStep::Propose(Proposal {
        attempt: if same_claims {
            last_attempt.saturating_add(1)
        } else {
            1
        },
        batch,
        claims: sorted,
        node_class: Arc::clone(node_class),
        capacity_type,
        offerings,
        wanted: wanted.to_owned(),
    }));
}

/// Says something on claims, if it is news.
fn tell(claims: &[&Arc<Claim>], change: &ConditionChange, decision: &mut Decision<LaunchStep>) {
    for claim in claims {
        if let Some(change) = change.clone().news_for(claim) {
            decision.push(LaunchStep::Report {
                claim: Arc::clone(claim),
                change,
            });
        }
    }
}

/// Gives claims up for one reason.
fn give_up(
    claims: &[&Arc<Claim>],
    reason: &'static str,
    message: &str,
    decision: &mut Decision<LaunchStep>,
) {
    for claim in claims {
        decision.push(LaunchStep::GiveUp {
            claim: Arc::clone(claim),
            reason,
            message: message.to_owned(),
        });
    }
}

/// The reason of a claim whose NodePool is paused.
pub const PAUSED: &str = "NodePoolPaused";

/// The node class of a claim, or why it cannot be used.
fn ready_class<'world>(
    snapshot: &'world Snapshot,
    claim: &Claim,
) -> Result<&'world Arc<NodeClass>, (ConditionReason, String)> {
    match snapshot.node_classes.get(&claim.node_class) {
        Some(class) if class.ready => Ok(class),
        Some(class) => Err((
            ConditionReason::from("NodeClassNotReady"),
            format!(
                "EC2NodeClass {} is not ready: {}",
                class.name, class.not_ready
            ),
        )),
        None => Err((
            ConditionReason::NodeClassNotFound,
            format!(
                "EC2NodeClass {} does not exist; create it or correct the NodePool's nodeClassRef",
                claim.node_class
            ),
        )),
    }
}

#[cfg(test)]
mod tests;
