//! Patches: JSON, merge and server-side apply.
//!
//! Given the object as it is and what was sent; given back what it shall become. Server-side apply
//! here knows whole values: a field that its manager sent before and sends no more is removed, maps
//! are merged, and lists are taken as one value. What another manager has applied is a conflict unless
//! the request forces it, and then belongs to the new manager alone. Only what was applied has a
//! manager; other writes leave no owner behind.

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

/// A patch and how it was sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sent<'request> {
    /// Its kind.
    pub(super) kind: PatchKind,
    /// Who applies; for server-side apply.
    pub(super) manager: Option<&'request str>,
    /// What others have applied is taken from them; for server-side apply.
    pub(super) force: bool,
    /// What was sent.
    pub(super) body: &'request Value,
}

impl Store {
    /// Applies a patch; gives back whether it made the object, and the object.
    pub(super) fn patch(
        &mut self,
        who: &str,
        key: &Key,
        subresource: Option<&str>,
        sent: Sent<'_>,
    ) -> Result<(bool, Value), Refusal> {
        let Sent { kind, body, .. } = sent;
        if kind == PatchKind::Apply {
            return self.apply(who, key, subresource, sent);
        }
        let mut wanted = self.present(key)?.clone();
        if kind == PatchKind::Json {
            if !body.is_array() {
                return Err(Refusal::bad_request("a JSON patch is a list"));
            }
            // An unknown operation or a failed test is an unacceptable patch, not a conflict.
            let patch: json_patch::Patch = serde_json::from_value(body.clone())
                .map_err(|error| Refusal::invalid(error.to_string()))?;
            json_patch::patch(&mut wanted, &patch)
                .map_err(|error| Refusal::invalid(error.to_string()))?;
        } else {
            if !body.is_object() {
                return Err(Refusal::bad_request("a merge patch is an object"));
            }
            json_patch::merge(&mut wanted, body);
        }
        let changed = self.update(who, key, subresource, Change::Patch, wanted)?;
        Ok((false, changed))
    }

    fn apply(
        &mut self,
        who: &str,
        key: &Key,
        subresource: Option<&str>,
        sent: Sent<'_>,
    ) -> Result<(bool, Value), Refusal> {
        let Sent { body, force, .. } = sent;
        let manager = sent.manager.ok_or_else(|| {
            Refusal::invalid("fieldManager: Required value: is required for apply patch")
        })?;
        if body["apiVersion"].is_null() || body["kind"].is_null() {
            return Err(Refusal::bad_request(
                "what is applied has an apiVersion and a kind",
            ));
        }
        let owner = (key.clone(), manager.to_owned());
        if self.get(key).is_none() && subresource.is_none() {
            let created = self.create(who, key.resource, &key.namespace, body.clone())?;
            self.applied.insert(owner, body.clone());
            return Ok((true, created));
        }
        let mut wanted = self.present(key)?.clone();
        let others = self
            .applied
            .range((key.clone(), String::new())..)
            .take_while(|((applied, _by), _body)| applied == key)
            .filter(|((_applied, by), _body)| by != manager);
        let contested: Vec<(Key, String)> = others
            .filter(|(_owner, theirs)| differs(theirs, body, &wanted))
            .map(|(owner, _theirs)| owner.clone())
            .collect();
        if let (false, Some((_key, by))) = (force, contested.first()) {
            return Err(Refusal::conflict(format!(
                "Apply failed with a conflict: conflict with {by:?}"
            )));
        }
        if let Some(before) = self.applied.get(&owner) {
            take_back(&mut wanted, before, body);
        }
        let was = self.present(key)?.clone();
        json_patch::merge(&mut wanted, body);
        let changed = self.update(who, key, subresource, Change::Patch, wanted)?;
        for owner in contested {
            if let Some(theirs) = self.applied.get_mut(&owner) {
                give_up(theirs, body, &was);
            }
        }
        self.applied.insert(owner, body.clone());
        Ok((false, changed))
    }
}

/// True when one manager changes a value that another has applied.
fn differs(theirs: &Value, ours: &Value, present: &Value) -> bool {
    match (theirs, ours) {
        (Value::Object(theirs), Value::Object(ours)) => ours.iter().any(|(name, ours)| {
            theirs
                .get(name)
                .is_some_and(|theirs| differs(theirs, ours, &present[name]))
        }),
        (_, ours) => ours != present,
    }
}

/// Takes from a manager what another has changed.
fn give_up(theirs: &mut Value, ours: &Value, present: &Value) {
    let (Some(theirs), Some(ours)) = (theirs.as_object_mut(), ours.as_object()) else {
        return;
    };
    for (name, ours) in ours {
        let leaf = !ours.is_object();
        if leaf && *ours != present[name] {
            theirs.remove(name);
        } else if let Some(theirs) = theirs.get_mut(name) {
            give_up(theirs, ours, &present[name]);
        }
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
            (None, Some(inner)) if before.is_object() => {
                take_back(inner, before, &Value::Null);
                if inner.as_object().is_some_and(Map::is_empty) {
                    target.remove(name);
                }
            }
            (None, Some(_target)) => {
                target.remove(name);
            }
            (_, None) => {}
        }
    }
}
