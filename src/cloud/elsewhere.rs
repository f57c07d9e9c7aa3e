//! A region in which nothing of a node class is: most likely the cluster's is another one.
//!
//! Given the conditions of a class of whose own things none was found; given back the same, with one of them that names the
//! region, the setting and all that was looked for, and others that wait for it. Nothing is looked up here, and what does not
//! depend on the region is left as it is.

use std::collections::BTreeMap;

use super::Unresolved;
use crate::api::{ConditionReason, ConditionType};

/// The conditions that a wrong region alone may fail, beside that of the subnets, which says it.
const FOLLOWING: [ConditionType; 4] = [
    ConditionType::SecurityGroupsReady,
    ConditionType::AmisReady,
    ConditionType::PlacementGroupReady,
    ConditionType::ValidationSucceeded,
];

/// Says once that nothing was found in the region.
pub fn say_once(conditions: &mut BTreeMap<&'static str, Result<(), Unresolved>>, region: &str) {
    let subnets = ConditionType::SubnetsReady;
    let mut said = Vec::new();
    for condition in [subnets].into_iter().chain(FOLLOWING) {
        let Some(Err(why)) = conditions.get(condition.as_str()) else {
            continue;
        };
        // What makes no sense anywhere.
        if why.reason == ConditionReason::NodeClassValidationFailed.as_str() {
            continue;
        }
        said.push(why.message.clone());
        let waits = Unresolved::waits_for(subnets);
        conditions.insert(condition.as_str(), Err(waits));
    }
    let why = Unresolved {
        reason: ConditionReason::SubnetsNotFound.as_str(),
        message: format!(
            "nothing that the class selects is in {region}, where the controller looks: correct the controller's region \
             (--region, AWS_REGION), or the terms: {}",
            said.join("; ")
        ),
    };
    conditions.insert(subnets.as_str(), Err(why));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failing(reason: &'static str, message: &str) -> Result<(), Unresolved> {
        Err(Unresolved {
            reason,
            message: message.to_owned(),
        })
    }

    #[test]
    fn one_condition_names_the_region_and_the_others_wait_for_it() {
        let mut conditions = BTreeMap::from([
            ("AMIsReady", Ok(())),
            (
                "SecurityGroupsReady",
                failing("SecurityGroupsNotFound", "no group"),
            ),
            ("SubnetsReady", failing("SubnetsNotFound", "no subnet")),
            (
                "ValidationSucceeded",
                failing("ClusterEndpointUnknown", "no cluster"),
            ),
        ]);
        say_once(&mut conditions, "eu-west-1");
        let why = conditions["SubnetsReady"].clone().unwrap_err();
        for part in [
            "eu-west-1",
            "AWS_REGION",
            "no subnet",
            "no group",
            "no cluster",
        ] {
            assert!(why.message.contains(part), "{part}: {}", why.message);
        }
        assert_eq!(conditions["AMIsReady"], Ok(()));
        for waiting in ["SecurityGroupsReady", "ValidationSucceeded"] {
            assert!(
                conditions[waiting].clone().unwrap_err().is_waiting(),
                "{waiting}"
            );
        }
    }

    #[test]
    fn what_is_wrong_in_every_region_is_said_all_the_same() {
        let spec = failing("NodeClassValidationFailed", "spec.tags");
        let mut conditions = BTreeMap::from([
            ("SubnetsReady", failing("SubnetsNotFound", "no subnet")),
            ("ValidationSucceeded", spec.clone()),
        ]);
        say_once(&mut conditions, "eu-west-1");
        assert_eq!(conditions["ValidationSucceeded"], spec);
    }
}
