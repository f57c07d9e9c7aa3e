//! Bursts from zero and back: pods that each need a machine of their own, at once or in waves, until they are
//! deleted and nothing is left.
//!
//! Given how heavy a shortage is and how many waves there are; given back what they cost in calls and time.
//! The shortage moves before each wave, so that what was learned in the one before is wrong in the next, and no
//! offering holds a wave by itself. A wave comes when all pods of the one before run.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{BenchError, Figures};
use crate::model::instance::tags;
use crate::settings::Mode;
use crate::sim::api_server::{DeleteOptions, Key, Resource};
use crate::sim::ec2::calls::Tally;
use crate::sim::ec2::limits::Limit;
use crate::sim::embedded::{ProcessOptions, default_settings};
use crate::sim::scene::{Pool, Work, node_class};
use crate::sim::{Embedded, Options};

/// How long the pods of a wave may take to run, and tags to be on all machines.
const PATIENCE: Duration = Duration::from_mins(30);
/// How exactly times of launches are taken.
const STEP: Duration = Duration::from_millis(10);
/// How exactly the time is taken at which the last pod runs: counting pods takes longer than a step is long.
const GLANCE: Duration = Duration::from_secs(1);
/// How long the controller has before the burst to read its world.
const SETTLE: Duration = Duration::from_mins(1);
/// Families that the burst may use: twelve types in five zones, spot and on-demand.
const FAMILIES: [&str; 12] = [
    "c5", "c5a", "c6a", "c6i", "c7i", "m5", "m5a", "m6i", "r5", "r5a", "r5n", "r6i",
];

/// The calls that name machines for people once they run, one for each: no two machines have the same names.
const NAMING: &str = "CreateTags";

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
    /// Pods in all.
    pub(super) pods: u32,
    /// Waves that they come in.
    pub(super) waves: u32,
}

/// The name of the Deployment.
const WORK: &str = "burst";

type Calls = BTreeMap<&'static str, Tally>;

/// Runs a burst.
pub(super) async fn run(
    seed: u64,
    size: Size,
    storm: Option<Storm>,
) -> Result<Figures, BenchError> {
    let world = Embedded::begin(Options {
        families: FAMILIES.to_vec(),
        ..Options::calm(seed)
    });
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
    let process = world.start(ProcessOptions::new(seed, default_settings(Mode::Run, 100)));
    world.pass(SETTLE).await;
    let before = world.ec2.calls();
    let mut burst = Burst::default();
    for wave in 1..=size.waves {
        if wave > 1 {
            world.ec2.move_storm();
        }
        burst.take_in(&wave_of(&world, size.pods * wave / size.waves).await?);
    }
    all_named(&world).await?;
    let mut figures = burst.figures(&world, &before);
    figures.to_zero_ms = Some(to_zero(&world).await?);
    process.stop().await;
    world.end().await;
    Ok(figures)
}

