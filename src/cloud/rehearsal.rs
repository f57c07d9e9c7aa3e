//! What is rehearsed before a node class may say that it is ready, and what EC2's answers mean for it.
//!
//! Given a resolved class; given back the offering that a launch is rehearsed with, and, of EC2's refusal, a
//! [`Rehearsal`]. Nothing is called here.

use super::errors::{self, DRY_RUN};
use super::{CloudError, Unresolved};
use crate::api::labels;
use crate::model::launch::ErrorClass;
use crate::model::node_class::{Accelerator, NodeClass};
use crate::model::offering::{CapacityType, InstanceType, OfferingKey};

const CREATE_TEMPLATE: &str = "CreateLaunchTemplate";

/// What EC2 says to a launch that is not made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rehearsal {
    /// It would be let through, as far as EC2 says.
    Passed,
    /// It was refused for a reason that need not hold for every machine of the class.
    Doubtful(Unresolved),
    /// No launch through the class would be let through.
    Failed(Unresolved),
}

/// The reason of a class whose machine may not be run.
pub const MAY_NOT_RUN: &str = "RunInstancesAuthCheckFailed";

impl Rehearsal {
    /// True when nothing but the machine itself was refused, for want of a permission: another may be allowed.
    pub fn is_of_the_machine(&self) -> bool {
        matches!(self, Self::Failed(why) if why.reason == MAY_NOT_RUN)
    }

    /// What a refusal comes to when another machine would be let through.
    pub fn doubtful(self) -> Self {
        match self {
            Self::Failed(why) => Self::Doubtful(why),
            other => other,
        }
    }

    /// What two steps come to: the worse, and of two that are refused both.
    pub fn and(self, next: Self) -> Self {
        match (self, next) {
            (Self::Failed(one), Self::Failed(other)) => Self::Failed(Unresolved {
                reason: one.reason,
                message: format!("{}; {}", one.message, other.message),
            }),
            (failed @ Self::Failed(_), _) | (_, failed @ Self::Failed(_)) => failed,
            (Self::Passed, other) => other,
            (doubtful, _) => doubtful,
        }
    }
}

/// The offering that a launch is rehearsed with: what is let through for one type is for its like, so it is
/// one that nothing is special about, and of those the smallest, whatever it costs: an answer shall not
/// go with a price. On-demand, if there is any: not every account uses spot. `None` when nothing can be
/// bought through the class.
pub fn offering(class: &NodeClass) -> Option<OfferingKey> {
    let (_spot, _special, key) = offered(class).min()?;
    Some(key.clone())
}

/// Another one to ask about where the first was refused: of another type and, if there is any, bought in
/// the other way. Policies may allow some types or spot alone.
pub fn another(class: &NodeClass, first: &OfferingKey) -> Option<OfferingKey> {
    let others =
        offered(class).filter(|(_spot, _special, key)| key.instance_type != first.instance_type);
    let (_same, _spot, _special, key) = others
        .map(|(spot, special, key)| (key.capacity_type == first.capacity_type, spot, special, key))
        .min()?;
    Some(key.clone())
}

/// What can be bought, with whether it is spot and what is special about its type.
fn offered(class: &NodeClass) -> impl Iterator<Item = (bool, Special, &OfferingKey)> {
    let catalogue = &class.catalogue;
    catalogue.offerings.iter().filter_map(|offering| {
        let key = &offering.key;
        let has_subnet = class
            .subnets
            .get(&*key.zone)
            .is_some_and(|subnets| !subnets.is_empty());
        let instance_type = catalogue.types.get(&key.instance_type)?;
        let is_spot = key.capacity_type == CapacityType::Spot;
        let can_be_bought = has_subnet && key.capacity_type != CapacityType::Reserved;
        can_be_bought.then(|| (is_spot, special(instance_type), key))
    })
}

/// An accelerator, no Nitro, a single processor, size: in order of weight.
type Special = (bool, bool, bool, i64);

/// What is special about a type.
fn special(instance_type: &InstanceType) -> Special {
    let label = |key: &str| instance_type.labels.get(key).map(String::as_str);
    let processors = label(labels::INSTANCE_CPU).and_then(|count| count.parse().ok());
    (
        instance_type.accelerator() != Accelerator::None,
        label(labels::INSTANCE_HYPERVISOR) != Some("nitro"),
        processors == Some(1),
        processors.unwrap_or(i64::MAX),
    )
}

