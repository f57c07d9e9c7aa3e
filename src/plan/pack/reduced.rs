//! The problem as the solver works on it.
//!
//! Given a [`Problem`]; given back the same with a fixed number of dimensions, equal items merged
//! into classes, and machines left out that another one replaces everywhere: at least its capacity,
//! at most its price, allowed for every item that may be on it. So nothing is lost by leaving them
//! out.

use std::collections::{BTreeMap, VecDeque};

use super::bits::Bits;
use super::fleet::Node;
use super::problem::{Item, Packed, Packing, Problem, Relation, times_into};
use super::real::short;

/// Equal items.
#[derive(Debug, Clone)]
pub struct Class<const D: usize> {
    /// What one takes.
    pub size: [i64; D],
    /// How many there are.
    pub count: u32,
    /// Which of [`Reduced::allowed`] says where they may be.
    pub allowed: usize,
    /// Relations to groups that some item caps, the groups numbered without gaps.
    pub relations: Vec<Relation>,
    /// The group that caps it by itself: group, weight, cap.
    pub capped: Option<Relation>,
    /// The problem's items in it, with their counts.
    pub items: Vec<(usize, u32)>,
}

/// Items of a class that are not handed out yet, with how many of each.
type Queue = VecDeque<(usize, u32)>;

/// A machine that no other replaces.
#[derive(Debug, Clone)]
pub struct Kind<const D: usize> {
    /// What its items may take together.
    pub capacity: [i64; D],
    /// Its price, at least 1.
    pub price: i64,
    /// The problem's machine.
    pub machine: usize,
    /// Which of [`Reduced::allowed`] it is in.
    pub accepts: Bits,
}

/// The reduced problem.
#[derive(Debug, Clone)]
pub struct Reduced<const D: usize> {
    /// The classes that some kind takes, in order of their items.
    pub classes: Vec<Class<D>>,
    /// The kinds, cheapest first.
    pub kinds: Vec<Kind<D>>,
    /// Distinct sets of kinds that items may be on.
    pub allowed: Vec<Bits>,
    /// Every class may be wherever it fits.
    pub open: bool,
    /// How many groups cap something.
    pub groups: usize,
    /// For each of the problem's machines the kind that replaces it.
    pub replaced_by: Vec<Option<usize>>,
    /// For each dimension the greatest capacity among the first kinds, so many of them.
    reach: Vec<[i64; D]>,
    /// Items that no machine takes.
    left: Vec<u32>,
}

fn dense<const D: usize>(amounts: &[i64], used: &[usize]) -> [i64; D] {
    let mut dense = [0; D];
    for (slot, dimension) in dense.iter_mut().zip(used) {
        *slot = amounts.get(*dimension).copied().unwrap_or(0).max(0);
    }
    dense
}

/// The dimensions in which some item takes something.
pub fn used_dimensions(problem: &Problem) -> Vec<usize> {
    (0..problem.dimensions)
        .filter(|dimension| {
            problem
                .items
                .iter()
                .any(|item| item.size.get(*dimension).is_some_and(|size| *size > 0))
        })
        .collect()
}

/// Relations without those that no item caps, the groups numbered anew.
fn relations(item: &Item, numbers: &BTreeMap<u32, u32>) -> Vec<Relation> {
    item.relations
        .iter()
        .filter_map(|relation| {
            Some(Relation {
                group: *numbers.get(&relation.group)?,
                ..*relation
            })
        })
        .collect()
}

fn group_numbers(problem: &Problem) -> BTreeMap<u32, u32> {
    let mut numbers: BTreeMap<u32, u32> = problem
        .items
        .iter()
        .flat_map(|item| &item.relations)
        .filter(|relation| relation.cap.is_some())
        .map(|relation| (relation.group, 0))
        .collect();
    for (number, slot) in numbers.values_mut().enumerate() {
        *slot = short(number);
    }
    numbers
}

