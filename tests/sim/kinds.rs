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
    RequestLate,
    CallLost,
    CallAnswerLost,
    CallThrottled,
    CallFailed,
    CallDenied,
    CallLate,
    LaunchShort,
    ControllerCrash,
    ControllerStop,
    ClockJump,
    LeaderCutOff,
    LeaseStolen,
    LeaseDeleted,
    LeaseSetBack,
    WatchCut,
    WatchSilent,
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

/// Machines and launches are not there in every phase: what cannot be, and why. Everything else is demanded.
const NEVER: [(Fault, &[Phase], &str); 17] = [
    (
        Fault::LaunchShort,
        &[Phase::Planned],
        "EC2 is not asked for its machine yet",
    ),
    (
        Fault::LaunchShort,
        HAVE_MACHINES,
        "it has its machine, and waits for no launch",
    ),
    (
        Fault::LaunchShort,
        ARE_LEAVING,
        "what is being deleted waits for no machine",
    ),
    (
        Fault::MachineFailure,
        &[Phase::Planned],
        "it has no machine yet",
    ),
    (
        Fault::MachineFailure,
        &[Phase::Ending],
        "its machine has ended",
    ),
    (
        Fault::SpotReclaim,
        &[Phase::Planned],
        "it has no machine yet",
    ),
    (
        Fault::SpotReclaim,
        &[Phase::Ending],
        "its machine has ended",
    ),
    (
        Fault::MachineNeverJoins,
        &[Phase::Planned],
        "it has no machine yet",
    ),
    (
        Fault::MachineNeverJoins,
        &[Phase::Joining, Phase::Used],
        "it has a Node, so its machine has joined",
    ),
    (
        Fault::MachineNeverJoins,
        &[Phase::Ending],
        "its machine has ended, and would not join anyhow",
    ),
    (
        Fault::MachinesShownLate,
        &[Phase::Planned],
        "it has no machine yet",
    ),
    (
        Fault::StrayMachine,
        &Phase::ALL,
        "the machine is nobody's: no claim asked for it",
    ),
    (
        Fault::ImpostorNode,
        &[Phase::Planned, Phase::Launching],
        "there is no provider id yet that somebody could say is his",
    ),
    (
        Fault::PoolDry,
        HAVE_MACHINES,
        "its machine is bought, and needs no capacity",
    ),
    (
        Fault::PoolDry,
        ARE_LEAVING,
        "what is being deleted buys nothing",
    ),
    (
        Fault::ShortageStorm,
        HAVE_MACHINES,
        "its machine is bought, and needs no capacity",
    ),
    (
        Fault::ShortageStorm,
        ARE_LEAVING,
        "what is being deleted buys nothing",
    ),
];

const HAVE_MACHINES: &[Phase] = &[Phase::Booting, Phase::Joining, Phase::Used];
const ARE_LEAVING: &[Phase] = &[Phase::Draining, Phase::Ending];

impl Fault {
    pub(crate) const ALL: [Self; 35] = [
        Self::RequestLost,
        Self::AnswerLost,
        Self::ServerError,
        Self::Conflict,
        Self::Throttled,
        Self::SlowWatch,
        Self::RequestLate,
        Self::CallLost,
        Self::CallAnswerLost,
        Self::CallThrottled,
        Self::CallFailed,
        Self::CallDenied,
        Self::CallLate,
        Self::LaunchShort,
        Self::ControllerCrash,
        Self::ControllerStop,
        Self::ClockJump,
        Self::LeaderCutOff,
        Self::LeaseStolen,
        Self::LeaseDeleted,
        Self::LeaseSetBack,
        Self::WatchCut,
        Self::WatchSilent,
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
            Self::RequestLate => "request late",
            Self::CallLost => "call lost",
            Self::CallAnswerLost => "call answer lost",
            Self::CallThrottled => "call throttled",
            Self::CallFailed => "call failed",
            Self::CallDenied => "call denied",
            Self::CallLate => "call late",
            Self::LaunchShort => "launch short",
            Self::ControllerCrash => "controller crash",
            Self::ControllerStop => "controller stop",
            Self::ClockJump => "clock jump",
            Self::LeaderCutOff => "leader cut off",
            Self::LeaseStolen => "lease stolen",
            Self::LeaseDeleted => "lease deleted",
            Self::LeaseSetBack => "lease set back",
            Self::WatchCut => "watch cut",
            Self::WatchSilent => "watch silent",
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

    /// Whether it touches what every claim hangs on: its controllers, the API server, or the watches that tell of it.
    pub(crate) const fn touches_all(self) -> bool {
        matches!(
            self,
            Self::ControllerCrash
                | Self::ControllerStop
                | Self::ClockJump
                | Self::LeaderCutOff
                | Self::LeaseStolen
                | Self::LeaseDeleted
                | Self::LeaseSetBack
                | Self::WatchCut
                | Self::WatchSilent
                | Self::Compaction
                | Self::ServerRestored
                | Self::EmptyLists
                | Self::ServerClockJump
        )
    }

    /// Why it cannot meet a claim in a phase, by its nature; `None` when it must have, once enough worlds were run.
    pub(crate) fn why_never(self, phase: Phase) -> Option<&'static str> {
        let mut rows = NEVER.iter();
        let row = rows.find(|(fault, phases, _why)| *fault == self && phases.contains(&phase));
        row.map(|(_fault, _phases, why)| *why)
    }

    /// Whether it can meet a claim in a phase at all.
    pub(crate) fn can_meet(self, phase: Phase) -> bool {
        self.why_never(phase).is_none()
    }
}
