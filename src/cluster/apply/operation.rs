//! Every call that Tonnage makes to the API server beside its watches, as a closed set.
//!
//! Metrics are labelled with it, and an error that names a missing permission takes verb and
//! resource from it, so the RBAC rules can be checked against this list.

use std::fmt;

use crate::cluster::rate::Lane;

/// A kind of call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operation {
    /// Reads one NodeClaim.
    GetClaim,
    /// Lists NodeClaims, all of them from one moment.
    ListClaims,
    /// Makes a NodeClaim.
    CreateClaim,
    /// Changes labels, annotations or finalizers of a NodeClaim.
    PatchClaim,
    /// Writes the record of a launch onto a NodeClaim.
    RecordLaunch,
    /// Changes the status of a NodeClaim.
    PatchClaimStatus,
    /// Deletes a NodeClaim.
    DeleteClaim,
    /// Reads one Node.
    GetNode,
    /// Changes labels, taints or finalizers of a Node.
    PatchNode,
    /// Deletes a Node.
    DeleteNode,
    /// Lists the pods of one Node as the API server has them.
    ListPods,
    /// Evicts a pod.
    EvictPod,
    /// Deletes a pod.
    DeletePod,
    /// Nominates a node for a pod.
    PatchPodStatus,
    /// Binds a pod to a node.
    BindPod,
    /// Changes the status of a NodePool.
    UpdateNodePoolStatus,
    /// Reads one EC2NodeClass.
    GetNodeClass,
    /// Changes annotations or finalizers of an EC2NodeClass.
    PatchNodeClass,
    /// Changes the status of an EC2NodeClass.
    UpdateNodeClassStatus,
    /// Writes an event.
    CreateEvent,
    /// Counts an event up.
    PatchEvent,
    /// Reads the leader's Lease.
    GetLease,
    /// Makes the leader's Lease.
    CreateLease,
    /// Takes, renews or releases the leader's Lease.
    UpdateLease,
    /// Reads the ConfigMap of what was learned.
    GetLearned,
    /// Makes that ConfigMap.
    CreateLearned,
    /// Writes that ConfigMap.
    UpdateLearned,
}

impl Operation {
    /// Every operation.
    pub const ALL: [Self; 27] = [
        Self::GetClaim,
        Self::ListClaims,
        Self::CreateClaim,
        Self::PatchClaim,
        Self::RecordLaunch,
        Self::PatchClaimStatus,
        Self::DeleteClaim,
        Self::GetNode,
        Self::PatchNode,
        Self::DeleteNode,
        Self::ListPods,
        Self::EvictPod,
        Self::DeletePod,
        Self::PatchPodStatus,
        Self::BindPod,
        Self::UpdateNodePoolStatus,
        Self::GetNodeClass,
        Self::PatchNodeClass,
        Self::UpdateNodeClassStatus,
        Self::CreateEvent,
        Self::PatchEvent,
        Self::GetLease,
        Self::CreateLease,
        Self::UpdateLease,
        Self::GetLearned,
        Self::CreateLearned,
        Self::UpdateLearned,
    ];

