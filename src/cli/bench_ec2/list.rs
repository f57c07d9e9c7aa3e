//! A region full of instances, as a controller sees it: what complete lists cost in calls and memory.

use std::time::Duration;

use serde_json::json;

use super::BenchError;
use super::figures::Figures;
use super::path::Controller;
use crate::model::offering::{CapacityType, OfferingKey};
use crate::sim::scene::node_class;
use crate::sim::{Embedded, Options};

/// How long the controller looks on: several complete lists, two of which must agree before anything
/// counts as orphaned.
const WHILE: Duration = Duration::from_mins(3);

/// Lets a controller list so many instances, again and again. Nobody claims them, so its brake holds and it
/// ends none.
pub(super) async fn run(seed: u64, instances: u64) -> Result<Figures, BenchError> {
    let world = Embedded::begin(Options::calm(seed));
    world.apply(node_class("default", &world.options.cluster, 20))?;
    let offering = OfferingKey::new("c5.xlarge", "us-east-1a", CapacityType::Spot);
    for _instance in 0..instances {
        world.ec2.stray(&world.options.cluster, &offering);
    }
    let controller = Controller::start(&world, seed).await?;
    world.pass(WHILE).await;
    let made: serde_json::Map<String, serde_json::Value> = world
        .ec2
        .calls()
        .into_iter()
        .map(|(name, tally)| (name.to_owned(), json!(tally.calls)))
        .collect();
    let calls = made.values().filter_map(serde_json::Value::as_u64).sum();
    let alive = world.ec2.alive().len();
    controller.stop().await;
    world.end().await;
    Ok(Figures {
        instances: u64::try_from(alive).unwrap_or(u64::MAX),
        calls,
        launch_ms: 0,
        last_pod_ms: None,
        to_zero_ms: None,
        calls_to_zero: None,
        short_rounds: 0,
        operations: json!(made),
    })
}
