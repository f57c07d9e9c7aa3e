//! Prices of instances: on demand by type, spot by type and zone.
//!
//! Given: the built-in table, entries of the AWS Price List, and rows of the spot price history.
//! Given back: the price of an offering, or nothing where none is known. A price is never guessed:
//! until spot prices were read, spot counts at the on-demand price, which is its ceiling.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde::Deserialize;

use super::facts;
use crate::model::money::UsdPerHour;
use crate::model::offering::CapacityType;

/// What is known of prices in a region.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PriceTable {
    /// The region that the on-demand prices are of.
    pub region: String,
    /// On-demand prices by type: Linux, shared tenancy.
    pub on_demand: BTreeMap<Arc<str>, UsdPerHour>,
    /// When the on-demand prices were true.
    pub on_demand_at: Timestamp,
    /// Spot prices by type and zone.
    pub spot: BTreeMap<Arc<str>, BTreeMap<Arc<str>, UsdPerHour>>,
    /// When the spot prices were read; `None` until they were.
    pub spot_at: Option<Timestamp>,
}

impl PriceTable {
    /// The prices that ship with the binary: on-demand in us-east-1, dated.
    pub fn built_in() -> Self {
        Self {
            region: facts::BUILT_IN_REGION.to_owned(),
            on_demand: facts::built_in().on_demand.clone(),
            on_demand_at: built_in_at(),
            spot: BTreeMap::new(),
            spot_at: None,
        }
    }

    /// True while no on-demand price is known but those that ship with the binary.
    pub fn is_built_in(&self) -> bool {
        self.on_demand_at == built_in_at()
    }

    /// The price of an offering; `None` where none is known, so that it cannot be bought blindly.
    pub fn of(
        &self,
        instance_type: &str,
        zone: &str,
        capacity_type: CapacityType,
    ) -> Option<UsdPerHour> {
        let on_demand = self.on_demand.get(instance_type).copied();
        match capacity_type {
            CapacityType::OnDemand => on_demand,
            CapacityType::Spot if self.spot_at.is_none() => on_demand,
            CapacityType::Spot => self
                .spot
                .get(instance_type)
                .and_then(|zones| zones.get(zone))
                .copied(),
            // Paid for whether used or not.
            CapacityType::Reserved => Some(UsdPerHour::ZERO),
        }
    }

    /// Replaces on-demand prices of a region. Types that the list leaves out keep their price if it
    /// is of the same region, and lose it otherwise.
    pub fn set_on_demand(
        &mut self,
        region: &str,
        prices: BTreeMap<Arc<str>, UsdPerHour>,
        at: Timestamp,
    ) {
        if self.region != region {
            region.clone_into(&mut self.region);
            self.on_demand.clear();
        }
        self.on_demand.extend(prices);
        self.on_demand_at = at;
    }
}

fn built_in_at() -> Timestamp {
    facts::BUILT_IN_PRICED_AT
        .parse()
        .expect("the date is a constant and a test reads it")
}

/// One row of the spot price history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpotRow {
    /// For example `c5.2xlarge`.
    pub instance_type: Arc<str>,
    /// For example `us-east-1a`.
    pub zone: Arc<str>,
    /// US dollars per hour.
    pub price: UsdPerHour,
    /// When the price became true.
    pub at: Timestamp,
}

/// The newest price of each type and zone; prices of zero are no prices.
pub fn newest_spot_prices(
    rows: impl IntoIterator<Item = SpotRow>,
) -> BTreeMap<Arc<str>, BTreeMap<Arc<str>, UsdPerHour>> {
    let mut newest: BTreeMap<(Arc<str>, Arc<str>), (Timestamp, UsdPerHour)> = BTreeMap::new();
    for row in rows {
        if row.price <= UsdPerHour::ZERO {
            continue;
        }
        let entry = newest
            .entry((row.instance_type, row.zone))
            .or_insert((row.at, row.price));
        if row.at > entry.0 {
            *entry = (row.at, row.price);
        }
    }
    let mut prices: BTreeMap<Arc<str>, BTreeMap<Arc<str>, UsdPerHour>> = BTreeMap::new();
    for ((instance_type, zone), (_at, price)) in newest {
        prices.entry(instance_type).or_default().insert(zone, price);
    }
    prices
}

