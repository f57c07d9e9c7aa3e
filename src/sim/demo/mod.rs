//! `tonnage demo`: a cluster's day in the embedded world, from nothing to nothing.
//!
//! Given a seed; given back what happened, what it cost and what it had to cost at least. First comes
//! the scene (ten executors and three jobs, then fifty executors, then nothing), then a day of Spark
//! applications, evaluation jobs and GPU training, with spot machines being reclaimed, and at the end
//! a fleet of zero.

mod bound;
mod day;
mod reckoner;
mod summary;
mod tally;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::mpsc;

pub use bound::Bound;
pub use day::{Arrival, arrivals};
pub use summary::Summary;
pub use tally::Tally;

use super::api_server::{DeleteOptions, Key, Refusal, Resource};
use super::ec2::machine::Machine;
use super::ec2::market::Weather;
use super::embedded::{Embedded, Options, Process, ProcessOptions, default_settings};
use super::scene::{Pool, Work, node_class};
use super::watchdog;
use crate::controllers::assembly::Connections;
use crate::controllers::context::PlanListener;
use crate::model::offering::CapacityType;
use crate::model::report::ProvisioningPlan;
use crate::model::snapshot::Snapshot;
use crate::settings::Mode;
use crate::world::RandomStream;

/// The cluster's name.
pub const CLUSTER: &str = "demo";
/// What the region sells: what the pools below ask for.
const FAMILIES: [&str; 6] = ["c5", "c6i", "m5", "t3", "g4dn", "g5"];
/// Search time of each plan, milliseconds' worth of work: a demo's plans are small.
const PLAN_BUDGET_MS: u64 = 5;
/// The same for each lower bound, of which there are some thousand.
const BOUND_BUDGET_MS: u64 = 1;
/// How long each part of the scene may take, seconds.
const PATIENCE: u64 = 1_200;
/// How long the day may take from its last arrival on, seconds.
const EVENING: u64 = 12 * 3_600;
/// How often spot machines are reclaimed, as the demo's region has it: once in so many minutes on
/// average while any runs.
const RECLAIM_MINUTES: u64 = 150;

/// Who looks on while the demo plays.
pub trait Audience {
    /// A moment has passed: a second of virtual time in the scene, more in the day.
    fn look(&mut self, play: &Play);
}

/// Why the demo did not end as it should.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// The embedded API server refused a manifest of the demo.
    #[error("the embedded API server refused a manifest of the demo: {0}")]
    Refused(#[from] Refusal),
    /// Something did not come about in time.
    #[error(
        "{what} did not come about within {seconds} virtual seconds; please report the seed {seed}"
    )]
    TooLate {
        /// What was waited for.
        what: &'static str,
        /// For how long.
        seconds: u64,
        /// The seed.
        seed: u64,
    },
}

/// A running demo.
#[derive(Debug)]
pub struct Play {
    /// The world.
    pub world: Embedded,
    /// What happened so far, counted.
    pub tally: Tally,
    /// What it had to cost at least.
    pub bound: Bound,
    /// What is going on, for people.
    pub act: &'static str,
    process: Process,
    plans: mpsc::UnboundedReceiver<(Timestamp, ProvisioningPlan)>,
    began: Timestamp,
    reclaims: RandomStream,
    next_reclaim: Timestamp,
}

/// Keeps the controllers' plans for whoever asks.
#[derive(Debug)]
struct Shown(mpsc::UnboundedSender<(Timestamp, ProvisioningPlan)>);

impl PlanListener for Shown {
    fn planned(&self, snapshot: &Snapshot, plan: &ProvisioningPlan) {
        // Who has stopped listening wants to see no more.
        self.0.send((snapshot.now, plan.clone())).ok();
    }
}

