//! Machines that do not join as text, to be kept where a restart does not reach.
//!
//! Given what is known of classes, it gives back JSON; given JSON, what is known. The text comes from outside and may be
//! anything: counts and times are held to what they can be. What joined last is not kept: it matters for minutes.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::{FIRST_REST, Known, LONGEST_REST, NoShows, OfClass};
use crate::model::offering::NO_SHOWS_IN_A_ROW;

/// Most entries that are written, the latest first.
const MOST_ENTRIES: usize = 2_000;

/// A text that is no memory of machines that do not join.
#[derive(Debug, thiserror::Error)]
#[error("the learned machines that do not join cannot be read; delete the entry to begin anew")]
pub struct UnreadableNoShows(#[from] serde_json::Error);

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    node_class: String,
    uid: String,
    generation: i64,
    instance_type: String,
    in_a_row: u32,
    claim: String,
    at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    until: Option<Timestamp>,
    #[serde(default)]
    rest_seconds: i64,
}

/// Writes what is known of types whose last machine did not join.
pub(super) fn write(no_shows: &NoShows) -> String {
    let all = no_shows.0.iter().flat_map(|(name, of_class)| {
        let types = of_class.types.iter();
        types.map(move |(instance_type, known)| (name, of_class, instance_type, known))
    });
    let mut entries: Vec<Entry> = all
        .filter(|(_name, _class, _type, known)| known.in_a_row > 0)
        .map(|(name, of_class, instance_type, known)| Entry {
            node_class: name.clone(),
            uid: of_class.uid.clone(),
            generation: of_class.generation,
            instance_type: instance_type.to_string(),
            in_a_row: known.in_a_row,
            claim: known.last.clone(),
            at: known.touched,
            until: known.is_doubted().then_some(known.until),
            rest_seconds: known.rest.as_secs(),
        })
        .collect();
    // In the order of names among those of one moment.
    entries.sort_by_key(|entry| std::cmp::Reverse(entry.at));
    entries.truncate(MOST_ENTRIES);
    // Names, numbers and times can always be written.
    serde_json::to_string(&entries).unwrap_or_default()
}

/// Reads a text.
pub(super) fn read(text: &str, now: Timestamp) -> Result<NoShows, UnreadableNoShows> {
    let entries: Vec<Entry> = serde_json::from_str(text)?;
    let mut no_shows = NoShows::default();
    for entry in entries {
        let is_doubted = entry.in_a_row >= NO_SHOWS_IN_A_ROW;
        let rest = SignedDuration::from_secs(entry.rest_seconds).clamp(FIRST_REST, LONGEST_REST);
        let latest = now.saturating_add(rest).unwrap_or(Timestamp::MAX);
        let known = Known {
            in_a_row: entry.in_a_row,
            last: entry.claim,
            until: entry
                .until
                .filter(|_until| is_doubted)
                .map_or(Timestamp::MIN, |until| until.min(latest)),
            rest: if is_doubted {
                rest
            } else {
                SignedDuration::ZERO
            },
            touched: entry.at.min(now),
            ..Known::default()
        };
        let of_class = no_shows.0.entry(entry.node_class);
        let of_class = of_class.or_insert_with(|| OfClass {
            uid: entry.uid.clone(),
            generation: entry.generation,
            since: Timestamp::MIN,
            types: std::collections::BTreeMap::new(),
        });
        if of_class.uid == entry.uid && of_class.generation == entry.generation {
            of_class.types.insert(entry.instance_type.into(), known);
        }
    }
    Ok(no_shows)
}
