//! Hundreds of machines at once through the controllers, the adapter for the real EC2 and the SDK, while EC2 is short of
//! capacity, throttles, loses answers and shows late what it has.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tonnage::sim::api_server::Resource;
use tonnage::sim::ec2::limits::Limit;
use tonnage::sim::faults::{CallFault, Faults};

use crate::endpoint::Rules;
use crate::waiting::eventually;
use crate::whole::{Controller, begin_with, over, work};

/// Machines of the burst.
const MACHINES: usize = 300;
/// How long each pod runs, seconds: until the last one has its machine, however much goes wrong.
const RUNS: u32 = 900;

/// Everything that may befall a burst without costing it a machine.
fn troubles() -> Arc<Rules> {
    let rules = Rules::default();
    for (operation, after, times, fault) in [
        // The first two are the rehearsal's, of on-demand and of spot.
        ("CreateLaunchTemplate", 2, 1, CallFault::AnswerLost),
        ("CreateFleet", 2, 1, CallFault::AnswerLost),
        ("CreateFleet", 1, 2, CallFault::Throttled),
        ("CreateFleet", 0, 1, CallFault::Lost),
        ("CreateFleet", 0, 2, CallFault::Short(30)),
        ("DescribeInstances", 2, 2, CallFault::Internal),
        ("DescribeInstances", 2, 1, CallFault::AnswerLost),
        ("TerminateInstances", 0, 1, CallFault::AnswerLost),
        ("TerminateInstances", 0, 1, CallFault::Throttled),
    ] {
        rules.add(operation, after, times, fault);
    }
    rules.slow("DescribeInstances", Duration::from_secs(3));
    Arc::new(rules)
}

#[tokio::test]
async fn hundreds_of_machines_come_and_go_in_trouble_with_no_leak_and_no_duplicate() {
    tokio::time::pause();
    let world = begin_with(work(MACHINES, Some(RUNS)).job());
    world.ec2.storm(700);
    world.ec2.limit(vec![Limit {
        instance_type: None,
        zone: None,
        capacity_type: None,
        most: MACHINES / 4,
    }]);
    world.ec2.show_late(Duration::from_secs(8));
    let rules = troubles();
    let controller = Controller::in_trouble(&world, Arc::clone(&rules) as Arc<dyn Faults>).await;
    eventually("every pod has a machine", 1_800, async || {
        let alive = world.ec2.alive().len();
        let mut hosts = BTreeSet::new();
        world.api.each(Resource::Pod, |_key, pod: &Value| {
            hosts.extend(pod["spec"]["nodeName"].as_str().map(str::to_owned));
        });
        assert!(alive <= MACHINES, "{alive} machines");
        let there = (alive, hosts.len());
        (there == (MACHINES, MACHINES))
            .then_some(())
            .ok_or_else(|| format!("machines, and those with pods: {there:?}"))
    })
    .await;
    let mut claimed = BTreeSet::new();
    world.api.each(Resource::NodeClaim, |_key, claim: &Value| {
        claimed.extend(claim["status"]["providerID"].as_str().map(str::to_owned));
    });
    assert_eq!(claimed.len(), MACHINES, "no two claims have one machine");
    over(&world).await;
    assert_eq!(world.api.count(Resource::Node), 0);
    assert_eq!(
        world.ec2.machines().len(),
        MACHINES,
        "none was bought twice"
    );
    assert!(world.ec2.short_fleets() > 0, "EC2 was short");
    let calls = world.ec2.calls();
    let made: u64 = calls.values().map(|tally| tally.calls).sum();
    let most = 5 * u64::try_from(MACHINES).unwrap();
    assert!(made <= most, "{made} calls: {calls:?}");
    assert_eq!(rules.left(), 0, "everything went wrong that was to");
    controller.stop().await;
    world.end().await;
}
