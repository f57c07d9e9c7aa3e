//! Two controllers and one Lease, with the settings that are the default: one acts, the other is ready
//! and takes over in time, and nothing is bought twice.

use std::time::Duration;

use kube::api::ListParams;
use tokio::time::Instant;

use crate::controller::{Controller, Route};
use crate::faults::{end, nothing_was_bought_in_vain, settled, start_growing};
use crate::waiting::eventually;
use crate::world::World;

/// A whole lease that nobody let go, and the start of a process on a busy machine.
const FIRST_SECONDS: u64 = 30;
const AFTER_A_CRASH: Duration = Duration::from_secs(12);
const AFTER_A_STOP: Duration = Duration::from_secs(3);

/// Two controllers, the first of which leads; the other is ready all the same.
async fn two() -> (Controller, Controller) {
    let first = Controller::start_with_default_lease(Route::Faults).await;
    eventually("the first controller leads", FIRST_SECONDS, async || {
        first
            .leads()
            .await
            .then_some(())
            .ok_or_else(|| first.logged())
    })
    .await;
    let other = Controller::start_with_default_lease(Route::Direct).await;
    assert!(!other.leads().await, "two lead");
    (first, other)
}

/// The burst arrives, and the first claims are made.
async fn burst(world: &World) {
    start_growing(world).await;
    let claims = world.cluster.node_claims();
    eventually("claims are made", 60, async || {
        let made = claims
            .list(&ListParams::default())
            .await
            .unwrap()
            .items
            .len();
        (made > 0)
            .then_some(())
            .ok_or_else(|| "none yet".to_owned())
    })
    .await;
}

/// Waits until the other controller leads; gives back how long that took.
async fn taken_over(other: &Controller, since: Instant, most: Duration) -> Duration {
    eventually("the other leads", most.as_secs() + 10, async || {
        other
            .leads()
            .await
            .then_some(())
            .ok_or_else(|| other.logged())
    })
    .await;
    let after = since.elapsed();
    assert!(after <= most, "{after:?}");
    after
}

async fn nothing_was_bought_twice(world: &World) {
    settled(world).await;
    nothing_was_bought_in_vain(world, 0).await;
}

#[tokio::test]
async fn another_controller_leads_within_12_s_of_a_crash() {
    let world = World::fresh().await;
    let (first, other) = two().await;
    burst(&world).await;
    assert!(!other.leads().await, "two lead");
    let crash = Instant::now();
    first.kill();
    let after = taken_over(&other, crash, AFTER_A_CRASH).await;
    println!("taken over {after:?} after a crash");
    nothing_was_bought_twice(&world).await;
    end(&world).await;
}

#[tokio::test]
async fn another_controller_leads_within_3_s_of_a_stop() {
    let world = World::fresh().await;
    let (first, other) = two().await;
    burst(&world).await;
    let stop = Instant::now();
    first.terminate();
    let after = taken_over(&other, stop, AFTER_A_STOP).await;
    println!("taken over {after:?} after a stop");
    assert_eq!(first.stop().await, Some(0), "SIGTERM ends cleanly");
    nothing_was_bought_twice(&world).await;
    end(&world).await;
}
