//! What is rehearsed before a node class may say that it is ready, and what EC2's answers mean for it.
//!
//! Given a resolved class; given back the offerings that launches are rehearsed with, one for each way of buying, and, of
//! EC2's refusals, a [`Rehearsal`]. Nothing is called here.

use super::errors::{self, DRY_RUN, NO_SPOT_ROLE};
use super::{CloudError, Unresolved};
use crate::api::labels;
use crate::model::launch::{ErrorClass, is_quota_of_launches};
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

    /// True when machines come of it, as far as EC2 says.
    pub fn is_let_through(&self) -> bool {
        !matches!(self, Self::Failed(_))
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

    fn why(self) -> Option<Unresolved> {
        match self {
            Self::Passed => None,
            Self::Doubtful(why) | Self::Failed(why) => Some(why),
        }
    }
}

/// What the rehearsals of both ways of buying come to. Machines come of the one that is let through, so the class fails
/// only where both do; a refusal of one alone is named with its way.
pub fn of_both(one: (CapacityType, Rehearsal), other: (CapacityType, Rehearsal)) -> Rehearsal {
    let mut ways = [one, other];
    let fails = ways.iter().all(|(_way, said)| !said.is_let_through());
    // The reason is that of the worse.
    ways.sort_by_key(|(_way, said)| said.is_let_through());
    let refused = ways
        .into_iter()
        .filter_map(|(way, said)| Some((way, said.why()?)));
    let refused: Vec<(CapacityType, Unresolved)> = refused.collect();
    let message = match refused.as_slice() {
        [] => return Rehearsal::Passed,
        [(way, why)] => format!("of {way} machines alone: {}", why.message),
        [(_one, why), (_other, same)] if why.message == same.message => why.message.clone(),
        several => several
            .iter()
            .map(|(way, why)| format!("of {way} machines: {}", why.message))
            .collect::<Vec<_>>()
            .join("; "),
    };
    let reason = refused.first().map_or("", |(_way, why)| why.reason);
    let why = Unresolved { reason, message };
    if fails {
        Rehearsal::Failed(why)
    } else {
        Rehearsal::Doubtful(why)
    }
}

/// The offering that a launch is rehearsed with first: what is let through for one type is for its like, so it is
/// one that nothing is special about, and of those the smallest, whatever it costs: an answer shall not
/// go with a price. On-demand, if there is any: not every account uses spot. `None` when nothing can be
/// bought through the class.
pub fn offering(class: &NodeClass) -> Option<OfferingKey> {
    let (_spot, _special, key) = offered(class).min()?;
    Some(key.clone())
}

/// One that is bought in the other way, if the class has it: what spot needs beside on-demand may be missing. It is the one
/// of before, if there is one that is offered still: which spot offerings are within the ceilings of NodePools goes with
/// prices. Else it is of the first's type, so that a refusal is of the way; but where the machine of the first may not be
/// run it is of another: policies may allow some types alone.
pub fn other_way(
    class: &NodeClass,
    first: &OfferingKey,
    is_refused: bool,
    before: Option<&OfferingKey>,
) -> Option<OfferingKey> {
    let others =
        offered(class).filter(|(_spot, _special, key)| key.capacity_type != first.capacity_type);
    let ranked = others.map(|(_spot, special, key)| {
        let is_same = key.instance_type == first.instance_type;
        let is_new = before != Some(key);
        (is_refused && is_same, is_new, !is_same, special, key)
    });
    let (.., key) = ranked.min()?;
    Some(key.clone())
}

