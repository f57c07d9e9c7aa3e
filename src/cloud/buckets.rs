//! Client-side token buckets: no call is made that EC2 would throttle.
//!
//! Given: what a call takes and from which buckets. Given back: the caller goes on when the tokens
//! are there, in virtual time too. Sizes are those of EC2's request and resource buckets per account
//! and region; they are settings, because other tools of the account draw on the same buckets.
//! Nothing here retries or fails: waiting is all it does.

use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use tokio::time::Instant;

/// What calls draw on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Bucket {
    /// CreateFleet, CreateLaunchTemplate, DeleteLaunchTemplate: one token a call.
    Mutate,
    /// RunInstances: one token a call.
    RunInstances,
    /// One token for each instance that a launch may start.
    InstancesStarted,
    /// TerminateInstances: one token a call.
    Terminate,
    /// One token for each instance that a call ends.
    InstancesEnded,
    /// CreateTags: one token a call.
    Tag,
    /// Describe calls with filters, ids or pages: one token a call.
    Describe,
    /// Everything else: one token a call.
    Other,
}

/// Refill and size of a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BucketSize {
    /// Tokens that come back per second.
    pub per_second: NonZeroU32,
    /// Tokens at most.
    pub burst: NonZeroU32,
}

/// Sizes of all buckets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BucketSizes {
    /// [`Bucket::Mutate`].
    pub mutate: BucketSize,
    /// [`Bucket::RunInstances`].
    pub run_instances: BucketSize,
    /// [`Bucket::InstancesStarted`].
    pub instances_started: BucketSize,
    /// [`Bucket::Terminate`].
    pub terminate: BucketSize,
    /// [`Bucket::InstancesEnded`].
    pub instances_ended: BucketSize,
    /// [`Bucket::Tag`].
    pub tag: BucketSize,
    /// [`Bucket::Describe`].
    pub describe: BucketSize,
    /// [`Bucket::Other`].
    pub other: BucketSize,
}

impl BucketSize {
    /// A size; zero counts as one.
    pub const fn new(per_second: u32, burst: u32) -> Self {
        Self {
            per_second: at_least_one(per_second),
            burst: at_least_one(burst),
        }
    }
}

const fn at_least_one(count: u32) -> NonZeroU32 {
    match NonZeroU32::new(count) {
        Some(count) => count,
        None => NonZeroU32::MIN,
    }
}

impl Default for BucketSizes {
    /// AWS's default sizes.
    fn default() -> Self {
        Self {
            mutate: BucketSize::new(5, 50),
            run_instances: BucketSize::new(2, 5),
            instances_started: BucketSize::new(2, 1000),
            terminate: BucketSize::new(5, 100),
            instances_ended: BucketSize::new(20, 1000),
            tag: BucketSize::new(10, 100),
            describe: BucketSize::new(20, 100),
            other: BucketSize::new(10, 50),
        }
    }
}

/// tokio's monotonic clock, which is virtual on a paused runtime.
#[derive(Debug, Clone)]
struct MonotonicClock {
    start: Instant,
}

impl Clock for MonotonicClock {
    type Instant = Duration;

    fn now(&self) -> Duration {
        self.start.elapsed()
    }
}

type Limiter = RateLimiter<NotKeyed, InMemoryState, MonotonicClock, NoOpMiddleware<Duration>>;

/// The buckets of one account and region.
#[derive(Debug)]
pub struct Buckets {
    clock: MonotonicClock,
    sizes: BucketSizes,
    mutate: Limiter,
    run_instances: Limiter,
    instances_started: Limiter,
    terminate: Limiter,
    instances_ended: Limiter,
    tag: Limiter,
    describe: Limiter,
    other: Limiter,
}

impl Buckets {
    /// Full buckets; to be made on the runtime whose clock they follow.
    pub fn new(sizes: BucketSizes) -> Self {
        let clock = MonotonicClock {
            start: Instant::now(),
        };
        let limiter = |size: BucketSize| {
            let quota = Quota::per_second(size.per_second).allow_burst(size.burst);
            Limiter::direct_with_clock(quota, clock.clone())
        };
        Self {
            mutate: limiter(sizes.mutate),
            run_instances: limiter(sizes.run_instances),
            instances_started: limiter(sizes.instances_started),
            terminate: limiter(sizes.terminate),
            instances_ended: limiter(sizes.instances_ended),
            tag: limiter(sizes.tag),
            describe: limiter(sizes.describe),
            other: limiter(sizes.other),
            sizes,
            clock,
        }
    }

    /// Waits until the bucket has `count` tokens and takes them. More than a bucket holds is taken
    /// in portions.
    pub async fn take(&self, bucket: Bucket, count: u32) {
        let (limiter, size) = self.of(bucket);
        let mut left = count;
        while let Some(portion) = NonZeroU32::new(left.min(size.burst.get())) {
            match limiter.check_n(portion) {
                Ok(Ok(())) => left -= portion.get(),
                Ok(Err(not_until)) => {
                    tokio::time::sleep(not_until.wait_time_from(self.clock.now())).await;
                }
                // Cannot be: a portion is at most the burst. To go on beats to hang.
                Err(_too_large) => left = 0,
            }
        }
    }

    const fn of(&self, bucket: Bucket) -> (&Limiter, BucketSize) {
        match bucket {
            Bucket::Mutate => (&self.mutate, self.sizes.mutate),
            Bucket::RunInstances => (&self.run_instances, self.sizes.run_instances),
            Bucket::InstancesStarted => (&self.instances_started, self.sizes.instances_started),
            Bucket::Terminate => (&self.terminate, self.sizes.terminate),
            Bucket::InstancesEnded => (&self.instances_ended, self.sizes.instances_ended),
            Bucket::Tag => (&self.tag, self.sizes.tag),
            Bucket::Describe => (&self.describe, self.sizes.describe),
            Bucket::Other => (&self.other, self.sizes.other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn seconds_for(bucket: Bucket, count: u32, calls: u32) -> u64 {
        let buckets = Buckets::new(BucketSizes::default());
        let start = Instant::now();
        for _call in 0..calls {
            buckets.take(bucket, count).await;
        }
        start.elapsed().as_secs()
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_is_free_and_the_rest_waits_for_the_refill() {
        assert_eq!(seconds_for(Bucket::Mutate, 1, 50).await, 0);
        assert_eq!(seconds_for(Bucket::Mutate, 1, 60).await, 2);
        assert_eq!(seconds_for(Bucket::InstancesStarted, 1000, 1).await, 0);
        assert_eq!(seconds_for(Bucket::InstancesStarted, 600, 2).await, 100);
    }

    #[tokio::test(start_paused = true)]
    async fn more_than_the_bucket_holds_is_taken_in_portions() {
        assert_eq!(seconds_for(Bucket::Tag, 250, 1).await, 15);
        assert_eq!(seconds_for(Bucket::Tag, 0, 1).await, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn one_bucket_does_not_wait_for_another() {
        let buckets = Buckets::new(BucketSizes::default());
        buckets.take(Bucket::Terminate, 100).await;
        let start = Instant::now();
        buckets.take(Bucket::Describe, 100).await;
        assert_eq!(start.elapsed(), Duration::ZERO);
    }
}
