//! What EC2 announces about a machine, or about all machines in a capacity block, before, or just after, it happens, and
//! why a message may announce nothing.

use jiff::Timestamp;

use super::reservation::BlockEnd;

/// What is announced.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum NoticeKind {
    /// EC2 takes the spot machine back, two minutes after the notice.
    SpotInterruption,
    /// EC2 takes the machine of a capacity reservation back.
    ReservationInterruption,
    /// EC2 soon ends the machines in a capacity block.
    CapacityBlockExpiring {
        /// The end of the block.
        end: BlockEnd,
    },
    /// EC2 thinks that the spot machine may soon be taken back. It may never be.
    RebalanceRecommendation,
    /// Maintenance stops, restarts or retires the machine.
    ScheduledChange {
        /// When it begins; `None` when it is under way and the message does not say since when.
        begins: Option<Timestamp>,
    },
    /// Something is planned for the machine that is no reason to move what runs on it.
    ScheduledChangeLeftAlone {
        /// EC2's word for its type.
        code: String,
        /// Why it is none.
        why: LeftAlone,
    },
    /// Maintenance that was announced is over or called off.
    MaintenanceOver,
    /// The machine stops or has ended.
    StateChange,
}

/// Why a scheduled change moves nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LeftAlone {
    /// As far as is known, what runs on the machine outlives it.
    Outlived,
    /// It is to come, and the message does not say when.
    NoTime,
    /// What the message says of its time cannot be read.
    UnreadableTime,
}

impl NoticeKind {
    /// The word used in logs and metrics. A time that cannot be read is a message that is not as it should be, whatever
    /// else follows from it.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::SpotInterruption => "spot_interrupted",
            Self::ReservationInterruption => "capacity_reservation_interrupted",
            Self::CapacityBlockExpiring { .. } => "capacity_block_expiring",
            Self::RebalanceRecommendation => "rebalance_recommendation",
            Self::ScheduledChange { .. } => "scheduled_change",
            Self::ScheduledChangeLeftAlone {
                why: LeftAlone::UnreadableTime,
                ..
            } => Unread::Malformed.as_str(),
            Self::ScheduledChangeLeftAlone { .. } => "scheduled_change_left_alone",
            Self::MaintenanceOver => "scheduled_change_over",
            Self::StateChange => "state_change",
        }
    }
}

/// A notice about one machine, or about one capacity block.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Notice {
    /// For example `i-0123456789abcdef0`; of a capacity block `cr-0123456789abcdef0`.
    pub subject: String,
    /// What is announced.
    pub kind: NoticeKind,
    /// When it was announced, by EC2's clock.
    pub at: Timestamp,
}

/// Why a message announces nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unread {
    /// It is no event of the shape that its kind has.
    Malformed,
    /// It is about another account or region.
    Foreign,
    /// It is an event of a kind that needs no action.
    Irrelevant,
}

impl Unread {
    /// The word used in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Foreign => "foreign",
            Self::Irrelevant => "irrelevant",
        }
    }
}