/// A NodePool of machines with four CPUs.
fn pool() -> Value {
    let pool = Pool {
        name: "burst",
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

/// What was seen of a wave.
#[derive(Debug)]
struct Wave {
    /// From its first claim to the answer to its last launch.
    launched_ms: u64,
    /// From its first claim until the last of its pods runs.
    running_ms: u64,
    /// It met the shortage.
    short: bool,
}

/// Lets pods come until there are so many, and waits until all of them run.
async fn wave_of(world: &Embedded, pods: u32) -> Result<Wave, BenchError> {
    let wanted = usize::try_from(pods).unwrap_or(usize::MAX);
    let until = tokio::time::Instant::now() + PATIENCE;
    let claims = world.api.count(Resource::NodeClaim);
    let short = world.ec2.short_fleets();
    let mut known = launches(&world.ec2.calls());
    let mut launched = None;
    let mut decided = None;
    let mut glance = world.now();
    world.apply(work(pods))?;
    loop {
        world.pass(STEP).await;
        let now = world.now();
        if decided.is_none() && world.api.count(Resource::NodeClaim) > claims {
            decided = Some(now);
        }
        let answered = launches(&world.ec2.calls());
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
            return Ok(Wave {
                launched_ms: milliseconds(decided, launched),
                running_ms: milliseconds(decided, now),
                short: world.ec2.short_fleets() > short,
            });
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

/// Waits until every machine carries the names of its Node and its claim.
async fn all_named(world: &Embedded) -> Result<(), BenchError> {
    let until = tokio::time::Instant::now() + PATIENCE;
    loop {
        let machines = world.ec2.alive();
        let is_named = |key: &str| machines.iter().all(|one| one.tags().contains_key(key));
        if is_named(tags::CLAIM) && is_named(tags::NAME) {
            return Ok(());
        }
        if tokio::time::Instant::now() >= until {
            return Err(BenchError::Unnamed {
                minutes: PATIENCE.as_secs() / 60,
            });
        }
        world.pass(GLANCE).await;
    }
}

/// Deletes the pods and waits until no machine, Node or claim is left; milliseconds from the deletion on.
async fn to_zero(world: &Embedded) -> Result<u64, BenchError> {
    let key = Key::new(Resource::Deployment, "default", WORK);
    world.api.delete("user", &key, &DeleteOptions::default())?;
    let (begun, until) = (world.now(), tokio::time::Instant::now() + PATIENCE);
    loop {
        world.pass(GLANCE).await;
        let (machines, claims) = (
            world.ec2.alive().len(),
            world.api.count(Resource::NodeClaim),
        );
        if machines + claims + world.api.count(Resource::Node) == 0 {
            return Ok(milliseconds(begun, world.now()));
        }
        if tokio::time::Instant::now() >= until {
            return Err(BenchError::Left {
                machines,
                claims,
                minutes: PATIENCE.as_secs() / 60,
            });
        }
    }
}

/// Says on standard error how far it is: the pods take longer to simulate than the launches.
fn progress(world: &Embedded, decided: Option<Timestamp>) {
    let after = decided.map_or(0, |decided| milliseconds(decided, world.now()));
    let calls = world.ec2.calls();
    let made: Vec<String> = calls
        .iter()
        .map(|(name, tally)| format!("{name} {}", tally.calls))
        .collect();
    crate::cli::write_stderr(&format!(
        "{after} ms after the first claim: {} machines; {}\n",
        world.ec2.machines().len(),
        made.join(", ")
    ));
}

/// When the last launch was answered.
fn launches(calls: &Calls) -> Option<Timestamp> {
    calls.get("CreateFleet")?.answered
}

fn running(world: &Embedded) -> usize {
    let mut running = 0;
    world.api.each(Resource::Pod, |_key, pod| {
        running += usize::from(pod["status"]["phase"] == "Running");
    });
    running
}

/// All waves together: the slowest counts.
#[derive(Debug, Default)]
struct Burst {
    launched_ms: u64,
    running_ms: u64,
    rounds: u64,
}

impl Burst {
    fn take_in(&mut self, wave: &Wave) {
        self.launched_ms = self.launched_ms.max(wave.launched_ms);
        self.running_ms = self.running_ms.max(wave.running_ms);
        self.rounds += u64::from(wave.short);
    }

    fn figures(&self, world: &Embedded, before: &Calls) -> Figures {
        let made: BTreeMap<&'static str, u64> = world
            .ec2
            .calls()
            .iter()
            .map(|(name, tally)| {
                let earlier = before.get(name).map_or(0, |tally| tally.calls);
                (*name, tally.calls - earlier)
            })
            .filter(|(_name, calls)| *calls > 0)
            .collect();
        let naming = made.get(NAMING).copied().unwrap_or(0);
        Figures {
            instances: u64::try_from(world.ec2.machines().len()).unwrap_or(u64::MAX),
            calls: made.values().sum::<u64>() - naming,
            tag_calls: naming,
            launch_ms: self.launched_ms,
            last_pod_ms: Some(self.running_ms),
            to_zero_ms: None,
            short_rounds: self.rounds,
            operations: json!(made),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::runtime;

    #[test]
    fn a_small_burst_meets_a_storm_that_moves_in_every_wave() {
        let size = Size { pods: 48, waves: 4 };
        let storm = Storm {
            dry_per_mille: 880,
            room: 5,
        };
        let figures = runtime::run(run(3, size, Some(storm))).unwrap().unwrap();
        assert_eq!(figures.instances, 48);
        assert!(figures.short_rounds >= 3, "{figures:?}");
        // A list that was under way when a machine was named has it named again.
        assert!((48..60).contains(&figures.tag_calls), "{figures:?}");
        assert!(figures.calls <= 5 * 48, "{figures:?}");
        assert!(figures.to_zero_ms.is_some(), "nothing is left");
        assert!(figures.last_pod_ms > Some(figures.launch_ms), "{figures:?}");
    }
}
