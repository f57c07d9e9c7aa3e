//! Label sets of the metrics. Names follow the shared API's metrics (`nodepool`, `capacity_type`,
//! `zone`, `reason`), so queries port with a change of prefix.

use prometheus_client::encoding::EncodeLabelSet;

use crate::model::launch::ErrorClass;
use crate::model::offering::{CapacityType, OfferingKey};

/// Declares an enum of label values.
macro_rules! label_values {
    ($(#[$attribute:meta])* $name:ident { $($(#[$variant_attribute:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$attribute])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $($(#[$variant_attribute])* $variant,)+
        }

        impl $name {
            /// Every value.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The label's value.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)+
                }
            }
        }
    };
}

label_values! {
    /// How far a claim has come.
    ClaimPhase {
        /// Not bought yet.
        Pending = "pending",
        /// Bought, not joined.
        Launched = "launched",
        /// Joined, not ready for all its pods.
        Registered = "registered",
        /// Ready.
        Initialized = "initialized",
        /// On its way out.
        Deleting = "deleting",
    }
}

label_values! {
    /// A step of a claim.
    ClaimStep {
        /// EC2 has an instance for it.
        Launched = "launched",
        /// Its Node joined.
        Registered = "registered",
        /// Its Node is ready for all its pods.
        Initialized = "initialized",
    }
}

label_values! {
    /// Why Tonnage asked for a claim's deletion.
    RemovalReason {
        /// Nothing runs on it.
        Empty = "empty",
        /// Too old.
        Expired = "expired",
        /// Differs from its NodePool or class.
        Drifted = "drifted",
        /// Cheaper without it.
        Underutilized = "underutilized",
        /// Broken.
        Unhealthy = "unhealthy",
        /// Its instance is gone.
        GarbageCollected = "garbage_collected",
        /// Nothing it allows can be bought.
        InsufficientCapacity = "insufficient_capacity",
        /// EC2 refused what its class asks for.
        Refused = "refused",
        /// Its class is not usable.
        NodeClassNotReady = "nodeclass_not_ready",
        /// It was not bought in time.
        LaunchTimeout = "launch_timeout",
        /// It did not join in time.
        RegistrationTimeout = "registration_timeout",
        /// It did not become ready in time.
        InitializationTimeout = "initialization_timeout",
        /// EC2 takes it back.
        Interrupted = "interrupted",
        /// Nothing waits for it any more.
        NotNeeded = "not_needed",
    }
}

label_values! {
    /// What a launch call came to.
    LaunchResult {
        /// As many instances as asked for.
        Complete = "complete",
        /// Some.
        Partial = "partial",
        /// None: no capacity.
        NoCapacity = "no_capacity",
        /// Refused.
        Failed = "failed",
        /// No answer: it is repeated as it was.
        Unanswered = "unanswered",
    }
}

label_values! {
    /// What an eviction came to.
    EvictionOutcome {
        /// The pod is being deleted.
        Evicted = "evicted",
        /// A disruption budget does not allow it now.
        Blocked = "blocked",
        /// The pod was gone.
        Gone = "gone",
        /// Deleted against the budget because the grace period is over.
        Forced = "forced",
        /// The call failed.
        Failed = "failed",
    }
}

label_values! {
    /// Why an instance without a claim is not ended.
    OrphanHold {
        /// Its NodePool is paused.
        Paused = "paused",
        /// There are too many at once, and nobody has acknowledged them.
        TooMany = "too_many",
    }
}

label_values! {
    /// A loop of the controller.
    Loop {
        /// Plans and makes claims.
        Provisioning = "provisioning",
        /// Buys what claims ask for.
        Launch = "launch",
        /// Binds Nodes to claims.
        Registration = "registration",
        /// Takes claims and Nodes down.
        Termination = "termination",
        /// Finds empty nodes.
        Emptiness = "emptiness",
        /// Gives up claims that take too long, and replaces expired ones.
        Liveness = "liveness",
        /// Collects what belongs to nobody.
        Orphans = "orphans",
        /// Writes NodePool statuses.
        NodePools = "nodepools",
        /// Resolves EC2NodeClasses.
        NodeClasses = "nodeclasses",
        /// Nominates nodes and explains to pods.
        Pods = "pods",
        /// Follows the instances that EC2 has.
        Instances = "instances",
        /// Acts on EC2's announcements.
        Notices = "notices",
    }
}

label_values! {
    /// What a round of a loop came to.
    ReconcileOutcome {
        /// Done.
        Success = "success",
        /// It will look again.
        Requeued = "requeued",
        /// Something failed; it will try again.
        Error = "error",
    }
}

pub(super) const fn error_class(class: ErrorClass) -> &'static str {
    match class {
        ErrorClass::InsufficientCapacity => "insufficient_capacity",
        ErrorClass::QuotaExceeded => "quota_exceeded",
        ErrorClass::Throttled => "throttled",
        ErrorClass::NotFound => "not_found",
        ErrorClass::Unauthorized => "unauthorized",
        ErrorClass::Invalid => "invalid",
        ErrorClass::TokenMismatch => "token_mismatch",
        ErrorClass::Transient => "transient",
    }
}

