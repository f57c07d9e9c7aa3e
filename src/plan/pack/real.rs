//! Between integers and real numbers.
//!
//! Real numbers only rank and guide here; what is published is computed in integers.

/// An integer as a real number: amounts above 2⁵³ lose digits that no rank depends on.
#[expect(clippy::cast_precision_loss, reason = "real numbers only rank")]
#[inline]
pub const fn real(value: i64) -> f64 {
    value as f64
}

/// A count as a real number.
#[expect(clippy::cast_precision_loss, reason = "real numbers only rank")]
#[inline]
pub const fn real_count(value: usize) -> f64 {
    value as f64
}

/// A real number rounded down to an integer; saturates, and is 0 for what is no number.
#[expect(
    clippy::cast_possible_truncation,
    reason = "rounding down and saturating is what is asked for"
)]
#[inline]
pub const fn whole(value: f64) -> i64 {
    value.floor() as i64
}

/// A real number rounded down to a count.
#[inline]
pub fn whole_count(value: f64) -> u32 {
    u32::try_from(whole(value).max(0)).unwrap_or(u32::MAX)
}

/// A length as an index of 32 bits.
#[inline]
pub fn short(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

/// Work done, from a length.
#[inline]
pub const fn work(value: usize) -> u64 {
    value as u64
}