    /// The RBAC verb, API group and resource that it needs.
    pub const fn permission(self) -> (&'static str, &'static str, &'static str) {
        const KARPENTER: &str = "karpenter.sh";
        const TONNAGE: &str = "tonnage.dev";
        const COORDINATION: &str = "coordination.k8s.io";
        match self {
            Self::GetClaim => ("get", KARPENTER, "nodeclaims"),
            Self::ListClaims => ("list", KARPENTER, "nodeclaims"),
            Self::CreateClaim => ("create", KARPENTER, "nodeclaims"),
            Self::PatchClaim | Self::RecordLaunch => ("patch", KARPENTER, "nodeclaims"),
            Self::PatchClaimStatus => ("patch", KARPENTER, "nodeclaims/status"),
            Self::DeleteClaim => ("delete", KARPENTER, "nodeclaims"),
            Self::GetNode => ("get", "", "nodes"),
            Self::PatchNode => ("patch", "", "nodes"),
            Self::DeleteNode => ("delete", "", "nodes"),
            Self::ListPods => ("list", "", "pods"),
            Self::EvictPod => ("create", "", "pods/eviction"),
            Self::DeletePod => ("delete", "", "pods"),
            Self::PatchPodStatus => ("patch", "", "pods/status"),
            Self::BindPod => ("create", "", "pods/binding"),
            Self::UpdateNodePoolStatus => ("update", KARPENTER, "nodepools/status"),
            Self::GetNodeClass => ("get", TONNAGE, "ec2nodeclasses"),
            Self::PatchNodeClass => ("patch", TONNAGE, "ec2nodeclasses"),
            Self::UpdateNodeClassStatus => ("update", TONNAGE, "ec2nodeclasses/status"),
            Self::CreateEvent => ("create", "events.k8s.io", "events"),
            Self::PatchEvent => ("patch", "events.k8s.io", "events"),
            Self::GetLease => ("get", COORDINATION, "leases"),
            Self::CreateLease => ("create", COORDINATION, "leases"),
            Self::UpdateLease => ("update", COORDINATION, "leases"),
            Self::GetLearned => ("get", "", "configmaps"),
            Self::CreateLearned => ("create", "", "configmaps"),
            Self::UpdateLearned => ("update", "", "configmaps"),
        }
    }

    /// The value of the chart that gives the permission, where it is not given always.
    pub const fn chart_value(self) -> Option<&'static str> {
        match self {
            Self::DeletePod => Some("rbac.forceDeletePods"),
            Self::PatchPodStatus => Some("rbac.nominatePods"),
            Self::BindPod => Some("rbac.bindPods"),
            _ => None,
        }
    }

    /// True for writes that whoever leads next counts on: not for events, which only tell.
    pub const fn decides(self) -> bool {
        !self.is_read() && !matches!(self, Self::CreateEvent | Self::PatchEvent)
    }

    /// True when it changes nothing.
    pub const fn is_read(self) -> bool {
        matches!(
            self,
            Self::GetClaim
                | Self::ListClaims
                | Self::GetNode
                | Self::ListPods
                | Self::GetNodeClass
                | Self::GetLease
                | Self::GetLearned
        )
    }

    /// Where it waits for its token. EC2 is called once a claim is there and carries its launch.
    pub(in crate::cluster) const fn lane(self) -> Lane {
        match self {
            Self::CreateClaim | Self::RecordLaunch => Lane::Buying,
            _ => Lane::Usual,
        }
    }

    /// Its name in metrics and messages, for example `patch nodeclaims/status`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::GetClaim => "get nodeclaims",
            Self::ListClaims => "list nodeclaims",
            Self::CreateClaim => "create nodeclaims",
            Self::PatchClaim | Self::RecordLaunch => "patch nodeclaims",
            Self::PatchClaimStatus => "patch nodeclaims/status",
            Self::DeleteClaim => "delete nodeclaims",
            Self::GetNode => "get nodes",
            Self::PatchNode => "patch nodes",
            Self::DeleteNode => "delete nodes",
            Self::ListPods => "list pods",
            Self::EvictPod => "create pods/eviction",
            Self::DeletePod => "delete pods",
            Self::PatchPodStatus => "patch pods/status",
            Self::BindPod => "create pods/binding",
            Self::UpdateNodePoolStatus => "update nodepools/status",
            Self::GetNodeClass => "get ec2nodeclasses",
            Self::PatchNodeClass => "patch ec2nodeclasses",
            Self::UpdateNodeClassStatus => "update ec2nodeclasses/status",
            Self::CreateEvent => "create events",
            Self::PatchEvent => "patch events",
            Self::GetLease => "get leases",
            Self::CreateLease => "create leases",
            Self::UpdateLease => "update leases",
            Self::GetLearned => "get configmaps",
            Self::CreateLearned => "create configmaps",
            Self::UpdateLearned => "update configmaps",
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_what_the_permission_says() {
        for operation in Operation::ALL {
            let (verb, _group, resource) = operation.permission();
            assert_eq!(operation.as_str(), format!("{verb} {resource}"));
            assert_eq!(operation.is_read(), matches!(verb, "get" | "list"));
        }
    }
}
