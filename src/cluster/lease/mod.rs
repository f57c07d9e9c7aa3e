//! The lease that only one controller holds, and only while it can prove it.
//!
//! Given a name and how long a lease lasts; given back [`Term`]s: the right to act, up to an instant
//! of this machine's monotonic clock. The Lease object is only ever replaced as it was seen
//! (compare-and-swap), and a holder counts as gone when its record did not change for a whole lease;
//! the wall clocks of two machines are never compared. Nothing is decided here but who acts.

mod candidate;
mod election;
mod standing;
mod term;

pub use election::{Election, LeaseOptions, LeaseTiming};
pub use standing::Standing;
pub use term::{NotLeading, OnItsWay, Term};
