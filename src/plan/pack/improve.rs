//! Large neighbourhood search: take a few machines apart and buy anew for what was on them.
//!
//! Given a fleet, values of the classes and a budget; given back a fleet that is not dearer (Shaw
//! 1998; Ropke and Pisinger 2006). A search that is stuck may pass through fleets that are a little
//! dearer (record-to-record travel, Dueck 1993); the cheapest one is kept. Machines worth little for their price are taken apart first, and
//! every rebuilding follows an order drawn by chance. A rebuilding is given up as soon as what it
//! has bought, and the least that the rest can cost, come to more than before.

use super::budget::Meter;
use super::fill::{Filler, Lot, Taken};
use super::fleet::{Fleet, Node};
use super::prefix::Prefixes;
use super::random::Random;
use super::real::{real, real_count};
use super::reduced::Reduced;
use super::shape::Shape;

/// Most classes of machines that are taken apart together.
const MOST_ENTRIES: usize = 400;
/// Most machines that are compared to choose one.
const MOST_RIVALS: usize = 200;
/// Fewest and most machines that are taken apart together. Measured on the instances of
/// `hack/bench-packing`, as the three numbers below: fewer than three rarely hold anything better.
const LEAST_APART: usize = 3;
const MOST_APART: usize = 10;
/// Kinds that are filled of those that a forecast names.
const FORECAST: usize = 4;
/// One rebuilding of so many tries many kinds instead of those that a forecast names.
const WIDE_EVERY: usize = 20;
/// One move of so many may make the fleet dearer, where that is allowed at all.
const DEARER_EVERY: usize = 8;
/// Units for choosing machines and putting their contents together, beside those for filling.
const MOVE_UNITS: u64 = 200;

/// The search, with the memory that it needs again and again.
#[derive(Debug)]
pub struct Search<'solve, const D: usize> {
    reduced: &'solve Reduced<D>,
    shape: &'solve Shape<D>,
    values: &'solve [f64],
    fleet: Fleet,
    /// The cheapest fleet so far, when the search has moved on from it to a dearer one.
    kept: Option<Fleet>,
    /// How much dearer than the cheapest fleet so far the search may get.
    slack: i64,
    /// Value per price by machine.
    worth: Vec<f64>,
    random: Random,
    filler: Filler<'solve, D>,
    prefixes: Prefixes<D>,
    lot: Lot<D>,
    /// How many of each class were taken out.
    out: Vec<u32>,
    entries: Vec<(u32, u32)>,
    keyed: Vec<(f64, u32, u32)>,
    kinds: Vec<(usize, f64)>,
    taken: Taken,
    best: Taken,
}

impl<'solve, const D: usize> Search<'solve, D> {
    /// A search from a fleet on.
    pub fn of(
        reduced: &'solve Reduced<D>,
        shape: &'solve Shape<D>,
        values: &'solve [f64],
        fleet: Fleet,
        seed: u64,
    ) -> Self {
        let mut search = Self {
            reduced,
            shape,
            values,
            worth: Vec::new(),
            random: Random::seeded(seed),
            filler: Filler::of(reduced),
            prefixes: Prefixes::of(reduced),
            lot: Lot::default(),
            out: vec![0; reduced.classes.len()],
            entries: Vec::new(),
            keyed: Vec::new(),
            kinds: Vec::new(),
            taken: Taken::new(),
            best: Taken::new(),
            kept: None,
            slack: 0,
            fleet,
        };
        search.set_values(values);
        search
    }

    /// Values that rate fillings from now on.
    pub fn set_values(&mut self, values: &'solve [f64]) {
        self.values = values;
        self.worth = self
            .fleet
            .nodes
            .iter()
            .map(|node| self.worth_of(node))
            .collect();
    }

    /// The cheapest fleet so far.
    pub fn into_fleet(self) -> Fleet {
        self.kept.unwrap_or(self.fleet)
    }

    /// Price of the cheapest fleet so far.
    pub fn price(&self) -> i64 {
        self.kept
            .as_ref()
            .map_or(self.fleet.price, |kept| kept.price)
    }

    /// From now on the search may pass through fleets so much dearer than the cheapest one.
    pub const fn allow(&mut self, slack: i64) {
        self.slack = slack;
    }

