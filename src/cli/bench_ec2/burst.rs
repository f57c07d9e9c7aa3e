//! Bursts from zero and back: pods that each need a machine of their own come at once, run, are deleted, and nothing is
//! left; again and again.
//!
//! Given how heavy a shortage is and how many rounds there are; given back what they cost in calls and time.
//! The shortage moves before each round, so that what was learned in the one before is wrong in the next, and no
//! offering holds a burst by itself. Between two rounds EC2's buckets fill up again: each burst is one of its own.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::BenchError;
use super::figures::Figures;
use super::path::Controller;
use crate::sim::api_server::{DeleteOptions, Key, Resource};
use crate::sim::ec2::calls::Tally;
use crate::sim::ec2::limits::Limit;
use crate::sim::scene::{Pool, Work, node_class};
use crate::sim::{Embedded, Options};

/// How long the pods of a burst may take to run, and its machines to go.
const PATIENCE: Duration = Duration::from_mins(30);
/// How exactly times of launches are taken.
const STEP: Duration = Duration::from_millis(10);
/// How exactly the time is taken at which the last pod runs: counting pods takes longer than a step is long.
const GLANCE: Duration = Duration::from_secs(1);
/// How long the controller has before the first burst to read its world.
const SETTLE: Duration = Duration::from_mins(1);
/// How long EC2 takes at two a second to have 1000 instances to start again.
const REST: Duration = Duration::from_secs(500);
/// Families that the burst may use: twelve types in five zones, spot and on-demand.
const FAMILIES: [&str; 12] = [
    "c5", "c5a", "c6a", "c6i", "c7i", "m5", "m5a", "m6i", "r5", "r5a", "r5n", "r6i",
];

/// A shortage.
#[derive(Debug, Clone, Copy)]
pub(super) struct Storm {
    /// Of 1000 offerings, how many have no capacity.
    pub(super) dry_per_mille: u64,
    /// Machines that there are of each of the others.
    pub(super) room: usize,
}

/// What comes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Size {
    /// Pods of each burst.
    pub(super) pods: u32,
    /// Bursts, one after the other.
    pub(super) rounds: u32,
}

impl Size {
    /// Machines that it takes in all.
    pub(super) const fn machines(self) -> u64 {
        self.pods as u64 * self.rounds as u64
    }
}

/// The name of the NodePool.
pub(super) const POOL: &str = "burst";
/// The name of the Deployment.
const WORK: &str = "burst";

/// A region that sells what the NodePool may use.
pub(super) fn begin(seed: u64) -> Embedded {
    Embedded::begin(Options {
        families: FAMILIES.to_vec(),
        ..Options::calm(seed)
    })
}

/// Runs bursts.
pub(super) async fn run(
    seed: u64,
    size: Size,
    storm: Option<Storm>,
) -> Result<Figures, BenchError> {
    let world = begin(seed);
    if let Some(storm) = storm {
        world.ec2.storm(storm.dry_per_mille);
        world.ec2.limit(vec![Limit {
            instance_type: None,
            zone: None,
            capacity_type: None,
            most: storm.room,
        }]);
    }
    world.apply(node_class("default", &world.options.cluster, 20))?;
    world.apply(pool())?;
    let controller = Controller::start(&world, seed).await?;
    world.pass(SETTLE).await;
    let mut all = Burst::default();
    for round in 1..=size.rounds {
        if round > 1 {
            world.pass(REST).await;
            world.ec2.move_storm();
        }
        all.take_in(&round_of(&world, size.pods).await?);
    }
    controller.stop().await;
    let instances = world.ec2.machines().len();
    world.end().await;
    Ok(all.figures(u64::try_from(instances).unwrap_or(u64::MAX)))
}

/// A NodePool of machines with four CPUs.
pub(super) fn pool() -> Value {
    let pool = Pool {
        name: POOL,
        node_class: "default",
        families: &FAMILIES,
        capacity_types: &["spot", "on-demand"],
        taint: None,
        empty_seconds: 60,
        weight: None,
        most_nodes: None,
    };
    let mut manifest = pool.manifest();
    let requirements = &mut manifest["spec"]["template"]["spec"]["requirements"];
    if let Some(requirements) = requirements.as_array_mut() {
        requirements.push(json!({
            "key": "karpenter.k8s.aws/instance-cpu", "operator": "In", "values": ["4"],
        }));
    }
    manifest
}

/// So many pods of three cores: one to a machine.
fn work(pods: u32) -> Value {
    let work = Work {
        name: WORK,
        cpu: "3",
        memory: "4Gi",
        gpus: 0,
        tolerates: None,
        role: None,
        pods,
        seconds: None,
    };
    work.deployment()
}

/// What was seen of a round.
#[derive(Debug)]
struct Round {
    /// From its first claim to the answer to its last launch.
    launched_ms: u64,
    /// From its first claim until the last of its pods runs.
    running_ms: u64,
    /// From the deletion of its pods until nothing is left of it.
    to_zero_ms: u64,
    /// Calls until its last pod ran, by operation.
    made: Calls,
    /// Calls from then on until nothing was left.
    calls_to_zero: u64,
    /// It met the shortage.
    short: bool,
}

/// Lets a burst come, waits until all of it runs, and until nothing is left of it.
async fn round_of(world: &Embedded, pods: u32) -> Result<Round, BenchError> {
    let before = calls(world);
    let short = world.ec2.short_fleets();
    let (launched_ms, running_ms) = landed(world, pods).await?;
    let landed = calls(world);
    let to_zero_ms = to_zero(world).await?;
    Ok(Round {
        launched_ms,
        running_ms,
        to_zero_ms,
        calls_to_zero: since(&landed, &calls(world)).values().sum(),
        made: since(&before, &landed),
        short: world.ec2.short_fleets() > short,
    })
}

