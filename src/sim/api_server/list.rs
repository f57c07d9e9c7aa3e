//! Lists: whole or in pages of one moment, selected by labels and fields.

use axum::body::Bytes;
use serde_json::Value;

use super::refusal::Refusal;
use super::resource::{Resource, text};
use super::route::{Query, Route};
use super::store::{Pages, Store};

impl Store {
    /// Answers a list.
    pub(super) fn list(&mut self, route: &Route, query: &Query) -> Result<Bytes, Refusal> {
        let limit = query
            .number("limit")
            .and_then(|limit| usize::try_from(limit).ok())
            .filter(|limit| *limit > 0);
        let (version, mut rest) = if let Some(token) = query.get("continue") {
            let pages = self.pages.remove(token).ok_or_else(|| {
                Refusal::new(
                    410,
                    "Expired",
                    "The provided continue parameter is too old to display a consistent list result.",
                )
            })?;
            (pages.version, pages.rest)
        } else {
            let labels = Selector::parse(query.get("labelSelector").unwrap_or_default())?;
            let fields = Selector::parse(query.get("fieldSelector").unwrap_or_default())?;
            let found = self
                .of(route.resource, &route.namespace)
                .filter(|(_key, stored)| {
                    labels.selects(|name| stored.value["metadata"]["labels"][name].as_str())
                        && fields.selects(|name| Some(field(&stored.value, name)))
                })
                .map(|(_key, stored)| stored.text.clone())
                .collect();
            (self.version, found)
        };
        let size = limit.unwrap_or(rest.len()).min(rest.len());
        let page: Vec<Bytes> = rest.drain(..size).collect();
        let remaining = rest.len();
        let mut token = String::new();
        if remaining > 0 {
            token = format!("{version}.{remaining}.{}", self.random.name_suffix(8));
            self.pages.insert(token.clone(), Pages { version, rest });
        }
        Ok(encode(route.resource, version, (&token, remaining), &page))
    }
}

/// A list object around encoded items.
fn encode(
    resource: Resource,
    version: u64,
    (token, remaining): (&str, usize),
    items: &[Bytes],
) -> Bytes {
    let definition = resource.definition();
    let mut list = format!(
        "{{\"kind\":\"{}List\",\"apiVersion\":\"{}\",\"metadata\":{{\"resourceVersion\":\"{version}\"",
        definition.kind,
        definition.api_version()
    );
    if !token.is_empty() {
        list.push_str(
            &format_args!(",\"continue\":\"{token}\",\"remainingItemCount\":{remaining}")
                .to_string(),
        );
    }
    list.push_str("},\"items\":[");
    let mut text = list.into_bytes();
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            text.push(b',');
        }
        text.extend_from_slice(item);
    }
    text.extend_from_slice(b"]}");
    Bytes::from(text)
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
        for part in separated.map(str::trim).filter(|part| !part.is_empty()) {
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
                return Err(Refusal::bad_request(format!(
                    "unable to parse selector {text}"
                )));
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
        assert!(Selector::parse("=x").is_err());
    }
}
