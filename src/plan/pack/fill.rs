//! Filling one machine from what is left, in a given order.
//!
//! Given a [`Lot`] (classes in an order, with how many of each are left) and a kind of machine;
//! given back how many of each class go on it when every class takes as many places as it can,
//! first come first served. Long lots carry a tree of least sizes, so that a fill looks only at
//! what still fits.

use super::problem::{Relation, times_into};
use super::random::Random;
use super::real::{short, work};
use super::reduced::{Reduced, fits};

/// Lots longer than this are searched by their tree.
const LONG: usize = 96;

/// So many classes that cap others may be refused in one fill.
const MOST_REFUSED: u32 = 24;

/// Position in a lot and how many are taken there.
pub type Taken = Vec<(u32, u32)>;

/// Classes in an order, with what is left of them.
#[derive(Debug, Clone)]
pub struct Lot<const D: usize> {
    /// The class at each position.
    pub class: Vec<u32>,
    /// Its size.
    size: Vec<[i64; D]>,
    /// How many are left.
    pub left: Vec<u32>,
    /// What one is worth.
    value: Vec<f64>,
    /// Least size of everything, by dimension.
    least: [i64; D],
    /// Least sizes below each inner node; `i64::MAX` where nothing is left. Empty for short lots.
    tree: Vec<[i64; D]>,
    leaves: usize,
    /// Behind the last class that caps what shares its machine, in orders that put those first.
    picky: usize,
}

/// Loads and caps of all groups on the machine that is being filled.
#[derive(Debug, Clone, Default)]
pub struct Loads {
    sum: Vec<u32>,
    cap: Vec<u32>,
    touched: Vec<u32>,
}

impl Loads {
    /// Loads of so many groups.
    pub fn of(groups: usize) -> Self {
        Self {
            sum: vec![0; groups],
            cap: vec![u32::MAX; groups],
            touched: Vec::new(),
        }
    }

    /// Forgets everything.
    #[inline]
    pub fn clear(&mut self) {
        for group in self.touched.drain(..) {
            self.sum[group as usize] = 0;
            self.cap[group as usize] = u32::MAX;
        }
    }

    /// How many more of an item with these relations there may be.
    #[inline]
    pub fn room(&self, relations: &[Relation]) -> u32 {
        let mut room = u32::MAX;
        for relation in relations {
            let group = relation.group as usize;
            let cap = self.cap[group].min(relation.cap.unwrap_or(u32::MAX));
            let Some(free) = cap.checked_sub(self.sum[group]) else {
                return 0;
            };
            if let Some(times) = free.checked_div(relation.weight) {
                room = room.min(times);
            }
        }
        room
    }

    /// Adds so many of an item with these relations.
    #[inline]
    pub fn add(&mut self, relations: &[Relation], count: u32) {
        for relation in relations {
            let group = relation.group as usize;
            if self.sum[group] == 0 && self.cap[group] == u32::MAX {
                self.touched.push(relation.group);
            }
            self.sum[group] = self.sum[group].saturating_add(relation.weight.saturating_mul(count));
            self.cap[group] = self.cap[group].min(relation.cap.unwrap_or(u32::MAX));
        }
    }
}

impl<const D: usize> Default for Lot<D> {
    fn default() -> Self {
        Self {
            class: Vec::new(),
            size: Vec::new(),
            left: Vec::new(),
            value: Vec::new(),
            least: [0; D],
            tree: Vec::new(),
            leaves: 0,
            picky: 0,
        }
    }
}

impl<const D: usize> Lot<D> {
    /// These classes in this order.
    pub fn of(
        reduced: &Reduced<D>,
        entries: impl Iterator<Item = (u32, u32)>,
        values: &[f64],
    ) -> Self {
        let mut lot = Self::default();
        lot.refill(reduced, entries, values);
        if lot.class.len() > LONG {
            lot.plant();
            lot.picky = lot
                .class
                .iter()
                .position(|class| {
                    let relations = &reduced.classes[*class as usize].relations;
                    relations.iter().all(|relation| relation.cap.is_none())
                })
                .unwrap_or(0);
        }
        lot
    }

    /// Other classes in the place of these; without a tree.
    pub fn refill(
        &mut self,
        reduced: &Reduced<D>,
        entries: impl Iterator<Item = (u32, u32)>,
        values: &[f64],
    ) {
        self.class.clear();
        self.size.clear();
        self.left.clear();
        self.value.clear();
        self.tree.clear();
        self.least = [i64::MAX; D];
        for (class, left) in entries {
            let size = reduced.classes[class as usize].size;
            for (least, size) in self.least.iter_mut().zip(&size) {
                *least = (*least).min(*size);
            }
            self.class.push(class);
            self.size.push(size);
            self.left.push(left);
            self.value.push(values[class as usize]);
        }
    }

    fn plant(&mut self) {
        self.leaves = self.class.len().next_power_of_two();
        self.tree = vec![[i64::MAX; D]; 2 * self.leaves];
        for (position, size) in self.size.iter().enumerate() {
            if self.left[position] > 0 {
                self.tree[self.leaves + position] = *size;
            }
        }
        for node in (1..self.leaves).rev() {
            self.tree[node] = least(&self.tree[2 * node], &self.tree[2 * node + 1]);
        }
    }

    /// Takes some away for good.
    pub fn take(&mut self, position: usize, count: u32) {
        self.left[position] = self.left[position].saturating_sub(count);
        if self.left[position] > 0 || self.tree.is_empty() {
            return;
        }
        let mut node = self.leaves + position;
        self.tree[node] = [i64::MAX; D];
        while node > 1 {
            node /= 2;
            self.tree[node] = least(&self.tree[2 * node], &self.tree[2 * node + 1]);
        }
    }

