//! Claims of which nothing can be bought now.
//!
//! Given claims whose offerings are all known to be short; given back what they say while they wait, or the steps
//! that give them up. Nothing is bought here.

use std::cell::LazyCell;
use std::collections::BTreeSet;
use std::ptr;
use std::sync::Arc;

use jiff::Timestamp;

use super::{LaunchStep, Shortages, WHAT_TO_LOOK_AT, give_up, reservation_of, wanted_by};
use crate::api::labels;
use crate::model::claim::Claim;
use crate::model::node_class::NodeClass;
use crate::model::offering::{CapacityType, InstanceType, Offering, OfferingKey};
use crate::model::pod::Pod;
use crate::model::snapshot::Snapshot;
use crate::plan::decision::Decision;
use crate::plan::launch::LaunchMemory;
use crate::plan::provision::promise::{self, Hashes};
use crate::plan::provision::reach::Reach;
use crate::plan::provision::slots::{self, Slots};
use crate::plan::provision::{limits, supply};

/// The reason of a claim that waits for capacity.
pub(super) const REASON: &str = "InsufficientCapacity";
/// The reason of a claim whose choices would all meet a quota of the account.
const QUOTA: &str = "QuotaExceeded";
/// The reason of a claim whose class asks for what EC2 refuses.
pub const REFUSED: &str = "NodeClassRefused";
/// The reason of a claim whose class makes machines that do not join.
pub const NO_SHOWS: &str = "MachinesDoNotJoin";

