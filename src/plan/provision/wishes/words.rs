//! What plans say of wishes that have a price.
//!
//! Given the fleet that is bought and what wishes cost; given back for each class of pods whose wishes cost
//! something, or were given up because they would, what that is. Wishes that cost nothing are met and not talked of.

use std::collections::BTreeMap;

use super::super::labels::HOSTNAME;
use super::super::supply::Supply;
use super::Wishes;
use super::bill::Bill;
use super::tries::{Attempt, Compared};
use crate::model::money::UsdPerHour;
use crate::model::pod::{NodeTerm, PodSpec, PodTerm};
use crate::model::report::PricedWish;
use crate::plan::pack::Bits;

/// So many wishes of a pod are named at most.
const FEW: usize = 3;

/// The wishes that have a price, in class order.
pub(in crate::plan::provision) fn told(
    wishes: &Wishes,
    supply: &Supply,
    (bought, compared): (&Attempt, Option<&Compared>),
) -> Vec<PricedWish> {
    let mut kept = BTreeMap::new();
    let mut given_up = BTreeMap::new();
    if let Some(compared) = compared {
        let heard = |class: &usize| bought.heard.get(*class) == Some(&true);
        let wishing =
            || (0..wishes.weights.len()).filter(|class| wishes.weights.get(*class) > Some(&0));
        let all: Vec<usize> = wishing().filter(heard).collect();
        kept = parted(&compared.bought, &compared.without, &all);
        let all: Vec<usize> = wishing().filter(|class| !heard(class)).collect();
        given_up = parted(&compared.with_all, &compared.bought, &all);
    }
    let mut told = Vec::new();
    for (index, class) in bought.classes.iter().enumerate() {
        let (price, is_kept) = match (kept.get(&index), given_up.get(&index)) {
            (Some(price), _) => (*price, true),
            (None, Some(price)) => (*price, false),
            (None, None) => match fallen(wishes, supply, bought, index) {
                Some(price) => (price, false),
                None => continue,
            },
        };
        if price > 0 {
            told.push(PricedWish {
                pods: class.pods.to_vec(),
                wish: words(&class.spec),
                kept: is_kept,
                price: UsdPerHour::from_units(price),
            });
        }
    }
    told
}

/// What a fleet costs more than another, divided between classes by how much more each pays.
fn parted(dear: &Bill, cheap: &Bill, classes: &[usize]) -> BTreeMap<usize, i64> {
    let extra = i128::from(dear.price.saturating_sub(cheap.price));
    let more = |class: usize| i128::from(dear.more_than(cheap, class).max(0));
    let all: i128 = classes.iter().map(|class| more(*class)).sum();
    if extra <= 0 || all == 0 {
        return BTreeMap::new();
    }
    classes
        .iter()
        .map(|class| {
            (
                *class,
                i64::try_from(extra * more(*class) / all).unwrap_or(i64::MAX),
            )
        })
        .filter(|(_class, part)| *part > 0)
        .collect()
}

/// What the nodes that a class likes best would cost more for those of its pods that are bought others.
fn fallen(wishes: &Wishes, supply: &Supply, bought: &Attempt, class: usize) -> Option<i64> {
    let (priced, _unwished) = wishes.nodes.get(&class)?;
    let pods = i64::from(elsewhere(supply, bought, class, &priced.liked));
    priced.fallen?.checked_mul(pods)
}

/// How many pods of a class are on new nodes that are not among these candidates.
fn elsewhere(supply: &Supply, bought: &Attempt, class: usize, liked: &Bits) -> u32 {
    let nodes = bought.placement.purchase.nodes.iter();
    let others = nodes
        .filter(|node| node.candidate < supply.candidates.len() && !liked.contains(node.candidate));
    let contents = others.flat_map(|node| &node.contents);
    contents
        .filter_map(|(index, count)| {
            let item = bought.arranged.items.get(*index)?;
            let own = item.content.iter().filter(|(own, _each)| *own == class);
            Some(
                own.map(|(_class, each)| each.saturating_mul(*count))
                    .sum::<u32>(),
            )
        })
        .sum()
}

/// The wishes of a pod that something could cost, as people would say them.
fn words(spec: &PodSpec) -> String {
    let Some(constraints) = &spec.constraints else {
        return String::new();
    };
    let nodes = constraints.preferred_node_terms.iter();
    let mut all: Vec<String> = nodes.map(|(_weight, term)| of_nodes(term)).collect();
    let spreads = constraints.spread.iter().filter(|spread| !spread.required);
    all.extend(
        spreads
            .filter(|spread| spread.topology_key != HOSTNAME)
            .map(|spread| format!("spread over {}", spread.topology_key)),
    );
    let mut add = |terms: &[(i32, PodTerm)], what: &str| {
        let shared = terms
            .iter()
            .filter(|(_weight, term)| term.topology_key != HOSTNAME);
        all.extend(shared.map(|(_weight, term)| format!("{what} in {}", term.topology_key)));
    };
    add(&constraints.preferred_affinity, "company");
    add(&constraints.preferred_anti_affinity, "distance");
    let more = all.len().saturating_sub(FEW);
    all.truncate(FEW);
    let mut text = all.join(", ");
    if more > 0 {
        text.push_str(", ...");
    }
    text
}

fn of_nodes(term: &NodeTerm) -> String {
    let expressions = term.expressions.iter().chain(&term.fields);
    let written = expressions.map(|own| {
        let values = own.values.join(",");
        let words = format!("{} {} {values}", own.key, own.operator);
        words.trim_end().to_owned()
    });
    written.collect::<Vec<_>>().join(" and ")
}
