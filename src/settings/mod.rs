//! What the controller is told when it is started.
//!
//! Given flags and their environment twins, read by clap; given back validated [`Settings`], or an
//! error that names the flag and the fix. Nothing else in the crate reads flags or environment.

mod ceilings;
mod joining;
mod keeping;
mod learned;
mod lease;
mod naming;
mod page;
mod prices;
mod rates;
mod spread;
mod wishes;

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use jiff::SignedDuration;

pub use ceilings::CeilingFlags;
pub use keeping::KeepingFlags;
pub use learned::{LearnedFlags, LearnedSettings};
pub use lease::{LeaseFlags, LeaseSettings};
pub use naming::{InstanceNames, NamingFlags};
pub use page::markdown as flags_markdown;
pub use prices::PriceFlags;
pub use rates::{Rate, RateError, RateFlags};
pub use spread::{DefaultSpread, default_spread};
pub use wishes::WishFlags;

use joining::Joining;

use crate::plan::lifecycle::LifecycleSettings;
use crate::plan::provision::{ContestedPods, Premium, ProvisionSettings};
use crate::plan::rate::Rate as LaunchRate;

/// Whether the controller acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Mode {
    /// Plans and acts.
    Run,
    /// Plans, explains and reports dollars, and writes nothing to Kubernetes or EC2.
    Observe,
}

/// What to do with pods that a NodePool of another provisioner could serve too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Contested {
    /// Leave them to the other provisioner.
    Leave,
    /// Buy for them.
    Take,
}

/// How logs are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// Text for people.
    Text,
}

/// How EC2 chooses among the offerings of a spot launch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum SpotChoice {
    /// Cheap among those least likely to be interrupted.
    PriceCapacityOptimized,
    /// Least likely to be interrupted.
    CapacityOptimized,
    /// Cheapest.
    LowestPrice,
}

/// How EC2 chooses among the offerings of an on-demand launch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum OnDemandChoice {
    /// Cheapest.
    LowestPrice,
    /// In the order of the plan.
    Prioritized,
}

