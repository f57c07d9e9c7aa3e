//! Wishes that a fleet meets are weighed against the fleet without them.
//!
//! Given classes with their wishes; given back the fleet that is bought. The prices of places say whether a wish
//! is worth it as long as machines are shared; what a wish costs in whole machines shows only when all is packed.
//! So where a fleet with wishes is dearer than its lower bound, which knows of none, it is packed again without,
//! and wishes whose pods pay more for them than they are worth are left out. At most three fleets are tried beside
//! the first, for the budget of one.

use super::super::class::Class;
use super::super::min_values;
use super::super::place::{Placement, World};
use super::super::settings::Premium;
use super::super::stock::Bin;
use super::super::supply::Supply;
use super::super::topology::{Arranged, Layout, Stage};
use super::super::weigh::{self, MOST_PODS, Worth};
use super::Wishes;
use super::bill::Bill;
use super::settle::settle;
use crate::model::snapshot::Snapshot;

/// A fleet this close to its lower bound, in thousandths, pays for no wish.
const FREE_PERMILLE: i64 = 1;
/// How often wishes that cost too much are left out and the rest is tried again.
const ROUNDS: usize = 2;

/// What does not depend on which wishes are heard.
#[derive(Clone, Copy)]
pub(in crate::plan::provision) struct Ground<'round> {
    pub(in crate::plan::provision) snapshot: &'round Snapshot,
    pub(in crate::plan::provision) supply: &'round Supply,
    pub(in crate::plan::provision) bins: &'round [Bin],
    /// The bins that suit each class: wishes and minValues change nothing of that.
    pub(in crate::plan::provision) suitable: &'round [Vec<usize>],
    /// What each candidate offers, by dimension.
    pub(in crate::plan::provision) capacities: &'round [Vec<i64>],
    /// What may be used of each candidate, by dimension.
    pub(in crate::plan::provision) usable: &'round [Vec<i64>],
    pub(in crate::plan::provision) dimensions: &'round [String],
    pub(in crate::plan::provision) premium: Premium,
    pub(in crate::plan::provision) budget: u64,
    pub(in crate::plan::provision) over: &'round dyn Fn() -> bool,
}

/// A fleet, and what it was made of.
pub(in crate::plan::provision) struct Attempt {
    pub(in crate::plan::provision) classes: Vec<Class>,
    pub(in crate::plan::provision) arranged: Arranged,
    pub(in crate::plan::provision) placement: Placement,
    /// By class whether its wishes were heard.
    pub(super) heard: Vec<bool>,
    pub(super) worth: Worth,
    pub(super) bill: Bill,
}

/// What wishes cost: who pays how much in the fleet with all wishes, in the one that is bought, and in the one
/// without, where they were tried.
#[derive(Debug, Clone)]
pub(in crate::plan::provision) struct Compared {
    pub(super) with_all: Bill,
    pub(super) bought: Bill,
    pub(super) without: Bill,
}

/// The fleet in which wishes are met as far as they are worth it, and what they cost if that had to be found out.
pub(in crate::plan::provision) fn best(
    ground: &Ground<'_>,
    classes: Vec<Class>,
    wishes: &Wishes,
) -> (Attempt, Option<Compared>) {
    if wishes.is_empty() {
        let heard = wishes.heard();
        return (ground.attempt(classes, heard, ground.budget), None);
    }
    let suite = Suite {
        ground,
        classes: &classes,
        wishes,
    };
    let first = suite.with(wishes.heard(), ground.budget);
    let (mut bought, compared) = if suite.is_free(&first) {
        (first, None)
    } else {
        suite.weighed(first)
    };
    settle(ground, wishes, &mut bought);
    (bought, compared)
}

impl Ground<'_> {
    /// The fleet for classes as they are.
    fn attempt(&self, mut classes: Vec<Class>, heard: Vec<bool>, budget: u64) -> Attempt {
        min_values::leave_to_others(self.supply, (self.capacities, self.usable), &mut classes);
        let stage = Stage {
            snapshot: self.snapshot,
            classes: &classes,
            supply: self.supply,
            bins: self.bins,
            suitable: self.suitable,
            capacities: self.usable,
            dimensions: self.dimensions,
            premium: self.premium,
            heard: &heard,
        };
        let world = World {
            stage,
            capacities: self.usable,
            whole: self.capacities,
            budget,
            proves: true,
            over: self.over,
        };
        let (arranged, placement) = weigh::best(&Layout::of(stage), &world);
        let worth = Worth::of(&stage, &arranged, &placement);
        let parts = (&*classes, self.supply, self.capacities);
        let bill = Bill::of(parts, &arranged.items, &placement);
        Attempt {
            classes,
            arranged,
            placement,
            heard,
            worth,
            bill,
        }
    }
}

