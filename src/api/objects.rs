//! How the conditions of each kind are kept, and which of them make up `Ready`.

use jiff::Timestamp;
use kube::Resource;

use super::conditions::{Condition, ConditionType, Conditioned};
use super::{EC2NodeClass, NodeClaim, NodePool};

macro_rules! conditioned {
    ($kind:ty, $dependents:expr) => {
        impl Conditioned for $kind {
            const DEPENDENTS: &'static [ConditionType] = $dependents;

            fn conditions(&self) -> &[Condition] {
                self.status
                    .as_ref()
                    .map_or(&[], |status| &status.conditions)
            }

            fn conditions_mut(&mut self) -> &mut Vec<Condition> {
                &mut self.status.get_or_insert_default().conditions
            }

            fn generation(&self) -> i64 {
                self.meta().generation.unwrap_or(0)
            }

            fn created(&self) -> Option<Timestamp> {
                self.meta().creation_timestamp.as_ref().map(|time| time.0)
            }
        }
    };
}

conditioned!(
    NodePool,
    &[
        ConditionType::ValidationSucceeded,
        ConditionType::NodeClassReady
    ]
);
conditioned!(
    NodeClaim,
    &[
        ConditionType::Launched,
        ConditionType::Registered,
        ConditionType::Initialized
    ]
);
conditioned!(
    EC2NodeClass,
    &[
        ConditionType::AmisReady,
        ConditionType::SubnetsReady,
        ConditionType::SecurityGroupsReady,
        ConditionType::InstanceProfileReady,
        ConditionType::ValidationSucceeded,
        ConditionType::PlacementGroupReady,
        ConditionType::CapacityReservationsReady,
    ]
);
