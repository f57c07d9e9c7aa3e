//! The problem with classes joined that few machines tell apart.
//!
//! Given the reduced problem; given back a smaller one. Classes of equal size are one where they may be
//! on machines of the same prices and capacities, be it in other zones, and of all groups only the one
//! that needs most machines is known. Every fleet for the classes is one for the joined classes, at
//! the same price: so what is proven for these holds for those. The reverse does not hold, and what is
//! bought for joined classes has to be handed out to the classes.

use std::collections::BTreeMap;

use super::bits::Bits;
use super::greedy::apart;
use super::problem::{Item, Machine, Problem, Relation};
use super::reduced::Reduced;

/// With more joined classes the contents of machines are too many to look through.
const MOST: usize = 90;
/// The same with more items for each machine that the group needs.
const MOST_EACH: u64 = 40;

/// A problem of joined classes, and where they come from.
#[derive(Debug, Clone)]
pub struct Joined {
    /// The problem.
    pub problem: Problem,
    /// For each of its items the classes joined in it.
    pub classes: Vec<Vec<u32>>,
    /// For each of its machines the kinds that are like it.
    pub kinds: Vec<Vec<usize>>,
    /// How many machines the group needs that is known.
    pub needed: u64,
}

impl Joined {
    /// The joined problem, where it has few classes, far fewer than before, and a machine needed for
    /// every few items.
    pub fn of<const D: usize>(reduced: &Reduced<D>) -> Option<Self> {
        let (machines, kinds, alike) = machines(reduced);
        let places: Vec<Bits> = reduced
            .allowed
            .iter()
            .map(|allowed| {
                let mut places = Bits::empty(machines.len());
                for kind in allowed.iter() {
                    if let Some(place) = alike.get(kind) {
                        places.insert(*place);
                    }
                }
                places
            })
            .collect();
        let counts: Vec<u32> = reduced.classes.iter().map(|class| class.count).collect();
        let all: u64 = counts.iter().map(|count| u64::from(*count)).sum();
        let apart = apart(reduced, &counts).filter(|apart| all <= MOST_EACH * apart.machines())?;
        let mut known: BTreeMap<([i64; D], &Bits, Option<Relation>), usize> = BTreeMap::new();
        let mut items: Vec<Item> = Vec::new();
        let mut classes: Vec<Vec<u32>> = Vec::new();
        for (index, class) in (0_u32..).zip(&reduced.classes) {
            let relation = class
                .capped
                .filter(|relation| relation.group == apart.group);
            let allowed = places.get(class.allowed)?;
            let next = items.len();
            let item = *known.entry((class.size, allowed, relation)).or_insert(next);
            if item == next {
                if next == MOST {
                    return None;
                }
                items.push(Item {
                    size: class.size.to_vec(),
                    count: 0,
                    allowed: allowed.clone(),
                    relations: relation.into_iter().collect(),
                });
                classes.push(Vec::new());
            }
            let slot = items.get_mut(item)?;
            slot.count = slot.count.saturating_add(class.count);
            classes.get_mut(item)?.push(index);
        }
        (items.len() * 2 <= reduced.classes.len()).then_some(Self {
            problem: Problem {
                dimensions: D,
                items,
                machines,
            },
            classes,
            kinds,
            needed: apart.machines(),
        })
    }
}

/// A machine for each price and capacity, the kinds that have them, and the machine of each kind.
fn machines<const D: usize>(reduced: &Reduced<D>) -> (Vec<Machine>, Vec<Vec<usize>>, Vec<usize>) {
    let mut known: BTreeMap<(i64, [i64; D]), usize> = BTreeMap::new();
    let mut machines: Vec<Machine> = Vec::new();
    let mut kinds: Vec<Vec<usize>> = Vec::new();
    let mut alike = Vec::with_capacity(reduced.kinds.len());
    for (index, kind) in reduced.kinds.iter().enumerate() {
        let next = machines.len();
        let place = *known.entry((kind.price, kind.capacity)).or_insert(next);
        if place == next {
            machines.push(Machine {
                price: kind.price,
                capacity: kind.capacity.to_vec(),
            });
            kinds.push(Vec::new());
        }
        if let Some(kinds) = kinds.get_mut(place) {
            kinds.push(index);
        }
        alike.push(place);
    }
    (machines, kinds, alike)
}