/// Flags of `tonnage controller`; each has an environment twin.
#[derive(Debug, Clone, Args)]
pub struct ControllerFlags {
    /// Name of the cluster: it is in the tags of everything that is bought
    #[arg(long, env = "TONNAGE_CLUSTER_NAME")]
    pub cluster_name: String,
    /// URL of the API server as new nodes reach it; without it, what EKS says of the cluster
    #[arg(long, env = "TONNAGE_CLUSTER_ENDPOINT", default_value = "")]
    pub cluster_endpoint: String,
    /// Certificate authority of the API server: PEM in base64, as in a kubeconfig; without it, the one that this process
    /// itself trusts the API server by
    #[arg(
        long,
        env = "TONNAGE_CLUSTER_CA_BUNDLE",
        default_value = "",
        hide_env_values = true
    )]
    pub cluster_ca_bundle: String,
    /// Range of Service addresses, for example 10.100.0.0/16; without it, that of the ServiceCIDR `kubernetes`
    #[arg(long, env = "TONNAGE_CLUSTER_CIDR", default_value = "")]
    pub cluster_cidr: String,
    /// Address of the cluster's DNS; without it, that of Service kube-dns or coredns in kube-system, else the tenth of
    /// the range
    #[arg(long, env = "TONNAGE_CLUSTER_DNS")]
    pub cluster_dns: Option<IpAddr>,
    /// AWS region; without it, the region of the AWS configuration
    #[arg(long, env = "AWS_REGION")]
    pub region: Option<String>,
    /// Act, or only observe: plan, explain, report dollars, write nothing
    #[arg(long, env = "TONNAGE_MODE", value_enum, default_value_t = Mode::Run)]
    pub mode: Mode,
    /// Pods that a NodePool of another provisioner could serve too
    #[arg(long, env = "TONNAGE_CONTESTED_PODS", value_enum, default_value_t = Contested::Leave)]
    pub contested_pods: Contested,
    /// Buy on-demand for drivers of Spark applications unless their pod says otherwise
    #[arg(long, env = "TONNAGE_DRIVERS_ON_DEMAND", action = clap::ArgAction::Set, default_value_t = true)]
    pub drivers_on_demand: bool,
    /// What wishes of pods may cost
    #[command(flatten)]
    pub wishes: WishFlags,
    /// Spread constraints of pods without their own that a ReplicaSet or StatefulSet made, as in
    /// `defaultConstraints` of kube-scheduler's configuration: a JSON list
    #[arg(long, env = "TONNAGE_DEFAULT_SPREAD", value_name = "JSON", value_parser = default_spread, default_value = "[]")]
    pub default_spread: DefaultSpread,
    /// A burst of pods is planned when no new pod has come for this long
    #[arg(long, env = "TONNAGE_BATCH_IDLE", value_parser = duration, default_value = "1s")]
    pub batch_idle: Duration,
    /// A burst of pods is planned after this long even if more keep coming
    #[arg(long, env = "TONNAGE_BATCH_MAX", value_parser = duration, default_value = "10s")]
    pub batch_max: Duration,
    /// Search time of a plan, as units of work: equal inputs give equal plans on any machine
    #[arg(long, env = "TONNAGE_PLAN_BUDGET", value_parser = duration, default_value = "100ms")]
    pub plan_budget: Duration,
    /// Alternatives of a node may cost this many percent more than the cheapest
    #[arg(long, env = "TONNAGE_PRICE_BAND_PERCENT", default_value_t = 100)]
    pub price_band_percent: u32,
    /// What keeps a plan
    #[command(flatten)]
    pub keeping: KeepingFlags,
    /// A claim that nothing could be bought for is given up after this long
    #[arg(long, env = "TONNAGE_LAUNCH_TIMEOUT", value_parser = duration, default_value = "5m")]
    pub launch_timeout: Duration,
    /// An instance that has not joined is given up after this long
    #[arg(long, env = "TONNAGE_REGISTRATION_TIMEOUT", value_parser = duration, default_value = "15m")]
    pub registration_timeout: Duration,
    /// A node that has not become usable is given up after this long; without it, never
    #[arg(long, env = "TONNAGE_INITIALIZATION_TIMEOUT", value_parser = duration)]
    pub initialization_timeout: Option<Duration>,
    /// How often all instances are listed to find what belongs to nobody
    #[arg(long, env = "TONNAGE_ORPHAN_SWEEP", value_parser = duration, default_value = "30s")]
    pub orphan_sweep: Duration,
    /// How often selectors, images, prices and types of node classes are resolved again
    #[arg(long, env = "TONNAGE_RESOLVE_AGAIN", value_parser = duration, default_value = "1m")]
    pub resolve_again: Duration,
    /// How often SSM parameters of images are read again: those of aliases with latest, and those
    /// that node classes name
    #[arg(long, env = "TONNAGE_IMAGE_REFRESH", value_parser = duration, default_value = "5m")]
    pub image_refresh: Duration,
    /// Name of the SQS queue that EventBridge sends EC2's announcements to: spot interruptions,
    /// rebalance recommendations, maintenance; without it, machines end without a warning
    #[arg(long, env = "TONNAGE_INTERRUPTION_QUEUE", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub interruption_queue: Option<String>,
    /// How EC2 chooses among the offerings of a spot launch
    #[arg(long, env = "TONNAGE_SPOT_STRATEGY", value_enum, default_value_t = SpotChoice::PriceCapacityOptimized)]
    pub spot_strategy: SpotChoice,
    /// How EC2 chooses among the offerings of an on-demand launch
    #[arg(long, env = "TONNAGE_ON_DEMAND_STRATEGY", value_enum, default_value_t = OnDemandChoice::LowestPrice)]
    pub on_demand_strategy: OnDemandChoice,
    /// Where prices come from
    #[command(flatten)]
    pub prices: PriceFlags,
    /// Calls to the API server per second, on average
    #[arg(long, env = "TONNAGE_KUBE_QPS", default_value = "200")]
    pub kube_qps: NonZeroU32,
    /// Calls to the API server at once
    #[arg(long, env = "TONNAGE_KUBE_BURST", default_value = "300")]
    pub kube_burst: NonZeroU32,
    /// Address of /metrics, /healthz and /readyz
    #[arg(long, env = "TONNAGE_METRICS_ADDR", default_value = "0.0.0.0:8080")]
    pub metrics_addr: SocketAddr,
    /// How logs are written
    #[arg(long, env = "TONNAGE_LOG_FORMAT", value_enum, default_value_t = LogFormat::Json)]
    pub log_format: LogFormat,
    /// A level, or a filter such as info,tonnage::plan=debug
    #[arg(long, env = "TONNAGE_LOG_LEVEL", default_value = "info")]
    pub log_level: String,
    /// Who acts when several controllers run
    #[command(flatten)]
    pub lease: LeaseFlags,
    /// How fast the fleet may change
    #[command(flatten)]
    pub ceilings: CeilingFlags,
    /// How many calls to EC2 are made at most
    #[command(flatten)]
    pub rates: RateFlags,
    /// What instances are called
    #[command(flatten)]
    pub naming: NamingFlags,
    /// Where what is learned is kept
    #[command(flatten)]
    pub learned: LearnedFlags,
    /// Kubeconfig file; without it, the ServiceAccount of the pod
    #[arg(long, env = "TONNAGE_KUBECONFIG")]
    pub kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig; without it, its current one
    #[arg(long, env = "TONNAGE_CONTEXT")]
    pub context: Option<String>,
}

