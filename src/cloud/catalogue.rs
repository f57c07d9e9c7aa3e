//! What can be bought through a node class.
//!
//! Given: facts of types, the zones that offer them, prices, and what the node class allows. Given
//! back: a [`Catalogue`] of types with capacity and labels, and offerings with price and fees, in
//! key order. Nothing here remembers shortages; whoever does marks offerings afterwards.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::api::labels::PLACEMENT_GROUP_ID;
use crate::model::money::UsdPerHour;
use crate::model::node_class::Accelerator;
use crate::model::offering::{
    CapacityType, Catalogue, InstanceType, Offering, OfferingKey, Outlook,
};
use crate::model::placement_group::PlacementGroup;
use crate::model::resources::MEMORY;

use super::capacity::{self, NodeShape, Threshold};
use super::class::{ClassSettings, Family};
use super::facts::{AttachmentLimit, Feature, InstanceFacts};
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
    /// The prices that AWS does not let us read, and how that is mended: for people.
    pub unread: Vec<String>,
}

/// What a node class allows, and what its nodes cost beside the instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// What the images are of.
    pub family: Family,
    /// What changes capacity.
    pub shape: NodeShape,
    /// Architectures that there is an image for, in Kubernetes' words, and the accelerators that the
    /// images of each serve.
    pub images: BTreeMap<String, BTreeSet<Accelerator>>,
    /// Zones that there is a subnet in; `true` where nodes get a public IPv4 address.
    pub zones: BTreeMap<String, bool>,
    /// The rate of the node's volumes.
    pub volume_fee: UsdPerHour,
    /// How many volumes of its own a node has; none is the one of its image.
    pub volumes: usize,
    /// Only types with the Nitro hypervisor can be launched.
    pub nitro_only: bool,
    /// What machines must be able to.
    pub features: BTreeSet<Feature>,
    /// The placement group that machines are launched into.
    pub placement_group: Option<PlacementGroup>,
    /// Types of the selected capacity reservations, which EC2 need not sell in any other way.
    pub reserved: BTreeSet<String>,
}

impl Terms {
    /// What the settings of a class allow, with the images and the zones that were found for it.
    pub fn of(
        settings: &ClassSettings,
        images: BTreeMap<String, BTreeSet<Accelerator>>,
        zones: BTreeMap<String, bool>,
    ) -> Self {
        Self {
            family: settings.family,
            shape: settings.shape.clone(),
            images,
            zones,
            volume_fee: settings.volume_fee,
            volumes: settings.volumes.len(),
            nitro_only: settings.nitro_only,
            features: settings.features.clone(),
            placement_group: None,
            reserved: BTreeSet::new(),
        }
    }

    /// What a machine in a zone costs beside its price; `None` where there is no subnet.
    pub fn fees_in(&self, zone: &str) -> Option<UsdPerHour> {
        let address_fee = if *self.zones.get(zone)? {
            fees::PUBLIC_ADDRESS
        } else {
            UsdPerHour::ZERO
        };
        Some(self.volume_fee + address_fee)
    }
}