/// What a refused step of a rehearsal means for the class.
///
/// # Errors
/// The refusal says nothing about it: another time EC2 may answer otherwise.
pub fn judge(error: CloudError) -> Result<Rehearsal, CloudError> {
    let unresolved = |reason: &'static str| Unresolved {
        reason,
        message: error.to_string(),
    };
    let makes_template = error.operation == CREATE_TEMPLATE;
    match error.class {
        _ if error.code == DRY_RUN => Ok(Rehearsal::Passed),
        ErrorClass::Unauthorized if errors::is_missing_permission(&error.code) => {
            let reason = match error.operation {
                CREATE_TEMPLATE => "CreateLaunchTemplateAuthCheckFailed",
                "CreateFleet" => "CreateFleetAuthCheckFailed",
                "RunInstances" => MAY_NOT_RUN,
                _ => "Unauthorized",
            };
            Ok(Rehearsal::Failed(unresolved(reason)))
        }
        ErrorClass::Invalid if error.message.contains("User data is limited") => {
            Ok(Rehearsal::Failed(unresolved("UserDataSizeLimitExceeded")))
        }
        ErrorClass::Invalid if error.message.contains("Invalid IAM Instance Profile") => {
            Ok(Rehearsal::Failed(unresolved("InstanceProfileNotFound")))
        }
        ErrorClass::Invalid if makes_template => {
            Ok(Rehearsal::Failed(unresolved("NodeClassValidationFailed")))
        }
        // Whether there is room is the launch's business, and it asks for many types.
        ErrorClass::InsufficientCapacity | ErrorClass::QuotaExceeded if !makes_template => {
            Ok(Rehearsal::Passed)
        }
        ErrorClass::Invalid => Ok(Rehearsal::Doubtful(unresolved("RehearsalRefused"))),
        _ => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::cloud::builtin;
    use crate::cloud::errors::cloud_error;

    fn refusal(operation: &'static str, code: &str, message: &str) -> CloudError {
        cloud_error(operation, code, message, Some(400))
    }

    fn failed(judged: Result<Rehearsal, CloudError>) -> Unresolved {
        match judged {
            Ok(Rehearsal::Failed(why)) => why,
            other => panic!("not failed: {other:?}"),
        }
    }

    #[test]
    fn a_missing_action_fails_the_class_and_is_named_with_the_role() {
        for (operation, action, reason) in [
            (
                "CreateLaunchTemplate",
                "ec2:CreateTags",
                "CreateLaunchTemplateAuthCheckFailed",
            ),
            (
                "CreateFleet",
                "ec2:CreateFleet",
                "CreateFleetAuthCheckFailed",
            ),
            (
                "RunInstances",
                "iam:PassRole",
                "RunInstancesAuthCheckFailed",
            ),
        ] {
            let message = format!(
                "You are not authorized to perform this operation. User: \
                 arn:aws:sts::1:assumed-role/tonnage-blue/session is not authorized to perform: {action} \
                 on resource: arn:x"
            );
            let why = failed(judge(refusal(operation, "UnauthorizedOperation", &message)));
            assert_eq!(why.reason, reason);
            let advice = format!("allow {action} for the controller's role tonnage-blue");
            assert!(why.message.contains(&advice), "{}", why.message);
        }
    }

    #[test]
    fn what_holds_for_every_launch_fails_the_class() {
        for (operation, code, message, reason) in [
            (
                "CreateLaunchTemplate",
                "InvalidUserData.Malformed",
                "User data is limited to 16384 bytes",
                "UserDataSizeLimitExceeded",
            ),
            (
                "RunInstances",
                "InvalidParameterValue",
                "Value (x) for parameter iamInstanceProfile.name is invalid. Invalid IAM Instance \
                 Profile name",
                "InstanceProfileNotFound",
            ),
            (
                "CreateLaunchTemplate",
                "InvalidParameterValue",
                "no such volume type",
                "NodeClassValidationFailed",
            ),
        ] {
            let why = failed(judge(refusal(operation, code, message)));
            assert_eq!(why.reason, reason, "{code}");
        }
    }

    #[test]
    fn what_may_be_otherwise_for_another_machine_is_no_verdict() {
        let doubtful = judge(refusal("RunInstances", "InvalidParameterCombination", "no"));
        let Ok(Rehearsal::Doubtful(why)) = doubtful else {
            panic!("{doubtful:?}");
        };
        assert_eq!(why.reason, "RehearsalRefused");
        for code in [
            "DryRunOperation",
            "InsufficientInstanceCapacity",
            "VcpuLimitExceeded",
        ] {
            let judged = judge(refusal("RunInstances", code, ""));
            assert_eq!(judged, Ok(Rehearsal::Passed), "{code}");
        }
        for (operation, code) in [
            ("CreateFleet", "RequestLimitExceeded"),
            ("CreateFleet", "InvalidLaunchTemplateName.NotFoundException"),
            ("CreateLaunchTemplate", "MaxTemplateLimitExceeded"),
            ("CreateFleet", "ExpiredToken"),
            ("RunInstances", "InternalError"),
        ] {
            assert!(judge(refusal(operation, code, "")).is_err(), "{code}");
        }
    }

    #[test]
    fn everything_that_is_missing_is_said_at_once() {
        let denied = |operation| {
            let message = "You are not authorized to perform this operation.";
            judge(refusal(operation, "UnauthorizedOperation", message)).unwrap()
        };
        let (fleet, machine) = (denied("CreateFleet"), denied("RunInstances"));
        let doubtful = judge(refusal("RunInstances", "InvalidParameterValue", "x")).unwrap();
        let Rehearsal::Failed(both) = fleet.clone().and(machine.clone()) else {
            panic!("both failed");
        };
        assert_eq!(both.reason, "CreateFleetAuthCheckFailed");
        for action in ["ec2:CreateFleet", "ec2:RunInstances"] {
            assert!(both.message.contains(action), "{}", both.message);
        }
        for (one, next, whole) in [
            (Rehearsal::Passed, Rehearsal::Passed, Rehearsal::Passed),
            (Rehearsal::Passed, doubtful.clone(), doubtful.clone()),
            (doubtful.clone(), Rehearsal::Passed, doubtful.clone()),
            (doubtful, machine.clone(), machine),
            (fleet.clone(), Rehearsal::Passed, fleet),
        ] {
            assert_eq!(one.and(next), whole);
        }
    }

    /// A class that can buy these offerings and no others.
    fn class_with(offerings: &[&str]) -> NodeClass {
        let object = serde_json::from_value(crate::sim::scene::node_class("default", "blue", 20));
        let mut class = builtin::node_class_or_reason(&object.unwrap());
        Arc::make_mut(&mut class.catalogue)
            .offerings
            .retain(|offering| offerings.contains(&offering.key.to_string().as_str()));
        assert_eq!(class.catalogue.offerings.len(), offerings.len());
        class
    }

    #[test]
    fn the_smallest_plain_type_on_demand_is_rehearsed() {
        let mut class = class_with(&[
            "c5.2xlarge/us-east-1a/on-demand",
            "c5.2xlarge/us-east-1b/on-demand",
            "c5.2xlarge/us-east-1a/spot",
            "g4dn.xlarge/us-east-1a/on-demand",
            "m5.4xlarge/us-east-1a/on-demand",
        ]);
        let mut chosen = |without: &str| {
            class.subnets.remove(without);
            offering(&class).map(|key| key.to_string())
        };
        let plain = "c5.2xlarge/us-east-1a/on-demand";
        assert_eq!(chosen("").as_deref(), Some(plain));
        let elsewhere = "c5.2xlarge/us-east-1b/on-demand";
        assert_eq!(chosen("us-east-1a").as_deref(), Some(elsewhere));
        assert_eq!(chosen("us-east-1b"), None, "no subnet is left");
    }

    #[test]
    fn what_only_spot_or_only_special_types_are_bought_through_is_rehearsed_with_them() {
        let spot = "c5.xlarge/us-east-1a/spot";
        let gpu = "g4dn.xlarge/us-east-1a/on-demand";
        for (offerings, expected) in [(vec![spot], spot), (vec![gpu], gpu), (vec![spot, gpu], gpu)]
        {
            let chosen = offering(&class_with(&offerings)).unwrap();
            assert_eq!(chosen.to_string(), expected);
        }
    }
}
