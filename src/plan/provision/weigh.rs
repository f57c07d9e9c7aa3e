//! Where coupled pods go is weighed by what the whole fleet costs then.
//!
//! Given where classes could go; given back the cheapest fleet found. The price of a place says nothing of
//! what is left over on the machines of others there: with few pods that decides, so other places are tried
//! one class after the other, each with a small part of the budget, and what makes the fleet cheaper is
//! kept. With many pods a single class changes less than the searches differ, and the prices decide alone.

use std::collections::{BTreeMap, BTreeSet};

use super::place::{Placement, World, place};
use super::topology::{Arranged, Fork, Layout, Lean, Stage, Tilts};

/// With more pods than this a fleet is not tried with single classes elsewhere.
pub(super) const MOST_PODS: usize = 200;
/// Part of the budget, in percent, that all tries may spend together.
const TRIES_PERCENT: u64 = 50;
/// Each try may spend this part of the budget, but no less than [`LEAST_UNITS`].
const TRY_PART: u64 = 100;
const LEAST_UNITS: u64 = 4_000;
/// So many comparisons of two candidates are one unit of work.
const COMPARING: u64 = 32;
/// Classes with more places than this are left to the prices: trying all of them takes too long.
const MOST_CHOICES: usize = 12;

/// What a fleet is compared by: pods without a place, the important ones first, then its price.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Worth {
    pub(super) left: Vec<(std::cmp::Reverse<i32>, u32)>,
    pub(super) price: i64,
}

struct Tries<'round> {
    layout: &'round Layout<'round>,
    world: World<'round>,
    /// Units of work that are left.
    units: u64,
    /// What a try takes beside its search.
    fixed: u64,
}

/// The best arrangement found, and where everything went in it.
pub(super) fn best(layout: &Layout<'_>, world: &World<'_>) -> (Arranged, Placement) {
    let mut forks = layout.forks();
    forks.retain(|fork| fork.choices.len() <= MOST_CHOICES);
    let pods: usize = world
        .stage
        .classes
        .iter()
        .map(|class| class.pods.len())
        .sum();
    let candidates = u64::try_from(world.capacities.len()).unwrap_or(u64::MAX);
    let classes = u64::try_from(world.stage.classes.len()).unwrap_or(u64::MAX);
    let all = world.budget / 100 * TRIES_PERCENT;
    let mut tries = Tries {
        layout,
        world: World {
            budget: (world.budget / TRY_PART).max(LEAST_UNITS),
            proves: false,
            ..*world
        },
        units: all,
        // Arranging items looks at each candidate for each class, and a search compares candidates first.
        fixed: candidates
            .saturating_mul(classes)
            .saturating_add(candidates.saturating_mul(candidates) / COMPARING),
    };
    let tilts = if forks.is_empty() || pods > MOST_PODS {
        Tilts::new()
    } else {
        tries.climb(&forks)
    };
    let spent = all - tries.units;
    let mut arranged = layout.arranged(&tilts);
    let last = World {
        budget: world.budget.saturating_sub(spent),
        ..*world
    };
    let placement = place(&mut arranged, &last);
    (arranged, placement)
}

impl Tries<'_> {
    /// Tilts classes as long as that makes the fleet cheaper.
    fn climb(&mut self, forks: &[Fork]) -> Tilts {
        let mut best = Tilts::new();
        let Some(mut worth) = self.worth(&best) else {
            return best;
        };
        // All to one place first: what is left over there is shared by most.
        let places: BTreeSet<&Vec<Option<usize>>> =
            forks.iter().flat_map(|fork| &fork.choices).collect();
        for place in places {
            let tilts = forks.iter().filter_map(|fork| {
                let choice = fork.choices.iter().position(|values| values == place)?;
                Some((fork.class, (choice, Lean::To)))
            });
            self.keep_better(tilts.collect(), &mut best, &mut worth);
        }
        loop {
            let before = worth.clone();
            for fork in forks {
                for choice in 0..fork.choices.len() {
                    let leans: &[Lean] = if fork.divides && fork.choices.len() > 2 {
                        &[Lean::To, Lean::Off]
                    } else {
                        &[Lean::To]
                    };
                    for lean in leans {
                        let mut tilts = best.clone();
                        tilts.insert(fork.class, (choice, *lean));
                        self.keep_better(tilts, &mut best, &mut worth);
                    }
                }
            }
            if worth == before || self.units == 0 {
                return best;
            }
        }
    }

    fn keep_better(&mut self, tilts: Tilts, best: &mut Tilts, worth: &mut Worth) {
        if tilts == *best {
            return;
        }
        if let Some(found) = self.worth(&tilts)
            && found < *worth
        {
            *worth = found;
            *best = tilts;
        }
    }

    /// What the fleet comes to with these tilts; `None` once the units are spent or the time is up.
    fn worth(&mut self, tilts: &Tilts) -> Option<Worth> {
        if self.units == 0 || (self.world.over)() {
            return None;
        }
        let mut arranged = self.layout.arranged(tilts);
        let placement = place(&mut arranged, &self.world);
        let spent = self.fixed.saturating_add(placement.purchase.units);
        self.units = self.units.saturating_sub(spent);
        Some(Worth::of(&self.world.stage, &arranged, &placement))
    }
}

impl Worth {
    /// What an arrangement comes to where everything went as it did.
    pub(super) fn of(stage: &Stage<'_>, arranged: &Arranged, placement: &Placement) -> Self {
        let mut left: Vec<u32> = stage
            .classes
            .iter()
            .map(|class| u32::try_from(class.pods.len()).unwrap_or(u32::MAX))
            .collect();
        let bought = placement.purchase.nodes.iter().map(|node| &node.contents);
        let filled = placement.states.iter().map(|state| &state.taken);
        for (index, count) in bought.chain(filled).flatten() {
            let content = arranged.items.get(*index).map(|item| &item.content);
            for (class, each) in content.into_iter().flatten() {
                if let Some(left) = left.get_mut(*class) {
                    *left = left.saturating_sub(each.saturating_mul(*count));
                }
            }
        }
        let mut by_priority: BTreeMap<std::cmp::Reverse<i32>, u32> = BTreeMap::new();
        for (class, left) in stage.classes.iter().zip(left) {
            let sum = by_priority
                .entry(std::cmp::Reverse(class.spec.priority))
                .or_default();
            *sum = sum.saturating_add(left);
        }
        let candidates = &stage.supply.candidates;
        let nodes = placement.purchase.nodes.iter();
        let price = nodes
            .filter_map(|node| candidates.get(node.candidate))
            .fold(0_i64, |sum, candidate| {
                sum.saturating_add(candidate.weighed().units())
            });
        Self {
            left: by_priority.into_iter().collect(),
            price,
        }
    }
}
