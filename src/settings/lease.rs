//! Which controller acts when several run.
//!
//! Given the flags of leader election; given back [`LeaseSettings`], or an error that names the flag.

use std::time::Duration;

use clap::Args;

use super::{SettingsError, duration, page};

/// Flags of leader election.
#[derive(Debug, Clone, Args)]
pub struct LeaseFlags {
    /// Act only while holding a Lease, so that several controllers may run; `false` for one that is
    /// alone. With `--mode observe` no Lease is taken
    #[arg(long, env = "TONNAGE_LEADER_ELECT", action = clap::ArgAction::Set, default_value_t = true)]
    pub leader_elect: bool,
    /// Name of the Lease
    #[arg(long, env = "TONNAGE_LEASE_NAME", default_value = "tonnage")]
    pub lease_name: String,
    /// Namespace of the Lease; without it, that of the pod, or of the kubeconfig's context
    #[arg(long, env = "TONNAGE_LEASE_NAMESPACE")]
    pub lease_namespace: Option<String>,
    /// Another controller takes over when the Lease was not renewed for this long; whole seconds
    #[arg(long, env = "TONNAGE_LEASE_DURATION", value_parser = duration, default_value = "9s")]
    pub lease_duration: Duration,
    /// A controller that could not renew its Lease for this long stops acting; shorter than the
    /// Lease's duration: the rest is for calls that are still on their way
    #[arg(long, env = "TONNAGE_LEASE_RENEW_DEADLINE", value_parser = duration, default_value = "6s")]
    pub lease_renew_deadline: Duration,
    /// Time between renewals of the Lease, and between looks of those who wait for it
    #[arg(long, env = "TONNAGE_LEASE_RETRY_PERIOD", value_parser = duration, default_value = "1500ms")]
    pub lease_retry_period: Duration,
}

/// The lease that a controller must hold to act.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseSettings {
    /// Name of the Lease.
    pub name: String,
    /// Its namespace; `None` is that of the connection.
    pub namespace: Option<String>,
    /// Time without a change after which another takes over.
    pub duration: Duration,
    /// Time without a renewal after which the holder stops acting.
    pub renew_deadline: Duration,
    /// Time between renewals and looks.
    pub retry_period: Duration,
}

impl Default for LeaseSettings {
    /// As the flags default. The ratios are those of Kubernetes' own controllers (15 s, 10 s, 2 s),
    /// shorter so that a takeover is done within 12 s.
    fn default() -> Self {
        Self {
            name: "tonnage".to_owned(),
            namespace: None,
            duration: Duration::from_secs(9),
            renew_deadline: Duration::from_secs(6),
            retry_period: Duration::from_millis(1_500),
        }
    }
}

/// Shortest time between renewals: below it the API server does nothing else.
const SHORTEST_RETRY: Duration = Duration::from_millis(50);

impl LeaseFlags {
    /// Checks that a holder always stops before another begins, and has time for a second try.
    pub(super) fn settings(&self) -> Result<Option<LeaseSettings>, SettingsError> {
        if !self.leader_elect {
            return Ok(None);
        }
        let error = |flag, problem: &str| {
            Err(SettingsError {
                flag,
                problem: problem.to_owned(),
            })
        };
        if !is_name(&self.lease_name) {
            return error(
                "lease-name",
                "give a name of lower-case letters, digits, `-` and `.`",
            );
        }
        if self.lease_duration.is_zero() || self.lease_duration.subsec_nanos() > 0 {
            return error("lease-duration", "give whole seconds, for example 9s");
        }
        if self.lease_renew_deadline >= self.lease_duration {
            return error(
                "lease-renew-deadline",
                "must be shorter than --lease-duration, or two controllers could act at once",
            );
        }
        if self.lease_retry_period < SHORTEST_RETRY {
            return error("lease-retry-period", "must be 50ms or longer");
        }
        if self.lease_retry_period * 2 > self.lease_renew_deadline {
            return error(
                "lease-retry-period",
                "must be at most half of --lease-renew-deadline, so that one failure is not the end",
            );
        }
        Ok(Some(LeaseSettings {
            name: self.lease_name.clone(),
            namespace: self
                .lease_namespace
                .clone()
                .filter(|namespace| !namespace.is_empty()),
            duration: self.lease_duration,
            renew_deadline: self.lease_renew_deadline,
            retry_period: self.lease_retry_period,
        }))
    }
}

/// True for a name that the API server takes.
pub(super) fn is_name(name: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
    let outer = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    name.len() <= 253 && name.chars().all(inner) && name.starts_with(outer) && name.ends_with(outer)
}

/// The part of the reference page about these flags.
pub(super) fn markdown() -> String {
    page::table(PREAMBLE, LeaseFlags::augment_args)
}

const PREAMBLE: &str = "
# Leader election

Of several controllers only the one that holds a Lease acts; the others stand by with a warm view of the cluster. These
are flags of `tonnage controller`, each with its environment variable; the chart sets them from `leaderElection`.
With the defaults another controller acts within 12 s of a crash and within 3 s of a clean stop; where the API server owes the
one that stops an answer to a write, 3 s later, as the write may still arrive.
";
