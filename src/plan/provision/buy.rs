//! New nodes: the packer, asked level by level and held to the limits.
//!
//! Given items that no existing room took; given back machines with contents, and what no fleet for
//! the same pods could cost less than. An item is tried on its best level first; what limits keep
//! out there goes to the next.

use std::collections::BTreeMap;

use super::class::Class;
use super::fewer_slots;
use super::item::{Domain, Item};
use super::labels::Labelled;
use super::limits::Rooms;
use super::reserved::Free;
use super::supply::{Candidate, Supply};
use crate::model::money::UsdPerHour;
use crate::plan::pack::problem::{self, Machine, Packed, Problem};
use crate::plan::pack::{self, Bits, Budget, Certificate};

/// Part of the budget, in percent, that is kept for the lower bound where the packer's own does not
/// hold for the plan: the items were divided, or risks were weighed.
const PROOF_PERCENT: u64 = 20;
/// Part of the budget, in percent, that every level may spend, whatever those before it did.
const LEVEL_PERCENT: u64 = 20;

/// A node to buy: candidate and contents by item.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bought {
    /// Index of the candidate.
    pub candidate: usize,
    /// The level of the items that it was bought for.
    pub level: usize,
    /// Item index and how many.
    pub contents: Vec<(usize, u32)>,
    /// Where it must be beside what its items say, for the sake of wishes that cost nothing there.
    pub places: Vec<Domain>,
}

impl Bought {
    /// Candidates that every item on it may use, on the level that it was bought on.
    pub fn allowed(&self, items: &[Item], supply: &Supply) -> Bits {
        let mut allowed = Bits::full(supply.candidates.len());
        for (index, _count) in &self.contents {
            let level = items
                .get(*index)
                .and_then(|item| item.levels.get(self.level));
            if let Some(level) = level {
                allowed.retain(level);
            }
        }
        if self.places.is_empty() {
            return allowed;
        }
        Bits::of(supply.candidates.len(), |index| {
            let labels = supply.labels(index);
            allowed.contains(index)
                && labels.is_some_and(|labels| {
                    let mut places = self.places.iter();
                    places.all(|place| place.accepts(labels.label(&place.key)))
                })
        })
    }
}

/// A lower bound on the price of what one level buys, with its proof.
#[derive(Debug, Clone)]
pub struct Proof {
    /// The problem that it is about: pods by class, without the choices that were made for them.
    pub problem: Problem,
    /// The class of each item of the problem.
    pub classes: Vec<usize>,
    /// The proof.
    pub certificate: Certificate,
    /// What it proves, in money units.
    pub bound: i64,
}

/// What one planning round buys.
#[derive(Debug, Clone, Default)]
pub struct Purchase {
    /// The nodes.
    pub nodes: Vec<Bought>,
    /// For each item the candidates that it would have used but for limits.
    pub limited: Vec<Bits>,
    /// Lower bounds, one for each level that bought something.
    pub proofs: Vec<Proof>,
    /// The wall-clock guard ended the search early.
    pub truncated: bool,
    /// Units of work spent on it.
    pub units: u64,
    /// Limits kept it from being the cheapest fleet.
    pub is_limited: bool,
}

impl Purchase {
    /// One in which nothing is bought yet.
    pub(super) fn none(market: &Market<'_>) -> Self {
        Self {
            limited: vec![Bits::empty(market.supply.candidates.len()); market.items.len()],
            ..Self::default()
        }
    }
}

/// What buying works with.
pub struct Market<'round> {
    /// The items.
    pub items: &'round [Item],
    /// The classes that they are made of.
    pub classes: &'round [Class],
    /// What could be bought.
    pub supply: &'round Supply,
    /// The candidates that are sold without end; the rest are slots of reservations.
    pub sold: &'round Bits,
    /// What may be used of each candidate, by dimension.
    pub capacities: &'round [Vec<i64>],
    /// Units of work for the search.
    pub budget: u64,
    /// Whether lower bounds are wanted.
    pub proves: bool,
    /// Asked between steps: true when the wall-clock time is up.
    pub over: &'round dyn Fn() -> bool,
}

