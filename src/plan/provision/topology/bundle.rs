//! Pods that must share a node become one item.
//!
//! Given items; given back items in which pods with required affinity over single nodes are packed
//! together with what they follow. What does not fit onto one node stays out, with the reason.

use std::collections::{BTreeMap, BTreeSet};

use super::failure::Failure;
use super::group::{Group, Groups, Kind};
use super::world::Placed;
use super::{Arranged, Stage};
use crate::plan::pack::Bits;
use crate::plan::pack::problem::{Loads, Relation, take, times_into};
use crate::plan::provision::class::{self, Class};
use crate::plan::provision::item::{Domain, Item, Part, add_relations};
use crate::plan::provision::labels::{HOSTNAME, Labelled};
use crate::plan::provision::stock::{Bin, BinName};

/// Bundles the items of every class that has required affinity over single nodes.
pub fn bundle(arranged: &mut Arranged, stage: &Stage<'_>, groups: &Groups, placed: &Placed) {
    let Stage {
        classes,
        bins,
        capacities,
        dimensions,
        ..
    } = *stage;
    let on_node: Vec<usize> = groups
        .groups
        .iter()
        .enumerate()
        .filter(|(_index, group)| {
            group.required
                && group.key == HOSTNAME
                && group.kind == Kind::Affinity
                && !group.triggers.is_empty()
        })
        .map(|(index, _group)| index)
        .collect();
    if on_node.is_empty() {
        return;
    }
    let room = Room {
        capacities: capacities.to_vec(),
        bins: bins
            .iter()
            .map(|bin| class::dense(dimensions, &bin.free, &bin.volume_room))
            .collect(),
    };
    for bin in bins {
        keep_together(arranged, classes, groups, &on_node, bin);
    }
    // Pods that must follow what runs already cannot lead anything elsewhere.
    let (following, leading): (Vec<usize>, Vec<usize>) = on_node
        .into_iter()
        .partition(|index| placed.has_members(*index));
    for index in following.into_iter().chain(leaders_first(groups, &leading)) {
        if let Some(group) = groups.groups.get(index) {
            bundle_group(arranged, bins, index, group, placed, &room);
        }
    }
    arranged.items.retain(|item| item.count > 0);
}

/// Groups in the order in which those that lead have a node themselves before others join them; where they wait for
/// each other in a circle, one of them.
fn leaders_first(groups: &Groups, leading: &[usize]) -> Vec<usize> {
    let group = |index: usize| groups.groups.get(index);
    let mut led_by: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
    for index in leading {
        for class in group(*index)
            .into_iter()
            .flat_map(|group| group.triggers.keys())
        {
            led_by.entry(*class).or_default().insert(*index);
        }
    }
    let waits_for = |index: usize, done: &BTreeSet<usize>| {
        let leads = group(index).into_iter().flat_map(|group| {
            let members = group.members.iter();
            members.filter(|class| !group.triggers.contains_key(class))
        });
        let mut needed = leads.filter_map(|class| led_by.get(class)).flatten();
        needed
            .find(|other| **other != index && !done.contains(*other))
            .copied()
    };
    let mut open = leading.to_vec();
    let mut done = BTreeSet::new();
    let mut order = Vec::with_capacity(open.len());
    while let Some(mut next) = open.first().copied() {
        // So many steps at most lead to one that waits for none, or into the circle that all the others hang off.
        for _step in 0..open.len() {
            let Some(other) = waits_for(next, &done) else {
                break;
            };
            next = other;
        }
        open.retain(|index| *index != next);
        done.insert(next);
        order.push(next);
    }
    order
}

/// Pods that a node on its way was bought for together stay together.
fn keep_together(
    arranged: &mut Arranged,
    classes: &[Class],
    groups: &Groups,
    on_node: &[usize],
    bin: &Bin,
) {
    let mut parts: Vec<(usize, u32)> = Vec::new();
    for (hash, count) in bin.promised.iter().filter(|(_hash, count)| **count > 0) {
        let found = arranged.items.iter().position(|item| {
            let class = item.main_class().and_then(|class| classes.get(class));
            item.count >= *count
                && class.is_some_and(|class| class.hash == *hash)
                && item
                    .domains
                    .iter()
                    .all(|domain| domain.accepts(bin.label(&domain.key)))
        });
        let Some(found) = found else {
            return;
        };
        parts.push((found, *count));
    }
    let tied = parts.iter().any(|(position, _count)| {
        let class = arranged.items.get(*position).and_then(Item::main_class);
        on_node
            .iter()
            .filter_map(|index| groups.groups.get(*index))
            .any(|group| class.is_some_and(|class| group.triggers.contains_key(&class)))
    });
    if !tied {
        return;
    }
    let mut together: Option<Item> = None;
    for (position, count) in parts {
        let Some(item) = arranged.items.get_mut(position) else {
            return;
        };
        item.count -= count;
        let both = item.may_use();
        let whole = together.get_or_insert_with(|| Item {
            content: Vec::new(),
            parts: Vec::new(),
            size: vec![0; item.size.len()],
            relations: Vec::new(),
            count: 1,
            ..item.clone()
        });
        *whole = merged(whole, item, count, &both, &[]);
    }
    arranged.items.extend(together);
}

