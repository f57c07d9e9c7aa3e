//! Capacity reservations that have no slot left, whatever EC2's count says.
//!
//! Given refusals of launches into them, and purchases; given back until when each is left alone. One that is full
//! says nothing of another of its type and zone, nor of what EC2 sells there. Nothing is decided here.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::belief::{Belief, FAINT};
use crate::model::offering::{OfferingKey, Outlook};

/// The reservations that are believed full, with what they are of, by id.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Full(pub(super) BTreeMap<String, (OfferingKey, Belief)>);

impl Full {
    /// EC2 had no room in it. What is left alone already stays as it is.
    pub(super) fn note(&mut self, id: &str, offering: &OfferingKey, now: Timestamp) {
        if self.until(id, now).is_some() {
            return;
        }
        let known = self.0.get(id).map(|(_offering, belief)| *belief);
        let belief = Belief::refused(known, now);
        self.0.insert(id.to_owned(), (offering.clone(), belief));
    }

    /// A machine was launched into it.
    pub(super) fn remove(&mut self, id: &str) {
        self.0.remove(id);
    }

    /// Until when it is left alone.
    pub(super) fn until(&self, id: &str, now: Timestamp) -> Option<Timestamp> {
        let (_offering, belief) = self.0.get(id)?;
        belief.closed_until(now)
    }

    /// What is believed of it.
    pub(super) fn outlook(&self, id: &str, now: Timestamp) -> Option<Outlook> {
        let (_offering, belief) = self.0.get(id)?;
        Some(Outlook {
            shortage: belief.level(now),
            refusals: belief.refusals,
            closed_until: belief.closed_until(now),
            ..Outlook::default()
        })
    }

    /// Drops what is not believed any more; what is of a time to come counts as new.
    pub(super) fn forget(&mut self, now: Timestamp) {
        self.0.retain(|_id, (_offering, belief)| {
            belief.at = belief.at.min(now);
            belief.level(now) >= FAINT
        });
    }

    /// Takes over what others learned; what was learned later wins.
    pub(super) fn absorb(&mut self, other: Self) {
        for (id, theirs) in other.0 {
            let ours = self.0.entry(id).or_insert_with(|| theirs.clone());
            if ours.1.at < theirs.1.at {
                *ours = theirs;
            }
        }
    }
}
