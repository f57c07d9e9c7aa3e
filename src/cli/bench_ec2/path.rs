//! How the controller of a bench reaches EC2: with the feature `aws` through the adapter for the real EC2 and the AWS SDK,
//! to the simulated region on the wire; without it through the simulated cloud.
//!
//! Given a world; given back a controller process in it. Either way EC2 is the same region, in this process and in
//! virtual time.

use std::sync::Arc;

use super::BenchError;
use crate::controllers::assembly::Connections;
use crate::metrics::Metrics;
use crate::settings::Mode;
use crate::sim::embedded::{ProcessOptions, default_settings};
use crate::sim::{Embedded, Process};

/// What the line of a case calls the path.
pub(super) const NAME: &str = if cfg!(feature = "aws") {
    "adapter"
} else {
    "simulated-cloud"
};

/// A controller process.
#[derive(Debug)]
pub(super) struct Controller {
    process: Process,
    metrics: Arc<Metrics>,
    #[cfg(feature = "aws")]
    adapter: crate::world::World,
}

fn options(seed: u64) -> ProcessOptions {
    ProcessOptions::new(seed, default_settings(Mode::Run, 100))
}

impl Controller {
    /// Starts one.
    #[cfg(feature = "aws")]
    pub(super) async fn start(world: &Embedded, seed: u64) -> Result<Self, BenchError> {
        use crate::cloud::ec2::Credentials;
        use crate::cloud::settings::CloudSettings;
        use crate::sim::ec2::account;
        use crate::sim::ec2::wire::{Endpoint, connector};
        use crate::world::World;

        let options = options(seed);
        let cluster = &world.options.cluster;
        let adapter = World::new(Arc::clone(&world.clock), seed);
        let endpoint = Endpoint::new(&world.ec2, &options.who, cluster);
        let credentials = Credentials::new("simulated", "simulated", None, None, "bench");
        let settings = CloudSettings::new(account::cluster(cluster));
        let name = format!("tonnage-{cluster}");
        let (keys, own) = (credentials.clone(), settings.clone());
        let queue = connector::queue(endpoint.clone(), keys, own, name).await;
        let cloud = connector::connect(endpoint, credentials, settings, &adapter).await?;
        let metrics = Arc::new(Metrics::new());
        let process = world.start_with(options, |connections| Connections {
            cloud: Arc::new(cloud),
            notices: Some(Arc::new(queue)),
            metrics: Arc::clone(&metrics),
            ..connections
        });
        Ok(Self {
            process,
            metrics,
            adapter,
        })
    }

    /// Starts one.
    #[cfg(not(feature = "aws"))]
    #[expect(clippy::unused_async, reason = "the SDK is connected in this place")]
    pub(super) async fn start(world: &Embedded, seed: u64) -> Result<Self, BenchError> {
        let metrics = Arc::new(Metrics::new());
        let process = world.start_with(options(seed), |connections| Connections {
            metrics: Arc::clone(&metrics),
            ..connections
        });
        Ok(Self { process, metrics })
    }

    /// How many Nodes it counts as its own, as whoever scrapes it sees.
    pub(super) fn nodes(&self) -> u64 {
        let text = self.metrics.text();
        let of_pools = text
            .lines()
            .filter(|line| line.starts_with("tonnage_nodes{"));
        of_pools
            .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
            .sum()
    }

    /// Ends it in order.
    pub(super) async fn stop(self) {
        self.process.stop().await;
        #[cfg(feature = "aws")]
        self.adapter.shut_down().await;
    }
}
