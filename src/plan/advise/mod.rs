//! Advice: what requests cost, and what a small change would save.
//!
//! Given a snapshot and settings; given back, for each class of pods that is bought for, what its
//! pods cost and the changes of its requests that make them cheaper. Every change is verified by
//! planning again with it: what the second plan does not confirm is not said. Nothing is changed
//! here.

pub mod change;
pub mod workload;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::money::UsdPerHour;
use crate::model::pod::{Pod, PodSpec};
use crate::model::resources::Resources;
use crate::model::snapshot::Snapshot;
use crate::plan::provision::{ProvisionSettings, provision};
use change::{Change, changes};
use workload::{Workload, workloads};

/// A saving below this share of a workload's cost, in percent, is not worth a change.
const WORTH_PERCENT: i64 = 3;

/// What one workload costs, and what would make it cheaper.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advice {
    /// The workload.
    pub workload: Workload,
    /// Requests of one pod.
    pub requests: Resources,
    /// What all its pods cost, alone on new nodes.
    pub price: UsdPerHour,
    /// No fleet for its pods alone costs less.
    pub lower_bound: UsdPerHour,
    /// The instance types that it is bought, with pods on each: `c5.2xlarge` to 3 means three fit.
    pub fits: BTreeMap<String, usize>,
    /// The resource that sets the price: the one that a reduction by a tenth makes cheaper.
    pub price_setter: Option<String>,
    /// Changes that the second plan confirms, largest saving first.
    pub changes: Vec<ConfirmedChange>,
}

/// A change of requests with what it saves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfirmedChange {
    /// The change.
    pub change: Change,
    /// What all pods of the workload cost with it.
    pub price: UsdPerHour,
    /// Saved, in percent rounded down.
    pub percent: i64,
    /// The instance types that would be bought, with pods on each.
    pub fits: BTreeMap<String, usize>,
}

/// Advice for every workload whose pods wait.
pub fn advise(snapshot: &Snapshot, settings: &ProvisionSettings) -> Vec<Advice> {
    workloads(snapshot)
        .into_iter()
        .filter_map(|(workload, pods)| of_workload(snapshot, settings, workload, &pods))
        .collect()
}

/// The price, bound and fits of a workload's pods alone on new nodes; `None` when some have no
/// place.
struct Cost {
    price: UsdPerHour,
    lower_bound: UsdPerHour,
    fits: BTreeMap<String, usize>,
}

fn of_workload(
    snapshot: &Snapshot,
    settings: &ProvisionSettings,
    workload: Workload,
    pods: &[Arc<Pod>],
) -> Option<Advice> {
    let spec = Arc::clone(&pods.first()?.spec);
    let world = alone(snapshot);
    let now = cost(&world, settings, pods, &spec)?;
    let mut confirmed = Vec::new();
    for change in changes(&world, &workload, &spec) {
        let Some(then) = cost(&world, settings, pods, &change.apply(&spec)) else {
            continue;
        };
        let saved = now.price - then.price;
        let percent = saved.units().saturating_mul(100) / now.price.units().max(1);
        if percent >= WORTH_PERCENT {
            confirmed.push(ConfirmedChange {
                change,
                price: then.price,
                percent,
                fits: then.fits,
            });
        }
    }
    confirmed.sort_by(|left, right| (left.price, &left.change).cmp(&(right.price, &right.change)));
    let confirmed = without_excess(&confirmed, &spec);
    Some(Advice {
        price_setter: price_setter(&world, settings, pods, &spec, now.price),
        requests: spec.requests.clone(),
        price: now.price,
        lower_bound: now.lower_bound,
        fits: now.fits,
        workload,
        changes: confirmed,
    })
}

/// Drops every change that cuts at least as much as another one everywhere and saves no more.
fn without_excess(changes: &[ConfirmedChange], spec: &PodSpec) -> Vec<ConfirmedChange> {
    let milder = |one: &ConfirmedChange, other: &ConfirmedChange| {
        one.price <= other.price
            && one.change != other.change
            && spec.requests.iter().all(|(name, amount)| {
                let left = |change: &Change| match change.requests.get(name) {
                    0 => amount,
                    changed => changed,
                };
                left(&one.change) >= left(&other.change)
            })
    };
    changes
        .iter()
        .filter(|change| !changes.iter().any(|other| milder(other, change)))
        .cloned()
        .collect()
}

/// The world without what runs: what pods cost when they are bought for.
fn alone(snapshot: &Snapshot) -> Snapshot {
    let mut world = snapshot.clone();
    world.pods.clear();
    world.nodes.clear();
    world.claims.clear();
    world
}

fn cost(
    world: &Snapshot,
    settings: &ProvisionSettings,
    pods: &[Arc<Pod>],
    spec: &PodSpec,
) -> Option<Cost> {
    let mut world = world.clone();
    let spec = Arc::new(spec.clone());
    for pod in pods {
        let pod = Pod {
            spec: Arc::clone(&spec),
            ..Pod::clone(pod)
        };
        world.pods.insert(pod.key.clone(), Arc::new(pod));
    }
    let plan = provision(&world, settings);
    if !plan.unschedulable.is_empty() || plan.new_nodes.is_empty() {
        return None;
    }
    let mut fits = BTreeMap::new();
    for node in &plan.new_nodes {
        if let Some(key) = node.offerings.first() {
            let most = fits.entry(key.instance_type.to_string()).or_insert(0);
            *most = node.pods.len().max(*most);
        }
    }
    Some(Cost {
        price: plan.price,
        lower_bound: plan.lower_bound,
        fits,
    })
}

/// The resource whose reduction by a tenth saves most, if any saves anything.
fn price_setter(
    world: &Snapshot,
    settings: &ProvisionSettings,
    pods: &[Arc<Pod>],
    spec: &PodSpec,
    price: UsdPerHour,
) -> Option<String> {
    let mut best: Option<(UsdPerHour, String)> = None;
    for (name, amount) in spec.requests.iter() {
        if amount < 10 {
            continue;
        }
        let mut less = spec.clone();
        less.requests.set(name, amount - amount / 10);
        let Some(then) = cost(world, settings, pods, &less) else {
            continue;
        };
        if then.price < price && best.as_ref().is_none_or(|(least, _)| then.price < *least) {
            best = Some((then.price, name.to_owned()));
        }
    }
    best.map(|(_price, name)| name)
}
