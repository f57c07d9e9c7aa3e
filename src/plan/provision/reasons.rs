//! Why a pod waits, NodePool by NodePool, and what the smallest change would be.
//!
//! Given a class of pods that was left out; given back one reason for each NodePool, as values that
//! events, metrics and text are made of. Nothing is decided here.

use std::collections::{BTreeMap, BTreeSet};

use super::class::{ATTACH, Class, EBS_DRIVER, UNLIMITED, dense_candidate};
use super::labels::{HOSTNAME, Labelled};
use super::limits::Rooms;
use super::min_values;
use super::supply::{Candidate, PoolVariant, Supply};
use crate::model::offering::Offering;
use crate::model::quantity;
use crate::model::report::{PoolReason, ReasonKind, Unschedulable};
use crate::model::requirement::Requirement;
use crate::model::resources::{EPHEMERAL_STORAGE, PODS, Resources};
use crate::model::taint::first_untolerated;
use crate::plan::launch::WHAT_TO_LOOK_AT;
use crate::plan::pack::Bits;

/// What is known about why a class was left.
#[derive(Debug, Clone, Copy)]
pub struct Left<'round> {
    /// What could be bought.
    pub supply: &'round Supply,
    /// Names of the dimensions.
    pub dimensions: &'round [String],
    /// What the limits leave at the end of the round.
    pub rooms: &'round Rooms,
    /// Candidates that limits kept the class from.
    pub limited: Option<&'round Bits>,
    /// Spread or affinity left its pods without a place.
    pub topology: Option<&'round str>,
    /// A foreign NodePool could serve it.
    pub contested: Option<&'round str>,
}

/// The reason while there is no NodePool.
pub fn no_node_pool() -> PoolReason {
    PoolReason {
        node_pool: String::new(),
        reason: ReasonKind::NoNodePool,
        detail: "there is no NodePool whose nodeClassRef is an EC2NodeClass; create one".to_owned(),
        nearest_miss: None,
    }
}

/// A reason that no NodePool has a part in.
fn of_pod(reason: ReasonKind, detail: String) -> Unschedulable {
    Unschedulable {
        reasons: vec![PoolReason {
            node_pool: String::new(),
            reason,
            detail,
            nearest_miss: None,
        }],
    }
}

/// Why a class was left out.
pub fn explain(class: &Class, left: &Left<'_>) -> Unschedulable {
    if let Some((reason, detail)) = &class.problem {
        return of_pod(*reason, detail.clone());
    }
    if let Some(pool) = left.contested {
        return of_pod(
            ReasonKind::Contested,
            format!(
                "NodePool {pool} of another provisioner could serve the pod too; --contested-pods take lets Tonnage buy for it"
            ),
        );
    }
    let mut reasons: Vec<PoolReason> = left.supply.refused.clone();
    let mut pools: BTreeMap<&str, &PoolVariant> = BTreeMap::new();
    for variant in &left.supply.variants {
        pools.entry(&variant.pool.name).or_insert(variant);
    }
    for (name, variant) in pools {
        let (reason, detail, nearest_miss) = of_pool(class, left, name, variant);
        reasons.push(PoolReason {
            node_pool: name.to_owned(),
            reason,
            detail,
            nearest_miss,
        });
    }
    reasons.sort_by(|left, right| left.node_pool.cmp(&right.node_pool));
    if reasons.is_empty() {
        reasons.push(no_node_pool());
    }
    Unschedulable { reasons }
}

/// Resources short, by how much in sum, price, name: what comes closest is least.
type Shortness<'supply> = (usize, i64, i64, &'supply str);
type Explained = (ReasonKind, String, Option<String>);

fn of_pool(class: &Class, left: &Left<'_>, name: &str, variant: &PoolVariant) -> Explained {
    let own: Vec<usize> = (0..left.supply.candidates.len())
        .filter(|index| pool_of(left.supply, *index) == Some(name))
        .collect();
    if let Some(taint) = first_untolerated(&variant.pool.taints, &class.spec.tolerations) {
        return (
            ReasonKind::TaintNotTolerated,
            format!("the pod does not tolerate the NodePool's taint {taint}"),
            None,
        );
    }
    let of_own = |set: &Bits| -> Vec<usize> {
        own.iter()
            .copied()
            .filter(|index| set.contains(*index))
            .collect()
    };
    let suitable = of_own(&class.suitable);
    if suitable.is_empty() {
        let (detail, miss) = unmet(class, left.supply, &own);
        return (ReasonKind::RequirementsIncompatible, detail, miss);
    }
    let fitting = of_own(&class.fitting);
    if fitting.is_empty() {
        return (
            ReasonKind::ResourcesDoNotFit,
            "no instance type that the pod may use is large enough for it".to_owned(),
            nearest_miss(class, left, &suitable, &own),
        );
    }
    occupied(class, left, &fitting).unwrap_or_else(|| though_it_fits(left, &fitting, variant))
}

