//! Which kinds of machine are worth filling from a lot.
//!
//! Given a lot; given back the few kinds that its first entries fill best for their price. One walk
//! through the lot passes every kind that could matter, where filling each of them takes a walk for
//! each. Only a forecast: what fits into the gaps later is left to the filling itself.

use super::fill::{Loads, Lot};
use super::real::{real, work};
use super::reduced::{Reduced, fits};

/// Steps in which the items of one class are taken; more of them are taken several at a time.
const STEPS: u32 = 16;
/// Entries that no kind of the allowed price holds beside the others, after which the walk ends.
const MOST_REFUSED: u32 = 12;

/// The walk, with the memory that it needs again and again.
#[derive(Debug)]
pub struct Prefixes<const D: usize> {
    loads: Loads,
    /// Sets of kinds that the entries so far may be on.
    held: Vec<usize>,
    found: Vec<(f64, usize)>,
}

impl<const D: usize> Prefixes<D> {
    /// Walks through lots of this problem.
    pub fn of(reduced: &Reduced<D>) -> Self {
        Self {
            loads: Loads::of(reduced.groups),
            held: Vec::new(),
            found: Vec::new(),
        }
    }

    /// The kinds of at most this price that the lot's first entries fill best, at most `few`, and
    /// what looking for them took.
    pub fn promising(
        &mut self,
        reduced: &Reduced<D>,
        lot: &Lot<D>,
        most: i64,
        few: usize,
        kinds: &mut Vec<(usize, f64)>,
    ) -> u64 {
        self.held.clear();
        self.found.clear();
        let mut need = [0_i64; D];
        let mut value = 0.0;
        let mut kind = 0;
        let mut refused = 0;
        let mut units = 0;
        for position in 0..lot.class.len() {
            let class = &reduced.classes[lot.class[position] as usize];
            let count = lot.left[position].min(self.loads.room(&class.relations));
            units += 1;
            let mut taken = 0;
            while taken < count {
                let these = count.div_ceil(STEPS).min(count - taken);
                let mut wanted = need;
                for (wanted, size) in wanted.iter_mut().zip(&class.size) {
                    *wanted = wanted.saturating_add(size.saturating_mul(i64::from(these)));
                }
                let first = kind.max(reduced.first_that_could_hold(&wanted));
                let next = (first..reduced.kinds.len())
                    .take_while(|kind| reduced.kinds[*kind].price <= most)
                    .find(|kind| {
                        let found = &reduced.kinds[*kind];
                        fits(&wanted, &found.capacity)
                            && (reduced.open
                                || (found.accepts.contains(class.allowed)
                                    && self.held.iter().all(|held| found.accepts.contains(*held))))
                    });
                units += 2 + work(next.unwrap_or(first).saturating_sub(first));
                let Some(next) = next else {
                    refused += 1;
                    break;
                };
                kind = next;
                need = wanted;
                taken += these;
                value += lot.value_of(position) * f64::from(these);
                self.note(value / real(reduced.kinds[kind].price), kind);
            }
            if taken > 0 {
                self.loads.add(&class.relations, taken);
                if !self.held.contains(&class.allowed) {
                    self.held.push(class.allowed);
                }
            }
            if refused > MOST_REFUSED {
                break;
            }
        }
        self.loads.clear();
        self.found
            .sort_by(|left, right| right.0.total_cmp(&left.0).then(left.1.cmp(&right.1)));
        self.found.truncate(few);
        self.found.sort_by_key(|(_score, kind)| *kind);
        kinds.clear();
        kinds.extend(
            self.found
                .iter()
                .map(|(_score, kind)| (*kind, real(reduced.kinds[*kind].price))),
        );
        units
    }

    fn note(&mut self, score: f64, kind: usize) {
        match self.found.last_mut() {
            Some((known, last)) if *last == kind => *known = known.max(score),
            _ => self.found.push((score, kind)),
        }
    }
}
