//! The wall clock of the embedded world: virtual, and the same for every seed.
//!
//! It stands on Tokio's monotonic clock, which jumps forward on a paused runtime whenever every task
//! waits. Nothing here reads the machine's time.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use crate::world::Clock;

/// When every embedded world begins: Friday, 15 January 2027, 08:00 UTC.
const BEGINNING: i64 = 1_800_000_000;

/// The wall clock over Tokio's.
#[derive(Debug, Clone, Copy)]
pub struct VirtualClock {
    begun: Instant,
}

impl VirtualClock {
    /// A clock that begins now. Must be called within the runtime whose time it tells.
    pub fn start() -> Arc<dyn Clock> {
        Arc::new(Self {
            begun: Instant::now(),
        })
    }
}

impl Clock for VirtualClock {
    fn now(&self) -> Timestamp {
        let elapsed = SignedDuration::try_from(self.begun.elapsed()).unwrap_or_default();
        Timestamp::from_second(BEGINNING)
            .and_then(|beginning| beginning.checked_add(elapsed))
            .unwrap_or(Timestamp::MAX)
    }
}

/// A time as the Kubernetes API writes it: whole seconds.
pub(super) fn api_time(at: Timestamp) -> String {
    Timestamp::from_second(at.as_second())
        .unwrap_or(at)
        .to_string()
}
