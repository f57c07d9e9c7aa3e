//! Room that is there already comes first: it costs nothing more.
//!
//! Given items and bins; given back which bin takes how many of which item. First every promise is
//! kept, then the items with the fewest places go first. Bins are taken in order.

use std::collections::BTreeSet;

use super::class::{self, Class};
use super::item::Item;
use super::labels::Labelled;
use super::stock::{Bin, BinName};
use crate::model::snapshot::Snapshot;
use crate::model::taint::first_untolerated;
use crate::plan::pack::problem::{Loads, take, times_into};

/// A bin in the dimensions of the problem.
#[derive(Debug, Clone)]
pub struct BinState {
    /// What is left.
    pub free: Vec<i64>,
    /// Groups of what is on it.
    pub loads: Loads,
    /// Taken so far: item and how many.
    pub taken: Vec<(usize, u32)>,
}

/// The state of every bin before anything is placed.
pub fn states(bins: &[Bin], dimensions: &[String], loads: Vec<Loads>) -> Vec<BinState> {
    bins.iter()
        .zip(loads)
        .map(|(bin, loads)| BinState {
            free: class::dense(dimensions, &bin.free, &bin.volume_room),
            loads,
            taken: Vec::new(),
        })
        .collect()
}

/// Places what it can; `left` is how many of each item still need a place.
pub fn fill(
    items: &[Item],
    classes: &[Class],
    bins: &[Bin],
    states: &mut [BinState],
    left: &mut [u32],
    of_class: &[Vec<usize>],
) {
    if bins.is_empty() {
        return;
    }
    let suitable: Vec<Vec<usize>> = suitable_bins(items, of_class, bins);
    keep_promises(items, classes, bins, &suitable, states, left);
    let mut order: Vec<usize> = (0..items.len()).collect();
    order.sort_by_key(|index| {
        let item = items.get(*index);
        let places = suitable.get(*index).map_or(0, Vec::len);
        let size: i64 = item.map_or(0, |item| item.size.iter().copied().max().unwrap_or(0));
        (
            std::cmp::Reverse(item.map_or(0, |item| item.priority)),
            places,
            std::cmp::Reverse(size),
            *index,
        )
    });
    for index in order {
        for bin in suitable.get(index).into_iter().flatten() {
            place(items, index, *bin, states, left, u32::MAX);
        }
    }
}

/// Places up to `most` of an item on a bin.
fn place(
    items: &[Item],
    index: usize,
    bin: usize,
    states: &mut [BinState],
    left: &mut [u32],
    most: u32,
) {
    let (Some(item), Some(state), Some(left)) =
        (items.get(index), states.get_mut(bin), left.get_mut(index))
    else {
        return;
    };
    let count = times_into(&item.size, &state.free, (*left).min(most))
        .min(state.loads.room(&item.relations));
    if count > 0 {
        take(&mut state.free, &item.size, count);
        state.loads.add(&item.relations, count);
        state.taken.push((index, count));
        *left -= count;
    }
}

fn keep_promises(
    items: &[Item],
    classes: &[Class],
    bins: &[Bin],
    suitable: &[Vec<usize>],
    states: &mut [BinState],
    left: &mut [u32],
) {
    // Pods that must share a node first: they have no other way.
    let mut order: Vec<usize> = (0..items.len()).collect();
    order.sort_by_key(|index| {
        let alone = items
            .get(*index)
            .is_some_and(|item| item.main_class().is_some());
        (alone, *index)
    });
    let hash = |class: usize| classes.get(class).map(|class| class.hash);
    for (bin_index, bin) in bins.iter().enumerate() {
        let mut promised = bin.promised.clone();
        if promised.values().all(|count| *count == 0) {
            continue;
        }
        for index in &order {
            let Some(item) = items.get(*index) else {
                continue;
            };
            let open = item
                .content
                .iter()
                .map(|(class, each)| {
                    let open = hash(*class).and_then(|hash| promised.get(&hash)).copied();
                    open.unwrap_or(0) / (*each).max(1)
                })
                .min()
                .unwrap_or(0);
            if open == 0 || !suitable.get(*index).is_some_and(|s| s.contains(&bin_index)) {
                continue;
            }
            let before = left.get(*index).copied().unwrap_or(0);
            place(items, *index, bin_index, states, left, open);
            let kept = before - left.get(*index).copied().unwrap_or(0);
            for (class, each) in &item.content {
                if let Some(open) = hash(*class).and_then(|hash| promised.get_mut(&hash)) {
                    *open = open.saturating_sub(kept.saturating_mul(*each));
                }
            }
        }
    }
}

/// The bins that suit each class, by labels and taints; those that were found not to take one of its pods
/// do not.
pub fn bins_of_classes(snapshot: &Snapshot, classes: &[Class], bins: &[Bin]) -> Vec<Vec<usize>> {
    classes
        .iter()
        .map(|class| {
            let refused = refused(snapshot, class);
            let refuses = |bin: &Bin| match &bin.name {
                BinName::Node(name) => refused.contains(name),
                BinName::Claim(_) => false,
            };
            bins.iter()
                .enumerate()
                .filter(|(_index, bin)| suits(class, bin) && !refuses(bin))
                .map(|(index, _bin)| index)
                .collect()
        })
        .collect()
}

/// The Nodes that kube-scheduler does not bind a pod of the class to, whatever the reason.
fn refused<'world>(snapshot: &'world Snapshot, class: &Class) -> BTreeSet<&'world String> {
    if snapshot.refused.is_empty() {
        return BTreeSet::new();
    }
    let nodes = class
        .pods
        .iter()
        .filter_map(|pod| snapshot.refused.get(pod));
    nodes.flatten().collect()
}

fn suitable_bins(items: &[Item], per_class: &[Vec<usize>], bins: &[Bin]) -> Vec<Vec<usize>> {
    items
        .iter()
        .map(|item| {
            let mut of_all: Option<Vec<usize>> = None;
            for (class, _count) in &item.content {
                let own = per_class.get(*class).cloned().unwrap_or_default();
                of_all = Some(match of_all {
                    None => own,
                    Some(known) => known.into_iter().filter(|bin| own.contains(bin)).collect(),
                });
            }
            let domains = |bin: &usize| {
                bins.get(*bin).is_some_and(|bin| {
                    let mut domains = item.domains.iter();
                    domains.all(|domain| domain.accepts(bin.label(&domain.key)))
                })
            };
            of_all
                .unwrap_or_default()
                .into_iter()
                .filter(domains)
                .collect()
        })
        .collect()
}

/// True when the bin's labels, taints and DaemonSet pods to come suit the class.
pub fn suits(class: &Class, bin: &Bin) -> bool {
    class.problem.is_none()
        && first_untolerated(&bin.taints, &class.spec.tolerations).is_none()
        && class.demand.accepts(bin)
        && class.occupants.suit(bin)
}
