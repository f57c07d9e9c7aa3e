//! `tonnage controller`: runs in a cluster until it is told to stop.
//!
//! Given flags and environment; given back nothing but the exit code. It connects both sides, starts
//! every loop from one list, and ends cleanly at SIGTERM or SIGINT. Nothing is decided here.

use crate::settings::ControllerFlags;

/// Watch a cluster, buy what its pending pods need, and end what nobody needs.
#[derive(Debug, clap::Args)]
#[cfg_attr(
    not(feature = "aws"),
    command(
        before_help = "THIS BINARY WAS BUILT WITHOUT THE CARGO FEATURE `aws`: it has no EC2 adapter, and \
                           the controller does not start. Build with `cargo build --features aws`."
    )
)]
pub(super) struct Args {
    #[command(flatten)]
    flags: ControllerFlags,
}

/// Why the controller did not start, or did not end well.
#[derive(Debug, thiserror::Error)]
pub(super) enum ControllerError {
    /// The binary has no adapter.
    #[cfg(not(feature = "aws"))]
    #[error(
        "this binary was built without the cargo feature `aws`, so it has no EC2 adapter; build it with \
         `cargo build --features aws`"
    )]
    WithoutAdapter,
    /// A flag.
    #[error(transparent)]
    Settings(#[from] crate::settings::SettingsError),
    /// The log filter.
    #[cfg(feature = "aws")]
    #[error(transparent)]
    Filter(#[from] crate::telemetry::FilterError),
    /// The runtime.
    #[cfg(feature = "aws")]
    #[error("the runtime does not start")]
    Runtime(#[source] std::io::Error),
    /// The API server.
    #[cfg(feature = "aws")]
    #[error(transparent)]
    Connect(#[from] crate::cluster::client::ConnectError),
    /// What new nodes join with.
    #[cfg(feature = "aws")]
    #[error(transparent)]
    Joining(#[from] crate::cluster::joining::JoiningError),
    /// EC2.
    #[cfg(feature = "aws")]
    #[error(transparent)]
    Cloud(#[from] crate::cloud::CloudError),
    /// The HTTP endpoints.
    #[cfg(feature = "aws")]
    #[error("--metrics-addr: {address} cannot be listened on; choose a free address")]
    Endpoints {
        address: std::net::SocketAddr,
        source: std::io::Error,
    },
}

/// Says that there is no adapter.
#[cfg(not(feature = "aws"))]
pub(super) fn run(args: &Args) -> Result<(), ControllerError> {
    args.flags.settings()?;
    Err(ControllerError::WithoutAdapter)
}

#[cfg(feature = "aws")]
pub(super) use running::run;

#[cfg(feature = "aws")]
mod running {
    //! The controller with its EC2 adapter.

    use std::sync::{Arc, OnceLock};
    use std::time::Duration;

    use super::{Args, ControllerError};
    use crate::cli::stop::wait_for_signal;
    use crate::cloud::buckets::{BucketSize, BucketSizes};
    use crate::cloud::cluster::ClusterFacts;
    use crate::cloud::ec2::{Ec2Cloud, Queue};
    use crate::cloud::notices::NoticeSource;
    use crate::cloud::settings::{CloudSettings, EndpointSource, OnDemandStrategy, SpotStrategy};
    use crate::cluster::Mirror;
    use crate::cluster::client::{ConnectOptions, connect_listening};
    use crate::cluster::joining;
    use crate::cluster::lease::Standing;
    use crate::cluster::version;
    use crate::controllers::assembly::{Connections, assemble};
    use crate::metrics::Metrics;
    use crate::settings::{ControllerFlags, Mode, OnDemandChoice, Rate, RateFlags, SpotChoice};
    use crate::telemetry::{Readiness, Refresh, serve, start_logs};
    use crate::world::{Clock, SteadyClock, SystemClock, World};

    /// How long a clean end may take. Kubernetes kills after 30 s by default.
    const STOP_WITHIN: Duration = Duration::from_secs(8);

    /// Runs until SIGTERM or SIGINT.
    pub(crate) fn run(args: &Args) -> Result<(), ControllerError> {
        let settings = args.flags.settings()?;
        start_logs(args.flags.log_format, &args.flags.log_level)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .map_err(ControllerError::Runtime)?;
        runtime.block_on(serve_until_told(&args.flags, settings))
    }

    async fn serve_until_told(
        flags: &ControllerFlags,
        settings: crate::settings::Settings,
    ) -> Result<(), ControllerError> {
        let clock = Arc::new(SteadyClock::new(Arc::new(SystemClock)));
        let world = World::real_at(Arc::clone(&clock) as Arc<dyn Clock>);
        let metrics = Arc::new(Metrics::new());
        let options = ConnectOptions {
            kubeconfig: flags.kubeconfig.clone(),
            context: flags.context.clone(),
        };
        let client = connect_listening(&options, &clock).await?;
        let mirror = Mirror::new();
        let standing = Arc::new(OnceLock::new());
        let health = (mirror.clone(), Arc::clone(&standing));
        // First, so that nobody ends the process for its silence before it has said what it lacks.
        serve_endpoints(flags, &metrics, health, &world).await?;
        let flags = &joining(flags, &options, &client).await?;
        let cloud_settings = CloudSettings {
            kubernetes_version: version::follow(client.clone(), &world),
            ..cloud_settings(flags)
        };
        let notices = match &flags.interruption_queue {
            Some(name) => {
                let queue = Queue::connect(&cloud_settings, name.clone()).await;
                Some(Arc::new(queue) as Arc<dyn NoticeSource>)
            }
            None => None,
        };
        let cloud = Ec2Cloud::connect(cloud_settings, world.clone()).await?;
        tracing::info!(
            version = env!("CARGO_PKG_VERSION"),
            cluster = flags.cluster_name,
            mode = ?flags.mode,
            "tonnage starts"
        );
        let connections = Connections {
            client,
            per_second: flags.kube_qps,
            burst: flags.kube_burst,
            cloud: Arc::new(cloud),
            notices,
            mirror,
            metrics,
            plans: None,
            host: std::env::var("HOSTNAME").unwrap_or_else(|_unset| "tonnage".to_owned()),
        };
        // Set once; whoever asks before sees a process that has not listed everything yet.
        standing.get_or_init(|| assemble(connections, settings, &world));
        stop_when_told(&world).await;
        Ok(())
    }

    /// The flags, with what the cluster says of how new nodes join it where they do not say it. Where nodes reach the
    /// API server is not known in the cluster: EKS is asked for it when a class is looked at.
    async fn joining(
        flags: &ControllerFlags,
        options: &ConnectOptions,
        client: &kube::Client,
    ) -> Result<ControllerFlags, ControllerError> {
        let mut flags = flags.clone();
        if flags.mode == Mode::Observe {
            return Ok(flags);
        }
        if flags.cluster_ca_bundle.is_empty() {
            flags.cluster_ca_bundle = joining::certificate_authority(options).await?;
        }
        if flags.cluster_cidr.is_empty() {
            flags.cluster_cidr = joining::service_range(client.clone()).await?;
        }
        if flags.cluster_dns.is_none() {
            let found = joining::dns_address(client.clone()).await;
            // Where it follows from the range nodes find it themselves.
            flags.cluster_dns = found.filter(|_found| found != cluster_facts(&flags).dns());
        }
        // What was found is held to the same as what is given.
        flags.settings()?;
        Ok(flags)
    }

    async fn stop_when_told(world: &World) {
        wait_for_signal().await;
        tracing::info!("told to stop");
        if tokio::time::timeout(STOP_WITHIN, world.shut_down())
            .await
            .is_err()
        {
            tracing::warn!(
                "some work did not end in time; it is taken up again after the next start"
            );
        }
    }

    async fn serve_endpoints(
        flags: &ControllerFlags,
        metrics: &Arc<Metrics>,
        (mirror, standing): (Mirror, Arc<OnceLock<Standing>>),
        world: &World,
    ) -> Result<(), ControllerError> {
        let watched = mirror.clone();
        // Who stands by is ready: it follows the cluster and acts as soon as it holds the lease.
        let readiness: Readiness = Arc::new(move || {
            let mut missing = if watched.is_synced() {
                Vec::new()
            } else {
                watched.problems()
            };
            missing.extend(standing.get().and_then(Standing::problem));
            missing
        });
        let reported = mirror;
        let refresh: Refresh = Arc::new(move |metrics| reported.report(metrics));
        let figures = (Arc::clone(metrics), refresh);
        serve(flags.metrics_addr, figures, readiness, world)
            .await
            .map_err(|source| ControllerError::Endpoints {
                address: flags.metrics_addr,
                source,
            })
    }

    fn cloud_settings(flags: &ControllerFlags) -> CloudSettings {
        CloudSettings {
            region: flags.region.clone(),
            spot_strategy: match flags.spot_strategy {
                SpotChoice::PriceCapacityOptimized => SpotStrategy::PriceCapacityOptimized,
                SpotChoice::CapacityOptimized => SpotStrategy::CapacityOptimized,
                SpotChoice::LowestPrice => SpotStrategy::LowestPrice,
            },
            on_demand_strategy: match flags.on_demand_strategy {
                OnDemandChoice::LowestPrice => OnDemandStrategy::LowestPrice,
                OnDemandChoice::Prioritized => OnDemandStrategy::Prioritized,
            },
            price_api: flags.prices.price_api,
            price_refresh: flags.prices.price_refresh,
            image_refresh: flags.image_refresh,
            buckets: bucket_sizes(&flags.rates),
            endpoint: endpoint_source(flags),
            ..CloudSettings::new(cluster_facts(flags))
        }
    }

    fn endpoint_source(flags: &ControllerFlags) -> EndpointSource {
        // Who only observes launches nothing, and needs no permission for it.
        if flags.cluster_endpoint.is_empty() && flags.mode == Mode::Run {
            EndpointSource::Eks
        } else {
            EndpointSource::Settings
        }
    }

    fn cluster_facts(flags: &ControllerFlags) -> ClusterFacts {
        ClusterFacts {
            name: flags.cluster_name.clone(),
            endpoint: flags.cluster_endpoint.clone(),
            certificate_authority: flags.cluster_ca_bundle.clone(),
            service_cidr: flags.cluster_cidr.clone(),
            dns_address: flags.cluster_dns,
        }
    }

    fn bucket_sizes(flags: &RateFlags) -> BucketSizes {
        let size = |rate: Rate| BucketSize {
            per_second: rate.per_second,
            burst: rate.burst,
        };
        BucketSizes {
            mutate: size(flags.mutating_calls),
            terminate: size(flags.terminate_calls),
            instances_ended: size(flags.instances_ended),
            tag: size(flags.tag_calls),
            describe: size(flags.describe_calls),
            other: size(flags.other_calls),
            ..BucketSizes::default()
        }
    }
}
