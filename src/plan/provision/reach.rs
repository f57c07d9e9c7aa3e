//! What a NodePool's own requirements leave of what EC2 offers.
//!
//! Given a pool and its resolved class; given back the offerings that the pool may buy, or why there is none:
//! a pool that can never buy anything must say so itself, not only to the pods that it fails. Limits, pods
//! and shortages count for nothing here.

use std::collections::{BTreeMap, BTreeSet};
use std::ptr;
use std::sync::Arc;

use super::labels::Labelled;
use super::reasons::wish;
use super::supply::{
    CandidateLabels, PoolVariant, allowed, allows, is_too_dear, labelled, of_place,
    on_demand_prices, variants,
};
use crate::model::node_class::NodeClass;
use crate::model::node_pool::NodePool;
use crate::model::offering::{Catalogue, InstanceType, Offering, OfferingKey};
use crate::model::requirement::Requirement;

/// A pool with its class and labels.
#[derive(Debug)]
pub struct Reach {
    variant: Option<PoolVariant>,
}

impl Reach {
    /// The reach of a pool through its class.
    pub fn of(pool: &Arc<NodePool>, class: &Arc<NodeClass>) -> Self {
        Self {
            variant: variants(pool, class, &BTreeMap::new()).into_iter().next(),
        }
    }

    /// What the pool may buy, at prices within its ceilings.
    pub fn offerings(&self) -> impl Iterator<Item = (&InstanceType, &Offering)> {
        self.variant.iter().flat_map(|variant| {
            // Only a share of on-demand needs the prices of the others.
            let is_relative = variant.pool.max_percent_of_on_demand.is_some();
            let on_demand = is_relative.then(|| on_demand_prices(&variant.class.catalogue));
            let on_demand = on_demand.unwrap_or_default();
            allowed(variant)
                .filter(move |labels| {
                    let price = on_demand.get(&of_place(labels.offering));
                    !is_too_dear(&variant.pool, labels.offering, price)
                })
                .map(|labels| (labels.instance, labels.offering))
        })
    }

    /// Why the pool's requirements leave nothing at all, and what would change that; `None` when they leave
    /// something, or when nothing is known of what EC2 offers.
    pub fn problem(&self) -> Option<String> {
        let variant = self.variant.as_ref()?;
        let all = || labelled(variant);
        all().next()?;
        if allowed(variant).next().is_some() {
            return None;
        }
        let impossible = |(_key, wanted): &(&String, &Requirement)| wanted.is_impossible();
        if let Some((key, _wanted)) = requirements(variant).find(impossible) {
            return Some(format!(
                "the requirements on {key} exclude each other; correct spec.template.spec.requirements"
            ));
        }
        let unmet =
            requirements(variant).find(|wanted| !all().any(|labels| meets(*wanted, &labels)));
        if let Some((key, wanted)) = unmet {
            return Some(format!(
                "no instance type that EC2 offers here has {key} {}; correct spec.template.spec.requirements",
                wish(wanted)
            ));
        }
        let listed: Vec<String> = requirements(variant)
            .map(|(key, wanted)| format!("{key} {}", wish(wanted)))
            .collect();
        Some(format!(
            "no instance type that EC2 offers here meets all of spec.template.spec.requirements at once ({}); \
             widen one of them",
            listed.join(", ")
        ))
    }
}

/// Those of some offerings that cost no more by now than a pool may pay. What the class does not sell has no price and
/// stays.
pub fn within_ceilings<'keys>(
    pool: &NodePool,
    class: &NodeClass,
    keys: &'keys [OfferingKey],
) -> Vec<&'keys OfferingKey> {
    if pool.max_price.is_none() && pool.max_percent_of_on_demand.is_none() {
        return keys.iter().collect();
    }
    let on_demand = on_demand_prices(&class.catalogue);
    let is_within = |key: &&OfferingKey| {
        class
            .offering(key)
            .is_none_or(|offering| !is_too_dear(pool, offering, on_demand.get(&of_place(offering))))
    };
    keys.iter().filter(is_within).collect()
}

