//! The contents of one machine that are worth most, in whole items.
//!
//! Given a kind, values of classes and what its capacities are worth by them; given back contents
//! worth more than a limit, or a bound on what any contents are worth. A depth-first search that
//! cuts off where what is still free could not make the contents good enough; caps of groups are
//! respected, so pods that keep apart are priced as they can be placed.

use std::collections::BTreeMap;

use super::problem::{Relation, times_into};
use super::real::{real, whole_count};
use super::reduced::{Reduced, fits};

/// Gains below this share of a price are none.
pub const TINY: f64 = 1e-7;

/// What is looked for.
#[derive(Debug, Clone, Copy)]
pub struct Sought<'call, const D: usize> {
    /// The kind.
    pub kind: usize,
    /// What one of each class is worth.
    pub values: &'call [f64],
    /// What the kind's whole capacities are worth, by dimension.
    pub worth: &'call [f64; D],
    /// Only contents worth more than this are wanted.
    pub above: f64,
}

/// What a search came to.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The best contents, if some are worth more than the limit: what they are worth, and classes
    /// with how many of each.
    pub found: Option<(f64, Vec<(u32, u32)>)>,
    /// No contents are worth more than the limit or this; `None` where the steps ran out.
    pub most: Option<f64>,
    /// Steps taken.
    pub steps: u64,
}

struct Candidate<'solve, const D: usize> {
    class: u32,
    size: [i64; D],
    most: u32,
    value: f64,
    /// Worth of what it takes above its value.
    loss: f64,
    /// Its value above the worth of what it takes.
    excess: f64,
    carried: f64,
    relations: &'solve [Relation],
}

struct Search<'solve, const D: usize> {
    unit: [f64; D],
    candidates: Vec<Candidate<'solve, D>>,
    /// What the excess of the candidates from each place on adds at most.
    excess_after: Vec<f64>,
    /// The most that the candidates from each place on are worth for one unit of each dimension.
    rates: Vec<[f64; D]>,
    counts: Vec<u32>,
    /// Places of what is on the machine and has relations.
    related: Vec<usize>,
    best: f64,
    found: Option<Vec<u32>>,
    /// Steps that are left.
    steps: u64,
}

/// Looks for the best contents among these classes, within so many steps.
pub fn best<const D: usize>(
    reduced: &Reduced<D>,
    classes: &[u32],
    sought: Sought<'_, D>,
    steps: u64,
) -> Outcome {
    let machine = &reduced.kinds[sought.kind];
    let unit: [f64; D] = std::array::from_fn(|dimension| {
        sought.worth[dimension] / real(machine.capacity[dimension].max(1))
    });
    let mut candidates: Vec<Candidate<'_, D>> = classes
        .iter()
        .filter(|class| sought.values[**class as usize] > 0.0)
        .map(|index| {
            let class = &reduced.classes[*index as usize];
            let carried: f64 = class
                .size
                .iter()
                .zip(&unit)
                .map(|(size, unit)| real(*size) * unit)
                .sum();
            let value = sought.values[*index as usize];
            Candidate {
                class: *index,
                size: class.size,
                most: reduced.most(class, sought.kind),
                value,
                loss: (carried - value).max(0.0),
                excess: (value - carried).max(0.0),
                carried,
                relations: &class.relations,
            }
        })
        .collect();
    candidates.sort_by(|left, right| {
        let density = |candidate: &Candidate<'_, D>| {
            candidate.value / candidate.carried.max(f64::MIN_POSITIVE)
        };
        density(right)
            .total_cmp(&density(left))
            .then(left.class.cmp(&right.class))
    });
    let (excess_after, rates) = ahead(&candidates);
    let mut search = Search {
        excess_after,
        rates,
        unit,
        counts: vec![0; candidates.len()],
        related: Vec::new(),
        best: sought.above,
        found: None,
        steps,
        candidates,
    };
    search.descend(0, &machine.capacity, 0.0);
    let contents = search.found.as_ref().map(|counts| {
        let contents = search
            .candidates
            .iter()
            .zip(counts)
            .filter(|(_candidate, count)| **count > 0)
            .map(|(candidate, count)| (candidate.class, *count))
            .collect();
        (search.best, contents)
    });
    Outcome {
        found: contents,
        most: (search.steps > 0).then_some(search.best),
        steps: steps - search.steps,
    }
}

