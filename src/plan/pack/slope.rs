//! The relaxation's bound for every class by itself, where its rows stand for many classes each.
//!
//! Given what the capacities of all kinds are worth; given back worths with a bound that is at least as
//! good. A class is worth the least of what it takes on any kind that takes it, so the bound is a sum of
//! minima over worths, concave, and it may only be climbed within what each kind's price allows. The
//! minima are rounded off (Nesterov 2005: the bound loses at most `ROUNDED` times the logarithm of the
//! number of kinds) and climbed with momentum, by factors that keep the worth of a kind at its price
//! (Auslender and Teboulle 2006). Exponentials are those of `libm`: the
//! platform's differ in their last bits, and equal problems give equal worths on every machine.

use super::budget::Meter;
use super::knapsack::{Dimensions, Worth};
use super::real::{real, real_count, work};
use super::reduced::Reduced;
use super::rows::Rows;

/// A kind that is dearer for a class by this part is hardly looked at.
const ROUNDED: f64 = 0.003;
/// Steps after which little is gained any more.
const MOST_STEPS: usize = 160;
/// Fewer steps than this are not worth a beginning.
const LEAST_STEPS: u64 = 30;
/// So many steps go by between two looks at the bound itself.
const LOOK_EVERY: usize = 10;
/// Kinds that little is bought of move as if this part of the fleet's price were spent on them.
const LEAST_SHARE: f64 = 0.01;
/// The curvature is taken to be smaller by this factor after each step that it allowed.
const EASE: f64 = 0.9;

/// How much of a kind's worth is spread evenly before the first step.
const STIRRED: f64 = 0.01;

/// Worth of the capacities of each kind as parts of what they are worth together.
type Parts<const D: usize> = Vec<[f64; D]>;

/// The classes and kinds, and what stays as it is.
struct Slope<'solve, const D: usize> {
    reduced: &'solve Reduced<D>,
    /// For each class the kinds that take it, with what its load is worth there.
    places: Vec<Vec<(usize, f64)>>,
    /// What the capacities of each kind are worth together.
    whole: Vec<f64>,
    /// Units of work of one look at all classes.
    units: u64,
}

/// Climbs until `percent` of the budget are spent.
pub fn climbed<const D: usize>(
    reduced: &Reduced<D>,
    rows: &Rows<D>,
    worth: Vec<Worth<D>>,
    percent: u64,
    meter: &mut Meter<'_>,
) -> Vec<Worth<D>> {
    // A pair of class and kind costs half a unit, as elsewhere in the relaxation; a step has two looks.
    let pairs = work(reduced.classes.len() * reduced.kinds.len());
    if meter.left_until(percent) / pairs.max(1) < LEAST_STEPS {
        return worth;
    }
    let slope = Slope::of(reduced, rows, &worth, pairs / 2);
    meter.spend(pairs);
    let parts = slope.climb(&parts_of(&worth, &slope.whole), percent, meter);
    worth
        .into_iter()
        .zip(&slope.whole)
        .zip(parts)
        .map(|((worth, whole), parts)| Worth {
            whole: Dimensions(parts.map(|part| part * whole)),
            ..worth
        })
        .collect()
}

fn parts_of<const D: usize>(worth: &[Worth<D>], whole: &[f64]) -> Parts<D> {
    worth
        .iter()
        .zip(whole)
        .map(|(worth, whole)| {
            worth
                .whole
                .0
                .map(|part| if *whole > 0.0 { part / whole } else { 0.0 })
        })
        .collect()
}

impl<'solve, const D: usize> Slope<'solve, D> {
    fn of(reduced: &'solve Reduced<D>, rows: &Rows<D>, worth: &[Worth<D>], units: u64) -> Self {
        let places = reduced
            .classes
            .iter()
            .map(|class| {
                let group = class.capped.and_then(|relation| {
                    let group = *rows.groups.get(&relation.group)?;
                    Some((group, f64::from(relation.weight)))
                });
                (0..reduced.kinds.len())
                    .filter(|kind| reduced.takes(class, *kind))
                    .map(|kind| {
                        let load = group.map_or(0.0, |(group, weight)| {
                            worth[kind].load.get(group).copied().unwrap_or(0.0) * weight
                        });
                        (kind, load)
                    })
                    .collect()
            })
            .collect();
        Self {
            reduced,
            places,
            whole: worth
                .iter()
                .map(|worth| worth.whole.0.iter().sum())
                .collect(),
            units,
        }
    }

    /// What one unit of each dimension is worth on each kind.
    fn prices(&self, parts: &Parts<D>) -> Parts<D> {
        let kinds = self.reduced.kinds.iter().zip(&self.whole).zip(parts);
        kinds
            .map(|((kind, whole), parts)| {
                std::array::from_fn(|dimension| {
                    whole * parts[dimension] / real(kind.capacity[dimension].max(1))
                })
            })
            .collect()
    }

    /// The bound.
    fn bound(&self, parts: &Parts<D>) -> f64 {
        let prices = self.prices(parts);
        let classes = self.reduced.classes.iter().zip(&self.places);
        classes
            .map(|(class, places)| {
                let size = class.size.map(real);
                let least = places
                    .iter()
                    .map(|(kind, load)| load + product(&size, &prices[*kind]))
                    .fold(f64::INFINITY, f64::min);
                if least.is_finite() {
                    least * f64::from(class.count)
                } else {
                    0.0
                }
            })
            .sum()
    }

