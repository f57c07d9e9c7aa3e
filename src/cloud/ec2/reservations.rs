//! The active capacity reservations of the account, as EC2 describes them.
//!
//! Given: nothing. Given back: all of them, those that other accounts share with this one included; which
//! of them a node class selects is decided elsewhere. There are few, so that one call serves all terms.

use aws_sdk_ec2::types as ec2;
use jiff::Timestamp;

use super::Api;
use super::call::{failed, filter, tag_map};
use crate::cloud::CloudError;
use crate::cloud::buckets::Bucket;
use crate::cloud::reservations::Described;
use crate::model::reservation::ReservationKind;

const DESCRIBE: &str = "DescribeCapacityReservations";

/// Lists them.
pub(super) async fn active(api: &Api) -> Result<Vec<Described>, CloudError> {
    let mut pages = api
        .ec2
        .describe_capacity_reservations()
        .filters(filter("state", ["active"]))
        .into_paginator()
        .page_size(1000)
        .send();
    let mut found = Vec::new();
    loop {
        api.buckets.take(Bucket::Describe, 1).await;
        let Some(page) = pages.next().await else {
            return Ok(found);
        };
        let page = page.map_err(|error| failed(DESCRIBE, &error))?;
        let shown = page.capacity_reservations().iter();
        found.extend(shown.filter_map(described));
    }
}

/// One of them; `None` for a kind that is not known, or with something left out that every one has.
fn described(shown: &ec2::CapacityReservation) -> Option<Described> {
    let kind = match shown.reservation_type() {
        None | Some(ec2::CapacityReservationType::Default) => ReservationKind::Standard,
        Some(ec2::CapacityReservationType::CapacityBlock) => ReservationKind::CapacityBlock,
        Some(_unknown) => return None,
    };
    let count = |count: Option<i32>| count.and_then(|count| u32::try_from(count).ok());
    Some(Described {
        id: shown.capacity_reservation_id()?.to_owned(),
        owner: shown.owner_id().unwrap_or("").to_owned(),
        instance_type: shown.instance_type()?.to_owned(),
        zone: shown.availability_zone()?.to_owned(),
        matching: shown.instance_match_criteria()?.as_str().to_owned(),
        kind,
        interruptible: shown.interruptible().unwrap_or(false),
        ends: shown
            .end_date()
            .and_then(|ends| Timestamp::from_second(ends.secs()).ok()),
        total: count(shown.total_instance_count())?,
        free: count(shown.available_instance_count())?,
        tags: tag_map(shown.tags()),
    })
}
