//! A whole embedded world, put together: server, cluster, region, and controller processes in it.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::api_server::{ApiServer, Key, Refusal, Resource};
use super::clock::{VirtualClock, WallClock};
use super::cluster::Cluster;
use super::ec2::market::{FAMILIES, Markets, Weather};
use super::ec2::{Ec2, SimulatedCloud, account};
use super::faults::{Calm, Faults};
use super::history::{Detail, History};
use super::life::Life;
use crate::api::EC2NodeClass;
use crate::cloud::catalogue;
use crate::cloud::notices::NoticeSource;
use crate::cluster::Mirror;
use crate::controllers::assembly::{Connections, assemble};
use crate::metrics::Metrics;
use crate::model::node_class::NodeClass;
use crate::plan::lifecycle::LifecycleSettings;
use crate::plan::provision::{ContestedPods, Premium};
use crate::plan::rate::Rate as LaunchRate;
use crate::settings::{DefaultSpread, InstanceNames, LearnedSettings, Mode, Settings};
use crate::world::{Clock, SteadyClock, World};

/// What an embedded world is made with.
#[derive(Debug, Clone)]
pub struct Options {
    /// Everything that is left to chance follows from it.
    pub seed: u64,
    /// The cluster's name, in tags.
    pub cluster: String,
    /// What the region is like.
    pub weather: Weather,
    /// Instance families that the region sells.
    pub families: Vec<&'static str>,
    /// What the history keeps.
    pub detail: Detail,
}

impl Options {
    /// A calm world.
    pub fn calm(seed: u64) -> Self {
        Self {
            seed,
            cluster: "embedded".to_owned(),
            weather: Weather::CALM,
            families: FAMILIES.to_vec(),
            detail: Detail::Events,
        }
    }
}

/// A world; clones share it.
#[derive(Debug, Clone)]
pub struct Embedded {
    /// What it was made with.
    pub options: Options,
    /// Its time.
    pub clock: Arc<dyn Clock>,
    /// What happened in it.
    pub history: History,
    /// Its API server.
    pub api: ApiServer,
    /// The clock that the API server stamps by, which may be wrong; everybody else's is right.
    pub server_clock: WallClock,
    /// Its region.
    pub ec2: Ec2,
    world: World,
}

/// A controller process.
#[derive(Debug)]
pub struct Process {
    /// Whether it lives.
    pub life: Life,
    world: World,
}

/// What a controller process is started with.
#[derive(Debug, Clone)]
pub struct ProcessOptions {
    /// Its name towards the server.
    pub who: String,
    /// Its own seed.
    pub seed: u64,
    /// Its settings.
    pub settings: Settings,
    /// Whether and when it dies.
    pub life: Life,
    /// What goes wrong around it.
    pub faults: Arc<dyn Faults>,
    /// The wall clock of its machine; `None` is the world's own, which is right.
    pub clock: Option<Arc<dyn Clock>>,
}

impl ProcessOptions {
    /// A controller that lives in a calm world.
    pub fn new(seed: u64, settings: Settings) -> Self {
        Self {
            who: "tonnage".to_owned(),
            seed,
            settings,
            life: Life::new(),
            faults: Arc::new(Calm),
            clock: None,
        }
    }
}

/// The settings of the controller as its flags default, with a search budget for each plan, and
/// without a lease: it is alone unless somebody says otherwise.
pub fn default_settings(mode: Mode, plan_budget_ms: u64) -> Settings {
    Settings {
        mode,
        contested_pods: ContestedPods::Leave,
        drivers_on_demand: true,
        preference_premium: Premium::default(),
        default_spread: DefaultSpread::default(),
        batch_idle: Duration::from_secs(1),
        batch_max: Duration::from_secs(10),
        plan_budget_ms,
        price_band_percent: 100,
        nominate_pods: true,
        bind_pods: false,
        lifecycle: LifecycleSettings::default(),
        orphan_sweep: SignedDuration::from_secs(30),
        resolve_again: SignedDuration::from_mins(1),
        lease: None,
        learned: Some(LearnedSettings::default()),
        instance_names: InstanceNames::OfNodePool,
        launch_rate: LaunchRate::default(),
        launches_per_minute: None,
        terminations_per_minute: None,
    }
}

