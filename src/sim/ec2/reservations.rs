//! The account's capacity reservations: machines that are paid for, whether they run or not.

use jiff::Timestamp;

use super::{Ec2, State};
use crate::cloud::reservations::Described;
use crate::model::offering::OfferingKey;
use crate::model::reservation::{ENDING, ReservationKind};

impl Ec2 {
    /// Makes a reservation, or replaces the one of its id. All of it counts as free that no machine is in,
    /// whatever it says.
    pub fn reserve(&self, reservation: Described) {
        let mut state = self.locked();
        state
            .reservations
            .insert(reservation.id.clone(), reservation);
    }

    /// Cancels a reservation.
    pub fn cancel_reservation(&self, id: &str) {
        self.locked().reservations.remove(id);
    }
}

impl State {
    /// The reservations that are active now, in order of id.
    pub(super) fn active_reservations(&self) -> Vec<Described> {
        let now = self.clock.now();
        self.reservations
            .values()
            .filter(|reservation| reservation.ends.is_none_or(|ends| now < ends))
            .map(|reservation| Described {
                free: reservation
                    .total
                    .saturating_sub(self.placed_in(&reservation.id)),
                ..reservation.clone()
            })
            .collect()
    }

    /// True when a reservation is active no longer: its machines stay, and are on-demand from then on.
    pub(super) fn is_over(&self, id: &str) -> bool {
        let now = self.clock.now();
        let reservation = self.reservations.get(id);
        reservation.is_none_or(|reservation| reservation.ends.is_some_and(|ends| ends <= now))
    }

    /// The machines of capacity blocks that EC2 ends now.
    pub(super) fn ending_with_blocks(&self) -> Vec<String> {
        let now = self.clock.now();
        let is_over = |id: &str| {
            let block = self.reservations.get(id);
            block
                .and_then(ending_at)
                .is_some_and(|ending| ending <= now)
        };
        let over = self.alive().filter(|machine| {
            machine.ended.is_none() && machine.reservation().is_some_and(is_over)
        });
        over.map(|machine| machine.id().to_owned()).collect()
    }

    /// How many machines are in a reservation.
    fn placed_in(&self, id: &str) -> u32 {
        let placed = self
            .alive()
            .filter(|machine| machine.reservation() == Some(id));
        u32::try_from(placed.count()).unwrap_or(u32::MAX)
    }

    /// How many more machines of a type in a zone a reservation takes.
    pub(super) fn room_in(&self, id: &str, offering: &OfferingKey) -> usize {
        let now = self.clock.now();
        let active = self.active_reservations();
        let found = active.iter().find(|reservation| {
            reservation.id == id
                && ending_at(reservation).is_none_or(|ending| now < ending)
                && *reservation.instance_type == *offering.instance_type
                && *reservation.zone == *offering.zone
        });
        found.map_or(0, |reservation| reservation.free as usize)
    }
}

/// When EC2 begins to end the machines of a block; `None` for other reservations.
fn ending_at(reservation: &Described) -> Option<Timestamp> {
    let is_block = reservation.kind == ReservationKind::CapacityBlock;
    let ends = reservation.ends.filter(|_ends| is_block)?;
    ends.checked_sub(ENDING).ok()
}
