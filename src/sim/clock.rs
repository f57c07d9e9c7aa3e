//! The wall clocks of the embedded world: its own, virtual and the same for every seed, and those of
//! machines, which may be wrong.
//!
//! It stands on Tokio's monotonic clock, which jumps forward on a paused runtime whenever every task
//! waits. Nothing here reads the machine's time.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

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

/// The wall clock of one machine, which may be wrong and may jump; clones share it. Tokio's clock is
/// monotonic, is everybody's, and knows nothing of it.
#[derive(Debug, Clone)]
pub struct WallClock {
    right: Arc<dyn Clock>,
    ahead: Arc<Mutex<SignedDuration>>,
}

impl WallClock {
    /// A clock that is right.
    pub fn new(right: &Arc<dyn Clock>) -> Self {
        Self {
            right: Arc::clone(right),
            ahead: Arc::default(),
        }
    }

    fn ahead(&self) -> MutexGuard<'_, SignedDuration> {
        self.ahead.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on it is ahead of the right time by so much, or behind; says by how much it jumped.
    pub fn set_ahead(&self, by: SignedDuration) -> SignedDuration {
        let mut ahead = self.ahead();
        by.saturating_sub(std::mem::replace(&mut *ahead, by))
    }
}

impl Clock for WallClock {
    fn now(&self) -> Timestamp {
        let right = self.right.now();
        right.saturating_add(*self.ahead()).unwrap_or(right)
    }
}

/// A time as the Kubernetes API writes it: whole seconds.
pub(super) fn api_time(at: Timestamp) -> String {
    Timestamp::from_second(at.as_second())
        .unwrap_or(at)
        .to_string()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_wall_clock_that_jumps_leaves_monotonic_time_alone() {
        let right = VirtualClock::start();
        let clock = WallClock::new(&right);
        let (begun, wall) = (Instant::now(), right.now());
        let minutes = SignedDuration::from_mins;
        assert_eq!(clock.set_ahead(minutes(-2)), minutes(-2));
        assert_eq!(clock.now(), wall - minutes(2));
        assert_eq!(clock.set_ahead(minutes(3)), minutes(5), "a jump of both");
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(begun.elapsed(), Duration::from_secs(1));
        assert_eq!(right.now(), wall + SignedDuration::from_secs(1));
        assert_eq!(clock.now(), right.now() + minutes(3));
    }
}
