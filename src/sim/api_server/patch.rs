//! Patches: JSON, merge and server-side apply.
//!
//! Given the object as it is and what was sent; given back what it shall become. Server-side apply
//! here knows whole values: a field that its manager sent before and sends no more is removed, maps
//! are merged, and lists are taken as one value.

use serde_json::{Map, Value};

use super::refusal::Refusal;
use super::resource::Key;
use super::store::Store;
use super::write::Change;

/// A patch that was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PatchKind {
    /// RFC 6902.
    Json,
    /// RFC 7386.
    Merge,
    /// Server-side apply.
    Apply,
}

impl PatchKind {
    /// Reads a content type.
    pub(super) fn parse(content_type: &str) -> Result<Self, Refusal> {
        match content_type.split(';').next().unwrap_or_default().trim() {
            "application/json-patch+json" => Ok(Self::Json),
            "application/merge-patch+json" => Ok(Self::Merge),
            "application/apply-patch+yaml" => Ok(Self::Apply),
            other => Err(Refusal::new(
                415,
                "UnsupportedMediaType",
                format!("the body of the request was in an unknown format - {other}"),
            )),
        }
    }
}

impl Store {
    /// Applies a patch.
    pub(super) fn patch(
        &mut self,
        who: &str,
        key: &Key,
        subresource: Option<&str>,
        (kind, manager): (PatchKind, &str),
        body: &Value,
    ) -> Result<Value, Refusal> {
        if kind == PatchKind::Apply && self.get(key).is_none() && subresource.is_none() {
            let created = self.create(who, key.resource, &key.namespace, body.clone())?;
            self.applied
                .insert((key.clone(), manager.to_owned()), body.clone());
            return Ok(created);
        }
        let mut wanted = self.present(key)?.clone();
        match kind {
            PatchKind::Json => {
                let patch: json_patch::Patch = serde_json::from_value(body.clone())
                    .map_err(|error| Refusal::bad_request(error.to_string()))?;
                // A failed test is an unacceptable patch, not a conflict.
                json_patch::patch(&mut wanted, &patch)
                    .map_err(|error| Refusal::invalid(error.to_string()))?;
            }
            PatchKind::Merge => {
                if !body.is_object() {
                    return Err(Refusal::bad_request("a merge patch is an object"));
                }
                json_patch::merge(&mut wanted, body);
            }
            PatchKind::Apply => {
                let owner = (key.clone(), manager.to_owned());
                if let Some(before) = self.applied.get(&owner) {
                    take_back(&mut wanted, before, body);
                }
                json_patch::merge(&mut wanted, body);
                self.applied.insert(owner, body.clone());
            }
        }
        self.update(who, key, subresource, Change::Patch, wanted)
    }
}

/// Removes what a manager set before and does not set any more.
fn take_back(target: &mut Value, before: &Value, now: &Value) {
    let (Some(target), Some(before)) = (target.as_object_mut(), before.as_object()) else {
        return;
    };
    let nothing = Map::new();
    let now = now.as_object().unwrap_or(&nothing);
    for (name, before) in before {
        match (now.get(name), target.get_mut(name)) {
            (Some(now), Some(target)) => take_back(target, before, now),
            (None, Some(target)) if before.is_object() => take_back(target, before, &Value::Null),
            (None, Some(_target)) => {
                target.remove(name);
            }
            (_, None) => {}
        }
    }
}
