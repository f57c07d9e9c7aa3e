//! NodePools with minValues: what a planned node lists.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{add_pods, instance, plan, spec, world};
use crate::api::labels::INSTANCE_FAMILY;
use crate::model::money::UsdPerHour;
use crate::model::node_class::NodeClass;
use crate::model::node_pool::NodePool;
use crate::model::offering::{
    CapacityType, Catalogue, MOST_OFFERINGS, Offering, OfferingKey, Outlook,
};
use crate::model::requirement::Requirement;

/// Seventy types of one family at nearly one price, and one each of three others that cost four times as much.
fn many() -> Catalogue {
    let mut catalogue = Catalogue::default();
    let cheap = (10..80).map(|number| (format!("a{number}.large"), "a", 1_000 + number));
    let dear = ["b", "c", "d"].map(|family| (format!("{family}.large"), family, 4_000));
    for (name, family, price) in cheap.chain(dear) {
        let mut known = instance(&name, 4_000, 8_000, 50, 0);
        let own = &mut known.labels;
        own.insert(INSTANCE_FAMILY.to_owned(), family.to_owned());
        catalogue.offerings.push(Offering {
            key: OfferingKey::new(&name, "us-east-1a", CapacityType::OnDemand),
            price: UsdPerHour::from_micros(price * 100),
            fees: UsdPerHour::ZERO,
            available: true,
            outlook: Outlook::default(),
        });
        let name = Arc::clone(&known.name);
        catalogue.types.insert(name, Arc::new(known));
    }
    catalogue
}

#[test]
fn what_min_values_asks_for_is_among_the_offerings_that_a_claim_carries() {
    let mut varied = NodePool::named("varied", "default");
    let families = Requirement::exists().keeping(Some(3));
    varied.requirements.add(INSTANCE_FAMILY, &families);
    let mut snapshot = world(vec![varied]);
    let class = NodeClass {
        catalogue: Arc::new(many()),
        ..NodeClass::clone(&snapshot.node_classes["default"])
    };
    let name = class.name.clone();
    snapshot.node_classes.insert(name, Arc::new(class));
    add_pods(&mut snapshot, "pod", 1, &spec(1_000, 1_000));
    let plan = plan(&snapshot);
    let offerings = &plan.new_nodes[0].offerings;
    assert_eq!(offerings.len(), MOST_OFFERINGS);
    assert_eq!(&*offerings[0].instance_type, "a10.large");
    let families: BTreeSet<&str> = offerings
        .iter()
        .filter_map(|key| key.instance_type.get(..1))
        .collect();
    assert_eq!(families, BTreeSet::from(["a", "b", "c"]));
}
