//! The controllers, the adapter for the real EC2 and the SDK together, in the embedded world.

use std::sync::Arc;

use serde_json::{Value, json};
use tonnage::cloud::ec2::{Ec2Cloud, Queue};
use tonnage::cloud::notices::NoticeSource;
use tonnage::cloud::settings::CloudSettings;
use tonnage::controllers::assembly::Connections;
use tonnage::metrics::Metrics;
use tonnage::settings::Mode;
use tonnage::sim::api_server::Resource;
use tonnage::sim::ec2::wire;
use tonnage::sim::ec2::wire::connector;
use tonnage::sim::ec2::wire::policy::{Names, Policy};
use tonnage::sim::embedded::{ProcessOptions, default_settings};
use tonnage::sim::faults::Faults;
use tonnage::sim::life::Life;
use tonnage::sim::scene::{Pool, Work, node_class};
use tonnage::sim::{Embedded, Options, Process};
use tonnage::world::World;

use crate::endpoint::{connected, credentials};
use crate::scene::facts;
use crate::waiting::eventually;

/// Pods of the burst; each needs a machine of its own.
pub(crate) const PODS: usize = 4;
/// The longest that a burst takes from its arrival until nothing is left of it, seconds.
const PATIENCE: u64 = 3_600;

/// A controller process with the adapter for the real EC2.
pub(crate) struct Controller {
    pub(crate) process: Process,
    pub(crate) metrics: Arc<Metrics>,
    life: Life,
    adapter: World,
}

impl Controller {
    /// Starts one that dies right after so many writes, to either side.
    async fn start(world: &Embedded, fatal: Option<usize>) -> Self {
        Self::begin(world, Life::fatal_after(fatal), least(world), Mode::Run).await
    }

    /// Starts one around which things go wrong.
    pub(crate) async fn in_trouble(world: &Embedded, faults: Arc<dyn Faults>) -> Self {
        let endpoint = region_of(world)
            .with_faults(faults)
            .with_policy(least(world));
        Self::through(world, endpoint, Life::new(), Mode::Run).await
    }

    /// Starts one that may do what a policy allows.
    pub(crate) async fn under(world: &Embedded, policy: &str, mode: Mode) -> Self {
        let policy = Policy::parse(policy).unwrap();
        Self::begin(world, Life::new(), policy, mode).await
    }

    async fn begin(world: &Embedded, life: Life, policy: Policy, mode: Mode) -> Self {
        let endpoint = region_of(world).with_life(life.clone()).with_policy(policy);
        Self::through(world, endpoint, life, mode).await
    }

    /// Starts one that reaches EC2 and the queue of its announcements through an endpoint.
    pub(crate) async fn through(
        world: &Embedded,
        endpoint: wire::Endpoint,
        life: Life,
        mode: Mode,
    ) -> Self {
        let cluster = &world.options.cluster;
        let adapter = World::new(Arc::clone(&world.clock), world.options.seed);
        let settings = CloudSettings::new(facts(cluster));
        let queue = format!("tonnage-{cluster}");
        let queue =
            connector::queue(endpoint.clone(), credentials(), settings.clone(), queue).await;
        let cloud = connected(endpoint, settings, &adapter).await;
        Self::assembled(world, (cloud, adapter), Some(queue), life, mode)
    }

    /// Starts one with an adapter, which runs in a world of its own.
    pub(crate) fn with(
        world: &Embedded,
        adapter: (Ec2Cloud, World),
        life: Life,
        mode: Mode,
    ) -> Self {
        Self::assembled(world, adapter, None, life, mode)
    }

    fn assembled(
        world: &Embedded,
        (cloud, adapter): (Ec2Cloud, World),
        queue: Option<Queue>,
        life: Life,
        mode: Mode,
    ) -> Self {
        let cloud = Arc::new(cloud);
        let metrics = Arc::new(Metrics::new());
        let queue = queue.map(|queue| Arc::new(queue) as Arc<dyn NoticeSource>);
        let options = ProcessOptions {
            life: life.clone(),
            ..ProcessOptions::new(world.options.seed, default_settings(mode, 2))
        };
        let process = world.start_with(options, |connections| Connections {
            cloud,
            notices: queue.or(connections.notices),
            metrics: Arc::clone(&metrics),
            ..connections
        });
        Self {
            process,
            metrics,
            life,
            adapter,
        }
    }

    /// Ends it in order.
    pub(crate) async fn stop(self) {
        self.process.stop().await;
        self.adapter.shut_down().await;
    }

    /// What is left of one that died.
    pub(crate) fn bury(self) {
        self.process.kill();
        self.adapter.stop().cancel();
    }
}

/// The shipped policy for the world's cluster.
pub(crate) fn shipped(world: &Embedded) -> String {
    Policy::shipped_text(&Names {
        cluster: &world.options.cluster,
        region: "us-east-1",
        account: "123456789012",
        node_role: "node",
    })
}

