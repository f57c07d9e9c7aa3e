//! The packer: which machines to buy for items of given sizes, at the least total price.
//!
//! Given a [`Problem`] in plain integers and a [`Budget`] of work; given back machines with
//! contents, a lower bound on what any answer costs, and the bound's proof. Equal problems with
//! equal budgets give equal answers. Nothing here knows pods or pools, so the benches solve with
//! the very code that the controller runs.

pub mod bits;
pub mod budget;
pub mod plain;
pub mod problem;
pub mod proof;
pub mod verify;

pub use bits::Bits;
pub use budget::Budget;
pub use problem::{Item, Machine, Packed, Packing, Problem, Relation};
pub use verify::{Certificate, Fault, verify_certificate, verify_packing};

use budget::Meter;

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
    let meter = Meter::new(budget, over);
    let packing = plain::greedy(problem, &plain::values(problem));
    let certificate = Certificate {
        class_prices: vec![0; problem.items.len()],
        offering_prices: vec![vec![0; problem.dimensions]; problem.machines.len()],
    };
    Solution {
        price: packing.price(problem),
        packing,
        lower_bound: 0,
        certificate,
        truncated: meter.is_truncated(),
        units: meter.spent(),
    }
}
