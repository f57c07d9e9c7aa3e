//! Cases as they are written in `cases/`: requests one after the other, with names for what was
//! answered.
//!
//! `${space}` is the namespace of the case, and a prefix for the names of what lives outside of
//! namespaces. `keep` gives a part of an answer a name; `${name}` alone is the part itself, within a
//! text it is its text.

use std::collections::BTreeMap;
use std::fs;

use serde::Deserialize;
use serde_json::Value;

/// What is sent, one after the other.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Case {
    /// What must be the same, as a sentence.
    #[serde(rename = "case")]
    pub(crate) name: String,
    pub(crate) steps: Vec<Step>,
}

/// One thing to do.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Step {
    /// `METHOD PATH?QUERY`, the query not encoded.
    #[serde(rename = "do", default)]
    pub(crate) request: String,
    /// What is sent.
    #[serde(default)]
    pub(crate) body: Value,
    /// What is changed in the body before, by JSON pointer; null removes.
    #[serde(default)]
    pub(crate) set: BTreeMap<String, Value>,
    /// Content type: `merge` (what a PATCH is by default), `json`, `apply`, or one in full.
    #[serde(rename = "as", default)]
    pub(crate) content_type: String,
    /// Names for parts of the answer, by JSON pointer.
    #[serde(default)]
    pub(crate) keep: BTreeMap<String, String>,
    /// The request is a watch that begins now and is read to its end after the last step.
    #[serde(default)]
    pub(crate) meanwhile: bool,
    /// Instead of a request: history is forgotten, as etcd's compaction and a restart do.
    #[serde(default)]
    pub(crate) forget: bool,
}

impl Case {
    /// How many requests it sends.
    pub(crate) fn requests(&self) -> usize {
        self.steps.iter().filter(|step| !step.forget).count()
    }
}

/// Every case of a folder, by file name.
pub(crate) fn read_all(folder: &str) -> Vec<Case> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{folder}: {error}"));
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let read = |file: &std::path::PathBuf| -> Vec<Case> {
        let text = fs::read_to_string(file).unwrap();
        serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
    };
    files.iter().flat_map(read).collect()
}

/// What names stand for.
#[derive(Debug, Clone)]
pub(crate) struct Names(BTreeMap<String, Value>);

impl Names {
    pub(crate) fn of_space(space: &str) -> Self {
        Self(BTreeMap::from([("space".to_owned(), space.into())]))
    }

    pub(crate) fn keep(&mut self, name: &str, value: Value) {
        self.0.insert(name.to_owned(), value);
    }

    fn of(&self, name: &str) -> &Value {
        let value = self.0.get(name);
        value.unwrap_or_else(|| panic!("nothing was kept as {name}"))
    }

    /// A text with its names filled in.
    pub(crate) fn text(&self, template: &str) -> String {
        let mut text = String::new();
        let mut rest = template;
        while let Some((before, after)) = rest.split_once("${") {
            let (name, after) = after.split_once('}').unwrap();
            text.push_str(before);
            match self.of(name) {
                Value::String(value) => text.push_str(value),
                value => text.push_str(&value.to_string()),
            }
            rest = after;
        }
        text.push_str(rest);
        text
    }

    /// A value with its names filled in.
    pub(crate) fn value(&self, template: &Value) -> Value {
        match template {
            Value::String(text) => {
                let whole = text
                    .strip_prefix("${")
                    .and_then(|rest| rest.strip_suffix('}'))
                    .filter(|name| !name.contains('}'));
                match whole {
                    Some(name) => self.of(name).clone(),
                    None => Value::String(self.text(text)),
                }
            }
            Value::Array(items) => items.iter().map(|item| self.value(item)).collect(),
            Value::Object(fields) => fields
                .iter()
                .map(|(name, value)| (self.text(name), self.value(value)))
                .collect(),
            other => other.clone(),
        }
    }

    /// What a step sends: nothing is `None`.
    pub(crate) fn body(&self, step: &Step) -> Option<Value> {
        let mut body = self.value(&step.body);
        for (pointer, value) in &step.set {
            put(&mut body, pointer, self.value(value));
        }
        (!body.is_null()).then_some(body)
    }
}

/// Sets or removes a part of a value.
fn put(target: &mut Value, pointer: &str, value: Value) {
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    let name = name.replace("~1", "/").replace("~0", "~");
    let parent = target
        .pointer_mut(parent)
        .unwrap_or_else(|| panic!("the body has no {parent}"));
    if value.is_null() {
        parent.as_object_mut().unwrap().remove(&name);
    } else {
        parent[name] = value;
    }
}
