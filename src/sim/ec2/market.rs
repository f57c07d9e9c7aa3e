//! Prices and spare capacity of the simulated region, as functions of time.
//!
//! Given an offering and a time; given back its price and how many machines of it are to be had. Both
//! follow from the seed alone, so that nothing has to be stepped. Spot prices move every ten minutes
//! around a share of the on-demand price; pools of capacity run dry for an hour and come back.
//! On-demand prices are the built-in, dated ones.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;

use crate::cloud::builtin;
use crate::cloud::catalogue::Market;
use crate::model::money::UsdPerHour;
use crate::model::offering::{CapacityType, OfferingKey};

/// How often spot prices change, seconds.
pub const PRICE_STEP: i64 = 600;
/// How often capacity changes, seconds.
const CAPACITY_STEP: i64 = 3_600;
/// The share of the on-demand price that spot capacity costs where prices do not move, of 1000.
pub const STILL_SPOT_PER_MILLE: u64 = 333;
/// How many machines of an offering there are where capacity is without end.
const ENDLESS: usize = 10_000;
/// Instance families that the region sells unless told otherwise: enough to choose from, and few
/// enough that a plan takes milliseconds in a debug build too.
pub const FAMILIES: [&str; 10] = [
    "c5", "c6i", "c7i", "m5", "m6i", "r5", "r6i", "t3", "g4dn", "g5",
];

/// What the region is like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Weather {
    /// Spot prices move; otherwise they stay at a third of the on-demand price.
    pub moving_prices: bool,
    /// Of 1000 spot pools, how many are dry in an hour.
    pub dry_spot_per_mille: u64,
    /// Of 1000 on-demand pools, how many are dry in an hour.
    pub dry_on_demand_per_mille: u64,
    /// Of 1000 running spot instances, how many are reclaimed in an hour.
    pub reclaimed_per_mille: u64,
}

impl Weather {
    /// A quiet region: fixed prices, capacity without end, nothing is reclaimed.
    pub const CALM: Self = Self {
        moving_prices: false,
        dry_spot_per_mille: 0,
        dry_on_demand_per_mille: 0,
        reclaimed_per_mille: 0,
    };
    /// A usual day.
    pub const USUAL: Self = Self {
        moving_prices: true,
        dry_spot_per_mille: 80,
        dry_on_demand_per_mille: 10,
        reclaimed_per_mille: 60,
    };
}

/// The region's market.
#[derive(Debug, Clone)]
pub struct Markets {
    seed: u64,
    weather: Weather,
    table: Market,
}

impl Markets {
    /// The market of a region that sells the given families.
    pub fn new(seed: u64, weather: Weather, families: &[&str]) -> Self {
        let mut table = builtin::market();
        let sold = |name: &Arc<str>| {
            let family = name
                .split_once('.')
                .map_or(&**name, |(family, _size)| family);
            families.contains(&family)
        };
        table.types.retain(|name, _facts| sold(name));
        table.zones.retain(|name, _zones| sold(name));
        Self {
            seed,
            weather,
            table,
        }
    }

    /// The market of a region that sells everything of the built-in catalogue.
    pub fn of_everything(seed: u64, weather: Weather) -> Self {
        Self {
            seed,
            weather,
            table: builtin::market(),
        }
    }

    /// What the region is like.
    pub fn weather(&self) -> &Weather {
        &self.weather
    }

    /// What is sold, whatever it costs at a time.
    pub fn sold(&self) -> &Market {
        &self.table
    }

    /// What is sold, at the prices of a time.
    pub fn at(&self, now: Timestamp) -> Market {
        let mut market = self.table.clone();
        let mut spot: BTreeMap<Arc<str>, BTreeMap<Arc<str>, UsdPerHour>> = BTreeMap::new();
        for (name, zones) in &market.zones {
            let prices = zones.iter().filter_map(|zone| {
                let key = OfferingKey {
                    instance_type: Arc::clone(name),
                    zone: Arc::clone(zone),
                    capacity_type: CapacityType::Spot,
                };
                Some((Arc::clone(zone), self.price(&key, now)?))
            });
            spot.insert(Arc::clone(name), prices.collect());
        }
        market.prices.spot = spot;
        market.prices.spot_at = Some(now);
        market
    }

    /// The price of an offering at a time; `None` when it is not sold.
    pub fn price(&self, offering: &OfferingKey, now: Timestamp) -> Option<UsdPerHour> {
        let sold = self.table.zones.get(&offering.instance_type)?;
        if !sold.contains(&offering.zone) {
            return None;
        }
        let facts = self.table.types.get(&offering.instance_type)?;
        let on_demand = self.table.prices.on_demand.get(&offering.instance_type)?;
        match offering.capacity_type {
            CapacityType::Reserved => None,
            CapacityType::OnDemand => facts.on_demand.then_some(*on_demand),
            CapacityType::Spot if !facts.spot => None,
            CapacityType::Spot => Some(share(*on_demand, self.spot_per_mille(offering, now))),
        }
    }

