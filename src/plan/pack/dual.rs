//! From real-valued duals to a certificate in integers.
//!
//! Given values of classes and worths of kinds; given back the certificate for all items and
//! machines of the problem, rounded to the safe side, and the bound that it proves.

use super::knapsack::Worth;
use super::problem::Problem;
use super::real::{real, whole};
use super::reduced::Reduced;
use super::verify::{Certificate, Fault, verify_certificate_within};

/// How often values are lowered before a proof is given up.
const ATTEMPTS: u32 = 6;

/// A bound with its proof.
#[derive(Debug, Clone)]
pub struct Proven {
    /// The bound, in the unit of prices.
    pub bound: i64,
    /// Its proof.
    pub certificate: Certificate,
}

/// What a bound is proven for.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'solve, const D: usize> {
    /// The problem.
    pub problem: &'solve Problem,
    /// The dimensions that its items use.
    pub used: &'solve [usize],
    /// The same, reduced.
    pub reduced: &'solve Reduced<D>,
}

/// The certificate of worths that carry the values: proven by sums alone.
pub fn carried<const D: usize>(
    subject: Subject<'_, D>,
    values: &[f64],
    worth: &[Worth<D>],
) -> Proven {
    // Rounding worths and shares down loses at most two units in each dimension.
    let margin = 2 * i64::try_from(D).unwrap_or(0) + 2;
    let prices = values
        .iter()
        .map(|value| (whole(value * (1.0 - 1e-12)) - margin).max(0))
        .collect::<Vec<i64>>();
    let offering_prices = worths(subject, &|kind, dimension, share| {
        whole(worth[kind].whole.0[dimension] * (1.0 - 1e-12) * share)
    });
    proven(subject, &prices, offering_prices)
}

/// The certificate of values that only a search through all contents proves, if the independent
/// checker proves it within so many steps; what was taken of them is left there.
pub fn searched<const D: usize>(
    subject: Subject<'_, D>,
    values: &[f64],
    caps: &[f64],
    worth: &dyn Fn(&[f64]) -> Vec<Worth<D>>,
    steps: &mut u64,
) -> Option<Proven> {
    let attempt = Attempt {
        caps,
        worth,
        limit: &|kind| real(subject.reduced.kinds[kind].price),
        check: &|certificate, steps| verify_certificate_within(subject.problem, certificate, steps),
    };
    accepted(subject, values, &attempt, steps)
}

/// How values are turned into a certificate that the checker accepts.
pub struct Attempt<'call, const D: usize> {
    /// Caps of the groups that worths know.
    pub caps: &'call [f64],
    /// What the capacities of all kinds are worth by values.
    pub worth: &'call dyn Fn(&[f64]) -> Vec<Worth<D>>,
    /// What contents of a kind may be worth.
    pub limit: &'call dyn Fn(usize) -> f64,
    /// The bound that a certificate's prices prove, within so many steps.
    pub check: &'call dyn Fn(&Certificate, &mut u64) -> Result<i64, Fault>,
}

impl<const D: usize> std::fmt::Debug for Attempt<'_, D> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Attempt")
            .field("caps", &self.caps)
            .finish_non_exhaustive()
    }
}

/// Values as a certificate that the checker accepts. Values that turn out too high are lowered: by
/// what the checker finds, or, where its search does not end, until sums alone prove them. Each
/// attempt may take `steps`; what all of them took is left there.
pub fn accepted<const D: usize>(
    subject: Subject<'_, D>,
    values: &[f64],
    attempt: &Attempt<'_, D>,
    steps: &mut u64,
) -> Option<Proven> {
    let each = *steps;
    *steps = 0;
    let mut values: Vec<f64> = values.iter().map(|value| value * (1.0 - 1e-7)).collect();
    for _attempt in 0..ATTEMPTS {
        let mut left = each;
        let worth = (attempt.worth)(&values);
        let prices: Vec<i64> = values.iter().map(|value| whole(*value).max(0)).collect();
        let offering_prices = worths(subject, &|kind, dimension, share| {
            whole(worth[kind].whole.0[dimension] * share) + 2
        });
        let found = proven(subject, &prices, offering_prices);
        let outcome = (attempt.check)(&found.certificate, &mut left);
        *steps += each - left;
        let factor = match outcome {
            Ok(bound) => return Some(Proven { bound, ..found }),
            Err(Fault::Overvalued { worth, price, .. }) => {
                let saturated = |amount| real(i64::try_from(amount).unwrap_or(i64::MAX));
                saturated(price) / saturated(worth)
            }
            Err(Fault::Undecided { machine }) => {
                let kind = subject
                    .reduced
                    .replaced_by
                    .get(machine)
                    .copied()
                    .flatten()?;
                (attempt.limit)(kind) / worth[kind].total(attempt.caps)
            }
            Err(_other) => return None,
        };
        // A case may leave nothing for contents, or less; no factor mends that.
        if factor.is_nan() || factor <= 0.0 {
            return None;
        }
        let factor = factor.min(1.0);
        for value in &mut values {
            *value *= factor * (1.0 - 1e-7);
        }
    }
    None
}

/// Worth of each machine's capacities, by the problem's dimensions. `of` is given the kind, its
/// dimension and the machine's share of the kind's capacity.
fn worths<const D: usize>(
    subject: Subject<'_, D>,
    of: &dyn Fn(usize, usize, f64) -> i64,
) -> Vec<Vec<i64>> {
    let Subject {
        problem,
        used,
        reduced,
    } = subject;
    problem
        .machines
        .iter()
        .zip(&reduced.replaced_by)
        .map(|(machine, kind)| {
            let mut worths = vec![0; problem.dimensions];
            let Some(kind) = *kind else {
                return worths;
            };
            for (dimension, name) in used.iter().enumerate() {
                let capacity = machine.capacity.get(*name).copied().unwrap_or(0).max(0);
                let most = reduced.kinds[kind].capacity[dimension];
                if let (Some(slot), true) = (worths.get_mut(*name), most > 0) {
                    *slot = of(kind, dimension, real(capacity) / real(most)).max(0);
                }
            }
            worths
        })
        .collect()
}

fn proven<const D: usize>(
    subject: Subject<'_, D>,
    prices: &[i64],
    offering_prices: Vec<Vec<i64>>,
) -> Proven {
    let mut class_prices = vec![0; subject.problem.items.len()];
    let mut bound: i128 = 0;
    for (class, price) in subject.reduced.classes.iter().zip(prices) {
        for (item, count) in &class.items {
            if let Some(slot) = class_prices.get_mut(*item) {
                *slot = *price;
            }
            bound += i128::from(*price) * i128::from(*count);
        }
    }
    Proven {
        bound: i64::try_from(bound).unwrap_or(i64::MAX),
        certificate: Certificate {
            class_prices,
            offering_prices,
            cases: None,
        },
    }
}
