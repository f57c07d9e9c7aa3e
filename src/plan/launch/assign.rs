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
    /// Labels of the machine.
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

/// How the labels of a claim change once its machine is known, which has these. What a machine is, where, and how it is
/// paid for is its own to say, whatever the claim said before: labels are written before the claim counts as launched, and
/// who dies in between leaves those of a machine that the next process may pair with another claim of the batch. What else
/// the claim says stays.
pub fn relabelled(
    claim: &Claim,
    offering: &OfferingKey,
    machine: BTreeMap<String, String>,
) -> BTreeMap<String, Option<String>> {
    let said = |key: &str| claim.labels.get(key).map(String::as_str);
    let is_other_type =
        said(labels::INSTANCE_TYPE).is_some_and(|known| known != &*offering.instance_type);
    let is_other_zone = said(labels::ZONE).is_some_and(|known| known != &*offering.zone);
    // Of labels that this machine has none for, those go that another one left.
    let is_stale = |key: &str| match key {
        labels::ZONE_ID => is_other_zone,
        labels::CAPACITY_RESERVATION_ID
        | labels::CAPACITY_RESERVATION_TYPE
        | labels::CAPACITY_RESERVATION_INTERRUPTIBLE => {
            offering.capacity_type != CapacityType::Reserved
        }
        other => is_other_type && describes_type(other),
    };
    let stale = claim.labels.keys().filter(|key| is_stale(key.as_str()));
    let mut changed: BTreeMap<String, Option<String>> =
        stale.map(|key| (key.clone(), None)).collect();
    changed.extend(machine.into_iter().map(|(key, value)| (key, Some(value))));
    changed
}

/// True for labels that an instance type has.
fn describes_type(key: &str) -> bool {
    key == labels::ARCH
        || key
            .strip_prefix(labels::INSTANCE_DOMAIN)
            .is_some_and(|name| name.starts_with("/instance-"))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::examples::{claim, node_class, offering};

    /// A claim that says all that was written to it before its first process died, of a reserved machine with a GPU.
    fn half_written() -> Claim {
        let mut claim = claim("a", &["c5.xlarge/us-east-1a/spot"]);
        for (key, value) in [
            (labels::INSTANCE_TYPE, "g4dn.xlarge"),
            (labels::ZONE, "us-east-1b"),
            (labels::ZONE_ID, "use1-az9"),
            (labels::REGION, "us-east-1"),
            (labels::CAPACITY_TYPE, "reserved"),
            (labels::ARCH, "arm64"),
            (labels::INSTANCE_GPU_NAME, "t4"),
            (labels::CAPACITY_RESERVATION_ID, "cr-1"),
            (labels::CAPACITY_RESERVATION_TYPE, "default"),
            (labels::CAPACITY_RESERVATION_INTERRUPTIBLE, "false"),
            (labels::PLACEMENT_GROUP_ID, "pg-1"),
            ("team", "data"),
        ] {
            Arc::make_mut(&mut claim.labels).insert(key.to_owned(), value.to_owned());
        }
        claim
    }

    /// What a claim says once a machine of an offering is its own.
    fn labelled(claim: &Claim, bought: &str, class: Option<&NodeClass>) -> Vec<String> {
        let bought = offering(bought);
        let changed = relabelled(claim, &bought, labels_of(&bought, class));
        let mut labels = (*claim.labels).clone();
        for (key, value) in changed {
            match value {
                Some(value) => labels.insert(key, value),
                None => labels.remove(&key),
            };
        }
        let said = labels.iter();
        said.map(|(key, value)| format!("{key}={value}")).collect()
    }

    #[test]
    fn a_claim_that_was_labelled_for_another_machine_says_what_it_has() {
        let class = node_class();
        let said = labelled(&half_written(), "c5.xlarge/us-east-1a/spot", Some(&class));
        assert_eq!(
            said,
            [
                "karpenter.k8s.aws/placement-group-id=pg-1",
                "karpenter.sh/capacity-type=spot",
                "karpenter.sh/nodepool=general",
                "kubernetes.io/arch=amd64",
                "node.kubernetes.io/instance-type=c5.xlarge",
                "team=data",
                "topology.k8s.aws/zone-id=use1-az1",
                "topology.kubernetes.io/region=us-east-1",
                "topology.kubernetes.io/zone=us-east-1a",
            ]
        );
    }

    /// What is not known of a machine must not be what another one was.
    #[test]
    fn without_a_class_nothing_is_left_of_another_machine_either() {
        let said = labelled(&half_written(), "c5.xlarge/us-east-1a/spot", None);
        let is_about = |word: &str| said.iter().any(|label| label.contains(word));
        for gone in ["arch", "gpu", "zone-id", "reservation", "g4dn", "1b"] {
            assert!(!is_about(gone), "{gone}: {said:?}");
        }
    }

    #[test]
    fn what_holds_of_the_machine_stays_as_it_is() {
        let mut same = half_written();
        let kept = labelled(&same, "g4dn.xlarge/us-east-1b/reserved", None);
        let before: Vec<String> = same
            .labels
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        assert_eq!(kept, before);
        // A template may give such a label, and no machine has been known yet.
        Arc::make_mut(&mut same.labels).remove(labels::INSTANCE_TYPE);
        let kept = labelled(&same, "g4dn.xlarge/us-east-1b/reserved", None);
        assert_eq!(kept, before);
    }
}
