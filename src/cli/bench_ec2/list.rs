//! A fleet as a controller sees it that runs for a while: what complete lists cost in calls and memory.
//!
//! Given how many machines it has; given back what was called, once it is certain that the controller has read its lists
//! to the end: it counts every Node as its own, and has ended the machines among them that are nobody's and no other.

use std::time::Duration;

use serde_json::json;

use super::BenchError;
use super::burst::{self, calls, since};
use super::figures::Figures;
use super::fleet;
use super::path::Controller;
use crate::cli::memory::begin_peak_mb;
use crate::sim::Embedded;
use crate::sim::api_server::Resource;
use crate::sim::scene::node_class;

/// How long the controller looks on: several complete lists, two of which must agree before anything
/// counts as orphaned.
const WHILE: Duration = Duration::from_mins(3);
/// Complete lists meanwhile at least: there is one each half minute, and the first waits for the API server's.
const LISTS: u64 = 5;
/// Instances on a page at most.
const PAGE: u64 = 1_000;

/// Pages that are asked for meanwhile at least.
pub(super) const fn least_pages(instances: u64) -> u64 {
    instances.div_ceil(PAGE) * LISTS
}

/// Lets a controller look after so many instances for a while.
pub(super) async fn run(seed: u64, instances: u64) -> Result<Figures, BenchError> {
    let world = burst::begin(seed);
    world.apply(node_class("default", &world.options.cluster, 20))?;
    world.apply(fleet::pool())?;
    let without = begin_peak_mb();
    fleet::assemble(&world, seed, instances).await?;
    // From here on nothing is new but the controller.
    let world_mb = begin_peak_mb().saturating_sub(without);
    let before = calls(&world);
    // Another one than made the fleet: what that drew by lot is in the API server.
    let controller = Controller::start(&world, seed.wrapping_add(1)).await?;
    world.pass(WHILE).await;
    let made = since(&before, &calls(&world));
    let known = controller.nodes();
    controller.stop().await;
    is_known(&world, instances, known)?;
    let alive = world.ec2.alive().len();
    world.end().await;
    Ok(Figures {
        instances: u64::try_from(alive).unwrap_or(u64::MAX),
        calls: made.values().sum(),
        launch_ms: 0,
        last_pod_ms: None,
        to_zero_ms: None,
        calls_to_zero: None,
        short_rounds: 0,
        world_mb: Some(world_mb),
        operations: json!(made),
    })
}

/// That each machine has a claim and a Node to the end, and the controller's own figures say so.
fn is_known(world: &Embedded, wanted: u64, known: u64) -> Result<(), BenchError> {
    let count = |kind| u64::try_from(world.api.count(kind)).unwrap_or(u64::MAX);
    let (claims, nodes) = (count(Resource::NodeClaim), count(Resource::Node));
    if [claims, nodes, known] == [wanted; 3] {
        return Ok(());
    }
    Err(BenchError::Unknown {
        wanted,
        claims,
        nodes,
        known,
    })
}
