//! What complete lists have shown so far.
//!
//! Given complete lists and what was decided from them; given back which of what is missing was missing in two lists, and
//! what a person was told and allowed. As text it outlives the process (`text`). Nothing is decided here.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::{CollectStep, Collection, Halt, is_stray, text};
use crate::api::conditions::ConditionType;
use crate::model::claim::Claim;
use crate::model::instance::{Instance, instance_id_of, tags};
use crate::model::snapshot::Snapshot;
use crate::plan::instances::VISIBLE_WITHIN;

/// How far apart the two lists are at least that must agree before anything is done.
pub const APART: SignedDuration = SignedDuration::from_mins(1);
/// For how long after its last list somebody else may go on from what a process saw: what happens under others' eyes in
/// so short a time makes no machine that was without a claim before and after one to keep. Times are the API server's,
/// and one that was set back meanwhile is off by as much.
const HANDED_ON: SignedDuration = SignedDuration::from_mins(3);
/// Sets of orphans that are remembered: a token that is older has to be given anew.
const MOST_TOLD: usize = 20;

/// Orphans that a person was told of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Told {
    /// By which token.
    pub(super) token: String,
    /// Their instance ids.
    pub(super) orphans: BTreeSet<String>,
}

/// What complete lists have shown so far. Where it is not kept, collection begins anew, a minute later.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CollectMemory {
    /// The last complete list.
    pub(super) last: Option<(Timestamp, Vec<Arc<Instance>>)>,
    /// Instances without a claim, by id: since which list.
    pub(super) orphans: BTreeMap<String, Timestamp>,
    /// Claims without an instance, by uid: since which list.
    pub(super) vanished: BTreeMap<String, Timestamp>,
    /// Nodes of ours without claim and instance, by uid: since which list.
    pub(super) stray: BTreeMap<String, Timestamp>,
    /// Instances that were tagged since the last list, which cannot show it.
    pub(super) tagged: BTreeSet<String>,
    /// Orphans whose end was decided, alone or by a person's leave: what failed is tried again without asking
    /// anew.
    pub(super) condemned: BTreeSet<String>,
    /// Orphans that the brake holds: it does not let go because the fleet grew or some of them went.
    pub(super) held: BTreeSet<String>,
    /// What a person was told of last: it may be allowed, though some of it is gone since.
    pub(super) told: VecDeque<Told>,
    /// Instances are told the names of their Nodes and claims.
    pub(super) names_instances: bool,
}

impl CollectMemory {
    /// The same, where instances are to be told the names of their Nodes and claims.
    #[must_use]
    pub fn with_names(mut self, names_instances: bool) -> Self {
        self.names_instances = names_instances;
        self
    }

    /// Takes in a complete list of the cluster's instances that are not terminated. `snapshot` must
    /// have been taken after the list, so that a claim made meanwhile counts.
    pub fn listed(&mut self, at: Timestamp, instances: Vec<Arc<Instance>>, snapshot: &Snapshot) {
        let present: BTreeSet<&str> = instances.iter().map(|found| found.id.as_str()).collect();
        let claimed: BTreeSet<&str> = snapshot
            .claims
            .values()
            .filter_map(|claim| claim.instance_id())
            .collect();
        // Instances of a batch whose claims still wait for theirs are not orphans yet.
        let pending: BTreeSet<&str> = snapshot
            .claims
            .values()
            .filter(|claim| claim.provider_id.is_empty())
            .filter_map(|claim| claim.launch.as_ref())
            .map(|record| record.batch.as_str())
            .collect();
        let is_pending = |instance: &Instance| {
            instance
                .tags
                .get(tags::BATCH)
                .is_some_and(|batch| pending.contains(batch.as_str()))
        };
        let orphans = instances
            .iter()
            .filter(|found| !found.state.is_ending())
            .filter(|found| !claimed.contains(found.id.as_str()) && !is_pending(found))
            .map(|found| found.id.clone())
            .collect();
        let vanished = snapshot
            .claims
            .values()
            .filter(|claim| claim.deleting_since.is_none())
            .filter(|claim| {
                claim
                    .instance_id()
                    .is_some_and(|id| !present.contains(id) && at >= visible_from(claim))
            })
            .map(|claim| claim.uid.clone())
            .collect();
        let stray = snapshot
            .nodes
            .values()
            .filter(|node| is_stray(node, snapshot))
            .filter(|node| instance_id_of(&node.provider_id).is_none_or(|id| !present.contains(id)))
            .map(|node| node.uid.clone())
            .collect();
        keep(&mut self.orphans, orphans, at);
        keep(&mut self.vanished, vanished, at);
        keep(&mut self.stray, stray, at);
        self.condemned.retain(|id| self.orphans.contains_key(id));
        self.held.retain(|id| self.orphans.contains_key(id));
        self.last = Some((at, instances));
        self.tagged.clear();
    }

    /// True while something is missing.
    pub fn misses_something(&self) -> bool {
        !(self.orphans.is_empty() && self.vanished.is_empty() && self.stray.is_empty())
    }

    /// As text, for [`Self::read`]; empty while there is nothing to go on from, and `None` before a list of its own is in:
    /// what others wrote stays then.
    pub fn write(&self) -> Option<String> {
        text::write(self)
    }

    /// From the text of [`Self::write`], which may be old: of what was missing long ago only what the brake holds and a person
    /// was told counts. No instance id is given twice.
    ///
    /// # Errors
    /// The text is not of that form.
    pub fn read(text: &str, now: Timestamp) -> Result<Self, text::UnreadableOrphans> {
        let mut read = text::read(text)?;
        let is_fresh = |last: Timestamp| now.duration_since(last).abs() <= HANDED_ON;
        if read.last.take().is_none_or(|(last, _none)| !is_fresh(last)) {
            read = Self {
                held: read.held,
                told: read.told,
                ..Self::default()
            };
        }
        Ok(read)
    }

