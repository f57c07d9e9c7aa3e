//! Limits that somebody sets: how many machines of a kind there are, and how many calls are served.

use super::throttle::Throttle;
use super::{Ec2, State};
use crate::cloud::buckets::BucketSizes;
use crate::model::offering::{CapacityType, OfferingKey};

/// How many machines there are of each offering that it speaks of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limit {
    /// Of this type; `None` is any.
    pub instance_type: Option<String>,
    /// In this zone; `None` is any.
    pub zone: Option<String>,
    /// Bought so; `None` is either way.
    pub capacity_type: Option<CapacityType>,
    /// So many at a time.
    pub most: usize,
}

impl Limit {
    fn is_of(&self, offering: &OfferingKey) -> bool {
        let same = |wanted: &Option<String>, found: &str| {
            wanted.as_ref().is_none_or(|wanted| wanted == found)
        };
        same(&self.instance_type, &offering.instance_type)
            && same(&self.zone, &offering.zone)
            && self
                .capacity_type
                .is_none_or(|wanted| wanted == offering.capacity_type)
    }
}

impl Ec2 {
    /// Limits what can be bought, beside what the market has; none lifts all limits.
    pub fn limit(&self, limits: Vec<Limit>) {
        self.locked().limits = limits;
    }

    /// Replaces EC2's own token buckets, full ones.
    pub fn limit_calls(&self, sizes: BucketSizes) {
        self.locked().throttle = Throttle::new(sizes);
    }
}

impl State {
    /// The tightest limit on an offering.
    pub(super) fn limit_of(&self, offering: &OfferingKey) -> Option<usize> {
        let speaking = self.limits.iter().filter(|limit| limit.is_of(offering));
        speaking.map(|limit| limit.most).min()
    }
}
