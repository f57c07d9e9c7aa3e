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

/// Prices by type.
type Prices = BTreeMap<Arc<str>, UsdPerHour>;

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
pub(super) async fn on_demand(api: &Api) -> Result<Prices, CloudError> {
    let (shared, metal) = futures::future::try_join(
        prices_of(api, "Shared", "Compute Instance"),
        prices_of(api, "Dedicated", "Compute Instance (bare metal)"),
    )
    .await?;
    of_region(&api.region, shared, metal)
}

/// All prices of a region, if there are any.
fn of_region(region: &str, shared: Prices, metal: Prices) -> Result<Prices, CloudError> {
    if shared.is_empty() {
        return Err(errors::cloud_error(
            OPERATION,
            errors::NO_ANSWER,
            &format!(
                "the price list of {region} names no price in US dollars; the last known prices are used, at first \
                 the built-in ones of us-east-1"
            ),
            None,
        ));
    }
    Ok(metal.into_iter().chain(shared).collect())
}

async fn prices_of(api: &Api, tenancy: &str, family: &str) -> Result<Prices, CloudError> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_without_dollars_says_which_prices_are_used() {
        let error = of_region("cn-north-1", Prices::new(), Prices::new()).unwrap_err();
        let said = error.to_string();
        assert!(
            said.contains("cn-north-1 names no price in US dollars"),
            "{said}"
        );
        assert!(said.contains("us-east-1"), "{said}");
    }

    #[test]
    fn bare_metal_is_beside_the_rest() {
        let prices = |name: &str, price: &str| {
            Prices::from([(Arc::from(name), UsdPerHour::parse(price).unwrap())])
        };
        let (shared, metal) = (prices("c5.large", "0.085"), prices("c5.metal", "4.08"));
        let all = of_region("us-east-1", shared, metal).unwrap();
        assert_eq!(all.len(), 2);
    }
}
