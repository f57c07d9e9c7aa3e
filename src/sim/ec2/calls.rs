//! Calls to the region, counted by operation.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::Ec2;

/// What came in under one name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// How many calls, refused ones included.
    pub calls: u64,
    /// When an answer last reached its caller.
    pub answered: Option<Timestamp>,
}

impl Ec2 {
    /// Every call since the region began, by operation.
    pub fn calls(&self) -> BTreeMap<&'static str, Tally> {
        self.locked().calls.clone()
    }

    /// How many fleets met offerings without capacity before they were complete.
    pub fn short_fleets(&self) -> u64 {
        self.locked().short_fleets
    }

    pub(super) fn called(&self, operation: &'static str) {
        self.locked().calls.entry(operation).or_default().calls += 1;
    }

    pub(super) fn answered(&self, operation: &'static str) {
        let mut state = self.locked();
        let now = state.clock.now();
        state.calls.entry(operation).or_default().answered = Some(now);
    }
}