/// Lets pods come and waits until all of them run; milliseconds from the first claim to the answer to the last launch,
/// and until the last pod runs.
pub(super) async fn landed(world: &Embedded, pods: u32) -> Result<(u64, u64), BenchError> {
    let wanted = usize::try_from(pods).unwrap_or(usize::MAX);
    let until = tokio::time::Instant::now() + PATIENCE;
    let mut known = last_launch(world);
    let mut launched = None;
    let mut decided = None;
    let mut glance = world.now();
    world.apply(work(pods))?;
    loop {
        world.pass(STEP).await;
        let now = world.now();
        if decided.is_none() && world.api.count(Resource::NodeClaim) > 0 {
            decided = Some(now);
        }
        let answered = last_launch(world);
        if answered != known {
            known = answered;
            launched = answered;
            progress(world, decided);
        }
        if now < glance {
            continue;
        }
        glance = now.saturating_add(GLANCE).unwrap_or(now);
        let running = running(world);
        if let (Some(decided), Some(launched)) = (decided, launched)
            && running == wanted
        {
            return Ok((milliseconds(decided, launched), milliseconds(decided, now)));
        }
        if tokio::time::Instant::now() >= until {
            return Err(BenchError::NotLanded {
                running,
                wanted,
                minutes: PATIENCE.as_secs() / 60,
            });
        }
    }
}

fn milliseconds(from: Timestamp, to: Timestamp) -> u64 {
    u64::try_from(to.duration_since(from).as_millis()).unwrap_or(0)
}

/// Deletes the pods and waits until no machine, pod, Node or claim is left; milliseconds from the deletion on.
async fn to_zero(world: &Embedded) -> Result<u64, BenchError> {
    let key = Key::new(Resource::Deployment, "default", WORK);
    world.api.delete("user", &key, &DeleteOptions::default())?;
    let (begun, until) = (world.now(), tokio::time::Instant::now() + PATIENCE);
    loop {
        world.pass(GLANCE).await;
        let machines = world.ec2.alive().len();
        let kinds = [Resource::Pod, Resource::NodeClaim, Resource::Node];
        let objects: usize = kinds.into_iter().map(|kind| world.api.count(kind)).sum();
        if machines + objects == 0 {
            return Ok(milliseconds(begun, world.now()));
        }
        if tokio::time::Instant::now() >= until {
            return Err(BenchError::Left {
                machines,
                objects,
                minutes: PATIENCE.as_secs() / 60,
            });
        }
    }
}

/// Says on standard error how far it is: the pods take longer to simulate than the launches.
fn progress(world: &Embedded, decided: Option<Timestamp>) {
    let after = decided.map_or(0, |decided| milliseconds(decided, world.now()));
    let made = calls(world);
    let made: Vec<String> = made
        .iter()
        .map(|(name, calls)| format!("{name} {calls}"))
        .collect();
    crate::cli::write_stderr(&format!(
        "{after} ms after the first claim: {} machines; {}\n",
        world.ec2.alive().len(),
        made.join(", ")
    ));
}

/// When the last launch was answered.
fn last_launch(world: &Embedded) -> Option<Timestamp> {
    world.ec2.calls().get("CreateFleet")?.answered
}

/// Calls by operation.
pub(super) type Calls = BTreeMap<&'static str, u64>;

/// Every call so far.
pub(super) fn calls(world: &Embedded) -> Calls {
    let count = |(name, tally): (&'static str, Tally)| (name, tally.calls);
    world.ec2.calls().into_iter().map(count).collect()
}

/// Of all calls by now, those that were not made before.
pub(super) fn since(before: &Calls, now: &Calls) -> Calls {
    now.iter()
        .map(|(name, calls)| (*name, calls - before.get(name).copied().unwrap_or(0)))
        .filter(|(_name, calls)| *calls > 0)
        .collect()
}

fn running(world: &Embedded) -> usize {
    let mut running = 0;
    world.api.each(Resource::Pod, |_key, pod| {
        running += usize::from(pod["status"]["phase"] == "Running");
    });
    running
}

/// All rounds together: calls add up, and of times the slowest counts.
#[derive(Debug, Default)]
struct Burst {
    launched_ms: u64,
    running_ms: u64,
    to_zero_ms: u64,
    made: Calls,
    calls_to_zero: u64,
    short: u64,
}

impl Burst {
    fn take_in(&mut self, round: &Round) {
        self.launched_ms = self.launched_ms.max(round.launched_ms);
        self.running_ms = self.running_ms.max(round.running_ms);
        self.to_zero_ms = self.to_zero_ms.max(round.to_zero_ms);
        self.calls_to_zero += round.calls_to_zero;
        self.short += u64::from(round.short);
        for (name, calls) in &round.made {
            *self.made.entry(name).or_default() += calls;
        }
    }

    fn figures(&self, instances: u64) -> Figures {
        Figures {
            instances,
            calls: self.made.values().sum(),
            launch_ms: self.launched_ms,
            last_pod_ms: Some(self.running_ms),
            to_zero_ms: Some(self.to_zero_ms),
            calls_to_zero: Some(self.calls_to_zero),
            short_rounds: self.short,
            world_mb: None,
            operations: json!(self.made),
        }
    }
}
