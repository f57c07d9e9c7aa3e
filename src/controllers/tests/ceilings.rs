//! Ceilings hold, and what is broken does not take the room of what works.

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::Stage;
use crate::settings::{Mode, Settings};
use crate::sim::Process;
use crate::sim::api_server::Resource;
use crate::sim::embedded::{ProcessOptions, default_settings};

impl Stage {
    /// Starts a controller with one launch and one termination a minute.
    fn run_slowly(&self) -> Process {
        let settings = Settings {
            launches_per_minute: NonZeroU32::new(1),
            terminations_per_minute: NonZeroU32::new(1),
            ..default_settings(Mode::Run, 1)
        };
        self.world.start(ProcessOptions {
            faults: Arc::new(self.trouble.clone()),
            ..ProcessOptions::new(7, settings)
        })
    }

    fn claim_names(&self) -> BTreeSet<String> {
        let claims = self.all(Resource::NodeClaim);
        claims
            .iter()
            .filter_map(|claim| claim["metadata"]["name"].as_str())
            .map(str::to_owned)
            .collect()
    }
}

#[tokio::test(start_paused = true)]
async fn instances_of_nobody_end_no_faster_than_the_ceiling() {
    let stage = Stage::new();
    for _machine in 0..3 {
        stage.stray();
    }
    let _process = stage.run_slowly();
    stage
        .until(600, "the first is collected", |stage| {
            stage.running().len() == 2
        })
        .await;
    tokio::time::sleep(Duration::from_secs(55)).await;
    assert_eq!(stage.running().len(), 2);
    stage
        .until(20, "the second follows", |stage| stage.running().len() == 1)
        .await;
    tokio::time::sleep(Duration::from_secs(50)).await;
    assert_eq!(stage.running().len(), 1);
    stage.until(120, "nothing is left", Stage::is_bare).await;
}

/// One that stops and one that begins are the same as far as the ceilings are concerned.
#[tokio::test(start_paused = true)]
async fn a_change_of_the_leader_makes_no_room_under_the_ceilings() {
    let stage = Stage::new();
    let first = stage.run_slowly();
    stage.pod("a");
    stage.pod("b");
    stage
        .until(30, "one is bought", |stage| stage.running().len() == 1)
        .await;
    first.stop().await;
    let second = stage.run_slowly();
    tokio::time::sleep(Duration::from_secs(50)).await;
    assert_eq!(stage.running().len(), 1);
    stage
        .until(240, "both pods run", |stage| stage.running_pods() == 2)
        .await;

    for name in stage.claim_names() {
        stage.delete(Resource::NodeClaim, &name);
    }
    stage
        .until(60, "one is ended", |stage| stage.running().len() == 1)
        .await;
    second.stop().await;
    let _third = stage.run_slowly();
    tokio::time::sleep(Duration::from_secs(45)).await;
    assert_eq!(stage.running().len(), 1);
    stage.until(240, "nothing is left", Stage::is_bare).await;
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_may_not_end_keeps_no_other() {
    let stage = Stage::new();
    let ids: Vec<String> = (0..3).map(|_machine| stage.stray()).collect();
    stage.world.ec2.protect(&ids[0]);
    let _process = stage.run_slowly();
    stage
        .until(900, "the others are collected, one a minute", |stage| {
            let running = stage.running();
            running.len() == 1 && running[0].id == ids[0]
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_pool_whose_claims_take_no_record_does_not_stop_the_others() {
    let stage = Stage::new();
    let mut pool: Value = stage.all(Resource::NodePool).remove(0);
    pool["metadata"] = json!({"name": "broken"});
    pool["spec"]["template"]["metadata"] = json!({"labels": {"team": "broken"}});
    pool["spec"]["template"]["spec"]["taints"] = json!([{"key": "broken", "effect": "NoSchedule"}]);
    stage.world.apply(pool).unwrap();
    stage.refuse("nodeclaims/broken-");
    let _process = stage.run_slowly();
    for name in ["x", "y"] {
        stage.pod_with(
            name,
            &json!({
                "nodeSelector": {"team": "broken"},
                "tolerations": [{"key": "broken", "operator": "Exists"}],
                "containers": [{"name": "main", "resources": {"requests": {"cpu": "3"}}}],
            }),
        );
    }
    tokio::time::sleep(Duration::from_secs(20)).await;
    let broken = stage.claim_names();
    assert!(broken.iter().all(|name| name.starts_with("broken-")));
    assert_eq!(broken.len(), 2);
    assert_eq!(stage.machines().len(), 0);
    for name in ["a", "b", "c"] {
        stage.pod(name);
    }
    stage
        .until(240, "the others run, one a minute", |stage| {
            stage.running_pods() == 3
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn claims_that_wait_for_the_ceiling_longer_than_their_timeout_are_bought_all_the_same() {
    let stage = Stage::new();
    let _process = stage.run_slowly();
    for number in 0..8 {
        stage.pod(&format!("p{number}"));
    }
    tokio::time::sleep(Duration::from_secs(20)).await;
    let claims = stage.claim_names();
    assert_eq!(claims.len(), 8);
    stage
        .until(540, "every pod runs", |stage| stage.running_pods() == 8)
        .await;
    assert_eq!(stage.claim_names(), claims, "none was given up");
    assert_eq!(stage.machines().len(), 8, "none was bought twice");
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_the_ceiling_let_go_does_not_say_any_more_that_it_waits() {
    let stage = Stage::new();
    let _process = stage.run_slowly();
    stage.pod("a");
    tokio::time::sleep(Duration::from_secs(10)).await;
    stage.pod("b");
    let reason = |stage: &Stage| {
        let claims = stage.all(Resource::NodeClaim);
        let conditions = claims
            .iter()
            .filter_map(|claim| claim["status"]["conditions"].as_array())
            .flatten();
        conditions
            .filter(|condition| condition["type"] == "Launched" && condition["status"] != "True")
            .filter_map(|condition| condition["reason"].as_str().map(str::to_owned))
            .collect::<Vec<_>>()
    };
    stage
        .until(20, "it waits", |stage| reason(stage) == ["LaunchCeiling"])
        .await;
    stage.fail_launches(&[crate::sim::faults::CallFault::Throttled; 5]);
    stage
        .until(60, "it is being bought", |stage| {
            reason(stage) == ["Launching"]
        })
        .await;
    stage
        .until(120, "both run", |stage| stage.running_pods() == 2)
        .await;
}
