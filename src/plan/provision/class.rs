//! Classes of pods, ready to be packed.
//!
//! Given the classes that wait and what could be bought; given back for each class what it needs in
//! every dimension, on which candidates it fits, and in which order of preference they are tried.
//! A class that can never be placed as it is written carries its reason.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::demand::PodClass;
use super::labels::{DemandTerm, NodeDemand, read_term};
use super::levels;
use super::occupants::Occupants;
use super::promise;
use super::shared_claims::SharedClaims;
use super::supply::{Candidate, Supply};
use crate::model::pod::{PodKey, PodSpec};
use crate::model::report::ReasonKind;
use crate::model::requirement::Requirements;
use crate::model::resources::Resources;
use crate::model::snapshot::Snapshot;
use crate::model::taint::{Toleration, first_untolerated};
use crate::model::workload::VolumeClaim;
use crate::plan::pack::Bits;

/// The CSI driver of EBS volumes.
pub const EBS_DRIVER: &str = "ebs.csi.aws.com";
/// Pseudo resources that count attached volumes: this and the driver's name.
pub const ATTACH: &str = "attached-volumes/";
/// Room where nothing limits; sums of a few million of them still fit 63 bits.
pub const UNLIMITED: i64 = i64::MAX / (1 << 24);

/// A class of pods.
#[derive(Debug, Clone)]
pub struct Class {
    /// What each pod asks for.
    pub spec: Arc<PodSpec>,
    /// The pods in name order: shared, because fleets are tried with copies of all classes.
    pub pods: Arc<[PodKey]>,
    /// Names the class in promises.
    pub hash: u64,
    /// Where its pods may be by their own words.
    pub own_demand: NodeDemand,
    /// The same with the places of their volumes.
    pub demand: NodeDemand,
    /// Where its volumes are or may be made, each a list of alternatives.
    pub places: Vec<Vec<DemandTerm>>,
    /// Requests, attached volumes included.
    pub needs: Resources,
    /// Why it cannot be placed at all.
    pub problem: Option<(ReasonKind, String)>,
    /// Candidates whose labels and taints suit it.
    pub suitable: Bits,
    /// Of those the ones that are large enough.
    pub fitting: Bits,
    /// Available candidates in the order in which they are tried.
    pub levels: Vec<Bits>,
    /// The same had its pods no wishes of nodes, where that is something else: what a lower bound may count on.
    pub unwished: Vec<Bits>,
    /// `needs` by dimension.
    pub size: Vec<i64>,
    /// What the DaemonSet pods of new nodes mean to it: see [`super::occupants::narrow`].
    pub occupants: Occupants,
}

/// Reads classes; candidates come later, by [`match_candidates`].
pub fn read(snapshot: &Snapshot, waiting: Vec<PodClass>) -> Vec<Class> {
    let mut classes: BTreeMap<_, (Class, Vec<PodKey>)> = BTreeMap::new();
    let shared = SharedClaims::of(snapshot, &waiting);
    for group in waiting {
        let volumes = volumes(snapshot, &group.spec);
        let (own_demand, problem) = match NodeDemand::of(&group.spec) {
            Ok(demand) => (demand, None),
            Err((key, error)) => (
                NodeDemand {
                    terms: vec![DemandTerm::default()],
                },
                Some((
                    ReasonKind::InvalidPod,
                    format!("node affinity on {key}: {error}"),
                )),
            ),
        };
        let problem = group
            .spec
            .problem
            .clone()
            .map(|problem| (ReasonKind::InvalidPod, problem))
            .or(problem)
            .or_else(|| {
                let problem = volumes.problem.clone()?;
                Some((ReasonKind::VolumeUnsatisfiable, problem))
            });
        let demand = volumes
            .places
            .iter()
            .fold(own_demand.clone(), |demand, place| demand.and(place));
        let mut needs = group.spec.requests.clone();
        needs.add(&volumes.attached);
        let spec = without_claim_names(&group.spec, &shared);
        // What cannot be placed for its volume must not keep those out that differ in nothing else.
        let key = (
            Arc::clone(&spec),
            volumes.places.clone(),
            volumes.attached,
            volumes.problem,
        );
        let (_class, pods) = classes.entry(key).or_insert_with(|| {
            let class = Class {
                hash: promise::class_hash(&spec),
                spec,
                pods: Arc::default(),
                own_demand,
                demand,
                places: volumes.places,
                needs,
                problem,
                suitable: Bits::default(),
                fitting: Bits::default(),
                levels: Vec::new(),
                unwished: Vec::new(),
                size: Vec::new(),
                occupants: Occupants::default(),
            };
            (class, Vec::new())
        });
        pods.extend(group.pods);
    }
    let whole = classes.into_values().map(|(class, mut pods)| {
        pods.sort();
        let pods = pods.into();
        Class { pods, ..class }
    });
    whole.collect()
}

