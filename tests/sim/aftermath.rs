//! What may happen after the API server went back to a backup, or while its clock is wrong, and must not happen
//! otherwise. Each of it has its reason here, and ends.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};

/// How long requests are on their way that were decided from what a restore took back: those of an API server that is
/// slow, and those that are repeated.
const ON_ITS_WAY: SignedDuration = SignedDuration::from_secs(10);
/// When everybody has long known of a restore, and of what was decided before it.
const KNOWN_BY_ALL: SignedDuration = SignedDuration::from_mins(3);
/// How long a process may go on by what the API server last said its time is: one that has nothing to ask hears it
/// when its watches begin anew.
const HEARD_WITHIN: SignedDuration = SignedDuration::from_mins(10);
/// What a process is off by then is made good by one second in so many, as `tonnage::world::SteadyClock` has it.
const MADE_GOOD: i32 = 8;

/// What befell the API server so far.
#[derive(Debug, Default)]
pub(crate) struct Aftermath {
    /// When it last went back to a backup.
    restored: Option<Timestamp>,
    /// Uids of claims whose making was on its way then, beside those that the backup had in their place, and of those
    /// that were made for a machine that ran already.
    late: BTreeSet<String>,
    /// Those of them that their NodePool has had room for since.
    settled: BTreeSet<String>,
    /// How far its clock is ahead of the right time.
    ahead: SignedDuration,
    /// When that was set, and how far a process may have been ahead then.
    set: Option<(Timestamp, SignedDuration)>,
}

impl Aftermath {
    /// It went back to a backup, which may have less room than there was since.
    pub(crate) fn restored(&mut self, at: Timestamp) {
        self.restored = Some(at);
        self.settled.clear();
    }

    /// Its clock was set.
    pub(crate) fn clock_set(&mut self, ahead: SignedDuration, at: Timestamp) {
        self.set = Some((at, self.allowance(at)));
        self.ahead = ahead;
    }

    /// True while what was decided before a restore is on its way: a pod that the backup has on a machine may be
    /// evicted, or a machine be ended under it, because it was not there a moment before.
    pub(crate) fn is_fresh(&self, now: Timestamp) -> bool {
        self.is_within(ON_ITS_WAY, now)
    }

    fn is_within(&self, length: SignedDuration, now: Timestamp) -> bool {
        let restored = self.restored;
        restored.is_some_and(|at| now.duration_since(at) <= length)
    }

    /// A claim is there that was not before.
    pub(crate) fn made(&mut self, uid: &str, now: Timestamp) {
        if self.is_fresh(now) {
            self.late.insert(uid.to_owned());
        }
    }

    /// A claim was made for a machine that runs, as those get that a restore took theirs from.
    pub(crate) fn taken_back(&mut self, uid: &str) {
        if self.restored.is_some() {
            self.late.insert(uid.to_owned());
        }
    }

    /// True for a claim that nobody would have made who had known of a restore, or that buys nothing.
    pub(crate) fn is_late(&self, uid: &str) -> bool {
        self.late.contains(uid) && !self.settled.contains(uid)
    }

    /// A NodePool has room for all of these claims: whoever makes another one knows of them by now.
    pub(crate) fn fit<'claim>(&mut self, uids: impl Iterator<Item = &'claim str>, now: Timestamp) {
        if self.late.is_empty() || self.is_within(KNOWN_BY_ALL, now) {
            return;
        }
        let late = uids.filter(|uid| self.late.contains(*uid));
        self.settled.extend(late.map(str::to_owned));
    }

    /// How far ahead of the right time a process may be that follows the clock of the API server.
    fn allowance(&self, at: Timestamp) -> SignedDuration {
        let left = self.set.map_or(SignedDuration::ZERO, |(since, before)| {
            let unheard = at.duration_since(since) - HEARD_WITHIN;
            before - unheard.max(SignedDuration::ZERO) / MADE_GOOD
        });
        self.ahead.max(left).max(SignedDuration::ZERO)
    }

    /// The earliest right time at which a moment may have come for who followed the clock of the API server, as it may
    /// be told at a time.
    pub(crate) fn earliest(&self, moment: Timestamp, at: Timestamp) -> Timestamp {
        moment.saturating_sub(self.allowance(at)).unwrap_or(moment)
    }
}
