//! What may happen after the API server went back to a backup, or while its clock is wrong, and must not happen
//! otherwise. Each of it has its reason here, and ends.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};

/// How long requests are on their way that were decided from what a restore took back: those of an API server that is
/// slow, and those that are repeated.
const ON_ITS_WAY: SignedDuration = SignedDuration::from_secs(10);

/// What befell the API server so far.
#[derive(Debug, Default)]
pub(crate) struct Aftermath {
    /// When it last went back to a backup.
    restored: Option<Timestamp>,
    /// Uids of claims whose making was on its way then, beside those that the backup had in their place, and of those
    /// that were made for a machine that ran already.
    late: BTreeSet<String>,
    /// The most that its clock was ahead of the right time so far. A process that followed it makes that good slowly.
    ahead: SignedDuration,
}

impl Aftermath {
    /// It went back to a backup.
    pub(crate) fn restored(&mut self, at: Timestamp) {
        self.restored = Some(at);
    }

    /// Its clock was set.
    pub(crate) fn clock_set(&mut self, ahead: SignedDuration) {
        self.ahead = self.ahead.max(ahead);
    }

    /// True while what was decided before a restore is on its way: a pod that the backup has on a machine may be
    /// evicted, or a machine be ended under it, because it was not there a moment before.
    pub(crate) fn is_fresh(&self, now: Timestamp) -> bool {
        let restored = self.restored;
        restored.is_some_and(|at| now.duration_since(at) <= ON_ITS_WAY)
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
        self.late.contains(uid)
    }

    /// The earliest right time at which a moment may have come for who followed the clock of the API server.
    pub(crate) fn earliest(&self, moment: Timestamp) -> Timestamp {
        moment.saturating_sub(self.ahead).unwrap_or(moment)
    }
}
