//! Changes of a claim's conditions, made only when they say something new.
//!
//! Given a claim and what its condition should say, [`ConditionChange::news_for`] gives back the
//! change or nothing, so that a decision that is made again writes nothing again.

use crate::api::conditions::{ConditionReason, ConditionType, ConditionUpdate};
use crate::model::claim::{Claim, ConditionStatus};

/// A condition of a claim as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConditionChange {
    /// Which condition.
    pub condition: ConditionType,
    /// True, False or Unknown.
    pub status: ConditionStatus,
    /// Why, as one word.
    pub reason: ConditionReason,
    /// Why, for people.
    pub message: String,
}

impl ConditionChange {
    /// The condition holds, and its name says enough.
    pub fn holds(condition: ConditionType) -> Self {
        Self {
            condition,
            status: ConditionStatus::True,
            reason: ConditionReason::from(condition.as_str()),
            message: String::new(),
        }
    }

    /// The condition holds because of something.
    pub fn holds_because(
        condition: ConditionType,
        reason: ConditionReason,
        message: impl Into<String>,
    ) -> Self {
        Self {
            condition,
            status: ConditionStatus::True,
            reason,
            message: message.into(),
        }
    }

    /// It is not known yet whether the condition holds.
    pub fn unknown(
        condition: ConditionType,
        reason: ConditionReason,
        message: impl Into<String>,
    ) -> Self {
        Self {
            condition,
            status: ConditionStatus::Unknown,
            reason,
            message: message.into(),
        }
    }

    /// The condition does not hold.
    pub fn fails(
        condition: ConditionType,
        reason: ConditionReason,
        message: impl Into<String>,
    ) -> Self {
        Self {
            condition,
            status: ConditionStatus::False,
            reason,
            message: message.into(),
        }
    }

    /// This change, unless the claim says it already.
    pub fn news_for(self, claim: &Claim) -> Option<Self> {
        let known = claim
            .conditions
            .get(self.condition.as_str())
            .is_some_and(|found| {
                found.status == self.status
                    && found.reason == self.reason.as_str()
                    && found.message == self.message
            });
        (!known).then_some(self)
    }

    /// The change in the words of the API.
    pub fn update(&self) -> ConditionUpdate {
        match self.status {
            ConditionStatus::True => {
                ConditionUpdate::holds_because(self.condition, &self.reason, self.message.as_str())
            }
            ConditionStatus::False => {
                ConditionUpdate::fails(self.condition, &self.reason, self.message.as_str())
            }
            ConditionStatus::Unknown => {
                ConditionUpdate::unknown(self.condition, &self.reason, self.message.as_str())
            }
        }
    }
}