/// A flag whose value cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("--{flag}: {problem}")]
pub struct SettingsError {
    /// The flag without its dashes.
    pub flag: &'static str,
    /// What is wrong and what would fix it.
    pub problem: String,
}

/// What the loops are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Act or observe.
    pub mode: Mode,
    /// Pods that a foreign NodePool could serve too.
    pub contested_pods: ContestedPods,
    /// Spark drivers go on-demand.
    pub drivers_on_demand: bool,
    /// What wishes of pods may cost.
    pub preference_premium: Premium,
    /// Spread constraints of pods that have none.
    pub default_spread: DefaultSpread,
    /// Quiet that ends a burst of pods.
    pub batch_idle: Duration,
    /// The longest a burst may take.
    pub batch_max: Duration,
    /// Search time of a plan, in milliseconds' worth of work.
    pub plan_budget_ms: u64,
    /// Price band of alternatives, percent.
    pub price_band_percent: u32,
    /// Planned pods are nominated to their nodes.
    pub nominate_pods: bool,
    /// Planned pods are bound to their nodes before those open.
    pub bind_pods: bool,
    /// Timeouts of claims whose NodePool does not say.
    pub lifecycle: LifecycleSettings,
    /// Time between two complete lists of instances.
    pub orphan_sweep: SignedDuration,
    /// Time after which a node class is resolved again.
    pub resolve_again: SignedDuration,
    /// The lease that must be held to act; `None` acts without one.
    pub lease: Option<LeaseSettings>,
    /// Where what is learned is kept; `None` is nowhere.
    pub learned: Option<LearnedSettings>,
    /// Whose name instances carry.
    pub instance_names: InstanceNames,
    /// How many instances EC2 starts for the account.
    pub launch_rate: LaunchRate,
    /// Instances launched within a minute at most; `None` is without a ceiling.
    pub launches_per_minute: Option<NonZeroU32>,
    /// Instances terminated within a minute at most; `None` is without a ceiling.
    pub terminations_per_minute: Option<NonZeroU32>,
}

/// A positive duration such as `300ms`, `10s`, `5m` or `1h30m`.
fn duration(text: &str) -> Result<Duration, String> {
    let problem = || format!("`{text}` is not a duration: write for example 300ms, 10s, 5m or 1h");
    let parsed: SignedDuration = text.parse().map_err(|_unreadable: jiff::Error| problem())?;
    Duration::try_from(parsed).map_err(|_negative| problem())
}

fn signed(duration: Duration) -> SignedDuration {
    SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX)
}

impl ControllerFlags {
    fn joining(&self) -> Joining<'_> {
        Joining {
            endpoint: &self.cluster_endpoint,
            ca_bundle: &self.cluster_ca_bundle,
            cidr: &self.cluster_cidr,
        }
    }

    /// Checks what clap cannot check.
    ///
    /// # Errors
    /// [`SettingsError`] names the first flag whose value cannot be used.
    pub fn settings(&self) -> Result<Settings, SettingsError> {
        let error = |flag, problem: &str| {
            Err(SettingsError {
                flag,
                problem: problem.to_owned(),
            })
        };
        if self.cluster_name.is_empty() || self.cluster_name.len() > 100 {
            return error(
                "cluster-name",
                "give the cluster's name, 1 to 100 characters",
            );
        }
        let acts = self.mode == Mode::Run;
        if let Some((flag, problem)) = acts.then(|| self.joining().problem()).flatten() {
            return error(flag, problem);
        }
        if self.batch_idle > self.batch_max {
            return error("batch-idle", "must not be longer than --batch-max");
        }
        if self.orphan_sweep.is_zero() {
            return error("orphan-sweep", "must be longer than zero, for example 30s");
        }
        self.prices.check()?;
        Ok(Settings {
            mode: self.mode,
            contested_pods: match self.contested_pods {
                Contested::Leave => ContestedPods::Leave,
                Contested::Take => ContestedPods::Take,
            },
            drivers_on_demand: self.drivers_on_demand,
            preference_premium: self.wishes.premium(),
            default_spread: self.default_spread.clone(),
            batch_idle: self.batch_idle,
            batch_max: self.batch_max,
            plan_budget_ms: u64::try_from(self.plan_budget.as_millis()).unwrap_or(u64::MAX),
            price_band_percent: self.price_band_percent,
            nominate_pods: self.keeping.nominate_pods,
            bind_pods: self.keeping.bind_pods,
            lifecycle: LifecycleSettings {
                launch_timeout: signed(self.launch_timeout),
                registration_timeout: signed(self.registration_timeout),
                initialization_timeout: self.initialization_timeout.map(signed),
            },
            orphan_sweep: signed(self.orphan_sweep),
            resolve_again: signed(self.resolve_again),
            lease: self.lease.settings()?,
            learned: self.learned.settings()?,
            instance_names: self.naming.names(),
            launch_rate: self.rates.launch_rate(),
            launches_per_minute: self.ceilings.launches_per_minute,
            terminations_per_minute: self.ceilings.terminations_per_minute,
        })
    }
}

