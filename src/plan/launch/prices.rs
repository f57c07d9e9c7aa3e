//! What claims cost by now.
//!
//! A claim names what may be bought at the prices of when it was planned. It may wait long: for a ceiling, for a
//! pause to end, for capacity. Given the claim and the prices of now; given back what its NodePool may still pay for,
//! or that there is nothing.

use crate::model::claim::Claim;
use crate::model::node_class::NodeClass;
use crate::model::offering::OfferingKey;
use crate::model::snapshot::Snapshot;
use crate::plan::provision::reach;

/// The reason of a claim all of whose offerings cost more by now than its NodePool may pay.
pub const TOO_DEAR: &str = "PriceCeiling";

/// What a claim names and its NodePool may pay for, in the order of the claim.
pub(super) fn affordable<'claim>(
    snapshot: &Snapshot,
    class: &NodeClass,
    claim: &'claim Claim,
) -> Result<Vec<&'claim OfferingKey>, String> {
    let pool = claim.node_pool.as_ref();
    let Some(pool) = pool.and_then(|name| snapshot.node_pools.get(name)) else {
        return Ok(claim.offerings.iter().collect());
    };
    let within = reach::within_ceilings(pool, class, &claim.offerings);
    if within.is_empty() && !claim.offerings.is_empty() {
        return Err(format!(
            "each of the {} offerings of this claim costs more by now than NodePool {} may pay \
             (tonnage.dev/max-usd-per-hour, tonnage.dev/max-percent-of-on-demand); its pods are planned anew",
            claim.offerings.len(),
            pool.name
        ));
    }
    Ok(within)
}
