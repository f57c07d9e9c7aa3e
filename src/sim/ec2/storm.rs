//! A shortage storm: most pools of capacity are dry at once.
//!
//! Given a share; given back which offerings have nothing while it lasts. It follows from the seed
//! and from how often the storm has moved, so that the same storm comes with the same seed.

use super::{Ec2, State};
use crate::model::offering::OfferingKey;

impl Ec2 {
    /// From now on so many of 1000 offerings have no capacity, whatever they are; 0 ends the storm.
    pub fn storm(&self, per_mille: u64) {
        self.locked().storm.per_mille = per_mille;
    }

    /// True while there is a storm.
    pub fn storms(&self) -> bool {
        self.locked().storm.per_mille > 0
    }

    /// True while the storm has hit an offering.
    pub fn is_in_storm(&self, offering: &OfferingKey) -> bool {
        self.locked().is_in_storm(offering)
    }

    /// The storm moves on: it is as heavy as before, and which offerings it hits is drawn anew.
    pub fn move_storm(&self) {
        self.locked().storm.moved += 1;
    }
}

/// How heavy the storm is, and where.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Storm {
    /// Of 1000 offerings, how many have no capacity; 0 is none.
    per_mille: u64,
    /// How often it has moved.
    moved: u64,
}

impl State {
    /// True when the storm has hit an offering.
    pub(super) fn is_in_storm(&self, offering: &OfferingKey) -> bool {
        let Storm { per_mille, moved } = self.storm;
        if per_mille == 0 {
            return false;
        }
        let mut purpose = format!("storm/{}", offering.capacity_type);
        // One that has not moved hits what it always hit: a seed plays the history that it is known for.
        if moved > 0 {
            purpose = format!("{purpose}/{moved}");
        }
        self.markets.draw(offering, &purpose) % 1_000 < per_mille
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use crate::model::offering::{CapacityType, OfferingKey};
    use crate::sim::{Embedded, Options};

    fn pools(world: &Embedded) -> Vec<OfferingKey> {
        let zones = world.ec2.markets().at(world.now()).zones;
        let of_type = |(name, zones): (&Arc<str>, &BTreeSet<Arc<str>>)| {
            let pool = |zone: &Arc<str>| OfferingKey::new(name, zone, CapacityType::Spot);
            zones.iter().map(pool).collect::<Vec<_>>()
        };
        zones.iter().flat_map(of_type).collect()
    }

    /// The pools that have capacity.
    fn open(world: &Embedded) -> BTreeSet<OfferingKey> {
        let pools = pools(world);
        let state = world.ec2.locked();
        let now = state.clock.now();
        let is_open = |pool: &OfferingKey| state.room(pool, now) > 0;
        pools.into_iter().filter(is_open).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_storm_leaves_about_as_much_as_it_says_wherever_it_is_and_ends() {
        let world = Embedded::begin(Options::calm(1));
        let all = pools(&world).len();
        let per_mille = |open: &BTreeSet<OfferingKey>| open.len() * 1_000 / all;
        assert_eq!(open(&world).len(), all);
        world.ec2.storm(880);
        let first = open(&world);
        assert!((80..160).contains(&per_mille(&first)), "{first:?}");
        world.ec2.move_storm();
        let second = open(&world);
        assert!((80..160).contains(&per_mille(&second)), "{second:?}");
        let same = first.intersection(&second).count();
        assert!(
            same * 2 < first.len(),
            "{same} of {} are the same",
            first.len()
        );
        world.ec2.storm(0);
        assert_eq!(open(&world).len(), all);
    }
}
