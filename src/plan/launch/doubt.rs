//! What the answer to a repeated call is worth.
//!
//! EC2 promises that a repeated call has no second effect. It does not promise to list once more what the first one
//! launched. Given the answers to the calls of a record, this says which of them tell all that was bought; after any
//! other EC2 is asked for the machines of the batch until it would show them.

use jiff::Timestamp;

use super::LaunchMemory;
use crate::model::launch::{LaunchOutcome, LaunchRecord};

/// What is known of the answers to a record's calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Answers {
    /// An earlier call than the latest may have bought.
    pub(super) is_repeated: bool,
    /// How many instances the answer to the first call listed.
    first: Option<u32>,
    /// An answer may have left some out.
    doubted: bool,
}

impl LaunchMemory {
    /// EC2 has answered a call; `before` is what [`Self::called`] gave back. True when the answer tells all that
    /// was bought under the record: nothing can have been bought before it, or it is as long as it can be, or as
    /// the answer to the first call was.
    pub fn tells_all(
        &mut self,
        record: &LaunchRecord,
        outcome: &LaunchOutcome,
        before: Option<Timestamp>,
        now: Timestamp,
    ) -> bool {
        let count = u32::try_from(outcome.instances.len()).unwrap_or(u32::MAX);
        let trail = self.trail(record, false, now);
        if !trail.answers.is_repeated {
            trail.answers.first = Some(count);
            return true;
        }
        let first = trail.answers.first;
        if count >= record.size || first.is_some_and(|first| count >= first) {
            return true;
        }
        // A call that is answered like this bought nothing itself; EC2 shows what an earlier one did no later
        // than it would have without this one.
        trail.last_call = before;
        trail.answers.doubted = true;
        false
    }

    /// True while EC2 is to be asked what a record has bought, instead of making its call once more.
    pub(super) fn is_doubted(&self, record: &LaunchRecord) -> bool {
        self.trail_of(record)
            .is_some_and(|trail| trail.answers.doubted)
    }
}
