//! The work of the demo's day: what arrives when.
//!
//! Given a random stream; given back manifests in order of their arrival: Spark applications with a
//! driver and executors, evaluation jobs of many small pods, and GPU training that runs for hours.

use serde_json::Value;

use super::plain;
use crate::sim::scene::Work;
use crate::world::RandomStream;

/// Work is submitted for so long, seconds.
const OFFICE: u64 = 20 * 3_600;
const SPARK_APPLICATIONS: u64 = 20;
const EVALUATIONS: u64 = 32;
const TRAININGS: u64 = 5;

/// Something that is submitted.
#[derive(Debug, Clone)]
pub struct Arrival {
    /// Seconds from the beginning of the day.
    pub second: i64,
    /// What is submitted.
    pub manifest: Value,
}

/// A day's work.
pub fn arrivals(random: &RandomStream) -> Vec<Arrival> {
    let mut day = Vec::new();
    for number in 0..SPARK_APPLICATIONS {
        let second = moment(random, number, SPARK_APPLICATIONS);
        spark(random, number, second, &mut day);
    }
    for number in 0..EVALUATIONS {
        let work = Work {
            pods: size(random, 3, 6),
            seconds: Some(size(random, 180, 900)),
            ..plain(
                "",
                pick(random, &["500m", "1", "2"]),
                pick(random, &["1Gi", "3Gi"]),
            )
        };
        let name = format!("evaluate-{number:02}");
        day.push(Arrival {
            second: moment(random, number, EVALUATIONS),
            manifest: Work {
                name: &name,
                ..work
            }
            .job(),
        });
    }
    for number in 0..TRAININGS {
        let name = format!("train-{number:02}");
        let work = Work {
            name: &name,
            gpus: 1,
            tolerates: Some("nvidia.com/gpu"),
            pods: size(random, 1, 2),
            seconds: Some(size(random, 3_600, 7_200)),
            ..plain("", "3", "12Gi")
        };
        day.push(Arrival {
            second: moment(random, number, TRAININGS),
            manifest: work.job(),
        });
    }
    day.sort_by_key(|arrival| arrival.second);
    day
}

/// A driver, and executors a minute after it.
fn spark(random: &RandomStream, number: u64, second: i64, day: &mut Vec<Arrival>) {
    let seconds = size(random, 600, 2_400);
    let driver = format!("spark-{number:02}-driver");
    let driver = Work {
        name: &driver,
        role: Some("driver"),
        seconds: Some(seconds + 240),
        ..plain("", "1", "2Gi")
    };
    day.push(Arrival {
        second,
        manifest: driver.job(),
    });
    let executors = format!("spark-{number:02}-exec");
    let executors = Work {
        name: &executors,
        role: Some("executor"),
        tolerates: Some("dedicated"),
        pods: size(random, 8, 10),
        seconds: Some(seconds),
        ..plain("", "2", "4Gi")
    };
    day.push(Arrival {
        second: second + 60,
        manifest: executors.job(),
    });
}

/// A time in the slot of the number-th of so many.
fn moment(random: &RandomStream, number: u64, of: u64) -> i64 {
    let slot = OFFICE / of.max(1);
    i64::try_from(number * slot + random.below(slot)).unwrap_or(0)
}

/// A number from `least` on, less than `spread` above it.
fn size(random: &RandomStream, least: u32, spread: u64) -> u32 {
    least.saturating_add(u32::try_from(random.below(spread)).unwrap_or(0))
}

fn pick<'text>(random: &RandomStream, from: &[&'text str]) -> &'text str {
    let index = usize::try_from(random.below(from.len() as u64)).unwrap_or(0);
    from.get(index).copied().unwrap_or_default()
}
