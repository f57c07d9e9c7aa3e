//! Limits that somebody sets: how many machines of a kind there are, how many vCPUs the account may have, and how many calls
//! are served.

use jiff::Timestamp;

use super::placing::Bound;
use super::throttle::Throttle;
use super::{Ec2, State};
use crate::cloud::buckets::BucketSizes;
use crate::model::offering::{CapacityType, OfferingKey};

/// Families that share the quota of standard instances, by the letters before the generation. Source: "EC2 On-Demand
/// instance quotas" in the EC2 user guide.
const STANDARD: [&str; 11] = ["a", "c", "d", "h", "i", "im", "is", "m", "r", "t", "z"];

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

    /// Sets the account's quota of vCPUs of standard instances that are bought in this way; `None` lifts it.
    pub fn set_vcpu_quota(&self, capacity_type: CapacityType, vcpus: Option<u32>) {
        let mut state = self.locked();
        match vcpus {
            Some(vcpus) => state.quotas.insert(capacity_type, vcpus),
            None => state.quotas.remove(&capacity_type),
        };
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

    /// What the account's quota leaves of an offering.
    pub(super) fn bound_of_quota(&self, offering: &OfferingKey, now: Timestamp) -> Option<Bound> {
        let counts = |key: &OfferingKey| {
            key.capacity_type == offering.capacity_type && is_standard(&key.instance_type)
        };
        let quota = self.quotas.get(&offering.capacity_type)?;
        let types = &self.markets.sold().types;
        let vcpus = |key: &OfferingKey| types.get(&key.instance_type).map_or(0, |it| it.vcpus);
        let each = Some(vcpus(offering)).filter(|vcpus| *vcpus > 0 && counts(offering))?;
        let alive = self.machines.values().filter(|it| it.is_alive(now));
        let keys = alive.map(|machine| &machine.instance.offering);
        let used: u32 = keys.filter(|key| counts(key)).map(vcpus).sum();
        let (code, message) = match offering.capacity_type {
            CapacityType::Spot => (
                "MaxSpotInstanceCountExceeded",
                "Max spot instance count exceeded".to_owned(),
            ),
            _ => (
                "VcpuLimitExceeded",
                format!(
                    "You have requested more vCPU capacity than your current vCPU limit of {quota} allows for the \
                     instance bucket that the specified instance type belongs to."
                ),
            ),
        };
        Some(Bound {
            room: usize::try_from(quota.saturating_sub(used) / each).unwrap_or(0),
            code,
            message,
        })
    }
}

/// True for types that count against the quota of standard instances; what else begins with one of their letters has a
/// quota of its own.
fn is_standard(instance_type: &str) -> bool {
    let mut parts = instance_type.split(|letter: char| !letter.is_ascii_lowercase());
    let family = parts.next().unwrap_or_default();
    STANDARD.contains(&family)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_letters_before_the_generation_say_which_quota_counts() {
        for name in ["c5.xlarge", "im4gn.large", "is4gen.large", "z1d.large"] {
            assert!(is_standard(name), "{name}");
        }
        for name in [
            "inf1.xlarge",
            "trn1.2xlarge",
            "dl1.24xlarge",
            "hpc7a.96xlarge",
            "mac1.metal",
        ] {
            assert!(!is_standard(name), "{name}");
        }
    }
}