/// One of another type to ask about where the machine of the first may not be run and there is no other way to buy:
/// policies may allow some types alone.
pub fn another(class: &NodeClass, first: &OfferingKey) -> Option<OfferingKey> {
    let mut all = offered(class);
    if all.any(|(_spot, _special, key)| key.capacity_type != first.capacity_type) {
        return None;
    }
    let others =
        offered(class).filter(|(_spot, _special, key)| key.instance_type != first.instance_type);
    let (_spot, _special, key) = others.min()?;
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
    // What EC2 encodes differs each time, and the same refusal is to be known again.
    let unresolved = |reason: &'static str| Unresolved {
        reason,
        message: errors::without_encoded(&error.to_string()),
    };
    let makes_template = error.operation == CREATE_TEMPLATE;
    match error.class {
        _ if error.code == DRY_RUN => Ok(Rehearsal::Passed),
        ErrorClass::Unauthorized
            if errors::is_missing_permission(&error.code) || error.code == NO_SPOT_ROLE =>
        {
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
        ErrorClass::Invalid if makes_template || errors::is_of_every_machine(&error.code) => {
            Ok(Rehearsal::Failed(unresolved("NodeClassValidationFailed")))
        }
        // Whether there is room is the launch's business, and it asks for many types.
        ErrorClass::InsufficientCapacity if !makes_template => Ok(Rehearsal::Passed),
        ErrorClass::QuotaExceeded if !makes_template && is_quota_of_launches(&error.code) => {
            Ok(Rehearsal::Passed)
        }
        // Other quotas stop whatever the class makes, until somebody raises them or something else gives room.
        ErrorClass::QuotaExceeded if !makes_template => {
            Ok(Rehearsal::Doubtful(unresolved("RehearsalRefused")))
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
            (
                "RunInstances",
                "SecurityGroupsPerInstanceLimitExceeded",
                "too many security groups",
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
            "MaxFleetCountExceeded",
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
    fn a_quota_of_what_machines_are_made_with_is_said_and_stops_nobody() {
        let judged = judge(refusal("RunInstances", "VolumeLimitExceeded", "no"));
        let Ok(Rehearsal::Doubtful(why)) = judged else {
            panic!("{judged:?}");
        };
        assert!(
            why.message.contains("quota for EBS storage"),
            "{}",
            why.message
        );
    }

    #[test]
    fn a_role_that_spot_lacks_is_a_refusal_with_the_command_that_makes_it() {
        let why = failed(judge(refusal("RunInstances", NO_SPOT_ROLE, "")));
        assert_eq!(why.reason, MAY_NOT_RUN);
        let command = "aws iam create-service-linked-role";
        assert!(why.message.contains(command), "{}", why.message);
    }

    #[test]
    fn a_class_fails_only_where_no_way_of_buying_is_let_through() {
        let denied = |text: &str| {
            let message = format!("{text} Encoded authorization failure message: {text}1-x");
            judge(refusal("RunInstances", "UnauthorizedOperation", &message)).unwrap()
        };
        let doubtful = || judge(refusal("RunInstances", "InvalidParameterValue", "x")).unwrap();
        let both = |on_demand, spot| {
            let on_demand = (CapacityType::OnDemand, on_demand);
            of_both(on_demand, (CapacityType::Spot, spot))
        };
        let passed = || Rehearsal::Passed;
        assert_eq!(both(passed(), passed()), Rehearsal::Passed);
        for (on_demand, spot, way) in [
            (denied("no"), passed(), "on-demand"),
            (passed(), denied("no"), "spot"),
        ] {
            let said = both(on_demand, spot);
            let Rehearsal::Doubtful(why) = said else {
                panic!("{way}: {said:?}");
            };
            assert_eq!(why.reason, MAY_NOT_RUN);
            let begin = format!("of {way} machines alone: RunInstances: no");
            assert!(why.message.starts_with(&begin), "{}", why.message);
            assert!(why.message.contains("allow ec2:RunInstances"));
        }
        // The worse of two is what the reason is of.
        let Rehearsal::Doubtful(why) = both(doubtful(), denied("no")) else {
            panic!("on-demand is let through");
        };
        assert_eq!(why.reason, MAY_NOT_RUN);
        for part in ["of on-demand machines: ", "of spot machines: "] {
            assert!(why.message.contains(part), "{}", why.message);
        }
        let Rehearsal::Failed(twice) = both(denied("no"), denied("no")) else {
            panic!("both are refused");
        };
        assert_eq!(
            Rehearsal::Failed(twice),
            denied("no"),
            "the same is said once"
        );
        let Rehearsal::Failed(why) = both(denied("no"), denied("never")) else {
            panic!("both are refused");
        };
        assert!(
            why.message
                .contains("of spot machines: RunInstances: never")
        );
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
    fn the_other_way_of_buying_is_rehearsed_with_the_same_type_unless_that_may_not_be_run() {
        let small = "c5.2xlarge/us-east-1a/spot";
        let large = "m5.4xlarge/us-east-1b/spot";
        let class = class_with(&["c5.2xlarge/us-east-1a/on-demand", small, large]);
        let first = offering(&class).unwrap();
        let chosen = |is_refused, before: Option<&str>| {
            let before: Option<OfferingKey> = before.map(|key| key.parse().unwrap());
            other_way(&class, &first, is_refused, before.as_ref()).map(|key| key.to_string())
        };
        assert_eq!(chosen(false, None).as_deref(), Some(small));
        assert_eq!(chosen(true, None).as_deref(), Some(large));
        // What goes with prices is asked about again while it can be.
        assert_eq!(chosen(false, Some(large)).as_deref(), Some(large));
        assert_eq!(chosen(true, Some(small)).as_deref(), Some(large));
        let gone = "r5.large/us-east-1a/spot";
        assert_eq!(chosen(false, Some(gone)).as_deref(), Some(small));
        assert_eq!(another(&class, &first), None, "there is another way");
        let class = class_with(&[small, large]);
        let first = offering(&class).unwrap();
        assert_eq!(other_way(&class, &first, false, None), None);
        let found = another(&class, &first).map(|key| key.to_string());
        assert_eq!(found.as_deref(), Some(large));
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