/// DaemonSet pods are in the way on everything that fits and is to be had.
fn occupied(class: &Class, left: &Left<'_>, fitting: &[usize]) -> Option<Explained> {
    let mut first = None;
    for index in fitting {
        let candidate = left.supply.candidates.get(*index)?;
        if !candidate.offering.available {
            continue;
        }
        let labels = left.supply.labels(*index)?;
        let blocking = class.occupants.blocking(candidate, &labels)?;
        first.get_or_insert(blocking);
    }
    let detail = format!("on every new node that fits, {}", first?.what);
    Some((ReasonKind::TopologyUnsatisfiable, detail, None))
}

/// Why a pool that has something large enough still cannot serve.
fn though_it_fits(left: &Left<'_>, fitting: &[usize], variant: &PoolVariant) -> Explained {
    let find = |holds: &dyn Fn(usize) -> bool| fitting.iter().copied().find(|index| holds(*index));
    let available = find(&|index| {
        left.supply
            .candidates
            .get(index)
            .is_some_and(|candidate| candidate.offering.available)
    });
    let Some(available) = available else {
        let explained = too_dear(left, fitting, variant).or_else(|| used_up(left, fitting));
        return explained.unwrap_or_else(|| closed(left, fitting));
    };
    if let Some(limited) =
        find(&|index| left.limited.is_some_and(|limited| limited.contains(index)))
    {
        return limit_reached(left, limited, variant);
    }
    if let Some(detail) = left.topology {
        return (ReasonKind::TopologyUnsatisfiable, detail.to_owned(), None);
    }
    if left.rooms.binding(left.supply, available).is_some() {
        return limit_reached(left, available, variant);
    }
    if let Some(explained) = used_up(left, fitting) {
        return explained;
    }
    too_few_values(left, fitting, variant)
}

/// The alternatives of the node that the pod would be on have fewer values than minValues asks for.
fn too_few_values(left: &Left<'_>, fitting: &[usize], variant: &PoolVariant) -> Explained {
    let counted = min_values::keys(variant).map(|(key, wanted)| {
        let candidates = fitting.iter().copied().filter(|index| {
            let candidate = left.supply.candidates.get(*index);
            candidate.is_some_and(|candidate| candidate.offering.available)
        });
        let values: BTreeSet<String> = candidates
            .filter_map(|index| {
                let labels = left.supply.labels(index)?;
                labels.label(key).map(str::to_owned)
            })
            .collect();
        (values.len(), key, wanted)
    });
    let worst = counted.min_by_key(|(found, key, wanted)| (*found >= *wanted, *key));
    let detail = match worst {
        Some((found, key, wanted)) if found < wanted => format!(
            "what fits the pod has {found} of the {wanted} values of {key} that the NodePool's minValues asks \
             for; lower minValues or widen spec.template.spec.requirements"
        ),
        Some((_found, key, wanted)) => format!(
            "what fits the pod together with others on its node has fewer than the {wanted} values of {key} \
             that the NodePool's minValues asks for; lower minValues or widen spec.template.spec.requirements"
        ),
        None => "no offering of the NodePool could be planned for the pod".to_owned(),
    };
    (ReasonKind::RequirementsIncompatible, detail, None)
}