/// What machines and bins hold.
struct Room {
    capacities: Vec<Vec<i64>>,
    bins: Vec<Vec<i64>>,
}

/// Everything that the affinity of a group ties together. A pod that runs already is followed; else
/// pods that wait and demand nothing lead; else those that select each other gather on one node.
fn bundle_group(
    arranged: &mut Arranged,
    bins: &[Bin],
    index: usize,
    group: &Group,
    placed: &Placed,
    room: &Room,
) {
    let positions = |arranged: &Arranged, holds: &dyn Fn(usize) -> bool| -> Vec<usize> {
        (0..arranged.items.len())
            .filter(|position| {
                arranged.items.get(*position).is_some_and(|item| {
                    item.count > 0 && item.content.iter().any(|(class, _)| holds(*class))
                })
            })
            .collect()
    };
    let triggers: Vec<usize> = positions(arranged, &|class| group.triggers.contains_key(&class))
        .into_iter()
        .filter(|position| {
            // What is with those that it selects needs no other.
            !arranged.items.get(*position).is_some_and(|item| {
                item.content.len() > 1
                    && item
                        .content
                        .iter()
                        .any(|(class, _each)| group.members.contains(class))
            })
        })
        .collect();
    if placed.has_members(index) {
        for position in triggers {
            follow(arranged, position, bins, index, placed);
        }
        return;
    }
    let leaders = positions(arranged, &|class| {
        group.members.contains(&class) && !group.triggers.contains_key(&class)
    });
    let mut leaders = if leaders.is_empty() {
        let own = positions(arranged, &|class| {
            group.members.contains(&class) && group.triggers.contains_key(&class)
        });
        gather(arranged, &own, room).into_iter().collect()
    } else {
        leaders
    };
    for position in triggers {
        if !leaders.contains(&position) {
            let first = arranged.items.len();
            join(arranged, position, &leaders, room);
            // Others may join those that are led already.
            leaders.extend(first..arranged.items.len());
        }
    }
}

/// A selected pod runs already: only its node will do.
fn follow(arranged: &mut Arranged, position: usize, bins: &[Bin], group: usize, placed: &Placed) {
    let names: BTreeSet<String> = bins
        .iter()
        .filter_map(|bin| match &bin.name {
            BinName::Node(name) if placed.members_on(name, group) > 0 => {
                bin.label(HOSTNAME).map(str::to_owned)
            }
            _ => None,
        })
        .collect();
    if let Some(item) = arranged.items.get_mut(position) {
        item.domains
            .push(Domain::one_of(HOSTNAME.to_owned(), names));
        item.levels.clear();
        fail(arranged, position, &Failure::no_room_there());
    }
}

/// The pods select each other: all of them on one node, as many as it takes. Gives back where the
/// bundle is.
fn gather(arranged: &mut Arranged, positions: &[usize], room: &Room) -> Option<usize> {
    let (first, others) = positions.split_first()?;
    let item = arranged.items.get(*first)?.clone();
    let on_candidates = most(&item, &item.may_use(), &room.capacities, &[]);
    let on_bins = room
        .bins
        .iter()
        .map(|free| times_into(&item.size, free, item.count))
        .max()
        .unwrap_or(0);
    let (large, allowed) = (
        on_candidates.max(on_bins),
        Loads::default().room(&item.relations),
    );
    let together = large.min(allowed);
    if together < item.count {
        fail(arranged, *first, &apart(large, allowed));
    }
    if together == 0 {
        arranged.items.get_mut(*first)?.count = 0;
        return None;
    }
    let mut bundle = Item {
        content: multiplied(&item.content, together),
        parts: parts(&item, together),
        size: multiply(&item.size, together),
        relations: scaled(&item.relations, together),
        count: 1,
        ..item
    };
    keep_fitting(&mut bundle, &room.capacities);
    for other in others {
        let Some(item) = arranged.items.get(*other).cloned() else {
            continue;
        };
        let both = bundle.may_use().and(&item.may_use());
        let mut loads = Loads::default();
        loads.add(&bundle.relations, 1);
        let large = most(&item, &both, &room.capacities, &bundle.size);
        let allowed = loads.room(&item.relations);
        let beside = large.min(allowed);
        if beside < item.count || beside == 0 {
            fail(arranged, *other, &apart(large, allowed));
        }
        if beside > 0 {
            bundle = merged(&bundle, &item, beside, &both, &room.capacities);
        }
        if let Some(item) = arranged.items.get_mut(*other) {
            item.count = 0;
        }
    }
    *arranged.items.get_mut(*first)? = bundle;
    Some(*first)
}

