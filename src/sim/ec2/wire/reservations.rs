//! Capacity reservations on the wire.

use std::collections::BTreeMap;

use super::Desk;
use super::answer::{Element, set, tag_set, text};
use super::filter::Filters;
use super::page::{Length, page};
use crate::cloud::reservations::Described;
use crate::sim::ec2::refusal::Refusal;

/// What reservations can be filtered by beside tags.
const FILTERS: [&str; 5] = [
    "availability-zone",
    "instance-match-criteria",
    "instance-type",
    "owner-id",
    "state",
];

pub(super) fn describe(desk: &Desk<'_>) -> Result<Vec<Element>, Refusal> {
    let filters = Filters::read(&desk.all, &FILTERS)?;
    let asked = desk.all.texts("CapacityReservationId");
    let active = desk.state.active_reservations();
    let is_known = |id: &&str| active.iter().any(|reservation| reservation.id == **id);
    if let Some(unknown) = asked.iter().find(|id| !is_known(id)) {
        return Err(Refusal::new(
            "InvalidCapacityReservationId.NotFound",
            format!("The capacity reservation ID '{unknown}' does not exist"),
        ));
    }
    let found: BTreeMap<String, Vec<Element>> = active
        .iter()
        .filter(|reservation| asked.is_empty() || asked.contains(&reservation.id.as_str()))
        .filter(|reservation| filters.meet(&reservation.tags, |filter| has(reservation, filter)))
        .map(|reservation| (reservation.id.clone(), described(reservation)))
        .collect();
    let length = Length {
        least: 1,
        ..Length::OLD
    };
    let page = page(found, &desk.all, length)?;
    let mut answer = vec![set("capacityReservationSet", page.things)];
    answer.extend(page.next);
    Ok(answer)
}

fn has(reservation: &Described, filter: &str) -> Vec<String> {
    let text = match filter {
        "availability-zone" => &reservation.zone,
        "instance-match-criteria" => &reservation.matching,
        "instance-type" => &reservation.instance_type,
        "owner-id" => &reservation.owner,
        _ => "active",
    };
    vec![text.to_owned()]
}

fn described(reservation: &Described) -> Vec<Element> {
    let mut found = vec![
        text("capacityReservationId", &reservation.id),
        text("ownerId", &reservation.owner),
        text("instanceType", &reservation.instance_type),
        text("instancePlatform", "Linux/UNIX"),
        text("availabilityZone", &reservation.zone),
        text("tenancy", "default"),
        text("totalInstanceCount", reservation.total),
        text("availableInstanceCount", reservation.free),
        text("state", "active"),
        text("instanceMatchCriteria", &reservation.matching),
        text("reservationType", reservation.kind.as_str()),
        text("interruptible", reservation.interruptible),
        tag_set(&reservation.tags),
    ];
    match reservation.ends {
        Some(ends) => {
            found.push(text("endDateType", "limited"));
            found.push(text("endDate", super::time(ends)));
        }
        None => found.push(text("endDateType", "unlimited")),
    }
    found
}
