//! Existing room first, then new nodes, until every constraint between pods holds and every node keeps its
//! NodePool's minValues.

use std::collections::{BTreeMap, BTreeSet};

use super::buy::{self, Purchase};
use super::fill;
use super::item::Item;
use super::limits::Rooms;
use super::min_values::{self, Crowded};
use super::reserved;
use super::topology;
use super::topology::failure::Failure;
use super::topology::outcome::Excess;
use crate::plan::pack::Bits;
use crate::plan::pack::problem::Relation;

/// What does not change while a round looks for places.
#[derive(Clone, Copy)]
pub(super) struct World<'round> {
    pub(super) stage: topology::Stage<'round>,
    /// What may be used of each candidate, by dimension.
    pub(super) capacities: &'round [Vec<i64>],
    /// What each candidate offers in all.
    pub(super) whole: &'round [Vec<i64>],
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
    /// By class the candidates that limits kept some of its pods from.
    pub(super) limited: BTreeMap<usize, Bits>,
}

/// How often pods that would break a constraint are taken out and the rest is placed anew.
const REPAIRS: usize = 8;

/// Fills bins and buys nodes until no pod that is placed breaks a constraint between pods, and no node has too
/// few alternatives.
pub(super) fn place(arranged: &mut topology::Arranged, world: &World<'_>) -> Placement {
    let mut repairs = 0;
    // What a limit kept out is taken out before the next repair, so that the last purchase no longer knows it.
    let mut limited = BTreeMap::new();
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
        for (item, bits) in items.iter().zip(&purchase.limited) {
            add_limited(&mut limited, item, bits);
        }
        let placed: Vec<u32> = items
            .iter()
            .zip(&left)
            .map(|(item, left)| item.count.saturating_sub(*left))
            .collect();
        let mut drop = arranged.assignment.broken(items, &placed);
        drop.extend(alone(items, &placed));
        let mut crowded = Vec::new();
        if drop.is_empty() {
            let (supply, nodes) = (world.stage.supply, &purchase.nodes);
            crowded = min_values::crowded(supply, world.whole, items, nodes);
        }
        if drop.is_empty() && crowded.is_empty() {
            return Placement {
                states,
                rooms,
                purchase,
                limited,
            };
        }
        repairs += 1;
        let again = repairs < REPAIRS;
        for found in crowded {
            loosen(arranged, found, &placed, again);
        }
        for (index, excess) in drop {
            if let Some(item) = arranged.items.get(index) {
                let kept_out = kept_out_company(arranged, item, &purchase);
                add_limited(&mut limited, item, &item.may_use().and(&kept_out));
            }
            let placed = placed.get(index).copied().unwrap_or(0);
            repair(arranged, (index, placed), excess, again);
        }
    }
}

/// Takes out what is too many of an item, or all of it where that may not be tried again.
fn repair(
    arranged: &mut topology::Arranged,
    (index, placed): (usize, u32),
    excess: Excess,
    again: bool,
) {
    match excess {
        Excess::Pods { class, count } if again => thin_out(arranged, index, class, count),
        Excess::Items(excess) if again => {
            lose_company(arranged, index, placed.saturating_sub(excess));
        }
        Excess::Items(_) | Excess::Pods { .. } => lose_company(arranged, index, 0),
    }
}

/// What limits kept those from whom an item counts on: it has no place for the same reason.
fn kept_out_company(arranged: &topology::Arranged, item: &Item, purchase: &Purchase) -> Bits {
    let others = arranged.items.iter().zip(&purchase.limited);
    let mut company = others
        .filter(|(_other, bits)| !bits.is_empty())
        .filter(|(other, _bits)| arranged.assignment.counts_on(item, other))
        .map(|(_other, bits)| bits);
    let mut kept_out = company.next().cloned().unwrap_or_default();
    for bits in company {
        kept_out.add_all(bits);
    }
    kept_out
}

/// Adds candidates that limits kept from the classes of an item.
fn add_limited(limited: &mut BTreeMap<usize, Bits>, item: &Item, bits: &Bits) {
    if bits.is_empty() {
        return;
    }
    for (class, _each) in &item.content {
        let known = limited.entry(*class).or_insert_with(|| bits.clone());
        known.add_all(bits);
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
        failed.get_or_insert_with(Failure::no_company);
    }
}

/// Changes items so that the minValues of nodes can be kept: they are kept apart as long as that may be tried
/// again, and else taken out.
fn loosen(arranged: &mut topology::Arranged, crowded: Crowded, placed: &[u32], again: bool) {
    match crowded {
        Crowded::Apart { item, others } if again => keep_apart(&mut arranged.items, item, &others),
        Crowded::Fewer { item, count } if again => {
            let placed = placed.get(item).copied().unwrap_or(0);
            take_out(arranged, item, placed.saturating_sub(count));
        }
        Crowded::Apart { item, .. } | Crowded::Fewer { item, .. } => take_out(arranged, item, 0),
    }
}

/// Keeps an item off the nodes that these others are on. Its parts do not know it: the lower bound counts on
/// nothing that was decided here.
fn keep_apart(items: &mut [Item], item: usize, others: &BTreeSet<usize>) {
    // The numbers of the groups that constraints make begin at the other end.
    let group = u32::MAX - u32::try_from(item).unwrap_or(u32::MAX);
    let mut add = |index: usize, weight: u32, cap: Option<u32>| {
        if let Some(item) = items.get_mut(index)
            && !item.relations.iter().any(|own| own.group == group)
        {
            item.relations.push(Relation { group, weight, cap });
        }
    };
    add(item, 0, Some(0));
    for other in others {
        add(*other, 1, None);
    }
}

/// Leaves only so many of an item, for want of pods that it counts on.
fn lose_company(arranged: &mut topology::Arranged, index: usize, keep: u32) {
    let content = arranged.items.get(index).map(|item| &item.content);
    for (class, _each) in content.into_iter().flatten() {
        if let Some(failed) = arranged.failed.get_mut(*class) {
            failed.get_or_insert_with(Failure::no_company);
        }
    }
    take_out(arranged, index, keep);
}

/// Leaves only so many of an item; of what goes, the leaders stay by themselves if they may.
fn take_out(arranged: &mut topology::Arranged, index: usize, keep: u32) {
    let Some(item) = arranged.items.get_mut(index) else {
        return;
    };
    let gone = item.count.saturating_sub(keep);
    item.count = keep;
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
