//! The same seed gives the same history, byte for byte.

use std::time::Duration;

use crate::settings::Mode;
use crate::sim::ec2::market::Weather;
use crate::sim::embedded::{ProcessOptions, default_settings};
use crate::sim::history::{Detail, Line};
use crate::sim::scene::{Pool, Work, node_class};
use crate::sim::{Embedded, Options, runtime};

/// An hour of changing work in a region with weather.
async fn hour(seed: u64) -> (Vec<String>, (u64, u64)) {
    let world = Embedded::begin(Options {
        weather: Weather {
            reclaimed_per_mille: 900,
            ..Weather::USUAL
        },
        detail: Detail::Requests,
        ..Options::calm(seed)
    });
    world.apply(node_class("default", "embedded", 20)).unwrap();
    let pool = Pool {
        name: "general",
        node_class: "default",
        families: &["c5", "m5"],
        capacity_types: &["spot", "on-demand"],
        taint: None,
        empty_seconds: 10,
        weight: None,
        most_nodes: None,
    };
    world.apply(pool.manifest()).unwrap();
    let process = world.start(ProcessOptions::new(seed, default_settings(Mode::Run, 1)));
    for round in 0..4 {
        let work = Work {
            name: &format!("work-{round}"),
            cpu: "2",
            memory: "3Gi",
            gpus: 0,
            tolerates: None,
            role: None,
            pods: 3 + round,
            seconds: Some(400),
        };
        world.apply(work.job()).unwrap();
        tokio::time::sleep(Duration::from_mins(15)).await;
    }
    process.stop().await;
    world.end().await;
    let lines = world.history.since(0).iter().map(Line::text).collect();
    (lines, world.history.digest())
}

#[test]
fn equal_seeds_give_equal_histories_and_others_do_not() {
    let first = runtime::run(hour(3)).unwrap();
    let second = runtime::run(hour(3)).unwrap();
    let parted = first
        .0
        .iter()
        .zip(&second.0)
        .position(|(one, other)| one != other);
    assert_eq!(
        parted.map(|line| (&first.0[line], &second.0[line])),
        None,
        "the first line in which they differ"
    );
    assert_eq!(first, second);
    assert!(first.1.1 > 500, "only {} lines", first.1.1);
    assert_ne!(first.1, runtime::run(hour(4)).unwrap().1);
}