#[derive(Debug, Deserialize)]
struct ListEntry {
    product: Product,
    terms: Terms,
}

#[derive(Debug, Deserialize)]
struct Product {
    attributes: ProductAttributes,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ProductAttributes {
    instance_type: String,
}

#[derive(Debug, Deserialize)]
struct Terms {
    #[serde(rename = "OnDemand", default)]
    on_demand: BTreeMap<String, Term>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Term {
    #[serde(default)]
    price_dimensions: BTreeMap<String, Dimension>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Dimension {
    #[serde(default)]
    price_per_unit: BTreeMap<String, String>,
}

/// Type and on-demand price in an entry of the AWS Price List (a JSON text), if it has both in US
/// dollars and the price is not zero.
pub fn read_list_entry(json: &str) -> Option<(Arc<str>, UsdPerHour)> {
    let entry: ListEntry = serde_json::from_str(json).ok()?;
    let price = entry
        .terms
        .on_demand
        .values()
        .flat_map(|term| term.price_dimensions.values())
        .filter_map(|dimension| dimension.price_per_unit.get("USD"))
        .filter_map(|text| UsdPerHour::parse(text).ok())
        .find(|price| *price > UsdPerHour::ZERO)?;
    Some((entry.product.attributes.instance_type.into(), price))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn spot_counts_at_its_ceiling_until_it_was_read() {
        let mut prices = PriceTable::built_in();
        let spot = |prices: &PriceTable, zone| prices.of("c5.xlarge", zone, CapacityType::Spot);
        assert_eq!(spot(&prices, "us-east-1a").unwrap().to_string(), "0.170");
        prices.spot_at = Some(at("2026-11-25T10:00:00Z"));
        prices.spot = newest_spot_prices([
            SpotRow {
                instance_type: "c5.xlarge".into(),
                zone: "us-east-1a".into(),
                price: UsdPerHour::parse("0.07").unwrap(),
                at: at("2026-11-25T09:00:00Z"),
            },
            SpotRow {
                instance_type: "c5.xlarge".into(),
                zone: "us-east-1a".into(),
                price: UsdPerHour::parse("0.08").unwrap(),
                at: at("2026-11-25T08:00:00Z"),
            },
        ]);
        assert_eq!(spot(&prices, "us-east-1a").unwrap().to_string(), "0.070");
        assert_eq!(spot(&prices, "us-east-1b"), None);
    }

    #[test]
    fn prices_of_another_region_do_not_mix() {
        let mut prices = PriceTable::built_in();
        assert!(prices.is_built_in());
        prices.set_on_demand(
            "eu-west-1",
            BTreeMap::from([("c5.large".into(), UsdPerHour::parse("0.096").unwrap())]),
            at("2026-11-25T10:00:00Z"),
        );
        assert!(!prices.is_built_in());
        assert_eq!(prices.region, "eu-west-1");
        assert_eq!(
            prices.of("c5.xlarge", "eu-west-1a", CapacityType::OnDemand),
            None
        );
        assert_eq!(
            prices
                .of("c5.large", "eu-west-1a", CapacityType::OnDemand)
                .unwrap()
                .to_string(),
            "0.096"
        );
    }

    #[test]
    fn reads_an_entry_of_the_price_list() {
        let entry = r#"{"product":{"productFamily":"Compute Instance","attributes":{"instanceType":
            "c5.xlarge","memory":"8 GiB"}},"terms":{"OnDemand":{"X.J":{"priceDimensions":{"X.J.6":{
            "unit":"Hrs","pricePerUnit":{"USD":"0.1700000000"}}}}}}}"#;
        let (name, price) = read_list_entry(entry).unwrap();
        assert_eq!((&*name, price.to_string().as_str()), ("c5.xlarge", "0.170"));
        assert_eq!(read_list_entry("{}"), None);
        assert_eq!(
            read_list_entry(&entry.replace("0.1700000000", "0.0000000000")),
            None
        );
    }
}
