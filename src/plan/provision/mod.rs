//! Provisioning: which nodes to buy for the pods that wait, and why the rest waits.
//!
//! Given a snapshot and settings, [`provision`] gives back a plan: which pods go onto which
//! existing, in-flight or new nodes, each new node with its alternatives, and reasons for every pod
//! left out. Equal inputs give equal plans. Nothing is bought or written here.

pub mod assemble;
pub mod buy;
pub mod certificate;
pub mod class;
pub mod contested;
pub mod daemons;
pub mod demand;
pub mod fill;
pub mod item;
pub mod labels;
pub mod limits;
pub mod promise;
pub mod reasons;
pub mod settings;
pub mod stock;
pub mod supply;
pub mod topology;

pub use settings::{ContestedPods, ProvisionSettings};

use crate::plan::pack::Bits;
use assemble::{Parts, Pods};
use buy::Purchase;
use class::Class;
use daemons::Daemons;
use item::Item;
use limits::Rooms;
use stock::{Bin, BinName};

use crate::model::money::UsdPerHour;
use crate::model::report::ProvisioningPlan;
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
    let waiting = demand::classes(snapshot);
    if waiting.is_empty() {
        return ProvisioningPlan::default();
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
    let contested = contested(snapshot, settings, &mut classes);
    let capacities = class::dense_supply(&dimensions, &supply);
    let bins = stock::bins(snapshot, &daemons);
    let suitable = fill::bins_of_classes(&classes, &bins);
    let mut arranged =
        topology::arrange(snapshot, &classes, &supply, &bins, &suitable, &dimensions);
    let placed = place(
        &mut arranged,
        &World {
            classes: &classes,
            supply: &supply,
            capacities: &capacities,
            bins: &bins,
            suitable: &suitable,
            dimensions: &dimensions,
            budget: settings.budget_units,
            over,
        },
    );
    let Placement {
        states,
        rooms,
        purchase,
    } = placed;
    let items = arranged.items;

    let parts = Parts {
        classes: &classes,
        items: &items,
        supply: &supply,
        capacities: &capacities,
        dimensions: &dimensions,
        settings,
    };
    let mut plan = ProvisioningPlan::default();
    let mut pods = Pods::of(&classes);
    record_bins(&mut plan, &bins, &states, &items, &mut pods);
    record_nodes(&mut plan, &purchase, &parts, &mut pods);
    let limited = limited_by_class(&classes, &items, &purchase, supply.candidates.len());
    let none = Bits::default();
    for (index, names) in pods.rest() {
        let Some(class) = classes.get(index) else {
            continue;
        };
        let left = reasons::Left {
            supply: &supply,
            dimensions: &dimensions,
            rooms: &rooms,
            limited: limited.get(index).unwrap_or(&none),
            topology: arranged.failed.get(index).and_then(Option::as_deref),
            contested: contested.get(index).copied().flatten(),
        };
        let why = reasons::explain(class, &left);
        for pod in names {
            plan.unschedulable.insert(pod.clone(), why.clone());
        }
    }
    plan
}

/// What does not change while a round looks for places.
struct World<'round> {
    classes: &'round [Class],
    supply: &'round supply::Supply,
    capacities: &'round [Vec<i64>],
    bins: &'round [Bin],
    suitable: &'round [Vec<usize>],
    dimensions: &'round [String],
    budget: u64,
    over: &'round dyn Fn() -> bool,
}

/// Where everything went.
struct Placement {
    states: Vec<fill::BinState>,
    rooms: Rooms,
    purchase: Purchase,
}

/// How often pods that would break a constraint are taken out and the rest is placed anew.
const REPAIRS: usize = 8;

/// Fills bins and buys nodes until no pod that is placed breaks a constraint between pods.
fn place(arranged: &mut topology::Arranged, world: &World<'_>) -> Placement {
    let mut repairs = 0;
    loop {
        let items = &arranged.items;
        let mut left: Vec<u32> = items.iter().map(|item| item.count).collect();
        let mut states = fill::states(world.bins, world.dimensions, arranged.bin_loads.clone());
        fill::fill(
            items,
            world.classes,
            world.bins,
            &mut states,
            &mut left,
            world.suitable,
        );
        let mut rooms = Rooms::of(world.supply);
        let market = buy::Market {
            items,
            supply: world.supply,
            capacities: world.capacities,
            budget: world.budget,
            over: world.over,
        };
        let purchase = buy::buy(&market, &mut rooms, &mut left);
        let placed: Vec<u32> = items
            .iter()
            .zip(&left)
            .map(|(item, left)| item.count.saturating_sub(*left))
            .collect();
        let mut drop = arranged.assignment.broken(items, &placed);
        drop.extend(alone(items, &placed));
        if drop.is_empty() {
            return Placement {
                states,
                rooms,
                purchase,
            };
        }
        repairs += 1;
        for (index, excess) in drop {
            let keep = placed
                .get(index)
                .copied()
                .unwrap_or(0)
                .saturating_sub(excess);
            let keep = if repairs < REPAIRS { keep } else { 0 };
            take_out(arranged, index, keep);
        }
    }
}

/// Bundles that found no place: their leaders may find one without those that follow them.
fn alone(items: &[Item], placed: &[u32]) -> Vec<(usize, u32)> {
    items
        .iter()
        .zip(placed)
        .enumerate()
        .filter(|(_index, (item, placed))| item.leader.is_some() && **placed < item.count)
        .map(|(index, _)| (index, 0))
        .collect()
}

/// Leaves only so many of an item; of what goes, the leaders stay by themselves.
fn take_out(arranged: &mut topology::Arranged, index: usize, keep: u32) {
    let Some(item) = arranged.items.get_mut(index) else {
        return;
    };
    let gone = item.count.saturating_sub(keep);
    item.count = keep;
    for (class, _each) in &item.content {
        if let Some(failed) = arranged.failed.get_mut(*class) {
            failed.get_or_insert_with(|| {
                "pods that its spread or affinity counts on have no place themselves".to_owned()
            });
        }
    }
    if let (Some(leader), true) = (item.leader.clone(), gone > 0) {
        arranged.items.push(Item {
            count: gone,
            ..*leader
        });
    }
}

fn record_nodes(
    plan: &mut ProvisioningPlan,
    purchase: &Purchase,
    parts: &Parts<'_>,
    pods: &mut Pods<'_>,
) {
    for node in &purchase.nodes {
        if let Some(planned) = parts.planned(node, pods) {
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

/// The candidates that limits kept from each class.
fn limited_by_class(
    classes: &[Class],
    items: &[Item],
    purchase: &Purchase,
    candidates: usize,
) -> Vec<Bits> {
    let mut limited = vec![Bits::empty(candidates); classes.len()];
    for (item, bits) in items.iter().zip(&purchase.limited) {
        for (class, _each) in &item.content {
            if let Some(known) = limited.get_mut(*class) {
                known.add_all(bits);
            }
        }
    }
    limited
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

fn record_bins(
    plan: &mut ProvisioningPlan,
    bins: &[Bin],
    states: &[fill::BinState],
    items: &[Item],
    pods: &mut Pods<'_>,
) {
    for (bin, state) in bins.iter().zip(states) {
        let mut names = Vec::new();
        for (index, count) in &state.taken {
            if let Some(item) = items.get(*index) {
                names.extend(pods.take(item, *count));
            }
        }
        if names.is_empty() {
            continue;
        }
        names.sort();
        match &bin.name {
            BinName::Node(name) => plan.existing.insert(name.clone(), names),
            BinName::Claim(name) => plan.in_flight.insert(name.clone(), names),
        };
    }
}

#[cfg(test)]
mod tests;