/// The pods select others that wait as well: each node gets one of those and as many of these as
/// fit beside it.
fn join(arranged: &mut Arranged, position: usize, leaders: &[usize], room: &Room) {
    let Some(item) = arranged.items.get(position).cloned() else {
        return;
    };
    let mut rest = item.count;
    let mut why = Failure::too_large();
    let mut bundles = Vec::new();
    for leader in leaders {
        let Some(lead) = arranged.items.get(*leader).cloned() else {
            continue;
        };
        let both = lead.may_use().and(&item.may_use());
        let mut loads = Loads::default();
        loads.add(&lead.relations, 1);
        let (large, allowed) = (
            most(&item, &both, &room.capacities, &lead.size),
            loads.room(&item.relations),
        );
        let beside = large.min(allowed);
        why = apart(large, allowed);
        let mut left = lead.count;
        while rest > 0 && beside > 0 && left > 0 {
            let these = beside.min(rest);
            let copies = if these == beside {
                (rest / beside).clamp(1, left)
            } else {
                1
            };
            let mut bundle = merged(&lead, &item, these, &both, &room.capacities);
            bundle.count = copies;
            bundle.leader = Some(Box::new(lead.clone()));
            bundles.push(bundle);
            rest = rest.saturating_sub(these.saturating_mul(copies));
            left -= copies;
        }
        if let Some(lead) = arranged.items.get_mut(*leader) {
            lead.count = left;
        }
    }
    if rest > 0 {
        let is_alone = rest == item.count && bundles.is_empty();
        if is_alone {
            why = Failure::nobody_there();
        }
        fail(arranged, position, &why);
    }
    if let Some(item) = arranged.items.get_mut(position) {
        item.count = 0;
    }
    arranged.items.extend(bundles);
}

/// How many of an item the largest of these candidates takes beside what is taken already.
fn most(item: &Item, candidates: &Bits, capacities: &[Vec<i64>], taken: &[i64]) -> u32 {
    candidates
        .iter()
        .filter_map(|index| capacities.get(index))
        .map(|free| {
            let mut free = free.clone();
            take(&mut free, taken, 1);
            if free
                .iter()
                .zip(taken)
                .any(|(free, taken)| *taken > 0 && *free < 0)
            {
                0
            } else {
                times_into(&item.size, &free, item.count)
            }
        })
        .max()
        .unwrap_or(0)
}

/// One of `lead` with so many of `item` beside it.
fn merged(lead: &Item, item: &Item, count: u32, both: &Bits, capacities: &[Vec<i64>]) -> Item {
    let mut bundle = lead.clone();
    bundle.content.extend(multiplied(&item.content, count));
    bundle.parts.extend(parts(item, count));
    bundle.size = add(&lead.size, &multiply(&item.size, count));
    add_relations(&mut bundle.relations, &item.relations, count);
    bundle.domains.extend(item.domains.clone());
    bundle.count = 1;
    bundle.priority = lead.priority.max(item.priority);
    bundle.restrict(both);
    keep_fitting(&mut bundle, capacities);
    bundle
}

fn parts(item: &Item, count: u32) -> Vec<Part> {
    item.parts
        .iter()
        .map(|part| Part {
            each: part.each.saturating_mul(count),
            ..part.clone()
        })
        .collect()
}

fn multiplied(content: &[(usize, u32)], count: u32) -> Vec<(usize, u32)> {
    content
        .iter()
        .map(|(class, each)| (*class, each.saturating_mul(count)))
        .collect()
}

/// Why no more pods share a node, of which so many would have room and so many are allowed.
fn apart(large: u32, allowed: u32) -> Failure {
    if allowed < large {
        Failure::contradiction(allowed)
    } else {
        Failure::too_large()
    }
}

fn fail(arranged: &mut Arranged, position: usize, why: &Failure) {
    let content = arranged.items.get(position).map(|item| &item.content);
    for (class, _each) in content.into_iter().flatten() {
        if let Some(failed) = arranged.failed.get_mut(*class) {
            failed.get_or_insert_with(|| why.clone());
        }
    }
}

fn keep_fitting(item: &mut Item, capacities: &[Vec<i64>]) {
    let fitting = Bits::of(capacities.len(), |index| {
        capacities
            .get(index)
            .is_some_and(|free| class::fits(&item.size, free))
    });
    item.restrict(&fitting);
}

fn multiply(size: &[i64], count: u32) -> Vec<i64> {
    size.iter()
        .map(|amount| amount.saturating_mul(i64::from(count)))
        .collect()
}

fn add(left: &[i64], right: &[i64]) -> Vec<i64> {
    left.iter()
        .zip(right)
        .map(|(left, right)| left.saturating_add(*right))
        .collect()
}

fn scaled(relations: &[Relation], count: u32) -> Vec<Relation> {
    relations
        .iter()
        .map(|relation| Relation {
            weight: relation.weight.saturating_mul(count),
            ..*relation
        })
        .collect()
}
