//! What can be bought through a node class.
//!
//! Given: facts of types, the zones that offer them, prices, and what the node class allows. Given
//! back: a [`Catalogue`] of types with capacity and labels, and offerings with price and fees, in
//! key order. Nothing here remembers shortages; whoever does marks offerings afterwards.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::model::money::UsdPerHour;
use crate::model::node_class::Accelerator;
use crate::model::offering::{
    CapacityType, Catalogue, InstanceType, Offering, OfferingKey, Outlook,
};

use super::capacity::{self, NodeShape};
use super::facts::InstanceFacts;
use super::prices::PriceTable;
use super::{fees, labels};

/// Volumes that nodes on Nitro machines may attach when EC2 does not say, root included.
const DEFAULT_ATTACHMENTS: u32 = 27;

/// What EC2 sells in a region.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Market {
    /// For example `us-east-1`.
    pub region: String,
    /// Types by name.
    pub types: BTreeMap<Arc<str>, Arc<InstanceFacts>>,
    /// Zones that offer a type.
    pub zones: BTreeMap<Arc<str>, BTreeSet<Arc<str>>>,
    /// Prices.
    pub prices: PriceTable,
}

/// What a node class allows, and what its nodes cost beside the instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// What changes capacity.
    pub shape: NodeShape,
    /// Architectures that there is an image for, in Kubernetes' words, and the accelerators that the
    /// images of each serve.
    pub images: BTreeMap<String, BTreeSet<Accelerator>>,
    /// Zones that there is a subnet in; `true` where nodes get a public IPv4 address.
    pub zones: BTreeMap<String, bool>,
    /// The rate of the node's volumes.
    pub volume_fee: UsdPerHour,
    /// Only types with the Nitro hypervisor can be launched.
    pub nitro_only: bool,
}

/// Everything in the market that the terms allow and that has a price.
pub fn build(market: &Market, terms: &Terms) -> Catalogue {
    let mut catalogue = Catalogue {
        types: BTreeMap::new(),
        offerings: Vec::new(),
        price_region: market.prices.region.clone(),
        on_demand_priced_at: Some(market.prices.on_demand_at),
        spot_priced_at: market.prices.spot_at,
    };
    for (name, facts) in &market.types {
        if !is_allowed(facts, terms) {
            continue;
        }
        let before = catalogue.offerings.len();
        add_offerings(&mut catalogue.offerings, market, terms, facts);
        if catalogue.offerings.len() > before {
            let instance_type = instance_type(facts, terms, &market.region);
            catalogue
                .types
                .insert(Arc::clone(name), Arc::new(instance_type));
        }
    }
    catalogue
        .offerings
        .sort_unstable_by(|one, other| one.key.cmp(&other.key));
    catalogue
}

fn is_allowed(facts: &InstanceFacts, terms: &Terms) -> bool {
    let images = terms.images.get(facts.architecture.as_str());
    images.is_some_and(|served| served.contains(&facts.accelerator()))
        && (!terms.nitro_only || facts.hypervisor == "nitro")
}

fn instance_type(facts: &InstanceFacts, terms: &Terms, region: &str) -> InstanceType {
    let attachments = facts.volume_attachments.unwrap_or(DEFAULT_ATTACHMENTS);
    InstanceType {
        name: Arc::clone(&facts.name),
        labels: labels::of_type(facts, region),
        capacity: capacity::capacity(facts, &terms.shape),
        overhead: capacity::overhead(facts, &terms.shape),
        volume_limit: attachments.saturating_sub(1),
    }
}

