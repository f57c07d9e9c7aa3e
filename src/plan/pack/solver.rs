//! The solver: bound, first fleets, patterns, search.
//!
//! Given a problem and a budget of work; given back the best packing found and a proven bound. A
//! valid packing and a bound that is not trivial come first, whatever the budget; the rest of it is
//! spent as long as it pays: the search ends at the bound, and after a span without improvement.

use super::Solution;
use super::branch::{self, Question};
use super::budget::Meter;
use super::dual::{self, Proven, Subject};
use super::first_fit::first_fit;
use super::fleet::Fleet;
use super::greedy::{Effort, Greedy, RENEW};
use super::improve::Search;
use super::joint::{Joint, Known};
use super::patterns::{self, patterns};
use super::pricing;
use super::problem::Problem;
use super::real::{real, work};
use super::reduced::Reduced;
use super::relaxation::{Relaxation, relax};
use super::rounding::{self, Guide};
use super::rows::Rows;
use super::shape::{self, Shape};
use super::sided::Pattern;
use super::slope;

/// Rows of the relaxation: more make it exact for more classes, and pivots cost their square.
const MOST_ROWS: usize = 160;
/// The same for budgets below [`LARGE`].
const FEW_ROWS: usize = 90;
/// Units from which on a budget is large.
const LARGE: u64 = 40_000_000;
/// With so many classes at most the relaxation over whole patterns is solved.
const FEW_CLASSES: usize = 60;
/// Kinds that greedy tries when there are many classes.
const GREEDY_KINDS: usize = 12;
/// The checker may take this part of the budget, in steps, for one attempt to prove the bound of
/// whole patterns.
const PROOF_PART: u64 = 50;
/// The search starts from this seed: equal problems get equal answers.
const SEED: u64 = 0x0070_6163_6B65_7200;

/// Percent of the budget until which the fit-aware relaxation may work.
const RELAXATION_UNTIL: u64 = 20;
/// Percent of the budget that may be spent on the bound of every class by itself after that.
const SLOPE_PERCENT: u64 = 10;
/// Percent of the budget until which patterns may be priced.
const PATTERNS_UNTIL: u64 = 60;
/// Percent of the budget until which whole contents for joined classes may be looked for, or more where that
/// leaves less than this part of it: begun and not ended they are worth nothing.
const JOINT_UNTIL: u64 = 75;
const JOINT_LEAST: u64 = 40;
/// A fleet that costs at most so many times what whole contents cost, and so many times the bound, leaves
/// little to other starts.
const JOINT_NEAR: f64 = 1.03;
const BOUND_NEAR: f64 = 1.08;
/// Percent of the budget until which first-fit starts are made.
const FIRST_FITS_UNTIL: u64 = 35;
/// The same where items keep apart: greedy and the search do better there.
const FIRST_FITS_COUPLED_UNTIL: u64 = 25;
/// Percent of the budget until which greedy tries hard.
const STARTS_UNTIL: u64 = 55;
/// With more items than this a search changes less than the starts differ.
const MANY: u64 = 500;
/// Starts dearer than the best one by more percent than this are not worth a search.
const NEAR_PERCENT: i64 = 2;

/// A round of the search that saves less than this part of the price is slow.
const SLOW: i64 = 2000;
/// After a slow round the search may pass through fleets dearer by so many hundred-thousandths.
const SLACK: i64 = 60;
/// The search ends after so many rounds without improvement for each vector of values.
const IDLE_ROUNDS: usize = 2;
/// The same for large budgets: who gives a second wants it used.
const IDLE_ROUNDS_LARGE: usize = 8;

/// Units without improvement for each item after which the search has seen enough.
const SPAN: u64 = 5_000;

/// What every part of a solve works with.
struct Solve<'run, 'guard, const D: usize> {
    problem: &'run Problem,
    used: &'run [usize],
    reduced: &'run Reduced<D>,
    rows: &'run Rows<D>,
    meter: &'run mut Meter<'guard>,
}