/// The class with those offerings alone that pools may buy through it; as it is when they may buy none.
pub fn bought_by(class: &Arc<NodeClass>, pools: &[Arc<NodePool>]) -> Arc<NodeClass> {
    let through = pools.iter().filter(|pool| pool.node_class == class.name);
    // By their places in the class, which are cheaper to compare than their names.
    let mut reached: BTreeSet<*const Offering> = BTreeSet::new();
    for pool in through {
        let reach = Reach::of(pool, class);
        reached.extend(
            reach
                .offerings()
                .map(|(_type, offering)| ptr::from_ref(offering)),
        );
    }
    if reached.is_empty() {
        return Arc::clone(class);
    }
    let whole = &class.catalogue;
    let kept = whole.offerings.iter();
    let kept = kept.filter(|offering| reached.contains(&ptr::from_ref(*offering)));
    let catalogue = Catalogue {
        types: whole.types.clone(),
        offerings: kept.cloned().collect(),
        price_region: whole.price_region.clone(),
        has_foreign_prices: whole.has_foreign_prices,
        on_demand_priced_at: whole.on_demand_priced_at,
        spot_priced_at: whole.spot_priced_at,
    };
    Arc::new(NodeClass {
        catalogue: Arc::new(catalogue),
        ..NodeClass::clone(class)
    })
}

fn requirements(variant: &PoolVariant) -> impl Iterator<Item = (&String, &Requirement)> {
    variant.pool.requirements.0.iter()
}

fn meets((key, wanted): (&String, &Requirement), labels: &CandidateLabels<'_>) -> bool {
    allows(key, wanted, labels.label(key))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::offering::CapacityType;
    use crate::plan::examples::{node_class, node_pool};

    fn pool(name: &str, key: &str, value: &str) -> Arc<NodePool> {
        let mut pool = node_pool(name);
        pool.requirements.add_label(key, value);
        Arc::new(pool)
    }

    fn bought(pools: &[Arc<NodePool>]) -> Vec<String> {
        let class = bought_by(&Arc::new(node_class()), pools);
        let offerings = class.catalogue.offerings.iter();
        offerings.map(|offering| offering.key.to_string()).collect()
    }

    #[test]
    fn a_class_is_narrowed_to_what_its_pools_may_buy_together() {
        let zone = "topology.kubernetes.io/zone";
        let in_b = pool("b", zone, "us-east-1b");
        let large = pool("large", super::super::labels::INSTANCE_TYPE, "c5.2xlarge");
        let found = bought(&[Arc::clone(&in_b), large]);
        assert_eq!(found.len(), 6, "{found:?}");
        assert!(!found.contains(&"c5.xlarge/us-east-1a/spot".to_owned()));
        let all = bought(&[]);
        assert_eq!(all.len(), 8);
        let elsewhere = NodePool {
            node_class: "another".to_owned(),
            ..NodePool::clone(&in_b)
        };
        assert_eq!(bought(&[Arc::new(elsewhere)]), all, "not its pool");
        assert_eq!(bought(&[pool("none", zone, "mars-1a")]), all);
    }

    /// Where on-demand is dearer than in the region of the built-in prices, all of spot would be ruled out.
    #[test]
    fn a_ceiling_in_percent_compares_no_prices_of_two_regions() {
        let mut class = node_class();
        let pools = [Arc::new(NodePool {
            max_percent_of_on_demand: Some(1),
            ..node_pool("cheap")
        })];
        let spot = |class: &NodeClass| {
            let found = bought_by(&Arc::new(class.clone()), &pools);
            let offerings = found.catalogue.offerings.iter();
            offerings
                .filter(|offering| offering.key.capacity_type == CapacityType::Spot)
                .count()
        };
        assert_eq!(spot(&class), 0);
        Arc::make_mut(&mut class.catalogue).has_foreign_prices = true;
        assert_eq!(spot(&class), 4);
    }
}