fn add_offerings(
    offerings: &mut Vec<Offering>,
    market: &Market,
    terms: &Terms,
    facts: &InstanceFacts,
) {
    let Some(offered) = market.zones.get(&facts.name) else {
        return;
    };
    let capacity_types = [
        (CapacityType::Spot, facts.spot),
        (CapacityType::OnDemand, facts.on_demand),
    ];
    for zone in offered {
        let Some(public_address) = terms.zones.get(&**zone) else {
            continue;
        };
        let address_fee = if *public_address {
            fees::PUBLIC_ADDRESS
        } else {
            UsdPerHour::ZERO
        };
        for (capacity_type, supported) in capacity_types {
            let price = market.prices.of(&facts.name, zone, capacity_type);
            let Some(price) = price.filter(|_price| supported) else {
                continue;
            };
            offerings.push(Offering {
                key: OfferingKey {
                    instance_type: Arc::clone(&facts.name),
                    zone: Arc::clone(zone),
                    capacity_type,
                },
                price,
                fees: terms.volume_fee + address_fee,
                available: true,
                outlook: Outlook::default(),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cloud::builtin;

    fn terms() -> Terms {
        Terms {
            shape: NodeShape::default(),
            images: BTreeMap::from([("amd64".to_owned(), Accelerator::all())]),
            zones: BTreeMap::from([
                ("us-east-1a".to_owned(), false),
                ("us-east-1b".to_owned(), true),
            ]),
            volume_fee: UsdPerHour::parse("0.01").unwrap(),
            nitro_only: false,
        }
    }

    fn offering<'all>(catalogue: &'all Catalogue, key: &str) -> Option<&'all Offering> {
        let key: OfferingKey = key.parse().unwrap();
        catalogue
            .offerings
            .iter()
            .find(|offering| offering.key == key)
    }

    #[test]
    fn offerings_carry_price_and_fees_and_stay_in_the_class_zones() {
        let catalogue = build(&builtin::market(), &terms());
        let in_a = offering(&catalogue, "c5.xlarge/us-east-1a/on-demand").unwrap();
        let in_b = offering(&catalogue, "c5.xlarge/us-east-1b/on-demand").unwrap();
        assert_eq!(in_a.total_price().to_string(), "0.180");
        assert_eq!(in_b.total_price().to_string(), "0.185");
        assert_eq!(offering(&catalogue, "c5.xlarge/us-east-1c/on-demand"), None);
        assert_eq!(catalogue.price_region, "us-east-1");
        assert!(
            catalogue
                .offerings
                .windows(2)
                .all(|pair| pair[0].key < pair[1].key)
        );
    }

    #[test]
    fn only_architectures_with_an_image_are_offered() {
        let catalogue = build(&builtin::market(), &terms());
        assert!(
            catalogue
                .types
                .values()
                .all(|instance_type| { instance_type.labels["kubernetes.io/arch"] == "amd64" })
        );
        let nothing = Terms {
            images: BTreeMap::new(),
            ..terms()
        };
        assert!(build(&builtin::market(), &nothing).types.is_empty());
    }

    #[test]
    fn machines_whose_accelerator_no_image_serves_are_not_offered() {
        let only = |accelerator: Accelerator| Terms {
            images: BTreeMap::from([("amd64".to_owned(), BTreeSet::from([accelerator]))]),
            ..terms()
        };
        let plain = build(&builtin::market(), &only(Accelerator::None)).types;
        assert!(plain.contains_key("c5.xlarge") && !plain.contains_key("g4dn.xlarge"));
        let nvidia = build(&builtin::market(), &only(Accelerator::Nvidia)).types;
        assert!(nvidia.contains_key("g4dn.xlarge") && !nvidia.contains_key("c5.xlarge"));
        for (name, instance_type) in build(&builtin::market(), &terms()).types {
            let facts = &builtin::market().types[&name];
            assert_eq!(instance_type.accelerator(), facts.accelerator(), "{name}");
        }
    }

    #[test]
    fn every_offering_names_a_type_and_every_type_has_an_offering() {
        let catalogue = build(&builtin::market(), &terms());
        let named: BTreeSet<_> = catalogue
            .offerings
            .iter()
            .map(|offering| Arc::clone(&offering.key.instance_type))
            .collect();
        assert_eq!(named, catalogue.types.keys().cloned().collect());
    }

    #[test]
    fn a_type_without_price_is_not_offered() {
        let mut market = builtin::market();
        market.prices.on_demand.remove("c5.xlarge");
        let catalogue = build(&market, &terms());
        assert!(!catalogue.types.contains_key("c5.xlarge"));
        assert!(catalogue.types.contains_key("c5.2xlarge"));
    }

    #[test]
    fn volume_limit_leaves_room_for_the_root_volume() {
        let catalogue = build(&builtin::market(), &terms());
        assert_eq!(catalogue.types["c5.xlarge"].volume_limit, 26);
    }
}
