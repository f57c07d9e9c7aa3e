//! Conditions: what a status says about its object, and how they are set.
//!
//! Given an object, a change and the time, [`Conditioned`] writes the condition and computes `Ready`
//! from its parts. A condition's transition time changes only when its status changes, so setting
//! the same thing twice changes nothing. No clock is read here.

use std::fmt;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::{Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

pub use super::condition_reason::ConditionReason;
pub use super::condition_type::ConditionType;

/// Launch-failure messages are cut at this many characters, as the shared API does.
pub const MESSAGE_LIMIT: usize = 1024;

/// Whether a condition holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ConditionStatus {
    /// It holds.
    True,
    /// It does not hold, and somebody should know why.
    False,
    /// It is not known yet.
    Unknown,
}

impl ConditionStatus {
    /// The status as it is written in a manifest.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

impl fmt::Display for ConditionStatus {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// One thing a status says about its object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// What the condition is about, a [`ConditionType`] unless somebody else wrote it.
    #[serde(rename = "type")]
    pub type_: String,
    /// Whether it holds.
    pub status: ConditionStatus,
    /// The object's generation when the condition was last set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// When the status last changed, whole seconds.
    pub last_transition_time: Time,
    /// Why, as one word; see [`ConditionReason`].
    #[serde(default)]
    pub reason: String,
    /// Why, for people: what is wrong and what would fix it.
    #[serde(default)]
    pub message: String,
}

/// What to set on an object: a condition's status, reason and message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConditionUpdate {
    type_: ConditionType,
    status: ConditionStatus,
    reason: String,
    message: String,
}

impl ConditionUpdate {
    /// The condition holds. Its reason is its own name, as nothing needs explaining.
    pub fn holds(type_: ConditionType) -> Self {
        Self {
            type_,
            status: ConditionStatus::True,
            reason: type_.as_str().to_owned(),
            message: String::new(),
        }
    }

    /// The condition holds for a reason worth telling (`Drifted` because `NodePoolDrifted`).
    pub fn holds_because(
        type_: ConditionType,
        reason: &ConditionReason,
        message: impl Into<String>,
    ) -> Self {
        Self::with(type_, ConditionStatus::True, reason, message)
    }

    /// The condition does not hold; the message says what is wrong and what would fix it.
    pub fn fails(
        type_: ConditionType,
        reason: &ConditionReason,
        message: impl Into<String>,
    ) -> Self {
        Self::with(type_, ConditionStatus::False, reason, message)
    }

    /// It is not known yet whether the condition holds; the message says what is waited for.
    pub fn unknown(
        type_: ConditionType,
        reason: &ConditionReason,
        message: impl Into<String>,
    ) -> Self {
        Self::with(type_, ConditionStatus::Unknown, reason, message)
    }

    fn with(
        type_: ConditionType,
        status: ConditionStatus,
        reason: &ConditionReason,
        message: impl Into<String>,
    ) -> Self {
        let message = message.into().chars().take(MESSAGE_LIMIT).collect();
        Self {
            type_,
            status,
            reason: reason.as_str().to_owned(),
            message,
        }
    }
}

/// An object with conditions, of which some make up `Ready`.
pub trait Conditioned {
    /// The conditions that `Ready` is the sum of.
    const DEPENDENTS: &'static [ConditionType];

    /// The conditions of the object.
    fn conditions(&self) -> &[Condition];
    /// The conditions of the object, to change; the status is made if there is none.
    fn conditions_mut(&mut self) -> &mut Vec<Condition>;
    /// `metadata.generation`, 0 for an object that was never stored.
    fn generation(&self) -> i64;
    /// `metadata.creationTimestamp`.
    fn created(&self) -> Option<Timestamp>;

    /// The condition of this type, if it was ever set.
    fn condition(&self, type_: ConditionType) -> Option<&Condition> {
        self.conditions()
            .iter()
            .find(|condition| condition.type_ == type_.as_str())
    }

