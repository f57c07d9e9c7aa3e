//! A better bound by cases: branch and bound over how many machines of some kinds a fleet has.
//!
//! Given a problem of few classes, its patterns so far and the price of the best fleet; given back
//! cases with their proofs, which the independent checker has accepted one by one. The case with the
//! lowest bound is split first, on the set of kinds of which the relaxation buys a broken number and
//! whose two cases cost most, until all cases are at the price, the work is done or no set is left.

use super::bits::Bits;
use super::budget::Meter;
use super::cases::{Cases, Checker, DEEPEST, Priced, Side, Split};
use super::dual::{self, Attempt, Subject};
use super::patterns;
use super::proof;
use super::real::{real, whole, whole_count};
use super::reduced::Reduced;
use super::rows::Rows;
use super::sided::{Branch, Pattern, Relaxed, Sided, is_over};

/// Most cases of one proof: its length is what a reader has to go through.
const MOST_CASES: usize = 200;
/// Sets of kinds that are tried before one is split.
const MOST_TRIED: usize = 6;
/// A number of machines nearer to a whole one than this is whole.
const WHOLE: f64 = 0.01;
/// Steps that the checker may take for one attempt to prove a case: a part of the budget, at most
/// this.
const MOST_PROOF_STEPS: u64 = 1_000_000;
/// The part of the budget.
const PROOF_PART: u64 = 100;
/// The checker reads all cases in one go: together they must leave it steps to spare.
const MOST_STEPS: u64 = proof::MOST_STEPS / 2;
/// Units that one step of the checker stands for: it divides wide integers for each dimension.
const PROOF_STEP_UNITS: u64 = 4;

/// What cases are looked for.
#[derive(Debug, Clone, Copy)]
pub struct Question<'solve, const D: usize> {
    /// The problem.
    pub subject: Subject<'solve, D>,
    /// One row for each class, counted.
    pub rows: &'solve Rows<D>,
    /// Orders to fill in where pricing is not exact.
    pub orders: &'solve [Vec<u32>],
    /// Price of the best fleet: no bound can be above it.
    pub price: i64,
}

/// A case that is not split.
#[derive(Debug, Clone)]
struct Open {
    path: Vec<Branch>,
    relaxed: Relaxed,
    priced: Priced,
    bound: i64,
    /// Nothing is left to split.
    stuck: bool,
}

#[derive(Debug)]
enum Slot {
    Open(Box<Open>),
    Split {
        branch: Branch,
        fewer: usize,
        more: usize,
    },
}

struct Tree<'run, 'guard, const D: usize> {
    question: Question<'run, D>,
    sided: Sided<'run, D>,
    checker: Checker<'run>,
    /// Steps that the checker took so far.
    steps: u64,
    meter: &'run mut Meter<'guard>,
}

/// Cases that prove a bound above `known`, with the bound.
pub fn cases<const D: usize>(
    question: Question<'_, D>,
    patterns: Vec<Pattern>,
    known: i64,
    meter: &mut Meter<'_>,
) -> Option<(i64, Cases)> {
    let Subject {
        problem, reduced, ..
    } = question.subject;
    let sided = Sided::of(
        reduced,
        question.rows,
        question.orders,
        patterns,
        question.price,
        meter.limit(),
    );
    let mut tree = Tree {
        question,
        sided,
        checker: Checker::of(problem),
        steps: 0,
        meter,
    };
    let relaxed = tree.sided.relax(&[], tree.meter);
    let (priced, bound) = tree.prove(&[], &relaxed)?;
    let mut slots = vec![Slot::Open(Box::new(Open {
        path: Vec::new(),
        relaxed,
        priced,
        bound,
        stuck: false,
    }))];
    tree.grow(&mut slots);
    let bound = slots
        .iter()
        .filter_map(|slot| match slot {
            Slot::Open(open) => Some(open.bound),
            Slot::Split { .. } => None,
        })
        .min()?;
    if bound <= known {
        return None;
    }
    Some((bound, tree.written(&slots, 0)?))
}

