//! NodePools whose NodeClaims the API server refuses.
//!
//! Given refusals as they come; given back snapshots in which such a NodePool buys nothing for a while, so that
//! its pods are told why, or served by another. What the API server would take later is tried again by itself.
//! Nothing is written here.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use crate::model::node_pool::NodePool;
use crate::model::snapshot::Snapshot;

/// How long a NodePool rests after a first refusal, which may be one of a server that has just started.
const FIRST_REST: SignedDuration = SignedDuration::from_secs(10);
/// How long it rests at most, when it is refused again and again: pods of it that would be taken wait no longer than
/// that for one that never is. A change of the NodePool ends a rest at once, and so does a claim that is taken.
const LONGEST_REST: SignedDuration = SignedDuration::from_mins(1);

#[derive(Debug)]
struct Refused {
    uid: String,
    generation: i64,
    until: Timestamp,
    rest: SignedDuration,
    why: String,
}

impl Refused {
    fn is_about(&self, pool: &NodePool) -> bool {
        self.uid == pool.uid && self.generation == pool.generation
    }
}

/// The NodePools that rest, by name.
#[derive(Debug, Default)]
pub(super) struct RefusedPools(BTreeMap<String, Refused>);

impl RefusedPools {
    /// No claim of the pool was taken in a round. Gives back what to say of it.
    pub(super) fn refused(&mut self, pool: &NodePool, why: &str, now: Timestamp) -> String {
        let known = self.0.get(&pool.name).filter(|known| known.is_about(pool));
        let rest = known.map_or(FIRST_REST, |known| {
            known.rest.saturating_mul(2).min(LONGEST_REST)
        });
        let refused = Refused {
            uid: pool.uid.clone(),
            generation: pool.generation,
            until: now.saturating_add(rest).unwrap_or(Timestamp::MAX),
            rest,
            why: format!("its NodeClaims are refused: {why}"),
        };
        let message = format!(
            "{}; it buys nothing for a while, or until it is changed",
            refused.why
        );
        self.0.insert(pool.name.clone(), refused);
        message
    }

    /// A claim of the pool was taken.
    pub(super) fn taken(&mut self, pool: &str) {
        self.0.remove(pool);
    }

    /// Writes it onto the pools of a snapshot.
    pub(super) fn mark(&mut self, snapshot: &mut Snapshot) {
        let now = snapshot.now;
        let pools = &mut snapshot.node_pools;
        self.0.retain(|name, refused| {
            let Some(pool) = pools.get_mut(name).filter(|pool| refused.is_about(pool)) else {
                return false;
            };
            // Of a time to come is what was noted before the clock was set back.
            let left = refused.until.duration_since(now);
            if left.is_positive() && left <= refused.rest {
                Arc::make_mut(pool).problems.push(refused.why.clone());
            }
            true
        });
    }
}
