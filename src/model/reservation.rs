//! A capacity reservation: machines of one type in one zone that somebody pays for already.

use jiff::{SignedDuration, Timestamp};

use super::offering::Offering;

/// How long before the end of a capacity block EC2 begins to end its machines. Source: "How Capacity Blocks
/// work" in the EC2 user guide.
pub const ENDING: SignedDuration = SignedDuration::from_mins(30);
/// How long before its end a capacity block counts as expiring, and EC2 announces that it does: ten minutes more, in which
/// pods can end. Source: "Monitor Capacity Blocks using EventBridge" in the EC2 user guide.
const EXPIRING: SignedDuration = SignedDuration::from_mins(40);

/// What kind of reservation it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum ReservationKind {
    /// On demand: it lasts until it is cancelled or its end is there.
    #[default]
    Standard,
    /// A capacity block: bought for a time, with an end.
    CapacityBlock,
}

impl ReservationKind {
    /// The value of the label `karpenter.k8s.aws/capacity-reservation-type`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Standard => "default",
            Self::CapacityBlock => "capacity-block",
        }
    }
}

/// The end of a capacity block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct BlockEnd(pub Timestamp);

impl BlockEnd {
    /// The end of a block of which EC2 announced at this time that it expires.
    pub fn announced_at(at: Timestamp) -> Self {
        Self(at.saturating_add(EXPIRING).unwrap_or(Timestamp::MAX))
    }

    /// When the block begins to expire.
    pub fn expires_at(self) -> Timestamp {
        self.before(EXPIRING)
    }

    /// When EC2 begins to end the machines in it.
    pub fn machines_end_at(self) -> Timestamp {
        self.before(ENDING)
    }

    fn before(self, by: SignedDuration) -> Timestamp {
        self.0.saturating_sub(by).unwrap_or(Timestamp::MIN)
    }
}

/// An active capacity reservation that a node class selects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reservation {
    /// For example `cr-0123456789abcdef0`.
    pub id: String,
    /// The account that owns it, 12 digits.
    pub owner: String,
    /// `open`, when EC2 places machines in it by itself, or `targeted`.
    pub matching: String,
    /// Its kind.
    pub kind: ReservationKind,
    /// Its owner may take the machines back.
    pub interruptible: bool,
    /// When it ends; `None` means it does not.
    pub ends: Option<Timestamp>,
    /// How many machines it is for.
    pub total: u32,
    /// How many of them are not in use, by EC2's count, which comes late.
    pub free: u32,
    /// When EC2 was asked for that count.
    pub counted: Timestamp,
    /// Its type and zone, at no price: it is paid for whether machines are in it or not.
    pub offering: Offering,
}

impl Reservation {
    /// True when EC2 is about to end the machines in it.
    pub fn is_expiring(&self, now: Timestamp) -> bool {
        self.expires_at().is_some_and(|at| at <= now)
    }

    /// When it begins to expire; `None` for one whose machines stay when it ends.
    pub fn expires_at(&self) -> Option<Timestamp> {
        self.block_end().map(BlockEnd::expires_at)
    }

    /// When it ends and its machines with it; `None` for one whose machines stay when it ends.
    pub fn block_end(&self) -> Option<BlockEnd> {
        let is_block = self.kind == ReservationKind::CapacityBlock;
        self.ends.filter(|_ends| is_block).map(BlockEnd)
    }

    /// The value of the label `karpenter.k8s.aws/capacity-reservation-interruptible`.
    pub const fn interruptible(&self) -> &'static str {
        if self.interruptible { "true" } else { "false" }
    }

    /// True when machines are planned for it. Those of an interruptible reservation end when its owner says
    /// so, and are launched in a way of their own: nothing does that yet.
    pub const fn is_planned_for(&self) -> bool {
        !self.interruptible
    }

    /// `active` or `expiring`.
    pub fn state(&self, now: Timestamp) -> &'static str {
        if self.is_expiring(now) {
            "expiring"
        } else {
            "active"
        }
    }
}
