//! Kubernetes quantities, exactly: `100m`, `4Gi`, `1.5`, `1e3`.
//!
//! Given the text of a manifest, it gives back an integer count of nano-units; what is finer than
//! that is rounded away from zero, as the API server does. Amounts in millicores or bytes are
//! rounded up, so a request is never counted smaller than it is. Nothing wraps: what does not fit
//! is an error.

use std::fmt;

use super::resources::CPU;

const NANOS: i128 = 1_000_000_000;

/// An exact amount in 10⁻⁹ of its unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Quantity(i128);

/// A text that is no quantity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// Not of the form number and suffix.
    #[error("`{0}` is not a quantity: write a number with an optional suffix, as in 500m, 2, 4Gi")]
    Malformed(String),
    /// Beyond what an amount may be.
    #[error("`{0}` is too large: the largest quantity is 9223372036854775807")]
    TooLarge(String),
    /// Beyond what is counted of a resource, whose units are finer.
    #[error("`{written}` is too large: {largest} of {resource} is the most that can be counted")]
    TooMuch {
        /// As it was written.
        written: String,
        /// What it is of.
        resource: String,
        /// The largest amount of that.
        largest: String,
    },
}

/// Multipliers of the suffixes in nano-units.
fn multiplier(suffix: &str) -> Option<i128> {
    let kibi = 1024_i128;
    Some(match suffix {
        "n" => 1,
        "u" => 1_000,
        "m" => 1_000_000,
        "" => NANOS,
        "k" => NANOS * 1_000,
        "M" => NANOS * 1_000_000,
        "G" => NANOS * 1_000_000_000,
        "T" => NANOS * 1_000_000_000_000,
        "P" => NANOS * 1_000_000_000_000_000,
        "E" => NANOS * 1_000_000_000_000_000_000,
        "Ki" => NANOS * kibi,
        "Mi" => NANOS * kibi.pow(2),
        "Gi" => NANOS * kibi.pow(3),
        "Ti" => NANOS * kibi.pow(4),
        "Pi" => NANOS * kibi.pow(5),
        "Ei" => NANOS * kibi.pow(6),
        _ => return None,
    })
}

/// Splits off sign, whole digits and fraction digits; the rest is the suffix.
fn split(text: &str) -> Option<(bool, &str, &str, &str)> {
    let (negative, rest) = match text.as_bytes().first()? {
        b'-' => (true, text.get(1..)?),
        b'+' => (false, text.get(1..)?),
        _ => (false, text),
    };
    let digits = |part: &str| part.bytes().take_while(u8::is_ascii_digit).count();
    let (whole, rest) = rest.split_at_checked(digits(rest))?;
    let (fraction, suffix) = match rest.strip_prefix('.') {
        Some(after) => after.split_at_checked(digits(after))?,
        None => ("", rest),
    };
    (!whole.is_empty() || !fraction.is_empty()).then_some((negative, whole, fraction, suffix))
}

/// The power of ten of an exponent suffix such as `e3` or `E-2`.
fn exponent(suffix: &str) -> Option<i32> {
    let digits = suffix.strip_prefix(['e', 'E'])?;
    let unsigned = digits.strip_prefix(['+', '-']).unwrap_or(digits);
    if unsigned.is_empty() || !unsigned.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok()
}

/// `value` divided by `divisor`, away from zero.
const fn divide_outward(value: i128, divisor: i128) -> i128 {
    let quotient = value / divisor;
    if value % divisor == 0 {
        quotient
    } else if value < 0 {
        quotient - 1
    } else {
        quotient + 1
    }
}

impl Quantity {
    /// Reads a quantity.
    ///
    /// # Errors
    /// [`QuantityError`] when the text is no quantity or exceeds 2⁶³ − 1 units.
    pub fn parse(text: &str) -> Result<Self, QuantityError> {
        let malformed = || QuantityError::Malformed(text.to_owned());
        let too_large = || QuantityError::TooLarge(text.to_owned());
        let (negative, whole, fraction, suffix) = split(text).ok_or_else(malformed)?;
        // A digit string longer than this is over the limit or finer than a nano-unit even with the
        // smallest or largest suffix.
        if whole.trim_start_matches('0').len() > 37 {
            return Err(too_large());
        }
        let (scale, power) = match (multiplier(suffix), exponent(suffix)) {
            (Some(scale), _) => (scale, 0),
            (None, Some(power)) => (NANOS, power),
            (None, None) => return Err(malformed()),
        };
        let fraction = fraction.trim_end_matches('0');
        let (kept, dropped) = fraction
            .split_at_checked(28)
            .filter(|(_, rest)| !rest.is_empty())
            .unwrap_or((fraction, ""));
        let mut magnitude = decimal(whole, kept, scale, power).ok_or_else(too_large)?;
        if !dropped.is_empty() {
            magnitude = magnitude.saturating_add(1);
        }
        if magnitude > i128::from(i64::MAX) * NANOS {
            return Err(too_large());
        }
        Ok(Self(if negative { -magnitude } else { magnitude }))
    }