impl std::fmt::Debug for Market<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Market")
            .field("items", &self.items.len())
            .field("candidates", &self.supply.candidates.len())
            .field("budget", &self.budget)
            .finish_non_exhaustive()
    }
}

/// What buying comes to.
struct Outcome {
    purchase: Purchase,
    rooms: Rooms,
    left: Vec<u32>,
    /// As [`Market::waiting`] says.
    waiting: Vec<u64>,
}

impl Outcome {
    fn waiting(&self) -> &[u64] {
        &self.waiting
    }

    fn leaves_some(&self) -> bool {
        self.waiting.iter().any(|pods| *pods > 0)
    }
}

/// Buys for everything that is left.
///
/// Slots of reservations come first: they are paid for. Where a NodePool limits its nodes a small slot may take
/// the place of a larger machine, and pods wait that it would have held; then fewer slots are taken, as many as
/// leave the fewest pods waiting. Finding out how many costs as much as buying once, at most.
pub fn buy(market: &Market<'_>, rooms: &mut Rooms, left: &mut [u32]) -> Purchase {
    let mut best = market.outcome(u32::MAX, market.budget, rooms, left);
    let slots = market.slots_of_limited_pools(&best.purchase, rooms);
    if slots > 0 && best.leaves_some() {
        let mut units = best.purchase.units;
        if let Some((most, probe)) = market.fewer_slots(slots, &best, (rooms, left), &mut units) {
            let careful = market.outcome(most, market.budget / 2, rooms, left);
            units = units.saturating_add(careful.purchase.units);
            best = if careful.waiting <= probe.waiting {
                careful
            } else {
                probe
            };
        }
        best.purchase.units = units;
    }
    *rooms = best.rooms;
    left.copy_from_slice(&best.left);
    best.purchase
}

/// As [`buy`], with so many slots at most for pools that limit their nodes.
fn buy_with(market: &Market<'_>, most_slots: u32, rooms: &mut Rooms, left: &mut [u32]) -> Purchase {
    let mut purchase = Purchase::none(market);
    let all: Vec<usize> = (0..market.items.len()).collect();
    let mut budget = market.budget;
    let mut slots = Free::of(market.supply, most_slots);
    for level in 0..market.deepest() {
        let reserved = market.take_slots(level, &mut slots, rooms, left);
        purchase.nodes.extend(reserved);
        let wanted = market.wanted(&all, level, left);
        if wanted.is_empty() {
            continue;
        }
        let first = purchase.nodes.len();
        let problem = market.problem(&wanted, level, left);
        let kept = if market.is_plain(&wanted) || !market.proves {
            0
        } else {
            market.budget / 100 * PROOF_PERCENT
        };
        let units = budget
            .saturating_sub(kept)
            .max(market.budget / 100 * LEVEL_PERCENT);
        let solution = pack::solve_guarded(&problem, Budget { units }, market.over);
        budget = budget.saturating_sub(solution.units);
        purchase.units = purchase.units.saturating_add(solution.units);
        purchase.truncated |= solution.truncated;
        let nodes = expand(&solution.packing.machines, &wanted, level);
        if let Some(after) = charged(rooms, market.supply, &nodes) {
            *rooms = after;
            settle(&nodes, left);
            purchase.nodes.extend(nodes);
            if market.is_plain(&wanted) {
                purchase.proofs.push(Proof {
                    classes: market.classes_of(&wanted),
                    problem,
                    certificate: solution.certificate,
                    bound: solution.lower_bound,
                });
                continue;
            }
        } else {
            purchase.is_limited = true;
            market.within_limits(&wanted, level, rooms, left, &mut purchase);
        }
        let bought = purchase.nodes.get(first..).unwrap_or_default();
        if market.proves {
            purchase.proofs.extend(market.prove(bought, level));
        }
    }
    purchase
}