    /// Goes on from what somebody else saw: what was missing then and is missing now has been since then. Nothing is
    /// decided before a list of its own is in.
    pub fn absorb(&mut self, earlier: Self) {
        let is_listed = self.last.is_some();
        let join = |known: &mut BTreeMap<_, _>, earlier: BTreeMap<String, Timestamp>| {
            for (name, since) in earlier {
                if let Some(known) = known.get_mut(&name) {
                    *known = since.min(*known);
                } else if !is_listed {
                    known.insert(name, since);
                }
            }
        };
        join(&mut self.orphans, earlier.orphans);
        join(&mut self.vanished, earlier.vanished);
        join(&mut self.stray, earlier.stray);
        let is_missing = |id: &String| !is_listed || self.orphans.contains_key(id);
        self.held
            .extend(earlier.held.into_iter().filter(is_missing));
        for told in earlier.told.into_iter().rev() {
            if !self.told.contains(&told) {
                self.told.push_front(told);
            }
        }
        self.forget_old_tokens();
    }

    /// Remembers what was decided. Tags are not asked for again from the same list: one that failed is
    /// missing from the next, too.
    pub fn asked(&mut self, collection: &Collection) {
        for step in &collection.decision.steps {
            match step {
                CollectStep::Tag { instance, .. } => {
                    self.tagged.insert(instance.clone());
                }
                CollectStep::Terminate { instance, .. } => {
                    self.condemned.insert(instance.id.clone());
                    self.held.remove(&instance.id);
                }
                _ => {}
            }
        }
        if let Some(halt) = &collection.halt {
            self.held.extend(halt.orphans.iter().cloned());
            let told = Told {
                token: halt.token.clone(),
                orphans: halt.orphans.clone(),
            };
            if !self.told.contains(&told) {
                self.told.push_back(told);
            }
            self.forget_old_tokens();
        }
    }

    fn forget_old_tokens(&mut self) {
        let old = self.told.len().saturating_sub(MOST_TOLD);
        self.told.drain(..old);
    }

    /// The token by which a person was told of all of these already: what goes meanwhile makes no new one, or it would
    /// change under the eyes of whoever compares. What is only not asked about now, as its NodePool is paused, does.
    pub(super) fn told_token(&self, orphans: &BTreeSet<String>) -> Option<&str> {
        let is_gone = |id: &String| !self.orphans.contains_key(id);
        let mut told = self.told.iter().rev();
        told.find(|told| {
            orphans.is_subset(&told.orphans) && told.orphans.difference(orphans).all(is_gone)
        })
        .map(|told| told.token.as_str())
    }

    /// True when a person allowed the end of all of these, by the token of this halt or of one before it.
    pub(super) fn is_allowed(&self, halt: &Halt, snapshot: &Snapshot) -> bool {
        let tokens: BTreeSet<&str> = snapshot
            .node_pools
            .values()
            .filter_map(|pool| pool.acknowledged_orphans.as_deref())
            .collect();
        if tokens.contains(halt.token.as_str()) {
            return true;
        }
        // The last set by a token is what the person compared with.
        let told = |token: &&str| self.told.iter().rev().find(|told| told.token == *token);
        let mut allowed = tokens.iter().filter_map(told);
        allowed.any(|told| halt.orphans.is_subset(&told.orphans))
    }

    /// The last complete list, if there was one.
    pub fn listed_instances(&self) -> Option<&[Arc<Instance>]> {
        let last = self.last.as_ref();
        last.map(|(_at, instances)| instances.as_slice())
    }

    /// True when the first list that missed it and the last one are far enough apart.
    pub(super) fn confirmed(&self, since: Option<&Timestamp>) -> bool {
        match (since, &self.last) {
            (Some(since), Some((last, _instances))) => last.duration_since(*since) >= APART,
            _ => false,
        }
    }
}

/// Adds what the API server itself has listed to a snapshot that does not show it, for [`CollectMemory::listed`]: a claim
/// that exists must never be missed, also one that was made anew under the name of another that is still shown.
pub fn add_listed(snapshot: &mut Snapshot, claims: Vec<Arc<Claim>>) {
    for claim in claims {
        let shown = snapshot.claims.get(&claim.name);
        let key = match shown.map(|shown| shown.uid == claim.uid) {
            Some(true) => continue,
            // Its name is taken, and it only has to be among them.
            Some(false) => claim.uid.clone(),
            None => claim.name.clone(),
        };
        snapshot.claims.insert(key, claim);
    }
}

/// Keeps what is still missing with its first time, adds what is newly missing, drops the rest. After a
/// clock that was far ahead has been set right a first time may be of the future: it begins anew.
fn keep(known: &mut BTreeMap<String, Timestamp>, missing: BTreeSet<String>, at: Timestamp) {
    known.retain(|name, since| missing.contains(name) && *since <= at);
    for name in missing {
        known.entry(name).or_insert(at);
    }
}

/// When EC2 certainly shows the instance of a claim.
fn visible_from(claim: &Claim) -> Timestamp {
    let launched = claim
        .conditions
        .get(ConditionType::Launched.as_str())
        .map_or(claim.created, |found| found.since);
    launched
        .saturating_add(VISIBLE_WITHIN)
        .unwrap_or(Timestamp::MAX)
}