    fn worth_of(&self, node: &Node) -> f64 {
        let value: f64 = node
            .contents
            .iter()
            .map(|(class, count)| self.values[*class as usize] * f64::from(*count))
            .sum();
        value / real(self.reduced.kinds[node.kind].price)
    }

    /// Searches until so many units are spent, the price is at most `target`, or nothing became
    /// cheaper for `patience` units.
    pub fn run(&mut self, units: u64, target: i64, patience: u64, meter: &mut Meter<'_>) {
        let end = meter.spent().saturating_add(units);
        let mut last = meter.spent();
        let mut moves = 0_u32;
        while meter.spent() < end
            && self.price() > target
            && meter.spent().saturating_sub(last) < patience
            && !self.fleet.nodes.is_empty()
        {
            moves = moves.wrapping_add(1);
            if moves.is_multiple_of(64) && meter.ask_guard() {
                break;
            }
            let before = self.price();
            self.step();
            meter.spend(self.filler.take_units() + MOVE_UNITS);
            if self.price() < before {
                last = meter.spent();
            }
        }
    }

    fn step(&mut self) {
        let chosen = self.choose();
        let mut old = 0;
        self.entries.clear();
        for index in &chosen {
            let node = &self.fleet.nodes[*index];
            old = i64::saturating_add(old, self.reduced.kinds[node.kind].price);
            for (class, count) in &node.contents {
                let out = &mut self.out[*class as usize];
                if *out == 0 {
                    self.entries.push((*class, 0));
                }
                *out += count;
            }
        }
        for (class, count) in &mut self.entries {
            *count = std::mem::take(&mut self.out[*class as usize]);
        }
        self.filler.spend(self.entries.len() * 4);
        let dearer = if self.slack > 0 && self.random.below(DEARER_EVERY) == 0 {
            (self.price() + self.slack - self.fleet.price).max(0)
        } else {
            0
        };
        for _attempt in 0..2 {
            if let Some(nodes) = self.rebuild(old + dearer, &chosen) {
                self.replace(&chosen, nodes, old);
                return;
            }
        }
    }

    fn choose(&mut self) -> Vec<usize> {
        let count = self.fleet.nodes.len();
        let wanted = (LEAST_APART + self.random.below(MOST_APART - LEAST_APART + 1)).min(count);
        let mut chosen: Vec<usize> = Vec::with_capacity(wanted);
        let mut entries = 0;
        for _draw in 0..wanted {
            let mut best = self.random.below(count);
            // Wide tournaments find the few bad machines of a fleet that is nearly right.
            let rivals = match self.random.below(3) {
                0 => 4,
                1 => 16,
                _ => count.min(MOST_RIVALS),
            };
            for _rival in 0..self.random.below(rivals) {
                let rival = self.random.below(count);
                if self.worth[rival] < self.worth[best] {
                    best = rival;
                }
            }
            entries += self.fleet.nodes[best].contents.len();
            if entries > MOST_ENTRIES && !chosen.is_empty() {
                break;
            }
            if !chosen.contains(&best) {
                chosen.push(best);
            }
        }
        chosen
    }

    /// Kinds to try: a random part of all, and those that were taken apart.
    fn draw_kinds(&mut self, chosen: &[usize], most: i64) {
        self.kinds.clear();
        let share = 0.25 + 0.75 * self.random.unit();
        // With many kinds only the ones around what was there are looked at.
        let count = self
            .reduced
            .kinds
            .partition_point(|kind| kind.price <= most);
        let share = share.min(100.0 / real_count(count));
        for kind in 0..count {
            let price = self.reduced.kinds[kind].price;
            if price > most {
                break;
            }
            let own = chosen
                .iter()
                .any(|index| self.fleet.nodes[*index].kind == kind);
            if own || self.random.unit() < share {
                self.kinds.push((kind, real(price)));
            }
        }
        self.filler.spend(count / 2);
    }

