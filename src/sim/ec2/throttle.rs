//! EC2's own token buckets: a call that finds its bucket empty is refused.
//!
//! Given calls as they come; given back whether each is served. The sizes are those that the client
//! side keeps to, so a client that counts as it should is never refused.

use std::collections::BTreeMap;

use tokio::time::Instant;

use crate::cloud::buckets::{Bucket, BucketSize, BucketSizes};

/// The buckets of an account and region.
#[derive(Debug)]
pub(super) struct Throttle {
    sizes: BucketSizes,
    /// Thousandths of a token, and when they were counted.
    levels: BTreeMap<Bucket, (u64, Instant)>,
}

impl Throttle {
    pub(super) fn new(sizes: BucketSizes) -> Self {
        Self {
            sizes,
            levels: BTreeMap::new(),
        }
    }

    const fn size(&self, bucket: Bucket) -> BucketSize {
        let sizes = &self.sizes;
        match bucket {
            Bucket::Mutate => sizes.mutate,
            Bucket::RunInstances => sizes.run_instances,
            Bucket::InstancesStarted => sizes.instances_started,
            Bucket::Terminate => sizes.terminate,
            Bucket::InstancesEnded => sizes.instances_ended,
            Bucket::Tag => sizes.tag,
            Bucket::Describe => sizes.describe,
            Bucket::Other => sizes.other,
        }
    }

    /// Takes tokens; false when there are not as many.
    pub(super) fn take(&mut self, bucket: Bucket, count: u32, now: Instant) -> bool {
        let size = self.size(bucket);
        let full = u64::from(size.burst.get()) * 1_000;
        let (level, counted) = self.levels.get(&bucket).copied().unwrap_or((full, now));
        let passed = u64::try_from((now - counted).as_millis()).unwrap_or(u64::MAX);
        let refilled = passed.saturating_mul(u64::from(size.per_second.get()));
        let level = level.saturating_add(refilled).min(full);
        let wanted = u64::from(count) * 1_000;
        let left = level.checked_sub(wanted);
        self.levels.insert(bucket, (left.unwrap_or(level), now));
        left.is_some()
    }

    /// Puts back tokens of what did not come about after all.
    pub(super) fn put_back(&mut self, bucket: Bucket, count: u32) {
        let full = u64::from(self.size(bucket).burst.get()) * 1_000;
        if let Some((level, _counted)) = self.levels.get_mut(&bucket) {
            *level = level.saturating_add(u64::from(count) * 1_000).min(full);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_is_served_and_then_only_the_refill() {
        let mut throttle = Throttle::new(BucketSizes::default());
        let now = Instant::now();
        let served = (0..60)
            .filter(|_call| throttle.take(Bucket::Mutate, 1, now))
            .count();
        assert_eq!(served, 50);
        let later = now + Duration::from_secs(1);
        let served = (0..60)
            .filter(|_call| throttle.take(Bucket::Mutate, 1, later))
            .count();
        assert_eq!(served, 5);
    }

    #[tokio::test(start_paused = true)]
    async fn what_did_not_start_is_put_back_and_no_more_than_the_bucket_holds() {
        let mut throttle = Throttle::new(BucketSizes::default());
        let now = Instant::now();
        assert!(throttle.take(Bucket::InstancesStarted, 700, now));
        assert!(!throttle.take(Bucket::InstancesStarted, 700, now));
        throttle.put_back(Bucket::InstancesStarted, 400);
        assert!(throttle.take(Bucket::InstancesStarted, 700, now));
        throttle.put_back(Bucket::InstancesStarted, 2_000);
        assert!(!throttle.take(Bucket::InstancesStarted, 1_001, now));
    }
}
