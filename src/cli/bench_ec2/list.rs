//! A region with 10 000 instances of the cluster: how many calls a complete list takes, and how much
//! memory the controller.

use std::time::Duration;

use serde_json::json;

use super::{BenchError, Figures};
use crate::model::offering::{CapacityType, OfferingKey};
use crate::settings::Mode;
use crate::sim::embedded::{ProcessOptions, default_settings};
use crate::sim::scene::node_class;
use crate::sim::{Embedded, Options};

/// Instances that exist.
const INSTANCES: u64 = 10_000;
/// How long the controller looks on: several complete lists, two of which must agree before anything
/// counts as orphaned.
const WHILE: Duration = Duration::from_mins(3);

/// Lets a controller list them all, again and again. Nobody claims them, so its brake holds and it
/// ends none.
pub(super) async fn run(seed: u64) -> Result<Figures, BenchError> {
    let world = Embedded::begin(Options::calm(seed));
    world.apply(node_class("default", &world.options.cluster, 20))?;
    let offering = OfferingKey::new("c5.xlarge", "us-east-1a", CapacityType::Spot);
    for _instance in 0..INSTANCES {
        world.ec2.stray(&world.options.cluster, &offering);
    }
    let process = world.start(ProcessOptions::new(seed, default_settings(Mode::Run, 100)));
    world.pass(WHILE).await;
    let made: serde_json::Map<String, serde_json::Value> = world
        .ec2
        .calls()
        .into_iter()
        .map(|(name, tally)| (name.to_owned(), json!(tally.calls)))
        .collect();
    let calls = made.values().filter_map(serde_json::Value::as_u64).sum();
    let alive = world.ec2.alive().len();
    process.stop().await;
    world.end().await;
    Ok(Figures {
        instances: u64::try_from(alive).unwrap_or(u64::MAX),
        calls,
        tag_calls: 0,
        launch_ms: 0,
        last_pod_ms: None,
        to_zero_ms: None,
        short_rounds: 0,
        operations: json!(made),
    })
}
