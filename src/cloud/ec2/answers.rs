//! What EC2 says that it sells: types, where they are offered, spot prices.
//!
//! Given: the API. Given back: all pages of one answer, or an error; an answer that names nothing is an
//! error that asking again may mend. Nothing is remembered here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use aws_sdk_ec2::types::LocationType;
use jiff::Timestamp;

use super::Api;
use super::call::{failed, filter};
use super::types::facts_of;
use crate::cloud::buckets::Bucket;
use crate::cloud::facts::InstanceFacts;
use crate::cloud::prices::{self, SpotRow};
use crate::cloud::{CloudError, errors};
use crate::model::money::UsdPerHour;

/// Types by name.
pub(super) type Types = BTreeMap<Arc<str>, Arc<InstanceFacts>>;
/// Zones that offer a type.
pub(super) type Zones = BTreeMap<Arc<str>, BTreeSet<Arc<str>>>;
/// Spot prices by type and zone.
pub(super) type SpotPrices = BTreeMap<Arc<str>, BTreeMap<Arc<str>, UsdPerHour>>;

/// What the region's types are, by name.
pub(super) async fn types(api: &Api) -> Result<Types, CloudError> {
    let mut found = BTreeMap::new();
    let mut pages = api
        .ec2
        .describe_instance_types()
        .filters(filter("supported-virtualization-type", ["hvm"]))
        .filters(filter(
            "processor-info.supported-architecture",
            ["x86_64", "arm64"],
        ))
        .into_paginator()
        .page_size(100)
        .send();
    loop {
        api.buckets.take(Bucket::Describe, 1).await;
        let Some(page) = pages.next().await else {
            return with_content("DescribeInstanceTypes", found);
        };
        let page = page.map_err(|error| failed("DescribeInstanceTypes", &error))?;
        let facts = page.instance_types().iter().filter_map(facts_of);
        found.extend(facts.map(|facts| (Arc::clone(&facts.name), Arc::new(facts))));
    }
}

/// Which zones offer a type.
pub(super) async fn zones(api: &Api) -> Result<Zones, CloudError> {
    let mut zones = Zones::new();
    let mut pages = api
        .ec2
        .describe_instance_type_offerings()
        .location_type(LocationType::AvailabilityZone)
        .into_paginator()
        .page_size(1000)
        .send();
    loop {
        api.buckets.take(Bucket::Describe, 1).await;
        let Some(page) = pages.next().await else {
            return with_content("DescribeInstanceTypeOfferings", zones);
        };
        let page = page.map_err(|error| failed("DescribeInstanceTypeOfferings", &error))?;
        for offering in page.instance_type_offerings() {
            if let (Some(instance_type), Some(zone)) =
                (offering.instance_type(), offering.location())
            {
                zones
                    .entry(instance_type.as_str().into())
                    .or_default()
                    .insert(zone.into());
            }
        }
    }
}

/// Spot prices that hold now, by type and zone.
pub(super) async fn spot_prices(api: &Api, now: Timestamp) -> Result<SpotPrices, CloudError> {
    let mut rows = Vec::new();
    // A history that starts now is one row for each type and zone: the price that holds.
    let mut pages = api
        .ec2
        .describe_spot_price_history()
        .start_time(aws_smithy_types::DateTime::from_secs(now.as_second()))
        .product_descriptions("Linux/UNIX")
        .product_descriptions("Linux/UNIX (Amazon VPC)")
        .into_paginator()
        .page_size(1000)
        .send();
    loop {
        api.buckets.take(Bucket::Describe, 1).await;
        let Some(page) = pages.next().await else {
            let found = prices::newest_spot_prices(rows);
            return with_content("DescribeSpotPriceHistory", found);
        };
        let page = page.map_err(|error| failed("DescribeSpotPriceHistory", &error))?;
        rows.extend(page.spot_price_history().iter().filter_map(|row| {
            Some(SpotRow {
                instance_type: row.instance_type()?.as_str().into(),
                zone: row.availability_zone()?.into(),
                price: UsdPerHour::parse(row.spot_price()?).ok()?,
                at: Timestamp::from_second(row.timestamp()?.secs()).ok()?,
            })
        }));
    }
}

/// An answer, unless it names nothing: that of a region that sells machines never does.
fn with_content<K, V>(
    operation: &'static str,
    found: BTreeMap<K, V>,
) -> Result<BTreeMap<K, V>, CloudError> {
    if found.is_empty() {
        return Err(errors::cloud_error(
            operation,
            errors::NO_ANSWER,
            "EC2's answer was empty, which is not believed; it is asked again",
            None,
        ));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_names_nothing_is_asked_for_again() {
        let error = with_content("DescribeInstanceTypes", Types::new()).unwrap_err();
        assert!(errors::is_retryable(error.class), "{error}");
        let zones = Zones::from([("c5.large".into(), BTreeSet::new())]);
        let found = with_content("DescribeInstanceTypeOfferings", zones.clone());
        assert_eq!(found, Ok(zones));
    }
}
