//! In which order a class tries what it could be on.
//!
//! Given a class and what of the supply it may use; given back its candidates in levels: what its NodePools and
//! its own rules decide first, then what it prefers of nodes as far as that is worth its price, then the weight of
//! the NodePool. Likes are summed as kube-scheduler sums them: every preferred term that matches counts with its
//! weight. Nothing is bought here, and nothing that a class may use is left out.

use std::collections::BTreeMap;

use super::class::{Class, is_spark_driver};
use super::labels::{CAPACITY_TYPE, DemandTerm, Labelled, read_term};
use super::settings::Premium;
use super::supply::Supply;
use crate::model::requirement::Requirements;
use crate::model::taint::{Taint, TaintEffect, Toleration};
use crate::plan::pack::Bits;

/// What a class thinks of a candidate; the greatest is the best.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    /// What no price outweighs: taints that ask to be avoided, and capacity that a driver does not lose.
    will: i8,
    /// How much the pods prefer it.
    pub liking: i64,
    /// Weight of the NodePool.
    weight: i32,
}

/// The candidates of each pool variant.
pub fn by_variant(supply: &Supply) -> Vec<Bits> {
    let count = supply.candidates.len();
    let mut found = vec![Bits::empty(count); supply.variants.len()];
    for (index, candidate) in supply.candidates.iter().enumerate() {
        if let Some(bits) = found.get_mut(candidate.variant) {
            bits.insert(index);
        }
    }
    found
}

/// Groups the candidates of `usable` by rank, given those of each variant.
pub fn ranked(
    class: &Class,
    supply: &Supply,
    (usable, of_variant): (&Bits, &[Bits]),
    drivers_on_demand: bool,
) -> BTreeMap<Rank, Bits> {
    let preferred = preferences(class);
    let driver = drivers_on_demand
        && is_spark_driver(&class.spec)
        && !class.demand.keys().any(|key| key == CAPACITY_TYPE);
    let none = || Bits::empty(supply.candidates.len());
    let mut levels: BTreeMap<Rank, Bits> = BTreeMap::new();
    for (variant, bits) in supply.variants.iter().zip(of_variant) {
        let here = usable.and(bits);
        if here.is_empty() {
            continue;
        }
        let avoided = has_unwelcome_taint(&variant.pool.taints, &class.spec.tolerations);
        let plain = Rank {
            will: -2 * i8::from(avoided),
            liking: 0,
            weight: variant.pool.weight,
        };
        if preferred.is_empty() && !driver {
            levels.entry(plain).or_insert_with(none).add_all(&here);
            continue;
        }
        for index in here.iter() {
            let Some(labels) = supply.labels(index) else {
                continue;
            };
            let firm = driver && labels.label(CAPACITY_TYPE) != Some("spot");
            let accepted = preferred.iter().filter(|(_, term)| term.accepts(&labels));
            let rank = Rank {
                will: plain.will + i8::from(firm),
                liking: accepted.map(|(weight, _term)| *weight).sum(),
                ..plain
            };
            levels.entry(rank).or_insert_with(none).insert(index);
        }
    }
    levels
}

/// Levels, and what became of the wishes in them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Priced {
    /// The levels.
    pub levels: Vec<Bits>,
    /// What is liked best where prices do not count.
    pub liked: Bits,
    /// What one pod would cost more on the cheapest of what is liked better than the first level's, where that
    /// fell behind for its price.
    pub fallen: Option<i64>,
}

/// Orders ranks by what they are worth: what is liked better comes first while its price for one pod is within the
/// premium of what would be bought without wishes, which is the cheapest of the heaviest NodePool. What is liked
/// better and costs too much joins the level that comes instead, so that the price decides there.
pub fn by_worth(
    ranks: &BTreeMap<Rank, Bits>,
    premium: Premium,
    mut price: impl FnMut(&Bits) -> Option<i64>,
) -> Priced {
    let mut open: Vec<(Rank, &Bits, i64)> = ranks
        .iter()
        .rev()
        .filter_map(|(rank, bits)| Some((*rank, bits, price(bits)?)))
        .collect();
    let mut priced = Priced {
        liked: open
            .first()
            .map_or_else(Bits::default, |best| best.1.clone()),
        ..Priced::default()
    };
    while let Some((first, first_price)) = next(&open, premium) {
        let mut level = Bits::default();
        let better = open
            .iter()
            .filter(|(rank, _bits, _price)| rank.will == first.will && rank.liking > first.liking);
        if priced.levels.is_empty() {
            let least = better.map(|(_rank, _bits, price)| *price).min();
            priced.fallen = least.map(|least| least.saturating_sub(first_price));
        }
        open.retain(|(rank, bits, _price)| {
            let joins = rank.will == first.will
                && rank.weight == first.weight
                && rank.liking >= first.liking;
            if joins && level.is_empty() {
                level = (*bits).clone();
            } else if joins {
                level.add_all(bits);
            }
            !joins
        });
        priced.levels.push(level);
    }
    priced
}

/// The rank that comes next, and what a pod costs there.
fn next(open: &[(Rank, &Bits, i64)], premium: Premium) -> Option<(Rank, i64)> {
    let will = open.iter().map(|(rank, ..)| rank.will).max()?;
    let same = || open.iter().filter(|(rank, ..)| rank.will == will);
    let (cheapest, _bits, least) = same().min_by_key(|(rank, _bits, price)| {
        let weight = std::cmp::Reverse(rank.weight);
        (weight, *price, std::cmp::Reverse(rank.liking))
    })?;
    same()
        .filter(|(rank, _bits, price)| {
            let gain = rank.liking.saturating_sub(cheapest.liking);
            gain >= 0 && *price <= premium.ceiling(*least, gain)
        })
        .max_by_key(|(rank, ..)| *rank)
        .map(|(rank, _bits, price)| (*rank, *price))
}

/// The levels of a class without wishes.
pub fn without_wishes(ranks: &BTreeMap<Rank, Bits>) -> Vec<Bits> {
    let mut levels: BTreeMap<(i8, i32), Bits> = BTreeMap::new();
    for (rank, bits) in ranks {
        levels
            .entry((rank.will, rank.weight))
            .and_modify(|level| level.add_all(bits))
            .or_insert_with(|| bits.clone());
    }
    levels.into_values().rev().collect()
}

fn has_unwelcome_taint(taints: &[Taint], tolerations: &[Toleration]) -> bool {
    taints.iter().any(|taint| {
        taint.effect == TaintEffect::PreferNoSchedule
            && !tolerations.iter().any(|own| own.tolerates(taint))
    })
}

fn preferences(class: &Class) -> Vec<(i64, DemandTerm)> {
    class
        .spec
        .constraints
        .iter()
        .flat_map(|constraints| &constraints.preferred_node_terms)
        .filter_map(|(weight, term)| {
            let term = read_term(term, &Requirements::new()).ok().flatten()?;
            Some((i64::from(*weight), term))
        })
        .collect()
}