    /// Whether the condition holds at the object's current generation.
    fn is_true(&self, type_: ConditionType) -> bool {
        self.condition(type_).is_some_and(|condition| {
            condition.status == ConditionStatus::True && is_current(condition, self.generation())
        })
    }

    /// Whether the condition fails at the object's current generation.
    fn is_false(&self, type_: ConditionType) -> bool {
        self.condition(type_).is_some_and(|condition| {
            condition.status == ConditionStatus::False && is_current(condition, self.generation())
        })
    }

    /// When the condition's status last changed.
    fn since(&self, type_: ConditionType) -> Option<Timestamp> {
        self.condition(type_)
            .map(|condition| condition.last_transition_time.0)
    }

    /// Sets one condition and computes `Ready` anew. Gives back whether anything changed.
    fn set_condition(&mut self, update: ConditionUpdate, now: Timestamp) -> bool {
        let generation = self.generation();
        let changed = write(self.conditions_mut(), update, generation, now);
        self.settle(now) || changed
    }

    /// Removes one condition and computes `Ready` anew. Gives back whether anything changed.
    fn clear_condition(&mut self, type_: ConditionType, now: Timestamp) -> bool {
        let before = self.conditions().len();
        self.conditions_mut()
            .retain(|condition| condition.type_ != type_.as_str());
        let changed = self.conditions().len() != before;
        self.settle(now) || changed
    }

    /// Fills in the parts of `Ready` that nobody has set, computes `Ready`, and orders the list:
    /// oldest transition first, `Ready` last. Gives back whether anything changed.
    fn settle(&mut self, now: Timestamp) -> bool {
        let generation = self.generation();
        let created = self.created().unwrap_or(now);
        let before = self.conditions().to_vec();
        for dependent in Self::DEPENDENTS {
            if self.condition(*dependent).is_none() {
                let update = ConditionUpdate::unknown(
                    *dependent,
                    &ConditionReason::AwaitingReconciliation,
                    "object is awaiting reconciliation",
                );
                write(self.conditions_mut(), update, generation, created);
            }
        }
        let ready = ready(self.conditions(), Self::DEPENDENTS, generation);
        write(self.conditions_mut(), ready, generation, now);
        self.conditions_mut().sort_by(|left, right| {
            let key = |condition: &Condition| {
                (
                    condition.type_ == ConditionType::Ready.as_str(),
                    condition.last_transition_time.0,
                )
            };
            key(left)
                .cmp(&key(right))
                .then_with(|| left.type_.cmp(&right.type_))
        });
        before != self.conditions()
    }
}

fn is_current(condition: &Condition, generation: i64) -> bool {
    condition
        .observed_generation
        .is_none_or(|observed| observed == generation)
}

/// Writes one condition; its transition time moves only when its status does.
fn write(
    conditions: &mut Vec<Condition>,
    update: ConditionUpdate,
    generation: i64,
    now: Timestamp,
) -> bool {
    let mut condition = Condition {
        type_: update.type_.as_str().to_owned(),
        status: update.status,
        observed_generation: Some(generation),
        last_transition_time: Time(whole_seconds(now)),
        reason: update.reason,
        message: update.message,
    };
    let Some(existing) = conditions
        .iter_mut()
        .find(|existing| existing.type_ == condition.type_)
    else {
        conditions.push(condition);
        return true;
    };
    if existing.status == condition.status {
        condition.last_transition_time = existing.last_transition_time.clone();
    }
    if *existing == condition {
        return false;
    }
    *existing = condition;
    true
}

/// The API keeps whole seconds; a finer time would differ from itself after a round trip.
fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