/// What stands against everything that a claim names.
#[derive(Debug, Clone, Copy)]
enum Obstacle<'here> {
    /// EC2 has nothing of it.
    Capacity,
    /// A quota of the account is used up, for which this was refused.
    Quota(&'here OfferingKey),
    /// EC2 refused something of it for how the class makes machines.
    Refused(&'here str),
    /// The last machines of such a type did not join.
    NoShows(&'here str),
}

impl<'here> Obstacle<'here> {
    fn of(
        memory: &'here LaunchMemory,
        class: &NodeClass,
        claim: &'here Claim,
        now: Timestamp,
    ) -> Self {
        let mut offerings = claim.offerings.iter();
        let refused = offerings
            .find_map(|offering| memory.refusals.why(class, wanted_by(claim, offering), now));
        // Where one type is only short, the claim may wait for it.
        let mut types = claim.offerings.iter().map(|key| &*key.instance_type);
        let first = types.clone().next();
        let is_doubted = types.all(|name| memory.no_shows.is_doubted(class, name));
        let doubted = first.filter(|_first| is_doubted);
        let quota = |key| memory.shortages.quota_refused(key, now);
        let is_quota = claim.offerings.iter().all(|key| quota(key).is_some());
        let met = claim
            .offerings
            .first()
            .filter(|_key| is_quota)
            .and_then(quota);
        match (refused, doubted, met) {
            (Some(why), ..) => Self::Refused(why),
            (None, Some(name), _) => Self::NoShows(name),
            (None, None, Some(key)) => Self::Quota(key),
            (None, None, None) => Self::Capacity,
        }
    }

    const fn reason(self) -> &'static str {
        match self {
            Self::Capacity => REASON,
            Self::Quota(_) => QUOTA,
            Self::Refused(_) => REFUSED,
            Self::NoShows(_) => NO_SHOWS,
        }
    }

    fn told(self, class: &NodeClass, claim: &Claim) -> String {
        let count = claim.offerings.len();
        let class = &class.name;
        match self {
            Self::Capacity => {
                format!("EC2 has no capacity now for any of the {count} offerings of this claim")
            }
            Self::Quota(key) => format!(
                "a quota of the account is used up ({key} was refused), which each of the {count} offerings of this \
                 claim would meet; raise the quota of {} vCPUs for such instances in Service Quotas",
                key.capacity_type.as_str()
            ),
            Self::Refused(why) => format!(
                "EC2 refuses machines as EC2NodeClass {class} makes them: {why}; so none of the {count} offerings \
                 of this claim can be bought now"
            ),
            Self::NoShows(name) => format!(
                "the last machines of EC2NodeClass {class} did not join the cluster, those of {name} for example, so \
                 none of the {count} offerings of this claim is bought now; look at {WHAT_TO_LOOK_AT}"
            ),
        }
    }
}

/// Nothing that the claims name can be bought now: why, as a reason and for people, while they wait for it, or nothing
/// when they are given up because their NodePool may buy something else.
pub(super) fn none_left(
    snapshot: &Snapshot,
    memory: &LaunchMemory,
    claims: &[&Arc<Claim>],
    class: &Arc<NodeClass>,
    decision: &mut Decision<LaunchStep>,
) -> Option<(&'static str, String)> {
    let (first, now) = (claims.first()?, snapshot.now);
    let obstacle = Obstacle::of(memory, class, first, now);
    let reason = obstacle.reason();
    let against = obstacle.told(class, first);
    let other = something_else(snapshot, claims, class, &memory.shortages).map(|other| {
        format!(
            "{against}; its pods are planned anew, as its NodePool may buy others, such as {other}"
        )
    });
    // Another NodePool may serve the pods of a class that makes no machines: they do not wait for it.
    let elsewhere = || format!("{against}; its pods are planned anew");
    let is_of_the_class = matches!(obstacle, Obstacle::Refused(_) | Obstacle::NoShows(_));
    if let Some(message) = other.or_else(|| is_of_the_class.then(elsewhere)) {
        give_up(claims, reason, &message, decision);
        return None;
    }
    let ends = first
        .offerings
        .iter()
        .filter_map(|offering| memory.closed_until(class, wanted_by(first, offering), now));
    if let Some(until) = ends.min() {
        decision.wake_at(until);
    }
    Some((reason, exhausted_message(first, &against, obstacle)))
}

/// Something that the claims' NodePool may buy now, once they are gone, that is not known to be short, and that
/// is large enough for what the first was made for, though it does not name it: what cost too much beside
/// the claim's own offerings while those could be had. Its pods may ask for a zone or an architecture, so
/// only those that the claim names count, unless the plan itself chose the zone.
fn something_else(
    snapshot: &Snapshot,
    claims: &[&Arc<Claim>],
    class: &Arc<NodeClass>,
    shortages: &Shortages,
) -> Option<String> {
    let claim = claims.first()?;
    let pool = snapshot.node_pools.get(claim.node_pool.as_ref()?)?;
    supply::usable(snapshot, pool).ok()?;
    let room = supply::room_without(snapshot, pool, claims);
    let catalogue = &class.catalogue;
    let architecture = |instance: &InstanceType| instance.labels.get(labels::ARCH).cloned();
    let zones: BTreeSet<&str> = claim.offerings.iter().map(|key| &*key.zone).collect();
    let anywhere = LazyCell::new(|| has_chosen_zone(snapshot, claim));
    let architectures: BTreeSet<Option<String>> = claim
        .offerings
        .iter()
        .filter_map(|key| catalogue.types.get(&key.instance_type))
        .map(|instance| architecture(instance))
        .collect();
    let reach = Reach::of(pool, class);
    let slots = slots::free(snapshot);
    let found = reach.offerings().find(|(instance, offering)| {
        let allocatable = instance.allocatable();
        let mut wanted = claim.requests.iter();
        let is_other = match offering.key.capacity_type {
            CapacityType::Reserved => is_free(class, offering, claim, &slots),
            _ => !claim.offerings.contains(&offering.key),
        };
        is_other
            && offering.available
            && architectures.contains(&architecture(instance))
            && wanted.all(|(name, amount)| amount <= allocatable.get(name))
            && limits::leaves(&room, &instance.capacity)
            && !shortages.is_short(&offering.key, snapshot.now)
            && (zones.contains(&*offering.key.zone) || *anywhere)
    });
    found.map(|(_instance, offering)| offering.key.to_string())
}

/// True when a pod that a claim was made for goes by zones where other pods are, so that its zone may be one of
/// several that it could have had. What it has to stay in all the same, the next plan finds out, and makes no claim
/// for it before that can be had again.
fn has_chosen_zone(snapshot: &Snapshot, claim: &Claim) -> bool {
    let promised = promise::read(&claim.annotations);
    let by_zone = |pod: &Arc<Pod>| {
        pod.spec.constraints.as_ref().is_some_and(|constraints| {
            let spread = constraints.spread.iter().map(|spread| &spread.topology_key);
            let terms = constraints
                .affinity
                .iter()
                .chain(&constraints.anti_affinity);
            let mut keys = spread.chain(terms.map(|term| &term.topology_key));
            keys.any(|key| key == labels::ZONE)
        })
    };
    let mut waiting = snapshot.pods.values().filter(|pod| pod.node_name.is_none());
    let mut hashes = Hashes::default();
    waiting.any(|pod| by_zone(pod) && promised.contains_key(&hashes.of(&pod.spec)))
}

/// True for the offering of a capacity reservation that a claim does not name and that has a free slot.
fn is_free(class: &NodeClass, offering: &Offering, claim: &Claim, slots: &Slots) -> bool {
    let mut reservations = class.reservations.iter();
    // By its place in the class: of one type and zone there may be several.
    let found = reservations.find(|found| ptr::eq(&raw const found.offering, offering));
    found.is_some_and(|found| {
        reservation_of(claim) != Some(&found.id)
            && slots.get(&found.id).is_some_and(|free| *free > 0)
    })
}

fn exhausted_message(claim: &Claim, against: &str, obstacle: Obstacle<'_>) -> String {
    if claim.offerings.is_empty() {
        return "the claim names nothing that may be bought (annotation tonnage.dev/offerings); let \
                the controller make claims from pending pods"
            .to_owned();
    }
    let types: BTreeSet<&str> = claim
        .offerings
        .iter()
        .map(|offering| &*offering.instance_type)
        .collect();
    let zones: BTreeSet<&str> = claim
        .offerings
        .iter()
        .map(|offering| &*offering.zone)
        .collect();
    let join = |names: BTreeSet<&str>| names.into_iter().collect::<Vec<_>>().join(", ");
    let helps = match obstacle {
        Obstacle::Quota(_) => {
            "smaller sizes, another capacity type or other families may have room"
        }
        _ => "more instance types, zones or capacity types in the NodePool would help",
    };
    format!(
        "{against} ({} in {}); they are tried again; {helps}",
        join(types),
        join(zones)
    )
}
