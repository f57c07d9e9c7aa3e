//! Launches that a restored API server has taken back.
//!
//! Given what claims say, round by round, it remembers how far each has come, and so notices a claim that is as it
//! was before: what was bought for it since is written down nowhere. [`decide`] gives back the looks at EC2 that
//! find it, and which claims wait for them. What another process did before this one began cannot be noticed, so
//! the batches of claims that were there already are asked about once, or as long as EC2 may hide machines where a restore is
//! known. Nothing is bought or written here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;

use super::memory::{LOOK_AGAIN, LaunchMemory};
use super::{Decision, LaunchStep};
use crate::model::claim::Claim;
use crate::model::snapshot::Snapshot;

/// What is remembered of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Recalls {
    /// How far claims had come when they were last seen, by uid.
    seen: BTreeMap<String, Progress>,
    /// What is to be looked for, by batch.
    lost: BTreeMap<String, Lost>,
    /// Uids of claims without an instance that were there when this process began; `None` before it has looked.
    inherited: Option<BTreeSet<String>>,
    /// The batches of those that EC2 was asked about.
    asked: BTreeSet<String>,
}

/// How far the launch of a claim has come.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Progress {
    /// The batch of its record, empty without one.
    batch: String,
    attempt: u32,
    /// It knows its instance.
    bought: bool,
    /// The batch that this process last chose for it. Nobody else writes records meanwhile, so any other that
    /// appears on the claim is an old one.
    next: String,
}

/// A batch under which machines may have been bought that nothing says any more.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Lost {
    /// The uids of the claims that carried it.
    claims: BTreeSet<String>,
    looked: Option<Timestamp>,
}

impl Progress {
    /// True when a claim had come further than it says now.
    fn is_ahead_of(&self, claim: &Claim) -> bool {
        if self.batch.is_empty() || !claim.provider_id.is_empty() {
            return false;
        }
        self.bought
            || claim.launch.as_ref().is_none_or(|record| {
                if record.batch == self.batch {
                    record.attempt < self.attempt
                } else {
                    record.batch != self.next
                }
            })
    }

    fn take(&mut self, claim: &Claim) {
        self.bought = !claim.provider_id.is_empty();
        let record = claim.launch.as_ref();
        let batch = record.map_or("", |record| record.batch.as_str());
        if self.batch != batch {
            batch.clone_into(&mut self.batch);
        }
        self.attempt = record.map_or(0, |record| record.attempt);
    }
}

impl Recalls {
    /// Takes in what claims say now.
    pub(super) fn observe(&mut self, snapshot: &Snapshot) {
        let claims = snapshot.claims.values();
        let there: BTreeSet<&str> = claims.clone().map(|claim| claim.uid.as_str()).collect();
        self.seen.retain(|uid, _seen| there.contains(uid.as_str()));
        for claim in claims.clone() {
            let Some(known) = self.seen.get_mut(&claim.uid) else {
                let mut first = Progress::default();
                first.take(claim);
                self.seen.insert(claim.uid.clone(), first);
                continue;
            };
            if known.is_ahead_of(claim) {
                let lost = self.lost.entry(known.batch.clone()).or_default();
                lost.claims.insert(claim.uid.clone());
                lost.looked = None;
            }
            known.take(claim);
        }
        let seen = &self.seen;
        for lost in self.lost.values_mut() {
            lost.claims
                .retain(|uid| seen.get(uid).is_some_and(|seen| !seen.bought));
        }
        self.lost.retain(|_batch, lost| !lost.claims.is_empty());
        let inherited = self.inherited.get_or_insert_with(|| {
            let waiting = claims.filter(|claim| claim.provider_id.is_empty());
            waiting.map(|claim| claim.uid.clone()).collect()
        });
        inherited.retain(|uid| seen.get(uid).is_some_and(|seen| !seen.bought));
        if inherited.is_empty() {
            self.asked.clear();
        }
    }

