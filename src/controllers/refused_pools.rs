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

/// How long a NodePool rests: an admission policy or a quota is mended by people, and a round of refused writes
/// each five minutes disturbs nobody. A change of the NodePool ends it at once.
const REST: SignedDuration = SignedDuration::from_mins(5);

#[derive(Debug)]
struct Refused {
    uid: String,
    generation: i64,
    until: Timestamp,
    why: String,
}

impl Refused {
    fn holds(&self, pool: &NodePool, now: Timestamp) -> bool {
        let is_it = self.uid == pool.uid && self.generation == pool.generation;
        is_it && now < self.until
    }
}

/// The NodePools that rest, by name.
#[derive(Debug, Default)]
pub(super) struct RefusedPools(BTreeMap<String, Refused>);

impl RefusedPools {
    /// A claim of the pool was refused. Gives back what to say of it, unless that was said of this round already.
    pub(super) fn note(&mut self, pool: &NodePool, why: &str, now: Timestamp) -> Option<String> {
        if self
            .0
            .get(&pool.name)
            .is_some_and(|known| known.holds(pool, now))
        {
            return None;
        }
        let refused = Refused {
            uid: pool.uid.clone(),
            generation: pool.generation,
            until: now.saturating_add(REST).unwrap_or(Timestamp::MAX),
            why: format!("its NodeClaims are refused: {why}"),
        };
        let message = format!(
            "{}; it buys nothing for {REST:#}, or until it is changed",
            refused.why
        );
        self.0.insert(pool.name.clone(), refused);
        Some(message)
    }

    /// Writes it onto the pools of a snapshot.
    pub(super) fn mark(&mut self, snapshot: &mut Snapshot) {
        let now = snapshot.now;
        let pools = &mut snapshot.node_pools;
        self.0.retain(|name, refused| {
            let Some(pool) = pools.get_mut(name).filter(|pool| refused.holds(pool, now)) else {
                return false;
            };
            Arc::make_mut(pool).problems.push(refused.why.clone());
            true
        });
    }
}
