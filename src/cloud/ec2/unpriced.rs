//! Types that EC2 sells on demand and that nobody knows the price of: they are not bought so.
//!
//! Given markets, one after the other. Given back what there is to say of such types, when they are others than in the
//! market before.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::cloud::catalogue::Market;

/// Types named at most; some regions have hundreds.
const NAMED: usize = 5;

/// The types that were told of last.
#[derive(Debug, Default)]
pub(super) struct Unpriced(BTreeSet<Arc<str>>);

impl Unpriced {
    /// What to say of a market, unless it was said already.
    pub(super) fn news(&mut self, market: &Market) -> Option<String> {
        let found = of(market);
        if found == self.0 {
            return None;
        }
        self.0 = found;
        Some(self.told(market))
    }

    fn told(&self, market: &Market) -> String {
        let region = &market.region;
        if self.0.is_empty() {
            return format!("every instance type that EC2 sells on demand in {region} has a price");
        }
        let names = self.0.iter().take(NAMED).map(|name| &**name);
        let names: Vec<&str> = names.collect();
        let more = if self.0.len() > NAMED { ", ..." } else { "" };
        let why = if market.prices.is_built_in() {
            "only the prices that ship with Tonnage are known; allow pricing:GetProducts for the controller's role, let \
             it reach the Pricing endpoint, and do not switch --price-api off"
        } else {
            "the price list does not name them"
        };
        format!(
            "{} instance types that EC2 sells on demand in {region} have no known price and are not bought on demand \
             ({}{more}): {why}",
            self.0.len(),
            names.join(", ")
        )
    }
}

/// Types that are sold on demand in some zone and have no price.
fn of(market: &Market) -> BTreeSet<Arc<str>> {
    let types = market.types.iter();
    let unpriced = types.filter(|(name, facts)| {
        let zones = market.zones.get(*name);
        facts.on_demand
            && zones.is_some_and(|zones| !zones.is_empty())
            && !market.prices.on_demand.contains_key(*name)
    });
    unpriced.map(|(name, _facts)| Arc::clone(name)).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use jiff::Timestamp;

    use super::*;
    use crate::cloud::builtin;

    #[test]
    fn types_without_a_price_are_named_once_with_what_mends_it() {
        let mut market = builtin::market();
        let mut unpriced = Unpriced::default();
        assert_eq!(unpriced.news(&market), None, "the table has all prices");
        for name in ["c5.large", "c5.xlarge"] {
            market.prices.on_demand.remove(name);
        }
        let said = unpriced.news(&market).unwrap();
        for part in [
            "2 instance types",
            "(c5.large, c5.xlarge)",
            "allow pricing:GetProducts",
            "Pricing endpoint",
        ] {
            assert!(said.contains(part), "{part}: {said}");
        }
        assert_eq!(unpriced.news(&market), None, "it was said");
        market.prices.on_demand.remove("c5.2xlarge");
        let said = unpriced.news(&market).unwrap();
        assert!(said.starts_with("3 instance types"), "{said}");
        let said = unpriced.news(&builtin::market()).unwrap();
        assert!(said.starts_with("every instance type"), "{said}");
    }

    #[test]
    fn a_price_list_that_leaves_types_out_is_told_from_one_that_was_not_read() {
        let mut market = builtin::market();
        let at = Timestamp::UNIX_EPOCH;
        market
            .prices
            .set_on_demand("eu-west-1", BTreeMap::new(), at);
        let said = Unpriced::default().news(&market).unwrap();
        assert!(said.contains("the price list does not name them"), "{said}");
        assert!(said.contains(", ...)"), "{said}");
    }

    #[test]
    fn what_is_not_sold_on_demand_needs_no_price() {
        let mut market = builtin::market();
        market.prices.on_demand.remove("c5.large");
        market.zones.remove("c5.large");
        assert_eq!(Unpriced::default().news(&market), None);
    }
}
