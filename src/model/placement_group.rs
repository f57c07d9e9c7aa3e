//! A placement group: machines that EC2 keeps close together, or apart.

/// How machines of a group lie to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Strategy {
    /// Close together, in one zone.
    Cluster,
    /// In partitions that share no hardware.
    Partition,
    /// Each on hardware of its own, at most seven in a zone.
    Spread,
}

impl Strategy {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Cluster, Self::Partition, Self::Spread];

    /// EC2's word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cluster => "cluster",
            Self::Partition => "partition",
            Self::Spread => "spread",
        }
    }

    /// The strategy of EC2's word.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|strategy| strategy.as_str() == text)
    }
}

/// A placement group that machines can be launched into.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PlacementGroup {
    /// For example `pg-0123456789abcdef0`.
    pub id: String,
    /// Its name.
    pub name: String,
    /// How its machines lie to each other.
    pub strategy: Strategy,
}
