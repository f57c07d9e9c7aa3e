//! How many nodes of a NodePool are on-demand, and how many may be spot.
//!
//! Given the claims that exist and the nodes of a plan, one after the other; given back whether the
//! next one may be spot. Nothing is bought or chosen here.

use std::collections::BTreeMap;

use crate::model::claim::Claim;
use crate::model::node_pool::NodePool;
use crate::model::offering::CapacityType;
use crate::model::snapshot::Snapshot;
use crate::plan::launch::offering_of;

/// Nodes of a pool by how they are bought.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Count {
    on_demand: u64,
    spot: u64,
}

/// Nodes of all pools.
#[derive(Debug, Clone, Default)]
pub struct Mix(BTreeMap<String, Count>);

impl Mix {
    /// What exists and stays: claims, launched or on their way.
    pub fn of(snapshot: &Snapshot) -> Self {
        let mut mix = Self::default();
        for claim in snapshot.claims.values() {
            if let (Some(pool), None) = (&claim.node_pool, claim.deleting_since)
                && let Some(capacity_type) = bought_as(claim)
            {
                mix.count(pool, capacity_type);
            }
        }
        mix
    }

    /// Counts one more node.
    pub fn count(&mut self, pool: &str, capacity_type: CapacityType) {
        let count = self.0.entry(pool.to_owned()).or_default();
        match capacity_type {
            CapacityType::OnDemand => count.on_demand += 1,
            CapacityType::Spot => count.spot += 1,
            CapacityType::Reserved => {}
        }
    }

    /// True when the pool's next node may be spot.
    pub fn allows_spot(&self, pool: &NodePool) -> bool {
        let count = self.0.get(&pool.name).copied().unwrap_or_default();
        let base = u64::from(pool.on_demand_base);
        if count.on_demand < base {
            return false;
        }
        let above = (count.on_demand + count.spot + 1).saturating_sub(base);
        pool.spot_percent
            .is_none_or(|percent| (count.spot + 1) * 100 <= above * u64::from(percent))
    }
}

/// How a claim's machine was bought, or will be at first.
fn bought_as(claim: &Claim) -> Option<CapacityType> {
    let offering = offering_of(claim).or_else(|| claim.offerings.first().cloned());
    offering.map(|offering| offering.capacity_type)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::examples::{at, claim, world};

    fn bought(base: u32, percent: Option<u32>, nodes: usize) -> (u64, u64) {
        let mut pool = NodePool::named("general", "default");
        pool.on_demand_base = base;
        pool.spot_percent = percent;
        let mut mix = Mix::default();
        for _node in 0..nodes {
            let capacity_type = if mix.allows_spot(&pool) {
                CapacityType::Spot
            } else {
                CapacityType::OnDemand
            };
            mix.count("general", capacity_type);
        }
        let count = mix.0["general"];
        (count.on_demand, count.spot)
    }

    #[test]
    fn a_base_is_on_demand_and_of_the_rest_the_share_is_spot() {
        assert_eq!(bought(0, None, 10), (0, 10));
        assert_eq!(bought(3, None, 10), (3, 7));
        assert_eq!(bought(3, None, 2), (2, 0));
        assert_eq!(bought(0, Some(70), 10), (3, 7));
        assert_eq!(bought(0, Some(50), 1), (1, 0));
        assert_eq!(bought(2, Some(50), 12), (7, 5));
        assert_eq!(bought(0, Some(0), 5), (5, 0));
        assert_eq!(bought(0, Some(100), 5), (0, 5));
    }

    #[test]
    fn what_is_on_its_way_counts_and_what_goes_does_not() {
        let on_demand = claim("a", &["c5.xlarge/us-east-1a/on-demand"]);
        let mut going = claim("b", &["c5.xlarge/us-east-1a/on-demand"]);
        going.deleting_since = Some(at(1));
        let mut pool = NodePool::named("general", "default");
        pool.on_demand_base = 1;
        let with = |claims: &[Claim]| Mix::of(&world(2, claims, &[], &[])).allows_spot(&pool);
        assert!(with(&[on_demand]));
        assert!(!with(&[going]));
    }
}