impl Market<'_> {
    /// What comes of so many slots at most for pools that limit their nodes. Where limits make pods wait, those that
    /// matter more go first through all their levels, if fewer of them wait then.
    fn outcome(&self, most_slots: u32, budget: u64, rooms: &Rooms, left: &[u32]) -> Outcome {
        let market = Market { budget, ..*self };
        let tried = |buys: &dyn Fn(&mut Rooms, &mut [u32]) -> Purchase| {
            let (mut rooms, mut left) = (rooms.clone(), left.to_vec());
            let purchase = buys(&mut rooms, &mut left);
            Outcome {
                waiting: self.waiting(&left),
                purchase,
                rooms,
                left,
            }
        };
        let mut together = tried(&|rooms, left| buy_with(&market, most_slots, rooms, left));
        let may_matter = self.deepest() > 1 && self.priorities().len() > 1;
        if may_matter && together.purchase.is_limited && together.leaves_some() {
            let mut ranked = tried(&|rooms, left| market.by_priority(most_slots, rooms, left));
            if ranked.waiting < together.waiting {
                std::mem::swap(&mut ranked, &mut together);
            }
            let units = ranked.purchase.units;
            together.purchase.units = together.purchase.units.saturating_add(units);
        }
        together
    }

    /// How many levels some item has.
    pub(super) fn deepest(&self) -> usize {
        let levels = self.items.iter().map(|item| item.levels.len());
        levels.max().unwrap_or(0)
    }

    /// Those of some items that are left and may be on something that is sold on a level.
    pub(super) fn wanted(&self, items: &[usize], level: usize, left: &[u32]) -> Vec<usize> {
        let may = |index: &usize| {
            let allowed = self
                .items
                .get(*index)
                .and_then(|item| item.levels.get(level));
            left.get(*index).is_some_and(|left| *left > 0)
                && allowed.is_some_and(|allowed| allowed.intersects(self.sold))
        };
        items.iter().copied().filter(may).collect()
    }

    /// The most slots below `slots` that leave the fewest pods waiting, if those are fewer than with all slots.
    /// All tries together cost half of the budget.
    fn fewer_slots(
        &self,
        slots: u32,
        with_all: &Outcome,
        (rooms, left): (&Rooms, &[u32]),
        units: &mut u64,
    ) -> Option<(u32, Outcome)> {
        let tries = u64::from(fewer_slots::most_tries(slots)).max(1);
        let budget = self.budget / 2 / tries;
        fewer_slots::search(slots, &with_all.waiting, Outcome::waiting, |most| {
            if (self.over)() {
                return None;
            }
            let outcome = self.outcome(most, budget, rooms, left);
            *units = units.saturating_add(outcome.purchase.units);
            Some(outcome)
        })
    }

    pub(super) fn problem(&self, wanted: &[usize], level: usize, left: &[u32]) -> Problem {
        Problem {
            dimensions: self.items.first().map_or(0, |item| item.size.len()),
            items: wanted
                .iter()
                .filter_map(|index| {
                    let item = self.items.get(*index)?;
                    Some(problem::Item {
                        size: item.size.clone(),
                        count: left.get(*index).copied().unwrap_or(0),
                        allowed: item.levels.get(level)?.and(self.sold),
                        relations: item.relations.clone(),
                    })
                })
                .collect(),
            machines: self.machines(Candidate::weighed),
        }
    }

    fn machines(&self, price: impl Fn(&Candidate) -> UsdPerHour) -> Vec<Machine> {
        self.supply
            .candidates
            .iter()
            .zip(self.capacities)
            .map(|(candidate, capacity)| Machine {
                price: price(candidate).units(),
                capacity: capacity.clone(),
            })
            .collect()
    }

    /// True when what the packer proves holds for the plan: no item was narrowed or kept apart by a choice
    /// that was made for it here, or by a wish, and what was compared is what is paid.
    fn is_plain(&self, wanted: &[usize]) -> bool {
        let risky = |candidate: &Candidate| candidate.risk > UsdPerHour::ZERO;
        if self.supply.candidates.iter().any(risky) {
            return false;
        }
        wanted.iter().all(|index| {
            self.items.get(*index).is_some_and(|item| {
                let mut parts = item.parts.iter();
                let class = item.main_class().and_then(|class| self.classes.get(class));
                item.domains.is_empty()
                    && class.is_some_and(|class| class.unwished.is_empty())
                    && parts.all(|part| part.relations == item.relations)
            })
        })
    }

    fn classes_of(&self, wanted: &[usize]) -> Vec<usize> {
        wanted
            .iter()
            .filter_map(|index| self.items.get(*index)?.main_class())
            .collect()
    }

    /// The lower bound on the price of any fleet for the pods that were bought for, free of the
    /// choices that were made: each class may be wherever its pods may be at the level of the choice,
    /// in zones too that were not chosen for them, whatever they only prefer, and risk costs nothing.
    pub(super) fn prove(&self, bought: &[Bought], level: usize) -> Option<Proof> {
        let mut classes: Vec<usize> = Vec::new();
        let mut places: BTreeMap<usize, usize> = BTreeMap::new();
        let mut items: Vec<problem::Item> = Vec::new();
        for node in bought {
            for (index, count) in &node.contents {
                let item = self.items.get(*index)?;
                for part in &item.parts {
                    let number = count.saturating_mul(part.each);
                    let allowed = self.without_choices(part.class, item.levels.get(level)?);
                    let next = classes.len();
                    let known = *places.entry(part.class).or_insert(next);
                    if known < next {
                        let known = items.get_mut(known)?;
                        known.count = known.count.saturating_add(number);
                        known.allowed.add_all(&allowed);
                    } else {
                        classes.push(part.class);
                        items.push(problem::Item {
                            size: part.size.clone(),
                            count: number,
                            allowed,
                            relations: part.relations.clone(),
                        });
                    }
                }
            }
        }
        if items.is_empty() {
            return None;
        }
        let problem = Problem {
            dimensions: self.items.first().map_or(0, |item| item.size.len()),
            items,
            machines: self.machines(|candidate| candidate.price),
        };
        let units = self.budget / 100 * PROOF_PERCENT;
        let proven = pack::bound_guarded(&problem, Budget { units }, self.over);
        Some(Proof {
            classes,
            problem,
            certificate: proven.certificate,
            bound: proven.bound,
        })
    }

    /// Where pods of a class may be that were narrowed to `chosen`: a lower bound must hold for the
    /// places that were not chosen, too.
    fn without_choices(&self, class: usize, chosen: &Bits) -> Bits {
        let mut free = chosen.clone();
        for level in self
            .classes
            .get(class)
            .into_iter()
            .flat_map(|class| class.levels.iter().chain(&class.unwished))
        {
            if level.intersects(chosen) {
                free.add_all(level);
            }
        }
        free.retain(self.sold);
        free
    }
}

