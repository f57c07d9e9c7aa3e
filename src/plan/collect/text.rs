//! What complete lists have shown as text, to be kept where neither a restart nor a change of the leader reaches.
//!
//! Given what is missing, and what a person was told of it, it gives back JSON; given JSON, what was written. The text
//! comes from outside and may be anything: all that it can lead to is that a list counts which nobody has seen.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::memory::{CollectMemory, Told};

/// Most names of each kind that are written, 22 to 39 bytes each: a ConfigMap holds a megabyte, and not this alone. What is
/// left out is seen for the first time again.
const MOST_NAMES: usize = 2_000;

/// A text that is no memory of what has no owner.
#[derive(Debug, thiserror::Error)]
#[error("what was seen without an owner cannot be read; delete the entry to begin anew")]
pub struct UnreadableOrphans(#[from] serde_json::Error);

/// Names by since when they are missing.
type Missing = BTreeMap<Timestamp, Vec<String>>;

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Kept {
    /// When the last list was read.
    listed: Timestamp,
    #[serde(default, skip_serializing_if = "Missing::is_empty")]
    orphans: Missing,
    #[serde(default, skip_serializing_if = "Missing::is_empty")]
    vanished: Missing,
    #[serde(default, skip_serializing_if = "Missing::is_empty")]
    stray: Missing,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    held: BTreeSet<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    told: Vec<KeptTold>,
}

#[derive(Debug, Serialize, Deserialize)]
struct KeptTold {
    token: String,
    orphans: BTreeSet<String>,
}

/// Writes what is missing, an empty text where nothing is. Before there was a list there is nothing to say.
pub(super) fn write(memory: &CollectMemory) -> Option<String> {
    let (listed, _instances) = memory.last.as_ref()?;
    if !memory.misses_something() {
        return Some(String::new());
    }
    let kept = Kept {
        listed: *listed,
        orphans: by_time(&memory.orphans),
        vanished: by_time(&memory.vanished),
        stray: by_time(&memory.stray),
        held: memory.held.iter().take(MOST_NAMES).cloned().collect(),
        told: told(memory),
    };
    // Names and times can always be written.
    Some(serde_json::to_string(&kept).unwrap_or_default())
}

fn by_time(missing: &BTreeMap<String, Timestamp>) -> Missing {
    let mut by_time = Missing::new();
    for (name, since) in missing.iter().take(MOST_NAMES) {
        by_time.entry(*since).or_default().push(name.clone());
    }
    by_time
}

/// The last sets that are not gone altogether, as many as there is room for.
fn told(memory: &CollectMemory) -> Vec<KeptTold> {
    let is_left = |told: &&Told| {
        told.orphans
            .iter()
            .any(|id| memory.orphans.contains_key(id))
    };
    let mut room = MOST_NAMES;
    let mut kept: Vec<KeptTold> = Vec::new();
    for told in memory.told.iter().rev().filter(is_left) {
        let Some(left) = room.checked_sub(told.orphans.len()) else {
            continue;
        };
        room = left;
        kept.push(KeptTold {
            token: told.token.clone(),
            orphans: told.orphans.clone(),
        });
    }
    kept.reverse();
    kept
}

/// Reads a text.
pub(super) fn read(text: &str) -> Result<CollectMemory, UnreadableOrphans> {
    if text.is_empty() {
        return Ok(CollectMemory::default());
    }
    let kept: Kept = serde_json::from_str(text)?;
    let told = kept.told.into_iter().map(|told| Told {
        token: told.token,
        orphans: told.orphans,
    });
    Ok(CollectMemory {
        last: Some((kept.listed, Vec::new())),
        orphans: by_name(kept.orphans),
        vanished: by_name(kept.vanished),
        stray: by_name(kept.stray),
        held: kept.held,
        told: told.collect(),
        ..CollectMemory::default()
    })
}

fn by_name(missing: Missing) -> BTreeMap<String, Timestamp> {
    let each = missing.into_iter();
    each.flat_map(|(since, names)| names.into_iter().map(move |name| (name, since)))
        .collect()
}
