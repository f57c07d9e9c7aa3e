//! Greedy by value per dollar: the sequential pattern heuristic.
//!
//! Given classes with values and what is left of them; given back machines for all of it. Again and
//! again the filling that is worth most for its price is bought, as often as it goes into what is
//! left. Values that come from a lower bound's duals never make a filling worth more than its price,
//! so a filling near that is taken without looking further.

use std::collections::BTreeMap;

use super::budget::Meter;
use super::fill::{Filler, Lot, Taken};
use super::fleet::Fleet;
use super::fluid;
use super::real::{real, work};
use super::reduced::Reduced;
use super::rows::Rows;

/// With at most so many classes left every kind is tried.
const FEW: usize = 300;

/// How hard greedy tries.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    /// A filling worth this share of its price is taken at once.
    pub enough: f64,
    /// Units after which only the first kinds and orders are tried.
    pub units: u64,
    /// Values are drawn anew when this part of what there was is left.
    pub renew: f64,
}

/// What a greedy run works with.
#[derive(Debug)]
pub struct Greedy<'solve, const D: usize> {
    reduced: &'solve Reduced<D>,
    lots: Vec<Lot<D>>,
    /// For each lot the position of each class.
    positions: Vec<Vec<u32>>,
    filler: Filler<'solve, D>,
    left: usize,
    taken: Taken,
    /// The group that needs most machines, with how many of its items are left.
    apart: Option<Apart>,
    value_left: f64,
    /// Values by class, as they are now.
    values: Vec<f64>,
    /// Values at the start, and what the classes took then by one price for each resource.
    at_start: (&'solve [f64], Vec<f64>),
    rows: &'solve Rows<D>,
    /// When so much is left the values are drawn anew.
    renew_at: f64,
}

/// Items of which a machine holds only so many.
#[derive(Debug)]
pub(super) struct Apart {
    /// The group.
    pub(super) group: u32,
    cap: u32,
    load: u64,
}

impl Apart {
    /// How many machines the items need.
    pub(super) fn machines(&self) -> u64 {
        self.load.div_ceil(u64::from(self.cap.max(1)))
    }
}

/// Values are drawn anew when this part of what there was is left, where nothing else is said.
pub const RENEW: f64 = 0.97;
/// With fewer classes left new values are worth less than they cost.
const FEW_LEFT: usize = 8;

/// Kinds around the price that leaves enough to fill every machine that is needed.
const AROUND: usize = 14;

struct Best {
    score: f64,
    kind: usize,
    lot: usize,
    taken: Taken,
}

impl<'solve, const D: usize> Greedy<'solve, D> {
    /// Places `left` of each class; `orders` are the orders to fill in.
    pub fn of(
        reduced: &'solve Reduced<D>,
        rows: &'solve Rows<D>,
        values: &'solve [f64],
        orders: &[Vec<u32>],
        left: &[u32],
    ) -> Self {
        let lots: Vec<Lot<D>> = orders
            .iter()
            .map(|order| {
                let open = order
                    .iter()
                    .map(|class| (*class, left[*class as usize]))
                    .filter(|(_class, left)| *left > 0);
                Lot::of(reduced, open, values)
            })
            .collect();
        let positions = lots
            .iter()
            .map(|lot| {
                let mut positions = vec![u32::MAX; reduced.classes.len()];
                for (position, class) in (0_u32..).zip(&lot.class) {
                    positions[*class as usize] = position;
                }
                positions
            })
            .collect();
        Self {
            left: lots.first().map_or(0, |lot| lot.class.len()),
            apart: apart(reduced, left),
            value_left: 0.0,
            values: values.to_vec(),
            at_start: (values, fluid::values(reduced, rows, left)),
            rows,
            renew_at: 0.0,
            filler: Filler::of(reduced),
            reduced,
            lots,
            positions,
            taken: Taken::new(),
        }
    }

    /// Buys until nothing is left. `kinds` are the ones to try, the most promising first.
    pub fn run(mut self, kinds: &[usize], effort: Effort, meter: &mut Meter<'_>) -> Fleet {
        let mut fleet = Fleet::default();
        let all: Vec<usize> = (0..self.reduced.kinds.len()).collect();
        let before = meter.spent();
        let mut last: Option<usize> = None;
        self.value_left = self.lots.first().map_or(0.0, Lot::value_left);
        self.renew_at = self.value_left * effort.renew;
        while self.left > 0 {
            if self.value_left < self.renew_at && self.left > FEW_LEFT {
                self.renew(effort.renew, meter);
            }
            let hurry = meter.spent().saturating_sub(before) > effort.units;
            let first = kinds.len().min(if hurry { 3 } else { usize::MAX });
            let lots = self.lots.len().min(if hurry { 2 } else { usize::MAX });
            let mut best = Best {
                score: 0.0,
                kind: 0,
                lot: 0,
                taken: Taken::new(),
            };
            let wide = !hurry && self.left <= FEW && all.len() <= FEW;
            let around = self.around();
            let tried = if !around.is_empty() {
                &around[..]
            } else if wide {
                &all[..]
            } else {
                &kinds[..first]
            };
            let hot = last.filter(|_hot| around.is_empty());
            if let Some(hot) = hot {
                self.try_kind(hot, lots, effort.enough, &mut best);
            }
            for kind in tried {
                if best.score >= effort.enough {
                    break;
                }
                self.try_kind(*kind, lots, effort.enough, &mut best);
            }
            if best.taken.is_empty() {
                for kind in &all {
                    self.try_kind(*kind, lots, effort.enough, &mut best);
                }
            }
            meter.spend(self.filler.take_units());
            if best.taken.is_empty() {
                // Every class fits some kind, so this cannot be; never loop for it.
                break;
            }
            last = Some(best.kind);
            self.buy(&best, &mut fleet);
        }
        fleet
    }