impl Play {
    /// Sets the stage. Must be called within the embedded world's runtime.
    ///
    /// # Errors
    /// When a manifest is refused.
    pub fn begin(seed: u64) -> Result<Self, DemoError> {
        let world = Embedded::begin(Options {
            cluster: CLUSTER.to_owned(),
            weather: Weather {
                // Reclaims are played below, so that every seed has some.
                reclaimed_per_mille: 0,
                ..Weather::USUAL
            },
            families: FAMILIES.to_vec(),
            ..Options::calm(seed)
        });
        world.apply(node_class("default", CLUSTER, 20))?;
        world.apply(node_class("executors", CLUSTER, 100))?;
        for pool in pools() {
            world.apply(pool.manifest())?;
        }
        let settings = default_settings(Mode::Run, PLAN_BUDGET_MS);
        let (shown, plans) = mpsc::unbounded_channel();
        let options = ProcessOptions::new(seed, settings);
        let process = world.start_with(options, |connections| Connections {
            plans: Some(Arc::new(Shown(shown))),
            ..connections
        });
        let reclaims = world.world().random("demo/reclaims");
        let began = world.now();
        Ok(Self {
            tally: Tally::default(),
            bound: Bound::new(&world, BOUND_BUDGET_MS),
            act: "",
            process,
            plans,
            began,
            reclaims,
            next_reclaim: began,
            world,
        })
    }

    /// Plays everything.
    ///
    /// # Errors
    /// [`DemoError`] names what did not come about.
    pub async fn play(&mut self, audience: &mut impl Audience) -> Result<Summary, DemoError> {
        self.scene(audience).await?;
        self.day(audience).await?;
        self.act = "the end";
        self.catch_up();
        audience.look(self);
        self.process.stop().await;
        self.world.end().await;
        Ok(self.summary())
    }

