//! The reasons that Tonnage gives for its conditions.

use super::open_enum::open_enum;

open_enum! {
    /// Why a condition has its status, as one word. A launch failure may bring a reason of EC2's own.
    pub enum ConditionReason {
        /// Nobody has looked at this part of the object yet.
        AwaitingReconciliation = "AwaitingReconciliation",
        /// A part of `Ready` is False.
        UnhealthyDependents = "UnhealthyDependents",
        /// A part of `Ready` is not known yet.
        ReconcilingDependents = "ReconcilingDependents",

        /// No machine could be bought.
        LaunchFailed = "LaunchFailed",
        /// No Node with the machine's provider ID exists.
        NodeNotFound = "NodeNotFound",
        /// Something else must allow the registration first.
        RegistrationHookPending = "RegistrationHookPending",
        /// More than one Node carries the machine's provider ID.
        MultipleNodesFound = "MultipleNodesFound",
        /// The Node is not Ready.
        NodeNotReady = "NodeNotReady",
        /// Startup taints are still on the Node.
        StartupTaintsExist = "StartupTaintsExist",
        /// Taints of Kubernetes' own start-up are still on the Node.
        KnownEphemeralTaintsExist = "KnownEphemeralTaintsExist",
        /// A resource the pods ask for, such as a GPU, is not on the Node yet.
        ResourceNotRegistered = "ResourceNotRegistered",
        /// A DRA driver has not published its devices yet.
        DraDriverPoolsNotPublished = "DRADriverPoolsNotPublished",
        /// The node is being rebooted.
        Rebooting = "Rebooting",

        /// The NodePool's template changed since the node was made.
        NodePoolDrifted = "NodePoolDrifted",
        /// The node's labels no longer match the NodePool's requirements.
        RequirementsDrifted = "RequirementsDrifted",
        /// The instance type is no longer offered.
        InstanceTypeNotFound = "InstanceTypeNotFound",
        /// The node class changed since the node was made.
        NodeClassDrift = "NodeClassDrift",
        /// The node runs an image that the node class no longer selects.
        AmiDrift = "AMIDrift",
        /// The node is in a subnet that the node class no longer selects.
        SubnetDrift = "SubnetDrift",
        /// The node's security groups are not those of the node class.
        SecurityGroupDrift = "SecurityGroupDrift",
        /// The node's capacity reservation is no longer selected.
        CapacityReservationDrift = "CapacityReservationDrift",
        /// The node's placement group is no longer the node class's.
        PlacementGroupDrift = "PlacementGroupDrift",

        /// Pods are being evicted.
        Draining = "Draining",
        /// Volumes are still attached.
        AwaitingVolumeDetachment = "AwaitingVolumeDetachment",
        /// The termination grace period ended first.
        TerminationGracePeriodElapsed = "TerminationGracePeriodElapsed",
        /// EC2 refuses to terminate the machine.
        TerminationFailed = "TerminationFailed",
        /// Claim, node and machine do not agree.
        ConsistencyCheckFailed = "ConsistencyCheckFailed",
        /// The node has no pods.
        Empty = "Empty",
        /// The node's pods fit elsewhere or on a cheaper node.
        Underutilized = "Underutilized",
        /// The node no longer matches its NodePool or node class.
        Drifted = "Drifted",
        /// The node is broken.
        Unhealthy = "Unhealthy",
        /// A reboot is wanted.
        RebootRequested = "RebootRequested",
        /// EC2 was asked to reboot.
        RebootIssued = "RebootIssued",
        /// The node came back.
        RebootSucceeded = "RebootSucceeded",
        /// The node cannot be rebooted.
        RebootFailed = "RebootFailed",

        /// The NodePool's spec does not make sense.
        NodePoolValidationFailed = "NodePoolValidationFailed",
        /// The node class does not exist.
        NodeClassNotFound = "NodeClassNotFound",
        /// The node class is being deleted.
        NodeClassTerminating = "NodeClassTerminating",
        /// The node class does not say yet whether it is ready.
        NodeClassReadinessUnknown = "NodeClassReadinessUnknown",
        /// Nodes of this pool were launched but did not join.
        RegistrationFailed = "RegistrationFailed",
        /// More instances than a few lost their NodeClaims at once.
        TooManyOrphans = "TooManyOrphans",
        /// Some fields are set that this version does nothing with.
        FieldsNotActedOn = "FieldsNotActedOn",

        /// The AMI terms select nothing.
        AmiNotFound = "AMINotFound",
        /// The AMI alias does not exist for this cluster's version.
        UnsupportedAlias = "UnsupportedAlias",
        /// Machines are started from an image that its owner wants replaced by a newer one.
        ImageDeprecated = "ImageDeprecated",
        /// Some terms select nothing, others do.
        TermMatchesNothing = "TermMatchesNothing",
        /// The subnet terms select nothing.
        SubnetsNotFound = "SubnetsNotFound",
        /// The security group terms select nothing.
        SecurityGroupsNotFound = "SecurityGroupsNotFound",
        /// The security group terms select more than a network interface has, or than it has unless a quota was raised.
        TooManySecurityGroups = "TooManySecurityGroups",
        /// The instance profile does not exist.
        InstanceProfileNotFound = "InstanceProfileNotFound",
        /// The instance profile was made moments ago, and EC2 may not know it yet.
        InstanceProfileSettling = "InstanceProfileSettling",
        /// The role of the nodes does not exist.
        RoleNotFound = "RoleNotFound",
        /// The controller's role lacks a permission, which the message names.
        Unauthorized = "Unauthorized",
        /// The placement group does not exist.
        PlacementGroupNotFound = "PlacementGroupNotFound",
        /// The placement group could not be looked up.
        PlacementGroupResolutionFailed = "PlacementGroupResolutionFailed",
        /// Where new nodes reach the API server is not given, and EKS does not say it.
        ClusterEndpointUnknown = "ClusterEndpointUnknown",
        /// The service CIDR of the cluster could not be found out.
        ClusterCidrResolutionFailed = "ClusterCIDRResolutionFailed",
        /// The kubelet configuration does not make sense.
        InvalidKubeletConfiguration = "InvalidKubeletConfiguration",
        /// The AMI family cannot pass on a kubelet field.
        UnsupportedKubeletConfiguration = "UnsupportedKubeletConfiguration",
        /// A part of the node class that validation needs is not ready.
        DependenciesNotReady = "DependenciesNotReady",
        /// A tag is reserved or malformed.
        TagValidationFailed = "TagValidationFailed",
        /// The spec of the node class does not make sense.
        NodeClassValidationFailed = "NodeClassValidationFailed",
        /// EC2 did not let a dry run through, for a reason that need not hold for every machine.
        RehearsalRefused = "RehearsalRefused",
        /// The user data is longer than EC2 takes.
        UserDataSizeLimitExceeded = "UserDataSizeLimitExceeded",
        /// The controller may not create launch templates.
        CreateLaunchTemplateAuthCheckFailed = "CreateLaunchTemplateAuthCheckFailed",
        /// The controller may not create fleets.
        CreateFleetAuthCheckFailed = "CreateFleetAuthCheckFailed",
        /// The controller may not run instances.
        RunInstancesAuthCheckFailed = "RunInstancesAuthCheckFailed",
    }
}
