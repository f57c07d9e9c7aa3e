//! The account's capacity reservations: machines that are paid for, whether they run or not.

use super::{Ec2, State};
use crate::cloud::reservations::Described;

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
                free: reservation.total,
                ..reservation.clone()
            })
            .collect()
    }
}
