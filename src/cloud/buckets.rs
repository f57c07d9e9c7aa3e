//! Client-side token buckets: no call is made that EC2 would throttle.
//!
//! Given: what a call takes and from which buckets. Given back: the caller goes on when the tokens
//! are there, in virtual time too. Sizes are those of EC2's request and resource buckets per account
//! and region; they are settings, because other tools of the account draw on the same buckets. Where
//! those leave less than the settings say, EC2 throttles, and [`Buckets::throttled`] slows down.
//! Nothing here retries or fails: waiting is all it does.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::{Mutex, MutexGuard, PoisonError};
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
    /// One token for each instance that a launch may start. Who decides on launches counts them: nobody waits for
    /// these while a call is under way.
    InstancesStarted,
    /// TerminateInstances: one token a call.
    Terminate,
    /// One token for each instance that a call ends.
    InstancesEnded,
    /// CreateTags: one token a call.
    Tag,
    /// Describe calls with filters, ids or pages: one token a call.
    Describe,
    /// Everything else, which is what IAM, SSM, EKS and Pricing are asked: one token a call.
    Other,
}

impl Bucket {
    /// The bucket of requests that an operation draws on; `None` for those that draw on none.
    pub fn of(operation: &str) -> Option<Self> {
        match operation {
            "CreateFleet" | "CreateLaunchTemplate" | "DeleteLaunchTemplate" => Some(Self::Mutate),
            "RunInstances" => Some(Self::RunInstances),
            "TerminateInstances" => Some(Self::Terminate),
            "CreateTags" => Some(Self::Tag),
            // EKS has limits of its own.
            "DescribeCluster" => Some(Self::Other),
            other if other.starts_with("Describe") => Some(Self::Describe),
            "GetProducts" | "GetParameters" => Some(Self::Other),
            other if other.contains("InstanceProfile") => Some(Self::Other),
            _ => None,
        }
    }
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
    terminate: Limiter,
    instances_ended: Limiter,
    tag: Limiter,
    describe: Limiter,
    other: Limiter,
    slowed: Mutex<BTreeMap<Bucket, Slowed>>,
}

/// How much more a call takes from its bucket, for having been throttled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Slowed {
    /// Tokens that count as one.
    price: u32,
    /// When it was last throttled, or last became cheaper.
    since: Duration,
}

/// The most tokens that count as one: an eighth of the configured rate is left, which is less than
/// any sharing of an account that still works.
const MOST_SLOWED: u32 = 8;
/// How long without throttling until a call becomes cheaper by one token.
const RECOVERS_IN: Duration = Duration::from_secs(10);

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
            terminate: limiter(sizes.terminate),
            instances_ended: limiter(sizes.instances_ended),
            tag: limiter(sizes.tag),
            describe: limiter(sizes.describe),
            other: limiter(sizes.other),
            slowed: Mutex::default(),
            sizes,
            clock,
        }
    }

    /// EC2 throttled a call: others draw on the same bucket. Calls take twice as much from it, and less
    /// again the longer none is throttled.
    pub fn throttled(&self, bucket: Bucket) {
        let price = self.price(bucket).saturating_mul(2).min(MOST_SLOWED);
        let since = self.clock.now();
        self.slowed().insert(bucket, Slowed { price, since });
    }

    fn slowed(&self) -> MutexGuard<'_, BTreeMap<Bucket, Slowed>> {
        self.slowed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many tokens count as one now.
    fn price(&self, bucket: Bucket) -> u32 {
        let mut slowed = self.slowed();
        let Some(known) = slowed.get_mut(&bucket) else {
            return 1;
        };
        let passed = self.clock.now().saturating_sub(known.since);
        let steps = passed.as_secs() / RECOVERS_IN.as_secs();
        if steps > 0 {
            let steps = u32::try_from(steps).unwrap_or(u32::MAX);
            known.price = known.price.saturating_sub(steps);
            known.since += RECOVERS_IN.saturating_mul(steps);
        }
        let price = known.price.max(1);
        if price == 1 {
            slowed.remove(&bucket);
        }
        price
    }

    /// Waits until the bucket has `count` tokens and takes them. More than a bucket holds is taken
    /// in portions.
    pub async fn take(&self, bucket: Bucket, count: u32) {
        let Some((limiter, size)) = self.of(bucket) else {
            return;
        };
        let mut left = count.saturating_mul(self.price(bucket));
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

    /// A bucket with its size; `None` for the one that is counted elsewhere.
    const fn of(&self, bucket: Bucket) -> Option<(&Limiter, BucketSize)> {
        Some(match bucket {
            Bucket::Mutate => (&self.mutate, self.sizes.mutate),
            Bucket::RunInstances => (&self.run_instances, self.sizes.run_instances),
            Bucket::InstancesStarted => return None,
            Bucket::Terminate => (&self.terminate, self.sizes.terminate),
            Bucket::InstancesEnded => (&self.instances_ended, self.sizes.instances_ended),
            Bucket::Tag => (&self.tag, self.sizes.tag),
            Bucket::Describe => (&self.describe, self.sizes.describe),
            Bucket::Other => (&self.other, self.sizes.other),
        })
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
        assert_eq!(seconds_for(Bucket::InstancesEnded, 1000, 1).await, 0);
        assert_eq!(seconds_for(Bucket::InstancesEnded, 600, 2).await, 10);
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_instances_that_were_counted_when_their_launch_was_chosen() {
        assert_eq!(seconds_for(Bucket::InstancesStarted, 600, 9).await, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn more_than_the_bucket_holds_is_taken_in_portions() {
        assert_eq!(seconds_for(Bucket::Tag, 250, 1).await, 15);
        assert_eq!(seconds_for(Bucket::Tag, 0, 1).await, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn throttling_slows_one_bucket_down_and_quiet_makes_it_fast_again() {
        let buckets = Buckets::new(BucketSizes::default());
        buckets.take(Bucket::Mutate, 50).await;
        let second_for_five = async || {
            let start = Instant::now();
            buckets.take(Bucket::Mutate, 5).await;
            start.elapsed().as_secs()
        };
        assert_eq!(second_for_five().await, 1);
        buckets.throttled(Bucket::Mutate);
        assert_eq!(second_for_five().await, 2);
        for _call in 0..9 {
            buckets.throttled(Bucket::Mutate);
        }
        assert_eq!(second_for_five().await, 8, "not slower than an eighth");
        let start = Instant::now();
        buckets.take(Bucket::Describe, 100).await;
        assert_eq!(
            start.elapsed(),
            Duration::ZERO,
            "others are as fast as before"
        );
        tokio::time::sleep(Duration::from_mins(2)).await;
        buckets.take(Bucket::Mutate, 50).await;
        assert_eq!(second_for_five().await, 1);
        assert!(buckets.slowed().is_empty());
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
