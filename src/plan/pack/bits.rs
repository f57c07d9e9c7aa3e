//! A set of small indices, for "which candidates may this class use".

/// A fixed-size set of indices.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Bits(Vec<u64>);

impl Bits {
    /// The empty set over `length` indices.
    pub fn empty(length: usize) -> Self {
        Self(vec![0; length.div_ceil(64)])
    }

    /// The set of all indices below `length`.
    pub fn full(length: usize) -> Self {
        let mut bits = Self::empty(length);
        for index in 0..length {
            bits.insert(index);
        }
        bits
    }

    /// The indices for which `holds`.
    pub fn of(length: usize, holds: impl Fn(usize) -> bool) -> Self {
        let mut bits = Self::empty(length);
        for index in 0..length {
            if holds(index) {
                bits.insert(index);
            }
        }
        bits
    }

    /// Adds an index.
    pub fn insert(&mut self, index: usize) {
        if let Some(word) = self.0.get_mut(index / 64) {
            *word |= 1 << (index % 64);
        }
    }

    /// Removes an index.
    pub fn remove(&mut self, index: usize) {
        if let Some(word) = self.0.get_mut(index / 64) {
            *word &= !(1 << (index % 64));
        }
    }

    /// True when the index is a member.
    #[inline]
    pub fn contains(&self, index: usize) -> bool {
        self.0
            .get(index / 64)
            .is_some_and(|word| word & (1 << (index % 64)) != 0)
    }

    /// True when there is no member.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    /// How many members there are.
    pub fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Members of both.
    pub fn and(&self, other: &Self) -> Self {
        Self(
            self.0
                .iter()
                .zip(&other.0)
                .map(|(own, theirs)| own & theirs)
                .collect(),
        )
    }

    /// Keeps only members of the other.
    pub fn retain(&mut self, other: &Self) {
        for (own, theirs) in self.0.iter_mut().zip(&other.0) {
            *own &= theirs;
        }
    }

    /// Adds the members of the other.
    pub fn add_all(&mut self, other: &Self) {
        for (own, theirs) in self.0.iter_mut().zip(&other.0) {
            *own |= theirs;
        }
    }

    /// True when they have a member in common.
    pub fn intersects(&self, other: &Self) -> bool {
        self.0
            .iter()
            .zip(&other.0)
            .any(|(own, theirs)| own & theirs != 0)
    }

    /// True when every member is one of the other.
    pub fn is_subset(&self, other: &Self) -> bool {
        self.0
            .iter()
            .zip(&other.0)
            .all(|(own, theirs)| own & !theirs == 0)
    }

    /// The members in order.
    pub fn iter(&self) -> impl Iterator<Item = usize> {
        self.0.iter().enumerate().flat_map(|(index, word)| {
            let mut rest = *word;
            std::iter::from_fn(move || {
                (rest != 0).then(|| {
                    let bit = rest.trailing_zeros() as usize;
                    rest &= rest - 1;
                    index * 64 + bit
                })
            })
        })
    }
}
