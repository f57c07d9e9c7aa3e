//! Provisioning: which nodes to buy for the pods that wait, and why the rest waits.
//!
//! Given a snapshot and settings, [`provision`] gives back a plan: which pods go onto which
//! existing, in-flight or new nodes, each new node with its alternatives, and reasons for every pod
//! left out. Equal inputs give equal plans. Nothing is bought or written here.

pub mod assemble;
pub mod buy;
mod by_priority;
pub mod certificate;
pub mod class;
pub mod contested;
pub mod daemons;
pub mod default_spread;
pub mod demand;
pub mod disagreement;
mod fewer;
mod fewer_slots;
pub mod fill;
pub mod item;
pub mod labels;
pub mod levels;
pub mod limits;
pub mod min_values;
pub mod mix;
pub mod occupants;
mod place;
pub mod pods;
pub mod promise;
pub mod reach;
pub mod reasons;
mod reserved;
pub mod risk;
pub mod settings;
pub mod shared_claims;
pub mod slots;
pub mod stock;
pub mod supply;
pub mod topology;
pub mod turns;
mod weigh;
mod wishes;

pub use settings::{ContestedPods, Premium, ProvisionSettings};

use std::collections::BTreeMap;

use assemble::Parts;
use buy::{Bought, Proof, Purchase};
use class::Class;
use daemons::Daemons;
use demand::PodClass;
use item::Item;
use limits::Rooms;
use mix::Mix;
use pods::{Pods, Takers};
use stock::{Bin, BinName};
use topology::sequence::Sequence;
use turns::Turns;
use wishes::{Ground, Wishes};

use crate::model::money::UsdPerHour;
use crate::model::pod::PodKey;
use crate::model::report::{ProvisioningPlan, Unschedulable};
use crate::model::snapshot::Snapshot;

/// Plans for the pods of a snapshot that wait for a node.
///
/// Room on nodes that exist or are on their way comes first; then new nodes at the least price that
/// the search finds within its budget.
pub fn provision(snapshot: &Snapshot, settings: &ProvisionSettings) -> ProvisioningPlan {
    provision_guarded(snapshot, settings, &|| false)
}

/// As [`provision`], with a wall-clock guard: when `over` says so the search ends early, and the plan
/// is valid but marked `truncated`. It is the one thing that may make two plans differ.
pub fn provision_guarded(
    snapshot: &Snapshot,
    settings: &ProvisionSettings,
    over: &dyn Fn() -> bool,
) -> ProvisioningPlan {
    provision_proven(snapshot, settings, over).0
}

/// As [`provision_guarded`], with the proofs of the lower bound as the packer's checker verifies them.
pub fn provision_proven(
    snapshot: &Snapshot,
    settings: &ProvisionSettings,
    over: &dyn Fn() -> bool,
) -> (ProvisioningPlan, Vec<Proof>) {
    let mut passed: BTreeMap<PodKey, Unschedulable> = BTreeMap::new();
    for _more in 1..turns::MOST_ROUNDS {
        let (turns, plan, proofs) = round(snapshot, settings, over, &passed);
        let stuck = turns.stuck(&plan);
        if stuck.is_empty() {
            return (plan, proofs);
        }
        passed.extend(stuck);
    }
    let (_turns, plan, proofs) = round(snapshot, settings, over, &passed);
    (plan, proofs)
}

/// One round, in which the pods of `passed` make way for others that wait for the same claims.
fn round(
    snapshot: &Snapshot,
    settings: &ProvisionSettings,
    over: &dyn Fn() -> bool,
    passed: &BTreeMap<PodKey, Unschedulable>,
) -> (Turns, ProvisioningPlan, Vec<Proof>) {
    let mut waiting = default_spread::classes(snapshot, &settings.default_spread);
    let turns = Turns::take(snapshot, &mut waiting, passed);
    let (mut plan, proofs) = planned(snapshot, settings, over, waiting);
    plan.unschedulable.extend(turns.later.clone());
    (turns, plan, proofs)
}

