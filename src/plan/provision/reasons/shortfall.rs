//! Which offering lacks least of what a pod asks for.
//!
//! Given a class and the candidates of a NodePool, none of which is large enough; given back the one that
//! comes closest and the smallest change that would make the pod fit it. Availability counts for nothing here.

use super::Left;
use crate::model::quantity;
use crate::model::resources::{EPHEMERAL_STORAGE, PODS, Resources};
use crate::plan::provision::class::{ATTACH, Class, EBS_DRIVER, UNLIMITED};
use crate::plan::provision::supply::Candidate;

/// Resources short, by how much in sum, price, name: what comes closest is least.
type Shortness<'supply> = (usize, i64, i64, &'supply str);

/// The suitable candidate that lacks least, and what would make the pod fit it.
pub(super) fn nearest_miss(
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
            (candidate.offering.available && left.is_large_enough(class, *index))
                .then_some(candidate)
        })
        .min_by_key(|candidate| (candidate.price, &candidate.offering.key))
        .map(|candidate| candidate.offering.key.instance_type.to_string())
}
