//! How many claims may be bought now.
//!
//! Given claims that want the same, and what was bought lately; given back those that there is room for under the
//! ceiling that people set and in what EC2 starts at once, or what they say while they wait. Room is only looked at
//! here: who is first when proposals are carried out has it.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::memory::purpose;
use super::{LaunchMemory, LaunchStep, Proposal};
use crate::api::conditions::{ConditionReason, ConditionType};
use crate::model::claim::Claim;
use crate::model::snapshot::Snapshot;
use crate::plan::condition::ConditionChange;
use crate::plan::decision::Decision;
use crate::plan::pace::{self, Pace};
use crate::plan::rate::{self, Rate, Tokens};

/// The reason of a claim that waits for the ceiling on launches.
pub const CEILING: &str = "LaunchCeiling";
/// The reason of a claim that waits until EC2 starts more instances.
pub const RATE: &str = "LaunchRate";

/// The least that claims wait for room before they are decided again.
const AGAIN: SignedDuration = SignedDuration::from_secs(1);

/// The fewest claims that EC2 is asked for at once while more wait: where it starts two instances a second,
/// whoever takes them as they come makes a call each second.
const FEWEST: u32 = 50;

/// True for the reasons of claims that are bought as soon as there is room for them. They are not given up
/// meanwhile: made anew they would wait again, behind all others.
pub fn is_held(reason: &str) -> bool {
    [CEILING, RATE].contains(&reason)
}

/// What a proposal took; whoever gives it up gives this back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct Reserved {
    pub(super) pace: pace::Before,
    pub(super) tokens: rate::Before,
}

/// There is no room for a proposal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoRoom {
    /// Under the ceiling that people set.
    #[error(transparent)]
    Ceiling(#[from] pace::Full),
    /// In what EC2 starts at once.
    #[error(transparent)]
    Rate(#[from] rate::Empty),
}

impl LaunchMemory {
    /// With a ceiling on instances launched per minute.
    pub fn with_ceiling(mut self, per_minute: Option<NonZeroU32>) -> Self {
        self.pace = Pace::per_minute(per_minute);
        self
    }

    /// What others launched in the minute before this process began counts against its ceiling too. A record without an
    /// answer counts as called now: nobody knows when it was.
    pub(super) fn inherit(&mut self, snapshot: &Snapshot) {
        if std::mem::replace(&mut self.has_inherited, true) {
            return;
        }
        let mut launched: BTreeMap<String, (u32, Timestamp)> = BTreeMap::new();
        for claim in snapshot.claims.values() {
            let Some(record) = &claim.launch else {
                continue;
            };
            let said = claim.conditions.get(ConditionType::Launched.as_str());
            let said = said.filter(|_said| claim.is(ConditionType::Launched.as_str()));
            let at = said.map_or(snapshot.now, |said| said.since);
            let of_record = launched.entry(purpose(&record.batch, record.attempt));
            let (count, last) = of_record.or_insert((0, at));
            *count = count.saturating_add(1);
            *last = at.max(*last);
        }
        for (purpose, (count, at)) in launched {
            self.pace.inherit(&purpose, count, at, snapshot.now);
        }
    }

    /// Counting what EC2 starts at once and then in each second.
    pub fn with_rate(mut self, rate: Rate) -> Self {
        self.tokens = Tokens::of(rate);
        self
    }

    /// Takes the room of a proposal before anything is waited for, so that of the proposals of one round
    /// only so many go on as there is room for: under the ceiling, and in what EC2 starts. Calls of the record
    /// take nothing more, however often they are made.
    ///
    /// # Errors
    /// [`NoRoom`], and nothing is taken.
    pub fn reserve(&mut self, proposal: &Proposal, now: Timestamp) -> Result<Reserved, NoRoom> {
        let count = u32::try_from(proposal.claims.len()).unwrap_or(u32::MAX);
        let purpose = purpose(&proposal.batch, proposal.attempt);
        let tokens = self.tokens.try_take(&purpose, count, now)?;
        match self.pace.try_spend(&purpose, count, now) {
            Ok(pace) => Ok(Reserved { pace, tokens }),
            Err(full) => {
                self.tokens.give_back(&purpose, tokens);
                Err(full.into())
            }
        }
    }

    /// No claim took the record of a proposal: its room is free for others.
    pub fn give_back(&mut self, proposal: &Proposal, before: Reserved) {
        let purpose = purpose(&proposal.batch, proposal.attempt);
        self.pace.give_back(&purpose, before.pace);
        self.tokens.give_back(&purpose, before.tokens);
    }
}

/// Those of the claims, the first ones, that there is room for; else what they say.
pub(super) fn with_room<'claims, 'world>(
    claims: &'claims [&'world Arc<Claim>],
    memory: &LaunchMemory,
    now: Timestamp,
    decision: &mut Decision<LaunchStep>,
) -> Result<&'claims [&'world Arc<Claim>], ConditionChange> {
    let soon = now.saturating_add(AGAIN).unwrap_or(now);
    let count = u32::try_from(claims.len()).unwrap_or(u32::MAX);
    let mut room = memory.pace.room(now).min(count);
    if room < count {
        let more = memory.pace.more_at(now);
        decision.wake_at(more.map_or(soon, |more| more.max(soon)));
    }
    if room == 0 {
        return Err(below_the_ceiling(memory));
    }
    let started = memory.tokens.room(now);
    if started < room {
        // Half of the bucket may be taken for what is under way.
        let half = memory
            .tokens
            .rate()
            .unwrap_or_default()
            .burst
            .get()
            .div_ceil(2);
        let fewest = room.min(FEWEST).min(half);
        decision.wake_at(memory.tokens.ready_at(fewest, now).max(soon));
        if started < fewest {
            return Err(in_the_rate(memory));
        }
        room = started;
    }
    let room = usize::try_from(room).unwrap_or(usize::MAX);
    Ok(claims.get(..room).unwrap_or(claims))
}

/// What a claim says while the ceiling holds it. That it does not hold, unlike all else that claims
/// wait for: so the API server keeps the time when the wait ends, from which the launch timeout counts.
fn below_the_ceiling(memory: &LaunchMemory) -> ConditionChange {
    let ceiling = memory.pace.ceiling().map_or(0, NonZeroU32::get);
    let message = format!(
        "the ceiling of {ceiling} instances launched per minute is reached (--launches-per-minute); the \
         claim is bought when there is room"
    );
    held(CEILING, message)
}

/// What a claim says while EC2 starts no more.
fn in_the_rate(memory: &LaunchMemory) -> ConditionChange {
    let rate = memory.tokens.rate().unwrap_or_default();
    let message = format!(
        "EC2 starts {} instances of an account at once and then {} a second (--ec2-instances-started); the \
         claim is bought when there is room",
        rate.burst, rate.per_second
    );
    held(RATE, message)
}

fn held(reason: &str, message: String) -> ConditionChange {
    ConditionChange::fails(
        ConditionType::Launched,
        ConditionReason::from(reason),
        message,
    )
}

/// What a claim says when it is held no more; nothing for one that was not.
pub fn admitted(claim: &Claim) -> Option<ConditionChange> {
    let said = claim.conditions.get(ConditionType::Launched.as_str())?;
    is_held(&said.reason).then(|| {
        ConditionChange::unknown(
            ConditionType::Launched,
            ConditionReason::from("Launching"),
            "there is room for one more launch: the claim is being bought",
        )
    })
}
