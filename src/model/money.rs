//! Money as integers: a rate in 10⁻¹⁰ USD per hour.
//!
//! AWS list prices carry at most ten decimals and spot prices six, so a rate is exact in this unit
//! and sums of rates reconcile to the last digit.

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Sub};

/// Units of a [`UsdPerHour`] in one US dollar per hour.
pub const UNITS_PER_USD: i64 = 10_000_000_000;

/// A price rate: US dollars per hour, as an integer count of 10⁻¹⁰ USD per hour.
///
/// The largest representable rate is 922 million USD per hour; arithmetic saturates there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct UsdPerHour(i64);

/// A price text that is not a decimal number of dollars.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is not a price: give US dollars per hour as a decimal such as 0.170, at most ten decimals"
)]
pub struct PriceError {
    /// The text as it was given.
    pub text: String,
}

impl UsdPerHour {
    /// No cost at all.
    pub const ZERO: Self = Self(0);
    /// The largest rate, used as "no price known" in comparisons.
    pub const MAX: Self = Self(i64::MAX);

    /// A rate from its integer count of 10⁻¹⁰ USD per hour.
    pub const fn from_units(units: i64) -> Self {
        Self(units)
    }

    /// The integer count of 10⁻¹⁰ USD per hour.
    pub const fn units(self) -> i64 {
        self.0
    }

    /// A rate from micro-dollars (10⁻⁶ USD) per hour.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros.saturating_mul(10_000))
    }

    /// `count` times this rate, saturating.
    pub const fn times(self, count: i64) -> Self {
        Self(self.0.saturating_mul(count))
    }

    /// Parses a non-negative decimal such as `0.085` exactly.
    ///
    /// # Errors
    /// [`PriceError`] when the text is not a plain decimal, has a non-zero eleventh decimal, or
    /// overflows.
    pub fn parse(text: &str) -> Result<Self, PriceError> {
        let error = || PriceError {
            text: text.to_owned(),
        };
        let trimmed = text.trim();
        let (whole, fraction) = trimmed.split_once('.').unwrap_or((trimmed, ""));
        let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if (whole.is_empty() && fraction.is_empty()) || !digits(whole) || !digits(fraction) {
            return Err(error());
        }
        let whole: i64 = if whole.is_empty() {
            0
        } else {
            whole.parse().map_err(|_overflow| error())?
        };
        let mut units: i64 = 0;
        for (position, byte) in fraction.bytes().enumerate() {
            let digit = i64::from(byte - b'0');
            if position >= 10 {
                if digit != 0 {
                    return Err(error());
                }
                continue;
            }
            units = units * 10 + digit;
        }
        for _missing in fraction.len()..10 {
            units *= 10;
        }
        whole
            .checked_mul(UNITS_PER_USD)
            .and_then(|base| base.checked_add(units))
            .map(Self)
            .ok_or_else(error)
    }
}

impl fmt::Display for UsdPerHour {
    /// The shortest exact decimal with at least three decimals: `1.190`, `0.0416`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let absolute = self.0.unsigned_abs();
        let whole = absolute / UNITS_PER_USD.unsigned_abs();
        let mut fraction = format!("{:010}", absolute % UNITS_PER_USD.unsigned_abs());
        while fraction.len() > 3 && fraction.ends_with('0') {
            fraction.pop();
        }
        formatter.pad(&format!("{sign}{whole}.{fraction}"))
    }
}

impl Add for UsdPerHour {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl AddAssign for UsdPerHour {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sub for UsdPerHour {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl Sum for UsdPerHour {
    fn sum<I: Iterator<Item = Self>>(rates: I) -> Self {
        rates.fold(Self::ZERO, Add::add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use proptest::test_runner::RngSeed;

    #[test]
    fn prints_the_shortest_exact_decimal() {
        assert_eq!(UsdPerHour::from_micros(170_000).to_string(), "0.170");
        assert_eq!(UsdPerHour::from_micros(41_600).to_string(), "0.0416");
        assert_eq!(UsdPerHour::from_micros(-1_190_000).to_string(), "-1.190");
    }

    #[test]
    fn refuses_what_is_not_a_price() {
        for text in [
            "",
            ".",
            "-1",
            "1e3",
            "0.00000000001",
            "99999999999",
            "abc",
            "1.2.3",
        ] {
            assert!(UsdPerHour::parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            failure_persistence: None,
            rng_seed: RngSeed::Fixed(3),
            ..ProptestConfig::default()
        })]

        #[test]
        fn printing_and_parsing_are_inverse(units in 0..i64::MAX) {
            let rate = UsdPerHour::from_units(units);
            prop_assert_eq!(UsdPerHour::parse(&rate.to_string()), Ok(rate));
        }
    }
}