/// Solves a problem whose items use these dimensions, at most `D`.
pub fn solve<const D: usize>(problem: &Problem, used: &[usize], meter: &mut Meter<'_>) -> Solution {
    let reduced: Reduced<D> = Reduced::of(problem, used);
    meter.spend(work(problem.items.len() * 4));
    let rows = Rows::of(&reduced, most_rows(meter));
    let mut solve = Solve {
        problem,
        used,
        reduced: &reduced,
        rows: &rows,
        meter,
    };
    let (relaxation, values, mut proven) = solve.bound(RELAXATION_UNTIL);
    let fleet = solve.fleet(&relaxation, &values, &mut proven);
    let packing = reduced.packing(&fleet.counted());
    Solution {
        price: packing.price(problem),
        packing,
        lower_bound: proven.bound,
        certificate: proven.certificate,
        truncated: meter.is_truncated(),
        units: meter.spent(),
    }
}

const fn most_rows(meter: &Meter<'_>) -> usize {
    if meter.limit() < LARGE {
        FEW_ROWS
    } else {
        MOST_ROWS
    }
}

/// Only the bound of a problem, with all of the budget for it.
pub fn bound<const D: usize>(problem: &Problem, used: &[usize], meter: &mut Meter<'_>) -> Proven {
    let reduced: Reduced<D> = Reduced::of(problem, used);
    let rows = Rows::of(&reduced, most_rows(meter));
    let mut solve = Solve {
        problem,
        used,
        reduced: &reduced,
        rows: &rows,
        meter,
    };
    let (_relaxation, values, mut proven) = solve.bound(60);
    if reduced.classes.len() <= FEW_CLASSES && !reduced.classes.is_empty() {
        let shape = Shape::of(&reduced);
        let orders = shape.orders(&reduced, &values);
        let counted = rows.counted();
        let patterns = patterns(&reduced, &counted, &orders, &[], 100, solve.meter);
        solve.prove_patterns(&counted, &patterns, &mut proven);
    }
    proven
}