impl Embedded {
    /// Begins a world. Must be called within its runtime.
    pub fn begin(options: Options) -> Self {
        let clock = VirtualClock::start();
        let world = World::new(Arc::clone(&clock), options.seed);
        let history = History::new(Arc::clone(&clock), options.detail);
        let server_clock = WallClock::new(&clock);
        let api = ApiServer::new(
            Arc::new(server_clock.clone()),
            history.clone(),
            world.random("api-server"),
        );
        let markets = Markets::new(options.seed, options.weather.clone(), &options.families);
        let ec2 = Ec2::new(
            Arc::clone(&clock),
            history.clone(),
            |purpose| world.random(purpose),
            markets,
        );
        let cluster = Cluster::new(&api, &ec2, &clock, &world);
        world.spawn(cluster.run(world.clone()));
        Self {
            options,
            clock,
            history,
            api,
            server_clock,
            ec2,
            world,
        }
    }

    /// The time.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Lets so much of the world's own time pass, with everything that happens in it. Nobody waits: the
    /// clock stands while anybody has something to do, and then goes on to the next moment.
    pub async fn pass(&self, by: Duration) {
        tokio::time::sleep(by).await;
    }

    /// What the account of this world has for a node class, at the prices of the moment.
    pub fn node_class(&self, object: &EC2NodeClass) -> Option<NodeClass> {
        let found = account::find(&self.options.cluster, object);
        let terms = found.terms(object)?;
        let market = self.ec2.markets().at(self.now());
        Some(found.node_class(object, Arc::new(catalogue::build(&market, &terms))))
    }

    /// Random streams of this world, by purpose.
    pub fn world(&self) -> &World {
        &self.world
    }

    /// Starts a controller process.
    pub fn start(&self, options: ProcessOptions) -> Process {
        self.start_with(options, |connections| connections)
    }

    /// Starts a controller process whose connections are changed before.
    pub fn start_with(
        &self,
        options: ProcessOptions,
        change: impl FnOnce(Connections) -> Connections,
    ) -> Process {
        let ProcessOptions {
            who,
            seed,
            settings,
            life,
            faults,
            clock,
        } = options;
        let clock = clock.unwrap_or_else(|| Arc::clone(&self.clock));
        let clock = Arc::new(SteadyClock::new(clock));
        let world = World::new(Arc::clone(&clock) as Arc<dyn Clock>, seed);
        let cluster = &self.options.cluster;
        let cloud = Arc::new(SimulatedCloud::new(
            &self.ec2,
            &who,
            cluster,
            life.clone(),
            Arc::clone(&faults),
        ));
        let connections = Connections {
            client: self
                .api
                .client_listening(&who, (life.clone(), faults), &clock),
            per_second: NonZeroU32::MIN.saturating_add(199),
            burst: NonZeroU32::MIN.saturating_add(299),
            notices: Some(Arc::clone(&cloud) as Arc<dyn NoticeSource>),
            cloud,
            mirror: Mirror::new(),
            metrics: Arc::new(Metrics::new()),
            plans: None,
            host: who,
        };
        assemble(change(connections), settings, &world);
        Process { life, world }
    }

    /// Creates an object as a user, or changes its spec and labels if it is there.
    ///
    /// # Errors
    /// What the API server says against it.
    pub fn apply(&self, object: Value) -> Result<Value, Refusal> {
        let resource = Resource::of_object(&object)
            .ok_or_else(|| Refusal::bad_request("no kind that is served here"))?;
        let named = |field: &str| {
            object["metadata"][field]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        };
        let mut key = Key::new(resource, &named("namespace"), &named("name"));
        if resource.definition().namespaced && key.namespace.is_empty() {
            "default".clone_into(&mut key.namespace);
        }
        if self.api.get(&key).is_none() {
            return self.api.create("user", object);
        }
        self.api.change("user", &key, None, |known| {
            known["spec"] = object["spec"].clone();
            for field in ["labels", "annotations"] {
                if object["metadata"][field].is_object() {
                    known["metadata"][field] = object["metadata"][field].clone();
                }
            }
        })
    }

    /// Ends everybody but the controllers.
    pub async fn end(&self) {
        self.world.shut_down().await;
    }
}

impl Process {
    /// Ends it as SIGKILL does: nothing it waits for ever comes, and what it has sent arrives.
    pub fn kill(&self) {
        self.life.kill();
        self.world.stop().cancel();
    }

    /// Ends it as SIGTERM does.
    pub async fn stop(&self) {
        self.world.shut_down().await;
    }
}
