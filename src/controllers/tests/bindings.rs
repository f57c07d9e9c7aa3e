//! Pods are bound to the Nodes that were bought for them before these open for others.

use std::time::Duration;

use serde_json::{Value, json};

use super::Stage;
use crate::settings::{Mode, Settings};
use crate::sim::Process;
use crate::sim::api_server::Refusal;
use crate::sim::api_server::Resource::{Node, NodePool, Pod};
use crate::sim::embedded::default_settings;
use crate::sim::life::Life;

const TAINT: &str = "karpenter.sh/unregistered";

/// Pods are bound and nobody is nominated.
fn binds() -> Settings {
    Settings {
        nominate_pods: false,
        bind_pods: true,
        ..default_settings(Mode::Run, 1)
    }
}

impl Stage {
    fn run_binding(&self, seed: u64) -> Process {
        self.start_with(binds(), seed, Life::new())
    }

    /// A pod that leaves room for others in the memory of its machine.
    fn pod_beside_others(&self, name: &str, cpu: &str) {
        let requests = json!({ "cpu": cpu, "memory": "1Gi" });
        let container = json!({ "name": "main", "resources": { "requests": requests } });
        self.pod_with(name, &json!({ "containers": [container] }));
    }

    /// The taints of the first Node by key and effect.
    fn taints(&self) -> Vec<(String, String)> {
        let nodes = self.all(Node);
        let taints = nodes.first().map(|node| node["spec"]["taints"].clone());
        let taints = taints.and_then(|taints| taints.as_array().cloned());
        let text = |taint: &Value, field: &str| taint[field].as_str().unwrap().to_owned();
        taints
            .into_iter()
            .flatten()
            .map(|taint| (text(&taint, "key"), text(&taint, "effect")))
            .collect()
    }

    fn has_taint(&self, key: &str, effect: &str) -> bool {
        let wanted = (key.to_owned(), effect.to_owned());
        self.taints().contains(&wanted)
    }

    /// Waits until the first Node is registered and held.
    async fn until_held(&self) {
        self.until(120, "the Node is held", |stage| {
            stage.has_taint(TAINT, "NoSchedule")
        })
        .await;
    }

    async fn until_open(&self, seconds: u64) {
        self.until(seconds, "the Node is open", |stage| {
            let mut taints = stage.taints().into_iter();
            !stage.all(Node).is_empty() && !taints.any(|(key, _effect)| key == TAINT)
        })
        .await;
    }

    async fn until_running(&self, pods: usize) {
        self.until(300, "the pods run", |stage| stage.running_pods() == pods)
            .await;
    }

    fn node_of(&self, pod: &str) -> Value {
        let pods = self.all(Pod);
        let pod = pods.iter().find(|found| found["metadata"]["name"] == pod);
        pod.unwrap()["spec"]["nodeName"].clone()
    }
}