pub(super) fn expand(machines: &[Packed], wanted: &[usize], level: usize) -> Vec<Bought> {
    let mut nodes = Vec::new();
    for packed in machines {
        let contents: Vec<(usize, u32)> = packed
            .contents
            .iter()
            .filter_map(|(index, count)| Some((*wanted.get(*index)?, *count)))
            .collect();
        for _copy in 0..packed.copies {
            nodes.push(Bought {
                candidate: packed.machine,
                level,
                contents: contents.clone(),
                places: Vec::new(),
            });
        }
    }
    nodes
}

/// The rooms after all of these nodes, if the limits allow them.
pub(super) fn charged(rooms: &Rooms, supply: &Supply, nodes: &[Bought]) -> Option<Rooms> {
    let mut rooms = rooms.clone();
    if rooms.is_unlimited() {
        return Some(rooms);
    }
    for node in nodes {
        if !rooms.allow(supply, node.candidate) {
            return None;
        }
        rooms.charge(supply, node.candidate);
    }
    Some(rooms)
}

pub(super) fn settle(nodes: &[Bought], left: &mut [u32]) {
    for node in nodes {
        for (index, count) in &node.contents {
            if let Some(left) = left.get_mut(*index) {
                *left = left.saturating_sub(*count);
            }
        }
    }
}
