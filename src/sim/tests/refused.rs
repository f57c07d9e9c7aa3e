//! What kubelets refuse of the pods that are bound to their nodes, and what becomes of it.

use serde_json::{Value, json};

use super::machine::{BY_HAND, Scene, by_hand, pass, spec};
use crate::sim::api_server::{Key, Resource};
use crate::sim::scene::Work;

/// The spec of a small pod with a port on its host.
fn with_port(port: u16) -> Value {
    let mut spec = spec("100m");
    spec["containers"][0]["ports"] = json!([{ "containerPort": 80, "hostPort": port }]);
    spec
}

/// A workload of one pod that selects no node that there is, and that is bound by hand.
fn misled(mut workload: Value) -> Value {
    let template = &mut workload["spec"]["template"]["spec"];
    template["nodeSelector"] = json!({ "team": "nobody" });
    template["schedulerName"] = json!(BY_HAND);
    workload
}

fn work(name: &str) -> Work<'_> {
    Work {
        name,
        cpu: "100m",
        memory: "64Mi",
        gpus: 0,
        tolerates: None,
        role: None,
        pods: 1,
        seconds: None,
    }
}

impl Scene {
    /// The phases of a workload's pods, in their own order.
    fn phases(&self, workload: &str) -> Vec<String> {
        let mut phases = Vec::new();
        self.world.api.each(Resource::Pod, |key, pod| {
            if key.name.starts_with(workload) {
                phases.push(
                    pod["status"]["phase"]
                        .as_str()
                        .unwrap_or_default()
                        .to_owned(),
                );
            }
        });
        phases.sort();
        phases
    }

    /// Why pods have failed so far.
    fn refusals(&self) -> Vec<(String, String)> {
        let lines = self.world.history.since(0).into_iter();
        let failed = lines.filter(|line| line.event == "PodFailed");
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        failed
            .map(|line| (text(&line.fields["pod"]), text(&line.fields["reason"])))
            .collect()
    }
}

#[tokio::test(start_paused = true)]
async fn a_kubelet_refuses_what_does_not_fit_beside_what_it_has_taken() {
    let scene = Scene::begin().await;
    for (name, cpu) in [("a", "1"), ("b", "1"), ("c", "1"), ("d", "500m")] {
        scene.pod(name, &by_hand(spec(cpu)));
    }
    scene.bind_by_hand();
    pass(1).await;
    assert_eq!(
        scene.phase("c"),
        "Failed",
        "it is refused before anybody has started"
    );
    assert_eq!(scene.of_pod("c", "/status/reason"), "OutOfcpu");
    let message = scene.of_pod("c", "/status/message");
    let expected =
        "Pod was rejected: Node didn't have enough resource: cpu, requested: 1000, used: 3000, ";
    assert!(message.as_str().unwrap().starts_with(expected), "{message}");
    pass(10).await;
    for name in ["first", "a", "b", "d"] {
        assert_eq!(scene.phase(name), "Running", "{name}");
    }
    scene.delete("a");
    pass(5).await;
    scene.pod("e", &by_hand(spec("1")));
    scene.bind_by_hand();
    pass(10).await;
    assert_eq!(scene.phase("e"), "Running", "what has ended takes no room");
}

#[tokio::test(start_paused = true)]
async fn a_kubelet_refuses_pods_for_other_nodes_and_those_that_its_node_evicts() {
    let scene = Scene::begin().await;
    let mut elsewhere = by_hand(spec("100m"));
    elsewhere["nodeSelector"] = json!({ "team": "nobody" });
    scene.pod("elsewhere", &elsewhere);
    let mut dongle = by_hand(spec("100m"));
    dongle["containers"][0]["resources"]["requests"]["example.com/dongle"] = json!("1");
    scene.pod("dongle", &dongle);
    scene.bind_by_hand();
    pass(10).await;
    assert_eq!(scene.phase("dongle"), "Running", "no kubelet knows of them");
    scene.set_taints(json!([{ "key": "maintenance", "effect": "NoExecute" }]));
    scene.pod("late", &by_hand(spec("100m")));
    scene.bind_by_hand();
    pass(10).await;
    assert_eq!(scene.phase("late"), "gone", "and is deleted for the taint");
    let refused = [("elsewhere", "NodeAffinity"), ("late", "TaintToleration")];
    let refused = refused.map(|(pod, why)| (format!("default/{pod}"), why.to_owned()));
    assert_eq!(scene.refusals(), refused);
}

#[tokio::test(start_paused = true)]
async fn a_deployment_replaces_a_pod_that_is_refused() {
    let scene = Scene::begin().await;
    scene.world.apply(misled(work("web").deployment())).unwrap();
    pass(1).await;
    scene.bind_by_hand();
    pass(1).await;
    assert_eq!(scene.phases("web"), ["Failed", "Pending"]);
}

#[tokio::test(start_paused = true)]
async fn a_job_replaces_a_pod_that_is_refused_in_a_while_until_too_many_were() {
    let scene = Scene::begin().await;
    let mut job = misled(work("batch").job());
    job["spec"]["backoffLimit"] = json!(1);
    scene.world.apply(job).unwrap();
    pass(1).await;
    scene.bind_by_hand();
    pass(8).await;
    assert_eq!(
        scene.phases("batch"),
        ["Failed"],
        "it waits for ten seconds"
    );
    pass(4).await;
    assert_eq!(scene.phases("batch"), ["Failed", "Pending"]);
    scene.bind_by_hand();
    pass(40).await;
    assert_eq!(scene.phases("batch"), ["Failed", "Failed"]);
    let job = scene
        .world
        .api
        .get(&Key::new(Resource::Job, "default", "batch"))
        .unwrap();
    assert_eq!(job["status"]["failed"], 2);
    let condition = &job["status"]["conditions"][0];
    assert_eq!(condition["type"], "Failed", "{job}");
    assert_eq!(condition["reason"], "BackoffLimitExceeded");
    pass(30).await;
    assert!(
        scene.phases("batch").is_empty(),
        "it goes as one that is complete"
    );
}

#[tokio::test(start_paused = true)]
async fn a_port_of_a_host_is_given_once() {
    let scene = Scene::begin().await;
    scene.pod("a", &with_port(80));
    pass(10).await;
    scene.pod("b", &with_port(80));
    scene.pod("c", &with_port(81));
    scene.pod("d", &by_hand(with_port(80)));
    scene.bind_by_hand();
    pass(10).await;
    let phases = ["a", "b", "c", "d"].map(|pod| scene.phase(pod));
    assert_eq!(phases, ["Running", "Pending", "Running", "Failed"]);
    assert_eq!(scene.of_pod("d", "/status/reason"), "NodePorts");
    scene.delete("a");
    pass(20).await;
    assert_eq!(scene.phase("b"), "Running");
}
