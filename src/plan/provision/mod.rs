//! Provisioning: which nodes to buy for the pods that wait, and why the rest waits.
//!
//! Given a snapshot and settings, [`provision`] gives back a plan: which pods go onto which
//! existing, in-flight or new nodes, each new node with its alternatives, and reasons for every pod
//! left out. Equal inputs give equal plans. Nothing is bought or written here.

pub mod assemble;
pub mod bits;
pub mod buy;
pub mod class;
pub mod contested;
pub mod daemons;
pub mod demand;
pub mod fill;
pub mod item;
pub mod labels;
pub mod limits;
pub mod pack;
pub mod promise;
pub mod reasons;
pub mod settings;
pub mod stock;
pub mod supply;

pub use settings::{ContestedPods, ProvisionSettings};

use assemble::{Parts, Pods};
use bits::Bits;
use buy::Purchase;
use class::Class;
use daemons::Daemons;
use item::Item;
use limits::Rooms;
use stock::{Bin, BinName};

use crate::model::report::ProvisioningPlan;
use crate::model::snapshot::Snapshot;

/// Plans for the pods of a snapshot that wait for a node.
///
/// Room on nodes that exist or are on their way comes first; then new nodes at the least price that
/// the search finds within its budget.
pub fn provision(snapshot: &Snapshot, settings: &ProvisionSettings) -> ProvisioningPlan {
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
    let (items, mut left) = items(&classes);

    let mut states = fill::states(&bins, &dimensions);
    fill::fill(&items, &classes, &bins, &mut states, &mut left);
    let mut rooms = Rooms::of(&supply);
    let purchase = buy::buy(&items, &supply, &capacities, &mut rooms, &mut left);

    let parts = Parts {
        classes: &classes,
        items: &items,
        supply: &supply,
        capacities: &capacities,
        settings,
    };
    let mut plan = ProvisioningPlan::default();
    let mut pods = Pods::of(&classes);
    record_bins(&mut plan, &bins, &states, &items, &mut pods);
    record_nodes(&mut plan, &purchase, &parts, &mut pods);
    let none = Bits::default();
    for (index, names) in pods.rest() {
        let Some(class) = classes.get(index) else {
            continue;
        };
        let left = reasons::Left {
            supply: &supply,
            dimensions: &dimensions,
            rooms: &rooms,
            limited: purchase.limited.get(index).unwrap_or(&none),
            topology: None,
            contested: contested.get(index).copied().flatten(),
        };
        let why = reasons::explain(class, &left);
        for pod in names {
            plan.unschedulable.insert(pod.clone(), why.clone());
        }
    }
    plan
}

/// The items of the classes, and how many of each need a place: none of a class that cannot be
/// placed as it is written.
fn items(classes: &[Class]) -> (Vec<Item>, Vec<u32>) {
    let items: Vec<Item> = classes
        .iter()
        .enumerate()
        .map(|(index, class)| Item::of_class(index, class))
        .collect();
    let broken = |(class, _each): &(usize, u32)| {
        classes
            .get(*class)
            .is_some_and(|class| class.problem.is_some())
    };
    let left = items
        .iter()
        .map(|item| {
            if item.content.iter().any(broken) {
                0
            } else {
                item.count
            }
        })
        .collect();
    (items, left)
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
    plan.new_nodes.sort_by(|left, right| {
        (&left.node_pool, &left.offerings, &left.pods).cmp(&(
            &right.node_pool,
            &right.offerings,
            &right.pods,
        ))
    });
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
