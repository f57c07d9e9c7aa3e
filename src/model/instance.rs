//! An EC2 instance as decisions see it, and the provider ids that tie it to a Node.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::offering::OfferingKey;

/// Where an instance is in its life, in EC2's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum InstanceState {
    /// Starting.
    Pending,
    /// Billed.
    Running,
    /// On its way out.
    ShuttingDown,
    /// Gone.
    Terminated,
    /// Stopping.
    Stopping,
    /// Stopped; its volumes are billed.
    Stopped,
}

impl InstanceState {
    /// True when nothing more needs to be done to end it.
    pub const fn is_ending(self) -> bool {
        matches!(self, Self::ShuttingDown | Self::Terminated)
    }

    /// True when nothing runs on it, nor will: who stops a machine of ours has ended its work.
    pub const fn is_off(self) -> bool {
        self.is_ending() || matches!(self, Self::Stopping | Self::Stopped)
    }
}

/// An EC2 instance of this cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// For example `i-0123456789abcdef0`.
    pub id: String,
    /// Type, zone and capacity type.
    pub offering: OfferingKey,
    /// Where it is in its life.
    pub state: InstanceState,
    /// When EC2 launched it.
    pub launched: Timestamp,
    /// The image it was started from.
    pub image_id: String,
    /// Its partition, from 1, in a placement group of partitions.
    pub partition: Option<u32>,
    /// The subnet of its primary interface.
    pub subnet_id: String,
    /// Private DNS name, as the Node will be called.
    pub private_dns_name: String,
    /// Tags.
    pub tags: BTreeMap<String, String>,
    /// Why it ends or has ended, if EC2 says so.
    pub ending: Option<Ending>,
}

/// Why an instance is in the state that it is in, in EC2's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    /// For example `Client.InternalError`.
    pub code: String,
    /// For people.
    pub message: String,
}

/// What the end of an instance before it joined says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lesson {
    /// Nothing: somebody wanted it.
    Nothing,
    /// EC2 had no capacity, or a fault.
    Region,
    /// Machines that are made so do not start.
    Class,
}

impl Ending {
    /// What it says of what was asked for. Source: "StateReason" in the EC2 API reference.
    pub fn lesson(&self) -> Lesson {
        match self.code.as_str() {
            "Server.InsufficientInstanceCapacity"
            | "Server.InternalError"
            | "Server.SpotInstanceShutdown"
            | "Server.SpotInstanceTermination" => Lesson::Region,
            "Client.InternalError"
            | "Client.InstanceInitiatedShutdown"
            | "Client.InvalidSnapshot.NotFound"
            | "Client.VolumeLimitExceeded" => Lesson::Class,
            _ => Lesson::Nothing,
        }
    }
}

impl Instance {
    /// The provider id of its Node: `aws:///ZONE/ID`.
    pub fn provider_id(&self) -> String {
        format!("aws:///{}/{}", self.offering.zone, self.id)
    }

    /// The host name that EC2 gives it, without a domain; `None` where EC2 tells none.
    pub fn host(&self) -> Option<&str> {
        let host = self.private_dns_name.split('.').next();
        host.filter(|host| !host.is_empty())
    }

    /// True when it carries the tag of a cluster that is not `cluster`; one without any may have lost it.
    pub fn is_of_another_cluster(&self, cluster: &str) -> bool {
        let named = self.tags.get(tags::CLUSTER);
        named.is_some_and(|named| named != cluster)
    }

    /// The name that the console shows, unless it is the one that every instance of its NodePool is launched with.
    pub fn own_name(&self) -> Option<&String> {
        let name = self.tags.get(tags::NAME)?;
        (Some(name) != self.tags.get(tags::NODE_POOL)).then_some(name)
    }

    /// The tags with the names of its claim and Node that it lacks. A name that its node class gave it stays.
    pub fn missing_names(&self, claim: &str, node: &str) -> BTreeMap<String, String> {
        let is_claimed = self.tags.contains_key(tags::CLAIM);
        let is_named = self.own_name().is_some();
        [
            (tags::CLAIM, claim, is_claimed),
            (tags::NAME, node, is_named),
        ]
        .into_iter()
        .filter(|(_key, _value, is_there)| !is_there)
        .map(|(key, value, _is_there)| (key.to_owned(), value.to_owned()))
        .collect()
    }
}

/// The instance id at the end of a provider id such as `aws:///us-east-1a/i-0123`.
pub fn instance_id_of(provider_id: &str) -> Option<&str> {
    let (zone, id) = provider_id.strip_prefix("aws:///")?.split_once('/')?;
    (!zone.is_empty() && id.starts_with("i-") && !id.contains('/')).then_some(id)
}

/// EC2 tag keys of ours; beside them only the cluster's ownership tag is written, and the name that the console
/// shows where the node class gives none (docs/decisions/0008-the-tag-name.md).
pub mod tags {
    /// The cluster an instance belongs to.
    pub const CLUSTER: &str = "tonnage.dev/cluster";
    /// The NodePool it was bought for.
    pub const NODE_POOL: &str = "tonnage.dev/nodepool";
    /// The EC2NodeClass it was launched through.
    pub const NODE_CLASS: &str = "tonnage.dev/ec2nodeclass";
    /// The launch batch it came from.
    pub const BATCH: &str = "tonnage.dev/launch-batch";
    /// The NodeClaim it serves; only where instances are told their names.
    pub const CLAIM: &str = "tonnage.dev/nodeclaim";
    /// The name that the console shows: the NodePool's, or the Node's where instances are told their names.
    pub const NAME: &str = "Name";
    /// Prefix of the ownership tag: `kubernetes.io/cluster/NAME` = `owned`.
    pub const OWNED_PREFIX: &str = "kubernetes.io/cluster/";
}
