//! What is chosen among offerings that all fit: spot or on-demand, dear or cheap, doubtful or proven.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{add_pods, claims_of, plan, pool, spec, world};
use crate::model::money::UsdPerHour;
use crate::model::offering::{CapacityType, Offering, OfferingKey, Outlook};
use crate::model::report::{PlannedNode, ProvisioningPlan};
use crate::model::snapshot::Snapshot;

/// The world with spot at a third of each price.
fn with_spot(mut snapshot: Snapshot) -> Snapshot {
    let class = Arc::make_mut(snapshot.node_classes.get_mut("default").unwrap());
    let mut catalogue = (*class.catalogue).clone();
    let spot: Vec<Offering> = catalogue
        .offerings
        .iter()
        .map(|offering| {
            let mut spot = offering.clone();
            spot.key.capacity_type = CapacityType::Spot;
            spot.price = UsdPerHour::from_units(offering.price.units() / 3);
            spot
        })
        .collect();
    catalogue.offerings.extend(spot);
    catalogue
        .offerings
        .sort_by(|one, other| one.key.cmp(&other.key));
    class.catalogue = Arc::new(catalogue);
    snapshot
}

#[test]
fn a_pools_mix_of_on_demand_and_spot_is_kept_from_plan_to_plan() {
    let mut mixed = pool("mixed", &["c5.xlarge"]);
    mixed.on_demand_base = 1;
    mixed.spot_percent = Some(50);
    let mut snapshot = with_spot(world(vec![mixed]));
    let counted = |plan: &ProvisioningPlan| {
        let first = |node: &PlannedNode| node.offerings[0].capacity_type;
        let spot = plan
            .new_nodes
            .iter()
            .filter(|node| first(node) == CapacityType::Spot)
            .count();
        (plan.new_nodes.len() - spot, spot)
    };
    add_pods(&mut snapshot, "one", 5, &spec(3000, 4096));
    let one = plan(&snapshot);
    assert_eq!(counted(&one), (3, 2));
    for node in &one.new_nodes {
        let types: Vec<CapacityType> = node
            .offerings
            .iter()
            .map(|offering| offering.capacity_type)
            .collect();
        if types[0] == CapacityType::OnDemand {
            assert!(
                !types.contains(&CapacityType::Spot),
                "it must stay on-demand"
            );
        } else {
            assert!(
                types.contains(&CapacityType::OnDemand),
                "it may fall to on-demand"
            );
        }
    }
    snapshot.claims = claims_of(&one);
    add_pods(&mut snapshot, "two", 4, &spec(3000, 4096));
    assert_eq!(counted(&plan(&snapshot)), (2, 2));
    // Pods that ask for spot get it all the same.
    let mut snapshot = with_spot(world(vec![{
        let mut firm = pool("firm", &["c5.xlarge"]);
        firm.on_demand_base = 10;
        firm
    }]));
    let mut wants_spot = spec(3000, 4096);
    wants_spot
        .node_selector
        .insert("karpenter.sh/capacity-type".to_owned(), "spot".to_owned());
    add_pods(&mut snapshot, "spot", 2, &wants_spot);
    assert_eq!(counted(&plan(&snapshot)), (0, 2));
}

#[test]
fn a_node_of_the_base_stays_on_demand_also_where_spot_is_dearer_now() {
    let mut firm = pool("firm", &["c5.xlarge"]);
    firm.on_demand_base = 2;
    firm.price_band_percent = Some(300);
    let mut snapshot = with_spot(world(vec![firm]));
    let class = Arc::make_mut(snapshot.node_classes.get_mut("default").unwrap());
    let mut catalogue = (*class.catalogue).clone();
    for offering in &mut catalogue.offerings {
        if offering.key.capacity_type == CapacityType::Spot {
            offering.price = UsdPerHour::from_units(offering.price.units() * 4);
        }
    }
    class.catalogue = Arc::new(catalogue);
    add_pods(&mut snapshot, "one", 3, &spec(3000, 4096));
    let with_spot: Vec<bool> = plan(&snapshot)
        .new_nodes
        .iter()
        .map(|node| {
            assert_eq!(node.offerings[0].capacity_type, CapacityType::OnDemand);
            let spot = |key: &OfferingKey| key.capacity_type == CapacityType::Spot;
            node.offerings.iter().any(spot)
        })
        .collect();
    assert_eq!(with_spot, [false, false, true], "the third may become spot");
}