    /// The value of everything that is left.
    pub fn value_left(&self) -> f64 {
        self.left
            .iter()
            .zip(&self.value)
            .map(|(left, value)| f64::from(*left) * value)
            .sum()
    }

    /// What one of the class at this position is worth.
    #[inline]
    pub fn value_of(&self, position: usize) -> f64 {
        self.value[position]
    }

    /// Other values for the same classes.
    pub fn revalue(&mut self, values: &[f64]) {
        for (value, class) in self.value.iter_mut().zip(&self.class) {
            *value = values[*class as usize];
        }
    }

    /// True when nothing is left.
    pub fn is_empty(&self) -> bool {
        self.left.iter().all(|left| *left == 0)
    }

    /// The first position from `from` on that fits `free`.
    fn next_fit(&self, from: usize, free: &[i64; D], units: &mut u64) -> Option<usize> {
        first_leaf(self.leaves, from, units, |node| {
            fits(&self.tree[node], free)
        })
    }
}

/// The first leaf from `from` on that holds, in a tree of `leaves` leaves below node 1 whose nodes hold
/// when one of their leaves may. Counts the nodes that are looked at.
pub(super) fn first_leaf(
    leaves: usize,
    from: usize,
    units: &mut u64,
    holds: impl Fn(usize) -> bool,
) -> Option<usize> {
    if from >= leaves {
        return None;
    }
    let mut node = leaves + from;
    // Up to the first subtree on the right side that may hold it, then down again.
    loop {
        *units += 1;
        if holds(node) {
            if node >= leaves {
                return Some(node - leaves);
            }
            node *= 2;
            continue;
        }
        while node & 1 == 1 {
            node /= 2;
            if node <= 1 {
                return None;
            }
        }
        node += 1;
    }
}

/// In seven of twenty cases only a part of the count.
fn part_by_chance(random: &mut Random, count: u32) -> u32 {
    if random.below(20) >= 7 {
        return count;
    }
    // Not above the count, so it goes into 32 bits.
    u32::try_from(random.below(count as usize + 1)).unwrap_or(count)
}

#[inline]
fn least<const D: usize>(left: &[i64; D], right: &[i64; D]) -> [i64; D] {
    let mut least = *left;
    for (least, right) in least.iter_mut().zip(right) {
        *least = (*least).min(*right);
    }
    least
}

/// What fills machines, with the memory that it needs again and again.
#[derive(Debug)]
pub struct Filler<'solve, const D: usize> {
    reduced: &'solve Reduced<D>,
    loads: Loads,
    /// Work done since it was last asked for.
    pub units: u64,
}

impl<'solve, const D: usize> Filler<'solve, D> {
    /// A filler for a problem.
    pub fn of(reduced: &'solve Reduced<D>) -> Self {
        Self {
            reduced,
            loads: Loads::of(reduced.groups),
            units: 0,
        }
    }

    /// Fills one machine of the kind and gives back the value of what is on it. With `sometimes`
    /// some classes take fewer places than they could, by chance.
    pub fn fill(
        &mut self,
        lot: &Lot<D>,
        kind: usize,
        mut sometimes: Option<&mut Random>,
        taken: &mut Taken,
    ) -> f64 {
        taken.clear();
        let mut free = self.reduced.kinds[kind].capacity;
        let mut value = 0.0;
        let mut position = 0;
        let long = !lot.tree.is_empty();
        let mut refused = 0;
        while position < lot.class.len() {
            if long {
                let Some(next) = lot.next_fit(position, &free, &mut self.units) else {
                    break;
                };
                position = next;
            } else {
                self.units += 1;
            }
            let count = self.count(lot, position, kind, &free);
            let count = match &mut sometimes {
                Some(random) if count > 0 => part_by_chance(random, count),
                _ => count,
            };
            if count > 0 {
                let size = &lot.size[position];
                for (free, size) in free.iter_mut().zip(size) {
                    *free -= size * i64::from(count);
                }
                value += lot.value[position] * f64::from(count);
                taken.push((short(position), count));
                if self.reduced.groups > 0 {
                    let class = &self.reduced.classes[lot.class[position] as usize];
                    self.loads.add(&class.relations, count);
                }
                if !fits(&lot.least, &free) {
                    break;
                }
            }
            position += 1;
            // What keeps apart is refused again and again once its kind is there.
            if count == 0 && position < lot.picky {
                refused += 1;
                if refused >= MOST_REFUSED {
                    position = lot.picky;
                }
            }
        }
        if self.reduced.groups > 0 {
            self.loads.clear();
        }
        value
    }

    #[inline]
    fn count(&self, lot: &Lot<D>, position: usize, kind: usize, free: &[i64; D]) -> u32 {
        let left = lot.left[position];
        let size = &lot.size[position];
        if left == 0 || !fits(size, free) {
            return 0;
        }
        if !self.reduced.open || self.reduced.groups > 0 {
            let class = &self.reduced.classes[lot.class[position] as usize];
            if !self.reduced.open && !self.reduced.kinds[kind].accepts.contains(class.allowed) {
                return 0;
            }
            if self.reduced.groups > 0 {
                let room = self.loads.room(&class.relations);
                return times_into(size, free, left.min(room));
            }
        }
        if left == 1 {
            1
        } else {
            times_into(size, free, left)
        }
    }

    /// Work done since the last time.
    pub fn take_units(&mut self) -> u64 {
        std::mem::take(&mut self.units)
    }

    /// Work of other kinds.
    pub fn spend(&mut self, length: usize) {
        self.units += work(length);
    }
}
