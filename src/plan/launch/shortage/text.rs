//! Shortages as text, to be kept where a restart does not reach.
//!
//! Given beliefs, it gives back JSON; given JSON, the beliefs. The text comes from outside and may
//! be anything: levels and times are held to what they can be, and what cannot be read is an error
//! that costs nothing but the memory.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::belief::{Belief, CERTAIN, FIRST_HALF_LIFE, LONGEST_HALF_LIFE, MOST_REFUSALS};
use super::{Proof, Shortages, quota};
use crate::model::offering::OfferingKey;

/// Most entries of each kind that are written, the strongest first: they stay well below the
/// mebibyte that one object may have.
const MOST_ENTRIES: usize = 2_000;

/// A text that is no memory of shortages.
#[derive(Debug, thiserror::Error)]
#[error("the learned shortages cannot be read; delete the entry to begin anew")]
pub struct UnreadableShortages(#[from] serde_json::Error);

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    refused: Vec<Refused>,
    bought: Vec<Bought>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Refused {
    offering: String,
    /// The capacity reservation that was full.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reservation: Option<String>,
    /// True where the account's quota for what shares it with the offering was met.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    quota: bool,
    level: u32,
    at: Timestamp,
    half_life_seconds: i64,
    refusals: u32,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Bought {
    offering: String,
    at: Timestamp,
}

/// What was short.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Of<'shortages> {
    /// An offering of the region.
    Region,
    /// A capacity reservation.
    Reservation(&'shortages String),
    /// A quota of the account.
    Quota,
}

/// Writes what is still believed at a time.
pub(super) fn write(shortages: &Shortages, now: Timestamp) -> String {
    let full = shortages.full.0.iter();
    let full = full.map(|(id, (key, belief))| (Of::Reservation(id), key, belief));
    let quotas = shortages.quotas.0.values();
    let quotas = quotas.map(|(key, belief)| (Of::Quota, key, belief));
    let sold = shortages.beliefs.iter();
    let mut strongest: Vec<(u32, Of<'_>, &OfferingKey, &Belief)> = sold
        .map(|(key, belief)| (Of::Region, key, belief))
        .chain(full)
        .chain(quotas)
        .map(|(of, key, belief)| (belief.level(now), of, key, belief))
        .filter(|(level, _of, _key, _belief)| *level > 0)
        .collect();
    strongest.sort_by(|one, other| {
        (other.0.cmp(&one.0)).then_with(|| (one.2, one.1).cmp(&(other.2, other.1)))
    });
    let mut latest: Vec<(&OfferingKey, &Proof)> = shortages.proofs.iter().collect();
    latest.sort_by(|one, other| other.1.0.cmp(&one.1.0).then_with(|| one.0.cmp(other.0)));
    let document = Document {
        refused: strongest
            .into_iter()
            .take(MOST_ENTRIES)
            .map(|(_level, of, key, belief)| Refused {
                offering: key.to_string(),
                reservation: match of {
                    Of::Reservation(id) => Some(id.clone()),
                    Of::Region | Of::Quota => None,
                },
                quota: of == Of::Quota,
                level: belief.level,
                at: belief.at,
                half_life_seconds: belief.half_life.as_secs(),
                refusals: belief.refusals,
            })
            .collect(),
        bought: latest
            .into_iter()
            .take(MOST_ENTRIES)
            .map(|(key, proof)| Bought {
                offering: key.to_string(),
                at: proof.0,
            })
            .collect(),
    };
    // Names and numbers can always be written.
    serde_json::to_string(&document).unwrap_or_default()
}

/// Reads a text; entries about what is no offering are left out.
pub(super) fn read(text: &str, now: Timestamp) -> Result<Shortages, UnreadableShortages> {
    let document: Document = serde_json::from_str(text)?;
    let seconds = |bound: SignedDuration| bound.as_secs();
    let mut shortages = Shortages::default();
    for entry in document.refused {
        let Ok(key) = entry.offering.parse::<OfferingKey>() else {
            continue;
        };
        let half_life = entry
            .half_life_seconds
            .clamp(seconds(FIRST_HALF_LIFE), seconds(LONGEST_HALF_LIFE));
        let belief = Belief {
            level: entry.level.min(CERTAIN),
            at: entry.at.min(now),
            half_life: SignedDuration::from_secs(half_life),
            refusals: entry.refusals.clamp(1, MOST_REFUSALS),
        };
        match (entry.reservation, entry.quota) {
            (Some(id), _) => drop(shortages.full.0.insert(id, (key, belief))),
            // What shares it is known by what was refused.
            (None, true) => {
                let shared = quota::shared_by(&key);
                drop(shortages.quotas.0.insert(shared, (key, belief)));
            }
            (None, false) => drop(shortages.beliefs.insert(key, belief)),
        }
    }
    for entry in document.bought {
        if let Ok(key) = entry.offering.parse::<OfferingKey>() {
            shortages.proofs.insert(key, Proof(entry.at.min(now)));
        }
    }
    Ok(shortages)
}
