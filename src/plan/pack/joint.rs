//! A first fleet where classes differ in more than their size: whole contents for joined classes, handed
//! out.
//!
//! Given the reduced problem, what its relaxation says and a part of the budget; given back machines for
//! everything, and what one of each class is worth by the relaxation over whole contents. Nothing is
//! given back where that relaxation was not solved in time, or says little about the classes.

use super::bits::Bits;
use super::budget::Meter;
use super::fleet::Fleet;
use super::greedy::{Effort, Greedy};
use super::handout::Handout;
use super::joined::Joined;
use super::patterns::Bought;
use super::real::{whole_count, work};
use super::reduced::{Class, Reduced};
use super::rows::Rows;
use super::whole::{Whole, whole};

/// Kinds on which whole contents are searched, of those that cost at most so many times an even share.
const KINDS: usize = 12;
const SHARES: i64 = 2;
/// Values of what is left over are drawn anew when this part of it is left: it fills few machines.
const RENEW_REST: f64 = 0.9;
/// Rows of the relaxation: at least as many as there are joined classes.
const ROWS: usize = 120;
/// With more places too little of each joined class is left for one of them.
const MOST_PLACES: usize = 8;

/// What is known of a problem by now.
#[derive(Debug, Clone, Copy)]
pub struct Known<'run, const D: usize> {
    /// The problem.
    pub reduced: &'run Reduced<D>,
    /// What one of each class is worth.
    pub values: &'run [f64],
    /// No fleet costs less.
    pub bound: i64,
    /// The kinds, the most promising first.
    pub kinds: &'run [usize],
}

/// The joined problem, reduced, with its relaxation over whole contents.
#[derive(Debug)]
pub struct Joint<'run, const D: usize> {
    reduced: &'run Reduced<D>,
    small: Reduced<D>,
    rows: Rows<D>,
    /// For each class of the joined problem those of the problem itself.
    classes: Vec<Vec<u32>>,
    /// The same for its kinds.
    kinds: Vec<Vec<usize>>,
    whole: Whole,
    /// What one of each class is worth.
    pub values: Vec<f64>,
}

/// Kinds that the same classes may be on, and how many of each joined class go there.
struct Place {
    accepts: Bits,
    demands: Vec<f64>,
}

impl<'run, const D: usize> Joint<'run, D> {
    /// The relaxation over whole contents, until `percent` of the budget are spent.
    pub fn of(known: Known<'run, D>, percent: u64, meter: &mut Meter<'_>) -> Option<Self> {
        let reduced = known.reduced;
        let joined = Joined::of(reduced)?;
        let used: Vec<usize> = (0..D).collect();
        let small: Reduced<D> = Reduced::of(&joined.problem, &used);
        meter.spend(work(reduced.classes.len() + reduced.kinds.len()) * 4);
        let classes: Vec<Vec<u32>> = small
            .classes
            .iter()
            .map(|class| {
                let items = class.items.iter();
                let lists = items.filter_map(|(item, _count)| joined.classes.get(*item));
                lists.flatten().copied().collect()
            })
            .collect();
        let kinds: Vec<Vec<usize>> = small
            .kinds
            .iter()
            .map(|kind| joined.kinds.get(kind.machine).cloned().unwrap_or_default())
            .collect();
        let rows = Rows::of(&small, ROWS);
        let share = known.bound / i64::try_from(joined.needed.max(1)).unwrap_or(i64::MAX);
        let near = near(&small, &kinds, known.kinds, share.saturating_mul(SHARES));
        let guess: Vec<f64> = classes
            .iter()
            .map(|classes| average(classes, known.values))
            .collect();
        let whole = whole(&small, &rows, &near, &guess, percent, meter);
        if !whole.is_solved {
            return None;
        }
        let mut values = vec![0.0; reduced.classes.len()];
        for (classes, value) in classes.iter().zip(&whole.values) {
            for class in classes {
                values[*class as usize] = *value;
            }
        }
        Some(Self {
            reduced,
            small,
            rows,
            classes,
            kinds,
            whole,
            values,
        })
    }

    /// What all contents of the relaxation cost.
    pub const fn price(&self) -> f64 {
        self.whole.price
    }

