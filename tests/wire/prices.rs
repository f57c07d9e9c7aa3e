//! How old prices are, as whoever scrapes the controller sees it.

use std::sync::Arc;
use std::time::Duration;

use tonnage::settings::Mode;
use tonnage::sim::Embedded;
use tonnage::sim::faults::{CallFault, Faults};
use tonnage::sim::life::Life;

use crate::endpoint::Rules;
use crate::waiting::eventually;
use crate::whole::{Controller, begin, region_of};

/// Seconds between two readings of prices, with the longest pause after one that failed, and the half minute that a
/// look at a class serves.
const READ_WITHIN: u64 = 2 * 300 + 60;

/// The age of prices of a capacity type in seconds: what the page on settings has people graph.
fn age(world: &Embedded, controller: &Controller, capacity_type: &str) -> Option<i64> {
    let name = format!("tonnage_prices_timestamp_seconds{{capacity_type=\"{capacity_type}\"}} ");
    let text = controller.metrics.text();
    let read_at = text.lines().find_map(|line| line.strip_prefix(&name))?;
    Some(world.now().as_second() - read_at.parse::<i64>().unwrap())
}

#[tokio::test]
async fn prices_grow_old_while_nobody_answers_and_are_new_after_an_answer() {
    tokio::time::pause();
    let world = begin();
    let rules: Arc<Rules> = Arc::default();
    let endpoint = region_of(&world).with_faults(Arc::clone(&rules) as Arc<dyn Faults>);
    let controller = Controller::through(&world, endpoint, Life::new(), Mode::Run).await;
    let both = ["on-demand", "spot"];
    let are_new = async |what: &str| {
        eventually(what, READ_WITHIN, async || {
            let ages = both.map(|kind| age(&world, &controller, kind));
            let new = ages.iter().all(|age| age.is_some_and(|age| age < 360));
            new.then_some(()).ok_or_else(|| format!("{ages:?}"))
        })
        .await;
    };
    are_new("prices were read").await;
    for operation in ["DescribeSpotPriceHistory", "GetProducts"] {
        rules.add(operation, 0, u32::MAX, CallFault::Internal);
    }
    world.pass(Duration::from_hours(1)).await;
    let older = both.map(|kind| age(&world, &controller, kind).unwrap());
    assert!(older.iter().all(|age| *age >= 3_600), "{older:?}");
    world.pass(Duration::from_hours(1)).await;
    let oldest = both.map(|kind| age(&world, &controller, kind).unwrap());
    let grown = [oldest[0] - older[0], oldest[1] - older[1]];
    assert!(grown.iter().all(|by| *by >= 3_600), "{older:?} {oldest:?}");
    rules.clear();
    are_new("prices were read again").await;
    controller.stop().await;
    world.end().await;
}