/// Pods that differ only in the names of their volume claims are one class, unless they share a claim.
fn without_claim_names(spec: &Arc<PodSpec>, shared: &SharedClaims) -> Arc<PodSpec> {
    let Some(constraints) = &spec.constraints else {
        return Arc::clone(spec);
    };
    if constraints.volume_claims.is_empty() {
        return Arc::clone(spec);
    }
    let mut own = PodSpec::clone(spec);
    if let Some(constraints) = &mut own.constraints {
        for name in &mut Arc::make_mut(constraints).volume_claims {
            if !shared.contains(spec, name) {
                name.clear();
            }
        }
        Arc::make_mut(constraints).volume_claims.sort();
    }
    Arc::new(own)
}

/// What a pod's volumes demand.
#[derive(Debug, Default)]
struct Volumes {
    places: Vec<Vec<DemandTerm>>,
    attached: Resources,
    problem: Option<String>,
}

fn volumes(snapshot: &Snapshot, spec: &PodSpec) -> Volumes {
    let mut volumes = Volumes::default();
    let names = spec
        .constraints
        .iter()
        .flat_map(|constraints| &constraints.volume_claims);
    for name in names {
        let Some(claim) = snapshot
            .volume_claims
            .get(&format!("{}/{name}", spec.namespace))
        else {
            volumes
                .problem
                .get_or_insert_with(|| format!("PersistentVolumeClaim {name} does not exist"));
            continue;
        };
        if let Some(problem) = &claim.problem {
            volumes.problem.get_or_insert_with(|| problem.clone());
        }
        if !claim.driver.is_empty() {
            let one = Resources::new().with(&format!("{ATTACH}{}", claim.driver), 1);
            volumes.attached.add(&one);
        }
        if !claim.node_terms.is_empty() {
            let terms = places_of(claim);
            if terms.is_empty() {
                volumes.problem.get_or_insert_with(|| {
                    format!("the volume of {name} says where it is in words that cannot be read")
                });
            } else {
                volumes.places.push(terms);
            }
        }
    }
    volumes.places.sort();
    volumes.places.dedup();
    volumes
}

/// Where the volume of a claim is or may be made, as far as it can be read; the terms are alternatives.
pub fn places_of(claim: &VolumeClaim) -> Vec<DemandTerm> {
    let terms = claim.node_terms.iter();
    terms
        .filter_map(|term| read_term(term, &Requirements::new()).ok().flatten())
        .collect()
}

/// The names of the dimensions in which some class needs something.
pub fn dimensions(classes: &[Class]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for class in classes {
        for (name, _amount) in class.needs.iter() {
            if !names.iter().any(|known| known == name) {
                names.push(name.to_owned());
            }
        }
    }
    names.sort();
    names
}

/// Amounts by dimension. Attached volumes are unlimited where nothing is known of the driver.
pub fn dense(
    dimensions: &[String],
    amounts: &Resources,
    volumes: &BTreeMap<String, i64>,
) -> Vec<i64> {
    dimensions
        .iter()
        .map(|name| match name.strip_prefix(ATTACH) {
            Some(driver) => volumes.get(driver).copied().unwrap_or(UNLIMITED),
            None => amounts.get(name).min(UNLIMITED),
        })
        .collect()
}