    /// The share of the on-demand price that a spot pool costs, of 1000.
    fn spot_per_mille(&self, offering: &OfferingKey, now: Timestamp) -> u64 {
        if !self.weather.moving_prices {
            return STILL_SPOT_PER_MILLE;
        }
        let base = 260 + self.draw(offering, "level") % 240;
        // A random value each hour, and a straight line between two of them.
        let step = now.as_second().div_euclid(PRICE_STEP);
        let steps = 3_600 / PRICE_STEP;
        let hour = step.div_euclid(steps);
        let along = step.rem_euclid(steps).unsigned_abs();
        let anchor = |hour: i64| 800 + self.draw(offering, &format!("price/{hour}")) % 500;
        let steps = steps.unsigned_abs();
        let wave = (anchor(hour) * (steps - along) + anchor(hour + 1) * along) / steps;
        (base * wave / 1_000).min(1_000)
    }

    /// How many machines of an offering there are in all at a time.
    pub fn capacity(&self, offering: &OfferingKey, now: Timestamp) -> usize {
        let hour = now.as_second().div_euclid(CAPACITY_STEP);
        let draw = self.draw(offering, &format!("capacity/{hour}"));
        let (dry, room) = match offering.capacity_type {
            CapacityType::Spot => (self.weather.dry_spot_per_mille, 8 + draw / 1_000 % 40),
            CapacityType::OnDemand => (self.weather.dry_on_demand_per_mille, 1_000),
            CapacityType::Reserved => return 0,
        };
        if draw % 1_000 < dry {
            return 0;
        }
        if self.is_endless() {
            return ENDLESS;
        }
        usize::try_from(room).unwrap_or(0)
    }

    /// How many more machines of an offering there are at a time when so many run. Where capacity is
    /// without end the machines that run do not count, so that it makes no difference which of two
    /// launches comes first.
    pub fn room(&self, offering: &OfferingKey, now: Timestamp, used: usize) -> usize {
        let there = self.capacity(offering, now);
        if self.is_endless() {
            there
        } else {
            there.saturating_sub(used)
        }
    }

    const fn is_endless(&self) -> bool {
        self.weather.dry_spot_per_mille == 0
    }

    /// A number that follows from the seed, an offering and a purpose: FNV-1a, then a finalizer that
    /// spreads it, as the last bytes would otherwise only move the low bits.
    pub(super) fn draw(&self, offering: &OfferingKey, purpose: &str) -> u64 {
        let mut hash = self.seed ^ 0xcbf2_9ce4_8422_2325;
        let parts = [&*offering.instance_type, &*offering.zone, purpose];
        for byte in parts.iter().flat_map(|part| part.bytes().chain([0])) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        hash ^= hash >> 33;
        hash = hash.wrapping_mul(0xff51_afd7_ed55_8ccd);
        hash ^ (hash >> 33)
    }
}

/// A share of a price, with the four decimals that spot prices have.
fn share(price: UsdPerHour, per_mille: u64) -> UsdPerHour {
    const STEP: i64 = 1_000_000;
    let per_mille = i64::try_from(per_mille).unwrap_or(1_000);
    let units = price.units().saturating_mul(per_mille) / 1_000;
    UsdPerHour::from_units((units / STEP).max(1).saturating_mul(STEP))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::tests::at;

    fn pools(markets: &Markets) -> Vec<OfferingKey> {
        markets
            .table
            .zones
            .iter()
            .flat_map(|(name, zones)| {
                zones
                    .iter()
                    .map(|zone| OfferingKey::new(name, zone, CapacityType::Spot))
            })
            .collect()
    }

    #[test]
    fn spot_prices_move_below_the_on_demand_price() {
        let markets = Markets::new(7, Weather::USUAL, &FAMILIES);
        let mut moved = 0;
        for pool in pools(&markets) {
            let ceiling = markets.table.prices.on_demand[&pool.instance_type];
            let prices: Vec<UsdPerHour> = (0..24)
                .filter_map(|hour| markets.price(&pool, at(hour * 3_600)))
                .collect();
            assert!(prices.iter().all(|price| *price <= ceiling), "{pool}");
            moved += usize::from(prices.windows(2).any(|pair| pair[0] != pair[1]));
        }
        assert!(moved > 100, "only {moved} pools moved");
    }

    #[test]
    fn capacity_runs_out_and_comes_back() {
        let markets = Markets::new(7, Weather::USUAL, &FAMILIES);
        let back = pools(&markets).into_iter().any(|pool| {
            let rooms: Vec<usize> = (0..48)
                .map(|hour| markets.capacity(&pool, at(hour * 3_600)))
                .collect();
            rooms.windows(2).any(|pair| pair[0] > 0 && pair[1] == 0)
                && rooms.windows(2).any(|pair| pair[0] == 0 && pair[1] > 0)
        });
        assert!(back);
    }
}
