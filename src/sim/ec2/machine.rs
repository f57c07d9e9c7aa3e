//! A machine of the simulated EC2: its states follow from the times at which things happened to it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::template::LaunchTemplate;
use crate::cloud::launch_template::Reserving;
use crate::model::instance::{Ending, Instance, InstanceState};
use crate::model::money::UsdPerHour;

/// How long a terminated instance is still shown. Source: EC2 shows them for about an hour.
const SHOWN_AFTERWARDS: SignedDuration = SignedDuration::from_hours(1);

/// From the fleet's answer until a machine runs, milliseconds: at least, and how much more at most.
pub const START: (u64, u64) = (4_000, 8_000);
/// From there until its kubelet registers, milliseconds: at least, and how much more at most.
pub const BOOT: (u64, u64) = (18_000, 17_000);

/// Why a machine ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum EndCause {
    /// Somebody called `TerminateInstances`.
    Terminated,
    /// EC2 took spot capacity back.
    Reclaimed,
    /// It failed.
    Failed,
}

impl EndCause {
    /// For people.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Terminated => "terminated",
            Self::Reclaimed => "reclaimed",
            Self::Failed => "failed",
        }
    }

    /// What EC2 says of it. Source: "StateReason" in the EC2 API reference.
    fn ending(self) -> Ending {
        let (code, message) = match self {
            Self::Terminated => ("Client.UserInitiatedShutdown", "User initiated shutdown"),
            Self::Reclaimed => (
                "Server.SpotInstanceTermination",
                "Spot instance termination",
            ),
            Self::Failed => ("Server.InternalError", "Internal error on launch"),
        };
        Ending {
            code: code.to_owned(),
            message: message.to_owned(),
        }
    }
}

/// One machine, from its launch on.
#[derive(Debug, Clone)]
pub struct Machine {
    /// What EC2 shows of it, its state aside.
    pub(super) instance: Instance,
    /// What it reads at its first boot.
    pub user_data: String,
    /// The context that its launch named.
    pub context: Option<String>,
    /// What it was made from.
    pub template: Option<Arc<LaunchTemplate>>,
    /// What its volumes cost.
    pub fees: UsdPerHour,
    /// From when on it runs and is billed.
    pub running_at: Timestamp,
    /// How long its operating system and kubelet take from there.
    pub boot: Duration,
    /// It never gets as far as a kubelet.
    pub never_joins: bool,
    /// When it stopped working and being billed, and why.
    pub ended: Option<(Timestamp, EndCause)>,
    /// When nothing of it was left.
    pub(super) gone_at: Option<Timestamp>,
}

impl Machine {
    /// Its id.
    pub fn id(&self) -> &str {
        &self.instance.id
    }

    /// Its tags.
    pub fn tags(&self) -> &BTreeMap<String, String> {
        &self.instance.tags
    }

    /// The capacity reservation that it is in.
    pub fn reservation(&self) -> Option<&str> {
        self.template.as_ref()?.data.reservation()
    }

    /// How many Elastic Fabric Adapters it has.
    pub fn efa_devices(&self) -> i64 {
        let template = self.template.as_ref();
        template.map_or(0, |template| template.data.efa_devices())
    }

    /// True when it is in a capacity block.
    pub fn is_in_block(&self) -> bool {
        let template = self.template.as_ref();
        template
            .is_some_and(|template| matches!(&template.data.reserving, Some(Reserving::Block(_))))
    }

    /// What EC2 shows of it at a time; `None` once it is forgotten.
    pub fn shown(&self, now: Timestamp) -> Option<Instance> {
        let state = self.state(now);
        let forgotten = self
            .gone_at
            .is_some_and(|gone| now.duration_since(gone) > SHOWN_AFTERWARDS);
        let ended = self.ended.filter(|(at, _cause)| now >= *at);
        (!forgotten).then(|| Instance {
            state,
            ending: ended.map(|(_at, cause)| cause.ending()),
            ..self.instance.clone()
        })
    }

    /// Where it is in its life.
    pub fn state(&self, now: Timestamp) -> InstanceState {
        match (self.ended, self.gone_at) {
            (Some(_), Some(gone)) if now >= gone => InstanceState::Terminated,
            (Some((at, _cause)), _) if now >= at => InstanceState::ShuttingDown,
            _ if now >= self.running_at => InstanceState::Running,
            _ => InstanceState::Pending,
        }
    }

    /// True while it is there to be used or paid for.
    pub fn is_alive(&self, now: Timestamp) -> bool {
        matches!(
            self.state(now),
            InstanceState::Pending | InstanceState::Running
        )
    }

    /// From when to when it is billed, as of a time.
    pub fn billed(&self, now: Timestamp) -> Option<(Timestamp, Timestamp)> {
        let until = self.ended.map_or(now, |(at, _cause)| at.min(now));
        (until >= self.running_at).then_some((self.running_at, until))
    }
}
