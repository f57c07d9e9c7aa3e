//! Who is waited for on a node that goes, and for how long.

use std::time::Duration;

use serde_json::{Value, json};

use super::Stage;
use crate::api::labels::DO_NOT_DISRUPT;
use crate::controllers::tests::ids;
use crate::sim::api_server::Resource::{Node, NodeClaim, NodePool, Pod};
use crate::sim::cluster::RUN_SECONDS;
use crate::sim::history::Line;

impl Stage {
    fn annotate(&self, pod: &str, annotations: &Value) {
        self.change(Pod, pod, |pod| {
            pod["metadata"]["annotations"] = annotations.clone();
        });
    }

    /// The pod runs, and its Node is usable.
    async fn runs_on_a_usable_node(&self, pod: &str) {
        self.until(120, "it runs on a usable Node", |stage| {
            let nodes = stage.all(Node);
            let usable =
                |node: &Value| node["metadata"]["labels"]["karpenter.sh/initialized"] == "true";
            stage.phase(pod) == "Running" && nodes.iter().all(usable)
        })
        .await;
    }

    /// Somebody has the only node go.
    fn delete_the_claim(&self) {
        let claim = self.all(NodeClaim).remove(0);
        self.delete(NodeClaim, claim["metadata"]["name"].as_str().unwrap());
    }

    /// The place in the history of the first event of this kind about something.
    fn place(&self, event: &str, (field, about): (&str, &str)) -> usize {
        let lines = self.world.history.since(0);
        let is_it = |line: &Line| {
            let said = line.fields.get(field).and_then(Value::as_str);
            line.event == event && said == Some(about)
        };
        lines.iter().position(is_it).unwrap()
    }
}

/// Elsewhere pods that tolerate everything are never asked to leave a node that goes, and its machine is ended under
/// them; here what protects them holds, and the machine ends after them.
#[tokio::test(start_paused = true)]
async fn a_pod_that_tolerates_everything_leaves_before_its_machine_ends() {
    let stage = Stage::new();
    let _process = stage.run();
    stage.pod_with(
        "a",
        &json!({
            "tolerations": [{"operator": "Exists"}],
            "containers": [{"name": "main", "resources": {"requests": {"cpu": "3", "memory": "4Gi"}}}],
        }),
    );
    stage.runs_on_a_usable_node("a").await;
    let first = stage.running()[0].id.clone();
    stage.hold();
    stage.delete_the_claim();
    tokio::time::sleep(Duration::from_mins(10)).await;
    assert_eq!(stage.phase("a"), "Running", "the budget protects it");
    assert!(ids(&stage.running()).contains(&first));
    stage.free();
    stage.until(120, "nothing is left", Stage::is_bare).await;
    let left = stage.place("PodGone", ("pod", "default/a"));
    assert!(left < stage.place("InstanceEnds", ("instance", first.as_str())));
}

/// Elsewhere a protected pod keeps a node that goes, and what it costs, for as long as it likes; here either the
/// NodePool or the pod itself can say when that is over, and nothing is bought for it meanwhile.
#[tokio::test(start_paused = true)]
async fn a_protected_pod_keeps_a_node_that_goes_no_longer_than_it_was_given() {
    for (of_pool, of_pod) in [(Some("10m"), "true"), (None, "10m")] {
        let stage = Stage::new();
        if let Some(most) = of_pool {
            stage.change(NodePool, "general", |pool| {
                pool["spec"]["template"]["spec"]["terminationGracePeriod"] = json!(most);
            });
        }
        let _process = stage.run();
        stage.pod("a");
        stage.annotate("a", &json!({ DO_NOT_DISRUPT: of_pod }));
        stage.runs_on_a_usable_node("a").await;
        stage.delete_the_claim();
        tokio::time::sleep(Duration::from_mins(9)).await;
        assert_eq!(stage.phase("a"), "Running", "{of_pool:?} {of_pod}");
        assert_eq!(stage.running().len(), 1, "{of_pool:?} {of_pod}");
        stage.until(120, "nothing is left", Stage::is_bare).await;
        assert_eq!(stage.machines().len(), 1);
    }
}

/// Where neither says so the pod runs to its end, as long as that takes; the claim tells why it is still there, and
/// the machine is not paid for any longer than that.
#[tokio::test(start_paused = true)]
async fn a_job_that_must_not_be_disrupted_runs_to_its_end_and_its_machine_goes_then() {
    let stage = Stage::new();
    let _process = stage.run();
    stage.pod("job");
    stage.annotate(
        "job",
        &json!({ DO_NOT_DISRUPT: "true", RUN_SECONDS: "1200" }),
    );
    stage.runs_on_a_usable_node("job").await;
    stage.delete_the_claim();
    tokio::time::sleep(Duration::from_mins(15)).await;
    assert_eq!(stage.phase("job"), "Running");
    let claim = stage.all(NodeClaim).remove(0).to_string();
    assert!(
        claim.contains("default/job must not be disrupted and runs to its end"),
        "{claim}"
    );
    stage
        .until(420, "it has done its work", |stage| {
            stage.phase("job") == "Succeeded"
        })
        .await;
    stage.until(60, "nothing is left", Stage::is_bare).await;
    assert_eq!(stage.machines().len(), 1);
}
