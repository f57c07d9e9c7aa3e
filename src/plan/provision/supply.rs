//! What could be bought: for every NodePool each type, zone and capacity type that it allows.
//!
//! Given a snapshot, it gives back the pools that may buy, each with its candidates: price with
//! fees, labels, and what pods may use once the DaemonSets of the node are in. Pools that may not
//! buy come back with the reason. Nothing is chosen here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::daemons::Daemons;
use super::labels::{CAPACITY_TYPE, HOSTNAME, INSTANCE_TYPE, Labelled, ZONE};
use super::reach::Reach;
use super::risk;
use super::slots::{self, Slots};
use crate::api::labels::{
    CAPACITY_BLOCK_END, CAPACITY_RESERVATION_ID, CAPACITY_RESERVATION_INTERRUPTIBLE,
    CAPACITY_RESERVATION_TYPE, normalize,
};
use crate::model::claim::Claim;
use crate::model::money::UsdPerHour;
use crate::model::node_class::NodeClass;
use crate::model::node_pool::NodePool;
use crate::model::offering::{CapacityType, Catalogue, InstanceType, Offering};
use crate::model::report::{PoolReason, ReasonKind};
use crate::model::requirement::Requirement;
use crate::model::reservation::Reservation;
use crate::model::resources::{NODES, Resources};
use crate::model::snapshot::Snapshot;

/// Most values of one custom label that a pool's nodes are told apart by.
const MAX_VARIANTS: usize = 16;

/// A NodePool that may buy, with one fixed set of labels.
///
/// A pool whose requirements leave a custom label open becomes one variant for each value that pods
/// ask for, so that every candidate has definite labels.
#[derive(Debug, Clone)]
pub struct PoolVariant {
    /// The pool.
    pub pool: Arc<NodePool>,
    /// Its node class.
    pub class: Arc<NodeClass>,
    /// Labels that its nodes have beside those of type, zone and capacity type.
    pub labels: BTreeMap<String, String>,
    /// Of `labels` those that were chosen here, not by the pool.
    pub chosen: BTreeMap<String, String>,
}

/// One thing that could be bought.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// Index of the pool variant.
    pub variant: usize,
    /// The instance type.
    pub instance: Arc<InstanceType>,
    /// The offering.
    pub offering: Offering,
    /// Zone id, where the node class knows it.
    pub zone_id: Option<String>,
    /// Price and all fees.
    pub price: UsdPerHour,
    /// The fees in it.
    pub fees: UsdPerHour,
    /// What it is expected to cost beside that: it counts while offerings are compared, and is
    /// never part of a price that is told.
    pub risk: UsdPerHour,
    /// What pods may use: allocatable less DaemonSets.
    pub free: Resources,
    /// What the DaemonSets take.
    pub daemons: Resources,
    /// The pool's price ceilings keep it out; it is not available then.
    pub too_dear: bool,
    /// The DaemonSets whose pods land on it: indices into [`Daemons::specs`].
    pub daemon_sets: Vec<usize>,
    /// For a machine in a capacity reservation, which; there are as many as it has free slots.
    pub slot: Option<Slot>,
}

/// The capacity reservation of a candidate.
#[derive(Debug, Clone)]
pub struct Slot {
    /// The reservation.
    pub reservation: Reservation,
    /// What such a machine costs that is not in it.
    pub instead: UsdPerHour,
}

impl Candidate {
    /// What it is compared by: price, fees and risk.
    pub fn weighed(&self) -> UsdPerHour {
        self.price + self.risk
    }
}

impl Slot {
    /// The labels of a machine in it, which say where it is to be launched.
    pub fn labels(&self) -> [(String, String); 3] {
        let reservation = &self.reservation;
        [
            (CAPACITY_RESERVATION_ID, reservation.id.as_str()),
            (CAPACITY_RESERVATION_TYPE, reservation.kind.as_str()),
            (
                CAPACITY_RESERVATION_INTERRUPTIBLE,
                reservation.interruptible(),
            ),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
    }

    /// The annotation that says when its machines end, if they do.
    pub fn end(&self) -> Option<(String, String)> {
        let end = self.reservation.block_end()?;
        Some((CAPACITY_BLOCK_END.to_owned(), end.0.to_string()))
    }
}

/// A candidate together with its variant, for label questions.
#[derive(Debug, Clone, Copy)]
pub struct CandidateLabels<'supply> {
    /// The variant.
    pub variant: &'supply PoolVariant,
    /// The candidate's type.
    pub instance: &'supply InstanceType,
    /// The candidate's offering.
    pub offering: &'supply Offering,
    /// The zone id.
    pub zone_id: Option<&'supply str>,
    /// The capacity reservation.
    pub reservation: Option<&'supply Reservation>,
}

