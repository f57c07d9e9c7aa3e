//! What can be bought at the prices of a moment.
//!
//! Given a variant and the region; given back its node classes with the catalogue of a price step.
//! What no NodePool of the variant allows is left out once, so that a step reprices what matters.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;

use super::scenario::{Scenario, Variant};
use crate::api::labels;
use crate::model::node_class::NodeClass;
use crate::model::node_pool::NodePool;
use crate::model::offering::{Catalogue, InstanceType, OfferingKey};
use crate::plan::provision::supply::is_inherent;
use crate::sim::ec2::market::{Markets, PRICE_STEP};

/// Node classes by name.
pub(super) type Classes = BTreeMap<String, Arc<NodeClass>>;

/// The region's prices as a variant sees them.
#[derive(Debug, Clone)]
pub(super) struct Prices {
    markets: Markets,
    base: Classes,
    known: Option<(i64, Classes)>,
}

impl Prices {
    /// The prices of a scenario for a variant.
    pub(super) fn new(scenario: &Scenario, variant: &Variant) -> Self {
        let base = variant.node_classes.iter().map(|(name, class)| {
            let pools: Vec<&NodePool> = variant
                .node_pools
                .values()
                .filter(|pool| pool.node_class == *name)
                .map(|pool| &**pool)
                .collect();
            let catalogue = Arc::new(wanted(&class.catalogue, &pools));
            let class = NodeClass {
                catalogue,
                ..NodeClass::clone(class)
            };
            (name.clone(), Arc::new(class))
        });
        Self {
            markets: Markets::of_everything(scenario.seed, scenario.weather.clone()),
            base: base.collect(),
            known: None,
        }
    }

    /// The region.
    pub(super) const fn markets(&self) -> &Markets {
        &self.markets
    }

    /// Names the prices of a moment: equal steps have equal prices.
    pub(super) fn step(&self, now: Timestamp) -> i64 {
        if self.markets.weather().moving_prices {
            now.as_second().div_euclid(PRICE_STEP)
        } else {
            0
        }
    }

    /// The node classes at the prices of a moment.
    pub(super) fn classes(&mut self, now: Timestamp) -> &Classes {
        let step = self.step(now);
        let classes = match self.known.take() {
            Some((known, classes)) if known == step => classes,
            _ => self
                .base
                .iter()
                .map(|(name, class)| (name.clone(), Arc::new(self.priced(class, now))))
                .collect(),
        };
        let (_step, classes) = self.known.insert((step, classes));
        classes
    }

    fn priced(&self, class: &NodeClass, now: Timestamp) -> NodeClass {
        let mut catalogue = Catalogue::clone(&class.catalogue);
        for offering in &mut catalogue.offerings {
            match self.markets.price(&offering.key, now) {
                Some(price) => offering.price = price,
                None => offering.available = false,
            }
        }
        NodeClass {
            catalogue: Arc::new(catalogue),
            ..class.clone()
        }
    }
}

/// The part of a catalogue that any of the pools may buy from.
fn wanted(catalogue: &Catalogue, pools: &[&NodePool]) -> Catalogue {
    let mut kept = Catalogue {
        types: BTreeMap::new(),
        offerings: Vec::new(),
        ..catalogue.clone()
    };
    for offering in &catalogue.offerings {
        let Some(instance) = catalogue.types.get(&offering.key.instance_type) else {
            continue;
        };
        if pools
            .iter()
            .any(|pool| allows(pool, instance, &offering.key))
        {
            kept.types
                .entry(Arc::clone(&instance.name))
                .or_insert_with(|| Arc::clone(instance));
            kept.offerings.push(offering.clone());
        }
    }
    kept
}

/// True unless the pool's requirements exclude the offering by what it is by nature.
fn allows(pool: &NodePool, instance: &InstanceType, key: &OfferingKey) -> bool {
    pool.requirements.0.iter().all(|(label, requirement)| {
        let value = match label.as_str() {
            labels::ZONE => Some(&*key.zone),
            labels::CAPACITY_TYPE => Some(key.capacity_type.as_str()),
            labels::INSTANCE_TYPE => Some(&*key.instance_type),
            other => instance.labels.get(other).map(String::as_str),
        };
        match value {
            Some(value) => requirement.contains(value),
            None => requirement.may_be_absent || !is_inherent(label),
        }
    })
}
