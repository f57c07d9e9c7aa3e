//! Selector terms in words: what they look for, and that they find nothing.

use std::collections::BTreeMap;

use super::Unresolved;

/// Some terms found nothing, although others did.
pub(super) fn remark(what: &str, path: &str, nothing: &[String]) -> Option<Unresolved> {
    (!nothing.is_empty()).then(|| Unresolved {
        reason: "TermMatchesNothing",
        message: nothing_matches(what, path, nothing.iter().cloned()),
    })
}

/// Says of terms that they match nothing, and what to do.
pub(super) fn nothing_matches(
    what: &str,
    path: &str,
    terms: impl Iterator<Item = String>,
) -> String {
    let terms: Vec<String> = terms.collect();
    format!(
        "no {what} matches {path}{}: correct the terms, or tag the {what}s so that they match",
        terms.join(&format!(" or {path}"))
    )
}

/// A term for people: its place and what it looks for.
pub(super) fn describe(
    index: usize,
    looks_for: impl IntoIterator<Item = String>,
    tags: &BTreeMap<String, String>,
) -> String {
    let mut parts: Vec<String> = looks_for.into_iter().collect();
    parts.extend(tags.iter().map(|(key, value)| format!("tag {key}={value}")));
    format!("[{index}] ({})", parts.join(", "))
}