impl<const D: usize> Reduced<D> {
    /// Reduces a problem whose items use these dimensions, at most `D` of them.
    pub fn of(problem: &Problem, used: &[usize]) -> Self {
        let mut ids: BTreeMap<&Bits, usize> = BTreeMap::new();
        for item in problem.items.iter().filter(|item| item.count > 0) {
            let next = ids.len();
            ids.entry(&item.allowed).or_insert(next);
        }
        let (kinds, replaced_by) = kinds(problem, used, &ids);
        let mut allowed = vec![Bits::empty(kinds.len()); ids.len()];
        for (index, kind) in kinds.iter().enumerate() {
            for id in kind.accepts.iter() {
                if let Some(bits) = allowed.get_mut(id) {
                    bits.insert(index);
                }
            }
        }
        // Sets that differ only in machines left out are one.
        let mut known: BTreeMap<Bits, usize> = BTreeMap::new();
        let same: Vec<usize> = allowed
            .iter()
            .enumerate()
            .map(|(id, bits)| *known.entry(bits.clone()).or_insert(id))
            .collect();
        let numbers = group_numbers(problem);
        let mut reduced = Self {
            classes: Vec::new(),
            open: allowed.iter().all(|bits| bits.len() == kinds.len()),
            reach: reach(&kinds),
            kinds,
            allowed,
            groups: numbers.len(),
            replaced_by,
            left: vec![0; problem.items.len()],
        };
        let mut merged: BTreeMap<([i64; D], usize, Vec<Relation>), usize> = BTreeMap::new();
        for (index, item) in problem.items.iter().enumerate() {
            let id = ids.get(&item.allowed).and_then(|id| same.get(*id));
            let Some(id) = id.copied().filter(|_| item.count > 0) else {
                continue;
            };
            let class = Class {
                size: dense(&item.size, used),
                count: 0,
                allowed: id,
                relations: relations(item, &numbers),
                capped: None,
                items: Vec::new(),
            };
            if !reduced.has_place(&class) {
                if let Some(left) = reduced.left.get_mut(index) {
                    *left = item.count;
                }
                continue;
            }
            let next = reduced.classes.len();
            let known = *merged
                .entry((class.size, id, class.relations.clone()))
                .or_insert(next);
            if known == next {
                reduced.classes.push(class);
            }
            let Some(class) = reduced.classes.get_mut(known) else {
                continue;
            };
            class.count = class.count.saturating_add(item.count);
            class.items.push((index, item.count));
            class.capped = class
                .relations
                .iter()
                .copied()
                .find(|relation| relation.weight > 0 && relation.cap.is_some());
        }
        reduced
    }

    fn has_place(&self, class: &Class<D>) -> bool {
        let alone = class
            .relations
            .iter()
            .all(|relation| relation.cap.is_none_or(|cap| relation.weight <= cap));
        alone && (0..self.kinds.len()).any(|kind| self.takes(class, kind))
    }

    /// True when the kind can hold one of the class.
    #[inline]
    pub fn takes(&self, class: &Class<D>, kind: usize) -> bool {
        let kind = &self.kinds[kind];
        fits(&class.size, &kind.capacity) && (self.open || kind.accepts.contains(class.allowed))
    }

    /// True when the class may be on machines of the kind, whatever its size.
    #[inline]
    pub fn takes_kind(&self, class: &Class<D>, kind: usize) -> bool {
        self.open || self.kinds[kind].accepts.contains(class.allowed)
    }

    /// How many of a class one machine of the kind can hold, all by themselves.
    pub fn most(&self, class: &Class<D>, kind: usize) -> u32 {
        if !self.takes(class, kind) {
            return 0;
        }
        let by_cap = class
            .relations
            .iter()
            .filter_map(|relation| relation.cap?.checked_div(relation.weight))
            .min()
            .unwrap_or(u32::MAX);
        times_into(
            &class.size,
            &self.kinds[kind].capacity,
            class.count.min(by_cap),
        )
    }

    /// The cheapest kind that holds these contents, of those before `below`.
    pub fn cheapest(&self, contents: &[(u32, u32)], below: usize) -> Option<usize> {
        let mut need = [0_i64; D];
        for (class, count) in contents {
            let size = &self.classes[*class as usize].size;
            for (need, size) in need.iter_mut().zip(size) {
                *need = need.saturating_add(size.saturating_mul(i64::from(*count)));
            }
        }
        let first = self.first_that_could_hold(&need);
        (first..below.min(self.kinds.len())).find(|kind| {
            let kind = &self.kinds[*kind];
            fits(&need, &kind.capacity)
                && (self.open
                    || contents.iter().all(|(class, _)| {
                        kind.accepts.contains(self.classes[*class as usize].allowed)
                    }))
        })
    }

    /// No kind before this one has that much of everything.
    pub fn first_that_could_hold(&self, need: &[i64; D]) -> usize {
        (0..D)
            .map(|dimension| {
                self.reach
                    .partition_point(|reach| reach[dimension] < need[dimension])
            })
            .max()
            .unwrap_or(0)
    }