/// `Ready` is True when all parts are, False when one is False, else Unknown; parts of an older
/// generation say nothing about this one.
fn ready(
    conditions: &[Condition],
    dependents: &[ConditionType],
    generation: i64,
) -> ConditionUpdate {
    let mut failing = false;
    let mut open = Vec::new();
    for dependent in dependents {
        let condition = conditions
            .iter()
            .find(|condition| condition.type_ == dependent.as_str());
        let status = condition
            .filter(|condition| is_current(condition, generation))
            .map_or(ConditionStatus::Unknown, |condition| condition.status);
        if status != ConditionStatus::True {
            open.push(format!("{dependent}={status}"));
        }
        failing |= status == ConditionStatus::False;
    }
    if open.is_empty() {
        return ConditionUpdate::holds(ConditionType::Ready);
    }
    let message = open.join(", ");
    if failing {
        ConditionUpdate::fails(
            ConditionType::Ready,
            &ConditionReason::UnhealthyDependents,
            message,
        )
    } else {
        ConditionUpdate::unknown(
            ConditionType::Ready,
            &ConditionReason::ReconcilingDependents,
            message,
        )
    }
}

/// The schema of a list of conditions: one per type, each with a reason.
pub(super) fn schema(_: &mut SchemaGenerator) -> Schema {
    list_schema(
        1,
        &["lastTransitionTime", "message", "reason", "status", "type"],
    )
}

/// As [`schema`], but reason and message may be missing, as older NodeClaims have it.
pub(super) fn lax_schema(_: &mut SchemaGenerator) -> Schema {
    list_schema(0, &["lastTransitionTime", "status", "type"])
}

