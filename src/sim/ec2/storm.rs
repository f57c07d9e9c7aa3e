//! A shortage storm: most pools of capacity are dry at once.
//!
//! Given a share; given back which offerings have nothing while it lasts. It follows from the seed
//! alone, so that the same storm comes with the same seed.

use super::{Ec2, State};
use crate::model::offering::OfferingKey;

impl Ec2 {
    /// From now on so many of 1000 offerings have no capacity, whatever they are; 0 ends the storm.
    pub fn storm(&self, per_mille: u64) {
        self.locked().storm = per_mille;
    }
}

impl State {
    /// True when the storm has hit an offering.
    pub(super) fn is_in_storm(&self, offering: &OfferingKey) -> bool {
        let purpose = format!("storm/{}", offering.capacity_type);
        self.storm > 0 && self.markets.draw(offering, &purpose) % 1_000 < self.storm
    }
}

#[cfg(test)]
mod tests {
    use crate::model::offering::{CapacityType, OfferingKey};
    use crate::sim::{Embedded, Options};

    #[tokio::test(start_paused = true)]
    async fn a_storm_leaves_about_as_much_as_it_says_and_ends() {
        let world = Embedded::begin(Options::calm(1));
        let pools: Vec<OfferingKey> = world
            .ec2
            .markets()
            .at(world.now())
            .zones
            .iter()
            .flat_map(|(name, zones)| {
                zones
                    .iter()
                    .map(move |zone| OfferingKey::new(name, zone, CapacityType::Spot))
            })
            .collect();
        let open = || {
            let state = world.ec2.locked();
            let now = state.clock.now();
            let open = pools.iter().filter(|pool| state.room(pool, now) > 0);
            open.count() * 1_000 / pools.len()
        };
        assert_eq!(open(), 1_000);
        world.ec2.storm(880);
        assert!((80..160).contains(&open()), "{} of 1000", open());
        world.ec2.storm(0);
        assert_eq!(open(), 1_000);
    }
}