/// Labels that a candidate has by what it is, not by its pool or instance type.
const OF_OFFERINGS: [&str; 12] = [
    ZONE,
    "failure-domain.beta.kubernetes.io/zone",
    CAPACITY_TYPE,
    INSTANCE_TYPE,
    "beta.kubernetes.io/instance-type",
    "topology.k8s.aws/zone-id",
    CAPACITY_RESERVATION_ID,
    CAPACITY_RESERVATION_TYPE,
    CAPACITY_RESERVATION_INTERRUPTIBLE,
    HOSTNAME,
    "karpenter.sh/registered",
    "karpenter.sh/initialized",
];

impl Labelled for CandidateLabels<'_> {
    fn label(&self, key: &str) -> Option<&str> {
        // Under an old name too: a pod that says two things of one label keeps both of its names.
        match normalize(key) {
            ZONE => Some(&self.offering.key.zone),
            CAPACITY_TYPE => Some(self.offering.key.capacity_type.as_str()),
            INSTANCE_TYPE => Some(&self.instance.name),
            "topology.k8s.aws/zone-id" => self.zone_id,
            CAPACITY_RESERVATION_ID => self.reservation.map(|found| found.id.as_str()),
            CAPACITY_RESERVATION_TYPE => self.reservation.map(|found| found.kind.as_str()),
            CAPACITY_RESERVATION_INTERRUPTIBLE => self.reservation.map(Reservation::interruptible),
            // A name that no node has yet: excluded by In, allowed by NotIn and Exists.
            HOSTNAME => Some("\u{0}new"),
            "karpenter.sh/registered" | "karpenter.sh/initialized" => Some("true"),
            current => self
                .variant
                .labels
                .get(key)
                .or_else(|| self.instance.labels.get(current))
                .map(String::as_str),
        }
    }

    fn node_name(&self) -> Option<&str> {
        None
    }
}

/// Everything that could be bought.
#[derive(Debug, Clone, Default)]
pub struct Supply {
    /// Variants of the pools that may buy, heaviest pool first.
    pub variants: Vec<PoolVariant>,
    /// What could be bought, in variant, then key order.
    pub candidates: Vec<Candidate>,
    /// Pools that may not buy, and why.
    pub refused: Vec<PoolReason>,
    /// What each pool may still buy by its limits; absent resources are unlimited.
    pub room: BTreeMap<String, Room>,
    /// Free slots of capacity reservations.
    pub slots: Slots,
}

/// What a pool's limits leave, by resource; `nodes` counts nodes.
pub type Room = BTreeMap<String, i64>;

impl Supply {
    /// The names of the labels that candidates have.
    pub fn label_names(&self) -> BTreeSet<&str> {
        let mut names: BTreeSet<&str> = self
            .variants
            .iter()
            .flat_map(|variant| variant.labels.keys())
            .map(String::as_str)
            .collect();
        let mut seen: BTreeSet<*const InstanceType> = BTreeSet::new();
        for candidate in &self.candidates {
            if seen.insert(Arc::as_ptr(&candidate.instance)) {
                names.extend(candidate.instance.labels.keys().map(String::as_str));
            }
        }
        let has = |key: &str| {
            (0..self.candidates.len()).any(|index| {
                let labels = self.labels(index);
                labels.is_some_and(|labels| labels.label(key).is_some())
            })
        };
        names.extend(OF_OFFERINGS.into_iter().filter(|key| has(key)));
        names
    }