/// Classes with wishes on their ground.
struct Suite<'round> {
    ground: &'round Ground<'round>,
    classes: &'round [Class],
    wishes: &'round Wishes,
}

impl Suite<'_> {
    /// The fleet where only these are heard.
    fn with(&self, heard: Vec<bool>, budget: u64) -> Attempt {
        let mut classes = self.classes.to_vec();
        self.wishes.apply(&mut classes, &heard);
        self.ground.attempt(classes, heard, budget)
    }

    /// True when no fleet without wishes can be so much cheaper that it had to be looked for.
    fn is_free(&self, first: &Attempt) -> bool {
        let proofs = first.placement.purchase.proofs.iter();
        let bound = proofs.fold(0_i64, |sum, proof| sum.saturating_add(proof.bound));
        let extra = first.bill.price.saturating_sub(bound);
        let pods: usize = self.classes.iter().map(|class| class.pods.len()).sum();
        extra <= first.bill.price / 1000 * FREE_PERMILLE
            || (self.ground.over)()
            || (pods > MOST_PODS && self.allows(first, extra))
    }

    /// True when wishes may cost so much in a fleet, were what their classes pay for as far above the bound as all is.
    fn allows(&self, fleet: &Attempt, extra: i64) -> bool {
        let share = |paid: i64| {
            let least = i128::from(fleet.bill.price.saturating_sub(extra));
            let own = i128::from(paid) * least / i128::from(fleet.bill.price.max(1));
            i64::try_from(own).unwrap_or(0)
        };
        let worth = (0..self.classes.len())
            .filter(|class| fleet.heard.get(*class) == Some(&true))
            .map(|class| self.worth_of(class, share(fleet.bill.of_class(class))));
        extra <= worth.fold(0, i64::saturating_add)
    }

    /// What the wishes of a class are worth whose pods cost so much without.
    fn worth_of(&self, class: usize, price: i64) -> i64 {
        let weight = self.wishes.weights.get(class).copied().unwrap_or(0);
        let ceiling = self.ground.premium.ceiling(price, weight);
        ceiling.saturating_sub(price)
    }

    fn worth_of_all(&self, classes: impl Iterator<Item = usize>, without: &Attempt) -> i64 {
        classes
            .map(|class| self.worth_of(class, without.bill.of_class(class)))
            .fold(0, i64::saturating_add)
    }

    /// Leaves out wishes that cost more than they are worth.
    fn weighed(&self, first: Attempt) -> (Attempt, Option<Compared>) {
        let budget = self.ground.budget;
        let without = self.with(vec![false; self.classes.len()], budget / 2);
        let with_all = first.bill.clone();
        let mut bought = first;
        for _round in 0..ROUNDS {
            let (mut dear, mut heard) = (Vec::new(), bought.heard.clone());
            for (class, heard) in heard.iter_mut().enumerate().filter(|(_, heard)| **heard) {
                let worth = self.worth_of(class, without.bill.of_class(class));
                if bought.bill.more_than(&without.bill, class) > worth {
                    *heard = false;
                    dear.push(class);
                }
            }
            if dear.is_empty() || !heard.contains(&true) || (self.ground.over)() {
                break;
            }
            let next = self.with(heard, budget / 4);
            let worth = self.worth_of_all(dear.into_iter(), &without);
            if is_worth(&bought, &next, worth) {
                break;
            }
            bought = next;
        }
        let heard = (0..self.classes.len()).filter(|class| bought.heard.get(*class) == Some(&true));
        let worth = self.worth_of_all(heard, &without);
        let bill = without.bill.clone();
        if !is_worth(&bought, &without, worth) {
            bought = without;
        }
        let compared = Compared {
            with_all,
            bought: bought.bill.clone(),
            without: bill,
        };
        (bought, Some(compared))
    }
}

/// True when a fleet with more wishes is to be preferred, given what those are worth: they keep no pod waiting, and
/// cost no more.
fn is_worth(with: &Attempt, without: &Attempt, worth: i64) -> bool {
    match with.worth.left.cmp(&without.worth.left) {
        std::cmp::Ordering::Less => true,
        std::cmp::Ordering::Greater => false,
        std::cmp::Ordering::Equal => with.worth.price.saturating_sub(without.worth.price) <= worth,
    }
}
