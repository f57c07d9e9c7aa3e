//! Deleting objects: preconditions, the time that pods are given, and what is done about what they own.
//!
//! Given an object and options; given back the object as it was last, which is gone or marked. What an
//! object owns is looked after by the garbage collector, which a finalizer tells what to do first.

use serde_json::{Value, json};

use super::refusal::Refusal;
use super::resource::{Key, Resource, text};
use super::route::Query;
use super::store::{Store, is_going};
use crate::sim::clock::api_time;

/// The finalizer of an object that goes after what it owns.
pub(in crate::sim) const FOREGROUND: &str = "foregroundDeletion";
/// The finalizer of an object that leaves what it owns behind.
pub(in crate::sim) const ORPHAN: &str = "orphan";

/// Preconditions and grace of a deletion.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DeleteOptions {
    /// Only the very object.
    pub uid: Option<String>,
    /// Only as it was seen.
    pub resource_version: Option<String>,
    /// Seconds that a pod may take to end; `None` is what the pod says.
    pub grace_seconds: Option<i64>,
    /// What becomes of the objects that it owns; `None` is that they are deleted after it.
    pub propagation: Option<Propagation>,
}

/// What becomes of the objects that a deleted object owns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Propagation {
    /// They are deleted after it.
    Background,
    /// They are deleted before it.
    Foreground,
    /// They stay.
    Orphan,
}

impl Propagation {
    /// Reads `propagationPolicy`.
    fn read(text: &str) -> Result<Self, Refusal> {
        match text {
            "Background" => Ok(Self::Background),
            "Foreground" => Ok(Self::Foreground),
            "Orphan" => Ok(Self::Orphan),
            other => Err(Refusal::invalid(format!(
                "propagationPolicy: Invalid value: {other:?}: must be Background, Foreground or Orphan"
            ))),
        }
    }

    /// The finalizer by which the garbage collector knows what to do first.
    fn finalizer(self) -> Option<&'static str> {
        match self {
            Self::Background => None,
            Self::Foreground => Some(FOREGROUND),
            Self::Orphan => Some(ORPHAN),
        }
    }
}

impl DeleteOptions {
    /// Reads the body of a DELETE, or `deleteOptions` of an eviction, and what the query adds.
    ///
    /// # Errors
    /// 422 for a propagation policy that there is not.
    pub(super) fn read(resource: Resource, body: &Value, query: &Query) -> Result<Self, Refusal> {
        let owned = |pointer: &str| {
            let found = body.pointer(pointer).and_then(Value::as_str);
            found.map(str::to_owned)
        };
        let policy = body.get("propagationPolicy").and_then(Value::as_str);
        let policy = policy.or_else(|| query.get("propagationPolicy"));
        let grace = body.get("gracePeriodSeconds").and_then(Value::as_i64);
        let asked = query.get("gracePeriodSeconds");
        Ok(Self {
            uid: owned("/preconditions/uid"),
            resource_version: owned("/preconditions/resourceVersion"),
            grace_seconds: grace.or_else(|| asked.and_then(|grace| grace.parse().ok())),
            propagation: match policy {
                Some(policy) => Some(Propagation::read(policy)?),
                // Plain requests have always left the pods of a Job behind.
                None => (resource == Resource::Job).then_some(Propagation::Orphan),
            },
        })
    }

    /// Checks the preconditions.
    ///
    /// # Errors
    /// 409 for another object of the name, or one that has changed.
    pub(super) fn check(&self, object: &Value) -> Result<(), Refusal> {
        for (field, wanted) in [
            ("uid", &self.uid),
            ("resourceVersion", &self.resource_version),
        ] {
            if let Some(wanted) = wanted
                && object["metadata"][field] != json!(wanted)
            {
                return Err(Refusal::conflict(format!(
                    "Precondition failed: {field} in precondition: {wanted}, in object: {}",
                    object["metadata"][field]
                )));
            }
        }
        Ok(())
    }
}

impl Store {
    /// Deletes an object, or marks it for deletion while something holds it.
    pub(super) fn delete(
        &mut self,
        who: &str,
        key: &Key,
        options: &DeleteOptions,
    ) -> Result<Value, Refusal> {
        let mut object = self.present(key)?.clone();
        options.check(&object)?;
        let propagation = options.propagation.unwrap_or(Propagation::Background);
        let grace = grace_of(key.resource, &object, options);
        let marked = object["metadata"]["deletionTimestamp"].is_string();
        let known = object["metadata"]["deletionGracePeriodSeconds"]
            .as_i64()
            .unwrap_or(0);
        // Without time left only a finalizer holds it; otherwise the time may be cut, never extended.
        if marked && (known == 0 || grace >= known) {
            return Ok(object);
        }
        let until = self
            .now()
            .saturating_add(jiff::SignedDuration::from_secs(grace))
            .unwrap_or_else(|_overflow| self.now());
        if !marked {
            hold(&mut object, propagation);
            if let Some(generation) = object["metadata"]["generation"].as_i64() {
                object["metadata"]["generation"] = json!(generation + 1);
            }
        }
        object["metadata"]["deletionTimestamp"] = json!(api_time(until));
        object["metadata"]["deletionGracePeriodSeconds"] = json!(grace);
        if !is_going(key.resource, &object) {
            return Ok(self.commit(key, object, (who, "delete")));
        }
        // Whatever may be given time is seen to be ending before it is gone.
        if key.resource == Resource::Pod {
            object = self.commit(key, object, (who, "delete"));
        }
        Ok(self.remove(key, (who, "delete")).unwrap_or(object))
    }
}

/// Puts the garbage collector's finalizer onto an object.
fn hold(object: &mut Value, propagation: Propagation) {
    let Some(finalizer) = propagation.finalizer() else {
        return;
    };
    if !object["metadata"]["finalizers"].is_array() {
        object["metadata"]["finalizers"] = json!([]);
    }
    if let Some(finalizers) = object["metadata"]["finalizers"].as_array_mut() {
        finalizers.push(json!(finalizer));
    }
}

/// How long a deletion waits: only for a pod that is on a node and has not ended.
fn grace_of(resource: Resource, object: &Value, options: &DeleteOptions) -> i64 {
    let ended = matches!(text(object, "/status/phase"), "Succeeded" | "Failed");
    if resource != Resource::Pod || text(object, "/spec/nodeName").is_empty() || ended {
        return 0;
    }
    options
        .grace_seconds
        .or_else(|| object["spec"]["terminationGracePeriodSeconds"].as_i64())
        .unwrap_or(30)
        .max(0)
}