    /// The bound with its minima rounded off, and how it grows with each part.
    fn rounded(&self, parts: &Parts<D>) -> (f64, Parts<D>) {
        let prices = self.prices(parts);
        let mut growth = vec![[0.0; D]; parts.len()];
        let mut total = 0.0;
        let mut weights: Vec<f64> = Vec::new();
        for (class, places) in self.reduced.classes.iter().zip(&self.places) {
            let size = class.size.map(real);
            weights.clear();
            weights.extend(
                places
                    .iter()
                    .map(|(kind, load)| load + product(&size, &prices[*kind])),
            );
            let least = weights.iter().copied().fold(f64::INFINITY, f64::min);
            if !least.is_finite() {
                continue;
            }
            let width = (ROUNDED * least).max(f64::MIN_POSITIVE);
            let mut sum = 0.0;
            for weight in &mut weights {
                *weight = libm::exp((least - *weight) / width);
                sum += *weight;
            }
            let count = f64::from(class.count);
            total += count * (least - width * libm::log(sum));
            for ((kind, _load), weight) in places.iter().zip(&weights) {
                if *weight > 0.0 {
                    let often = count * weight / sum;
                    for (growth, size) in growth[*kind].iter_mut().zip(&size) {
                        *growth += often * size;
                    }
                }
            }
        }
        for ((growth, kind), whole) in growth.iter_mut().zip(&self.reduced.kinds).zip(&self.whole) {
            for (growth, capacity) in growth.iter_mut().zip(&kind.capacity) {
                *growth *= whole / real((*capacity).max(1));
            }
        }
        (total, growth)
    }

    fn climb(&self, begin: &Parts<D>, percent: u64, meter: &mut Meter<'_>) -> Parts<D> {
        let mut best = (self.bound(begin), begin.clone());
        let mut ahead = stirred(begin);
        let mut here = ahead.clone();
        let mut momentum: f64 = 1.0;
        let mut curvature: f64 = 1.0;
        let mut last = f64::NEG_INFINITY;
        for step in 1..=MOST_STEPS {
            if meter.is_past(percent) {
                break;
            }
            let between = mixed(&here, &ahead, momentum);
            let (value, growth) = self.rounded(&between);
            meter.spend(self.units);
            let shares: Vec<f64> = between
                .iter()
                .zip(&growth)
                .map(|(parts, growth)| product(parts, growth) + LEAST_SHARE * value)
                .collect();
            loop {
                let strength = momentum * curvature;
                let next: Parts<D> = ahead
                    .iter()
                    .zip(&growth)
                    .zip(&shares)
                    .map(|((parts, growth), share)| moved(parts, growth, strength * share))
                    .collect();
                let there = mixed(&here, &next, momentum);
                let (reached, _growth) = self.rounded(&there);
                meter.spend(self.units);
                let allowed = value + promised(&between, &there, &growth, &shares, curvature);
                if reached >= allowed - 1e-12 * value || curvature > 1e9 {
                    (ahead, here) = (next, there);
                    if reached < last {
                        // Going on would lead down again.
                        momentum = 1.0;
                        ahead.clone_from(&here);
                    }
                    last = reached;
                    curvature *= EASE;
                    break;
                }
                curvature *= 2.0;
            }
            let square = momentum * momentum;
            momentum = ((square * square + 4.0 * square).sqrt() - square) / 2.0;
            if step % LOOK_EVERY == 0 {
                let bound = self.bound(&here);
                meter.spend(self.units);
                if bound > best.0 {
                    best = (bound, here.clone());
                }
            }
        }
        best.1
    }
}

/// A part that is 0 would stay so.
fn stirred<const D: usize>(parts: &Parts<D>) -> Parts<D> {
    let even = STIRRED / real_count(D.max(1));
    let stir = |part: f64| (1.0 - STIRRED) * part + even;
    parts.iter().map(|parts| parts.map(stir)).collect()
}

/// What a step must gain at the least for the curvature to be believed.
fn promised<const D: usize>(
    from: &Parts<D>,
    to: &Parts<D>,
    growth: &Parts<D>,
    shares: &[f64],
    curvature: f64,
) -> f64 {
    let kinds = from.iter().zip(to).zip(growth).zip(shares);
    kinds
        .map(|(((from, to), growth), share)| {
            let mut gain = 0.0;
            let mut way = 0.0;
            for dimension in 0..D {
                let moved = to[dimension] - from[dimension];
                gain += growth[dimension] * moved;
                way += moved.abs();
            }
            gain - curvature * share * way * way / 2.0
        })
        .sum()
}

/// Parts after a step up the growth; the greater the strength, the shorter the step.
fn moved<const D: usize>(parts: &[f64; D], growth: &[f64; D], strength: f64) -> [f64; D] {
    let most = growth.iter().copied().fold(0.0, f64::max);
    let mut next = *parts;
    for (part, growth) in next.iter_mut().zip(growth) {
        *part *= libm::exp((growth - most) / strength.max(f64::MIN_POSITIVE));
    }
    let sum: f64 = next.iter().sum();
    if sum > 0.0 {
        next.map(|part| part / sum)
    } else {
        *parts
    }
}

fn mixed<const D: usize>(from: &Parts<D>, to: &Parts<D>, part: f64) -> Parts<D> {
    from.iter()
        .zip(to)
        .map(|(from, to)| {
            std::array::from_fn(|dimension| (1.0 - part) * from[dimension] + part * to[dimension])
        })
        .collect()
}

fn product<const D: usize>(left: &[f64; D], right: &[f64; D]) -> f64 {
    let mut sum = 0.0;
    for dimension in 0..D {
        sum += left[dimension] * right[dimension];
    }
    sum
}