/// Everything in the market that the terms allow and that has a price, or is reserved.
pub fn build(market: &Market, terms: &Terms) -> Catalogue {
    let mut catalogue = Catalogue {
        types: BTreeMap::new(),
        offerings: Vec::new(),
        price_region: market.prices.region.clone(),
        has_foreign_prices: market.prices.region != market.region,
        on_demand_priced_at: Some(market.prices.on_demand_at),
        spot_priced_at: market.prices.spot_at,
    };
    for (name, facts) in &market.types {
        if !is_allowed(facts, terms) {
            continue;
        }
        let before = catalogue.offerings.len();
        add_offerings(&mut catalogue.offerings, market, terms, facts);
        if catalogue.offerings.len() > before || terms.reserved.contains(&**name) {
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

/// The catalogue with the memory that Nodes reported, bytes by type, in place of what was computed.
/// What hard eviction keeps free follows; what is kept for Kubernetes does not depend on it. A figure that
/// [no machine of the type can have](InstanceType::may_have_memory) changes nothing.
pub fn with_memory(
    catalogue: &Arc<Catalogue>,
    eviction: Option<Threshold>,
    reported: &BTreeMap<String, i64>,
) -> Arc<Catalogue> {
    let changed: Vec<InstanceType> = reported
        .iter()
        .filter_map(|(name, bytes)| {
            let known = catalogue.types.get(name.as_str())?;
            let before = known.capacity.get(MEMORY);
            if before == *bytes || !known.may_have_memory(*bytes) {
                return None;
            }
            let kept_free = |memory| capacity::memory_kept_free(memory, eviction);
            let overhead = known.overhead.get(MEMORY) - kept_free(before) + kept_free(*bytes);
            let mut changed = InstanceType::clone(known);
            changed.capacity.set(MEMORY, *bytes);
            changed.overhead.set(MEMORY, overhead);
            Some(changed)
        })
        .collect();
    if changed.is_empty() {
        return Arc::clone(catalogue);
    }
    let mut catalogue = Catalogue::clone(catalogue);
    for instance_type in changed {
        let name = Arc::clone(&instance_type.name);
        catalogue.types.insert(name, Arc::new(instance_type));
    }
    Arc::new(catalogue)
}

fn is_allowed(facts: &InstanceFacts, terms: &Terms) -> bool {
    let images = terms.images.get(facts.architecture.as_str());
    images.is_some_and(|served| served.contains(&facts.accelerator()))
        && terms.family.runs_on(&facts.name)
        && (!terms.nitro_only || facts.hypervisor == "nitro")
        && terms.features.is_subset(&facts.features)
        && terms.shape.interfaces.fit(facts)
        && terms
            .placement_group
            .as_ref()
            .is_none_or(|group| facts.placement.contains(&group.strategy))
}

fn instance_type(facts: &InstanceFacts, terms: &Terms, region: &str) -> InstanceType {
    let attachments = facts.volume_attachments.unwrap_or(DEFAULT_ATTACHMENTS);
    let volumes = u32::try_from(terms.volumes.max(1)).unwrap_or(u32::MAX);
    let interfaces = if facts.attachment_limit == AttachmentLimit::Shared {
        terms.shape.interfaces.beside_the_first()
    } else {
        0
    };
    let mut labels = labels::of_type(facts, region);
    if let Some(group) = &terms.placement_group {
        labels.insert(PLACEMENT_GROUP_ID.to_owned(), group.id.clone());
    }
    InstanceType {
        name: Arc::clone(&facts.name),
        labels,
        capacity: capacity::capacity(facts, &terms.shape),
        overhead: capacity::overhead(facts, &terms.shape),
        volume_limit: attachments
            .saturating_sub(volumes)
            .saturating_sub(interfaces),
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
        let Some(fees) = terms.fees_in(zone) else {
            continue;
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
                fees,
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
    use crate::cloud::interfaces::{Interface, Interfaces, Traffic};

    fn terms() -> Terms {
        Terms {
            family: Family::Al2023,
            shape: NodeShape::default(),
            images: BTreeMap::from([("amd64".to_owned(), Accelerator::all())]),
            zones: BTreeMap::from([
                ("us-east-1a".to_owned(), false),
                ("us-east-1b".to_owned(), true),
            ]),
            volume_fee: UsdPerHour::parse("0.01").unwrap(),
            volumes: 1,
            nitro_only: false,
            features: BTreeSet::new(),
            placement_group: None,
            reserved: BTreeSet::new(),
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
        assert!(!catalogue.has_foreign_prices);
        let elsewhere = Market {
            region: "eu-west-1".to_owned(),
            ..builtin::market()
        };
        assert!(build(&elsewhere, &terms()).has_foreign_prices);
        assert!(
            catalogue
                .offerings
                .windows(2)
                .all(|pair| pair[0].key < pair[1].key)
        );
    }

    #[test]
    fn machines_that_the_images_do_not_start_on_are_not_offered() {
        let mut market = builtin::market();
        let facts = Arc::clone(&market.types["c5.large"]);
        let zones = market.zones["c5.large"].clone();
        let name: Arc<str> = "a1.large".into();
        let first = InstanceFacts {
            name: Arc::clone(&name),
            ..InstanceFacts::clone(&facts)
        };
        market.types.insert(Arc::clone(&name), Arc::new(first));
        market.zones.insert(Arc::clone(&name), zones);
        let is_offered = |family| {
            let reserved = BTreeSet::from(["a1.large".to_owned()]);
            let terms = Terms {
                family,
                reserved,
                ..terms()
            };
            build(&market, &terms).types.contains_key("a1.large")
        };
        assert!(!is_offered(Family::Al2023));
        assert!(is_offered(Family::Bottlerocket));
    }

    #[test]
    fn a_type_that_is_only_reserved_is_known_and_not_for_sale() {
        let mut market = builtin::market();
        market.zones.remove("p4d.24xlarge");
        assert!(!build(&market, &terms()).types.contains_key("p4d.24xlarge"));
        let terms = Terms {
            reserved: BTreeSet::from(["p4d.24xlarge".to_owned()]),
            ..terms()
        };
        let catalogue = build(&market, &terms);
        assert!(catalogue.types.contains_key("p4d.24xlarge"));
        let mut offerings = catalogue.offerings.iter();
        assert!(offerings.all(|offering| &*offering.key.instance_type != "p4d.24xlarge"));
        assert_eq!(terms.fees_in("us-east-1b").unwrap().to_string(), "0.015");
        assert_eq!(terms.fees_in("us-east-1c"), None);
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
    fn only_types_that_can_do_what_the_class_switches_on_are_offered() {
        let with = |feature| Terms {
            features: BTreeSet::from([feature]),
            ..terms()
        };
        let enclaves = build(&builtin::market(), &with(Feature::Enclaves)).types;
        for (name, is_offered) in [
            ("c5.xlarge", true),
            ("c5.large", false),
            ("c5.metal", false),
            ("t3.xlarge", false),
            ("c7i.xlarge", false),
        ] {
            assert_eq!(enclaves.contains_key(name), is_offered, "{name}");
        }
        let nested = build(&builtin::market(), &with(Feature::NestedVirtualization)).types;
        assert!(nested.is_empty(), "the table has no such type: {nested:?}");
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
    fn reported_memory_takes_the_place_of_the_guess() {
        const MIB: i64 = 1 << 20;
        let built = Arc::new(build(&builtin::market(), &terms()));
        let guessed = &built.types["c5.xlarge"];
        let real = 7_800 * MIB;
        assert_ne!(guessed.capacity.get(MEMORY), real);
        let reported = |bytes: i64| BTreeMap::from([("c5.xlarge".to_owned(), bytes)]);
        let learned = with_memory(&built, None, &reported(real));
        let known = &learned.types["c5.xlarge"];
        assert_eq!(known.capacity.get(MEMORY), real);
        assert_eq!(
            known.overhead, guessed.overhead,
            "100 MiB whatever there is"
        );
        assert_eq!(learned.types["c5.2xlarge"], built.types["c5.2xlarge"]);
        assert_eq!(learned.offerings, built.offerings);
        let again = with_memory(&learned, None, &reported(real));
        assert!(
            Arc::ptr_eq(&again, &learned),
            "nothing is copied for nothing"
        );
        // A share of the memory follows it.
        let eviction = Some(Threshold::BasisPoints(1_000));
        let tenth = |memory: i64| (memory + 9) / 10;
        let share = with_memory(&built, eviction, &reported(real));
        let moved = tenth(real) - tenth(guessed.capacity.get(MEMORY));
        let overhead = share.types["c5.xlarge"].overhead.get(MEMORY);
        assert_eq!(overhead, guessed.overhead.get(MEMORY) + moved);
    }

    #[test]
    fn memory_that_no_machine_of_the_type_has_is_not_believed() {
        let built = Arc::new(build(&builtin::market(), &terms()));
        // EC2 sells a c5.xlarge with 8 GiB.
        for bytes in [(8 << 30) + 1, (4 << 30) - 1, 0, -1, i64::MAX, i64::MIN] {
            let reported = BTreeMap::from([("c5.xlarge".to_owned(), bytes)]);
            let same = with_memory(&built, None, &reported);
            assert!(Arc::ptr_eq(&same, &built), "{bytes}");
        }
        let unknown = BTreeMap::from([("x9.huge".to_owned(), 4 << 30)]);
        assert!(Arc::ptr_eq(&with_memory(&built, None, &unknown), &built));
    }

    #[test]
    fn volume_limit_leaves_room_for_the_volumes_of_the_node() {
        let with = |volumes| Terms { volumes, ..terms() };
        for (volumes, left) in [(0, 26), (1, 26), (2, 25)] {
            let catalogue = build(&builtin::market(), &with(volumes));
            assert_eq!(catalogue.types["c5.xlarge"].volume_limit, left);
        }
    }

    #[test]
    fn interfaces_take_the_place_of_volumes_unless_the_limit_is_for_volumes_alone() {
        let interface = |device| Interface {
            card: 0,
            device,
            traffic: Traffic::Interface,
        };
        let mut terms = terms();
        let limit = |terms: &Terms, name: &str| {
            let catalogue = build(&builtin::market(), terms);
            catalogue.types[name].volume_limit
        };
        let usual = ["c5.xlarge", "c7i.2xlarge"].map(|name| limit(&terms, name));
        assert_eq!(usual, [26, 31]);
        terms.shape.interfaces = Interfaces::Listed(vec![interface(0), interface(1), interface(2)]);
        let listed = ["c5.xlarge", "c7i.2xlarge"].map(|name| limit(&terms, name));
        assert_eq!(listed, [24, 31]);
    }
}
