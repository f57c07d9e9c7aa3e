//! Lists: whole or in pages of one moment, selected by labels and fields.
//!
//! Given a route and a query; given back the encoded list. A token says where the next page begins;
//! it is good for five minutes, as etcd keeps the moment of the list.

use std::sync::Arc;

use axum::body::Bytes;
use jiff::SignedDuration;

use super::refusal::Refusal;
use super::resource::Resource;
use super::route::{Query, Route};
use super::selector::Selection;
use super::store::{Pages, Store};

/// How long the rest of a list is kept: what kube-apiserver compacts etcd after.
const KEPT: SignedDuration = SignedDuration::from_mins(5);

impl Store {
    /// Answers a list.
    pub(super) fn list(&mut self, route: &Route, query: &Query) -> Result<Bytes, Refusal> {
        if query.number("resourceVersion").unwrap_or(0) > self.version {
            let mut refusal = Refusal::new(
                504,
                "Timeout",
                "Too large resource version: the server has not come that far",
            );
            refusal.retry_after = Some(1);
            return Err(refusal);
        }
        let limit = query
            .number("limit")
            .and_then(|limit| usize::try_from(limit).ok())
            .filter(|limit| *limit > 0);
        let selection = Selection::of(route.resource, query)?;
        let pages = if let Some(token) = query.get("continue") {
            self.rest_of(token)?
        } else {
            // Selections and single objects are read from the store itself.
            let is_blank = self.cache.is_blank(route.resource) && selection.is_everything();
            let found = self
                .of(route.resource, &route.namespace)
                .filter(|_found| !is_blank)
                .filter(|(_key, stored)| selection.selects(&stored.value))
                .map(|(_key, stored)| stored.text.clone());
            Pages {
                version: self.version,
                items: found.collect(),
                begin: 0,
                until: self
                    .now()
                    .saturating_add(KEPT)
                    .unwrap_or_else(|_overflow| self.now()),
            }
        };
        let rest = pages.items.get(pages.begin..).unwrap_or_default();
        let size = limit.unwrap_or(rest.len()).min(rest.len());
        let (page, later) = rest.split_at(size);
        let mut token = String::new();
        if !later.is_empty() {
            token = format!(
                "{}.{}.{}",
                pages.version,
                later.len(),
                self.random.name_suffix(8)
            );
            let next = Pages {
                begin: pages.begin + size,
                items: Arc::clone(&pages.items),
                ..pages
            };
            let now = self.now();
            self.pages.retain(|_token, pages| pages.until > now);
            self.pages.insert(token.clone(), next);
        }
        // How many remain is not counted where objects are selected.
        let remaining = selection.is_everything().then_some(later.len());
        Ok(encode(
            route.resource,
            pages.version,
            (&token, remaining),
            page,
        ))
    }

    /// Where a page begins.
    fn rest_of(&self, token: &str) -> Result<Pages, Refusal> {
        let well_formed = token.split('.').count() == 3;
        if !well_formed {
            return Err(Refusal::bad_request("continue key is not valid"));
        }
        let pages = self.pages.get(token);
        pages
            .filter(|pages| pages.until > self.now())
            .cloned()
            .ok_or_else(|| {
                Refusal::new(
                    410,
                    "Expired",
                    "The provided continue parameter is too old to display a consistent list result.",
                )
            })
    }
}

/// A list object around encoded items.
fn encode(
    resource: Resource,
    version: u64,
    (token, remaining): (&str, Option<usize>),
    items: &[Bytes],
) -> Bytes {
    let definition = resource.definition();
    let mut list = format!(
        "{{\"kind\":\"{}List\",\"apiVersion\":\"{}\",\"metadata\":{{\"resourceVersion\":\"{version}\"",
        definition.kind,
        definition.api_version()
    );
    if !token.is_empty() {
        list.push_str(&format_args!(",\"continue\":\"{token}\"").to_string());
        if let Some(remaining) = remaining {
            list.push_str(&format_args!(",\"remainingItemCount\":{remaining}").to_string());
        }
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