fn capacity(capacity_type: Option<CapacityType>) -> &'static str {
    capacity_type.map_or("", CapacityType::as_str)
}

fn zone(offering: Option<&OfferingKey>) -> String {
    offering.map_or_else(String::new, |offering| offering.zone.to_string())
}

/// Declares a label set with a constructor.
macro_rules! label_set {
    ($name:ident { $($field:ident: $kind:ty),+ }, ($($argument:ident: $argument_kind:ty),+) => { $($value_field:ident: $value:expr),+ }) => {
        #[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
        pub(super) struct $name {
            $($field: $kind,)+
        }

        impl $name {
            pub(super) fn new($($argument: $argument_kind),+) -> Self {
                Self { $($value_field: $value),+ }
            }
        }
    };
}

label_set!(PoolLabel { nodepool: String }, (node_pool: &str) => { nodepool: node_pool.to_owned() });
label_set!(
    PoolCapacity { nodepool: String, capacity_type: &'static str },
    (node_pool: &str, capacity_type: Option<CapacityType>) => {
        nodepool: node_pool.to_owned(),
        capacity_type: capacity(capacity_type)
    }
);
label_set!(
    CapacityLabel { capacity_type: &'static str },
    (capacity_type: CapacityType) => { capacity_type: capacity_type.as_str() }
);
label_set!(
    PoolResource { nodepool: String, resource_type: String },
    (node_pool: &str, resource: &str) => {
        nodepool: node_pool.to_owned(),
        resource_type: resource.to_owned()
    }
);
label_set!(
    ClaimPhaseLabels { nodepool: String, phase: &'static str },
    (node_pool: &str, phase: ClaimPhase) => {
        nodepool: node_pool.to_owned(),
        phase: phase.as_str()
    }
);
label_set!(
    StepLabels { nodepool: String, step: &'static str },
    (node_pool: &str, step: ClaimStep) => {
        nodepool: node_pool.to_owned(),
        step: step.as_str()
    }
);
label_set!(
    DisruptedLabels { nodepool: String, reason: &'static str, capacity_type: &'static str },
    (node_pool: &str, reason: RemovalReason, capacity_type: Option<CapacityType>) => {
        nodepool: node_pool.to_owned(),
        reason: reason.as_str(),
        capacity_type: capacity(capacity_type)
    }
);
label_set!(
    ZoneLabels { nodepool: String, capacity_type: &'static str, zone: String },
    (node_pool: &str, offering: Option<&OfferingKey>) => {
        nodepool: node_pool.to_owned(),
        capacity_type: capacity(offering.map(|offering| offering.capacity_type)),
        zone: zone(offering)
    }
);
label_set!(WaitLabel { reason: &'static str }, (reason: &'static str) => { reason: reason });
label_set!(
    LaunchLabels { capacity_type: &'static str, outcome: &'static str },
    (capacity_type: CapacityType, result: LaunchResult) => {
        capacity_type: capacity_type.as_str(),
        outcome: result.as_str()
    }
);
label_set!(
    FailureLabels { zone: String, capacity_type: &'static str, reason: &'static str },
    (offering: Option<&OfferingKey>, class: ErrorClass) => {
        zone: zone(offering),
        capacity_type: capacity(offering.map(|offering| offering.capacity_type)),
        reason: error_class(class)
    }
);
label_set!(
    OfferingLabels { instance_type: String, zone: String, capacity_type: &'static str },
    (offering: &OfferingKey) => {
        instance_type: offering.instance_type.to_string(),
        zone: offering.zone.to_string(),
        capacity_type: offering.capacity_type.as_str()
    }
);
label_set!(
    HoldLabel { reason: &'static str },
    (hold: OrphanHold) => { reason: hold.as_str() }
);
label_set!(
    EvictionLabels { outcome: &'static str },
    (outcome: EvictionOutcome) => { outcome: outcome.as_str() }
);
label_set!(
    Call { operation: &'static str, outcome: &'static str },
    (operation: &'static str, outcome: &'static str) => { operation: operation, outcome: outcome }
);
label_set!(
    CallName { operation: &'static str },
    (operation: &'static str) => { operation: operation }
);
label_set!(
    KindLabel { resource: &'static str },
    (resource: &'static str) => { resource: resource }
);
label_set!(
    HolderLabel { holder: String },
    (holder: &str) => { holder: holder.to_owned() }
);
label_set!(
    MessageLabel { message_type: &'static str },
    (message_type: &'static str) => { message_type: message_type }
);
label_set!(
    LoopLabel { controller: &'static str },
    (which: Loop) => { controller: which.as_str() }
);
label_set!(
    LoopOutcome { controller: &'static str, outcome: &'static str },
    (which: Loop, outcome: ReconcileOutcome) => {
        controller: which.as_str(),
        outcome: outcome.as_str()
    }
);
