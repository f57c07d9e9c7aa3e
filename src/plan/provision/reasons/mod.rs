//! Why a pod waits, NodePool by NodePool, and what the smallest change would be.
//!
//! Given a class of pods that was left out; given back one reason for each NodePool, as values that
//! events, metrics and text are made of. Nothing is decided here.

mod limit;
mod shortfall;
mod unavailable;
mod unmet;
pub mod volumes;

use std::collections::{BTreeMap, BTreeSet};

use super::class::{self, Class};
use super::labels::Labelled;
use super::limits::Rooms;
use super::min_values;
use super::supply::{Candidate, PoolVariant, Supply};
use super::topology::failure::Failure;
use crate::model::report::{PoolReason, ReasonKind, Unschedulable};
use crate::model::taint::{Taint, first_untolerated};
use crate::plan::pack::Bits;
pub(super) use unmet::wish;
use volumes::Absent;

/// What is known about why a class was left.
#[derive(Debug, Clone, Copy)]
pub struct Left<'round> {
    /// What could be bought.
    pub supply: &'round Supply,
    /// What each candidate offers, by dimension.
    pub capacities: &'round [Vec<i64>],
    /// What the limits leave at the end of the round.
    pub rooms: &'round Rooms,
    /// Candidates that limits kept the class from.
    pub limited: Option<&'round Bits>,
    /// Spread or affinity left its pods without a place.
    pub topology: Option<&'round Failure>,
    /// A foreign NodePool could serve it.
    pub contested: Option<&'round str>,
}

impl<'round> Left<'round> {
    fn is_large_enough(&self, class: &Class, candidate: usize) -> bool {
        let free = self.capacities.get(candidate);
        free.is_some_and(|free| class::fits(&class.size, free))
    }

    fn available(&self, candidate: usize) -> Option<&'round Candidate> {
        let candidate = self.supply.candidates.get(candidate)?;
        candidate.offering.available.then_some(candidate)
    }
}

