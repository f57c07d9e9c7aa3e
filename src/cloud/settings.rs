//! Settings of the EC2 side, as plain values; where they come from is the command line's business.

use std::time::Duration;

use tokio::sync::watch;

use super::buckets::BucketSizes;
use super::class::ClassDefaults;
use super::cluster::ClusterFacts;
use crate::model::kubernetes_version::KubernetesVersion;

/// How EC2 chooses among the offerings of a spot launch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum SpotStrategy {
    /// Cheap among those that are least likely to be interrupted.
    #[default]
    PriceCapacityOptimized,
    /// Least likely to be interrupted.
    CapacityOptimized,
    /// Cheapest.
    LowestPrice,
}

impl SpotStrategy {
    /// EC2's spelling.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PriceCapacityOptimized => "price-capacity-optimized",
            Self::CapacityOptimized => "capacity-optimized",
            Self::LowestPrice => "lowest-price",
        }
    }
}

/// How EC2 chooses among the offerings of an on-demand launch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum OnDemandStrategy {
    /// Cheapest.
    #[default]
    LowestPrice,
    /// In the order of the plan.
    Prioritized,
}

impl OnDemandStrategy {
    /// EC2's spelling.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::LowestPrice => "lowest-price",
            Self::Prioritized => "prioritized",
        }
    }
}

/// Who says where new nodes reach the API server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum EndpointSource {
    /// The facts of the cluster in the settings. Where nothing is launched they need not say it.
    #[default]
    Settings,
    /// EKS, of the cluster that has the name in the settings, and a certificate authority of those in the settings: another
    /// one of the same name has none of them. Until it has answered nothing is launched that is told of the cluster.
    Eks,
}

/// Everything the EC2 side is told.
#[derive(Debug, Clone)]
pub struct CloudSettings {
    /// The region; `None` takes it from the environment (`AWS_REGION`).
    pub region: Option<String>,
    /// The cluster that machines join.
    pub cluster: ClusterFacts,
    /// Who says where machines reach its API server.
    pub endpoint: EndpointSource,
    /// What changes the meaning of node classes.
    pub class: ClassDefaults,
    /// Client-side rate limits.
    pub buckets: BucketSizes,
    /// Strategy of spot launches.
    pub spot_strategy: SpotStrategy,
    /// Strategy of on-demand launches.
    pub on_demand_strategy: OnDemandStrategy,
    /// Whether the Pricing API is asked; without it on-demand prices are the built-in, dated ones.
    pub price_api: bool,
    /// Time after which prices are read again, spot and on-demand.
    pub price_refresh: Duration,
    /// How long the value of an SSM parameter that may change serves: of an alias with `latest`, or a
    /// parameter that a node class names.
    pub image_refresh: Duration,
    /// The cluster's Kubernetes version, which aliases of images depend on; `None` until it is known.
    pub kubernetes_version: watch::Receiver<Option<KubernetesVersion>>,
    /// How long EC2 may not know an instance profile that was just made.
    pub profile_settles: Duration,
    /// How long one attempt of a call may take before it counts as unanswered.
    pub attempt_timeout: Duration,
}

impl CloudSettings {
    /// Default settings for a cluster.
    pub fn new(cluster: ClusterFacts) -> Self {
        Self {
            region: None,
            cluster,
            endpoint: EndpointSource::default(),
            class: ClassDefaults::default(),
            buckets: BucketSizes::default(),
            spot_strategy: SpotStrategy::default(),
            on_demand_strategy: OnDemandStrategy::default(),
            price_api: true,
            price_refresh: Duration::from_mins(5),
            image_refresh: Duration::from_mins(5),
            profile_settles: Duration::from_secs(10),
            kubernetes_version: watch::channel(None).1,
            attempt_timeout: Duration::from_mins(1),
        }
    }
}
