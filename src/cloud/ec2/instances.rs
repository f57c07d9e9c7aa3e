//! Instances: listing, terminating, tagging.
//!
//! A listing is complete or an error: what decides over orphans must never see half of a fleet. An instance that is
//! asked for by its id is shown though it has lost the cluster's tag, or it would count as gone while it costs money;
//! one that carries another cluster's is none of ours.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_ec2::types::{self as ec2, Filter, InstanceLifecycleType, InstanceStateName};
use jiff::Timestamp;

use super::Api;
use super::call::{failed, filter, tag_list, tag_map};
use crate::cloud::buckets::Bucket;
use crate::cloud::{CloudError, InstanceQuery, errors, tags};
use crate::model::instance::{Ending, Instance, InstanceState};
use crate::model::launch::ErrorClass;
use crate::model::offering::{CapacityType, OfferingKey};

const DESCRIBE: &str = "DescribeInstances";
const TERMINATE: &str = "TerminateInstances";
const TAG: &str = "CreateTags";
/// Values that one filter takes at most.
const FILTER_VALUES: usize = 200;

/// Lists instances in id order.
pub(super) async fn list(api: &Api, query: &InstanceQuery) -> Result<Vec<Instance>, CloudError> {
    let ours = &api.settings.cluster.name;
    let cluster = filter(format!("tag:{}", tags::CLUSTER), [ours]);
    let mut found = BTreeMap::new();
    match query {
        InstanceQuery::All => {
            let alive = ["pending", "running", "shutting-down", "stopping", "stopped"];
            let filters = vec![cluster, filter("instance-state-name", alive)];
            describe(api, filters, &mut found).await?;
        }
        InstanceQuery::Batch(batch) => {
            let filters = vec![cluster, filter(format!("tag:{}", tags::BATCH), [batch])];
            describe(api, filters, &mut found).await?;
        }
        InstanceQuery::Ids(ids) => {
            // A filter, not a list of ids: of those one unknown id would fail the call.
            let ids: Vec<&String> = ids.iter().collect();
            for portion in ids.chunks(FILTER_VALUES) {
                let filters = vec![filter("instance-id", portion.iter().copied())];
                describe(api, filters, &mut found).await?;
            }
            found.retain(|_id, instance| !instance.is_of_another_cluster(ours));
        }
    }
    Ok(found.into_values().collect())
}

async fn describe(
    api: &Api,
    filters: Vec<Filter>,
    found: &mut BTreeMap<String, Instance>,
) -> Result<(), CloudError> {
    let mut pages = api
        .ec2
        .describe_instances()
        .set_filters(Some(filters))
        .into_paginator()
        .page_size(1000)
        .send();
    let mut unreadable = BTreeSet::new();
    loop {
        api.buckets.take(Bucket::Describe, 1).await;
        let Some(page) = pages.next().await else {
            break;
        };
        let page = page.map_err(|error| failed(DESCRIBE, &error))?;
        for reservation in page.reservations() {
            for described in reservation.instances() {
                if let Some(instance) = instance_of(described) {
                    found.insert(instance.id.clone(), instance);
                } else {
                    unreadable.insert(described.instance_id().unwrap_or("").to_owned());
                }
            }
        }
    }
    if unreadable.is_empty() {
        return Ok(());
    }
    let ids: Vec<String> = unreadable.into_iter().collect();
    Err(errors::cloud_error(
        DESCRIBE,
        errors::NO_ANSWER,
        &format!("EC2 left out what every instance has of {}", ids.join(", ")),
        None,
    ))
}

fn instance_of(described: &ec2::Instance) -> Option<Instance> {
    let zone = described.placement()?.availability_zone()?;
    let is_spot = described.instance_lifecycle() == Some(&InstanceLifecycleType::Spot)
        || described.spot_instance_request_id().is_some();
    // One that EC2 placed in an open reservation by itself was launched on-demand, and one whose reservation
    // is over is billed so from then on, though it was asked for in one.
    let asked_for_one = described
        .capacity_reservation_specification()
        .and_then(|asked| {
            asked
                .capacity_reservation_target()?
                .capacity_reservation_id()
        })
        .is_some();
    let is_reserved = asked_for_one && described.capacity_reservation_id().is_some();
    let capacity_type = if is_spot {
        CapacityType::Spot
    } else if is_reserved {
        CapacityType::Reserved
    } else {
        CapacityType::OnDemand
    };
    Some(Instance {
        id: described.instance_id()?.to_owned(),
        offering: OfferingKey::new(described.instance_type()?.as_str(), zone, capacity_type),
        state: state_of(described.state()?.name()?)?,
        launched: Timestamp::from_second(described.launch_time()?.secs()).ok()?,
        image_id: described.image_id().unwrap_or("").to_owned(),
        partition: described
            .placement()?
            .partition_number()
            .and_then(|number| u32::try_from(number).ok())
            .filter(|number| *number > 0),
        subnet_id: described.subnet_id().unwrap_or("").to_owned(),
        private_dns_name: described.private_dns_name().unwrap_or("").to_owned(),
        tags: tag_map(described.tags()),
        ending: described.state_reason().and_then(ending_of),
    })
}

fn ending_of(reason: &ec2::StateReason) -> Option<Ending> {
    Some(Ending {
        code: reason.code()?.to_owned(),
        message: reason.message().unwrap_or("").to_owned(),
    })
}

const fn state_of(name: &InstanceStateName) -> Option<InstanceState> {
    Some(match name {
        InstanceStateName::Pending => InstanceState::Pending,
        InstanceStateName::Running => InstanceState::Running,
        InstanceStateName::ShuttingDown => InstanceState::ShuttingDown,
        InstanceStateName::Terminated => InstanceState::Terminated,
        InstanceStateName::Stopping => InstanceState::Stopping,
        InstanceStateName::Stopped => InstanceState::Stopped,
        _ => return None,
    })
}

/// Terminates instances in one call; one that is not there is terminated.
pub(super) async fn terminate(api: &Api, instance_ids: &[String]) -> Result<(), CloudError> {
    if instance_ids.is_empty() {
        return Ok(());
    }
    let count = u32::try_from(instance_ids.len()).unwrap_or(u32::MAX);
    api.buckets.take(Bucket::Terminate, 1).await;
    api.buckets.take(Bucket::InstancesEnded, count).await;
    let answer = api
        .ec2
        .terminate_instances()
        .set_instance_ids(Some(instance_ids.to_vec()))
        .send()
        .await
        .map_err(|error| failed(TERMINATE, &error));
    match answer {
        Ok(_ending) => Ok(()),
        Err(error) if error.class == ErrorClass::NotFound && instance_ids.len() == 1 => Ok(()),
        Err(error) => Err(error),
    }
}

/// Adds tags to an instance.
pub(super) async fn tag(
    api: &Api,
    instance_id: &str,
    tags: &BTreeMap<String, String>,
) -> Result<(), CloudError> {
    api.buckets.take(Bucket::Tag, 1).await;
    api.ec2
        .create_tags()
        .resources(instance_id)
        .set_tags(Some(tag_list(tags)))
        .send()
        .await
        .map(|_tagged| ())
        .map_err(|error| failed(TAG, &error))
}
