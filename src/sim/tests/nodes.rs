//! What a cluster does about its Nodes, and about who is on them, when they are tainted or cordoned or lose their
//! machine.

use serde_json::{Value, json};

use super::machine::{Scene, pass, spec};
use crate::sim::ec2::machine::EndCause;

const CORDON: &str = "node.kubernetes.io/unschedulable";

/// A pod that tolerates the taint `maintenance` for so many seconds, or for ever.
fn patient(seconds: Option<u32>) -> Value {
    let mut spec = spec("100m");
    spec["tolerations"] = json!([{
        "key": "maintenance", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds,
    }]);
    spec
}

impl Scene {
    /// Whether the Node carries a taint.
    fn is_tainted(&self, key: &str) -> bool {
        let node = self.world.api.get(&self.node).unwrap_or_default();
        let taints = node["spec"]["taints"].as_array().cloned();
        taints
            .into_iter()
            .flatten()
            .any(|taint| taint["key"] == key)
    }

    fn has_node(&self) -> bool {
        self.world.api.get(&self.node).is_some()
    }

    /// The machine of the Node fails.
    fn fail_machine(&self) {
        for machine in self.world.ec2.alive() {
            self.world.ec2.end(machine.id(), EndCause::Failed);
        }
    }

    /// Nothing holds the Node when it is deleted.
    fn let_node_go(&self) {
        self.change_node(|node| node["metadata"]["finalizers"] = json!([]));
    }
}

#[tokio::test(start_paused = true)]
async fn a_taint_that_evicts_ends_those_who_run_when_they_do_not_tolerate_it_any_more() {
    let scene = Scene::begin().await;
    scene.pod("short", &patient(Some(60)));
    scene.pod("ever", &patient(None));
    pass(10).await;
    scene.set_taints(json!([{ "key": "maintenance", "effect": "NoExecute" }]));
    pass(5).await;
    let phases = ["first", "short", "ever"].map(|pod| scene.phase(pod));
    assert_eq!(phases, ["gone", "Running", "Running"]);
    pass(50).await;
    assert_eq!(scene.phase("short"), "Running");
    pass(10).await;
    let phases = ["short", "ever"].map(|pod| scene.phase(pod));
    assert_eq!(phases, ["gone", "Running"]);
}

#[tokio::test(start_paused = true)]
async fn the_time_for_which_a_taint_is_tolerated_begins_anew_when_the_taint_does() {
    let scene = Scene::begin().await;
    let maintenance = || json!([{ "key": "maintenance", "effect": "NoExecute" }]);
    scene.pod("short", &patient(Some(60)));
    pass(10).await;
    scene.set_taints(maintenance());
    pass(40).await;
    scene.set_taints(json!([]));
    pass(10).await;
    scene.set_taints(maintenance());
    pass(50).await;
    assert_eq!(scene.phase("short"), "Running");
    pass(15).await;
    assert_eq!(scene.phase("short"), "gone");
}

#[tokio::test(start_paused = true)]
async fn a_cordoned_node_takes_only_pods_that_tolerate_it() {
    let scene = Scene::begin().await;
    scene.change_node(|node| node["spec"]["unschedulable"] = json!(true));
    scene.pod("waits", &spec("100m"));
    let mut tolerant = spec("100m");
    tolerant["tolerations"] =
        json!([{ "key": CORDON, "operator": "Exists", "effect": "NoSchedule" }]);
    scene.pod("comes", &tolerant);
    pass(10).await;
    assert!(
        scene.is_tainted(CORDON),
        "whoever looks for a reason finds it"
    );
    let phases = ["first", "waits", "comes"].map(|pod| scene.phase(pod));
    assert_eq!(phases, ["Running", "Pending", "Running"]);
    scene.change_node(|node| node["spec"]["unschedulable"] = json!(false));
    pass(10).await;
    assert!(!scene.is_tainted(CORDON));
    assert_eq!(scene.phase("waits"), "Running");
}

#[tokio::test(start_paused = true)]
async fn the_node_of_a_machine_that_is_gone_is_deleted_once_it_is_not_ready() {
    let scene = Scene::begin().await;
    scene.let_node_go();
    scene.fail_machine();
    pass(45).await;
    assert!(scene.has_node(), "nobody has missed its kubelet yet");
    pass(15).await;
    assert!(!scene.has_node());
    pass(65).await;
    assert_eq!(scene.phase("first"), "gone");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_not_ready_stays_as_long_as_its_machine() {
    let scene = Scene::begin().await;
    scene.let_node_go();
    let unready = |node: &mut Value| {
        node["status"]["conditions"] = json!([{ "type": "Ready", "status": "False" }]);
    };
    let api = &scene.world.api;
    api.change("kubelet", &scene.node, Some("status"), unready)
        .unwrap();
    pass(120).await;
    assert!(scene.has_node());
    scene.fail_machine();
    pass(30).await;
    assert!(!scene.has_node(), "there is nothing to wait for");
}
