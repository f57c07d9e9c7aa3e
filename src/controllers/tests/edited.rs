//! Node classes that are edited while machines are bought through them.

use serde_json::json;

use super::Stage;
use crate::sim::api_server::Resource::{NodeClaim, NodeClass};
use crate::sim::faults::CallFault;

#[tokio::test(start_paused = true)]
async fn nothing_is_bought_through_an_edited_class_before_ec2_was_asked_about_it() {
    let stage = Stage::new();
    let _process = stage.run();
    stage.one_pod_runs().await;
    let faults = [CallFault::Internal; 4];
    stage.trouble.resolves.lock().unwrap().extend(faults);
    stage.change(NodeClass, "default", |class| {
        class["spec"]["tags"] = json!({ "team": "blue" });
    });
    stage.pod("b");
    stage
        .until(30, "its claim says what it waits for", |stage| {
            let claims = stage.all(NodeClaim);
            let mut conditions = claims
                .iter()
                .filter_map(|claim| claim["status"]["conditions"].as_array())
                .flatten();
            conditions.any(|condition| {
                condition["reason"] == "NodeClassNotReady"
                    && condition["message"]
                        .as_str()
                        .unwrap()
                        .contains("it was changed")
            })
        })
        .await;
    assert_eq!(stage.machines().len(), 1);
    stage
        .until(240, "both pods run", |stage| stage.running_pods() == 2)
        .await;
    let machines = stage.machines();
    let tagged = machines
        .iter()
        .filter(|machine| machine.tags.get("team").is_some_and(|team| team == "blue"));
    assert_eq!(tagged.count(), 1);
}
