//! What the status of an EC2NodeClass says: what was found, or why nothing was.
//!
//! Given the object, and a resolution or what a look-up failed for; given back the object with its status changed. One cause
//! makes one condition that does not hold: what could not be looked at because of it is Unknown and points there. Nothing is
//! written here.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::api::node_class::status::{
    SelectedAmi, SelectedCapacityReservation, SelectedSecurityGroup, SelectedSubnet,
};
use crate::api::{
    ConditionReason, ConditionType, ConditionUpdate, Conditioned, EC2NodeClass, EC2NodeClassStatus,
    fields,
};
use crate::cloud::{CloudError, Resolution, Unresolved, errors, images};
use crate::model::launch::ErrorClass;
use crate::model::node_class::NodeClass;
use crate::model::reservation::Reservation;

/// Puts what a look-up failed for into the status. `is_usable` is whether an earlier one found the class in order: a host
/// that has no address then is the network's fault and passes, and before it is the region's.
pub(super) fn failed(
    object: &mut EC2NodeClass,
    failure: &CloudError,
    is_usable: bool,
    now: Timestamp,
) {
    let ends_all = errors::is_of_the_caller(failure) || !is_usable && errors::has_no_host(failure);
    let part = if ends_all {
        ConditionType::ValidationSucceeded
    } else {
        part_of(failure.operation)
    };
    let message = errors::without_encoded(&failure.to_string());
    let update = if failure.class == ErrorClass::Unauthorized {
        ConditionUpdate::fails(part, &ConditionReason::Unauthorized, message)
    } else if ends_all {
        ConditionUpdate::fails(part, &ConditionReason::DependenciesNotReady, message)
    } else {
        ConditionUpdate::unknown(part, &ConditionReason::DependenciesNotReady, message)
    };
    object.set_condition(update, now);
    for other in EC2NodeClass::DEPENDENTS {
        let is_known = !ends_all && (object.is_true(*other) || fails_by_itself(object, *other));
        if *other != part && !is_known {
            let update = waiting(*other, &Unresolved::waits_for(part));
            object.set_condition(update, now);
        }
    }
}

/// True for a condition that fails for something else than a call that failed.
fn fails_by_itself(object: &EC2NodeClass, condition: ConditionType) -> bool {
    let of_calls = [
        ConditionReason::Unauthorized,
        ConditionReason::DependenciesNotReady,
    ];
    object.is_false(condition)
        && object.condition(condition).is_some_and(|condition| {
            let mut reasons = of_calls.iter();
            !reasons.any(|reason| reason.as_str() == condition.reason)
        })
}

fn waiting(condition: ConditionType, why: &Unresolved) -> ConditionUpdate {
    let reason = ConditionReason::from(why.reason);
    ConditionUpdate::unknown(condition, &reason, why.message.as_str())
}

/// The condition that a failed call says nothing good about.
fn part_of(operation: &str) -> ConditionType {
    match operation {
        "DescribeSubnets" => ConditionType::SubnetsReady,
        "DescribeSecurityGroups" => ConditionType::SecurityGroupsReady,
        "DescribeImages" | "GetParameters" => ConditionType::AmisReady,
        "DescribeCapacityReservations" => ConditionType::CapacityReservationsReady,
        "DescribePlacementGroups" => ConditionType::PlacementGroupReady,
        other if other.contains("InstanceProfile") => ConditionType::InstanceProfileReady,
        _ => ConditionType::ValidationSucceeded,
    }
}

/// Puts what was found into the status.
pub(super) fn resolved(object: &mut EC2NodeClass, resolution: &Resolution, now: Timestamp) {
    let status = object.status.get_or_insert_default();
    fill(status, &resolution.class, now);
    let profile = Some(resolution.instance_profile.clone());
    status.instance_profile = profile.filter(|name| !name.is_empty());
    for condition in EC2NodeClass::DEPENDENTS {
        let update = match resolution.conditions.get(condition.as_str()) {
            None | Some(Ok(())) => match resolution.remarks.get(condition.as_str()) {
                None => ConditionUpdate::holds(*condition),
                Some(remark) => ConditionUpdate::holds_because(
                    *condition,
                    &ConditionReason::from(remark.reason),
                    remark.message.as_str(),
                ),
            },
            Some(Err(why)) if why.is_waiting() => waiting(*condition, why),
            Some(Err(missing)) => ConditionUpdate::fails(
                *condition,
                &ConditionReason::from(missing.reason),
                missing.message.as_str(),
            ),
        };
        object.set_condition(update, now);
    }
    // What is selected is among what is acted on, or not.
    let notices = fields::fields_condition(&fields::node_class_notices(object));
    object.set_condition(notices, now);
}

fn fill(status: &mut EC2NodeClassStatus, class: &NodeClass, now: Timestamp) {
    let mut subnets: Vec<_> = class.subnets.values().flatten().collect();
    // By id, not by free addresses, which change with every launch: what is written stays as it is
    // while the same subnets are selected.
    subnets.sort_by(|left, right| left.id.cmp(&right.id));
    status.subnets = subnets
        .into_iter()
        .map(|subnet| SelectedSubnet {
            id: subnet.id.clone(),
            zone: subnet.zone.clone(),
            zone_id: Some(subnet.zone_id.clone()).filter(|id| !id.is_empty()),
        })
        .collect();
    status.security_groups = class
        .security_groups
        .iter()
        .map(|id| SelectedSecurityGroup {
            id: id.clone(),
            name: None,
        })
        .collect();
    status.amis = class
        .images
        .iter()
        .flat_map(|(arch, images)| images.iter().map(move |image| (arch, image)))
        .map(|(arch, image)| SelectedAmi {
            id: image.id.clone(),
            name: Some(image.name.clone()).filter(|name| !name.is_empty()),
            deprecated: image.deprecated.then_some(true),
            requirements: images::requirements(arch, image),
        })
        .collect();
    status.capacity_reservations = class
        .reservations
        .iter()
        .map(|reservation| selected_reservation(reservation, now))
        .collect();
}

/// A reservation as the status lists it: without its count, which changes with every launch.
fn selected_reservation(reservation: &Reservation, now: Timestamp) -> SelectedCapacityReservation {
    SelectedCapacityReservation {
        id: reservation.id.clone(),
        availability_zone: reservation.offering.key.zone.to_string(),
        instance_type: reservation.offering.key.instance_type.to_string(),
        instance_match_criteria: reservation.matching.clone(),
        owner_id: reservation.owner.clone(),
        reservation_type: reservation.kind.as_str().to_owned(),
        interruptible: reservation.interruptible.then_some(true),
        state: reservation.state(now).to_owned(),
        end_time: reservation.ends.map(Time),
    }
}