impl<const D: usize> Tree<'_, '_, D> {
    const fn reduced(&self) -> &Reduced<D> {
        self.question.subject.reduced
    }

    /// A bound from here on is as good as the price.
    const fn enough(&self) -> i64 {
        self.question.price - self.question.price / 1_000_000
    }

    fn grow(&mut self, slots: &mut Vec<Slot>) {
        let mut cases = 1;
        while cases < MOST_CASES && self.steps < MOST_STEPS && !is_over(self.meter) {
            let lowest = slots
                .iter()
                .enumerate()
                .filter_map(|(index, slot)| match slot {
                    Slot::Open(open) => Some((open.bound, index)),
                    Slot::Split { .. } => None,
                })
                .min();
            let Some((_bound, index)) = lowest else {
                return;
            };
            let Some(Slot::Open(open)) = slots.get(index) else {
                return;
            };
            if open.stuck || open.bound >= self.enough() || open.path.len() >= DEEPEST {
                return;
            }
            match self.split(open) {
                None => {
                    if let Some(Slot::Open(open)) = slots.get_mut(index) {
                        open.stuck = true;
                    }
                }
                Some((branch, fewer, more)) => {
                    let next = slots.len();
                    slots.push(Slot::Open(Box::new(fewer)));
                    slots.push(Slot::Open(Box::new(more)));
                    if let Some(slot) = slots.get_mut(index) {
                        *slot = Slot::Split {
                            branch,
                            fewer: next,
                            more: next + 1,
                        };
                    }
                    cases += 1;
                }
            }
        }
    }

    /// The two cases of the best set of kinds to split.
    fn split(&mut self, open: &Open) -> Option<(Branch, Open, Open)> {
        let mut best: Option<([f64; 2], Branch, Relaxed, Relaxed)> = None;
        for fewer in self.candidates(open) {
            if best.is_some() && is_over(self.meter) {
                break;
            }
            let path = joined(&open.path, fewer.clone());
            let below = self.sided.relax(&path, self.meter);
            let path = joined(&open.path, more_than(&fewer));
            let above = self.sided.relax(&path, self.meter);
            let enough = real(self.question.price);
            let score = [
                below.bound.min(above.bound).min(enough),
                below.bound.max(above.bound).min(enough),
            ];
            if best.as_ref().is_none_or(|(known, ..)| {
                score[0] > known[0] * (1.0 + 1e-9)
                    || (score[0] >= known[0] * (1.0 - 1e-9) && score[1] > known[1])
            }) {
                best = Some((score, fewer, below, above));
            }
        }
        let (_score, fewer, below, above) = best?;
        let more = more_than(&fewer);
        let below = self.opened(open, fewer.clone(), below);
        let above = self.opened(open, more, above);
        Some((fewer, below, above))
    }

    /// A case of a split with its proof, or that of the case it comes from, without a charge.
    fn opened(&mut self, from: &Open, branch: Branch, relaxed: Relaxed) -> Open {
        let path = joined(&from.path, branch);
        let mut inherited = from.priced.clone();
        inherited.charges.push(0);
        let (priced, bound) = self
            .prove(&path, &relaxed)
            .filter(|(_priced, bound)| *bound >= from.bound)
            .unwrap_or((inherited, from.bound));
        Open {
            path,
            relaxed,
            priced,
            bound,
            stuck: false,
        }
    }

