//! One seed: half an hour or more of work under faults, then quiet, then nothing.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use serde_json::{Value, json};
use tonnage::model::offering::{CapacityType, OfferingKey};
use tonnage::sim::api_server::{DeleteOptions, Key, Resource};
use tonnage::sim::ec2::machine::EndCause;
use tonnage::sim::ec2::market::Weather;
use tonnage::sim::history::{Detail, Line};
use tonnage::sim::scene::{Pool, Work, node_class};
use tonnage::sim::{Embedded, Options, runtime};
use tonnage::world::RandomStream;

use crate::checks::{self, Checks};
use crate::controllers::{Controllers, Places};
use crate::faults::Storm;
use crate::leadership::Leadership;
use crate::wander::{self, Wander};

const CLUSTER: &str = "trial";
/// How long everything may take to run once it is quiet, seconds: timeouts of claims, and back-offs.
const PATIENCE: u64 = 2_400;
const LIMIT: usize = 6;

/// What came of a seed.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) violations: Vec<String>,
    pub(crate) faults: BTreeMap<&'static str, usize>,
    pub(crate) history: Vec<String>,
    pub(crate) digest: (u64, u64),
}

/// Runs a seed.
pub(crate) fn run(seed: u64, controllers: Controllers) -> io::Result<Report> {
    runtime::run(async {
        let mut trial = Trial::begin(seed, controllers);
        trial.storm().await;
        trial.quiet().await;
        trial.end().await
    })
}

struct Trial {
    world: Embedded,
    storm: Storm,
    checks: Checks,
    dice: RandomStream,
    controllers: Controllers,
    places: Places,
    wander: Wander,
    second: u64,
    limits: BTreeMap<String, usize>,
    works: usize,
    strays: usize,
}

impl Trial {
    fn begin(seed: u64, controllers: Controllers) -> Self {
        let world = Embedded::begin(Options {
            cluster: CLUSTER.to_owned(),
            weather: Weather {
                reclaimed_per_mille: 300,
                dry_spot_per_mille: 150,
                ..Weather::USUAL
            },
            families: vec!["c5", "m5", "t3"],
            detail: Detail::Events,
            ..Options::calm(seed)
        });
        let mut trial = Self {
            storm: Storm::new(world.world()),
            checks: Checks::default(),
            dice: world.world().random("trial"),
            controllers,
            places: Places::new(controllers),
            wander: Wander::default(),
            second: 0,
            limits: BTreeMap::from([("limited".to_owned(), LIMIT)]),
            works: 0,
            strays: 0,
            world,
        };
        trial.apply(node_class("default", CLUSTER, 20));
        for (name, most_nodes) in [("general", None), ("limited", u32::try_from(LIMIT).ok())] {
            let pool = Pool {
                name,
                node_class: "default",
                families: &["c5", "m5", "t3"],
                capacity_types: &["spot", "on-demand"],
                taint: most_nodes.map(|_most| ("dedicated", "limited")),
                empty_seconds: 10,
                weight: None,
                most_nodes,
            };
            trial.apply(pool.manifest());
        }
        if controllers.elect() {
            trial.checks.leadership = Some(Leadership::watch(&trial.world));
        }
        if trial.dice.below(2) == 0 {
            let late = 5 + trial.dice.below(85);
            trial.world.ec2.show_late(Duration::from_secs(late));
            trial.storm.count("machines shown late");
        }
        trial
    }

    fn apply(&mut self, object: Value) {
        if let Err(refusal) = self.world.apply(object) {
            self.checks
                .violations
                .insert(format!("a manifest was refused: {refusal}"));
        }
    }

    /// Work comes and goes and everything fails now and then.
    async fn storm(&mut self) {
        let length = 1_200 + self.dice.below(1_800);
        while self.second < length {
            if self.second.is_multiple_of(60) {
                self.work();
            }
            if self.dice.below(20) == 0 {
                self.disturb();
            }
            if self.controllers.elect() && self.dice.below(60) == 0 {
                self.wander();
            }
            self.pass().await;
        }
        self.storm.calm_down();
    }

    async fn pass(&mut self) {
        self.places.fill(&self.world, &self.storm, self.second);
        // A second of the world's own time: the clock is paused, so nobody waits.
        tokio::time::sleep(Duration::from_secs(1)).await;
        self.second += 1;
        self.checks.step(&self.world, &self.limits);
    }

    fn below(&self, bound: u32) -> u32 {
        u32::try_from(self.dice.below(u64::from(bound))).unwrap_or(0)
    }

