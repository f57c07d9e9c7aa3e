//! What one more pod of a class costs at a place where it could go.
//!
//! Given what each class could ask of each place; given back the price of one pod's part of the
//! machines that would be bought there. Machines come whole: a pod that has a machine for itself pays
//! for all of it, and a pod that shares it with everything else that could be there pays for its share.
//! Prices only order places; nothing is bought here.

use std::collections::BTreeMap;

use crate::plan::pack::Bits;
use crate::plan::provision::class::Class;
use crate::plan::provision::supply::Supply;

/// Amounts this close to a whole number of machines are that number.
const CLOSE: f64 = 1e-9;

/// What a class would ask of a place.
#[derive(Debug, Clone, Copy)]
pub(in crate::plan::provision) struct Wish<'class> {
    /// Size of one pod, by dimension.
    pub(in crate::plan::provision) size: &'class [i64],
    /// How many of its pods could come to the place.
    pub(in crate::plan::provision) most: u32,
    /// How many of them one machine may hold by the constraints.
    pub(in crate::plan::provision) each: u32,
}

impl<'class> Wish<'class> {
    pub(in crate::plan::provision) fn of(class: &'class Class, most: u32, each: u32) -> Self {
        Self {
            size: &class.size,
            most: most.max(1),
            each: each.max(1),
        }
    }
}

/// Sums over everything that waits, by the set of candidates that it could be on.
#[derive(Debug, Default)]
pub(in crate::plan::provision) struct Demand {
    of: BTreeMap<Bits, Vec<f64>>,
}

impl Demand {
    /// So many pods of a class could be on these candidates.
    pub(in crate::plan::provision) fn add(&mut self, wish: &Wish<'_>, candidates: Bits) {
        let sums = self
            .of
            .entry(candidates)
            .or_insert_with(|| vec![0.0; wish.size.len()]);
        for (sum, size) in sums.iter_mut().zip(wish.size) {
            *sum += real(*size) * f64::from(wish.most);
        }
    }
}

/// A candidate as prices see it.
#[derive(Debug)]
struct Offer {
    price: f64,
    /// What one unit of each dimension takes of the machine; 0 where it has nothing of it.
    parts: Vec<f64>,
    /// How many of these machines everything that could be on them would fill.
    load: f64,
}

/// Prices of places.
#[derive(Debug)]
pub(in crate::plan::provision) struct Prices<'class> {
    offers: Vec<Offer>,
    known: BTreeMap<(Bits, &'class [i64], u32, u32), Option<i64>>,
}

impl<'class> Prices<'class> {
    /// Prices where `demand` waits.
    pub(in crate::plan::provision) fn of(
        supply: &Supply,
        capacities: &[Vec<i64>],
        demand: &Demand,
    ) -> Self {
        let mut asked: Vec<Vec<f64>> = capacities
            .iter()
            .map(|capacity| vec![0.0; capacity.len()])
            .collect();
        for (candidates, sums) in &demand.of {
            for candidate in candidates.iter() {
                for (asked, sum) in asked.get_mut(candidate).into_iter().flatten().zip(sums) {
                    *asked += sum;
                }
            }
        }
        let offers = supply
            .candidates
            .iter()
            .zip(capacities)
            .zip(asked)
            .map(|((candidate, capacity), asked)| {
                // There are few slots: most pods pay for what comes after them.
                let instead = candidate.slot.as_ref().map(|slot| slot.instead);
                let parts: Vec<f64> = capacity
                    .iter()
                    .map(|capacity| match capacity {
                        1.. => 1.0 / real(*capacity),
                        _ => 0.0,
                    })
                    .collect();
                Offer {
                    price: real(instead.unwrap_or_else(|| candidate.weighed()).units()),
                    load: most_of(asked.iter().zip(&parts)),
                    parts,
                }
            })
            .collect();
        Self {
            offers,
            known: BTreeMap::new(),
        }
    }

    /// The price of one pod where it is cheapest among these candidates, rounded to whole money units, so that
    /// places of equal price are equal; `None` without candidates.
    pub(in crate::plan::provision) fn cheapest(
        &mut self,
        wish: &Wish<'class>,
        candidates: Bits,
    ) -> Option<i64> {
        let key = (candidates, wish.size, wish.most, wish.each);
        if let Some(known) = self.known.get(&key) {
            return *known;
        }
        let size: Vec<f64> = wish.size.iter().map(|size| real(*size)).collect();
        let found = key
            .0
            .iter()
            .filter_map(|index| self.offers.get(index))
            .map(|offer| offer.price_of(&size, wish))
            .min_by(f64::total_cmp)
            .map(|price| whole(price.round()));
        self.known.insert(key, found);
        found
    }
}

impl Offer {
    fn price_of(&self, size: &[f64], wish: &Wish<'_>) -> f64 {
        let share = most_of(size.iter().zip(&self.parts)).max(CLOSE);
        let fitting = (1.0 / share + CLOSE).floor().max(1.0);
        let most = f64::from(wish.most);
        let own = most / fitting.min(f64::from(wish.each));
        let load = self.load.max(share * most);
        // What is left over on one's own machines is of use to the others there.
        let machines = load.max(own).max(1.0);
        self.price * machines * share / load
    }
}

fn most_of<'amounts>(amounts: impl Iterator<Item = (&'amounts f64, &'amounts f64)>) -> f64 {
    amounts
        .map(|(amount, part)| amount * part)
        .fold(0.0, f64::max)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "only compares places; what is beyond 2^53 differs by less than any price"
)]
const fn real(value: i64) -> f64 {
    value as f64
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "saturates, and only compares places"
)]
const fn whole(value: f64) -> i64 {
    value as i64
}
