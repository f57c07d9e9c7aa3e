//! A burst from zero: 1000 pods that each need a machine of their own.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;

use super::{BenchError, Figures};
use crate::settings::Mode;
use crate::sim::api_server::Resource;
use crate::sim::ec2::calls::Tally;
use crate::sim::ec2::limits::Limit;
use crate::sim::embedded::{ProcessOptions, default_settings};
use crate::sim::scene::{Pool, Work, node_class};
use crate::sim::{Embedded, Options};

/// Of 1000 offerings, how many have no capacity in the storm.
pub(super) const STORM_PER_MILLE: u64 = 880;
/// Machines that each of the other offerings has in the storm: no three of them hold the burst.
const STORM_ROOM: usize = 300;
/// Pods of the burst.
const PODS: usize = 1_000;
/// How long the burst may take to run.
const PATIENCE: Duration = Duration::from_mins(30);
/// How exactly times are taken.
const STEP: Duration = Duration::from_millis(10);
/// How long the controller has before the burst to read its world.
const SETTLE: Duration = Duration::from_mins(1);

/// The calls that buy nothing and hold nothing up: names for people, put on machines that run.
const ASIDE: &str = "CreateTags";

/// Runs a burst in a region where so many of 1000 offerings are dry.
pub(super) async fn run(seed: u64, dry_per_mille: u64) -> Result<Figures, BenchError> {
    let world = Embedded::begin(Options::calm(seed));
    world.ec2.storm(dry_per_mille);
    if dry_per_mille > 0 {
        world.ec2.limit(vec![Limit {
            instance_type: None,
            zone: None,
            capacity_type: None,
            most: STORM_ROOM,
        }]);
    }
    world.apply(node_class("default", &world.options.cluster, 20))?;
    let pool = Pool {
        name: "burst",
        node_class: "default",
        families: &["c5", "c6i", "c7i", "m5", "m6i", "r5", "r6i"],
        capacity_types: &["spot", "on-demand"],
        taint: None,
        empty_seconds: 60,
        weight: None,
        most_nodes: None,
    };
    let mut manifest = pool.manifest();
    // Three cores of four: one pod to a machine.
    if let Some(requirements) = manifest["spec"]["template"]["spec"]["requirements"].as_array_mut()
    {
        requirements.push(json!({
            "key": "karpenter.k8s.aws/instance-cpu", "operator": "In", "values": ["4"],
        }));
    }
    world.apply(manifest)?;
    let process = world.start(ProcessOptions::new(seed, default_settings(Mode::Run, 100)));
    world.pass(SETTLE).await;
    let before = world.ec2.calls();
    let work = Work {
        name: "burst",
        cpu: "3",
        memory: "4Gi",
        gpus: 0,
        tolerates: None,
        role: None,
        pods: u32::try_from(PODS).unwrap_or(u32::MAX),
        seconds: None,
    };
    world.apply(work.deployment())?;
    let watched = watch(&world).await?;
    let figures = watched.figures(&world, &before);
    process.stop().await;
    world.end().await;
    Ok(figures)
}

/// What was seen of the burst.
#[derive(Debug)]
struct Watched {
    decided: Timestamp,
    /// Calls by the time of the last answer to a launch.
    calls: BTreeMap<&'static str, Tally>,
}

/// Waits until every pod runs.
async fn watch(world: &Embedded) -> Result<Watched, BenchError> {
    let until = tokio::time::Instant::now() + PATIENCE;
    let mut decided = None;
    let mut calls = world.ec2.calls();
    let mut launched = launches(&calls).answered;
    loop {
        world.pass(STEP).await;
        if decided.is_none() && world.api.count(Resource::NodeClaim) > 0 {
            decided = Some(world.now());
        }
        let now = world.ec2.calls();
        if launches(&now).answered != launched {
            launched = launches(&now).answered;
            calls = now;
            progress(world, decided, &calls);
        }
        // Counting pods takes longer than a step is long, and is not needed that often.
        let due = world.now().subsec_millisecond() < 10;
        if let Some(decided) = decided.filter(|_decided| due && running(world) == PODS) {
            return Ok(Watched { decided, calls });
        }
        if tokio::time::Instant::now() >= until {
            return Err(BenchError::NotLanded {
                running: running(world),
                wanted: PODS,
                minutes: PATIENCE.as_secs() / 60,
            });
        }
    }
}

/// Says on standard error how far it is: the pods take longer to simulate than the launches.
fn progress(world: &Embedded, decided: Option<Timestamp>, calls: &BTreeMap<&'static str, Tally>) {
    let after = decided.map_or(0, |decided| world.now().duration_since(decided).as_millis());
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

fn launches(calls: &BTreeMap<&'static str, Tally>) -> Tally {
    calls.get("CreateFleet").copied().unwrap_or_default()
}

fn running(world: &Embedded) -> usize {
    let mut running = 0;
    world.api.each(Resource::Pod, |_key, pod| {
        running += usize::from(pod["status"]["phase"] == "Running");
    });
    running
}

impl Watched {
    fn figures(&self, world: &Embedded, before: &BTreeMap<&'static str, Tally>) -> Figures {
        let made: BTreeMap<&'static str, u64> = self
            .calls
            .iter()
            .map(|(name, tally)| {
                let earlier = before.get(name).map_or(0, |tally| tally.calls);
                (*name, tally.calls - earlier)
            })
            .filter(|(_name, calls)| *calls > 0)
            .collect();
        let calls = made
            .iter()
            .filter(|(name, _calls)| **name != ASIDE)
            .map(|(_name, calls)| calls)
            .sum();
        let answered = launches(&self.calls).answered.unwrap_or(self.decided);
        let took = answered.duration_since(self.decided).as_millis();
        Figures {
            instances: u64::try_from(world.ec2.machines().len()).unwrap_or(u64::MAX),
            calls,
            launch_ms: u64::try_from(took).unwrap_or(0),
            operations: json!(made),
        }
    }
}
