//! The kinds of faults, and which phases of a claim's life each of them can meet.

use crate::phases::Phase;

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    RequestLost,
    AnswerLost,
    ServerError,
    Conflict,
    Throttled,
    SlowWatch,
    CallLost,
    CallAnswerLost,
    CallThrottled,
    CallFailed,
    CallDenied,
    LaunchShort,
    ControllerCrash,
    ControllerStop,
    ClockJump,
    LeaderCutOff,
    LeaseStolen,
    LeaseDeleted,
    LeaseSetBack,
    WatchCut,
    Compaction,
    MachineFailure,
    SpotReclaim,
    MachineNeverJoins,
    MachinesShownLate,
    StrayMachine,
    ImpostorNode,
    PoolDry,
    ShortageStorm,
    ServerRestored,
    EmptyLists,
    ServerClockJump,
}

impl Fault {
    pub(crate) const ALL: [Self; 32] = [
        Self::RequestLost,
        Self::AnswerLost,
        Self::ServerError,
        Self::Conflict,
        Self::Throttled,
        Self::SlowWatch,
        Self::CallLost,
        Self::CallAnswerLost,
        Self::CallThrottled,
        Self::CallFailed,
        Self::CallDenied,
        Self::LaunchShort,
        Self::ControllerCrash,
        Self::ControllerStop,
        Self::ClockJump,
        Self::LeaderCutOff,
        Self::LeaseStolen,
        Self::LeaseDeleted,
        Self::LeaseSetBack,
        Self::WatchCut,
        Self::Compaction,
        Self::MachineFailure,
        Self::SpotReclaim,
        Self::MachineNeverJoins,
        Self::MachinesShownLate,
        Self::StrayMachine,
        Self::ImpostorNode,
        Self::PoolDry,
        Self::ShortageStorm,
        Self::ServerRestored,
        Self::EmptyLists,
        Self::ServerClockJump,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::RequestLost => "request lost",
            Self::AnswerLost => "answer lost",
            Self::ServerError => "server error",
            Self::Conflict => "conflict",
            Self::Throttled => "throttled",
            Self::SlowWatch => "slow watch",
            Self::CallLost => "call lost",
            Self::CallAnswerLost => "call answer lost",
            Self::CallThrottled => "call throttled",
            Self::CallFailed => "call failed",
            Self::CallDenied => "call denied",
            Self::LaunchShort => "launch short",
            Self::ControllerCrash => "controller crash",
            Self::ControllerStop => "controller stop",
            Self::ClockJump => "clock jump",
            Self::LeaderCutOff => "leader cut off",
            Self::LeaseStolen => "lease stolen",
            Self::LeaseDeleted => "lease deleted",
            Self::LeaseSetBack => "lease set back",
            Self::WatchCut => "watch cut",
            Self::Compaction => "compaction",
            Self::MachineFailure => "machine failure",
            Self::SpotReclaim => "spot reclaim",
            Self::MachineNeverJoins => "machine never joins",
            Self::MachinesShownLate => "machines shown late",
            Self::StrayMachine => "stray machine",
            Self::ImpostorNode => "impostor node",
            Self::PoolDry => "pool dry",
            Self::ShortageStorm => "shortage storm",
            Self::ServerRestored => "server restored",
            Self::EmptyLists => "empty lists",
            Self::ServerClockJump => "server clock jump",
        }
    }

    /// Whether it can meet a claim in a phase at all.
    pub(crate) const fn can_meet(self, phase: Phase) -> bool {
        match self {
            // Only a launch can fall short.
            Self::LaunchShort => matches!(phase, Phase::Launching),
            // There is no machine yet, or it has been ended already.
            Self::MachineFailure | Self::SpotReclaim => {
                !matches!(phase, Phase::Planned | Phase::Ending)
            }
            // A Node that carries a provider id which the claim does not have yet is nobody's to it.
            Self::ImpostorNode => !matches!(phase, Phase::Planned | Phase::Launching),
            _ => true,
        }
    }
}
