//! What machines cost, as EC2 bills them: by the second, at least a minute, spot at the price of the
//! moment, and the volumes beside.
//!
//! Given when a machine ran and what it cost at which time; given back exact amounts.

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign};

use jiff::Timestamp;

use super::market::{Markets, PRICE_STEP};
use crate::model::money::UsdPerHour;
use crate::model::offering::OfferingKey;

/// The least that is billed of a machine, seconds. Source: "Per-second billing" in the EC2 pricing
/// pages: per second, with a minimum of 60 seconds.
pub const LEAST_SECONDS: i64 = 60;

/// An amount of money: units of a rate times milliseconds, so that sums are exact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Amount(i128);

impl Amount {
    /// What a rate comes to in so many seconds.
    pub fn of(rate: UsdPerHour, seconds: i64) -> Self {
        Self::of_milliseconds(rate, i128::from(seconds) * 1_000)
    }

    /// What a rate comes to in so many milliseconds.
    pub fn of_milliseconds(rate: UsdPerHour, milliseconds: i128) -> Self {
        Self(i128::from(rate.units()) * milliseconds)
    }

    /// In 10⁻¹⁰ US dollars, rounded to the nearest.
    pub fn units(self) -> i64 {
        i64::try_from((self.0 + 1_800_000) / 3_600_000).unwrap_or(i64::MAX)
    }
}

impl Add for Amount {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }
}

impl AddAssign for Amount {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sum for Amount {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::default(), Add::add)
    }
}

impl fmt::Display for Amount {
    /// US dollars, the shortest exact decimal with at least three decimals.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&UsdPerHour::from_units(self.units()), formatter)
    }
}

/// What a machine comes to that ran from `from` to `until`: instance and volumes.
pub fn machine(
    markets: &Markets,
    offering: &OfferingKey,
    fees: UsdPerHour,
    (from, until): (Timestamp, Timestamp),
) -> Amount {
    let begin = from.as_second();
    let end = until.as_second().max(begin.saturating_add(LEAST_SECONDS));
    let mut sum = Amount::of(fees, end - begin);
    let mut at = begin;
    while at < end {
        // Prices are constant between two steps.
        let next = (at.div_euclid(PRICE_STEP) + 1)
            .saturating_mul(PRICE_STEP)
            .min(end);
        let price = Timestamp::from_second(at)
            .ok()
            .and_then(|time| markets.price(offering, time))
            .unwrap_or(UsdPerHour::ZERO);
        sum += Amount::of(price, next - at);
        at = next;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::offering::CapacityType;
    use crate::sim::ec2::market::{FAMILIES, Weather};
    use crate::sim::tests::at;

    #[test]
    fn seconds_are_billed_and_at_least_a_minute() {
        let markets = Markets::new(1, Weather::CALM, &FAMILIES);
        let offering = OfferingKey::new("c5.xlarge", "us-east-1a", CapacityType::OnDemand);
        let cost = |seconds| machine(&markets, &offering, UsdPerHour::ZERO, (at(0), at(seconds)));
        assert_eq!(cost(3_600).to_string(), "0.170");
        assert_eq!(cost(5), cost(60));
        assert!(cost(61) > cost(60));
    }

    #[test]
    fn a_moving_price_is_billed_as_it_moves() {
        let markets = Markets::new(3, Weather::USUAL, &FAMILIES);
        let offering = OfferingKey::new("c5.xlarge", "us-east-1a", CapacityType::Spot);
        let whole = machine(&markets, &offering, UsdPerHour::ZERO, (at(0), at(7_200)));
        let halves = [(0, 3_601), (3_601, 7_200)].map(|(from, until)| {
            machine(&markets, &offering, UsdPerHour::ZERO, (at(from), at(until)))
        });
        assert_eq!(whole, halves.into_iter().sum());
    }
}
