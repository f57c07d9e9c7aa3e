//! Why nothing that fits a pod is to be had now: shortages, ceilings, used up reservations.
//!
//! Given the candidates of a NodePool that are large enough, none of which is available; given back the
//! reason in words. Nothing is tried again here.

use std::collections::BTreeSet;

use super::{Left, Reason};
use crate::model::offering::Offering;
use crate::model::report::ReasonKind;
use crate::plan::launch::WHAT_TO_LOOK_AT;
use crate::plan::provision::supply::PoolVariant;

/// What would fit is in capacity reservations only, whose slots are in use or spoken for.
pub(super) fn used_up(left: &Left<'_>, fitting: &[usize]) -> Option<Reason> {
    let mut ids = BTreeSet::new();
    for index in fitting {
        let slot = left.supply.candidates.get(*index)?.slot.as_ref()?;
        ids.insert(slot.reservation.id.as_str());
    }
    let ids: Vec<&str> = ids.into_iter().collect();
    Some((
        ReasonKind::OfferingsUnavailable,
        format!(
            "only machines in capacity reservations fit, and no slot of them is left ({}); enlarge them, or \
             let the NodePool buy spot or on-demand",
            ids.join(", ")
        ),
        None,
    ))
}

/// Everything that would fit was refused lately.
pub(super) fn closed(left: &Left<'_>, fitting: &[usize]) -> Reason {
    let found: Vec<&Offering> = fitting
        .iter()
        .filter_map(|index| Some(&left.supply.candidates.get(*index)?.offering))
        .collect();
    let named: Vec<String> = found
        .iter()
        .take(3)
        .map(|offering| match offering.outlook.refusals {
            0 | 1 => offering.key.to_string(),
            times => format!("{}, refused {times} times in a row", offering.key),
        })
        .collect();
    let next = found
        .iter()
        .filter_map(|offering| offering.outlook.closed_until)
        .min()
        .map(|until| format!("; the next is tried again at {until:.0}"));
    let what = what_closed(left, fitting, &found);
    (
        ReasonKind::OfferingsUnavailable,
        format!(
            "{what} ({} offerings, such as {}){}",
            found.len(),
            named.join(", "),
            next.unwrap_or_default()
        ),
        None,
    )
}

/// Why all that would fit is closed.
fn what_closed(left: &Left<'_>, fitting: &[usize], found: &[&Offering]) -> String {
    let variant = fitting
        .first()
        .and_then(|index| left.supply.candidates.get(*index))
        .and_then(|candidate| left.supply.variants.get(candidate.variant));
    let class = variant.map_or("", |variant| variant.class.name.as_str());
    let is_no_show = |offering: &&&Offering| offering.outlook.no_shows > 0;
    let no_shows = found.iter().filter(is_no_show).count();
    // What was never refused for want of capacity was refused for what the class asks.
    let refused = found.iter().filter(|offering| !is_no_show(offering));
    let over_quota = refused
        .clone()
        .filter(|offering| offering.outlook.over_quota);
    let is_refused =
        |offering: &&&Offering| offering.outlook.refusals > 0 || offering.outlook.over_quota;
    let refused = if over_quota.count() == refused.clone().count() {
        "a quota of the account is used up, to be raised in Service Quotas, for"
    } else if !refused.clone().any(|offering| is_refused(&offering)) {
        "EC2 refuses machines as the EC2NodeClass makes them, which its last claims and the log explain, for"
    } else {
        "EC2 has no capacity now for"
    };
    let fits = match no_shows {
        0 => return format!("{refused} what fits"),
        all if all == found.len() => "what fits".to_owned(),
        some => format!("{some} of what fits"),
    };
    let left_alone = format!(
        "the last machines of EC2NodeClass {class} did not join the cluster, so {fits} is left alone, and tried with one \
         machine at a time; look at {WHAT_TO_LOOK_AT}"
    );
    if no_shows == found.len() {
        left_alone
    } else {
        format!("{left_alone}; {refused} the rest")
    }
}

/// The price ceilings of the pool keep out what would fit.
pub(super) fn too_dear(
    left: &Left<'_>,
    fitting: &[usize],
    variant: &PoolVariant,
) -> Option<Reason> {
    let cheapest = fitting
        .iter()
        .filter_map(|index| left.supply.candidates.get(*index))
        .filter(|candidate| candidate.too_dear)
        .min_by_key(|candidate| (candidate.offering.price, &candidate.offering.key))?;
    let mut ceilings = Vec::new();
    if let Some(most) = variant.pool.max_price {
        ceilings.push(format!("tonnage.dev/max-usd-per-hour {most}"));
    }
    if let Some(percent) = variant.pool.max_percent_of_on_demand {
        ceilings.push(format!("tonnage.dev/max-percent-of-on-demand {percent}"));
    }
    Some((
        ReasonKind::PriceCeiling,
        format!(
            "what fits costs more than the NodePool's {} allows",
            ceilings.join(" or ")
        ),
        Some(format!(
            "{}: {} USD per hour",
            cheapest.offering.key, cheapest.offering.price
        )),
    ))
}
