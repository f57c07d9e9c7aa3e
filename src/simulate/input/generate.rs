//! Generated work: what typical clusters run, drawn from a seed.
//!
//! Given a profile, a seed, a scale and a duration; given back loads in order of their arrival. The same
//! four give the same work. Where they make more than is simulated, what is given back is just too much.

use std::collections::BTreeMap;

use jiff::SignedDuration;

use super::most::{MOST_PODS, Total};
use super::trace::{self, Line};
use crate::cluster::intern::Interner;
use crate::model::pod::PodSpec;
use crate::simulate::chance::Chance;
use crate::simulate::workload::{Load, Origin};

/// NodePools for generated work when none are given.
pub const POOLS: &str = include_str!("pools.yaml");

const DAY: u64 = 24 * 3_600;

/// What is generated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// Spark applications through the day: a driver, and executors a minute after it.
    SparkDay,
    /// Evaluations: bursts of hundreds of small pods, so many at a time.
    Evaluation,
    /// CI jobs in office hours: small, short, many.
    Ci,
    /// GPU training for hours, with preparation on processors before.
    Gpu,
    /// All of it for a month, with about 200 machines at its peaks.
    Month200,
}

impl Profile {
    /// How long the profile lasts unless told otherwise.
    pub const fn duration(self) -> SignedDuration {
        let days = match self {
            Self::SparkDay | Self::Evaluation => 1,
            Self::Ci | Self::Gpu => 7,
            Self::Month200 => 30,
        };
        SignedDuration::from_hours(24 * days)
    }
}

/// The work of a profile; `scale` is a percentage of its usual amount.
pub fn loads(profile: Profile, seed: u64, scale: u32, duration: SignedDuration) -> Vec<Load> {
    let mut generator = Generator {
        chance: Chance::new(seed),
        draws: 0,
        seconds: u64::try_from(duration.as_secs()).unwrap_or(0),
        scale: u64::from(scale),
        total: Total::default(),
        specs: Interner::default(),
        loads: Vec::new(),
    };
    match profile {
        Profile::SparkDay => generator.spark(40),
        Profile::Evaluation => generator.evaluations(24, 300),
        Profile::Ci => generator.ci(600),
        Profile::Gpu => generator.trainings(12),
        Profile::Month200 => {
            generator.services();
            generator.spark(490);
            generator.evaluations(78, 400);
            generator.ci(1_800);
            generator.trainings(62);
        }
    }
    let mut loads = generator.loads;
    loads.sort_by_key(|load| load.at);
    loads
}

struct Generator {
    chance: Chance,
    draws: u64,
    seconds: u64,
    scale: u64,
    total: Total,
    specs: Interner<PodSpec>,
    loads: Vec<Load>,
}

/// Pods of a Job.
fn line(at: u64, name: String, (cpu, memory): (&str, &str)) -> Line {
    Line {
        at_seconds: u32::try_from(at).unwrap_or(u32::MAX),
        count: 1,
        parallelism: None,
        run_seconds: None,
        run_seconds_most: None,
        name: Some(name),
        namespace: "default".to_owned(),
        owner_kind: Some("Job".to_owned()),
        do_not_disrupt: false,
        labels: BTreeMap::new(),
        requests: BTreeMap::from([
            ("cpu".to_owned(), cpu.to_owned()),
            ("memory".to_owned(), memory.to_owned()),
        ]),
        node_selector: BTreeMap::new(),
        affinity: None,
        tolerations: Vec::new(),
        topology_spread_constraints: Vec::new(),
        priority: 0,
        host_ports: Vec::new(),
        zones: Vec::new(),
    }
}

impl Generator {
    /// Adds the pods of a line.
    fn push(&mut self, line: &Line) {
        // The lines are made below, of amounts that a test reads.
        let Ok(mut load) = trace::load(line, self.loads.len()) else {
            return;
        };
        if u64::from(line.at_seconds) < self.seconds {
            // Whoever asked for so much is told when all loads are counted.
            self.total.add(&load).ok();
        }
        load.origin = Origin::Generator;
        self.specs.intern(&mut load.spec);
        self.loads.push(load);
    }

    /// A number from `least` on, less than `spread` above it.
    fn size(&mut self, least: u32, spread: u64) -> u32 {
        self.draws += 1;
        let drawn = self.chance.below("work", self.draws, spread);
        least.saturating_add(u32::try_from(drawn).unwrap_or(0))
    }

