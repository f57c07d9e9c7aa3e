//! A controller process put together: what it shares, its hands if it may act, and every loop.
//!
//! Given connections to both sides, settings and a world to run in; given back what the loops share.
//! The real controller and the embedded world are put together by this very code, so that what is
//! proven there is what runs. Nothing is decided here.

use std::num::NonZeroU32;
use std::sync::Arc;

use kube::Client;

use super::context::{Acting, Context, Eyes, Parts};
use crate::cloud::Cloud;
use crate::cloud::notices::NoticeSource;
use crate::cluster::Mirror;
use crate::cluster::apply::{Access, ApplyOptions, Kubernetes};
use crate::cluster::events::Recorder;
use crate::cluster::observe::node_pool::PoolDefaults;
use crate::metrics::Metrics;
use crate::settings::{Mode, Settings};
use crate::world::World;

/// What a process is put together from.
pub struct Connections {
    /// The API server.
    pub client: Client,
    /// Writes to it per second.
    pub per_second: NonZeroU32,
    /// Writes to it at once.
    pub burst: NonZeroU32,
    /// EC2.
    pub cloud: Arc<dyn Cloud>,
    /// Its announcements, if there is a queue of them.
    pub notices: Option<Arc<dyn NoticeSource>>,
    /// The mirror, not started yet.
    pub mirror: Mirror,
    /// Where figures go.
    pub metrics: Arc<Metrics>,
    /// The process's name in events.
    pub instance: String,
}

impl std::fmt::Debug for Connections {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Connections")
            .field("instance", &self.instance)
            .finish_non_exhaustive()
    }
}

/// Starts the mirror and every loop; they end with the world.
pub fn assemble(connections: Connections, settings: Settings, world: &World) -> Arc<Context> {
    let Connections {
        client,
        per_second,
        burst,
        cloud,
        notices,
        mirror,
        metrics,
        instance,
    } = connections;
    mirror.set_pool_defaults(PoolDefaults {
        launch_timeout: settings.lifecycle.launch_timeout,
        registration_timeout: settings.lifecycle.registration_timeout,
        initialization_timeout: settings.lifecycle.initialization_timeout,
    });
    mirror.start(&client, world);
    let options = ApplyOptions {
        access: match settings.mode {
            Mode::Run => Access::ReadWrite,
            Mode::Observe => Access::ReadOnly,
        },
        per_second,
        burst,
        metrics: Arc::clone(&metrics),
    };
    let kubernetes = Kubernetes::new(client, mirror.clone(), world.clone(), options);
    let recorder = Recorder::start(&kubernetes, &instance, Arc::clone(&metrics), world);
    let context = Arc::new(Context::new(Parts {
        world: world.clone(),
        mirror,
        eyes: Eyes::new(Arc::clone(&cloud)),
        recorder,
        metrics,
        settings,
    }));
    let hands = Acting::new(&context, kubernetes, cloud);
    super::start(&context, hands.as_ref(), notices);
    context
}