fn planned(
    snapshot: &Snapshot,
    settings: &ProvisionSettings,
    over: &dyn Fn() -> bool,
    waiting: Vec<PodClass>,
) -> (ProvisioningPlan, Vec<Proof>) {
    if waiting.is_empty() {
        return (ProvisioningPlan::default(), Vec::new());
    }
    let daemons = Daemons::of(snapshot);
    let mut classes = class::read(snapshot, waiting);
    let supply = supply::supply(snapshot, &daemons, &class::wanted_values(&classes));
    let dimensions = class::dimensions(&classes);
    class::match_candidates(
        &mut classes,
        &supply,
        &dimensions,
        settings.drivers_on_demand,
    );
    occupants::narrow(snapshot, &daemons, &supply, &mut classes);
    let contested = contested(snapshot, settings, &mut classes);
    let capacities = class::dense_supply(&dimensions, &supply);
    let usable = min_values::usable(&supply, &capacities);
    let bins = stock::bins(snapshot, &daemons);
    let suitable = fill::bins_of_classes(snapshot, &classes, &bins);
    let ground = Ground {
        snapshot,
        supply: &supply,
        bins: &bins,
        suitable: &suitable,
        capacities: &capacities,
        usable: &usable,
        dimensions: &dimensions,
        premium: settings.preference_premium,
        budget: settings.budget_units,
        over,
    };
    let wishes = Wishes::read(&ground, &classes, settings.drivers_on_demand);
    let (fleet, compared) = wishes::best(&ground, classes, &wishes);
    let told = wishes::told(&wishes, &supply, (&fleet, compared.as_ref()));
    let (classes, arranged, placement) = (fleet.classes, fleet.arranged, fleet.placement);
    let (mut rooms, purchase) = (placement.rooms, placement.purchase);
    let items = arranged.items;

    let parts = Parts {
        classes: &classes,
        items: &items,
        supply: &supply,
        capacities: &capacities,
        dimensions: &dimensions,
        settings,
        by_price: &assemble::by_price(&supply),
    };
    let mut plan = ProvisioningPlan {
        wishes: told,
        ..ProvisioningPlan::default()
    };
    let world = (snapshot, classes.as_slice());
    let filled = (bins.as_slice(), placement.states.as_slice());
    let bought = (items.as_slice(), purchase.nodes.as_slice());
    let mut pods = record_bins(&mut plan, world, filled, bought, arranged.sequences);
    let mix = Mix::of(snapshot);
    record_nodes(&mut plan, &purchase, &parts, (mix, &mut rooms), &mut pods);
    for (index, names) in pods.rest() {
        let left = reasons::Left {
            supply: &supply,
            capacities: &capacities,
            rooms: &rooms,
            limited: placement.limited.get(&index),
            topology: arranged.failed.get(index).and_then(Option::as_ref),
            contested: contested.get(index).copied().flatten(),
        };
        if let Some(class) = classes.get(index) {
            leave_out(&mut plan, (snapshot, class), &names, &left);
        }
    }
    (plan, purchase.proofs)
}

fn record_nodes(
    plan: &mut ProvisioningPlan,
    purchase: &Purchase,
    parts: &Parts<'_>,
    (mut mix, rooms): (Mix, &mut Rooms),
    pods: &mut Pods<'_>,
) {
    for node in &purchase.nodes {
        if let Some(planned) = parts.planned(node, &mut mix, rooms, pods) {
            plan.price += planned.price + planned.fees;
            plan.new_nodes.push(planned);
        }
    }
    plan.truncated = purchase.truncated;
    let proven: i64 = purchase
        .proofs
        .iter()
        .fold(0, |sum, proof| sum.saturating_add(proof.bound));
    plan.lower_bound = UsdPerHour::from_units(proven).min(plan.price);
    plan.certificate = certificate::of(purchase, parts);
    plan.new_nodes.sort_by(|left, right| {
        (&left.node_pool, &left.offerings, &left.pods).cmp(&(
            &right.node_pool,
            &right.offerings,
            &right.pods,
        ))
    });
}

/// Records why pods of a class are left out.
fn leave_out(
    plan: &mut ProvisioningPlan,
    (snapshot, class): (&Snapshot, &Class),
    pods: &[&PodKey],
    left: &reasons::Left<'_>,
) {
    let explained = reasons::explain(class, left);
    let with_reasons = pods.iter().map(|key| {
        let why = match snapshot.pods.get(*key) {
            Some(pod) if !explained.absent.is_empty() => {
                reasons::volumes::of_pod(&explained, snapshot, &pod.spec)
            }
            _ => explained.why.clone(),
        };
        (PodKey::clone(key), why)
    });
    plan.unschedulable.extend(with_reasons);
}

/// Takes the candidates from classes that are left to another provisioner.
fn contested<'world>(
    snapshot: &'world Snapshot,
    settings: &ProvisionSettings,
    classes: &mut [Class],
) -> Vec<Option<&'world str>> {
    classes
        .iter_mut()
        .map(|class| {
            if settings.contested_pods == ContestedPods::Take {
                return None;
            }
            let contender = contested::contender(snapshot, class)?;
            class.levels.clear();
            Some(contender)
        })
        .collect()
}

/// Deals the pods out, and records those that bins take; those of new nodes are left to be taken.
fn record_bins<'world>(
    plan: &mut ProvisioningPlan,
    (snapshot, classes): (&'world Snapshot, &'world [Class]),
    (bins, states): (&'world [Bin], &[fill::BinState]),
    (items, nodes): (&[Item], &[Bought]),
    sequences: BTreeMap<usize, Sequence>,
) -> Pods<'world> {
    let taken: Vec<(&BinName, &[(usize, u32)])> = bins
        .iter()
        .zip(states)
        .filter(|(_bin, state)| !state.taken.is_empty())
        .map(|(bin, state)| (&bin.name, state.taken.as_slice()))
        .collect();
    let takers = Takers {
        items,
        bins: &taken,
        nodes,
    };
    let expected = pods::expected(snapshot, bins);
    let (pods, named) = Pods::dealt((snapshot, classes), &expected, sequences, takers);
    for ((bin, _taken), names) in taken.iter().zip(named) {
        if names.is_empty() {
            continue;
        }
        match bin {
            BinName::Node(name) => plan.existing.insert(name.clone(), names),
            BinName::Claim(name) => plan.in_flight.insert(name.clone(), names),
        };
    }
    pods
}

#[cfg(test)]
mod tests;
