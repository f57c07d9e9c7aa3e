//! First fit decreasing with prices.
//!
//! Given an order of classes and for each class the kind that is opened for it; given back machines:
//! every class goes to the first machine that is open and has room, and in the end each machine
//! becomes the cheapest kind that holds what is on it.

use super::fill::{Loads, first_leaf};
use super::fleet::{Fleet, Node};
use super::problem::times_into;
use super::reduced::{Reduced, fits};

/// Open machines, with a tree of the greatest free amounts to find the first one with room.
struct Open<const D: usize> {
    tree: Vec<[i64; D]>,
    leaves: usize,
    used: usize,
}

impl<const D: usize> Open<D> {
    fn new() -> Self {
        Self {
            tree: vec![[-1; D]; 2],
            leaves: 1,
            used: 0,
        }
    }

    fn push(&mut self, free: [i64; D]) {
        if self.used == self.leaves {
            let mut grown = vec![[-1; D]; 4 * self.leaves];
            let doubled = 2 * self.leaves;
            grown[doubled..doubled + self.leaves].copy_from_slice(&self.tree[self.leaves..]);
            for node in (1..doubled).rev() {
                grown[node] = greatest(&grown[2 * node], &grown[2 * node + 1]);
            }
            self.tree = grown;
            self.leaves = doubled;
        }
        self.set(self.used, free);
        self.used += 1;
    }

    fn set(&mut self, position: usize, free: [i64; D]) {
        let mut node = self.leaves + position;
        self.tree[node] = free;
        while node > 1 {
            node /= 2;
            self.tree[node] = greatest(&self.tree[2 * node], &self.tree[2 * node + 1]);
        }
    }

    fn first_with(&self, from: usize, size: &[i64; D], units: &mut u64) -> Option<usize> {
        first_leaf(self.leaves, from, units, |node| {
            fits(size, &self.tree[node])
        })
    }
}

#[inline]
fn greatest<const D: usize>(left: &[i64; D], right: &[i64; D]) -> [i64; D] {
    let mut greatest = *left;
    for (greatest, right) in greatest.iter_mut().zip(right) {
        *greatest = (*greatest).max(*right);
    }
    greatest
}

/// Packs in this order, opening `opened[class]` when no machine has room. Gives up when `units` run
/// out; what is left of them stays.
pub fn first_fit<const D: usize>(
    reduced: &Reduced<D>,
    order: &[u32],
    opened: &[usize],
    units: &mut u64,
) -> Option<Fleet> {
    let mut open: Open<D> = Open::new();
    let mut nodes: Vec<Node> = Vec::new();
    let mut loads: Vec<Loads> = Vec::new();
    for class_index in order {
        let class = &reduced.classes[*class_index as usize];
        let mut left = class.count;
        let mut from = 0;
        let mut spent = 0;
        while left > 0 {
            let found = open.first_with(from, &class.size, &mut spent);
            let position = if let Some(position) = found.filter(|position| *position < nodes.len())
            {
                position
            } else {
                let kind = opened[*class_index as usize];
                open.push(reduced.kinds[kind].capacity);
                nodes.push(Node {
                    kind,
                    contents: Vec::new(),
                });
                if reduced.groups > 0 {
                    loads.push(Loads::of(reduced.groups));
                }
                nodes.len() - 1
            };
            if spent > *units {
                return None;
            }
            let fresh = nodes[position].contents.is_empty();
            let mut free = open.tree[open.leaves + position];
            let mut count = if reduced.takes_kind(class, nodes[position].kind) {
                times_into(&class.size, &free, left)
            } else {
                0
            };
            if let Some(loads) = loads.get(position) {
                count = count.min(loads.room(&class.relations));
            }
            if count == 0 {
                if fresh {
                    return None;
                }
                from = position + 1;
                continue;
            }
            for (free, size) in free.iter_mut().zip(&class.size) {
                *free -= size * i64::from(count);
            }
            open.set(position, free);
            nodes[position].contents.push((*class_index, count));
            if let Some(loads) = loads.get_mut(position) {
                loads.add(&class.relations, count);
            }
            left -= count;
            from = position;
        }
        *units = units.saturating_sub(spent);
    }
    let mut fleet = Fleet::default();
    for mut node in nodes {
        node.contents.sort_unstable();
        fleet.add(reduced, node.kind, &node.contents, 1);
    }
    Some(fleet)
}