    /// Sets of kinds of which a broken number is bought, the most broken first.
    fn candidates(&self, open: &Open) -> Vec<Branch> {
        let kinds = self.reduced().kinds.len();
        let mut sets: Vec<Bits> = vec![Bits::full(kinds)];
        for (kind, count) in open.relaxed.counts.iter().enumerate() {
            if *count > 0.0 {
                sets.push(Bits::of(kinds, |other| other == kind));
                // Kinds go by price.
                sets.push(Bits::of(kinds, |other| other >= kind));
            }
        }
        for class in &self.reduced().classes {
            sets.push(Bits::of(kinds, |kind| self.reduced().takes(class, kind)));
        }
        sets.sort();
        sets.dedup();
        let mut found: Vec<(f64, Branch)> = sets
            .into_iter()
            .filter_map(|kinds| {
                let number: f64 = kinds.iter().map(|kind| open.relaxed.counts[kind]).sum();
                let broken = (number - number.round()).abs();
                (broken > WHOLE).then(|| {
                    let count = whole_count(number);
                    let branch = Branch {
                        kinds,
                        count,
                        at_least: false,
                    };
                    (broken, branch)
                })
            })
            .collect();
        found.sort_by(|left, right| {
            right
                .0
                .total_cmp(&left.0)
                .then_with(|| left.1.kinds.cmp(&right.1.kinds))
        });
        found
            .into_iter()
            .take(MOST_TRIED)
            .map(|(_broken, branch)| branch)
            .collect()
    }

    /// The prices of a case in integers, as the checker accepts them, and the bound.
    fn prove(&mut self, path: &[Branch], relaxed: &Relaxed) -> Option<(Priced, i64)> {
        let subject = self.question.subject;
        let rows = self.question.rows;
        let sides = self.sides(path);
        let charges: Vec<i64> = path
            .iter()
            .zip(&relaxed.charges)
            .map(|(branch, charge)| {
                let rounded = whole(*charge).max(0);
                if branch.at_least {
                    rounded
                } else {
                    rounded + 1
                }
            })
            .collect();
        let changes = self.sided.changes(path, &relaxed.charges);
        let mut steps = (self.meter.limit() / PROOF_PART).min(MOST_PROOF_STEPS);
        let priced = |certificate: &super::Certificate| Priced {
            class_prices: certificate.class_prices.clone(),
            offering_prices: certificate.offering_prices.clone(),
            charges: charges.clone(),
        };
        let attempt = Attempt {
            caps: &rows.caps,
            worth: &|values| patterns::carrying(subject.reduced, rows, values),
            limit: &|kind| real(subject.reduced.kinds[kind].price) + changes[kind],
            check: &|certificate, steps| {
                self.checker
                    .verify_case(&priced(certificate), &sides, steps)
            },
        };
        let found = dual::accepted(subject, &relaxed.values, &attempt, &mut steps);
        self.steps += steps;
        self.meter.spend(PROOF_STEP_UNITS * steps);
        let found = found?;
        Some((priced(&found.certificate), found.bound))
    }

    /// A path in the problem's machines.
    fn sides(&self, path: &[Branch]) -> Vec<Side> {
        path.iter()
            .map(|branch| Side {
                machines: self.machines(&branch.kinds),
                count: branch.count,
                at_least: branch.at_least,
            })
            .collect()
    }

    fn machines(&self, kinds: &Bits) -> Bits {
        let replaced_by = &self.reduced().replaced_by;
        Bits::of(replaced_by.len(), |machine| {
            replaced_by
                .get(machine)
                .copied()
                .flatten()
                .is_some_and(|kind| kinds.contains(kind))
        })
    }

    fn written(&self, slots: &[Slot], index: usize) -> Option<Cases> {
        match slots.get(index)? {
            Slot::Open(open) => Some(Cases::Proven(open.priced.clone())),
            Slot::Split {
                branch,
                fewer,
                more,
            } => Some(Cases::Split(Box::new(Split {
                machines: self.machines(&branch.kinds),
                most: branch.count,
                fewer: self.written(slots, *fewer)?,
                more: self.written(slots, *more)?,
            }))),
        }
    }
}

fn joined(path: &[Branch], branch: Branch) -> Vec<Branch> {
    let mut path = path.to_vec();
    path.push(branch);
    path
}

/// The other case of a split.
fn more_than(fewer: &Branch) -> Branch {
    Branch {
        kinds: fewer.kinds.clone(),
        count: fewer.count.saturating_add(1),
        at_least: true,
    }
}
