//! What is left to chance: numbers that follow from a seed, a purpose and an index.
//!
//! Nothing is drawn from a stream, so that one draw more in one place shifts no other: variants of one
//! scenario have the same luck as far as they do the same.

/// Numbers of one seed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Chance(u64);

impl Chance {
    /// The numbers of a seed.
    pub(super) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `bound`, zero when that is zero.
    pub(super) fn below(self, purpose: &str, index: u64, bound: u64) -> u64 {
        self.number(purpose, index).checked_rem(bound).unwrap_or(0)
    }

    /// Milliseconds: at least so many, and less than so many more.
    pub(super) fn milliseconds(
        self,
        purpose: &str,
        index: u64,
        (least, spread): (u64, u64),
    ) -> i64 {
        let drawn = least.saturating_add(self.below(purpose, index, spread));
        i64::try_from(drawn).unwrap_or(i64::MAX)
    }

    /// FNV-1a over the purpose, then the finalizer of SplitMix64, which spreads neighbours.
    fn number(self, purpose: &str, index: u64) -> u64 {
        let mut hash = self.0 ^ 0xcbf2_9ce4_8422_2325;
        for byte in purpose.bytes() {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        hash = hash.wrapping_add(index.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        hash ^ (hash >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_are_spread_and_repeat() {
        let chance = Chance::new(7);
        let draws: Vec<u64> = (0..1_000)
            .map(|index| chance.below("boot", index, 10))
            .collect();
        for value in 0..10 {
            let times = draws.iter().filter(|drawn| **drawn == value).count();
            assert!((60..140).contains(&times), "{value} came {times} times");
        }
        assert_eq!(draws[3], Chance::new(7).below("boot", 3, 10));
        assert_ne!(
            (0..9)
                .map(|n| Chance::new(8).below("boot", n, 10))
                .collect::<Vec<_>>(),
            draws[..9]
        );
        assert_eq!(chance.below("nothing", 1, 0), 0);
    }
}
