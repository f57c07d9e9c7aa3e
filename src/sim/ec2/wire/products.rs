//! The price list of AWS on the wire: the on-demand prices of the region's instance types.
//!
//! Given filters as the Pricing API takes them; given back one product for each type that meets them, as
//! a text of JSON, in pages. The list knows Linux alone, without further software: machines under
//! shared tenancy, and bare metal, which the list has under dedicated.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::Desk;
use super::page;
use crate::cloud::facts::{BUILT_IN_REGION, InstanceFacts};
use crate::model::money::UsdPerHour;
use crate::sim::ec2::refusal::Refusal;

/// Products on a page at most, and unless the request says otherwise. Source: "GetProducts" in the API
/// reference of the Price List.
const MOST_ON_A_PAGE: i64 = 100;

pub(super) fn get(desk: &Desk<'_>) -> Result<Value, Refusal> {
    let service = desk.all.required("ServiceCode")?;
    let filters = filters(desk)?;
    let wanted = desk.all.number("MaxResults")?.unwrap_or(MOST_ON_A_PAGE);
    let wanted = usize::try_from(wanted)
        .ok()
        .filter(|_wanted| (1..=MOST_ON_A_PAGE).contains(&wanted))
        .ok_or_else(|| desk.all.wrong("MaxResults", "From 1 to 100."))?;
    let sold = desk.state.markets.sold();
    let mut found = BTreeMap::new();
    for (name, facts) in &sold.types {
        let Some(price) = sold.prices.on_demand.get(name) else {
            continue;
        };
        let attributes = attributes(facts, service);
        let meets = filters
            .iter()
            .all(|(field, value)| attributes.get(field) == Some(value));
        if meets {
            found.insert(name.to_string(), product(&attributes, *price).to_string());
        }
    }
    let after = page::after(&desk.all, "NextToken")?;
    let (products, next) = page::cut(found, after.as_deref(), wanted);
    let mut answer = json!({ "FormatVersion": "aws_v1", "PriceList": products });
    if let Some(next) = next {
        answer["NextToken"] = json!(next);
    }
    Ok(answer)
}

/// What each field must be; of EC2's kinds of filters only that of equal terms is known.
fn filters<'form>(desk: &Desk<'form>) -> Result<BTreeMap<&'form str, &'form str>, Refusal> {
    let mut filters = BTreeMap::new();
    for filter in desk.all.parts("Filters") {
        if filter.required("Type")? != "TERM_MATCH" {
            return Err(filter.wrong("Type", "Only TERM_MATCH is served."));
        }
        filters.insert(filter.required("Field")?, filter.required("Value")?);
    }
    Ok(filters)
}

fn attributes<'all>(
    facts: &'all InstanceFacts,
    service: &'all str,
) -> BTreeMap<&'all str, &'all str> {
    let (tenancy, family) = if facts.bare_metal {
        ("Dedicated", "Compute Instance (bare metal)")
    } else {
        ("Shared", "Compute Instance")
    };
    BTreeMap::from([
        ("instanceType", &*facts.name),
        ("regionCode", BUILT_IN_REGION),
        ("serviceCode", service),
        ("preInstalledSw", "NA"),
        ("operatingSystem", "Linux"),
        ("capacitystatus", "Used"),
        ("marketoption", "OnDemand"),
        ("tenancy", tenancy),
        ("productFamily", family),
    ])
}

fn product(attributes: &BTreeMap<&str, &str>, price: UsdPerHour) -> Value {
    json!({
        "product": {
            "productFamily": attributes.get("productFamily"),
            "attributes": attributes,
        },
        "serviceCode": "AmazonEC2",
        "terms": { "OnDemand": { "simulated.term": { "priceDimensions": { "simulated.term.hours": {
            "unit": "Hrs",
            "pricePerUnit": { "USD": price.to_string() },
        } } } } },
    })
}
