//! Which instance of a launch belongs to which claim, and what the claim then says.
//!
//! Given the claims of a batch and the instances that EC2 shows for it, each claim gets at most one
//! instance and each instance at most one claim. The claims of a batch want the same, so any pairing
//! is right as long as it is made once: what was written down before comes first.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::api::labels;
use crate::model::claim::Claim;
use crate::model::instance::{Instance, tags};
use crate::model::launch::LaunchedInstance;
use crate::model::node_class::NodeClass;
use crate::model::offering::{CapacityType, InstanceType, OfferingKey};
use crate::model::resources::Resources;

/// An instance of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchInstance {
    /// For example `i-0123456789abcdef0`.
    pub id: String,
    /// What was bought.
    pub offering: OfferingKey,
    /// The image it was started from; empty when the answer did not say.
    pub image_id: String,
    /// The claim named by its tag.
    pub claim: Option<String>,
    /// It is on its way out already.
    pub ending: bool,
}

impl From<&LaunchedInstance> for BatchInstance {
    fn from(instance: &LaunchedInstance) -> Self {
        Self {
            id: instance.id.clone(),
            offering: instance.offering.clone(),
            image_id: instance.image_id.clone(),
            claim: None,
            ending: false,
        }
    }
}

impl From<&Instance> for BatchInstance {
    fn from(instance: &Instance) -> Self {
        Self {
            id: instance.id.clone(),
            offering: instance.offering.clone(),
            image_id: instance.image_id.clone(),
            claim: instance.tags.get(tags::CLAIM).cloned(),
            ending: instance.state.is_ending(),
        }
    }
}

/// What a claim says once its instance is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaunchedStatus {
    /// `aws:///ZONE/ID`.
    pub provider_id: String,
    /// The image; empty when unknown.
    pub image_id: String,
    /// Labels to add to the claim; its own win.
    pub labels: BTreeMap<String, String>,
    /// What the machine has.
    pub capacity: Resources,
    /// What pods may use of it.
    pub allocatable: Resources,
}

/// Pairs claims that have no instance yet with instances that have no claim yet: by tag first, the
/// rest in order of uid and id, instances that are ending last.
pub fn assign(
    claims: &[Arc<Claim>],
    instances: &[BatchInstance],
) -> Vec<(Arc<Claim>, BatchInstance)> {
    let taken: BTreeSet<&str> = claims
        .iter()
        .filter_map(|claim| claim.instance_id())
        .collect();
    let names: BTreeSet<&str> = claims.iter().map(|claim| claim.name.as_str()).collect();
    let mut free: Vec<&BatchInstance> = instances
        .iter()
        .filter(|instance| !taken.contains(instance.id.as_str()))
        .collect();
    free.sort_by_key(|instance| (instance.ending, &instance.id));
    let mut waiting: Vec<&Arc<Claim>> = claims
        .iter()
        .filter(|claim| claim.provider_id.is_empty())
        .collect();
    waiting.sort_by_key(|claim| &claim.uid);

    let mut pairs = Vec::new();
    waiting.retain(|claim| {
        let tagged = free
            .iter()
            .position(|instance| instance.claim.as_deref() == Some(claim.name.as_str()));
        if let Some(position) = tagged {
            pairs.push((Arc::clone(claim), free.remove(position).clone()));
        }
        tagged.is_none()
    });
    // An instance tagged for a claim outside this batch is not free for the taking.
    free.retain(|instance| {
        instance
            .claim
            .as_deref()
            .is_none_or(|claim| names.contains(claim))
    });
    pairs.extend(
        waiting
            .into_iter()
            .zip(free)
            .map(|(claim, instance)| (Arc::clone(claim), instance.clone())),
    );
    pairs
}

/// The labels that a machine of a class has by its type, and by where and how it is bought.
pub fn labels_of(offering: &OfferingKey, class: Option<&NodeClass>) -> BTreeMap<String, String> {
    let instance_type = class.and_then(|class| class.catalogue.types.get(&offering.instance_type));
    let mut found: BTreeMap<String, String> = instance_type
        .map(|known| known.labels.clone())
        .unwrap_or_default();
    let zone_id = class
        .and_then(|class| class.subnets.get(&*offering.zone))
        .and_then(|subnets| subnets.first())
        .map_or("", |subnet| subnet.zone_id.as_str());
    let own = [
        (labels::INSTANCE_TYPE, &*offering.instance_type),
        (labels::ZONE, &*offering.zone),
        (labels::CAPACITY_TYPE, offering.capacity_type.as_str()),
        (labels::REGION, offering.region()),
        (labels::ZONE_ID, zone_id),
    ];
    let own = own.into_iter().filter(|(_key, value)| !value.is_empty());
    found.extend(own.map(|(key, value)| (key.to_owned(), value.to_owned())));
    found
}

/// What a claim says about an instance bought for it, whose requests are these.
pub fn launched_status(
    instance: &BatchInstance,
    class: Option<&NodeClass>,
    requests: &Resources,
) -> LaunchedStatus {
    let offering = &instance.offering;
    let instance_type = class.and_then(|class| class.catalogue.types.get(&offering.instance_type));
    let promised = |of: fn(&InstanceType) -> Resources| {
        let both = class.zip(instance_type);
        both.map_or_else(Resources::new, |(class, known)| {
            class.promised(of(known), requests)
        })
    };
    LaunchedStatus {
        provider_id: format!("aws:///{}/{}", offering.zone, instance.id),
        image_id: instance.image_id.clone(),
        labels: labels_of(offering, class),
        capacity: promised(|known| known.capacity.clone()),
        allocatable: promised(InstanceType::allocatable),
    }
}

/// What a launched claim's machine was bought as, by the labels of [`launched_status`].
pub fn offering_of(claim: &Claim) -> Option<OfferingKey> {
    let label = |key: &str| claim.labels.get(key).map(String::as_str);
    let capacity_type = CapacityType::parse(label(labels::CAPACITY_TYPE)?)?;
    Some(OfferingKey::new(
        label(labels::INSTANCE_TYPE)?,
        label(labels::ZONE)?,
        capacity_type,
    ))
}

/// The capacity reservation that a claim's machine is for, or in.
pub fn reservation_of(claim: &Claim) -> Option<&str> {
    let id = claim.labels.get(labels::CAPACITY_RESERVATION_ID);
    id.map(String::as_str)
}

/// What is asked for: an offering, and the capacity reservation that it is to be had from.
pub type Wanted<'here> = (&'here OfferingKey, Option<&'here str>);

/// What a claim asks for with one of its offerings.
pub fn wanted_by<'here>(claim: &'here Claim, offering: &'here OfferingKey) -> Wanted<'here> {
    let is_reserved = offering.capacity_type == CapacityType::Reserved;
    (offering, reservation_of(claim).filter(|_id| is_reserved))
}