/// What would fit is in capacity reservations only, whose slots are in use or spoken for.
fn used_up(left: &Left<'_>, fitting: &[usize]) -> Option<Explained> {
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
fn closed(left: &Left<'_>, fitting: &[usize]) -> Explained {
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
    let refused = if refused
        .clone()
        .all(|offering| offering.outlook.refusals == 0)
    {
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
fn too_dear(left: &Left<'_>, fitting: &[usize], variant: &PoolVariant) -> Option<Explained> {
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

fn pool_of(supply: &Supply, candidate: usize) -> Option<&str> {
    let variant = supply.candidates.get(candidate)?.variant;
    Some(&supply.variants.get(variant)?.pool.name)
}

fn limit_reached(left: &Left<'_>, candidate: usize, variant: &PoolVariant) -> Explained {
    let detail = match left.rooms.binding(left.supply, candidate) {
        Some((resource, rest)) => {
            let limit = variant.pool.limits.get(&resource);
            format!(
                "the NodePool's limit of {} {resource} leaves {}; raise spec.limits.{resource} or wait for nodes to go",
                quantity::text(&resource, limit),
                quantity::text(&resource, rest)
            )
        }
        None => "the NodePool's limits are used up; raise spec.limits or wait for nodes to go"
            .to_owned(),
    };
    (ReasonKind::LimitReached, detail, None)
}

/// Which demand of the pod no candidate meets: that of the candidate with the fewest unmet keys.
fn unmet(class: &Class, supply: &Supply, own: &[usize]) -> (String, Option<String>) {
    let mut best: Option<(usize, Vec<String>)> = None;
    for index in own {
        let Some(labels) = supply.labels(*index) else {
            continue;
        };
        for term in &class.demand.terms {
            let missing: Vec<String> = term
                .labels
                .0
                .iter()
                .filter(|(key, requirement)| !requirement.accepts(labels.label(key)))
                .map(|(key, requirement)| unmet_key(key, requirement, labels.label(key)))
                .collect();
            if best
                .as_ref()
                .is_none_or(|(fewest, _)| missing.len() < *fewest)
            {
                best = Some((missing.len(), missing));
            }
        }
    }
    let missing = best.map(|(_, missing)| missing).unwrap_or_default();
    if missing.is_empty() {
        return (
            "the pod asks for a node by name or by volume that the NodePool cannot make".to_owned(),
            None,
        );
    }
    (missing.join("; and "), None)
}

fn unmet_key(key: &str, requirement: &Requirement, given: Option<&str>) -> String {
    if *requirement == Requirement::nothing() {
        return format!("the pod's own demands on {key} contradict each other");
    }
    if key == HOSTNAME {
        return format!(
            "the pod wants {key} {}, and the name of a new node is not known before it is there",
            wish(requirement)
        );
    }
    format!(
        "the pod wants {key} {}, the NodePool gives {}",
        wish(requirement),
        found(given)
    )
}

pub(super) fn wish(requirement: &Requirement) -> String {
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

/// The suitable candidate that lacks least, and what would make the pod fit it.
fn nearest_miss(
    class: &Class,
    left: &Left<'_>,
    suitable: &[usize],
    own: &[usize],
) -> Option<String> {
    let mut best: Option<(Shortness<'_>, usize)> = None;
    for index in suitable {
        let Some(candidate) = left.supply.candidates.get(*index) else {
            continue;
        };
        let (kinds, permille) = shortfall(&class.needs, candidate);
        let rank = (
            kinds,
            permille,
            candidate.price.units(),
            &*candidate.offering.key.instance_type,
        );
        if best.as_ref().is_none_or(|(least, _)| rank < *least) {
            best = Some((rank, *index));
        }
    }
    let (_rank, nearest) = best?;
    let candidate = left.supply.candidates.get(nearest)?;
    let mut parts = Vec::new();
    for (name, amount) in class.needs.iter() {
        let free = free_of(candidate, name);
        if amount <= free {
            continue;
        }
        parts.push(missing(name, amount, free, &candidate.daemons));
    }
    let mut text = format!(
        "{}: {}",
        candidate.offering.key.instance_type,
        parts.join("; ")
    );
    if let Some(larger) = larger_type(class, left, own) {
        text.push_str(", or let the pod use ");
        text.push_str(&larger);
    }
    Some(text)
}

/// What a candidate has of a resource, or how many more volumes of a driver it can attach.
fn free_of(candidate: &Candidate, name: &str) -> i64 {
    match name.strip_prefix(ATTACH) {
        Some(EBS_DRIVER) => i64::from(candidate.instance.volume_limit),
        Some(_unknown) => UNLIMITED,
        None => candidate.free.get(name),
    }
}

fn missing(name: &str, amount: i64, free: i64, daemons: &Resources) -> String {
    if let Some(driver) = name.strip_prefix(ATTACH) {
        let fewer = amount.saturating_sub(free);
        return format!(
            "{free} volumes of {driver} can be attached, pod mounts {amount}: mount {fewer} fewer"
        );
    }
    let asked = quantity::text(name, amount);
    if free <= 0 && daemons.get(name) == 0 {
        return format!("has no {name}, pod asks {asked}");
    }
    let less = match daemons.get(name) {
        0 => "allocatable".to_owned(),
        taken => format!(
            "left beside DaemonSets that take {}",
            quantity::text(name, taken)
        ),
    };
    let unit = if name == PODS { "slots" } else { name };
    let or = if name == EPHEMERAL_STORAGE {
        ", or make the root volume larger (spec.blockDeviceMappings of the EC2NodeClass)"
    } else {
        ""
    };
    format!(
        "{} {unit} {less}, pod asks {asked}: lower the request by {}{or}",
        quantity::text(name, free.max(0)),
        quantity::text(name, amount.saturating_sub(free.max(0)))
    )
}

/// How many resources are short, and by how much in sum, in thousandths of what is asked.
fn shortfall(needs: &Resources, candidate: &Candidate) -> (usize, i64) {
    let mut kinds = 0;
    let mut permille: i64 = 0;
    for (name, amount) in needs.iter() {
        let lacking = amount.saturating_sub(free_of(candidate, name).max(0));
        if lacking > 0 {
            kinds += 1;
            let share = i128::from(lacking) * 1000 / i128::from(amount.max(1));
            permille = permille.saturating_add(i64::try_from(share).unwrap_or(1000));
        }
    }
    (kinds, permille)
}

/// The cheapest type of the pool that would hold the pod if its node selector let it.
fn larger_type(class: &Class, left: &Left<'_>, own: &[usize]) -> Option<String> {
    own.iter()
        .filter_map(|index| {
            let candidate = left.supply.candidates.get(*index)?;
            let free = dense_candidate(left.dimensions, candidate);
            (candidate.offering.available && super::class::fits(&class.size, &free))
                .then_some(candidate)
        })
        .min_by_key(|candidate| (candidate.price, &candidate.offering.key))
        .map(|candidate| candidate.offering.key.instance_type.to_string())
}