impl<'run, const D: usize> Solve<'run, '_, D> {
    const fn subject(&self) -> Subject<'run, D> {
        Subject {
            problem: self.problem,
            used: self.used,
            reduced: self.reduced,
        }
    }

    /// The fit-aware relaxation with the bound that it proves.
    fn bound(&mut self, percent: u64) -> (Relaxation<D>, Vec<f64>, Proven) {
        let relaxation = relax(self.reduced, self.rows, percent, self.meter);
        let values = relaxation.values(self.reduced, self.rows, self.meter);
        let worth = relaxation.worth_or_near(self.reduced, self.rows);
        let mut proven = dual::carried(self.subject(), &values, &worth);
        if !self.rows.exact && self.meter.limit() >= LARGE {
            let (until, meter) = (percent + SLOPE_PERCENT, &mut *self.meter);
            let worth = slope::climbed(self.reduced, self.rows, worth, until, meter);
            let higher = Relaxation {
                worth,
                ..relaxation.clone()
            };
            // The values before are the better guides for a search.
            let values = higher.values(self.reduced, self.rows, self.meter);
            let found = dual::carried(self.subject(), &values, &higher.worth);
            if found.bound > proven.bound {
                proven = found;
            }
        }
        (relaxation, values, proven)
    }

    fn fleet(&mut self, relaxation: &Relaxation<D>, values: &[f64], proven: &mut Proven) -> Fleet {
        if self.reduced.classes.is_empty() {
            return Fleet::default();
        }
        let shape = Shape::of(self.reduced);
        let orders = shape.orders(self.reduced, values);
        let kinds = &relaxation.kinds[..relaxation.kinds.len().min(GREEDY_KINDS)];
        let mut starts = Vec::new();
        let mut pattern_values = None;
        let known = Known {
            reduced: self.reduced,
            values,
            bound: proven.bound,
            kinds: &relaxation.kinds,
        };
        if !self.joint_start(known, &orders, kinds, &mut starts, &mut pattern_values) {
            self.first_fits(&orders, relaxation, kinds, &mut starts);
            self.greedy_start(values, &orders, kinds, &mut starts);
        }
        let mut seeds: Vec<Pattern> = Vec::new();
        if self.reduced.classes.len() <= FEW_CLASSES && !self.is_solved(&starts, proven) {
            seeds = starts
                .iter()
                .flat_map(Fleet::counted)
                .map(|(node, _copies)| (node.kind, node.contents))
                .collect();
            let counted = self.rows.counted();
            let patterns = patterns(
                self.reduced,
                &counted,
                &orders,
                &seeds,
                PATTERNS_UNTIL,
                self.meter,
            );
            self.prove_patterns(&counted, &patterns, proven);
            starts.extend(rounding::round(
                self.reduced,
                self.rows,
                &patterns.bought,
                &Guide {
                    values: &patterns.values,
                    orders: &orders,
                    kinds,
                },
                self.meter,
            ));
            if self.meter.limit() >= LARGE {
                let bought = patterns.bought.iter();
                seeds.extend(bought.map(|bought| (bought.kind, bought.contents.clone())));
            }
            pattern_values = Some(patterns.values);
        }
        self.keep_promising(&mut starts);
        if self.is_solved(&starts, proven) {
            return starts.swap_remove(0);
        }
        let vectors: Vec<&[f64]> = pattern_values
            .iter()
            .map(Vec::as_slice)
            .chain(std::iter::once(values))
            .collect();
        let fleet = self.search(&shape, &vectors, starts, proven);
        let is_large = self.meter.limit() >= LARGE;
        if is_large && pattern_values.is_some() && fleet.price > target(proven) {
            self.prove_cases(&orders, seeds, fleet.price, proven);
        }
        fleet
    }

    /// Keeps the starts that are worth a search, the cheapest first.
    fn keep_promising(&self, starts: &mut Vec<Fleet>) {
        starts.sort_by_key(|fleet| fleet.price);
        starts.truncate(3);
        let near = starts.first().map_or(0, |fleet| fleet.price);
        let counts = self.reduced.classes.iter().map(|class| class.count);
        if counts.map(u64::from).sum::<u64>() > MANY {
            starts.retain(|fleet| fleet.price - near <= near / 100 * NEAR_PERCENT);
        }
    }

    /// Adds a fleet of whole contents for joined classes; true when no other start is likely to be cheaper.
    fn joint_start(
        &mut self,
        known: Known<'_, D>,
        orders: &[Vec<u32>],
        kinds: &[usize],
        starts: &mut Vec<Fleet>,
        values: &mut Option<Vec<f64>>,
    ) -> bool {
        if self.reduced.groups == 0 || self.reduced.classes.len() <= FEW_CLASSES {
            return false;
        }
        let spent = self.meter.spent() / (self.meter.limit() / 100).max(1);
        let until = JOINT_UNTIL.max(spent.saturating_add(JOINT_LEAST));
        let Some(joint) = Joint::of(known, until, self.meter) else {
            return false;
        };
        let Some(fleet) = joint.fleet(self.rows, orders, kinds, until, self.meter) else {
            return false;
        };
        let price = real(fleet.price);
        starts.push(fleet);
        let is_near =
            price <= joint.price() * JOINT_NEAR && price <= real(known.bound) * BOUND_NEAR;
        *values = Some(joint.values);
        is_near
    }

    /// Cases that prove more than one price for each class can, with what is left of the budget.
    fn prove_cases(
        &mut self,
        orders: &[Vec<u32>],
        seeds: Vec<Pattern>,
        price: i64,
        proven: &mut Proven,
    ) {
        if !pricing::is_exact(self.reduced) {
            return;
        }
        let counted = self.rows.counted();
        let question = Question {
            subject: self.subject(),
            rows: &counted,
            orders,
            price,
        };
        if let Some((bound, cases)) = branch::cases(question, seeds, proven.bound, self.meter) {
            proven.bound = bound;
            proven.certificate.cases = Some(cases);
        }
    }

    /// Adds greedy's fleet, unless there is one already and greedy would take most of the budget.
    fn greedy_start(
        &mut self,
        values: &[f64],
        orders: &[Vec<u32>],
        kinds: &[usize],
        starts: &mut Vec<Fleet>,
    ) {
        let counts: Vec<u32> = self
            .reduced
            .classes
            .iter()
            .map(|class| class.count)
            .collect();
        let effort = Effort {
            enough: 0.995,
            // Where items keep apart it is the search that pays.
            units: if self.reduced.groups > 0 {
                0
            } else {
                self.meter.left_until(STARTS_UNTIL)
            },
            renew: RENEW,
        };
        // One step of a search in a long order for each item, order and kind.
        let items: u64 = counts.iter().map(|count| u64::from(*count)).sum();
        let steps = u64::from(self.reduced.classes.len().max(2).ilog2());
        let cost = items.min(8 * work(counts.len())) * steps * work(orders.len() * kinds.len());
        let couples = self.reduced.groups > 0;
        if starts.is_empty() || couples || cost < effort.units * 2 {
            let greedy = Greedy::of(self.reduced, self.rows, values, orders, &counts);
            starts.push(greedy.run(kinds, effort, self.meter));
        }
    }

    fn is_solved(&self, starts: &[Fleet], proven: &Proven) -> bool {
        let cheapest = starts.iter().map(|fleet| fleet.price).min();
        cheapest.is_some_and(|price| price <= target(proven)) || self.meter.is_truncated()
    }

    fn prove_patterns(
        &mut self,
        rows: &Rows<D>,
        patterns: &patterns::Patterns,
        proven: &mut Proven,
    ) {
        // Farley 1990: values divided by the most that a pattern is worth for its price.
        let factor = patterns
            .most
            .iter()
            .zip(&self.reduced.kinds)
            .map(|(most, kind)| real(kind.price) / most.max(real(kind.price)))
            .fold(1.0, f64::min);
        let values: Vec<f64> = patterns.values.iter().map(|value| value * factor).collect();
        let mut steps = (self.meter.limit() / PROOF_PART).clamp(20_000, 2_000_000);
        let found = dual::searched(
            self.subject(),
            &values,
            &rows.caps,
            &|values| patterns::carrying(self.reduced, rows, values),
            &mut steps,
        );
        self.meter.spend(steps);
        if let Some(found) = found.filter(|found| found.bound > proven.bound) {
            *proven = found;
        }
    }

    /// First-fit fleets from each of these kinds and orders while there is budget for it.
    fn first_fits(
        &mut self,
        orders: &[Vec<u32>],
        relaxation: &Relaxation<D>,
        kinds: &[usize],
        starts: &mut Vec<Fleet>,
    ) {
        let own: Vec<usize> = self
            .reduced
            .classes
            .iter()
            .map(|class| {
                let each = |kind: usize| {
                    let most = self.reduced.most(class, kind);
                    (most > 0).then(|| real(self.reduced.kinds[kind].price) / f64::from(most))
                };
                kinds
                    .iter()
                    .copied()
                    .find(|kind| each(*kind).is_some())
                    .or_else(|| {
                        (0..self.reduced.kinds.len())
                            .filter_map(|kind| Some((each(kind)?, kind)))
                            .min_by(|left, right| left.0.total_cmp(&right.0))
                            .map(|(_each, kind)| kind)
                    })
                    .unwrap_or(0)
            })
            .collect();
        self.meter.spend(work(own.len() * 4));
        let until = if self.reduced.groups > 0 {
            FIRST_FITS_COUPLED_UNTIL
        } else {
            FIRST_FITS_UNTIL
        };
        for first in std::iter::once(None).chain(kinds.iter().map(Some)) {
            let opened: Vec<usize> = self
                .reduced
                .classes
                .iter()
                .zip(&own)
                .zip(&self.rows.of_class)
                .map(|((class, own), row)| {
                    let wanted = first.unwrap_or(&relaxation.home[*row as usize]);
                    if self.reduced.takes(class, *wanted) {
                        *wanted
                    } else {
                        *own
                    }
                })
                .collect();
            let shares = shape::by_share(self.reduced, &opened);
            for order in std::iter::once(&shares).chain(orders.iter().skip(1).take(3)) {
                let given = self.meter.left_until(until);
                if given == 0 || self.meter.ask_guard() {
                    return;
                }
                let mut units = given;
                let fleet = first_fit(self.reduced, order, &opened, &mut units);
                self.meter.spend(given - units + work(order.len()));
                let Some(fleet) = fleet else {
                    self.meter.spend(units);
                    return;
                };
                keep_best(starts, fleet);
            }
        }
    }

    /// Short searches from each start, then one long one from the best.
    fn search(
        &mut self,
        shape: &Shape<D>,
        vectors: &[&[f64]],
        starts: Vec<Fleet>,
        proven: &Proven,
    ) -> Fleet {
        let target = target(proven);
        let all = self.meter.left_until(100);
        let trial = all / 10;
        let patience = patience(self.reduced, all);
        let mut best: Option<Search<'_, D>> = None;
        for (round, start) in starts.into_iter().enumerate() {
            for (which, values) in vectors.iter().enumerate() {
                if best.as_ref().is_some_and(|best| best.price() <= target) {
                    break;
                }
                let seed = SEED + work(round * 2 + which);
                let mut search = Search::of(self.reduced, shape, values, start.clone(), seed);
                let units = trial.min(self.meter.left_until(100));
                search.run(units, target, patience, self.meter);
                if best
                    .as_ref()
                    .is_none_or(|best| search.price() < best.price())
                {
                    best = Some(search);
                }
            }
        }
        let Some(mut best) = best else {
            return Fleet::default();
        };
        let mut turn = 0;
        let mut idle = 0;
        let mut slow = false;
        let rounds = if self.meter.limit() < LARGE {
            IDLE_ROUNDS
        } else {
            IDLE_ROUNDS_LARGE
        };
        while idle < vectors.len() * rounds && best.price() > target && !self.meter.is_truncated() {
            let left = self.meter.left_until(100);
            if left == 0 {
                break;
            }
            best.set_values(vectors[turn % vectors.len()]);
            best.allow(if slow {
                best.price() / 100_000 * SLACK
            } else {
                0
            });
            turn += 1;
            let before = best.price();
            best.run((all / 8).min(left), target, patience, self.meter);
            slow = before - best.price() < before / SLOW;
            idle = if best.price() < before { 0 } else { idle + 1 };
        }
        best.into_fleet()
    }
}

/// A fleet at this price is as good as the bound allows.
fn target(proven: &Proven) -> i64 {
    proven.bound.saturating_add(proven.bound / 1_000_000)
}

/// How many units may go by without improvement.
fn patience<const D: usize>(reduced: &Reduced<D>, all: u64) -> u64 {
    let items: u64 = reduced
        .classes
        .iter()
        .map(|class| u64::from(class.count.min(1000)))
        .sum();
    (all / 4).min(SPAN * (items + 4))
}

fn keep_best(starts: &mut Vec<Fleet>, fleet: Fleet) {
    if starts.len() < 2 {
        starts.push(fleet);
    } else if let Some(dearest) = starts.iter_mut().max_by_key(|known| known.price)
        && fleet.price < dearest.price
    {
        *dearest = fleet;
    }
}
