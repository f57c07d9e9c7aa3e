//! Existing room first, then new nodes, until every constraint between pods holds.

use super::buy::{self, Purchase};
use super::fill;
use super::item::Item;
use super::limits::Rooms;
use super::reserved;
use super::topology;
use super::topology::outcome::Excess;

/// What does not change while a round looks for places.
#[derive(Clone, Copy)]
pub(super) struct World<'round> {
    pub(super) stage: topology::Stage<'round>,
    pub(super) capacities: &'round [Vec<i64>],
    pub(super) budget: u64,
    /// Whether lower bounds are wanted.
    pub(super) proves: bool,
    pub(super) over: &'round dyn Fn() -> bool,
}

/// Where everything went.
pub(super) struct Placement {
    pub(super) states: Vec<fill::BinState>,
    pub(super) rooms: Rooms,
    pub(super) purchase: Purchase,
}

const NO_COMPANY: &str = "pods that its spread or affinity counts on have no place themselves";

/// How often pods that would break a constraint are taken out and the rest is placed anew.
const REPAIRS: usize = 8;

/// Fills bins and buys nodes until no pod that is placed breaks a constraint between pods.
pub(super) fn place(arranged: &mut topology::Arranged, world: &World<'_>) -> Placement {
    let mut repairs = 0;
    let sold = reserved::sold(world.stage.supply);
    loop {
        let items = &arranged.items;
        let mut left: Vec<u32> = items.iter().map(|item| item.count).collect();
        let mut states = fill::states(
            world.stage.bins,
            world.stage.dimensions,
            arranged.bin_loads.clone(),
        );
        fill::fill(
            items,
            world.stage.classes,
            world.stage.bins,
            &mut states,
            &mut left,
            world.stage.suitable,
        );
        let mut rooms = Rooms::of(world.stage.supply);
        let market = buy::Market {
            sold: &sold,
            items,
            classes: world.stage.classes,
            supply: world.stage.supply,
            capacities: world.capacities,
            budget: world.budget,
            proves: world.proves,
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
            let placed = placed.get(index).copied().unwrap_or(0);
            match excess {
                Excess::Pods { class, count } if repairs < REPAIRS => {
                    thin_out(arranged, index, class, count);
                }
                Excess::Items(excess) if repairs < REPAIRS => {
                    take_out(arranged, index, placed.saturating_sub(excess));
                }
                Excess::Items(_) | Excess::Pods { .. } => take_out(arranged, index, 0),
            }
        }
    }
}

/// Bundles that found no place: their leaders may find one without those that follow them.
fn alone(items: &[Item], placed: &[u32]) -> Vec<(usize, Excess)> {
    items
        .iter()
        .zip(placed)
        .enumerate()
        .filter(|(_index, (item, placed))| item.leader.is_some() && **placed < item.count)
        .map(|(index, _)| (index, Excess::Items(0)))
        .collect()
}

/// Takes so many pods of a class out of an item; the others stay together.
fn thin_out(arranged: &mut topology::Arranged, index: usize, class: usize, count: u32) {
    let Some(item) = arranged.items.get_mut(index) else {
        return;
    };
    item.remove(class, count);
    if let Some(failed) = arranged.failed.get_mut(class) {
        failed.get_or_insert_with(|| NO_COMPANY.to_owned());
    }
}

/// Leaves only so many of an item; of what goes, the leaders stay by themselves if they may.
fn take_out(arranged: &mut topology::Arranged, index: usize, keep: u32) {
    let Some(item) = arranged.items.get_mut(index) else {
        return;
    };
    let gone = item.count.saturating_sub(keep);
    item.count = keep;
    for (class, _each) in &item.content {
        if let Some(failed) = arranged.failed.get_mut(*class) {
            failed.get_or_insert_with(|| NO_COMPANY.to_owned());
        }
    }
    if gone == 0 {
        return;
    }
    let mut leader = item.leader.clone();
    while let Some(found) = leader {
        if arranged.assignment.stands_alone(&found) {
            arranged.items.push(Item {
                count: gone,
                ..*found
            });
            return;
        }
        leader = found.leader;
    }
}