    /// A quantity of so many thousandths.
    pub const fn from_milli(milli: i64) -> Self {
        Self(milli as i128 * 1_000_000)
    }

    /// A quantity of so many units.
    pub const fn from_units(units: i64) -> Self {
        Self(units as i128 * NANOS)
    }

    /// A quantity of so many nano-units.
    pub const fn from_nanos(nanos: i128) -> Self {
        Self(nanos)
    }

    /// The exact count of nano-units.
    pub const fn nanos(self) -> i128 {
        self.0
    }

    /// Thousandths, rounded away from zero; `None` when they do not fit.
    pub fn milli(self) -> Option<i64> {
        i64::try_from(divide_outward(self.0, 1_000_000)).ok()
    }

    /// Units, rounded away from zero.
    pub fn units(self) -> Option<i64> {
        i64::try_from(divide_outward(self.0, NANOS)).ok()
    }
}

/// `whole.fraction × scale × 10^power` rounded up, or `None` when it overflows.
fn decimal(whole: &str, fraction: &str, scale: i128, power: i32) -> Option<i128> {
    let mut magnitude: i128 = 0;
    for byte in whole
        .trim_start_matches('0')
        .bytes()
        .chain(fraction.bytes())
    {
        magnitude = magnitude
            .checked_mul(10)?
            .checked_add(i128::from(byte - b'0'))?;
    }
    if magnitude == 0 {
        return Some(0);
    }
    let shift = power.checked_sub(i32::try_from(fraction.len()).ok()?)?;
    if shift >= 0 {
        let factor = 10_i128.checked_pow(shift.unsigned_abs())?;
        return magnitude.checked_mul(factor)?.checked_mul(scale);
    }
    // Cancel tens between scale and divisor first, so that nothing overflows before the division.
    let (mut scale, mut shift) = (scale, shift.unsigned_abs());
    while shift > 0 && scale % 10 == 0 {
        scale /= 10;
        shift -= 1;
    }
    if shift > 37 {
        return Some(1);
    }
    let divisor = 10_i128.pow(shift);
    let (quotient, remainder) = (magnitude / divisor, magnitude % divisor);
    let whole = quotient.checked_mul(scale)?;
    let rest = match remainder.checked_mul(scale) {
        Some(product) => divide_outward(product, divisor),
        // Only with an absurdly fine fraction of a huge unit: one part in 10¹⁵ of rounding up.
        None => (remainder / 1_000_000_000_000_000 + 1)
            .checked_mul(divide_outward(scale, divisor / 1_000_000_000_000_000))?,
    };
    whole.checked_add(rest)
}

impl fmt::Display for Quantity {
    /// The shortest exact form: binary suffixes from Ki on where they divide evenly, otherwise a
    /// plain integer, otherwise the decimal suffix that leaves no fraction.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (nanos, suffix) in [
            (multiplier("Ei"), "Ei"),
            (multiplier("Pi"), "Pi"),
            (multiplier("Ti"), "Ti"),
            (multiplier("Gi"), "Gi"),
            (multiplier("Mi"), "Mi"),
            (multiplier("Ki"), "Ki"),
            (Some(NANOS), ""),
            (Some(1_000_000), "m"),
            (Some(1_000), "u"),
        ] {
            let Some(nanos) = nanos else { continue };
            if self.0 % nanos == 0 && (self.0 != 0 || suffix.is_empty()) {
                return formatter.pad(&format!("{}{suffix}", self.0 / nanos));
            }
        }
        formatter.pad(&format!("{}n", self.0))
    }
}

