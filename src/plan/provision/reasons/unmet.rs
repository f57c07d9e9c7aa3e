//! Which of a pod's demands on labels no offering of a NodePool meets.
//!
//! Given a class and the candidates of a pool, none of which suits it; given back each of the pod's alternatives
//! with what it misses, and the offering that misses least with the change on either side that would do. Room,
//! taints and volumes count for nothing here.

use std::collections::BTreeSet;

use super::Left;
use crate::model::requirement::Requirement;
use crate::plan::pack::Bits;
use crate::plan::provision::class::Class;
use crate::plan::provision::labels::{DemandTerm, HOSTNAME, Labelled};
use crate::plan::provision::supply::{PoolVariant, is_inherent, labelled};

/// So many of a pod's alternatives at most are named.
const FEW: usize = 3;
/// What most details begin with.
const WANTS: &str = "the pod wants ";

/// A key that no value of which meets the pod, and what is demanded of it.
type Demand<'class> = (&'class str, &'class Requirement);

/// What of a term the candidate misses that misses least.
struct Nearest<'class> {
    candidate: usize,
    missing: Vec<Demand<'class>>,
    /// Each demand is met by something of the pool, and never all of them by one.
    together: Vec<Demand<'class>>,
    rank: Rank,
}

/// Keys missing, out of stock, too small, price: least is nearest.
type Rank = (usize, bool, bool, i64);

/// What no candidate meets, alternative by alternative, and what would change that.
pub(super) fn unmet(
    class: &Class,
    left: &Left<'_>,
    own: &[usize],
    variant: &PoolVariant,
) -> (String, Option<String>) {
    let terms = class.own_demand.terms.iter();
    let found: Vec<Nearest<'_>> = terms
        .filter_map(|term| nearest(class, left, own, term))
        .filter(|nearest| !nearest.missing.is_empty())
        .collect();
    let Some(best) = found.iter().min_by_key(|nearest| nearest.rank) else {
        return (
            "the pod or a volume of it asks for a node by its name, and the name of a new node is not known before it is \
             there"
                .to_owned(),
            Some("drop the pod's node affinity over metadata.name".to_owned()),
        );
    };
    let mut named = BTreeSet::new();
    let mut details: Vec<String> = Vec::new();
    for nearest in &found {
        let detail = detail(left, nearest);
        if named.insert(detail.clone()) {
            // The first has said what is listed.
            let listed = detail
                .strip_prefix(WANTS)
                .filter(|_rest| !details.is_empty());
            details.push(listed.unwrap_or(&detail).to_owned());
        }
    }
    let more = details.len().saturating_sub(FEW);
    details.truncate(FEW);
    let mut text = details.join("; or ");
    if more > 0 {
        text = format!("{text}; and {more} more alternatives, none of which the NodePool meets");
    }
    (text, miss(left, best, variant))
}

fn nearest<'class>(
    class: &Class,
    left: &Left<'_>,
    own: &[usize],
    term: &'class DemandTerm,
) -> Option<Nearest<'class>> {
    let rank = |index: usize| -> Option<Rank> {
        let labels = left.supply.labels(index)?;
        let candidate = left.supply.candidates.get(index)?;
        let demands = term.labels.0.iter();
        let missing = demands.filter(|(key, wanted)| !wanted.accepts(labels.label(key)));
        Some((
            missing.count(),
            !candidate.offering.available,
            !left.is_large_enough(class, index),
            candidate.price.units(),
        ))
    };
    let all = own.iter().filter_map(|index| Some((rank(*index)?, *index)));
    let (rank, candidate) = all.min()?;
    let labels = left.supply.labels(candidate)?;
    let demands = || {
        term.labels
            .0
            .iter()
            .map(|(key, wanted)| (key.as_str(), wanted))
    };
    Some(Nearest {
        candidate,
        missing: demands()
            .filter(|(key, wanted)| !wanted.accepts(labels.label(key)))
            .collect(),
        together: together(left, own, demands().collect()),
        rank,
    })
}

