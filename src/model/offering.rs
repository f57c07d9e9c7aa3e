//! What can be bought: an instance type in a zone under a capacity type, at a price.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use jiff::Timestamp;

use super::money::UsdPerHour;
use super::node_class::Accelerator;
use super::resources::Resources;
use crate::api::labels;

/// How capacity is bought. Orders by what is tried first: reserved, then spot, then on-demand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CapacityType {
    /// Paid for already through a reservation.
    Reserved,
    /// Spare capacity that EC2 may take back with two minutes' notice.
    Spot,
    /// List price, kept until terminated.
    OnDemand,
}

impl CapacityType {
    /// The value of the label `karpenter.sh/capacity-type`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Reserved => "reserved",
            Self::Spot => "spot",
            Self::OnDemand => "on-demand",
        }
    }

    /// Reads the label's value.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Reserved, Self::Spot, Self::OnDemand]
            .into_iter()
            .find(|capacity_type| capacity_type.as_str() == text)
    }
}

impl fmt::Display for CapacityType {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.as_str())
    }
}

/// Names an offering: `c5.2xlarge/us-east-1a/spot` in text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OfferingKey {
    /// For example `c5.2xlarge`.
    pub instance_type: Arc<str>,
    /// For example `us-east-1a`.
    pub zone: Arc<str>,
    /// How it is bought.
    pub capacity_type: CapacityType,
}

/// How many offerings a NodeClaim carries at most; more alternatives than that never mattered to a launch.
pub const MOST_OFFERINGS: usize = 60;

/// A text that names no offering.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is not an offering: write TYPE/ZONE/CAPACITY-TYPE, as in c5.xlarge/us-east-1a/spot"
)]
pub struct OfferingKeyError {
    /// The text as it was given.
    pub text: String,
}

impl OfferingKey {
    /// A key from its parts.
    pub fn new(instance_type: &str, zone: &str, capacity_type: CapacityType) -> Self {
        Self {
            instance_type: instance_type.into(),
            zone: zone.into(),
            capacity_type,
        }
    }

    /// The region of the zone: `us-east-1` of `us-east-1a`, `us-west-2` of `us-west-2-lax-1a`.
    pub fn region(&self) -> &str {
        let is_digit = |character: char| character.is_ascii_digit();
        let Some(start) = self.zone.find(is_digit) else {
            return "";
        };
        let number = self.zone.get(start..).unwrap_or("");
        let length = number.find(|character| !is_digit(character));
        let end = start + length.unwrap_or(number.len());
        self.zone.get(..end).unwrap_or("")
    }
}

impl fmt::Display for OfferingKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{}/{}/{}",
            self.instance_type, self.zone, self.capacity_type
        )
    }
}

impl FromStr for OfferingKey {
    type Err = OfferingKeyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = text.split('/');
        match (
            parts.next(),
            parts.next(),
            parts.next().and_then(CapacityType::parse),
            parts.next(),
        ) {
            (Some(instance_type), Some(zone), Some(capacity_type), None)
                if !instance_type.is_empty() && !zone.is_empty() =>
            {
                Ok(Self::new(instance_type, zone, capacity_type))
            }
            _ => Err(OfferingKeyError {
                text: text.to_owned(),
            }),
        }
    }
}

/// An instance type as a node class sees it: what a node of it offers and which labels it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceType {
    /// For example `c5.2xlarge`.
    pub name: Arc<str>,
    /// Labels that every node of the type carries (type, arch, os, `karpenter.k8s.aws/instance-*`);
    /// not the zone and not the capacity type.
    pub labels: BTreeMap<String, String>,
    /// What the machine has; `pods` and `ephemeral-storage` follow from the node class.
    pub capacity: Resources,
    /// What the kubelet keeps back: kube-reserved, system-reserved and the eviction threshold.
    pub overhead: Resources,
    /// How many EBS volumes may be attached beside the root volume.
    pub volume_limit: u32,
}

impl InstanceType {
    /// What an image needs drivers for. A type with a fraction of a GPU has the label and no whole one.
    pub fn accelerator(&self) -> Accelerator {
        let labelled = self.labels.get(labels::INSTANCE_GPU_MANUFACTURER);
        let has = |resource: &str| self.capacity.get(resource) > 0;
        if has("nvidia.com/gpu") || labelled.is_some_and(|manufacturer| manufacturer == "nvidia") {
            Accelerator::Nvidia
        } else if has("aws.amazon.com/neuron") {
            Accelerator::Neuron
        } else if labelled.is_some() || has("amd.com/gpu") || has("habana.ai/gaudi") {
            Accelerator::Other
        } else {
            Accelerator::None
        }
    }

    /// True when a machine of the type can have so many bytes of memory: no more than EC2 says, and no
    /// less than half of it. Firmware and kernel take far less than that of every type there is; what
    /// says otherwise is another machine, or no machine.
    pub fn may_have_memory(&self, bytes: i64) -> bool {
        let sold = self.labels.get(labels::INSTANCE_MEMORY);
        let mebibytes = sold.and_then(|mebibytes| mebibytes.parse::<i64>().ok());
        let sold = mebibytes.and_then(|mebibytes| mebibytes.checked_mul(1 << 20));
        sold.is_some_and(|sold| bytes > 0 && bytes <= sold && bytes >= sold / 2)
    }

    /// Capacity less overhead, before DaemonSets; never negative.
    pub fn allocatable(&self) -> Resources {
        self.capacity
            .iter()
            .map(|(name, amount)| (name, amount.saturating_sub(self.overhead.get(name)).max(0)))
            .collect()
    }
}

/// How many machines of a type in a row must not have joined before others are doubted: one alone may be broken.
pub const NO_SHOWS_IN_A_ROW: u32 = 2;

/// What experience says about an offering beside its price; by default, nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Outlook {
    /// How likely it is short of capacity now, in millionths.
    pub shortage: u32,
    /// How often EC2 refused it in a row.
    pub refusals: u32,
    /// Until when it is left alone, because of that or of machines that do not join.
    pub closed_until: Option<Timestamp>,
    /// It is left alone for a quota of the account, which this or what shares it met.
    pub over_quota: bool,
    /// How many machines of its type in a row did not join, if they are enough to doubt that others will.
    pub no_shows: u32,
    /// How often EC2 takes a machine of it back, per machine and hour, in millionths.
    pub interruptions: u32,
}

/// An instance type in one zone under one capacity type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offering {
    /// Its name.
    pub key: OfferingKey,
    /// The price of the instance alone.
    pub price: UsdPerHour,
    /// What else a node of this offering costs per hour: root volume, public address, agent fees.
    pub fees: UsdPerHour,
    /// False while it cannot be bought: not offered, or believed to be short of capacity.
    pub available: bool,
    /// What experience says about it.
    pub outlook: Outlook,
}

impl Offering {
    /// What a node of this offering costs in all.
    pub fn total_price(&self) -> UsdPerHour {
        self.price + self.fees
    }
}

/// Everything that can be bought through one node class.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Catalogue {
    /// Instance types by name.
    pub types: BTreeMap<Arc<str>, Arc<InstanceType>>,
    /// Offerings in key order; each names a type of `types`.
    pub offerings: Vec<Offering>,
    /// The region the prices are of, for example `us-east-1`.
    pub price_region: String,
    /// On-demand prices are those of another region: how spot compares with on-demand here nobody knows.
    pub has_foreign_prices: bool,
    /// When the on-demand prices were true.
    pub on_demand_priced_at: Option<Timestamp>,
    /// When the spot prices were read; `None` while spot counts at the on-demand price.
    pub spot_priced_at: Option<Timestamp>,
}
