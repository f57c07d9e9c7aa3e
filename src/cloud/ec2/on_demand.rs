//! On-demand prices from the AWS Price List.

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_sdk_pricing::types::{Filter, FilterType};

use super::Api;
use super::call::failed;
use crate::cloud::buckets::Bucket;
use crate::cloud::{CloudError, errors, prices};
use crate::model::money::UsdPerHour;

const OPERATION: &str = "GetProducts";

/// The region whose Pricing endpoint serves a region: there are only a few.
pub(super) fn endpoint_region(region: &str) -> &'static str {
    match region.split('-').next() {
        Some("ap") => "ap-south-1",
        Some("eu") => "eu-central-1",
        Some("cn") => "cn-northwest-1",
        _ => "us-east-1",
    }
}

/// Prices by type: Linux, shared tenancy, and bare metal, which the list has under dedicated.
pub(super) async fn on_demand(api: &Api) -> Result<BTreeMap<Arc<str>, UsdPerHour>, CloudError> {
    let (shared, metal) = futures::future::try_join(
        prices_of(api, "Shared", "Compute Instance"),
        prices_of(api, "Dedicated", "Compute Instance (bare metal)"),
    )
    .await?;
    if shared.is_empty() {
        return Err(errors::cloud_error(
            OPERATION,
            errors::NO_ANSWER,
            "the price list of the region is empty",
            None,
        ));
    }
    Ok(metal.into_iter().chain(shared).collect())
}

async fn prices_of(
    api: &Api,
    tenancy: &str,
    family: &str,
) -> Result<BTreeMap<Arc<str>, UsdPerHour>, CloudError> {
    let mut request = api
        .pricing
        .get_products()
        .service_code("AmazonEC2")
        .max_results(100);
    for (field, value) in [
        ("regionCode", &*api.region),
        ("serviceCode", "AmazonEC2"),
        ("preInstalledSw", "NA"),
        ("operatingSystem", "Linux"),
        ("capacitystatus", "Used"),
        ("marketoption", "OnDemand"),
        ("tenancy", tenancy),
        ("productFamily", family),
    ] {
        let filter = Filter::builder()
            .r#type(FilterType::TermMatch)
            .field(field)
            .value(value)
            .build()
            .map_err(|error| errors::refused(OPERATION, error.to_string()))?;
        request = request.filters(filter);
    }
    let mut found = BTreeMap::new();
    let mut pages = request.into_paginator().send();
    loop {
        api.buckets.take(Bucket::Other, 1).await;
        let Some(page) = pages.next().await else {
            return Ok(found);
        };
        let page = page.map_err(|error| failed(OPERATION, &error))?;
        found.extend(
            page.price_list()
                .iter()
                .filter_map(|entry| prices::read_list_entry(entry)),
        );
    }
}