    /// Buys for the entries at no more than `old`, or gives up.
    fn rebuild(&mut self, old: i64, chosen: &[usize]) -> Option<Vec<Node>> {
        let mut random = self.random.clone();
        let key = self.shape.draw_key(&mut random);
        self.keyed.clear();
        for (class, count) in &self.entries {
            let key = key(*class as usize, &mut random);
            self.keyed.push((key, *class, *count));
        }
        self.keyed
            .sort_unstable_by(|left, right| right.0.total_cmp(&left.0).then(left.1.cmp(&right.1)));
        self.filler.spend(self.keyed.len() * 4);
        self.random = random;
        self.lot.refill(
            self.reduced,
            self.keyed
                .iter()
                .map(|(_key, class, count)| (*class, *count)),
            self.values,
        );
        // Trying many kinds finds what no forecast shows, but takes many times as long.
        let forecast = self.random.below(WIDE_EVERY) > 0;
        if !forecast {
            self.draw_kinds(chosen, old);
        }
        let noise = if self.random.below(2) == 0 {
            0.0
        } else {
            0.08 * self.random.unit()
        };
        let partial = self.random.below(3) == 0;
        let mut cost = 0;
        let mut nodes = Vec::new();
        let mut rest = self.lot.value_left();
        // Beyond this a value that is no lower bound may still lie.
        let slack = real(old) * 1e-9;
        while !self.lot.is_empty() {
            if forecast {
                let (lot, most) = (&self.lot, old - cost);
                let units =
                    self.prefixes
                        .promising(self.reduced, lot, most, FORECAST, &mut self.kinds);
                self.filler.units += units;
            }
            let (kind, value) = self.best_fill(old - cost, noise, partial)?;
            rest -= value;
            let mut contents: Vec<(u32, u32)> = Vec::with_capacity(self.best.len());
            for (position, count) in &self.best {
                contents.push((self.lot.class[*position as usize], *count));
                self.lot.take(*position as usize, *count);
            }
            contents.sort_unstable();
            let kind = self.reduced.cheapest(&contents, kind).unwrap_or(kind);
            self.filler.spend(30 + contents.len() * 2);
            cost = i64::saturating_add(cost, self.reduced.kinds[kind].price);
            if cost > old || real(cost) + rest > real(old) + slack {
                return None;
            }
            nodes.push(Node { kind, contents });
        }
        Some(nodes)
    }

    /// The filling with the best value per dollar, with some noise, among kinds of at most this
    /// price.
    fn best_fill(&mut self, most: i64, noise: f64, partial: bool) -> Option<(usize, f64)> {
        let mut best: Option<(f64, usize, f64)> = None;
        for index in 0..self.kinds.len() {
            let (kind, price) = self.kinds[index];
            if price > real(most) {
                break;
            }
            let sometimes = partial.then_some(&mut self.random);
            let value = self
                .filler
                .fill(&self.lot, kind, sometimes, &mut self.taken);
            if self.taken.is_empty() {
                continue;
            }
            let mut score = value / price;
            if noise > 0.0 {
                score *= 1.0 - noise * self.random.unit();
            }
            if best.is_none_or(|(most, _, _)| score > most) {
                best = Some((score, kind, value));
                std::mem::swap(&mut self.best, &mut self.taken);
            }
        }
        best.map(|(_score, kind, value)| (kind, value))
    }

    fn replace(&mut self, chosen: &[usize], nodes: Vec<Node>, old: i64) {
        let bought: i64 = nodes
            .iter()
            .map(|node| self.reduced.kinds[node.kind].price)
            .fold(0, i64::saturating_add);
        if bought > old && self.kept.is_none() {
            self.filler.spend(self.fleet.nodes.len() * 4);
            self.kept = Some(self.fleet.clone());
        }
        let mut order = chosen.to_vec();
        order.sort_unstable();
        for index in order.into_iter().rev() {
            self.fleet.nodes.swap_remove(index);
            self.worth.swap_remove(index);
        }
        let mut price = 0;
        for node in nodes {
            price = i64::saturating_add(price, self.reduced.kinds[node.kind].price);
            self.worth.push(self.worth_of(&node));
            self.fleet.nodes.push(node);
        }
        self.fleet.price = self.fleet.price - old + price;
        if self
            .kept
            .as_ref()
            .is_some_and(|kept| kept.price >= self.fleet.price)
        {
            self.kept = None;
        }
    }
}