    /// The plans by which machines were bought, that nobody has asked for yet, and when each was made.
    pub fn plans(&mut self) -> impl Iterator<Item = (Timestamp, ProvisioningPlan)> + '_ {
        std::iter::from_fn(|| self.plans.try_recv().ok())
    }

    fn summary(&self) -> Summary {
        Summary::new(&self.world, &self.tally, &self.bound, self.began)
    }

    /// From nothing to ten executors and three jobs, to fifty executors, to nothing.
    async fn scene(&mut self, audience: &mut impl Audience) -> Result<(), DemoError> {
        self.act = "ten executors and three jobs, from zero nodes";
        let mut executors = Work {
            name: "executor",
            tolerates: Some("dedicated"),
            pods: 10,
            ..plain("executor", "2", "4Gi")
        };
        self.world.apply(executors.deployment())?;
        let jobs = [
            plain("small", "500m", "512Mi"),
            plain("large", "4", "8Gi"),
            Work {
                gpus: 1,
                tolerates: Some("nvidia.com/gpu"),
                ..plain("gpu", "2", "8Gi")
            },
        ];
        for job in jobs {
            let job = Work {
                seconds: Some(60),
                ..job
            };
            self.world.apply(job.job())?;
        }
        self.until(audience, "ten executors running", |play| {
            play.running("executor") == 10
        })
        .await?;
        self.act = "fifty executors";
        executors.pods = 50;
        self.world.apply(executors.deployment())?;
        self.until(audience, "fifty executors running", |play| {
            play.running("executor") == 50
        })
        .await?;
        self.pass(audience, 60).await;
        self.act = "everything ends";
        let key = Key::new(Resource::Deployment, "default", "executor");
        self.world
            .api
            .delete("user", &key, &DeleteOptions::default())?;
        self.until(audience, "a fleet of zero", Self::is_bare).await
    }

    /// A day of work.
    async fn day(&mut self, audience: &mut impl Audience) -> Result<(), DemoError> {
        self.act = "a day of Spark applications, evaluations and training";
        let start = self.world.now();
        let random = self.world.world().random("demo/day");
        for arrival in arrivals(&random) {
            while self.world.now().duration_since(start).as_secs() < arrival.second {
                self.pass(audience, 10).await;
                self.reclaim();
            }
            self.world.apply(arrival.manifest)?;
        }
        self.act = "the work of the day ends";
        for _step in 0..EVENING / 10 {
            let idle = self.world.api.count(Resource::Job) == 0;
            if idle && self.world.api.count(Resource::Pod) == 0 && self.is_bare() {
                return Ok(());
            }
            self.pass(audience, 10).await;
            self.reclaim();
        }
        Err(self.too_late("the end of the day and a fleet of zero", EVENING))
    }

    /// Takes a spot machine back when it is time.
    fn reclaim(&mut self) {
        let now = self.world.now();
        if now < self.next_reclaim {
            return;
        }
        let spot: Vec<Machine> = self
            .world
            .ec2
            .alive()
            .into_iter()
            .filter(|machine| {
                let shown = machine.shown(now);
                machine.ended.is_none()
                    && shown.is_some_and(|shown| shown.offering.capacity_type == CapacityType::Spot)
            })
            .collect();
        let index = usize::try_from(self.reclaims.below(spot.len() as u64)).unwrap_or(0);
        let Some(machine) = spot.get(index) else {
            return;
        };
        self.world.ec2.reclaim(machine.id());
        let minutes = RECLAIM_MINUTES / 2 + self.reclaims.below(RECLAIM_MINUTES);
        let pause = jiff::SignedDuration::from_mins(i64::try_from(minutes).unwrap_or(0));
        self.next_reclaim = now.saturating_add(pause).unwrap_or(now);
    }

    /// Lets seconds pass, with somebody outside who notices when they do not. Who looks on may take any time.
    async fn pass(&mut self, audience: &mut impl Audience, seconds: u64) {
        let passed = self.world.now().duration_since(self.began).as_secs();
        let name = format!(
            "please report the seed {} of `tonnage demo`",
            self.world.options.seed
        );
        watchdog::begins(name, u64::try_from(passed).unwrap_or(0));
        self.world.pass(Duration::from_secs(seconds)).await;
        watchdog::rests();
        self.catch_up();
        audience.look(self);
    }

    /// Takes in what happened.
    fn catch_up(&mut self) {
        self.tally.read(&self.world.history);
    }

    async fn until(
        &mut self,
        audience: &mut impl Audience,
        what: &'static str,
        holds: impl Fn(&Self) -> bool,
    ) -> Result<(), DemoError> {
        for _second in 0..PATIENCE {
            if holds(self) {
                return Ok(());
            }
            self.pass(audience, 1).await;
        }
        Err(self.too_late(what, PATIENCE))
    }

    fn too_late(&self, what: &'static str, seconds: u64) -> DemoError {
        DemoError::TooLate {
            what,
            seconds,
            seed: self.world.options.seed,
        }
    }

    /// Running pods of a workload.
    fn running(&self, app: &str) -> usize {
        let mut count = 0;
        self.world.api.each(Resource::Pod, |_key, pod| {
            let here = pod["metadata"]["labels"]["app"] == app;
            count += usize::from(here && pod["status"]["phase"] == "Running");
        });
        count
    }

    /// True when nothing that costs money or stands for it is left.
    fn is_bare(&self) -> bool {
        self.world.ec2.alive().is_empty()
            && self.world.api.count(Resource::Node) == 0
            && self.world.api.count(Resource::NodeClaim) == 0
    }

    /// When it began.
    pub fn began(&self) -> Timestamp {
        self.began
    }
}

/// One pod without anything special.
fn plain<'text>(name: &'text str, cpu: &'text str, memory: &'text str) -> Work<'text> {
    Work {
        name,
        cpu,
        memory,
        gpus: 0,
        tolerates: None,
        role: None,
        pods: 1,
        seconds: None,
    }
}

fn pools() -> [Pool<'static>; 3] {
    let both = &["spot", "on-demand"];
    [
        Pool {
            name: "executors",
            node_class: "executors",
            families: &["c5", "c6i"],
            capacity_types: both,
            taint: Some(("dedicated", "executor")),
            empty_seconds: 5,
            weight: Some(10),
            most_nodes: Some(20),
        },
        Pool {
            name: "general",
            node_class: "default",
            families: &["c5", "c6i", "m5", "t3"],
            capacity_types: both,
            taint: None,
            empty_seconds: 30,
            weight: None,
            most_nodes: None,
        },
        Pool {
            name: "gpu",
            node_class: "default",
            families: &["g4dn", "g5"],
            capacity_types: both,
            taint: Some(("nvidia.com/gpu", "true")),
            empty_seconds: 30,
            weight: None,
            most_nodes: None,
        },
    ]
}