    /// Submits a workload, or changes one.
    fn work(&mut self) {
        let number = self.works;
        self.works += 1;
        let name = format!("work-{number}");
        let limited = self.dice.below(4) == 0;
        let cpus = ["250m", "500m", "1", "2", "3"];
        let cpu = cpus.get(self.below(5) as usize).copied().unwrap_or("1");
        let work = Work {
            name: &name,
            cpu,
            memory: "1Gi",
            gpus: 0,
            tolerates: limited.then_some("dedicated"),
            role: None,
            pods: 1 + self.below(8),
            seconds: None,
        };
        match self.dice.below(5) {
            0 => self.apply(work.deployment()),
            1 if number > 0 => {
                let old = format!("work-{}", self.dice.below(number as u64));
                let key = Key::new(Resource::Deployment, "default", &old);
                // It may be a Job, or gone.
                self.world
                    .api
                    .delete("user", &key, &DeleteOptions::default())
                    .ok();
            }
            _ => {
                let seconds = Some(20 + self.below(600));
                self.apply(Work { seconds, ..work }.job());
            }
        }
        if self.dice.below(6) == 0 {
            self.apply(json!({
                "apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
                "metadata": { "name": name, "namespace": "default" },
                "spec": { "minAvailable": "50%", "selector": { "matchLabels": { "app": name } } },
            }));
        }
    }

    /// Something happens to the controller, the server or a machine.
    fn disturb(&mut self) {
        let machines = self.world.ec2.alive();
        let index = usize::try_from(self.dice.below(machines.len() as u64)).unwrap_or(0);
        let machine = machines.get(index);
        let kind = match (self.dice.below(12), machine) {
            (0 | 1, _) => {
                let Some(process) = self.places.take(&self.dice, self.second) else {
                    return;
                };
                process.kill();
                "controller crash"
            }
            (2 | 3, _) => {
                for who in self.places.names() {
                    self.world.api.cut_watches(who);
                }
                "watch cut"
            }
            (4, _) => {
                self.world.api.compact();
                "compaction"
            }
            (5, Some(machine)) => {
                self.world.ec2.end(machine.id(), EndCause::Failed);
                "machine failure"
            }
            (6, Some(machine)) if machine.ended.is_none() => {
                self.world.ec2.reclaim(machine.id());
                "spot reclaim"
            }
            (7, _) if self.dice.below(3) == 0 => {
                self.world.ec2.make_barren(1);
                "machine never joins"
            }
            (8, _) if self.strays == 0 => {
                self.strays += 1;
                let offering = OfferingKey::new("c5.large", "us-east-1a", CapacityType::OnDemand);
                self.world.ec2.stray(CLUSTER, &offering);
                "stray machine"
            }
            (9 | 10, Some(machine)) => {
                let Some(shown) = machine.shown(self.world.now()) else {
                    return;
                };
                let minutes = i64::from(self.below(20));
                self.world.ec2.dry(&shown.offering, 1 + minutes);
                "pool dry"
            }
            _ => return,
        };
        self.storm.count(kind);
    }

    /// Something happens to the lease or to who holds it.
    fn wander(&mut self) {
        let kind = match self.dice.below(3) {
            0 => self.wander.strike(&self.world, &self.dice),
            1 => wander::holder(&self.world).map(|who| {
                let seconds = 2 + self.dice.below(30);
                let silent = self.dice.below(2) == 0;
                self.storm
                    .cut_off(&who, Duration::from_secs(seconds), silent);
                "leader cut off"
            }),
            _ => self.places.take(&self.dice, self.second).map(|process| {
                drop(tokio::spawn(async move { process.stop().await }));
                "controller stop"
            }),
        };
        if let Some(kind) = kind {
            self.storm.count(kind);
        }
    }

    /// Nothing goes wrong any more: everything runs, then everything is deleted, and nothing is left.
    async fn quiet(&mut self) {
        for second in 0..PATIENCE {
            self.pass().await;
            // Machines of a calm world may still be reclaimed; what counts is one moment of rest.
            let waiting = checks::waiting(&self.world);
            if waiting.is_empty() && checks::mismatches(&self.world).is_empty() {
                break;
            }
            if second + 1 == PATIENCE {
                let violation = format!(
                    "after {PATIENCE} quiet seconds wait {waiting:?}, and do not match {:?}",
                    checks::mismatches(&self.world)
                );
                self.checks.violations.insert(violation);
            }
        }
        for resource in [Resource::Deployment, Resource::Job] {
            let mut all = Vec::new();
            self.world
                .api
                .each(resource, |key, _object| all.push(key.clone()));
            for key in all {
                // Jobs expire by themselves.
                self.world
                    .api
                    .delete("user", &key, &DeleteOptions::default())
                    .ok();
            }
        }
        for second in 0..PATIENCE {
            self.pass().await;
            let left = checks::left(&self.world);
            if left.is_empty() && self.world.api.count(Resource::Pod) == 0 {
                break;
            }
            if second + 1 == PATIENCE {
                let pods = self.world.api.count(Resource::Pod);
                let violation = format!(
                    "{PATIENCE} seconds after the last work {left:?} and {pods} pods are left"
                );
                self.checks.violations.insert(violation);
            }
        }
    }

    async fn end(self) -> Report {
        self.places.stop().await;
        self.world.end().await;
        let history = self.world.history.since(0);
        let mut faults = self.storm.counts();
        if let Some(leadership) = &self.checks.leadership {
            faults.insert("lease taken", leadership.terms());
        }
        Report {
            faults,
            violations: self.checks.violations.into_iter().collect(),
            history: history.iter().map(Line::text).collect(),
            digest: self.world.history.digest(),
        }
    }
}