    /// The labels of a candidate.
    pub fn labels(&self, candidate: usize) -> Option<CandidateLabels<'_>> {
        let candidate = self.candidates.get(candidate)?;
        Some(CandidateLabels {
            variant: self.variants.get(candidate.variant)?,
            instance: &candidate.instance,
            offering: &candidate.offering,
            zone_id: candidate.zone_id.as_deref(),
            reservation: candidate.slot.as_ref().map(|slot| &slot.reservation),
        })
    }
}

/// True for labels that an instance type or offering has or lacks by nature; every other label is
/// the pool's to give.
pub fn is_inherent(key: &str) -> bool {
    key.starts_with("karpenter.k8s.aws/")
        || key.starts_with("topology.kubernetes.io/")
        || key.starts_with("topology.k8s.aws/")
        || matches!(
            key,
            INSTANCE_TYPE | CAPACITY_TYPE | "kubernetes.io/arch" | "kubernetes.io/os"
        )
}

/// Collects what could be bought. `wanted` are the values that pods ask for, by label key.
pub fn supply(
    snapshot: &Snapshot,
    daemons: &Daemons,
    wanted: &BTreeMap<String, Vec<String>>,
) -> Supply {
    let mut supply = Supply {
        slots: slots::free(snapshot),
        ..Supply::default()
    };
    let mut pools: Vec<&Arc<NodePool>> = snapshot.node_pools.values().collect();
    pools.sort_by(|left, right| {
        right
            .weight
            .cmp(&left.weight)
            .then_with(|| left.name.cmp(&right.name))
    });
    for pool in pools {
        match usable(snapshot, pool) {
            Ok(class) => {
                supply.room.insert(pool.name.clone(), room(snapshot, pool));
                let before = (supply.candidates.len(), supply.variants.len());
                for variant in variants(pool, &class, wanted) {
                    add_candidates(&mut supply, variant, daemons);
                }
                if supply.candidates.len() == before.0 {
                    supply.variants.truncate(before.1);
                    supply.refused.push(barren(pool, &class));
                }
            }
            Err(reason) => supply.refused.push(reason),
        }
    }
    supply
}

/// Why a pool that may buy has nothing to buy.
fn barren(pool: &Arc<NodePool>, class: &Arc<NodeClass>) -> PoolReason {
    let detail = Reach::of(pool, class).problem();
    PoolReason {
        node_pool: pool.name.clone(),
        reason: ReasonKind::RequirementsIncompatible,
        detail: detail.unwrap_or_else(|| {
            "no instance type that EC2 offers here meets the NodePool's own requirements".to_owned()
        }),
        nearest_miss: None,
    }
}

/// The class of a pool that may buy, or why it may not.
pub(in crate::plan) fn usable(
    snapshot: &Snapshot,
    pool: &NodePool,
) -> Result<Arc<NodeClass>, PoolReason> {
    let refuse = |reason, detail: String| PoolReason {
        node_pool: pool.name.clone(),
        reason,
        detail,
        nearest_miss: None,
    };
    if pool.deleting_since.is_some() {
        return Err(refuse(
            ReasonKind::NodePoolNotReady,
            "the NodePool is being deleted".to_owned(),
        ));
    }
    if let Some(problem) = pool.problems.first() {
        return Err(refuse(
            ReasonKind::NodePoolNotReady,
            format!("the NodePool is not valid: {problem}"),
        ));
    }
    if pool.paused {
        return Err(refuse(
            ReasonKind::NodePoolPaused,
            "the NodePool is paused by the annotation tonnage.dev/paused; remove it to let the NodePool buy"
                .to_owned(),
        ));
    }
    let Some(class) = snapshot.node_classes.get(&pool.node_class) else {
        return Err(refuse(
            ReasonKind::NodePoolNotReady,
            format!(
                "EC2NodeClass {} does not exist or is not resolved yet",
                pool.node_class
            ),
        ));
    };
    if !class.ready {
        return Err(refuse(
            ReasonKind::NodePoolNotReady,
            format!(
                "EC2NodeClass {} is not ready: {}",
                class.name, class.not_ready
            ),
        ));
    }
    Ok(Arc::clone(class))
}

/// What the limits of a pool leave after its nodes and claims.
pub fn room(snapshot: &Snapshot, pool: &NodePool) -> Room {
    room_without(snapshot, pool, &[])
}

