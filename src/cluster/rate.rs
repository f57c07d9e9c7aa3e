//! A token bucket over the virtual clock in two lanes, first come, first served in each.

use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock, Reference};
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use tokio::sync::Mutex;
use tokio::time::Instant;

/// Nanoseconds since the clock was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Moment(u64);

impl std::ops::Add<Nanos> for Moment {
    type Output = Self;

    fn add(self, other: Nanos) -> Self {
        Self(self.0.saturating_add(other.as_u64()))
    }
}

impl Reference for Moment {
    fn duration_since(&self, earlier: Self) -> Nanos {
        self.0.saturating_sub(earlier.0).into()
    }

    fn saturating_sub(&self, duration: Nanos) -> Self {
        self.0.checked_sub(duration.as_u64()).map_or(*self, Self)
    }
}

/// Tokio's clock, so that buckets fill in virtual time too.
#[derive(Debug, Clone)]
pub(super) struct TokioClock {
    start: Instant,
}

impl Clock for TokioClock {
    type Instant = Moment;

    fn now(&self) -> Moment {
        let elapsed = Instant::now().saturating_duration_since(self.start);
        Moment(u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX))
    }
}

/// Who gets the next token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lane {
    /// What machines wait for: served before everything else.
    Buying,
    /// Everything else.
    Usual,
}

/// A token bucket.
#[derive(Debug)]
pub(super) struct RateLimit {
    limiter: RateLimiter<NotKeyed, InMemoryState, TokioClock, NoOpMiddleware<Moment>>,
    clock: TokioClock,
    /// Tokio's mutex is fair: callers get their tokens in the order in which they came.
    queue: Mutex<()>,
    /// Only the first of the usual callers stands in the queue, so that all others are behind the urgent ones.
    usual: Mutex<()>,
}

impl RateLimit {
    /// A full bucket that refills at `per_second` and holds `burst` tokens.
    pub(super) fn new(per_second: NonZeroU32, burst: NonZeroU32) -> Self {
        let clock = TokioClock {
            start: Instant::now(),
        };
        let quota = Quota::per_second(per_second).allow_burst(burst);
        Self {
            limiter: RateLimiter::direct_with_clock(quota, clock.clone()),
            clock,
            queue: Mutex::new(()),
            usual: Mutex::new(()),
        }
    }

    /// Takes one token, waiting for it if there is none.
    pub(super) async fn acquire(&self, lane: Lane) {
        let _first = match lane {
            Lane::Buying => None,
            Lane::Usual => Some(self.usual.lock().await),
        };
        let _turn = self.queue.lock().await;
        while let Err(denied) = self.limiter.check() {
            let wait = denied.wait_time_from(self.clock.now());
            tokio::time::sleep(wait.max(Duration::from_millis(1))).await;
        }
    }

    /// Takes one token if there is one.
    pub(super) fn try_acquire(&self) -> bool {
        self.limiter.check().is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_is_let_through_and_the_rest_is_spread() {
        let limit = RateLimit::new(NonZeroU32::new(10).unwrap(), NonZeroU32::new(5).unwrap());
        let begin = Instant::now();
        for _ in 0..5 {
            limit.acquire(Lane::Usual).await;
        }
        assert_eq!(begin.elapsed(), Duration::ZERO);
        assert!(!limit.try_acquire());
        for _ in 0..20 {
            limit.acquire(Lane::Usual).await;
        }
        let elapsed = begin.elapsed();
        assert!(
            elapsed >= Duration::from_millis(1900) && elapsed <= Duration::from_millis(2100),
            "{elapsed:?}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn buying_overtakes_what_waits_and_starves_nobody() {
        let limit = RateLimit::new(NonZeroU32::new(10).unwrap(), NonZeroU32::new(1).unwrap());
        limit.acquire(Lane::Usual).await;
        let order = Mutex::new(Vec::new());
        let take = async |lane| {
            limit.acquire(lane).await;
            order.lock().await.push(lane);
        };
        let usual = futures::future::join_all((0..20).map(|_| take(Lane::Usual)));
        let buying = async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            futures::future::join_all((0..20).map(|_| take(Lane::Buying))).await;
        };
        futures::future::join(usual, buying).await;
        let order = order.into_inner();
        let last = order.iter().rposition(|lane| *lane == Lane::Buying);
        assert!(last.unwrap() < 23, "{order:?}");
        assert_eq!(order.len(), 40);
    }
}