/// The integer in which [`super::resources::Resources`] counts a resource: millicores for cpu, base
/// units for everything else.
///
/// # Errors
/// [`QuantityError`] as for [`Quantity::parse`], and when the count does not fit.
pub fn amount(resource: &str, written: &str) -> Result<i64, QuantityError> {
    let quantity = Quantity::parse(written)?;
    let count = if resource == CPU {
        quantity.milli()
    } else {
        quantity.units()
    };
    count.ok_or_else(|| QuantityError::TooMuch {
        written: written.to_owned(),
        resource: resource.to_owned(),
        largest: text(resource, i64::MAX),
    })
}

/// An amount of [`super::resources::Resources`] as a quantity text: `3920m`, `4Gi`, `1`.
pub fn text(resource: &str, amount: i64) -> String {
    if resource == CPU {
        Quantity::from_milli(amount).to_string_decimal()
    } else {
        Quantity::from_units(amount).to_string()
    }
}

impl Quantity {
    /// Without binary suffixes, as cpu is written.
    fn to_string_decimal(self) -> String {
        if self.0 % NANOS == 0 {
            format!("{}", self.0 / NANOS)
        } else if self.0 % 1_000_000 == 0 {
            format!("{}m", self.0 / 1_000_000)
        } else {
            format!("{}n", self.0)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use proptest::test_runner::RngSeed;

    #[test]
    fn reads_what_manifests_hold() {
        for (written, nanos) in [
            ("100m", 100_000_000),
            ("2", 2 * NANOS),
            ("1.5", 1_500_000_000),
            (".5", 500_000_000),
            ("5.", 5 * NANOS),
            ("1e3", 1000 * NANOS),
            ("1E-3", 1_000_000),
            ("4Gi", 4 * 1024 * 1024 * 1024 * NANOS),
            ("0.5Ki", 512 * NANOS),
            ("-3k", -3000 * NANOS),
            ("1E", 1_000_000_000_000_000_000 * NANOS),
            ("0.0000000001", 1),
            ("+7u", 7000),
        ] {
            assert_eq!(
                Quantity::parse(written).map(Quantity::nanos),
                Ok(nanos),
                "{written}"
            );
        }
    }

    #[test]
    fn refuses_what_is_no_quantity() {
        for written in [
            "", ".", "-", "m", "1x", "1ki", "1e", "1e+", "1.2.3", " 1", "1 ", "0x1", "١",
        ] {
            assert!(
                matches!(Quantity::parse(written), Err(QuantityError::Malformed(_))),
                "{written}"
            );
        }
        for written in [
            "9223372036854775808",
            "8Ei",
            "1e30",
            "99999999999999999999999999999999999999999",
        ] {
            assert!(
                matches!(Quantity::parse(written), Err(QuantityError::TooLarge(_))),
                "{written}"
            );
        }
    }

    #[test]
    fn rounds_requests_up() {
        assert_eq!(amount(CPU, "1n"), Ok(1));
        assert_eq!(amount("memory", "1.5"), Ok(2));
        assert_eq!(amount(CPU, "3.9201"), Ok(3921));
        assert_eq!(text(CPU, 3920), "3920m");
        assert_eq!(text(CPU, 4000), "4");
        assert_eq!(text("memory", 4 << 30), "4Gi");
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            failure_persistence: None,
            rng_seed: RngSeed::Fixed(1),
            ..ProptestConfig::default()
        })]

        #[test]
        fn printing_and_parsing_are_inverse(
            nanos in -(i128::from(i64::MAX) * NANOS)..=(i128::from(i64::MAX) * NANOS),
            coarse in 0_u32..19,
        ) {
            let unit = 10_i128.pow(coarse);
            let quantity = Quantity::from_nanos(nanos / unit * unit);
            prop_assert_eq!(Quantity::parse(&quantity.to_string()), Ok(quantity));
        }

        #[test]
        fn any_text_is_read_or_refused(written in ".{0,40}") {
            drop(Quantity::parse(&written));
        }

        #[test]
        fn any_number_is_read_or_refused(written in "[-+]?[0-9]{0,45}\\.?[0-9]{0,45}([numkMGTPE]i?|[eE][-+]?[0-9]{1,6})?") {
            drop(Quantity::parse(&written));
        }

        #[test]
        fn millis_round_trip(milli in any::<i64>()) {
            let quantity = Quantity::from_milli(milli);
            prop_assert_eq!(quantity.milli(), Some(milli));
        }
    }
}
