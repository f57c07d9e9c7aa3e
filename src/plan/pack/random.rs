//! The solver's own stream of pseudo-random numbers.
//!
//! Given a seed; given back numbers that are the same on every machine: SplitMix64 (Steele, Lea,
//! Flood 2014). Nothing here is fit for secrets.

use super::real::real;

/// A SplitMix64 stream.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// The stream of a seed.
    pub const fn seeded(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    #[inline]
    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`; 0 when `bound` is 0.
    #[inline]
    pub const fn below(&mut self, bound: usize) -> usize {
        let wide = (self.next() as u128) * (bound as u128);
        below(wide)
    }

    /// A number from 0 up to, but not including, 1.
    #[inline]
    pub const fn unit(&mut self) -> f64 {
        // The upper 31 bits are exact in both steps.
        real(upper(self.next())) / 2_147_483_648.0
    }
}

/// The upper half of a product; it is below the second factor, which was a `usize`.
#[expect(clippy::cast_possible_truncation, reason = "below a usize")]
const fn below(product: u128) -> usize {
    (product >> 64) as usize
}

/// The upper 31 bits.
#[expect(clippy::cast_possible_wrap, reason = "31 bits are positive")]
const fn upper(bits: u64) -> i64 {
    (bits >> 33) as i64
}
