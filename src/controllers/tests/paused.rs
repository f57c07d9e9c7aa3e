//! A NodePool that is paused keeps what it has, and says what that costs.

use std::time::Duration;

use serde_json::json;

use super::Stage;
use crate::settings::Mode;
use crate::sim::api_server::Resource::{NodeClaim, NodePool, Pod};
use crate::sim::life::Life;

impl Stage {
    /// Sets the annotations of the NodePool.
    fn annotate_pool(&self, annotations: &serde_json::Value) {
        self.change(NodePool, "general", |pool| {
            pool["metadata"]["annotations"] = annotations.clone();
        });
    }
}

/// It is paid for all the while, and nobody may look for as long as the pool stays paused.
#[tokio::test(start_paused = true)]
async fn a_machine_without_a_claim_is_told_of_while_its_pool_is_paused_and_ended_when_it_goes_on() {
    let stage = Stage::new();
    let process = stage.run();
    stage.one_pod_runs().await;
    let machine = stage.running()[0].id.clone();
    process.kill();
    stage.annotate_pool(&json!({ "tonnage.dev/paused": "true" }));
    stage.delete(Pod, "a");
    for claim in stage.all(NodeClaim) {
        let name = claim["metadata"]["name"].as_str().unwrap();
        stage.change(NodeClaim, name, |claim| {
            claim["metadata"]["finalizers"] = json!([]);
        });
        stage.delete(NodeClaim, name);
    }
    stage
        .until(60, "nothing works there", |stage| stage.all(Pod).is_empty())
        .await;
    let _again = stage.start(Mode::Run, 8, Life::new());
    stage
        .until(300, "the NodePool says it", |stage| {
            !stage.told("OrphansHeld").is_empty()
        })
        .await;
    tokio::time::sleep(Duration::from_mins(30)).await;
    let told = stage.told("OrphansHeld");
    assert!(told.len() == 1 && told[0].contains(&machine), "{told:?}");
    assert_eq!(stage.running().len(), 1, "it stays");
    stage.annotate_pool(&json!({}));
    stage.until(300, "nothing is left", Stage::is_bare).await;
}