    /// A packing of the problem from machines by kind, class and copies.
    pub fn packing(&self, nodes: &[(Node, u32)]) -> Packing {
        let mut rest: Vec<Queue> = self
            .classes
            .iter()
            .map(|class| class.items.iter().copied().collect())
            .collect();
        let mut machines: BTreeMap<(usize, Vec<(usize, u32)>), u32> = BTreeMap::new();
        for (Node { kind, contents }, copies) in nodes {
            let mut copies = *copies;
            while copies > 0 {
                let (named, times) = named(contents, &mut rest, copies);
                *machines
                    .entry((self.kinds[*kind].machine, named))
                    .or_default() += times;
                copies -= times;
            }
        }
        Packing {
            machines: machines
                .into_iter()
                .map(|((machine, contents), copies)| Packed {
                    machine,
                    contents,
                    copies,
                })
                .collect(),
            left: self.left.clone(),
        }
    }
}

/// The items of a class are handed out in order: what the next machine holds, and on how many
/// machines in a row the same can be.
fn named(contents: &[(u32, u32)], rest: &mut [Queue], copies: u32) -> (Vec<(usize, u32)>, u32) {
    let simple = contents.iter().all(|(class, count)| {
        rest[*class as usize]
            .front()
            .is_some_and(|(_item, left)| left >= count)
    });
    let times = if simple {
        contents
            .iter()
            .filter_map(|(class, count)| {
                let (_item, left) = rest[*class as usize].front()?;
                left.checked_div(*count)
            })
            .min()
            .unwrap_or(1)
            .clamp(1, copies)
    } else {
        1
    };
    let mut named: Vec<(usize, u32)> = Vec::with_capacity(contents.len());
    for (class, count) in contents {
        let queue = &mut rest[*class as usize];
        let mut open = *count;
        while open > 0 {
            let Some((item, left)) = queue.front_mut() else {
                break;
            };
            let taken = open.min(*left);
            named.push((*item, taken));
            *left -= if simple { taken * times } else { taken };
            open -= taken;
            if *left == 0 {
                queue.pop_front();
            }
        }
    }
    named.sort_unstable();
    (named, times)
}

/// True when `size` fits `free`.
#[inline]
pub fn fits<const D: usize>(size: &[i64; D], free: &[i64; D]) -> bool {
    let mut fits = true;
    for dimension in 0..D {
        fits &= size[dimension] <= free[dimension];
    }
    fits
}

fn reach<const D: usize>(kinds: &[Kind<D>]) -> Vec<[i64; D]> {
    let mut most = [0; D];
    kinds
        .iter()
        .map(|kind| {
            for (most, capacity) in most.iter_mut().zip(&kind.capacity) {
                *most = (*most).max(*capacity);
            }
            most
        })
        .collect()
}

/// The machines that no other replaces, cheapest first, and for each machine what replaces it.
fn kinds<const D: usize>(
    problem: &Problem,
    used: &[usize],
    ids: &BTreeMap<&Bits, usize>,
) -> (Vec<Kind<D>>, Vec<Option<usize>>) {
    let mut accepts = vec![Bits::empty(ids.len()); problem.machines.len()];
    for (bits, id) in ids {
        for machine in bits.iter() {
            if let Some(accepts) = accepts.get_mut(machine) {
                accepts.insert(*id);
            }
        }
    }
    let mut order: Vec<Kind<D>> = problem
        .machines
        .iter()
        .zip(accepts)
        .enumerate()
        .filter(|(_index, (_machine, accepts))| !accepts.is_empty())
        .map(|(index, (machine, accepts))| Kind {
            capacity: dense(&machine.capacity, used),
            price: machine.price.max(1),
            machine: index,
            accepts,
        })
        .collect();
    // Of equal prices the larger one first, so that it is there when the smaller one is judged.
    order.sort_by(|left, right| {
        let room = |kind: &Kind<D>| {
            kind.capacity
                .iter()
                .fold(0_i64, |a, b| a.saturating_add(*b))
        };
        left.price
            .cmp(&right.price)
            .then_with(|| room(right).cmp(&room(left)))
            .then_with(|| left.machine.cmp(&right.machine))
    });
    let mut kept: Vec<Kind<D>> = Vec::new();
    let mut replaced_by = vec![None; problem.machines.len()];
    for kind in order {
        let better = kept.iter().position(|known| {
            fits(&kind.capacity, &known.capacity)
                && (ids.len() == 1 || kind.accepts.is_subset(&known.accepts))
        });
        let index = better.unwrap_or(kept.len());
        if let Some(slot) = replaced_by.get_mut(kind.machine) {
            *slot = Some(index);
        }
        if better.is_none() {
            kept.push(kind);
        }
    }
    (kept, replaced_by)
}