/// The fewest demands that something of the pool meets each, and nothing all of them; none when one of the
/// demands is met by nothing at all.
fn together<'class>(
    left: &Left<'_>,
    own: &[usize],
    demands: Vec<Demand<'class>>,
) -> Vec<Demand<'class>> {
    let met: Vec<Bits> = demands
        .iter()
        .map(|(key, wanted)| {
            let mut met = Bits::empty(left.supply.candidates.len());
            for index in own {
                let labels = left.supply.labels(*index);
                if labels.is_some_and(|labels| wanted.accepts(labels.label(key))) {
                    met.insert(*index);
                }
            }
            met
        })
        .collect();
    if met.iter().any(Bits::is_empty) {
        return Vec::new();
    }
    for (place, (first, own)) in demands.iter().zip(&met).enumerate() {
        let later = demands.iter().zip(&met).skip(place + 1);
        for (second, theirs) in later {
            if !own.intersects(theirs) {
                return vec![*first, *second];
            }
        }
    }
    let all = demands.into_iter().zip(met);
    all.filter(|(_demand, met)| met.len() < own.len())
        .map(|(demand, _met)| demand)
        .collect()
}

fn detail(left: &Left<'_>, nearest: &Nearest<'_>) -> String {
    if !nearest.together.is_empty() {
        let wanted = nearest.together.iter();
        let wanted: Vec<String> = wanted
            .map(|(key, wanted)| format!("{key} {}", wish(wanted)))
            .collect();
        return format!(
            "no offering of the NodePool has {} together",
            wanted.join(" and ")
        );
    }
    let labels = left.supply.labels(nearest.candidate);
    let missing = nearest.missing.iter().map(|(key, wanted)| {
        let given = labels.as_ref().and_then(|labels| labels.label(key));
        unmet_key(key, wanted, given)
    });
    missing.collect::<Vec<_>>().join("; and ")
}

fn unmet_key(key: &str, requirement: &Requirement, given: Option<&str>) -> String {
    if *requirement == Requirement::nothing() {
        return format!("the pod's own demands on {key} contradict each other");
    }
    if key == HOSTNAME {
        return format!(
            "{WANTS}{key} {}, and the name of a new node is not known before it is there",
            wish(requirement)
        );
    }
    format!(
        "{WANTS}{key} {}, the NodePool gives {}",
        wish(requirement),
        found(given)
    )
}

/// What would let the nearest candidate take the pod.
fn miss(left: &Left<'_>, nearest: &Nearest<'_>, variant: &PoolVariant) -> Option<String> {
    let candidate = left.supply.candidates.get(nearest.candidate)?;
    let labels = left.supply.labels(nearest.candidate)?;
    let apart = !nearest.together.is_empty();
    let changes: Vec<String> = nearest
        .missing
        .iter()
        .map(|(key, wanted)| change(key, wanted, labels.label(key), (apart, variant)))
        .collect();
    let key = &candidate.offering.key;
    Some(format!("{key}: {}", changes.join(", and ")))
}

/// The smallest change for one key: of the NodePool where it could give what is wanted, else of the pod.
fn change(
    key: &str,
    wanted: &Requirement,
    given: Option<&str>,
    (apart, variant): (bool, &PoolVariant),
) -> String {
    if key == HOSTNAME {
        return format!("drop the pod's demand on {key}");
    }
    let accept = match given {
        Some(given) => format!("let the pod accept {key} `{given}`"),
        None => format!("drop the pod's demand on {key}"),
    };
    if apart || *wanted == Requirement::nothing() {
        return accept;
    }
    if is_inherent(key) {
        let mut sold = labelled(variant);
        if sold.any(|labels| wanted.accepts(labels.label(key))) {
            return format!(
                "let spec.template.spec.requirements of the NodePool allow {key} {}, or {accept}",
                wish(wanted)
            );
        }
        return accept;
    }
    let value = (!wanted.complement).then(|| wanted.values.first());
    match (value.flatten(), given) {
        (Some(value), None) => format!(
            "give the NodePool the label {key}: {value} (spec.template.metadata.labels), or {accept}"
        ),
        // Names of NodePools and their like are nobody's to give away.
        (Some(_value), Some(_other)) if key.starts_with("karpenter.sh/") => accept,
        (Some(value), Some(_other)) => {
            format!("{accept}, or create a NodePool with the label {key}: {value}")
        }
        (None, None) if !wanted.may_be_absent => {
            format!("give the NodePool a label {key} (spec.template.metadata.labels), or {accept}")
        }
        (None, _) => accept,
    }
}

/// A requirement as people write it.
pub(in crate::plan::provision) fn wish(requirement: &Requirement) -> String {
    requirement
        .entries()
        .iter()
        .map(|entry| {
            if entry.values.is_empty() {
                entry.operator.to_owned()
            } else {
                format!("{} [{}]", entry.operator, entry.values.join(", "))
            }
        })
        .collect::<Vec<_>>()
        .join(" and ")
}

fn found(value: Option<&str>) -> String {
    value.map_or_else(|| "no such label".to_owned(), |value| format!("`{value}`"))
}
