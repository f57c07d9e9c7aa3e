//! The packing problem in plain integers.

use super::bits::Bits;

/// Items to place and machines to buy.
#[derive(Debug, Clone, Default)]
pub struct Problem {
    /// How many dimensions every size and capacity has.
    pub dimensions: usize,
    /// What is to be placed.
    pub items: Vec<Item>,
    /// What can be bought, any number of each.
    pub machines: Vec<Machine>,
}

/// Equal things to place.
#[derive(Debug, Clone, Default)]
pub struct Item {
    /// What one takes in each dimension.
    pub size: Vec<i64>,
    /// How many there are.
    pub count: u32,
    /// Machines that it may be on.
    pub allowed: Bits,
    /// What else matters where it is: see [`Relation`].
    pub relations: Vec<Relation>,
}

/// What an item has to do with a group of items that limits what shares one machine.
///
/// A machine's load of a group is the sum of the weights of the items on it; it must not exceed the
/// least cap that any item on the machine sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Relation {
    /// The group.
    pub group: u32,
    /// What one item adds to the machine's load of the group.
    pub weight: u32,
    /// The load that a machine with this item may have at most; `None` sets no cap.
    pub cap: Option<u32>,
}

/// A machine that can be bought.
#[derive(Debug, Clone, Default)]
pub struct Machine {
    /// Price in the unit of [`crate::model::money::UsdPerHour`].
    pub price: i64,
    /// What its items may take together, by dimension.
    pub capacity: Vec<i64>,
}

/// A machine bought, and what is on it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Packed {
    /// Index of the machine.
    pub machine: usize,
    /// Item index and how many of it, in item order.
    pub contents: Vec<(usize, u32)>,
    /// How many such machines.
    pub copies: u32,
}

/// An answer to a problem.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Packing {
    /// The machines.
    pub machines: Vec<Packed>,
    /// How many of each item have no machine that could take them.
    pub left: Vec<u32>,
}

impl Packing {
    /// Price of all machines.
    pub fn price(&self, problem: &Problem) -> i64 {
        self.machines.iter().fold(0_i64, |sum, packed| {
            let price = problem
                .machines
                .get(packed.machine)
                .map_or(0, |machine| machine.price);
            sum.saturating_add(price.saturating_mul(i64::from(packed.copies)))
        })
    }
}

/// Loads and caps of the groups on one machine.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Loads(Vec<Load>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Load {
    group: u32,
    sum: u32,
    cap: u32,
}

impl Loads {
    /// How many more of an item with these relations the machine takes.
    pub fn room(&self, relations: &[Relation]) -> u32 {
        relations
            .iter()
            .map(|relation| {
                let (load, cap) = self
                    .0
                    .iter()
                    .find(|load| load.group == relation.group)
                    .map_or((0, u32::MAX), |load| (load.sum, load.cap));
                let cap = cap.min(relation.cap.unwrap_or(u32::MAX));
                match cap.checked_sub(load) {
                    None => 0,
                    Some(room) => room.checked_div(relation.weight).unwrap_or(u32::MAX),
                }
            })
            .min()
            .unwrap_or(u32::MAX)
    }

    /// Adds so many of an item with these relations.
    pub fn add(&mut self, relations: &[Relation], count: u32) {
        if count == 0 {
            return;
        }
        for relation in relations {
            let added = relation.weight.saturating_mul(count);
            let cap = relation.cap.unwrap_or(u32::MAX);
            match self.0.iter_mut().find(|load| load.group == relation.group) {
                Some(load) => {
                    load.sum = load.sum.saturating_add(added);
                    load.cap = load.cap.min(cap);
                }
                None => self.0.push(Load {
                    group: relation.group,
                    sum: added,
                    cap,
                }),
            }
        }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}

/// How often `size` goes into `free`, at most `most`.
#[inline]
pub fn times_into(size: &[i64], free: &[i64], most: u32) -> u32 {
    let mut times = i64::from(most);
    for (size, free) in size.iter().zip(free) {
        if *size > 0 {
            if *size > *free {
                return 0;
            }
            if size.saturating_mul(times) > *free {
                times = free / size;
            }
        }
    }
    u32::try_from(times).unwrap_or(0)
}

/// Takes `count` times `size` off `free`.
#[inline]
pub fn take(free: &mut [i64], size: &[i64], count: u32) {
    for (free, size) in free.iter_mut().zip(size) {
        *free = free.saturating_sub(size.saturating_mul(i64::from(count)));
    }
}