/// Amounts of a class by dimension.
pub fn dense_needs(dimensions: &[String], needs: &Resources) -> Vec<i64> {
    dimensions
        .iter()
        .map(|name| needs.get(name).min(UNLIMITED))
        .collect()
}

/// What every candidate offers, by dimension.
pub fn dense_supply(dimensions: &[String], supply: &Supply) -> Vec<Vec<i64>> {
    supply
        .candidates
        .iter()
        .map(|candidate| dense_candidate(dimensions, candidate))
        .collect()
}

/// What a candidate offers, by dimension.
pub fn dense_candidate(dimensions: &[String], candidate: &Candidate) -> Vec<i64> {
    let limit = i64::from(candidate.instance.volume_limit);
    let volumes = BTreeMap::from([(EBS_DRIVER.to_owned(), limit)]);
    dense(dimensions, &candidate.free, &volumes)
}

/// True when `size` fits `free`.
pub fn fits(size: &[i64], free: &[i64]) -> bool {
    size.iter()
        .zip(free)
        .all(|(size, free)| *size <= 0 || size <= free)
}

/// Finds for every class the candidates that suit it, and the order in which they are tried.
pub fn match_candidates(
    classes: &mut [Class],
    supply: &Supply,
    dimensions: &[String],
    drivers_on_demand: bool,
) {
    let capacities = dense_supply(dimensions, supply);
    let count = supply.candidates.len();
    let mut suitable: BTreeMap<(NodeDemand, Vec<Toleration>), Bits> = BTreeMap::new();
    let mut large_enough: BTreeMap<Vec<i64>, Bits> = BTreeMap::new();
    let available = Bits::of(count, |index| {
        supply
            .candidates
            .get(index)
            .is_some_and(|candidate| candidate.offering.available)
    });
    let of_variant = levels::by_variant(supply);
    for class in classes {
        class.size = dense_needs(dimensions, &class.needs);
        class.suitable = suitable
            .entry((class.demand.clone(), class.spec.tolerations.clone()))
            .or_insert_with(|| suits(class, supply))
            .clone();
        // Many classes are of one size.
        let large = large_enough.entry(class.size.clone()).or_insert_with(|| {
            Bits::of(count, |index| {
                capacities
                    .get(index)
                    .is_some_and(|free| fits(&class.size, free))
            })
        });
        class.fitting = class.suitable.and(large);
        let usable = class.fitting.and(&available);
        class.levels = levels::ranked(class, supply, (&usable, &of_variant), drivers_on_demand)
            .into_values()
            .rev()
            .collect();
    }
}

fn suits(class: &Class, supply: &Supply) -> Bits {
    let tolerated: Vec<bool> = supply
        .variants
        .iter()
        .map(|variant| first_untolerated(&variant.pool.taints, &class.spec.tolerations).is_none())
        .collect();
    Bits::of(supply.candidates.len(), |index| {
        supply
            .candidates
            .get(index)
            .is_some_and(|candidate| tolerated.get(candidate.variant) == Some(&true))
            && supply
                .labels(index)
                .is_some_and(|labels| class.demand.accepts(&labels))
    })
}

/// True for the pod that a Spark application, or what submits it, cannot lose.
pub fn is_spark_driver(spec: &PodSpec) -> bool {
    let label = |key: &str| spec.labels.get(key).map(String::as_str);
    label("spark-role") == Some("driver")
        || matches!(
            label("emr-containers.amazonaws.com/component"),
            Some("driver" | "job.submitter")
        )
}

/// The values that classes ask for, by label key: what open custom labels may become.
pub fn wanted_values(classes: &[Class]) -> BTreeMap<String, Vec<String>> {
    let mut wanted: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for class in classes {
        for term in &class.demand.terms {
            for (key, requirement) in &term.labels.0 {
                if requirement.complement {
                    continue;
                }
                let values = wanted.entry(key.clone()).or_default();
                for value in &requirement.values {
                    if !values.contains(value) {
                        values.push(value.clone());
                    }
                }
            }
        }
    }
    for values in wanted.values_mut() {
        values.sort();
    }
    wanted
}