    /// True for a claim of which something is to be looked for.
    pub(super) fn is_waiting(&self, claim: &Claim) -> bool {
        let mut lost = self.lost.values();
        lost.any(|lost| lost.claims.contains(&claim.uid))
    }
}

impl LaunchMemory {
    /// A record of a batch that this process chose is about to be written onto claims.
    pub fn moves_on(&mut self, claims: &[Arc<Claim>], batch: &str) {
        for claim in claims {
            let known = self.recalls.seen.entry(claim.uid.clone()).or_default();
            batch.clone_into(&mut known.next);
        }
    }

    /// True for a claim whose machine is looked for, or is to be: it had come further than it says.
    pub fn is_looked_for(&self, claim: &Claim) -> bool {
        let known = self.recalls.seen.get(&claim.uid);
        self.recalls.is_waiting(claim) || known.is_some_and(|known| known.is_ahead_of(claim))
    }

    /// EC2 was asked what was bought under a batch that was taken back, and what it showed is on these claims:
    /// `is_all` when each of them has its instance.
    pub fn recalled(
        &mut self,
        batch: &str,
        claims: &[Arc<Claim>],
        (is_all, asked): (bool, Timestamp),
    ) {
        let is_over = is_all || asked >= self.shown_at(batch);
        let Some(lost) = self.recalls.lost.get_mut(batch) else {
            return;
        };
        if !is_over {
            lost.looked = Some(asked);
            return;
        }
        for claim in claims {
            lost.claims.remove(&claim.uid);
        }
        if lost.claims.is_empty() {
            self.recalls.lost.remove(batch);
        }
    }

    /// True when another process may have bought under a batch of these claims before this one began, with a
    /// later attempt than they say or before they said any, and EC2 was not asked since.
    pub fn is_unasked(&self, batch: &str, claims: &[Arc<Claim>]) -> bool {
        let inherited = self.recalls.inherited.as_ref();
        !self.recalls.asked.contains(batch)
            && inherited
                .is_some_and(|uids| claims.iter().any(|claim| uids.contains(claim.uid.as_str())))
    }

    /// EC2 was asked about a batch of which a restore may have taken back that it was bought, and did not show
    /// all of it: it is looked for as long as EC2 may hide what it has.
    pub fn suspects(&mut self, batch: &str, claims: &[Arc<Claim>], asked: Timestamp) {
        let lost = self.recalls.lost.entry(batch.to_owned()).or_default();
        let uids = claims.iter().map(|claim| claim.uid.clone());
        lost.claims.extend(uids);
        lost.looked = Some(asked);
    }

    /// EC2 was asked about a batch.
    pub fn asked_about(&mut self, batch: &str) {
        self.recalls.asked.insert(batch.to_owned());
    }
}

/// Decides about what was taken back. Gives back the uids of the claims that nothing else is decided about before.
pub(super) fn decide<'memory>(
    snapshot: &Snapshot,
    memory: &'memory LaunchMemory,
    decision: &mut Decision<LaunchStep>,
) -> BTreeSet<&'memory str> {
    let mut waiting = BTreeSet::new();
    if memory.recalls.lost.is_empty() {
        return waiting;
    }
    let claims = snapshot.claims.values();
    let by_uid: BTreeMap<&str, &Arc<Claim>> =
        claims.map(|claim| (claim.uid.as_str(), claim)).collect();
    for (batch, lost) in &memory.recalls.lost {
        waiting.extend(lost.claims.iter().map(String::as_str));
        let again = lost.looked.map(|looked| {
            let again = looked.saturating_add(LOOK_AGAIN).unwrap_or(looked);
            again.min(memory.shown_at(batch))
        });
        if let Some(again) = again.filter(|again| *again > snapshot.now) {
            decision.wake_at(again);
            continue;
        }
        let claims = lost.claims.iter();
        decision.push(LaunchStep::Recall {
            batch: batch.clone(),
            claims: claims
                .filter_map(|uid| by_uid.get(uid.as_str()).map(|claim| Arc::clone(claim)))
                .collect(),
        });
    }
    waiting
}
