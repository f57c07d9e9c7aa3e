//! Which limits of a NodePool are in the way, and how high they would have to be.
//!
//! Given the candidates that are large enough for a pod, and what limits leave; given back the one that
//! exceeds them least, with the limits that would let it be bought. Nothing is counted here.

use super::{Left, Reason};
use crate::model::quantity;
use crate::model::report::ReasonKind;
use crate::plan::provision::limits::Short;
use crate::plan::provision::supply::{Candidate, PoolVariant};

/// Why a pool's limits keep a pod out, whatever of these is bought.
pub(super) fn reached(left: &Left<'_>, fitting: &[usize], variant: &PoolVariant) -> Reason {
    let kept_out = fitting.iter().filter_map(|index| {
        let candidate = left.available(*index)?;
        let short = left.rooms.short(left.supply, *index);
        (!short.is_empty()).then_some((candidate, short))
    });
    // Of what is over the fewest limits the smallest.
    let nearest = kept_out.min_by_key(rank);
    let Some((candidate, short)) = nearest else {
        return (
            ReasonKind::LimitReached,
            "the NodePool's limits are used up; raise spec.limits or wait for nodes to go"
                .to_owned(),
            None,
        );
    };
    let limits = &variant.pool.limits;
    let detail = short.first().map_or_else(String::new, |first| {
        let resource = &first.resource;
        format!(
            "the NodePool's limit of {} {resource} leaves {}; raise spec.limits.{resource} or wait for nodes to go",
            quantity::text(resource, limits.get(resource)),
            quantity::text(resource, first.left.max(0))
        )
    });
    let raised: Vec<String> = short
        .iter()
        .map(|short| {
            let used = limits.get(&short.resource).saturating_sub(short.left);
            let enough = used.saturating_add(short.amount);
            let enough = quantity::text(&short.resource, enough);
            format!("spec.limits.{} to {enough}", short.resource)
        })
        .collect();
    let miss = format!("{}: raise {}", candidate.offering.key, raised.join(" and "));
    (ReasonKind::LimitReached, detail, Some(miss))
}

fn rank((candidate, short): &(&Candidate, Vec<Short>)) -> (usize, Option<i64>, i64, String) {
    (
        short.len(),
        short.first().map(|first| first.amount),
        candidate.price.units(),
        candidate.offering.key.to_string(),
    )
}
