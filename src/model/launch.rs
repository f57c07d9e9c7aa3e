//! A launch: the one kind of request that spends money, so it is written down before it is made.
//!
//! A batch is a set of claims that want the same. Its record is stored on each of its claims
//! (annotation `tonnage.dev/launch`, JSON) before EC2 is called; the client token is a hash of
//! batch and attempt; the call is rebuilt from the record alone. So a repeated call is the same
//! call, whatever happened in between, and EC2 answers it with the same instances. Walking on to
//! other offerings is a new attempt under a new token, never a changed request under an old one.

use serde::{Deserialize, Serialize};

use super::offering::{CapacityType, OfferingKey};

/// What was decided for a batch of claims, complete enough to repeat the call.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LaunchRecord {
    /// Hash of the sorted claim uids of the batch.
    pub batch: String,
    /// 1 for the first call of the batch; each new choice of offerings counts one up.
    pub attempt: u32,
    /// How many instances the call asks for: the number of claims in the batch.
    pub size: u32,
    /// The capacity type the call asks for: one for all overrides.
    #[serde(with = "capacity_type_text")]
    pub capacity_type: CapacityType,
    /// The capacity reservation that the machines are for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reservation: Option<String>,
    /// The launch templates and, in order of preference, what may be bought through each.
    pub templates: Vec<TemplateOverrides>,
}

impl LaunchRecord {
    /// Everything that it allows EC2 to give.
    pub fn offerings(&self) -> impl Iterator<Item = OfferingKey> {
        let overrides = self
            .templates
            .iter()
            .flat_map(|template| &template.overrides);
        overrides
            .map(|choice| OfferingKey::new(&choice.instance_type, &choice.zone, self.capacity_type))
    }
}

/// A launch template with the overrides that use it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TemplateOverrides {
    /// Name of the launch template; its content never changes under one name.
    pub name: String,
    /// What may be bought through it.
    pub overrides: Vec<LaunchOverride>,
}

/// One choice that EC2 may make.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LaunchOverride {
    /// For example `c5.2xlarge`.
    pub instance_type: String,
    /// For example `us-east-1a`.
    pub zone: String,
    /// Subnet in that zone.
    pub subnet: String,
    /// Rank in price order, lowest first, for the `prioritized` strategy.
    pub priority: u32,
}

/// What EC2 answered to a launch.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LaunchOutcome {
    /// The instances that exist now because of the call, in id order.
    pub instances: Vec<LaunchedInstance>,
    /// What could not be bought, and why.
    pub shortfalls: Vec<Shortfall>,
}

/// An instance in the answer to a launch.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct LaunchedInstance {
    /// For example `i-0123456789abcdef0`.
    pub id: String,
    /// What was bought.
    pub offering: OfferingKey,
    /// The image it was started from, if the answer says.
    pub image_id: String,
    /// The subnet, if the answer says.
    pub subnet_id: String,
}

/// An offering that a launch could not buy.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Shortfall {
    /// The offering, when EC2 names it.
    pub offering: Option<OfferingKey>,
    /// What kind of error it is.
    pub class: ErrorClass,
    /// EC2's code, for people.
    pub code: String,
    /// EC2's message, for people.
    pub message: String,
}

/// EC2's code for a subnet without a free address.
pub const NO_FREE_ADDRESS: &str = "InsufficientFreeAddressesInSubnet";

/// True for EC2's codes of quotas that count machines or their vCPUs.
pub fn is_quota_of_machines(code: &str) -> bool {
    [
        "InstanceLimitExceeded",
        "MaxSpotInstanceCountExceeded",
        "VcpuLimitExceeded",
    ]
    .contains(&code)
}

/// True for EC2's codes of quotas that count launches: their machines, or the fleets that make them. Whoever asks meets
/// those. Any other is the account's too, but counts what classes give their machines, such as volumes and interfaces: a
/// class that gives them less, or none of the kind, may have room in it.
pub fn is_quota_of_launches(code: &str) -> bool {
    let is_of_fleets =
        ["MaxFleetCountExceeded", "MaxSpotFleetRequestCountExceeded"].contains(&code);
    is_of_fleets || is_quota_of_machines(code)
}

impl Shortfall {
    /// True when it says something of the node class that asked, its images, permissions, subnets or volumes, and
    /// nothing of what EC2 has.
    pub fn is_of_the_class(&self) -> bool {
        match self.class {
            ErrorClass::NotFound | ErrorClass::Unauthorized | ErrorClass::Invalid => true,
            ErrorClass::InsufficientCapacity => self.code == NO_FREE_ADDRESS,
            ErrorClass::QuotaExceeded => !is_quota_of_launches(&self.code),
            ErrorClass::Throttled | ErrorClass::TokenMismatch | ErrorClass::Transient => false,
        }
    }
}

/// What an AWS error means for what to do next. One table in `cloud` maps codes to classes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ErrorClass {
    /// No capacity for this offering now: walk on to others.
    InsufficientCapacity,
    /// A quota of the account is used up: walk on, and tell people.
    QuotaExceeded,
    /// Too many calls: slow down and repeat.
    Throttled,
    /// The thing asked for is not there.
    NotFound,
    /// The caller may not do it: name the missing permission.
    Unauthorized,
    /// The request is wrong and will stay wrong until someone changes something.
    Invalid,
    /// The same client token was used for another request.
    TokenMismatch,
    /// A fault at the other end, or no answer: the call may or may not have taken effect; repeat it.
    Transient,
}

mod capacity_type_text {
    //! Capacity types in their label spelling.
    use super::CapacityType;
    use serde::{Deserialize, Deserializer, Serializer};

    #[expect(
        clippy::trivially_copy_pass_by_ref,
        reason = "the signature that serde asks for"
    )]
    pub(super) fn serialize<S: Serializer>(
        value: &CapacityType,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(value.as_str())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<CapacityType, D::Error> {
        let text = String::deserialize(deserializer)?;
        CapacityType::parse(&text)
            .ok_or_else(|| serde::de::Error::custom(format!("unknown capacity type `{text}`")))
    }
}
