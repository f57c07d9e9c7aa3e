//! What a NodePool's own requirements leave of what EC2 offers.
//!
//! Given a pool and its resolved class; given back the offerings that the pool may buy, or why there is none:
//! a pool that can never buy anything must say so itself, not only to the pods that it fails. Limits, pods
//! and shortages count for nothing here.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::labels::Labelled;
use super::reasons::wish;
use super::supply::{
    CandidateLabels, PoolVariant, allows, is_too_dear, of_place, variants, zone_ids,
};
use crate::model::node_class::NodeClass;
use crate::model::node_pool::NodePool;
use crate::model::offering::{CapacityType, InstanceType, Offering};
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
            let on_demand: BTreeMap<_, _> = variant
                .class
                .catalogue
                .offerings
                .iter()
                .filter(|offering| offering.key.capacity_type == CapacityType::OnDemand)
                .map(|offering| (of_place(offering), offering.price))
                .collect();
            labelled(variant)
                .filter(|labels| requirements(variant).all(|wanted| meets(wanted, labels)))
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
        if all().any(|labels| requirements(variant).all(|wanted| meets(wanted, &labels))) {
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

fn labelled(variant: &PoolVariant) -> impl Iterator<Item = CandidateLabels<'_>> {
    let zone_ids = zone_ids(&variant.class);
    let catalogue = &variant.class.catalogue;
    catalogue.offerings.iter().filter_map(move |offering| {
        Some(CandidateLabels {
            variant,
            instance: catalogue.types.get(&offering.key.instance_type)?,
            offering,
            zone_id: zone_ids.get(&*offering.key.zone).copied(),
        })
    })
}

fn requirements(variant: &PoolVariant) -> impl Iterator<Item = (&String, &Requirement)> {
    variant.pool.requirements.0.iter()
}

fn meets((key, wanted): (&String, &Requirement), labels: &CandidateLabels<'_>) -> bool {
    allows(key, wanted, labels.label(key))
}
