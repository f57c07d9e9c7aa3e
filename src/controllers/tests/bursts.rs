//! Bursts that are larger than what EC2 starts at once, and calls that wait.

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use serde_json::{Value, json};

use super::Stage;
use crate::cloud::buckets::{BucketSize, BucketSizes};
use crate::plan::lifecycle::LifecycleSettings;
use crate::plan::rate::Rate;
use crate::settings::{Mode, Settings};
use crate::sim::Process;
use crate::sim::api_server::Resource::{NodeClaim, NodePool, Pod};
use crate::sim::embedded::{ProcessOptions, default_settings};
use crate::sim::faults::CallFault;

impl Stage {
    /// Starts a controller where EC2 starts so many instances at once and then one a second, and where claims
    /// that nothing was bought for within a minute are given up.
    fn run_where_ec2_starts(&self, burst: u32) -> Process {
        let rate = Rate {
            per_second: NonZeroU32::MIN,
            burst: NonZeroU32::new(burst).unwrap(),
        };
        self.world.ec2.limit_calls(BucketSizes {
            instances_started: BucketSize {
                per_second: rate.per_second,
                burst: rate.burst,
            },
            ..BucketSizes::default()
        });
        let settings = Settings {
            launch_rate: rate,
            lifecycle: LifecycleSettings {
                launch_timeout: SignedDuration::from_mins(1),
                ..LifecycleSettings::default()
            },
            ..default_settings(Mode::Run, 1)
        };
        self.world.start(ProcessOptions {
            faults: Arc::new(self.trouble.clone()),
            ..ProcessOptions::new(7, settings)
        })
    }

    fn pods(&self, count: usize) {
        for number in 0..count {
            self.pod(&format!("p{number:03}"));
        }
    }

    fn claim_uids(&self) -> BTreeSet<String> {
        let claims = self.all(NodeClaim);
        let uids = claims.iter().map(|claim| &claim["metadata"]["uid"]);
        uids.filter_map(Value::as_str).map(str::to_owned).collect()
    }

    fn launch_calls(&self) -> u64 {
        let calls = self.world.ec2.calls();
        calls.get("CreateFleet").map_or(0, |tally| tally.calls)
    }
}

#[tokio::test(start_paused = true)]
async fn a_burst_larger_than_ec2_starts_at_once_ends_as_that_many_machines() {
    let stage = Stage::new();
    let _process = stage.run_where_ec2_starts(20);
    stage.pods(100);
    stage
        .until(30, "every pod has a claim", |stage| {
            stage.claim_uids().len() == 100
        })
        .await;
    let claims = stage.claim_uids();
    stage
        .until(300, "every pod runs", |stage| stage.running_pods() == 100)
        .await;
    assert_eq!(stage.claim_uids(), claims, "none was given up");
    assert_eq!(stage.world.ec2.machines().len(), 100, "none was ended");
    let calls = stage.launch_calls();
    assert!(calls <= 12, "few machines at a time: {calls} calls");
}

#[tokio::test(start_paused = true)]
async fn a_throttled_launch_of_a_whole_burst_is_made_again_within_seconds() {
    let stage = Stage::new();
    stage.fail_launches(&[CallFault::Throttled]);
    let _process = stage.run_where_ec2_starts(40);
    stage.pods(40);
    stage
        .until(20, "all machines are there", |stage| {
            stage.world.ec2.machines().len() == 40
        })
        .await;
    assert_eq!(stage.launch_calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_its_turn_is_not_bought_once_its_claims_leave() {
    const POOLS: usize = 40;
    let stage = Stage::new();
    // Each has a launch template and a launch of its own: more calls than EC2 takes at once.
    let pool: Value = stage.all(NodePool).remove(0);
    for number in 0..POOLS {
        let mut own = pool.clone();
        own["metadata"] = json!({ "name": format!("team-{number}") });
        own["spec"]["template"]["metadata"] = json!({ "labels": { "team": format!("t{number}") } });
        stage.world.apply(own).unwrap();
    }
    let _process = stage.run();
    for number in 0..POOLS {
        stage.pod_with(
            &format!("p{number}"),
            &json!({
                "nodeSelector": { "team": format!("t{number}") },
                "containers": [{ "name": "main", "resources": { "requests": { "cpu": "3" } } }],
            }),
        );
    }
    stage
        .until(60, "the first are bought", |stage| {
            !stage.world.ec2.machines().is_empty()
        })
        .await;
    for resource in [Pod, NodeClaim] {
        for object in stage.all(resource) {
            stage.delete(resource, object["metadata"]["name"].as_str().unwrap());
        }
    }
    tokio::time::sleep(Duration::from_mins(1)).await;
    let bought = stage.world.ec2.machines().len();
    assert!(bought < POOLS / 2, "{bought} machines");
    stage.until(300, "nothing is left", Stage::is_bare).await;
}