/// The same when some of its claims were not there.
pub fn room_without(snapshot: &Snapshot, pool: &NodePool, gone: &[&Arc<Claim>]) -> Room {
    let mut room: Room = pool
        .limits
        .iter()
        .map(|(name, amount)| (name.to_owned(), amount))
        .chain(pool.zero_limits.iter().map(|name| (name.clone(), 0)))
        .collect();
    if room.is_empty() {
        return room;
    }
    for claim in snapshot.claims.values() {
        let is_gone = || gone.iter().any(|gone| gone.uid == claim.uid);
        if claim.node_pool.as_deref() != Some(pool.name.as_str()) || is_gone() {
            continue;
        }
        let node = snapshot.nodes.get(&claim.node_name);
        let used = match node {
            Some(node) if !node.capacity.is_empty() => node.capacity.clone(),
            _ if !claim.capacity.is_empty() => claim.capacity.clone(),
            _ => promised_capacity(snapshot, pool, claim),
        };
        for (name, left) in &mut room {
            let amount = if name == NODES { 1 } else { used.get(name) };
            *left = left.saturating_sub(amount);
        }
    }
    room
}

/// The most of each resource that a claim may turn out to have: nobody knows yet what is launched for it.
fn promised_capacity(snapshot: &Snapshot, pool: &NodePool, claim: &Claim) -> Resources {
    let mut most = Resources::new();
    let Some(class) = snapshot.node_classes.get(&pool.node_class) else {
        return most;
    };
    for key in claim.offerings.iter() {
        let found = class.catalogue.types.get(&key.instance_type);
        for (name, amount) in found.iter().flat_map(|found| found.capacity.iter()) {
            if amount > most.get(name) {
                most.set(name, amount);
            }
        }
    }
    most
}

/// The variants of a pool: one, unless its requirements leave custom labels open.
pub(super) fn variants(
    pool: &Arc<NodePool>,
    class: &Arc<NodeClass>,
    wanted: &BTreeMap<String, Vec<String>>,
) -> Vec<PoolVariant> {
    let mut labels = pool.labels.clone();
    let mut open: Vec<(&str, Vec<String>)> = Vec::new();
    for (key, requirement) in &pool.requirements.0 {
        if is_inherent(key) {
            continue;
        }
        if let Some(value) = requirement.single() {
            labels.insert(key.clone(), value.to_owned());
        } else if !labels.contains_key(key) {
            let values = open_values(requirement, wanted.get(key));
            if !values.is_empty() {
                open.push((key, values));
            }
        }
    }
    let mut variants = vec![PoolVariant {
        pool: Arc::clone(pool),
        class: Arc::clone(class),
        labels,
        chosen: BTreeMap::new(),
    }];
    for (key, values) in open {
        variants = variants
            .iter()
            .flat_map(|variant| {
                values.iter().map(move |value| {
                    let mut variant = variant.clone();
                    variant.labels.insert(key.to_owned(), value.clone());
                    variant.chosen.insert(key.to_owned(), value.clone());
                    variant
                })
            })
            .take(MAX_VARIANTS * MAX_VARIANTS)
            .collect();
    }
    variants
}

fn open_values(requirement: &Requirement, wanted: Option<&Vec<String>>) -> Vec<String> {
    let mut values: Vec<String> = wanted
        .into_iter()
        .flatten()
        .filter(|value| requirement.contains(value))
        .take(MAX_VARIANTS)
        .cloned()
        .collect();
    if values.is_empty() && !requirement.complement {
        values.extend(requirement.values.first().cloned());
    }
    values
}