#[tokio::test(start_paused = true)]
async fn pods_are_bound_to_their_node_before_it_opens() {
    let stage = Stage::new();
    let mut lines = stage.world.history.listen();
    let _process = stage.run_binding(7);
    stage.pod_beside_others("a", "2");
    stage.pod_beside_others("b", "1");
    stage.until_running(2).await;
    stage.until_open(10).await;
    let mut deeds = Vec::new();
    while let Ok(line) = lines.try_recv() {
        let text = |field: &str| line.fields.get(field).and_then(|text| text.as_str());
        let is_node = text("object").is_some_and(|object| object.starts_with("nodes/"));
        match (text("client"), text("verb")) {
            (Some(who), Some("bind")) => deeds.push(format!("{who} binds")),
            (Some("tonnage"), Some(_patch)) if is_node => deeds.push("tonnage writes".to_owned()),
            _ => {}
        }
    }
    let expected = [
        "tonnage writes", // registered and held
        "tonnage binds",
        "tonnage binds",
        "tonnage writes", // open
    ];
    assert_eq!(deeds[..4], expected);
    // Nobody evicts them for the taint that the Node joined with.
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(stage.running_pods(), 2);
    assert_eq!(stage.machines().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_has_no_room_any_more_is_left_to_kube_scheduler() {
    let stage = Stage::new();
    let _process = stage.run_binding(7);
    stage.pod_beside_others("small", "500m");
    stage.pod_beside_others("large", "3");
    stage.until_held().await;
    let node = stage.all(Node)[0]["metadata"]["name"].clone();
    // Less than was planned with.
    let key = Stage::key(Node, node.as_str().unwrap());
    let change = |node: &mut Value| node["status"]["allocatable"]["cpu"] = json!("2");
    stage
        .world
        .api
        .change("kubelet", &key, Some("status"), change)
        .unwrap();
    stage.until_open(60).await;
    assert_eq!(stage.node_of("small"), node);
    assert_eq!(stage.node_of("large"), Value::Null);
    stage.until_running(2).await;
    assert_ne!(stage.node_of("large"), node);
}

#[tokio::test(start_paused = true)]
async fn a_controller_that_dies_while_a_node_is_held_leaves_nothing_closed() {
    for and_binds in [true, false] {
        let stage = Stage::new();
        let first = stage.run_binding(7);
        stage.pod("a");
        stage.until_held().await;
        first.kill();
        tokio::time::sleep(Duration::from_mins(1)).await;
        assert!(
            stage.has_taint(TAINT, "NoSchedule"),
            "nobody is there to open it"
        );
        let _second = if and_binds {
            stage.run_binding(8)
        } else {
            stage.start(Mode::Run, 8, Life::new())
        };
        stage.until_running(1).await;
        stage.until_open(10).await;
        assert_eq!(stage.machines().len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_not_granted_is_named_and_kube_scheduler_places_the_pods() {
    let stage = Stage::new();
    let forbidden = Refusal::new(403, "Forbidden", "pods \"a\" is forbidden");
    stage.refuse_as("/binding", forbidden);
    let _process = stage.run_binding(7);
    stage.one_pod_runs().await;
    stage
        .until(10, "it is told", |stage| {
            let told = stage.told("BindingForbidden").join(" ");
            told.contains("verb create on pods/binding") && told.contains("rbac.bindPods")
        })
        .await;
}

/// A Node whose network waits for a pod that the hold keeps away.
#[tokio::test(start_paused = true)]
async fn a_node_that_is_not_ready_in_time_opens_all_the_same() {
    const SLOW: &str = "readiness.k8s.io/network";
    let stage = Stage::new();
    let _process = stage.run_binding(7);
    stage.pod("a");
    stage.until_held().await;
    let name = stage.all(Node)[0]["metadata"]["name"].clone();
    let name = name.as_str().unwrap();
    stage.change(Node, name, |node| {
        let taints = node["spec"]["taints"].as_array_mut().unwrap();
        taints.push(json!({ "key": SLOW, "effect": "NoSchedule" }));
    });
    stage.until_open(40).await;
    assert!(stage.has_taint(SLOW, "NoSchedule"));
    assert_eq!(stage.running_pods(), 0);
    stage.change(Node, name, |node| node["spec"]["taints"] = json!([]));
    stage.until_running(1).await;
    assert_eq!(stage.machines().len(), 1);
}

/// What must be taken off by somebody else is waited for by kube-scheduler.
#[tokio::test(start_paused = true)]
async fn a_node_with_a_startup_taint_is_not_held() {
    let stage = Stage::new();
    stage.change(NodePool, "general", |pool| {
        pool["spec"]["template"]["spec"]["startupTaints"] =
            json!([{ "key": "agent-not-ready", "effect": "NoSchedule" }]);
    });
    let _process = stage.run_binding(7);
    stage.pod("a");
    stage
        .until(120, "the Node is registered", |stage| {
            stage.has_taint("agent-not-ready", "NoSchedule")
        })
        .await;
    stage.until_open(5).await;
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(stage.node_of("a"), Value::Null);
    let name = stage.all(Node)[0]["metadata"]["name"].clone();
    stage.change(Node, name.as_str().unwrap(), |node| {
        node["spec"]["taints"] = json!([]);
    });
    stage.until_running(1).await;
}
