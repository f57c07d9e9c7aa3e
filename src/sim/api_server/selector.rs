//! Selectors of lists and watches, by labels and by fields.
//!
//! Given the text of a query; given back whether an object is selected, or why the text cannot be read.

use serde_json::Value;

use super::refusal::Refusal;
use super::resource::{Resource, text};
use super::route::Query;

/// What a list or a watch is narrowed to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Selection {
    labels: Selector,
    fields: Selector,
}

impl Selection {
    /// Reads both selectors of a query.
    pub(super) fn of(resource: Resource, query: &Query) -> Result<Self, Refusal> {
        let selection = Self {
            labels: Selector::parse(query.get("labelSelector").unwrap_or_default())?,
            fields: Selector::parse(query.get("fieldSelector").unwrap_or_default())?,
        };
        for (name, _wanted, _values) in &selection.fields.0 {
            if !is_selectable(resource, name) {
                return Err(Refusal::bad_request(format!(
                    "field label not supported: {name}"
                )));
            }
        }
        Ok(selection)
    }

    /// True when everything is selected.
    pub(super) fn is_everything(&self) -> bool {
        self.labels.0.is_empty() && self.fields.0.is_empty()
    }

    /// True for an object that it selects.
    pub(super) fn selects(&self, object: &Value) -> bool {
        self.labels
            .selects(|name| object["metadata"]["labels"][name].as_str())
            && self.fields.selects(|name| Some(field(object, name)))
    }
}

/// The fields by which Kubernetes selects, as far as something asks for them.
fn is_selectable(resource: Resource, name: &str) -> bool {
    let of_kind: &[&str] = match resource {
        Resource::Pod => &[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "status.phase",
            "status.nominatedNodeName",
        ],
        Resource::Node => &["spec.unschedulable"],
        Resource::Namespace => &["status.phase"],
        Resource::Event => &["reason", "type", "reportingController"],
        _ => &[],
    };
    matches!(name, "metadata.name" | "metadata.namespace") || of_kind.contains(&name)
}

/// A field that a selector may name.
fn field<'object>(object: &'object Value, name: &str) -> &'object str {
    let pointer = format!("/{}", name.replace('.', "/"));
    text(object, &pointer)
}

/// Parts that must all hold.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Selector(Vec<(String, bool, Vec<String>)>);

impl Selector {
    /// Reads `a=b`, `a==b`, `a!=b`, `a`, `!a`, and for labels `a in (b,c)` and `a notin (b)`.
    fn parse(text: &str) -> Result<Self, Refusal> {
        let mut parts = Vec::new();
        let mut depth = 0;
        let separated = text.split(|character: char| {
            match character {
                '(' => depth += 1,
                ')' => depth -= 1,
                _ => {}
            }
            character == ',' && depth == 0
        });
        let parts_of_text: Vec<&str> = separated.collect();
        if depth != 0 {
            return Err(unreadable(text));
        }
        for part in parts_of_text
            .into_iter()
            .map(str::trim)
            .filter(|part| !part.is_empty())
        {
            let list = |values: &str| {
                let inner = values.trim().trim_matches(['(', ')']);
                inner
                    .split(',')
                    .map(|value| value.trim().to_owned())
                    .collect()
            };
            let parsed = if let Some((name, values)) = part.split_once(" notin ") {
                (name, false, list(values))
            } else if let Some((name, values)) = part.split_once(" in ") {
                (name, true, list(values))
            } else if let Some((name, value)) = part.split_once("!=") {
                (name, false, vec![value.to_owned()])
            } else if let Some((name, value)) = part.split_once('=') {
                (name, true, vec![value.trim_start_matches('=').to_owned()])
            } else if let Some(name) = part.strip_prefix('!') {
                (name, false, Vec::new())
            } else {
                (part, true, Vec::new())
            };
            if parsed.0.trim().is_empty() {
                return Err(unreadable(text));
            }
            parts.push((parsed.0.trim().to_owned(), parsed.1, parsed.2));
        }
        Ok(Self(parts))
    }

    fn selects<'object>(&self, value_of: impl Fn(&str) -> Option<&'object str>) -> bool {
        self.0.iter().all(|(name, wanted, values)| {
            let value = value_of(name);
            let holds = if values.is_empty() {
                value.is_some()
            } else {
                value.is_some_and(|value| values.iter().any(|known| known == value))
            };
            holds == *wanted
        })
    }
}

fn unreadable(text: &str) -> Refusal {
    Refusal::bad_request(format!("unable to parse selector {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_compare_and_list() {
        let value = |name: &str| match name {
            "app" => Some("web"),
            "tier" => Some("front"),
            _ => None,
        };
        let selects = |text: &str| Selector::parse(text).unwrap().selects(value);
        assert!(selects("") && selects("app=web,tier in (front, back)"));
        assert!(selects("app==web,!owner") && selects("tier notin (back)"));
        assert!(!selects("app!=web") && !selects("owner") && !selects("app in (a,b)"));
        assert!(Selector::parse("=x").is_err() && Selector::parse("app in (").is_err());
    }
}