/// The shipped policy without what is only needed where instances are told their names, which they are not here.
fn least(world: &Embedded) -> Policy {
    let mut policy: Value = serde_json::from_str(&shipped(world)).unwrap();
    let statements = policy["Statement"].as_array_mut().unwrap();
    let all = statements.len();
    statements.retain(|statement| statement["Sid"] != "NameOwnInstances");
    assert_eq!(statements.len() + 1, all);
    Policy::parse(&policy.to_string()).unwrap()
}

/// The cluster's region as its controller reaches it.
pub(crate) fn region_of(world: &Embedded) -> wire::Endpoint {
    wire::Endpoint::new(&world.ec2, "tonnage", &world.options.cluster)
}

/// A world with a burst that waits.
pub(crate) fn begin() -> Embedded {
    begin_with(burst())
}

/// A world with a class, a pool, and work.
pub(crate) fn begin_with(work: Value) -> Embedded {
    let world = Embedded::begin(Options {
        families: vec!["c5", "m5", "r5"],
        ..Options::calm(1)
    });
    let pool = Pool {
        name: "burst",
        node_class: "default",
        families: &["c5", "m5", "r5"],
        capacity_types: &["spot", "on-demand"],
        taint: None,
        empty_seconds: 30,
        weight: None,
        most_nodes: None,
    };
    let mut pool = pool.manifest();
    // Three cores of four: one pod to a machine.
    let requirements = &mut pool["spec"]["template"]["spec"]["requirements"];
    requirements.as_array_mut().unwrap().push(json!({
        "key": "karpenter.k8s.aws/instance-cpu", "operator": "In", "values": ["4"],
    }));
    let class = node_class("default", &world.options.cluster, 20);
    for object in [class, pool, work] {
        world.apply(object).unwrap();
    }
    world
}

/// A Job whose pods come all at once.
pub(crate) fn burst() -> Value {
    work(PODS, Some(120)).job()
}

/// So many pods that each need a machine of their own, and run for so many seconds.
pub(crate) fn work(pods: usize, seconds: Option<u32>) -> Work<'static> {
    Work {
        name: "burst",
        cpu: "3",
        memory: "4Gi",
        gpus: 0,
        tolerates: None,
        role: None,
        pods: u32::try_from(pods).unwrap(),
        seconds,
    }
}

/// Waits until the burst ran and nothing of it is left.
pub(crate) async fn over(world: &Embedded) {
    eventually("the burst has come and gone", PATIENCE, async || {
        let left = (
            world.api.count(Resource::Job) + world.api.count(Resource::Pod),
            world.api.count(Resource::NodeClaim),
            world.ec2.alive().len(),
        );
        if left == (0, 0, 0) {
            Ok(())
        } else {
            Err(format!("pods and jobs, claims, machines: {left:?}"))
        }
    })
    .await;
}

#[tokio::test]
async fn a_burst_is_bought_and_ended_through_the_real_adapter() {
    tokio::time::pause();
    let world = begin();
    let controller = Controller::start(&world, None).await;
    over(&world).await;
    assert_eq!(world.ec2.machines().len(), PODS);
    let calls = world.ec2.calls();
    // Two each are the rehearsal's, of on-demand and of spot.
    assert_eq!(calls["CreateFleet"].calls, 3, "{calls:?}");
    assert_eq!(calls["CreateLaunchTemplate"].calls, 3, "{calls:?}");
    assert_eq!(calls["RunInstances"].calls, 2, "{calls:?}");
    for machine in world.ec2.machines() {
        assert_eq!(machine.tags()["Name"], "burst", "that of its NodePool");
    }
    controller.stop().await;
    world.end().await;
}

#[tokio::test]
async fn killed_after_any_of_its_writes_it_buys_nothing_twice_and_leaves_nothing_behind() {
    tokio::time::pause();
    let mut died = 0;
    for fatal in 1.. {
        let world = begin();
        let first = Controller::start(&world, Some(fatal)).await;
        let burst = eventually("it dies, or all is over", PATIENCE, async || {
            if first.life.is_dead() {
                return Ok(true);
            }
            let is_over = world.api.count(Resource::Job) == 0 && world.ec2.alive().is_empty();
            if is_over {
                Ok(false)
            } else {
                Err("neither".to_owned())
            }
        });
        let is_dead = burst.await;
        first.bury();
        if is_dead {
            died += 1;
            let second = Controller::start(&world, None).await;
            over(&world).await;
            let bought = world.ec2.machines().len();
            assert!(
                bought <= PODS,
                "{bought} machines, killed after write {fatal}"
            );
            second.bury();
        }
        world.end().await;
        if !is_dead {
            break;
        }
    }
    assert!(died > 20, "it made only {died} writes");
}
