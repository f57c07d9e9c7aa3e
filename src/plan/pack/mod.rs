//! The packer: which machines to buy for items of given sizes, at the least total price.
//!
//! Given a [`Problem`] in plain integers and a [`Budget`] of work; given back machines with
//! contents, a lower bound on what any answer costs, and the bound's proof. Equal problems with
//! equal budgets give equal answers. Nothing here knows pods or pools, so the benches solve with
//! the very code that the controller runs.

pub mod bits;
pub mod branch;
pub mod budget;
pub mod cases;
pub mod content;
pub mod dual;
pub mod fill;
pub mod first_fit;
pub mod fleet;
pub mod fluid;
pub mod greedy;
pub mod handout;
pub mod improve;
pub mod joined;
pub mod joint;
pub mod knapsack;
pub mod master;
pub mod patterns;
pub mod plain;
pub mod prefix;
pub mod pricing;
pub mod problem;
pub mod proof;
pub mod random;
pub mod real;
pub mod reduced;
pub mod relaxation;
pub mod rounding;
pub mod rows;
pub mod shape;
pub mod sided;
pub mod slope;
pub mod solver;
pub mod verify;
pub mod whole;

pub use bits::Bits;
pub use budget::Budget;
pub use problem::{Item, Machine, Packed, Packing, Problem, Relation};
pub use verify::{Certificate, Fault, verify_certificate, verify_packing};

use budget::Meter;
use dual::Proven;

/// Most dimensions that the solver proper works with.
const WIDEST: usize = 16;

/// What a solve gives back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Solution {
    /// The machines, and what no machine takes.
    pub packing: Packing,
    /// Price of all machines, in the unit of the problem's prices.
    pub price: i64,
    /// No packing of the same items costs less: what [`verify_certificate`] makes of the
    /// certificate.
    pub lower_bound: i64,
    /// The bound's proof.
    pub certificate: Certificate,
    /// The wall-clock guard ended the solve before its budget was spent.
    pub truncated: bool,
    /// Units of work spent.
    pub units: u64,
}

/// Packs within a budget of work.
pub fn solve(problem: &Problem, budget: Budget) -> Solution {
    solve_guarded(problem, budget, &|| false)
}

/// Packs within a budget of work, or until `over` says that the time is up. A solution that came to
/// its end by `over` is marked truncated, and is the one thing here that may differ between runs.
pub fn solve_guarded(problem: &Problem, budget: Budget, over: &dyn Fn() -> bool) -> Solution {
    let mut meter = Meter::new(budget, over);
    let used = reduced::used_dimensions(problem);
    match used.len() {
        0..=4 => solver::solve::<4>(problem, &used, &mut meter),
        5..=8 => solver::solve::<8>(problem, &used, &mut meter),
        9..=WIDEST => solver::solve::<WIDEST>(problem, &used, &mut meter),
        _ => plainly(problem, &used, &mut meter),
    }
}

/// Only a lower bound for a problem with its proof: at least one that follows from what capacities
/// are worth, whatever the budget.
pub fn bound_guarded(problem: &Problem, budget: Budget, over: &dyn Fn() -> bool) -> Proven {
    let mut meter = Meter::new(budget, over);
    let used = reduced::used_dimensions(problem);
    match used.len() {
        0..=4 => solver::bound::<4>(problem, &used, &mut meter),
        5..=8 => solver::bound::<8>(problem, &used, &mut meter),
        9..=WIDEST => solver::bound::<WIDEST>(problem, &used, &mut meter),
        // Leaving dimensions out only makes a problem easier.
        _ => solver::bound::<WIDEST>(problem, used.get(..WIDEST).unwrap_or_default(), &mut meter),
    }
}

/// The greedy of last resort for problems of more dimensions than the solver works with.
fn plainly(problem: &Problem, used: &[usize], meter: &mut Meter<'_>) -> Solution {
    let packing = plain::greedy(problem, &plain::values(problem));
    let known = used.get(..WIDEST).unwrap_or_default();
    let proven = solver::bound::<WIDEST>(problem, known, meter);
    Solution {
        price: packing.price(problem),
        packing,
        lower_bound: proven.bound,
        certificate: proven.certificate,
        truncated: meter.is_truncated(),
        units: meter.spent(),
    }
}

#[cfg(test)]
mod tests;
