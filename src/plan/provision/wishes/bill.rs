//! What each class of pods pays for in a fleet.
//!
//! Given what is bought; given back each class's part of it: of every machine the pods on it pay by the share of
//! it that each takes in the resource it takes most of, together all of it. So what a wish costs is known by whose
//! it is. Nothing is chosen here.

use super::super::class::Class;
use super::super::item::Item;
use super::super::place::Placement;
use super::super::supply::{Candidate, Supply};

/// Shares are counted in such parts of a machine.
const PARTS: i128 = 1_000_000;

/// What a fleet costs, and who pays for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::plan::provision) struct Bill {
    /// By class, risks counted.
    pub(super) by_class: Vec<i64>,
    /// What is paid for all machines, with fees, without risks.
    pub(super) price: i64,
}

impl Bill {
    pub(super) fn of(
        (classes, supply, capacities): (&[Class], &Supply, &[Vec<i64>]),
        items: &[Item],
        placement: &Placement,
    ) -> Self {
        let mut bill = Self {
            by_class: vec![0; classes.len()],
            price: 0,
        };
        for node in &placement.purchase.nodes {
            let (Some(candidate), Some(capacity)) = (
                supply.candidates.get(node.candidate),
                capacities.get(node.candidate),
            ) else {
                continue;
            };
            let mut shares: Vec<(usize, i128)> = Vec::new();
            for (index, count) in &node.contents {
                let content = items.get(*index).map(|item| &item.content);
                for (class, each) in content.into_iter().flatten() {
                    let size = classes.get(*class).map_or(&[][..], |class| &class.size);
                    let pods = i128::from(*count) * i128::from(*each);
                    shares.push((*class, pods * part(size, capacity)));
                }
            }
            bill.add(candidate, &shares);
        }
        bill
    }

    fn add(&mut self, candidate: &Candidate, shares: &[(usize, i128)]) {
        self.price = self.price.saturating_add(candidate.price.units());
        let all: i128 = shares.iter().map(|(_class, share)| share).sum();
        let price = i128::from(candidate.weighed().units());
        for (class, share) in shares {
            let own = i64::try_from(price * share / all.max(1)).unwrap_or(i64::MAX);
            if let Some(sum) = self.by_class.get_mut(*class) {
                *sum = sum.saturating_add(own);
            }
        }
    }

    /// What a class pays for.
    pub(super) fn of_class(&self, class: usize) -> i64 {
        self.by_class.get(class).copied().unwrap_or(0)
    }

    /// How much more a class pays for here than there.
    pub(super) fn more_than(&self, other: &Self, class: usize) -> i64 {
        self.of_class(class).saturating_sub(other.of_class(class))
    }
}

/// The share of a machine that one pod takes in what it takes most of; never nothing.
fn part(size: &[i64], capacity: &[i64]) -> i128 {
    let shares = size.iter().zip(capacity).map(|(size, capacity)| {
        let capacity = i128::from(*capacity).max(1);
        i128::from(*size).max(0) * PARTS / capacity
    });
    shares.max().unwrap_or(0).max(1)
}
