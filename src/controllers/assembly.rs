//! A controller process put together: what it shares, its hands if it may act, every loop, and its
//! part in the election if there may be others.
//!
//! Given connections to both sides, settings and a world to run in; given back what the loops share.
//! The real controller and the embedded world are put together by this very code, so that what is
//! proven there is what runs. Nothing is decided here.

use std::num::NonZeroU32;
use std::sync::Arc;

use kube::Client;

use super::context::{self, Acting, Context, Eyes, PlanListener};
use super::guard::Guarded;
use super::leader::lead_by_turns;
use crate::cloud::Cloud;
use crate::cloud::notices::NoticeSource;
use crate::cluster::Mirror;
use crate::cluster::apply::{Access, ApplyOptions, Kubernetes};
use crate::cluster::events::Recorder;
use crate::cluster::lease::{Election, LeaseOptions, LeaseTiming, Standing, Term};
use crate::cluster::observe::node_pool::PoolDefaults;
use crate::metrics::Metrics;
use crate::settings::{LeaseSettings, Mode, Settings};
use crate::world::World;

/// Length of the random part of a process's name, so that a process never takes the lease of an
/// earlier one on the same host for its own.
const SUFFIX: usize = 10;

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
    /// Who wants to see every plan by which something is bought.
    pub plans: Option<Arc<dyn PlanListener>>,
    /// The name of the host that the process runs on; what it is called in events and in the lease
    /// begins with it.
    pub host: String,
}

impl std::fmt::Debug for Connections {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Connections")
            .field("host", &self.host)
            .finish_non_exhaustive()
    }
}

/// What the loops of every term are made of.
pub(super) struct Parts {
    client: Client,
    per_second: NonZeroU32,
    burst: NonZeroU32,
    cloud: Arc<dyn Cloud>,
    notices: Option<Arc<dyn NoticeSource>>,
    pub(super) mirror: Mirror,
    pub(super) metrics: Arc<Metrics>,
    plans: Option<Arc<dyn PlanListener>>,
    identity: String,
    settings: Settings,
}

/// Starts the mirror and every loop, or the part in the election that starts the loops; they end with
/// the world. Gives back how the process stands in the election.
pub fn assemble(connections: Connections, settings: Settings, world: &World) -> Standing {
    let Connections {
        client,
        per_second,
        burst,
        cloud,
        notices,
        mirror,
        metrics,
        plans,
        host,
    } = connections;
    mirror.set_pool_defaults(PoolDefaults {
        launch_timeout: settings.lifecycle.launch_timeout,
        registration_timeout: settings.lifecycle.registration_timeout,
        initialization_timeout: settings.lifecycle.initialization_timeout,
    });
    mirror.start(&client, world);
    let suffix = world.random("identity").name_suffix(SUFFIX);
    let parts = Arc::new(Parts {
        client,
        per_second,
        burst,
        cloud,
        notices,
        mirror,
        metrics,
        plans,
        identity: format!("{host}_{suffix}"),
        settings,
    });
    // Who only observes does not stand in anybody's way.
    let lease = parts.settings.lease.clone();
    let Some(lease) = lease.filter(|_lease| parts.settings.mode == Mode::Run) else {
        let term = Term::without_lease();
        if parts.settings.mode == Mode::Run {
            parts.metrics.leads();
        }
        let kubernetes = parts.kubernetes(&term, world);
        world.spawn(start_once_synced(parts, kubernetes, term, world.clone()));
        return Standing::default();
    };
    let election = parts.election(lease, world);
    let standing = election.standing();
    world.spawn(lead_by_turns(parts, election, world.clone()));
    standing
}

/// Starts the loops once everything has been listed. What they remember begins with a time, and what the
/// API server's time is shows only when it has answered.
async fn start_once_synced(parts: Arc<Parts>, kubernetes: Kubernetes, term: Term, world: World) {
    tokio::select! {
        biased;
        () = world.stop().cancelled() => return,
        () = parts.mirror.synced() => {}
    }
    parts.start(kubernetes, term, &world);
}

impl Parts {
    fn election(&self, lease: LeaseSettings, world: &World) -> Election {
        let options = LeaseOptions {
            namespace: lease
                .namespace
                .unwrap_or_else(|| self.client.default_namespace().to_owned()),
            name: lease.name,
            identity: self.identity.clone(),
            timing: LeaseTiming {
                duration: lease.duration,
                renew_deadline: lease.renew_deadline,
                retry_period: lease.retry_period,
            },
        };
        let metrics = Arc::clone(&self.metrics);
        Election::new(self.client.clone(), options, world, metrics)
    }

    /// The API server for as long as a term lasts.
    pub(super) fn kubernetes(&self, term: &Term, world: &World) -> Kubernetes {
        let options = ApplyOptions {
            access: match self.settings.mode {
                Mode::Run => Access::ReadWrite,
                Mode::Observe => Access::ReadOnly,
            },
            term: term.clone(),
            per_second: self.per_second,
            burst: self.burst,
            metrics: Arc::clone(&self.metrics),
        };
        let (client, mirror) = (self.client.clone(), self.mirror.clone());
        Kubernetes::new(client, mirror, world.clone(), options)
    }

    /// Starts every loop, with nothing remembered; they end with `world`, and act only within `term`.
    pub(super) fn start(&self, kubernetes: Kubernetes, term: Term, world: &World) {
        let metrics = Arc::clone(&self.metrics);
        let recorder = Recorder::start(&kubernetes, &self.identity, metrics, world);
        let context = Arc::new(Context::new(context::Parts {
            world: world.clone(),
            term: term.clone(),
            mirror: self.mirror.clone(),
            eyes: Eyes::new(Arc::clone(&self.cloud)),
            recorder,
            metrics: Arc::clone(&self.metrics),
            plans: self.plans.clone(),
            settings: self.settings.clone(),
        }));
        let cloud = Arc::new(Guarded::new(Arc::clone(&self.cloud), term));
        let hands = Acting::new(&context, kubernetes, cloud);
        let notices = self.notices.clone();
        super::start(&context, hands.as_ref(), notices);
    }
}
