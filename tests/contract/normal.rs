//! Answers without what two servers can never share: uids, versions, times, tokens and their own words.
//!
//! Given the answers of a case; given back one value for each step. Uids are numbered by their first
//! appearance and versions of objects by their order, so that "the same", "another" and "newer"
//! still show. Only what belongs to the case is left of watches, since cases share the real server.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use crate::play::Answer;

/// The answers of a case, normalised.
pub(crate) fn answers(answers: &[Answer], space: &str) -> Vec<Value> {
    let raw: Vec<Value> = answers.iter().map(|answer| raw(answer, space)).collect();
    let mut versions = BTreeSet::new();
    for value in &raw {
        collect(value, &mut versions);
    }
    let mut known = Known {
        versions: versions.into_iter().collect(),
        uids: Vec::new(),
    };
    raw.into_iter().map(|value| known.value(value)).collect()
}

fn raw(answer: &Answer, space: &str) -> Value {
    match answer {
        Answer::Nothing => Value::Null,
        Answer::One(code, body) => json!({ "code": code, "body": body }),
        Answer::Events(code, events) => {
            let mut events: Vec<&Value> = events
                .iter()
                .filter(|event| belongs(event, space))
                .collect();
            // How often a server says how far it is, is its own matter.
            events.dedup_by(|later, earlier| {
                later["type"] == "BOOKMARK" && earlier["type"] == "BOOKMARK"
            });
            json!({ "code": code, "events": events })
        }
    }
}

fn belongs(event: &Value, space: &str) -> bool {
    let metadata = &event["object"]["metadata"];
    let named = |field: &str| {
        metadata[field]
            .as_str()
            .is_some_and(|name| name.starts_with(space))
    };
    matches!(event["type"].as_str(), Some("BOOKMARK" | "ERROR"))
        || named("name")
        || named("namespace")
}

/// True where a version is that of the server, not of an object.
fn is_of_server(object: &Map<String, Value>) -> bool {
    object.get("items").is_some_and(Value::is_array)
}

fn version(metadata: &Value) -> Option<u64> {
    metadata["resourceVersion"].as_str()?.parse().ok()
}

fn collect(value: &Value, versions: &mut BTreeSet<u64>) {
    match value {
        Value::Object(fields) => {
            if fields.get("type").is_some_and(|kind| kind == "BOOKMARK") {
                return;
            }
            if let Some(found) = fields.get("metadata").and_then(version)
                && !is_of_server(fields)
            {
                versions.insert(found);
            }
            fields.values().for_each(|value| collect(value, versions));
        }
        Value::Array(items) => items.iter().for_each(|value| collect(value, versions)),
        _ => {}
    }
}

struct Known {
    versions: Vec<u64>,
    uids: Vec<String>,
}

impl Known {
    fn value(&mut self, value: Value) -> Value {
        match value {
            Value::String(text) if is_time(&text) => json!("<time>"),
            Value::Array(items) => items.into_iter().map(|item| self.value(item)).collect(),
            Value::Object(fields) => self.object(fields),
            other => other,
        }
    }

    fn object(&mut self, mut fields: Map<String, Value>) -> Value {
        if fields.get("kind").is_some_and(|kind| kind == "Status") && fields.contains_key("status")
        {
            return status(&fields);
        }
        if fields.get("type").is_some_and(|kind| kind == "BOOKMARK") {
            return json!({ "type": "BOOKMARK", "object": { "kind": fields["object"]["kind"] } });
        }
        let of_server = is_of_server(&fields);
        if let Some(Value::Object(metadata)) = fields.get_mut("metadata") {
            self.metadata(metadata, of_server);
        }
        fields
            .into_iter()
            .map(|(name, value)| {
                let value = match (name.as_str(), value) {
                    ("uid", Value::String(uid)) => self.uid(uid),
                    (_, value) => self.value(value),
                };
                (name, value)
            })
            .collect()
    }

    fn metadata(&self, metadata: &mut Map<String, Value>, of_server: bool) {
        metadata.remove("managedFields");
        if let Some(found) = version(&Value::Object(metadata.clone())) {
            let place = self.versions.iter().position(|known| *known == found);
            let shown = match place {
                Some(place) if !of_server => format!("<version {}>", place + 1),
                _ => "<version>".to_owned(),
            };
            metadata.insert("resourceVersion".to_owned(), shown.into());
        }
        if metadata.get("continue").is_some_and(|token| token != "") {
            metadata.insert("continue".to_owned(), "<token>".into());
        }
        let generated = metadata
            .get("generateName")
            .and_then(Value::as_str)
            .map(str::to_owned);
        let name = metadata.get("name").and_then(Value::as_str);
        if let (Some(prefix), Some(name)) = (generated, name)
            && name
                .strip_prefix(&prefix)
                .is_some_and(|rest| rest.len() == 5)
        {
            metadata.insert("name".to_owned(), format!("{prefix}<suffix>").into());
        }
    }

    fn uid(&mut self, uid: String) -> Value {
        let place = self.uids.iter().position(|known| *known == uid);
        let place = place.unwrap_or_else(|| {
            self.uids.push(uid);
            self.uids.len() - 1
        });
        format!("<uid {}>", place + 1).into()
    }
}

/// What programs act on of a Status: never its message.
fn status(fields: &Map<String, Value>) -> Value {
    let mut status = json!({ "kind": "Status", "status": fields["status"] });
    for field in ["reason", "code"] {
        if let (Some(value), "Failure") =
            (fields.get(field), fields["status"].as_str().unwrap_or(""))
        {
            status[field] = value.clone();
        }
    }
    if status["reason"] == "TooManyRequests" {
        let details = &fields["details"];
        let causes = details["causes"].as_array().into_iter().flatten();
        status["causes"] = causes.map(|cause| cause["reason"].clone()).collect();
        status["retryAfterSeconds"] = details["retryAfterSeconds"].clone();
    }
    status
}

fn is_time(text: &str) -> bool {
    text.ends_with('Z') && text.parse::<jiff::Timestamp>().is_ok()
}