fn list_schema(reason_min_length: u32, required: &[&str]) -> Schema {
    let reason_pattern = if reason_min_length == 0 {
        "^([A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?)?$"
    } else {
        "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$"
    };
    json_schema!({
        "type": "array",
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        "items": {
            "type": "object",
            "description": "One thing the status says about the object.",
            "required": required,
            "properties": {
                "type": {
                    "type": "string",
                    "description": "What the condition is about, for example `Ready`.",
                    "maxLength": 316,
                    "pattern": super::schema::QUALIFIED_NAME_PATTERN,
                },
                "status": {
                    "type": "string",
                    "description": "Whether it holds: `True`, `False` or `Unknown`.",
                    "enum": ["True", "False", "Unknown"],
                },
                "observedGeneration": {
                    "type": "integer",
                    "format": "int64",
                    "minimum": 0,
                    "description": "The object's `metadata.generation` when the condition was last set. An older one says nothing about the object as it is now.",
                },
                "lastTransitionTime": {
                    "type": "string",
                    "format": "date-time",
                    "description": "When the status last changed.",
                },
                "reason": {
                    "type": "string",
                    "description": "Why, as one word.",
                    "minLength": reason_min_length,
                    "maxLength": 1024,
                    "pattern": reason_pattern,
                },
                "message": {
                    "type": "string",
                    "description": "Why, for people: what is wrong and what would fix it.",
                    "maxLength": 32768,
                },
            },
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::NodeClaim;

    fn claim() -> NodeClaim {
        serde_saphyr::from_str(
            "{metadata: {name: a, generation: 2, creationTimestamp: '2026-01-01T00:00:00Z'}, spec: \
             {requirements: [], nodeClassRef: {group: tonnage.dev, kind: EC2NodeClass, name: default}}}",
        )
        .unwrap()
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    fn show(claim: &NodeClaim) -> Vec<String> {
        let conditions = claim.conditions().iter();
        conditions
            .map(|c| format!("{}={} {}", c.type_, c.status, c.reason))
            .collect()
    }

    #[test]
    fn what_nobody_looked_at_is_unknown_since_creation() {
        let mut claim = claim();
        assert!(claim.settle(at(0)));
        assert_eq!(
            show(&claim),
            [
                "Initialized=Unknown AwaitingReconciliation",
                "Launched=Unknown AwaitingReconciliation",
                "Registered=Unknown AwaitingReconciliation",
                "Ready=Unknown ReconcilingDependents",
            ]
        );
        let created = "2026-01-01T00:00:00Z".parse().unwrap();
        assert_eq!(claim.since(ConditionType::Launched), Some(created));
    }

    #[test]
    fn ready_is_the_sum_of_its_parts() {
        let mut claim = claim();
        claim.set_condition(ConditionUpdate::holds(ConditionType::Launched), at(1));
        claim.set_condition(ConditionUpdate::holds(ConditionType::Registered), at(2));
        assert!(!claim.is_true(ConditionType::Ready));
        let failed = ConditionUpdate::fails(
            ConditionType::Registered,
            &ConditionReason::MultipleNodesFound,
            "two nodes claim this machine",
        );
        claim.set_condition(failed, at(3));
        let ready = claim.condition(ConditionType::Ready).unwrap();
        assert_eq!(
            (ready.status, ready.reason.as_str()),
            (ConditionStatus::False, "UnhealthyDependents")
        );
        assert_eq!(ready.message, "Registered=False, Initialized=Unknown");
        claim.set_condition(ConditionUpdate::holds(ConditionType::Registered), at(4));
        claim.set_condition(ConditionUpdate::holds(ConditionType::Initialized), at(5));
        assert!(claim.is_true(ConditionType::Ready));
        assert_eq!(claim.since(ConditionType::Ready), Some(at(5)));
    }

    #[test]
    fn setting_the_same_again_changes_nothing() {
        let mut claim = claim();
        let update = || {
            let reason = ConditionReason::NodeNotFound;
            ConditionUpdate::unknown(
                ConditionType::Registered,
                &reason,
                "the node has not joined yet",
            )
        };
        assert!(claim.set_condition(update(), at(1)));
        let before = claim.conditions().to_vec();
        assert!(!claim.set_condition(update(), at(60)));
        assert_eq!(claim.conditions(), before);
    }

    #[test]
    fn the_transition_time_moves_only_with_the_status() {
        let mut claim = claim();
        let waiting = |reason| ConditionUpdate::unknown(ConditionType::Initialized, &reason, "");
        claim.set_condition(waiting(ConditionReason::NodeNotReady), at(1));
        claim.set_condition(waiting(ConditionReason::StartupTaintsExist), at(2));
        assert_eq!(claim.since(ConditionType::Initialized), Some(at(1)));
        claim.set_condition(ConditionUpdate::holds(ConditionType::Initialized), at(3));
        assert_eq!(claim.since(ConditionType::Initialized), Some(at(3)));
    }

    #[test]
    fn parts_of_an_older_generation_do_not_count() {
        let mut claim = claim();
        for type_ in NodeClaim::DEPENDENTS {
            claim.set_condition(ConditionUpdate::holds(*type_), at(1));
        }
        assert!(claim.is_true(ConditionType::Ready));
        claim.metadata.generation = Some(3);
        claim.settle(at(2));
        assert!(!claim.is_true(ConditionType::Launched));
        let ready = claim.condition(ConditionType::Ready).unwrap();
        assert_eq!(ready.status, ConditionStatus::Unknown);
    }

    #[test]
    fn a_cleared_condition_is_gone() {
        let mut claim = claim();
        claim.set_condition(ConditionUpdate::holds(ConditionType::Consolidatable), at(1));
        assert!(claim.clear_condition(ConditionType::Consolidatable, at(2)));
        assert!(!claim.clear_condition(ConditionType::Consolidatable, at(3)));
        assert_eq!(claim.condition(ConditionType::Consolidatable), None);
    }

    #[test]
    fn long_messages_are_cut_between_characters() {
        let reason = ConditionReason::LaunchFailed;
        let mut claim = claim();
        let update = ConditionUpdate::unknown(ConditionType::Launched, &reason, "é".repeat(5000));
        claim.set_condition(update, at(1));
        let message = &claim.condition(ConditionType::Launched).unwrap().message;
        assert_eq!(message.chars().count(), MESSAGE_LIMIT);
    }

    #[test]
    fn a_finer_clock_than_the_api_makes_no_difference() {
        let mut claim = claim();
        let now = Timestamp::new(1_800_000_000, 999_999_999).unwrap();
        claim.set_condition(ConditionUpdate::holds(ConditionType::Launched), now);
        let text = serde_json::to_string(&claim).unwrap();
        let read: NodeClaim = serde_json::from_str(&text).unwrap();
        assert_eq!(read.conditions(), claim.conditions());
    }
}
