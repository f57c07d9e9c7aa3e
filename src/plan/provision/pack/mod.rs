//! The packer: which machines to buy for items of given sizes, at the least total price.
//!
//! Given a [`problem::Problem`] in plain integers and a number of work units; given back machines
//! with contents and a lower bound on what any answer costs. Nothing here knows pods or pools, so
//! the benches solve with the very code that the controller runs.

pub mod greedy;
pub mod problem;