/// Why the pods of a class were left out.
#[derive(Debug, Clone, Default)]
pub struct Explained {
    /// In general.
    pub why: Unschedulable,
    /// The volumes that kept them out of NodePools: each pod has its own.
    pub absent: Vec<Absent>,
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
fn of_pod(reason: ReasonKind, detail: String) -> Explained {
    let reasons = vec![PoolReason {
        node_pool: String::new(),
        reason,
        detail,
        nearest_miss: None,
    }];
    Explained {
        why: Unschedulable { reasons },
        absent: Vec::new(),
    }
}

/// Why a class was left out.
pub fn explain(class: &Class, left: &Left<'_>) -> Explained {
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
    let mut absent = Vec::new();
    let mut pools: BTreeMap<&str, &PoolVariant> = BTreeMap::new();
    for variant in &left.supply.variants {
        pools.entry(&variant.pool.name).or_insert(variant);
    }
    for (name, variant) in pools {
        let (reason, detail, nearest_miss) = of_pool(class, left, name, variant, &mut absent);
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
    Explained {
        why: Unschedulable { reasons },
        absent,
    }
}

/// Kind, detail and the nearest miss.
type Reason = (ReasonKind, String, Option<String>);

fn of_pool(
    class: &Class,
    left: &Left<'_>,
    name: &str,
    variant: &PoolVariant,
    absent: &mut Vec<Absent>,
) -> Reason {
    let own: Vec<usize> = (0..left.supply.candidates.len())
        .filter(|index| pool_of(left.supply, *index) == Some(name))
        .collect();
    if let Some(taint) = first_untolerated(&variant.pool.taints, &class.spec.tolerations) {
        return (
            ReasonKind::TaintNotTolerated,
            format!("the pod does not tolerate the NodePool's taint {taint}"),
            Some(toleration(taint)),
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
        if let Some(found) = Absent::of(class, left.supply, &own, name) {
            let reason = found.general();
            absent.push(found);
            return reason;
        }
        let (detail, miss) = unmet::unmet(class, left, &own, variant);
        return (ReasonKind::RequirementsIncompatible, detail, miss);
    }
    let fitting = of_own(&class.fitting);
    if fitting.is_empty() {
        return (
            ReasonKind::ResourcesDoNotFit,
            "no instance type that the pod may use is large enough for it".to_owned(),
            shortfall::nearest_miss(class, left, &suitable, &own),
        );
    }
    occupied(class, left, &fitting).unwrap_or_else(|| though_it_fits(left, &fitting, variant))
}

/// What a pod would have to say to bear a taint, as manifests say it.
fn toleration(taint: &Taint) -> String {
    let bears = if taint.value.is_empty() {
        "operator: Exists".to_owned()
    } else {
        format!("value: \"{}\"", taint.value)
    };
    format!(
        "add the toleration {{key: {}, {bears}, effect: {}}} to the pod",
        taint.key,
        taint.effect.as_str()
    )
}

/// DaemonSet pods are in the way on everything that fits and is to be had.
fn occupied(class: &Class, left: &Left<'_>, fitting: &[usize]) -> Option<Reason> {
    let mut first = None;
    for index in fitting {
        let candidate = left.supply.candidates.get(*index)?;
        if !candidate.offering.available {
            continue;
        }
        let labels = left.supply.labels(*index)?;
        let blocking = class.occupants.blocking(candidate, &labels)?;
        first.get_or_insert((candidate, blocking));
    }
    let (candidate, blocking) = first?;
    let detail = format!("on every new node that fits, {}", blocking.what);
    let miss = format!(
        "{}: keep that DaemonSet off nodes that the pod may use, by its node affinity",
        candidate.offering.key
    );
    Some((ReasonKind::TopologyUnsatisfiable, detail, Some(miss)))
}

/// Why a pool that has something large enough still cannot serve.
fn though_it_fits(left: &Left<'_>, fitting: &[usize], variant: &PoolVariant) -> Reason {
    let mut open = fitting.iter().copied();
    let Some(available) = open.find(|index| left.available(*index).is_some()) else {
        let explained = unavailable::too_dear(left, fitting, variant)
            .or_else(|| unavailable::used_up(left, fitting));
        return explained.unwrap_or_else(|| unavailable::closed(left, fitting));
    };
    let is_limited = |index: &usize| left.limited.is_some_and(|limited| limited.contains(*index));
    if fitting.iter().any(is_limited) {
        return limit::reached(left, fitting, variant);
    }
    if let Some(failure) = left.topology {
        return (
            ReasonKind::TopologyUnsatisfiable,
            failure.detail.clone(),
            failure.nearest_miss.clone(),
        );
    }
    if !left.rooms.allow(left.supply, available) {
        return limit::reached(left, fitting, variant);
    }
    if let Some(explained) = unavailable::used_up(left, fitting) {
        return explained;
    }
    too_few_values(left, fitting, variant)
}

/// The alternatives of the node that the pod would be on have fewer values than minValues asks for.
fn too_few_values(left: &Left<'_>, fitting: &[usize], variant: &PoolVariant) -> Reason {
    let counted = min_values::keys(variant).map(|(key, wanted)| {
        let candidates = fitting.iter().copied();
        let values: BTreeSet<String> = candidates
            .filter(|index| left.available(*index).is_some())
            .filter_map(|index| {
                let labels = left.supply.labels(index)?;
                labels.label(key).map(str::to_owned)
            })
            .collect();
        (values.len(), key, wanted)
    });
    let worst = counted.min_by_key(|(found, key, wanted)| (*found >= *wanted, *key));
    let (detail, miss) = match worst {
        Some((found, key, wanted)) if found < wanted => (
            format!(
                "what fits the pod has {found} of the {wanted} values of {key} that the NodePool's minValues asks \
                 for; lower minValues or widen spec.template.spec.requirements"
            ),
            Some(format!("minValues {found} of {key} would do")),
        ),
        Some((_found, key, wanted)) => (
            format!(
                "what fits the pod together with others on its node has fewer than the {wanted} values of {key} \
                 that the NodePool's minValues asks for; lower minValues or widen spec.template.spec.requirements"
            ),
            Some(format!("fewer minValues of {key} than {wanted} would do")),
        ),
        None => (
            "no offering of the NodePool could be planned for the pod".to_owned(),
            None,
        ),
    };
    (ReasonKind::RequirementsIncompatible, detail, miss)
}

fn pool_of(supply: &Supply, candidate: usize) -> Option<&str> {
    let variant = supply.candidates.get(candidate)?.variant;
    Some(&supply.variants.get(variant)?.pool.name)
}