impl Settings {
    /// The settings of a planning round.
    pub fn provision(&self) -> ProvisionSettings {
        ProvisionSettings {
            contested_pods: self.contested_pods,
            drivers_on_demand: self.drivers_on_demand,
            preference_premium: self.preference_premium,
            default_spread: self.default_spread.0.clone(),
            price_band_percent: Some(self.price_band_percent),
            ..ProvisionSettings::default()
        }
        .with_budget_ms(self.plan_budget_ms)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        flags: ControllerFlags,
    }

    fn settings(arguments: &[&str]) -> Result<Settings, String> {
        let all = ["test"].iter().chain(arguments);
        let line = Line::try_parse_from(all).map_err(|error| error.to_string())?;
        line.flags.settings().map_err(|error| error.to_string())
    }

    const ACT: [&str; 8] = [
        "--cluster-name",
        "c",
        "--cluster-endpoint",
        "https://api",
        "--cluster-ca-bundle",
        "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCk1JSUIKLS0tLS1FTkQgQ0VSVElGSUNBVEUtLS0tLQo=",
        "--cluster-cidr",
        "10.0.0.0/16",
    ];

    #[test]
    fn the_defaults_act_after_a_second_of_quiet() {
        let settings = settings(&ACT).unwrap();
        assert_eq!(settings.mode, Mode::Run);
        assert_eq!(settings.batch_idle, Duration::from_secs(1));
        assert_eq!(settings.provision(), ProvisionSettings::default());
        assert!(settings.nominate_pods);
        assert!(!settings.bind_pods, "that is asked for");
        let lease = settings.lease.unwrap();
        assert_eq!(lease, LeaseSettings::default());
        assert_eq!(lease.duration, Duration::from_secs(9));
        let named = settings.instance_names;
        assert_eq!(
            named,
            InstanceNames::OfNodePool,
            "a call for each is asked for"
        );
    }

    #[test]
    fn what_cannot_be_used_names_the_flag() {
        let with = |more: &[&'static str]| {
            let all: Vec<&str> = ACT.iter().copied().chain(more.iter().copied()).collect();
            settings(&all).unwrap_err()
        };
        assert!(with(&["--batch-idle", "20s"]).contains("--batch-idle"));
        assert!(with(&["--batch-max", "soon"]).contains("`soon` is not a duration"));
        assert!(with(&["--orphan-sweep", "0s"]).contains("--orphan-sweep"));
        assert!(with(&["--price-refresh", "30s"]).contains("--price-refresh"));
        assert!(with(&["--kube-qps", "0"]).contains("--kube-qps"));
        for wrong in [
            ["--lease-duration", "1500ms"],
            ["--lease-duration", "0s"],
            ["--lease-duration", "6s"],
            ["--lease-renew-deadline", "2s"],
            ["--lease-retry-period", "0s"],
            ["--lease-name", "Not A Name"],
        ] {
            assert!(with(&wrong).contains("--lease-"), "{wrong:?}");
        }
    }

    #[test]
    fn facts_that_no_node_could_join_with_are_refused() {
        for (flag, value, fix) in [
            ("--cluster-endpoint", "nonsense", "https://"),
            ("--cluster-endpoint", "http://api", "https://"),
            ("--cluster-ca-bundle", "!!!", "base64"),
            ("--cluster-ca-bundle", "Q0E=", "PEM"),
            ("--cluster-cidr", "10.0.0.0/99", "10.100.0.0/16"),
            ("--cluster-cidr", "10.0.0.0", "10.100.0.0/16"),
            ("--cluster-cidr", "fd12:3456::/108", "IPv6"),
            ("--cluster-cidr", "fd12:3456::/129", "10.100.0.0/16"),
            ("--cluster-endpoint", "https://[fd12::1]:443", "IPv6"),
        ] {
            let mut all = ACT.to_vec();
            let place = all.iter().position(|word| *word == flag).unwrap();
            all[place + 1] = value;
            let said = settings(&all).unwrap_err();
            assert!(said.contains(flag) && said.contains(fix), "{said}");
        }
    }

    #[test]
    fn without_election_there_is_no_lease() {
        let all: Vec<&str> = ACT
            .iter()
            .copied()
            .chain(["--leader-elect", "false"])
            .collect();
        assert_eq!(settings(&all).unwrap().lease, None);
    }
}
