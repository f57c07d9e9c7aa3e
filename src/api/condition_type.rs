//! The types of the conditions that Tonnage sets.

use std::fmt;

/// What a condition is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConditionType {
    /// The object is usable: the sum of the conditions that its kind depends on.
    Ready,

    /// NodeClaim: a machine was bought.
    Launched,
    /// NodeClaim: the machine joined the cluster as a Node and the Node belongs to this claim.
    Registered,
    /// NodeClaim: pods can use all of the node.
    Initialized,
    /// NodeClaim: the node has been quiet for `consolidateAfter`.
    Consolidatable,
    /// NodeClaim: the node no longer matches its NodePool or node class.
    Drifted,
    /// NodeClaim: no pod that must be evicted is left on the node.
    Drained,
    /// NodeClaim: no volume is attached any more.
    VolumesDetached,
    /// NodeClaim: EC2 has been asked to terminate the machine.
    InstanceTerminating,
    /// NodeClaim: claim, node and machine agree with each other.
    ConsistentStateFound,
    /// NodeClaim: the node was chosen to be removed or replaced.
    DisruptionReason,
    /// NodeClaim: the node is being rebooted.
    Rebooting,

    /// NodePool, EC2NodeClass: the spec makes sense.
    ValidationSucceeded,
    /// NodePool: the node class exists and is ready.
    NodeClassReady,
    /// NodePool: nodes of this pool manage to join the cluster.
    NodeRegistrationHealthy,
    /// NodePool: too many instances have no NodeClaim, so none is collected until somebody says so.
    CollectionHalted,
    /// NodePool, EC2NodeClass: every field that is set does something in this version.
    FieldsActedOn,

    /// EC2NodeClass: the AMI terms select at least one image.
    AmisReady,
    /// EC2NodeClass: the subnet terms select at least one subnet.
    SubnetsReady,
    /// EC2NodeClass: the security group terms select at least one group.
    SecurityGroupsReady,
    /// EC2NodeClass: the instance profile exists.
    InstanceProfileReady,
    /// EC2NodeClass: the placement group exists, or none is asked for.
    PlacementGroupReady,
    /// EC2NodeClass: the capacity reservations were looked up.
    CapacityReservationsReady,
}

impl ConditionType {
    /// The type as it is written in a status.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "Ready",
            Self::Launched => "Launched",
            Self::Registered => "Registered",
            Self::Initialized => "Initialized",
            Self::Consolidatable => "Consolidatable",
            Self::Drifted => "Drifted",
            Self::Drained => "Drained",
            Self::VolumesDetached => "VolumesDetached",
            Self::InstanceTerminating => "InstanceTerminating",
            Self::ConsistentStateFound => "ConsistentStateFound",
            Self::DisruptionReason => "DisruptionReason",
            Self::Rebooting => "Rebooting",
            Self::ValidationSucceeded => "ValidationSucceeded",
            Self::NodeClassReady => "NodeClassReady",
            Self::NodeRegistrationHealthy => "NodeRegistrationHealthy",
            Self::CollectionHalted => "CollectionHalted",
            Self::FieldsActedOn => "FieldsActedOn",
            Self::AmisReady => "AMIsReady",
            Self::SubnetsReady => "SubnetsReady",
            Self::SecurityGroupsReady => "SecurityGroupsReady",
            Self::InstanceProfileReady => "InstanceProfileReady",
            Self::PlacementGroupReady => "PlacementGroupReady",
            Self::CapacityReservationsReady => "CapacityReservationsReady",
        }
    }
}

impl fmt::Display for ConditionType {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}