    /// What is scarce changes with what is left: without new values the classes that were worth
    /// little would all be left for the end, where nothing fills up their machines.
    fn renew(&mut self, part: f64, meter: &mut Meter<'_>) {
        let Some(first) = self.lots.first() else {
            return;
        };
        let mut left = vec![0; self.reduced.classes.len()];
        for (class, count) in first.class.iter().zip(&first.left) {
            left[*class as usize] = *count;
        }
        let now = fluid::values(self.reduced, self.rows, &left);
        let (values, before) = &self.at_start;
        for (class, value) in self.values.iter_mut().enumerate() {
            *value = if before[class] > 0.0 {
                values[class] * now[class] / before[class]
            } else {
                now[class]
            };
        }
        for lot in &mut self.lots {
            lot.revalue(&self.values);
        }
        meter.spend(work(
            self.reduced.kinds.len() * 10
                + left.len() * 2
                + self.lots.iter().map(|lot| lot.class.len()).sum::<usize>(),
        ));
        self.value_left = self.lots.first().map_or(0.0, Lot::value_left);
        self.renew_at = self.value_left * part;
    }

    /// While items that keep apart are left: the kinds nearest to the price of an even share of all
    /// that is left. Larger ones would use up what fills the others, smaller ones could not take it.
    fn around(&self) -> Vec<usize> {
        let Some(apart) = self.apart.as_ref().filter(|apart| apart.load > 0) else {
            return Vec::new();
        };
        let machines = apart.machines();
        let share = self.value_left / real(i64::try_from(machines).unwrap_or(i64::MAX));
        let kinds = &self.reduced.kinds;
        let above = kinds.partition_point(|kind| real(kind.price) <= share);
        let start = above.saturating_sub(AROUND);
        // One size above the share at most: what is spent beyond it is missing in the end.
        let next = kinds.get(above).map_or(0, |kind| kind.price);
        let end = above + kinds[above..].partition_point(|kind| kind.price <= next);
        let mut around: Vec<(f64, usize)> = (start..end)
            .map(|kind| ((real(kinds[kind].price) - share).abs(), kind))
            .collect();
        around.sort_by(|left, right| left.0.total_cmp(&right.0).then(left.1.cmp(&right.1)));
        around.truncate(AROUND);
        around.into_iter().map(|(_distance, kind)| kind).collect()
    }

    fn try_kind(&mut self, kind: usize, lots: usize, enough: f64, best: &mut Best) {
        let price = real(self.reduced.kinds[kind].price);
        for index in 0..lots {
            let value = self
                .filler
                .fill(&self.lots[index], kind, None, &mut self.taken);
            if self.taken.is_empty() {
                return;
            }
            // Worthless classes must be bought for as well.
            let score = (value / price).max(f64::MIN_POSITIVE);
            if score > best.score {
                best.score = score;
                best.kind = kind;
                best.lot = index;
                std::mem::swap(&mut best.taken, &mut self.taken);
                if score >= enough {
                    return;
                }
            }
        }
    }

    fn buy(&mut self, best: &Best, fleet: &mut Fleet) {
        let lot = &self.lots[best.lot];
        let copies = best
            .taken
            .iter()
            .map(|(position, count)| lot.left[*position as usize] / count)
            .min()
            .unwrap_or(1)
            .max(1);
        let mut contents: Vec<(u32, u32)> = best
            .taken
            .iter()
            .map(|(position, count)| (lot.class[*position as usize], *count))
            .collect();
        contents.sort_unstable();
        fleet.add(self.reduced, best.kind, &contents, copies);
        for (class, count) in &contents {
            let taken = count.saturating_mul(copies);
            self.value_left -= self.values[*class as usize] * f64::from(taken);
            if let Some(apart) = &mut self.apart {
                let own = self.reduced.classes[*class as usize].capped;
                if let Some(own) = own.filter(|own| own.group == apart.group) {
                    let load = u64::from(own.weight) * u64::from(taken);
                    apart.load = apart.load.saturating_sub(load);
                }
            }
            for (lot, positions) in self.lots.iter_mut().zip(&self.positions) {
                lot.take(
                    positions[*class as usize] as usize,
                    count.saturating_mul(copies),
                );
            }
            let position = self.positions[0][*class as usize] as usize;
            if self.lots[0].left[position] == 0 {
                self.left -= 1;
            }
        }
    }
}

/// The capped group that needs most machines for what is left of it.
pub(super) fn apart<const D: usize>(reduced: &Reduced<D>, left: &[u32]) -> Option<Apart> {
    let mut groups: BTreeMap<u32, Apart> = BTreeMap::new();
    for (class, left) in reduced.classes.iter().zip(left) {
        let Some(capped) = class.capped else { continue };
        let cap = capped.cap.unwrap_or(u32::MAX);
        let apart = groups.entry(capped.group).or_insert(Apart {
            group: capped.group,
            cap,
            load: 0,
        });
        apart.cap = apart.cap.max(cap);
        apart.load += u64::from(capped.weight) * u64::from(*left);
    }
    groups
        .into_values()
        .filter(|apart| apart.load > 1)
        .max_by_key(|apart| apart.load / u64::from(apart.cap.max(1)))
}