    /// Whole contents, handed out in each place, and greedily what is left, in these orders and on
    /// the most promising kinds.
    pub fn fleet(
        &self,
        rows: &Rows<D>,
        orders: &[Vec<u32>],
        kinds: &[usize],
        percent: u64,
        meter: &mut Meter<'_>,
    ) -> Option<Fleet> {
        let places = self.places()?;
        let mut handout = Handout::of(self.reduced, &self.classes);
        for place in places {
            let mut rows = self.rows.clone();
            for (row, demand) in rows.list.iter_mut().zip(&place.demands) {
                row.demand = *demand;
            }
            let whole = self.whole.again(&self.small, &rows, percent, meter);
            for (pattern, often) in rounded(&whole.bought) {
                let mut kinds = self.kinds[pattern.kind].clone();
                kinds.retain(|kind| {
                    let accepts = &self.reduced.kinds[*kind].accepts;
                    accepts.is_subset(&place.accepts)
                });
                handout.buy(&kinds, pattern, &whole.values, often);
            }
        }
        meter.spend(handout.units);
        let Handout {
            left, mut fleet, ..
        } = handout;
        let effort = Effort {
            enough: 0.995,
            units: 0,
            renew: RENEW_REST,
        };
        let greedy = Greedy::of(self.reduced, rows, &self.values, orders, &left);
        let rest = greedy.run(kinds, effort, meter);
        fleet.price = fleet.price.saturating_add(rest.price);
        fleet.nodes.extend(rest.nodes);
        Some(fleet)
    }

    /// The places that kinds are in, unless there are many. Classes that may be in several are divided
    /// as those that may be in one only.
    fn places(&self) -> Option<Vec<Place>> {
        let mut places: Vec<Place> = Vec::new();
        // What is too small for some classes accepts fewer of them than larger ones in its place.
        for kind in self.kinds.iter().flatten() {
            let accepts = &self.reduced.kinds[*kind].accepts;
            if places.iter().any(|place| accepts.is_subset(&place.accepts)) {
                continue;
            }
            places.retain(|place| !place.accepts.is_subset(accepts));
            if places.len() == MOST_PLACES {
                return None;
            }
            places.push(Place {
                accepts: accepts.clone(),
                demands: vec![0.0; self.classes.len()],
            });
        }
        let open = |class: &Class<D>| -> Vec<usize> {
            let all = places.iter().enumerate();
            all.filter(|(_index, place)| place.accepts.contains(class.allowed))
                .map(|(index, _place)| index)
                .collect()
        };
        let opened: Vec<Vec<usize>> = self.reduced.classes.iter().map(open).collect();
        let mut shares = vec![f64::MIN_POSITIVE; places.len()];
        let classes = self.reduced.classes.iter();
        for ((class, open), value) in classes.zip(&opened).zip(&self.values) {
            if let [only] = open.as_slice() {
                shares[*only] += f64::from(class.count) * value;
            }
        }
        for (joined, classes) in self.classes.iter().enumerate() {
            for class in classes {
                let open = &opened[*class as usize];
                let sum: f64 = open.iter().map(|place| shares[*place]).sum();
                let count = f64::from(self.reduced.classes[*class as usize].count);
                for place in open {
                    places[*place].demands[joined] += count * shares[*place] / sum;
                }
            }
        }
        places.retain(|place| place.demands.iter().sum::<f64>() > 1.0);
        Some(places)
    }
}

/// How often each of these contents is bought: as often as the relaxation does, rounded down, the most
/// frequent first, and then once more where a part was left, as long as there is enough for it.
fn rounded(bought: &[Bought]) -> Vec<(&Bought, u32)> {
    let part = |pattern: &Bought| pattern.amount - pattern.amount.floor();
    let mut down: Vec<&Bought> = bought.iter().collect();
    down.sort_by(|left, right| right.amount.total_cmp(&left.amount));
    let mut once: Vec<&Bought> = bought.iter().filter(|found| part(found) > 1e-6).collect();
    once.sort_by(|left, right| part(right).total_cmp(&part(left)));
    let down = down
        .into_iter()
        .map(|pattern| (pattern, whole_count(pattern.amount + 1e-6)));
    down.chain(once.into_iter().map(|pattern| (pattern, 1)))
        .collect()
}

/// The most promising kinds of the joined problem up to a price, cheapest first.
fn near<const D: usize>(
    small: &Reduced<D>,
    kinds: &[Vec<usize>],
    promising: &[usize],
    most: i64,
) -> Vec<usize> {
    let mut near: Vec<usize> = Vec::new();
    for kind in promising {
        let place = kinds.iter().position(|alike| alike.contains(kind));
        let Some(place) = place.filter(|place| small.kinds[*place].price <= most) else {
            continue;
        };
        if near.len() < KINDS && !near.contains(&place) {
            near.push(place);
        }
    }
    near.sort_unstable();
    near
}

/// What one of these classes is worth on average.
fn average(classes: &[u32], values: &[f64]) -> f64 {
    let sum: f64 = classes.iter().map(|class| values[*class as usize]).sum();
    let count = u32::try_from(classes.len()).unwrap_or(u32::MAX);
    sum / f64::from(count.max(1))
}
