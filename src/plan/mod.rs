//! Decisions: snapshot, now and settings in; actions and reasons out.
//!
//! Nothing here reads the clock or the environment, draws random numbers, locks, logs, waits, or
//! does I/O.
#![deny(
    clippy::disallowed_macros,
    clippy::disallowed_methods,
    clippy::disallowed_types
)]

pub mod pack;
pub mod provision;
