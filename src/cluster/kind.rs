//! The kinds of objects that the mirror follows.

use std::fmt;

/// A kind of object that the mirror follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Pods.
    Pod,
    /// Nodes.
    Node,
    /// NodeClaims, ours and others'.
    NodeClaim,
    /// NodePools, ours and others'.
    NodePool,
    /// EC2NodeClasses.
    NodeClass,
    /// DaemonSets.
    DaemonSet,
    /// PodDisruptionBudgets.
    DisruptionBudget,
    /// PersistentVolumeClaims.
    VolumeClaim,
    /// PersistentVolumes.
    Volume,
    /// StorageClasses.
    StorageClass,
    /// CSINodes: what storage drivers can attach to a node.
    StorageNode,
    /// LimitRanges: what containers get that say nothing themselves.
    LimitRange,
    /// Namespaces.
    Namespace,
}

impl Kind {
    /// Every kind, in the order in which the mirror starts them.
    pub const ALL: [Self; 13] = [
        Self::Namespace,
        Self::NodeClass,
        Self::NodePool,
        Self::NodeClaim,
        Self::Node,
        Self::LimitRange,
        Self::DaemonSet,
        Self::DisruptionBudget,
        Self::StorageClass,
        Self::Volume,
        Self::VolumeClaim,
        Self::StorageNode,
        Self::Pod,
    ];

    /// The resource with its API group, as RBAC rules and `kubectl` name it.
    pub const fn resource(self) -> &'static str {
        match self {
            Self::Pod => "pods",
            Self::Node => "nodes",
            Self::NodeClaim => "nodeclaims.karpenter.sh",
            Self::NodePool => "nodepools.karpenter.sh",
            Self::NodeClass => "ec2nodeclasses.tonnage.dev",
            Self::DaemonSet => "daemonsets.apps",
            Self::DisruptionBudget => "poddisruptionbudgets.policy",
            Self::VolumeClaim => "persistentvolumeclaims",
            Self::Volume => "persistentvolumes",
            Self::StorageClass => "storageclasses.storage.k8s.io",
            Self::StorageNode => "csinodes.storage.k8s.io",
            Self::LimitRange => "limitranges",
            Self::Namespace => "namespaces",
        }
    }

    /// True for the kinds that a CustomResourceDefinition must bring into the cluster first.
    pub const fn is_custom(self) -> bool {
        matches!(self, Self::NodeClaim | Self::NodePool | Self::NodeClass)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.resource())
    }
}