#[test]
fn a_pools_own_band_bounds_its_alternatives() {
    let types = ["c5.xlarge", "c5.2xlarge", "c5.4xlarge"];
    for (band, expected) in [(None, 2), (Some(0), 1), (Some(99), 1), (Some(300), 3)] {
        let mut banded = pool("banded", &types);
        banded.price_band_percent = band;
        let mut snapshot = world(vec![banded]);
        add_pods(&mut snapshot, "one", 1, &spec(3000, 4096));
        let plan = plan(&snapshot);
        let named: BTreeSet<&str> = plan.new_nodes[0]
            .offerings
            .iter()
            .map(|offering| &*offering.instance_type)
            .collect();
        assert_eq!(named.len(), expected, "{band:?}: {named:?}");
    }
}

/// The snapshot with an outlook for one offering.
fn with_outlook(mut snapshot: Snapshot, key: &str, outlook: Outlook) -> Snapshot {
    let class = Arc::make_mut(snapshot.node_classes.get_mut("default").unwrap());
    let mut catalogue = (*class.catalogue).clone();
    for offering in &mut catalogue.offerings {
        if offering.key.to_string() == key {
            offering.outlook = outlook;
        }
    }
    class.catalogue = Arc::new(catalogue);
    snapshot
}

#[test]
fn a_doubtful_offering_must_be_cheaper_and_its_price_is_told_as_it_is() {
    let doubted = Outlook {
        shortage: 400_000,
        ..Outlook::default()
    };
    let mut snapshot = with_outlook(
        world(vec![pool("executors", &["c5.xlarge"])]),
        "c5.xlarge/us-east-1a/on-demand",
        doubted,
    );
    add_pods(&mut snapshot, "executor", 1, &spec(3000, 4096));
    let first = plan(&snapshot);
    assert_eq!(&*first.new_nodes[0].offerings[0].zone, "us-east-1b");
    assert_eq!(first.new_nodes[0].risk, UsdPerHour::ZERO);
    let order: Vec<&str> = first.new_nodes[0]
        .offerings
        .iter()
        .map(|offering| &*offering.zone)
        .collect();
    assert_eq!(order, ["us-east-1b", "us-east-1c", "us-east-1a"]);
    // Where nothing else is to be had it is bought, at its true price.
    for zone in ["us-east-1b", "us-east-1c"] {
        snapshot = with_outlook(snapshot, &format!("c5.xlarge/{zone}/on-demand"), doubted);
    }
    let second = plan(&snapshot);
    assert_eq!(second.price.to_string(), "0.170");
    assert_eq!(second.new_nodes[0].risk.to_string(), "0.0068");
    let gap = second.price - second.lower_bound;
    assert!(
        gap.units() < 1_000,
        "a bound on what is paid, but for rounding: {gap}"
    );
}

#[test]
fn interruptions_count_by_the_pools_weight() {
    let taken = Outlook {
        interruptions: 100_000,
        ..Outlook::default()
    };
    for (weight, zone) in [(0, "us-east-1a"), (500, "us-east-1b")] {
        let mut weighed = pool("executors", &["c5.xlarge"]);
        weighed.risk_weight_thousandths = weight;
        let mut snapshot = with_outlook(
            with_spot(world(vec![weighed])),
            "c5.xlarge/us-east-1a/spot",
            taken,
        );
        add_pods(&mut snapshot, "executor", 1, &spec(3000, 4096));
        let plan = plan(&snapshot);
        assert_eq!(&*plan.new_nodes[0].offerings[0].zone, zone, "{weight}");
    }
}
