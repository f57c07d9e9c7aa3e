//! The API server goes back to a backup, told as stories.

use std::time::Duration;

use serde_json::json;

use super::Stage;
use crate::sim::api_server::Resource::{NodePool, Pod};
use crate::sim::api_server::Versions;

#[tokio::test(start_paused = true)]
async fn a_restored_api_server_costs_nobody_a_fleet() {
    let stage = Stage::new();
    let backup = stage.world.api.backup();
    let _process = stage.run();
    for name in ["a", "b", "c", "d", "e"] {
        stage.pod(name);
    }
    stage
        .until(300, "every pod runs", |stage| stage.running_pods() == 5)
        .await;
    stage.world.api.restore(&backup, Versions::Raised);
    tokio::time::sleep(Duration::from_mins(15)).await;
    assert_eq!(stage.running().len(), 5, "nothing was terminated");
    let told = stage.told("OrphanCollectionHalted");
    let token = told
        .iter()
        .find_map(|message| message.rsplit_once("acknowledge-orphans="))
        .map(|(_before, token)| token.to_owned());
    let token = token.unwrap_or_else(|| panic!("nobody is told how to go on: {told:?}"));
    stage.change(NodePool, "general", |pool| {
        pool["metadata"]["annotations"] = json!({ "tonnage.dev/acknowledge-orphans": token });
    });
    stage
        .until(300, "what was acknowledged is collected", Stage::is_bare)
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_was_bound_in_the_backup_starts_once_more() {
    let stage = Stage::new();
    let _process = stage.run();
    stage.pod("a");
    stage
        .until(120, "the pod is bound", |stage| {
            stage
                .all(Pod)
                .iter()
                .any(|pod| pod["spec"]["nodeName"].is_string())
        })
        .await;
    let backup = stage.world.api.backup();
    assert_eq!(stage.running_pods(), 0, "its kubelet has not begun");
    stage
        .until(30, "the pod runs", |stage| stage.running_pods() == 1)
        .await;
    stage.world.api.restore(&backup, Versions::Raised);
    assert_eq!(stage.running_pods(), 0, "the backup knows nothing of it");
    stage
        .until(30, "the pod runs again", |stage| stage.running_pods() == 1)
        .await;
    assert_eq!(
        stage.machines().len(),
        1,
        "its machine is still the claim's"
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_there_counts_while_the_api_server_lists_nothing() {
    let stage = Stage::new();
    let _process = stage.run();
    stage.one_pod_runs().await;
    stage.change(NodePool, "general", |pool| {
        pool["spec"]["limits"] = json!({ "nodes": "1" });
    });
    tokio::time::sleep(Duration::from_secs(5)).await;
    stage.world.api.start_again(true);
    tokio::time::sleep(Duration::from_secs(5)).await;
    stage.pod("b");
    tokio::time::sleep(Duration::from_secs(40)).await;
    stage.world.api.start_again(false);
    tokio::time::sleep(Duration::from_mins(2)).await;
    assert_eq!(stage.machines().len(), 1, "the limit holds");
    assert_eq!(stage.running_pods(), 1);
}

#[tokio::test(start_paused = true)]
async fn versions_go_on_after_a_restore_or_are_counted_again() {
    let stage = Stage::new();
    let api = &stage.world.api;
    let backup = api.backup();
    let then = api.version();
    stage.pod("a");
    stage.pod("b");
    let last = api.version();
    api.restore(&backup, Versions::Raised);
    assert!(api.version() > last, "no version is given twice");
    stage.pod("a");
    api.restore(&backup, Versions::SetBack);
    assert_eq!(api.version(), then);
    assert!(stage.all(Pod).is_empty(), "what came since is gone");
}
