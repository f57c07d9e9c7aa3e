//! How many more machines the capacity reservations have room for.
//!
//! Given a snapshot; given back the free slots of every reservation that machines are planned for, by its
//! id. A claim that names a reservation holds its slot from the moment it is made: EC2's own count comes
//! late, and says nothing of claims that are not launched yet. A plan never has more claims for one
//! than there are free slots.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::SignedDuration;

use crate::api::conditions::ConditionType;
use crate::api::labels;
use crate::model::claim::Claim;
use crate::model::reservation::Reservation;
use crate::model::snapshot::Snapshot;

/// How long after its launch a machine may be missing in EC2's count of a reservation. What EC2 shows of
/// new machines is usually right within seconds; a slot that is taken for used once too often is only
/// planned a round later.
const COUNTED_AFTER: SignedDuration = SignedDuration::from_mins(1);

/// Free slots by id of the reservation.
pub type Slots = BTreeMap<String, u32>;

/// The free slots of all reservations that machines are planned for.
pub fn free(snapshot: &Snapshot) -> Slots {
    let mut slots = Slots::new();
    let reservations = snapshot
        .node_classes
        .values()
        .flat_map(|class| &class.reservations)
        .filter(|reservation| reservation.is_planned_for());
    let mut holders: Option<BTreeMap<&str, Vec<&Arc<Claim>>>> = None;
    for reservation in reservations {
        let holders = holders.get_or_insert_with(|| holders_of(snapshot));
        let own = holders.get(reservation.id.as_str());
        let free = if reservation.is_expiring(snapshot.now) {
            0
        } else {
            left(reservation, own.map_or(&[], Vec::as_slice))
        };
        // Classes look at one reservation at different times.
        let known = slots.entry(reservation.id.clone()).or_insert(free);
        *known = free.min(*known);
    }
    slots
}

/// The claims that name each reservation.
fn holders_of(snapshot: &Snapshot) -> BTreeMap<&str, Vec<&Arc<Claim>>> {
    let mut holders: BTreeMap<&str, Vec<&Arc<Claim>>> = BTreeMap::new();
    for claim in snapshot.claims.values() {
        if let Some(id) = claim.labels.get(labels::CAPACITY_RESERVATION_ID) {
            holders.entry(id).or_default().push(claim);
        }
    }
    holders
}

fn left(reservation: &Reservation, own: &[&Arc<Claim>]) -> u32 {
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    let is_uncounted = |claim: &&&Arc<Claim>| {
        let launched = claim.conditions.get(ConditionType::Launched.as_str());
        let launched = launched.filter(|_condition| claim.is(ConditionType::Launched.as_str()));
        launched.is_none_or(|condition| {
            reservation.counted.duration_since(condition.since) < COUNTED_AFTER
        })
    };
    let uncounted = count(own.iter().filter(is_uncounted).count());
    let by_total = reservation.total.saturating_sub(count(own.len()));
    by_total.min(reservation.free.saturating_sub(uncounted))
}
