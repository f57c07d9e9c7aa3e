//! Greedy by value per dollar: the sequential pattern heuristic.
//!
//! Given classes with values and what is left of them; given back machines for all of it. Again and
//! again the filling that is worth most for its price is bought, as often as it goes into what is
//! left. Values that come from a lower bound's duals never make a filling worth more than its price,
//! so a filling near that is taken without looking further.

use super::budget::Meter;
use super::fill::{Filler, Lot, Taken};
use super::fleet::Fleet;
use super::real::real;
use super::reduced::Reduced;

/// With at most so many classes left every kind is tried.
const FEW: usize = 300;

/// How hard greedy tries.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    /// A filling worth this share of its price is taken at once.
    pub enough: f64,
    /// Units after which only the first kinds and orders are tried.
    pub units: u64,
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
}

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
        values: &[f64],
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
        let mut hot: Option<usize> = None;
        while self.left > 0 {
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
            let tried = if wide { &all[..] } else { &kinds[..first] };
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
            hot = Some(best.kind);
            self.buy(&best, &mut fleet);
        }
        fleet
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