fn add_candidates(supply: &mut Supply, variant: PoolVariant, daemons: &Daemons) {
    let index = supply.variants.len();
    let class = Arc::clone(&variant.class);
    let on_demand = on_demand_prices(&class.catalogue);
    for labels in allowed(&variant) {
        let offering = labels.offering;
        let Some(instance) = class.catalogue.types.get(&offering.key.instance_type) else {
            continue;
        };
        let zone_id = labels.zone_id.map(str::to_owned);
        let landing = daemons.landing_on(&labels, &variant.pool.taints);
        let overhead = daemons.requests(&landing);
        let mut free = instance.allocatable();
        free.subtract(&overhead);
        let fees = offering.fees + variant.pool.fee;
        let too_dear = is_too_dear(&variant.pool, offering, on_demand.get(&of_place(offering)));
        let risk = risk::surcharge(offering, variant.pool.risk_weight_thousandths);
        let slot = labels.reservation.map(|reservation| Slot {
            reservation: reservation.clone(),
            instead: on_demand
                .get(&of_place(offering))
                .map_or(fees, |price| *price + fees),
        });
        let is_full = |slot: &Slot| supply.slots.get(&slot.reservation.id) == Some(&0);
        let mut offering = offering.clone();
        offering.available &= !too_dear && !slot.as_ref().is_some_and(is_full);
        supply.candidates.push(Candidate {
            variant: index,
            instance: Arc::clone(instance),
            zone_id,
            price: offering.price + fees,
            offering,
            too_dear,
            fees,
            risk,
            free,
            daemons: overhead,
            daemon_sets: landing,
            slot,
        });
    }
    supply.variants.push(variant);
}

/// Everything that a variant's class leads to, whether the pool allows it or not.
pub(super) fn labelled(variant: &PoolVariant) -> impl Iterator<Item = CandidateLabels<'_>> {
    let zone_ids: BTreeMap<&str, &str> = variant
        .class
        .subnets
        .values()
        .flatten()
        .map(|subnet| (subnet.zone.as_str(), subnet.zone_id.as_str()))
        .collect();
    let catalogue = &variant.class.catalogue;
    let sold = catalogue.offerings.iter();
    let reservations = variant.class.reservations.iter();
    let reserved = reservations
        .filter(|reservation| reservation.is_planned_for())
        .map(|reservation| (&reservation.offering, Some(reservation)));
    let all = sold.map(|offering| (offering, None)).chain(reserved);
    all.filter_map(move |(offering, reservation)| {
        Some(CandidateLabels {
            variant,
            instance: catalogue.types.get(&offering.key.instance_type)?,
            offering,
            zone_id: zone_ids.get(&*offering.key.zone).copied(),
            reservation,
        })
    })
}

/// What a variant's pool allows of it.
pub(super) fn allowed(variant: &PoolVariant) -> impl Iterator<Item = CandidateLabels<'_>> {
    labelled(variant).filter(|labels| pool_allows(&variant.pool, labels))
}

/// On-demand prices by type and zone, to compare spot prices with; none while they are another region's.
pub(super) fn on_demand_prices(catalogue: &Catalogue) -> BTreeMap<(&str, &str), UsdPerHour> {
    if catalogue.has_foreign_prices {
        return BTreeMap::new();
    }
    catalogue
        .offerings
        .iter()
        .filter(|offering| offering.key.capacity_type == CapacityType::OnDemand)
        .map(|offering| (of_place(offering), offering.price))
        .collect()
}

/// The type and zone of an offering: its on-demand price is that of the same place.
pub(super) fn of_place(offering: &Offering) -> (&str, &str) {
    (&offering.key.instance_type, &offering.key.zone)
}

/// True when the pool's price ceilings forbid the offering. A spot machine whose on-demand price
/// nobody knows cannot be compared, and is allowed.
pub(super) fn is_too_dear(
    pool: &NodePool,
    offering: &Offering,
    on_demand: Option<&UsdPerHour>,
) -> bool {
    let absolute = pool.max_price.is_some_and(|most| offering.price > most);
    let relative = offering.key.capacity_type == CapacityType::Spot
        && pool
            .max_percent_of_on_demand
            .zip(on_demand)
            .is_some_and(|(percent, on_demand)| {
                i128::from(offering.price.units()) * 100
                    > i128::from(on_demand.units()) * i128::from(percent)
            });
    absolute || relative
}

fn pool_allows(pool: &NodePool, labels: &CandidateLabels<'_>) -> bool {
    let requirements = &pool.requirements.0;
    requirements
        .iter()
        .all(|(key, requirement)| allows(key, requirement, labels.label(key)))
}

/// True when a pool's requirement on a key lets a node with this value be made.
pub(super) fn allows(key: &str, requirement: &Requirement, value: Option<&str>) -> bool {
    match value {
        Some(value) => requirement.contains(value),
        None => requirement.may_be_absent || !is_inherent(key),
    }
}
