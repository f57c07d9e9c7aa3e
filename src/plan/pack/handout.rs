//! From contents of joined classes to machines that hold the classes themselves.
//!
//! Given contents that are to be bought so often; given back machines of kinds that take every class on
//! them, with all caps kept, and what is left of each class. Contents of which more than a trifle is
//! missing are not bought.

use super::fill::Loads;
use super::fleet::Fleet;
use super::patterns::Bought;
use super::real::work;
use super::reduced::Reduced;

/// Contents may miss items worth this part of all: the relaxation buys more of some classes than there are.
const MISSING: f64 = 0.04;

/// Hands out classes for joined ones.
#[derive(Debug)]
pub struct Handout<'solve, const D: usize> {
    reduced: &'solve Reduced<D>,
    /// For each joined class its classes that are left, those that few kinds take first.
    lists: Vec<Vec<u32>>,
    loads: Loads,
    /// How many of each class are left.
    pub left: Vec<u32>,
    /// The machines bought so far.
    pub fleet: Fleet,
    /// Work done.
    pub units: u64,
}

impl<'solve, const D: usize> Handout<'solve, D> {
    /// With all that a problem holds, and the classes of each joined one.
    pub fn of(reduced: &'solve Reduced<D>, joined: &[Vec<u32>]) -> Self {
        let lengths: Vec<usize> = reduced.allowed.iter().map(super::Bits::len).collect();
        let mut lists = joined.to_vec();
        for list in &mut lists {
            // What may be anywhere beside anything is easy to place in the end.
            list.sort_by_key(|index| {
                let class = &reduced.classes[*index as usize];
                let caps = class
                    .relations
                    .iter()
                    .any(|relation| relation.cap.is_some());
                (
                    lengths[class.allowed],
                    !caps,
                    std::cmp::Reverse(class.count),
                    *index,
                )
            });
        }
        Self {
            lists,
            loads: Loads::of(reduced.groups),
            left: reduced.classes.iter().map(|class| class.count).collect(),
            fleet: Fleet::default(),
            units: work(reduced.classes.len() * 4),
            reduced,
        }
    }

    /// Buys these contents so often, or less where not enough is left for them, on these kinds. `values`
    /// say what one of each joined class is worth.
    pub fn buy(&mut self, kinds: &[usize], pattern: &Bought, values: &[f64], often: u32) {
        let mut often = often;
        let compares = kinds.len() > 1;
        while often > 0 {
            let found = kinds
                .iter()
                .filter_map(|kind| {
                    let (score, contents) =
                        self.contents(*kind, &pattern.contents, values, compares)?;
                    Some((score, *kind, contents))
                })
                .max();
            let Some((_score, kind, contents)) = found else {
                return;
            };
            let copies = contents
                .iter()
                .map(|(class, count)| self.left[*class as usize] / (*count).max(1))
                .min()
                .unwrap_or(0)
                .clamp(1, often);
            self.take(kind, contents, copies);
            for (joined, _count) in &pattern.contents {
                let list = &mut self.lists[*joined as usize];
                if list.iter().any(|class| self.left[*class as usize] == 0) {
                    list.retain(|class| self.left[*class as usize] > 0);
                }
            }
            often -= copies;
        }
    }

    /// Contents of classes for contents of joined ones, and, where that is asked for, for how many
    /// such machines, in thousandths, there would be enough of what is scarcest.
    fn contents(
        &mut self,
        kind: usize,
        wanted: &[(u32, u32)],
        values: &[f64],
        compares: bool,
    ) -> Option<(u64, Vec<(u32, u32)>)> {
        let mut contents: Vec<(u32, u32)> = Vec::with_capacity(wanted.len());
        let mut scarcest = u64::MAX;
        let (mut sum, mut missing) = (0.0, 0.0);
        for (joined, count) in wanted {
            let mut open = *count;
            let mut there = 0_u64;
            for index in &self.lists[*joined as usize] {
                self.units += 1;
                let class = &self.reduced.classes[*index as usize];
                if !self.reduced.takes_kind(class, kind) {
                    continue;
                }
                let left = self.left[*index as usize];
                there += u64::from(left);
                let taken = open.min(self.loads.room(&class.relations)).min(left);
                if taken > 0 {
                    self.loads.add(&class.relations, taken);
                    contents.push((*index, taken));
                    open -= taken;
                }
                if open == 0 && !compares {
                    break;
                }
            }
            scarcest = scarcest.min(1000 * there / u64::from((*count).max(1)));
            sum += values[*joined as usize] * f64::from(*count);
            missing += values[*joined as usize] * f64::from(open);
        }
        self.loads.clear();
        (missing <= sum * MISSING && !contents.is_empty()).then_some((scarcest, contents))
    }

    fn take(&mut self, kind: usize, mut contents: Vec<(u32, u32)>, copies: u32) {
        contents.sort_unstable();
        self.fleet.add(self.reduced, kind, &contents, copies);
        for (class, count) in &contents {
            let left = &mut self.left[*class as usize];
            *left = left.saturating_sub(count.saturating_mul(copies));
        }
        self.units += 30;
    }
}