    fn pick<'text>(&mut self, from: &[(&'text str, &'text str)]) -> (&'text str, &'text str) {
        let index = self.size(0, from.len() as u64);
        let index = usize::try_from(index).unwrap_or(0);
        from.get(index).copied().unwrap_or(("1", "1Gi"))
    }

    /// Times of arrivals, so many a day: each in a slot of its own, of the hours that count.
    fn moments(&mut self, a_day: u64, (from, until): (u64, u64)) -> Vec<u64> {
        let count = (a_day * self.scale / 100).max(1);
        let slot = ((until - from) * 3_600 / count).max(1);
        let mut moments = Vec::new();
        for day in 0..self.seconds.div_ceil(DAY) {
            for number in 0..count {
                let within = u64::from(self.size(0, slot));
                let at = day * DAY + from * 3_600 + number * slot + within;
                if at < self.seconds {
                    moments.push(at);
                }
                // Each of them is a pod at least.
                if u64::try_from(moments.len()).is_ok_and(|count| count > MOST_PODS) {
                    return moments;
                }
            }
        }
        moments
    }

    fn spark(&mut self, a_day: u64) {
        for (number, at) in self.moments(a_day, (5, 23)).into_iter().enumerate() {
            if self.total.is_too_much() {
                return;
            }
            let run = self.size(900, 3_600);
            let kind = self.pick(&[("2", "8Gi"), ("4", "16Gi"), ("4", "30Gi")]);
            let mut driver = line(at, format!("spark-{number}-driver"), ("1", "4Gi"));
            driver.run_seconds = Some(run + 240);
            driver.labels = BTreeMap::from([("spark-role".to_owned(), "driver".to_owned())]);
            self.push(&driver);
            let name = format!("spark-{number}-exec");
            let mut executors = line(at + 60, name, kind);
            executors.labels = BTreeMap::from([("spark-role".to_owned(), "executor".to_owned())]);
            executors.count = self.size(10, 50);
            executors.run_seconds = Some(run);
            self.push(&executors);
        }
    }

    fn evaluations(&mut self, a_day: u64, at_a_time: u32) {
        for (number, at) in self.moments(a_day, (0, 24)).into_iter().enumerate() {
            if self.total.is_too_much() {
                return;
            }
            let kind = self.pick(&[("500m", "1Gi"), ("1", "2Gi"), ("1", "4Gi")]);
            let mut pods = line(at, format!("evaluate-{number}"), kind);
            pods.count = self.size(100, 500);
            pods.parallelism = Some(at_a_time);
            pods.run_seconds = Some(120);
            pods.run_seconds_most = Some(900);
            self.push(&pods);
        }
    }

    fn ci(&mut self, a_day: u64) {
        for (number, at) in self.moments(a_day, (7, 20)).into_iter().enumerate() {
            if self.total.is_too_much() {
                return;
            }
            // Nobody commits on the sixth and seventh day.
            if at / DAY % 7 >= 5 {
                continue;
            }
            let kind = self.pick(&[("1", "2Gi"), ("2", "4Gi"), ("4", "8Gi")]);
            let mut pods = line(at, format!("ci-{number}"), kind);
            pods.count = self.size(1, 4);
            pods.run_seconds = Some(120);
            pods.run_seconds_most = Some(1_200);
            self.push(&pods);
        }
    }

    fn trainings(&mut self, a_day: u64) {
        for (number, at) in self.moments(a_day, (0, 24)).into_iter().enumerate() {
            if self.total.is_too_much() {
                return;
            }
            let mut prepare = line(at, format!("prepare-{number}"), ("8", "24Gi"));
            prepare.run_seconds = Some(self.size(300, 900));
            let ready = u64::from(prepare.run_seconds.unwrap_or(0)) + 60;
            self.push(&prepare);
            let mut train = line(at + ready, format!("train-{number}"), ("3", "12Gi"));
            train
                .requests
                .insert("nvidia.com/gpu".to_owned(), "1".to_owned());
            train.tolerations = vec![k8s_openapi::api::core::v1::Toleration {
                key: Some("nvidia.com/gpu".to_owned()),
                operator: Some("Exists".to_owned()),
                ..k8s_openapi::api::core::v1::Toleration::default()
            }];
            train.count = self.size(1, 4);
            train.run_seconds = Some(self.size(3_600, 5 * 3_600));
            self.push(&train);
        }
    }

    /// Services that are always there.
    fn services(&mut self) {
        for (name, count, kind) in [
            ("api", 104, ("1", "2Gi")),
            ("workers", 156, ("2", "4Gi")),
            ("cache", 31, ("2", "14Gi")),
        ] {
            let mut pods = line(0, name.to_owned(), kind);
            pods.owner_kind = Some("ReplicaSet".to_owned());
            pods.count = u32::try_from(count * self.scale / 100).unwrap_or(1).max(1);
            self.push(&pods);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_a_load_and_a_seed_gives_the_same_work() {
        for profile in [
            Profile::SparkDay,
            Profile::Evaluation,
            Profile::Ci,
            Profile::Gpu,
            Profile::Month200,
        ] {
            let duration = SignedDuration::from_hours(48);
            let work = loads(profile, 3, 100, duration);
            assert!(work.len() > 20, "{profile:?}: {}", work.len());
            assert!(work.windows(2).all(|pair| pair[0].at <= pair[1].at));
            assert!(work.iter().all(|load| load.spec.problem.is_none()));
            assert_eq!(work, loads(profile, 3, 100, duration));
            assert_ne!(work, loads(profile, 4, 100, duration));
            let double: usize = loads(profile, 3, 200, duration).len();
            assert!(double > work.len(), "{profile:?}");
        }
    }
}
