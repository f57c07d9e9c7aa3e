//! The embedded world, tested as a whole.

mod deliveries;
mod machine;
mod nodes;
mod propagation;
mod refused;
mod replay;
mod silence;

use jiff::Timestamp;

/// So many seconds after the beginning of the embedded world's time.
pub(super) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}
