//! Decisions: snapshot, now and settings in; actions and reasons out.
//!
//! Nothing here reads the clock or the environment, draws random numbers, locks, logs, waits, or
//! does I/O.
#![deny(
    clippy::disallowed_macros,
    clippy::disallowed_methods,
    clippy::disallowed_types
)]

pub mod advise;
pub mod bind;
pub mod budget;
pub mod check;
pub mod collect;
pub mod condition;
pub mod cron;
pub mod decision;
pub mod empty;
#[cfg(test)]
pub(crate) mod examples;
pub mod instances;
pub mod launch;
pub mod lifecycle;
pub mod notices;
pub mod pace;
pub mod pack;
pub mod pool_status;
pub mod provision;
pub mod rate;
pub mod terminate;