/// What the candidates from each place on add at most: their excess, and for one unit of each
/// dimension. Those of a capped group share its cap.
fn ahead<const D: usize>(candidates: &[Candidate<'_, D>]) -> (Vec<f64>, Vec<[f64; D]>) {
    let mut excess_after = vec![0.0; candidates.len() + 1];
    let mut rates = vec![[0.0; D]; candidates.len() + 1];
    let mut shared: BTreeMap<u32, Shared> = BTreeMap::new();
    for (place, candidate) in candidates.iter().enumerate().rev() {
        let own = candidate.excess * f64::from(candidate.most);
        let capped = candidate.relations.iter().find_map(|relation| {
            let cap = relation.cap?;
            (relation.weight > 0 && own > 0.0).then_some((relation, cap))
        });
        let more = match capped {
            Some((relation, cap)) => shared.entry(relation.group).or_default().with(
                own,
                candidate.excess / f64::from(relation.weight),
                cap,
            ),
            None => own,
        };
        excess_after[place] = excess_after[place + 1] + more;
        rates[place] = std::array::from_fn(|dimension| {
            // An infinite rate says nothing, for what takes nothing of the dimension.
            let own = candidate.value / real(candidate.size[dimension]);
            own.max(rates[place + 1][dimension])
        });
    }
    (excess_after, rates)
}

/// The excess that candidates of one capped group add at most.
#[derive(Debug, Default)]
struct Shared {
    sum: f64,
    rate: f64,
    cap: u32,
}

impl Shared {
    fn most(&self) -> f64 {
        self.sum.min(self.rate * f64::from(self.cap))
    }

    /// Takes in one more candidate; gives back by how much the group adds more then.
    fn with(&mut self, own: f64, rate: f64, cap: u32) -> f64 {
        let before = self.most();
        self.sum += own;
        self.rate = self.rate.max(rate);
        self.cap = self.cap.max(cap);
        self.most() - before
    }
}

impl<const D: usize> Search<'_, D> {
    /// The most that the candidates from `place` on are worth in what is free: by the worth of the
    /// capacities, and by their values for their sizes.
    fn open(&self, place: usize, free: &[i64; D]) -> (f64, f64) {
        let mut shares = self.excess_after[place];
        let mut least = f64::INFINITY;
        for ((free, unit), rate) in free.iter().zip(&self.unit).zip(&self.rates[place]) {
            let free = real(*free);
            shares += free * unit;
            if rate.is_finite() {
                least = least.min(free * rate);
            }
        }
        (shares, least)
    }

    /// How many of the candidate at `place` the caps leave room for, beside what is there.
    fn room(&self, place: usize) -> u32 {
        let mut most = u32::MAX;
        for relation in self.candidates[place].relations {
            let (mut load, mut cap) = (0_u32, relation.cap.unwrap_or(u32::MAX));
            for other in &self.related {
                let count = self.counts[*other];
                for theirs in self.candidates[*other].relations {
                    if theirs.group == relation.group && count > 0 {
                        load = load.saturating_add(theirs.weight.saturating_mul(count));
                        cap = cap.min(theirs.cap.unwrap_or(u32::MAX));
                    }
                }
            }
            most = most.min(match cap.checked_sub(load) {
                None => 0,
                Some(room) => room.checked_div(relation.weight).unwrap_or(u32::MAX),
            });
        }
        most
    }

    fn descend(&mut self, place: usize, free: &[i64; D], value: f64) {
        if value > self.best {
            self.best = value;
            self.found = Some(self.counts.clone());
        }
        let Some(candidate) = self.candidates.get(place) else {
            return;
        };
        let (shares, rates) = self.open(place, free);
        if value + shares.min(rates) <= self.best || self.steps == 0 {
            return;
        }
        let (size, each, loss) = (candidate.size, candidate.value, candidate.loss);
        let related = !candidate.relations.is_empty();
        let mut most = if fits(&size, free) {
            times_into(&size, free, candidate.most)
        } else {
            0
        };
        if loss > 0.0 && candidate.excess == 0.0 {
            // Each one taken lowers what the shares leave reachable by its loss; the rates say nothing of it.
            most = most.min(whole_count((value + shares - self.best) / loss));
        }
        if related && most > 0 {
            most = most.min(self.room(place));
            self.related.push(place);
        }
        let pushed = related && self.related.last() == Some(&place);
        let mut rest = *free;
        for (rest, size) in rest.iter_mut().zip(&size) {
            *rest -= size * i64::from(most);
        }
        loop {
            self.steps = self.steps.saturating_sub(1);
            self.counts[place] = most;
            self.descend(place + 1, &rest, value + each * f64::from(most));
            if most == 0 || self.steps == 0 {
                break;
            }
            most -= 1;
            for (rest, size) in rest.iter_mut().zip(&size) {
                *rest += size;
            }
        }
        self.counts[place] = 0;
        if pushed {
            self.related.pop();
        }
    }
}
