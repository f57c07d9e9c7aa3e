//! The embedded world against the real control plane: the same scenes buy the same machines, put the
//! same pods together, and end with nothing.
//!
//! Each scene's pods are all there before a controller starts, so that one plan sees them all. On-demand
//! prices are the same everywhere; spot markets, which are each world's own, are held still at the same
//! prices. The scenes leave no room into which a pod could go because another machine came up before its own.

use std::collections::BTreeMap;

use kube::api::ListParams;
use serde_json::{Value, json};
use tonnage::settings::Mode;
use tonnage::sim::api_server::{DeleteOptions, Key, Resource};
use tonnage::sim::cluster::RUN_SECONDS;
use tonnage::sim::ec2::market::STILL_SPOT_PER_MILLE;
use tonnage::sim::embedded::{ProcessOptions, default_settings};
use tonnage::sim::scene::{Pool, Work, node_class};
use tonnage::sim::{Embedded, Options, runtime};

use crate::cluster::{Cluster, run};
use crate::controller::{Controller, Route};
use crate::waiting::eventually;
use crate::world::World;

/// What everything of both accounts is tagged with.
const DISCOVERED_AS: &str = "demo";
/// The zones that have subnets in both accounts.
const ZONES: [&str; 3] = ["us-east-1a", "us-east-1b", "us-east-1c"];
/// The work of a plan as the binary has it by default, milliseconds.
const PLAN_BUDGET: u64 = 100;
/// Seconds between the boots of machines. kube-scheduler takes nominations to a Node back that it tries while
/// the Node is still closed, as it does when others open in the same moment; EC2's machines do not.
const BOOTS_APART: u32 = 3;
/// Seconds from the start of the controller to the last pod running.
const TO_RUNNING: u64 = 120;
/// Seconds from the end of the work to nothing.
const TO_NOTHING: u64 = 90;

/// What keeps the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keeps {
    Nominations,
    /// The pods are bound by the controller, under the right that the chart gives for it, and the machines boot at once.
    Bindings,
}

/// NodePools, and work that is there at once.
#[derive(Debug, Clone)]
struct Scene {
    pools: Vec<Value>,
    work: Vec<Value>,
    pods: usize,
}

/// A machine's type, zone and capacity type, and the workloads whose pods share it.
type Machine = (String, String, String, Vec<String>);

/// Machines and how many of each there are.
type Fleet = BTreeMap<Machine, usize>;

fn pool(name: &'static str, families: &'static [&'static str]) -> Pool<'static> {
    Pool {
        name,
        node_class: "default",
        families,
        capacity_types: &["on-demand"],
        taint: None,
        empty_seconds: 5,
        weight: None,
        most_nodes: None,
    }
}

/// A workload that runs until it is deleted.
fn work<'text>(name: &'text str, pods: u32, cpu: &'text str, memory: &'text str) -> Work<'text> {
    Work {
        name,
        cpu,
        memory,
        gpus: 0,
        tolerates: None,
        role: None,
        pods,
        seconds: None,
    }
}

/// A Job that lasts for longer than the scene.
fn job(work: &Work<'_>) -> Value {
    let mut job = work.job();
    let template = &mut job["spec"]["template"]["metadata"];
    template["annotations"] = json!({ RUN_SECONDS: "3600" });
    job
}

/// A workload whose pods ask for nodes with a label.
fn only_on(mut workload: Value, label: &str, value: &str) -> Value {
    workload["spec"]["template"]["spec"]["nodeSelector"] = json!({ label: value });
    workload
}

/// A workload whose pods name their instance type.
fn pinned(workload: Value, instance_type: &str) -> Value {
    only_on(workload, "node.kubernetes.io/instance-type", instance_type)
}

/// Pods that keep away from each other, so that a limit on nodes is a limit on them.
fn apart(name: &str, pods: u32) -> Value {
    let mut workload = work(name, pods, "1500m", "2Gi").deployment();
    workload["spec"]["template"]["spec"]["affinity"] = json!({ "podAntiAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": [{
            "labelSelector": { "matchLabels": { "app": name } },
            "topologyKey": "kubernetes.io/hostname",
        }],
    }});
    workload
}

fn scene(pools: &[Pool<'_>], work: Vec<Value>) -> Scene {
    let manifests = pools.iter().map(|pool| {
        let mut manifest = pool.manifest();
        let requirements = &mut manifest["spec"]["template"]["spec"]["requirements"];
        requirements.as_array_mut().unwrap().push(
            json!({ "key": "topology.kubernetes.io/zone", "operator": "In", "values": ZONES }),
        );
        manifest
    });
    let count = |workload: &Value| {
        let spec = &workload["spec"];
        let count = spec["replicas"]
            .as_u64()
            .or_else(|| spec["parallelism"].as_u64());
        usize::try_from(count.unwrap()).unwrap()
    };
    Scene {
        pools: manifests.collect(),
        pods: work.iter().map(count).sum(),
        work,
    }
}

fn class() -> Value {
    let mut class = node_class("default", DISCOVERED_AS, 20);
    class["spec"]["instanceProfile"] = json!("tonnage-node");
    class
}

fn fleet(nodes: &[Value], pods: &[Value]) -> Fleet {
    let mut fleet = Fleet::new();
    for node in nodes {
        let label = |key: &str| {
            let label = node["metadata"]["labels"][key].as_str();
            label.unwrap_or_default().to_owned()
        };
        let mut shared: Vec<String> = pods
            .iter()
            .filter(|pod| pod["spec"]["nodeName"] == node["metadata"]["name"])
            .map(|pod| {
                pod["metadata"]["labels"]["app"]
                    .as_str()
                    .unwrap()
                    .to_owned()
            })
            .collect();
        shared.sort();
        let machine = (
            label("node.kubernetes.io/instance-type"),
            label("topology.kubernetes.io/zone"),
            label("karpenter.sh/capacity-type"),
            shared,
        );
        *fleet.entry(machine).or_default() += 1;
    }
    fleet
}

/// Plays a scene in the embedded world.
async fn embedded(scene: &Scene, keeps: Keeps) -> Fleet {
    let world = Embedded::begin(Options {
        cluster: DISCOVERED_AS.to_owned(),
        ..Options::calm(1)
    });
    for object in [class()].iter().chain(&scene.pools).chain(&scene.work) {
        world.apply(object.clone()).unwrap();
    }
    let count = |resource| world.api.count(resource);
    eventually("the pods are there", 60, async || {
        let pods = count(Resource::Pod);
        (pods == scene.pods)
            .then_some(())
            .ok_or_else(|| pods.to_string())
    })
    .await;
    let mut settings = default_settings(Mode::Run, PLAN_BUDGET);
    settings.bind_pods = keeps == Keeps::Bindings;
    settings.nominate_pods = keeps == Keeps::Nominations;
    let process = world.start(ProcessOptions::new(1, settings));
    eventually("the pods run", 600, async || {
        let pods = world.api.all(Resource::Pod);
        let running = pods
            .iter()
            .filter(|pod| pod["status"]["phase"] == "Running");
        let running = running.count();
        (running == scene.pods)
            .then_some(())
            .ok_or_else(|| running.to_string())
    })
    .await;
    let nodes = world.api.all(Resource::Node);
    let bought = fleet(&nodes, &world.api.all(Resource::Pod));
    assert_eq!(nodes.len(), count(Resource::NodeClaim));
    for object in &scene.work {
        let resource = Resource::of_object(object).unwrap();
        let name = object["metadata"]["name"].as_str().unwrap();
        let key = Key::new(resource, "default", name);
        let deleted = world.api.delete("user", &key, &DeleteOptions::default());
        drop(deleted.unwrap());
    }
    eventually("nothing is left", 600, async || {
        let left = (
            count(Resource::Node),
            count(Resource::NodeClaim),
            world.ec2.alive().len(),
        );
        (left == (0, 0, 0))
            .then_some(())
            .ok_or_else(|| format!("{left:?}"))
    })
    .await;
    process.stop().await;
    world.end().await;
    bought
}

/// Plays a scene on the real control plane, with the real binary.
async fn real(scene: &Scene, keeps: Keeps) -> Fleet {
    let world = World::fresh().await;
    let mut arguments: &[&str] = &[];
    if keeps == Keeps::Bindings {
        let values = ["rbac.bindPods=true", "rbac.nominatePods=false"];
        Cluster::install_chart_with("run", &values);
        arguments = &["--bind-pods=true", "--nominate-pods=false"];
    } else {
        world.endpoint.boot_apart(BOOTS_APART).await;
    }
    world.endpoint.hold_spot_prices(STILL_SPOT_PER_MILLE).await;
    for object in [class()].iter().chain(&scene.pools).chain(&scene.work) {
        world.cluster.apply(object.clone()).await;
    }
    world.cluster.wait_for_waiting(scene.pods).await;
    let controller = Controller::start(Route::Direct, arguments).await;
    world.cluster.wait_for_started(scene.pods, TO_RUNNING).await;
    if keeps == Keeps::Bindings {
        let bound = bound_by(&controller).await;
        assert_eq!(bound, scene.pods, "kube-scheduler found nothing left to do");
    }
    let listed = world.cluster.pods().list(&ListParams::default()).await;
    let pods = listed.unwrap().items;
    let pods: Vec<Value> = pods.iter().map(|pod| json!(pod)).collect();
    let nodes = world.cluster.worker_nodes().await;
    let nodes: Vec<Value> = nodes.iter().map(|node| json!(node)).collect();
    let bought = fleet(&nodes, &pods);
    let machines = world.endpoint.machines().await;
    assert_eq!(nodes.len(), machines.len(), "one node for each machine");
    let deletion = ["delete", "deployments,jobs", "--all", "--wait=false"];
    drop(run("kubectl", &deletion));
    world
        .cluster
        .wait_for_nothing(&world.endpoint, TO_NOTHING)
        .await;
    assert_eq!(controller.stop().await, Some(0), "SIGTERM ends cleanly");
    bought
}

/// How many pods a controller has bound.
async fn bound_by(controller: &Controller) -> usize {
    let metrics = controller.metrics_text().await;
    let mut lines = metrics.lines();
    let bound = lines.find(|line| {
        line.starts_with("tonnage_kubernetes_calls_total{")
            && line.contains("create pods/binding")
            && line.contains("success")
    });
    let bound = bound.and_then(|line| line.rsplit(' ').next());
    bound.map_or(0, |count| count.parse().unwrap())
}

/// Plays a scene in both worlds, and gives back what both have bought.
async fn twin(scene: &Scene) -> Fleet {
    twin_kept_by(scene, Keeps::Nominations).await
}

async fn twin_kept_by(scene: &Scene, keeps: Keeps) -> Fleet {
    let copy = scene.clone();
    // Virtual time wants a runtime, and so a thread, of its own.
    let embedded = std::thread::spawn(move || runtime::run(embedded(&copy, keeps)).unwrap());
    let real = real(scene, keeps).await;
    let embedded = embedded.join().unwrap();
    assert_eq!(
        embedded, real,
        "left: the embedded world; right: the real control plane"
    );
    real
}

fn is_spot((_type, _zone, capacity_type, _shared): &Machine) -> bool {
    capacity_type == "spot"
}

#[tokio::test]
async fn ten_executors_and_jobs_buy_the_same_machines_in_both_worlds() {
    let executors = Pool {
        taint: Some(("dedicated", "executor")),
        weight: Some(10),
        most_nodes: Some(20),
        ..pool("executors", &["c5"])
    };
    let executor = Work {
        tolerates: Some("dedicated"),
        ..work("executor", 10, "2", "4Gi")
    };
    twin(&scene(
        &[executors, pool("general", &["c5", "t3"])],
        vec![
            only_on(executor.deployment(), "karpenter.sh/nodepool", "executors"),
            job(&work("small", 1, "500m", "512Mi")),
            job(&work("large", 1, "4", "8Gi")),
        ],
    ))
    .await;
}

#[tokio::test]
async fn a_burst_of_fifty_executors_buys_the_same_machines_in_both_worlds() {
    twin(&scene(
        &[pool("general", &["c5", "m5", "r5"])],
        vec![
            work("executor", 40, "2", "4Gi").deployment(),
            work("cache", 10, "1", "6Gi").deployment(),
        ],
    ))
    .await;
}

#[tokio::test]
async fn a_burst_of_executors_is_bound_as_planned_to_the_same_spot_machines_in_both_worlds() {
    let scene = scene(
        &[Pool {
            capacity_types: &["spot"],
            ..pool("general", &["c5", "m5", "r5"])
        }],
        vec![
            work("executor", 24, "2", "4Gi").deployment(),
            work("cache", 6, "1", "6Gi").deployment(),
        ],
    );
    let fleet = twin_kept_by(&scene, Keeps::Bindings).await;
    assert!(fleet.keys().all(is_spot), "{fleet:?}");
}

#[tokio::test]
async fn a_driver_on_demand_and_its_executors_on_spot_buy_the_same_machines_in_both_worlds() {
    let both = Pool {
        capacity_types: &["spot", "on-demand"],
        ..pool("general", &["c5", "t3"])
    };
    let only =
        |workload, capacity_type| only_on(workload, "karpenter.sh/capacity-type", capacity_type);
    let driver = only(job(&work("driver", 1, "1", "2Gi")), "on-demand");
    let executors = only(job(&work("executor", 12, "2", "4Gi")), "spot");
    let fleet = twin(&scene(&[both], vec![driver, executors])).await;
    assert!(fleet.keys().any(is_spot), "{fleet:?}");
    assert!(!fleet.keys().all(is_spot), "{fleet:?}");
}

#[tokio::test]
async fn gpu_jobs_buy_the_same_machines_in_both_worlds() {
    let gpu = Pool {
        taint: Some(("nvidia.com/gpu", "true")),
        ..pool("gpu", &["g4dn"])
    };
    let train = Work {
        gpus: 1,
        tolerates: Some("nvidia.com/gpu"),
        ..work("train", 2, "2", "8Gi")
    };
    twin(&scene(
        &[gpu, pool("general", &["c5", "t3"])],
        vec![job(&train), job(&work("report", 1, "1", "1Gi"))],
    ))
    .await;
}

#[tokio::test]
async fn a_full_heavier_pool_leaves_the_rest_to_the_other_in_both_worlds() {
    let preferred = Pool {
        weight: Some(50),
        most_nodes: Some(1),
        ..pool("preferred", &["m5"])
    };
    twin(&scene(
        &[preferred, pool("other", &["c5"])],
        vec![apart("wide", 6)],
    ))
    .await;
}

#[tokio::test]
async fn pinned_workloads_buy_the_same_machines_in_both_worlds() {
    twin(&scene(
        &[pool("general", &["c5", "t3"])],
        vec![
            pinned(work("executor", 6, "2", "4Gi").deployment(), "c5.xlarge"),
            pinned(job(&work("small", 2, "500m", "512Mi")), "t3.medium"),
            pinned(job(&work("large", 1, "4", "8Gi")), "c5.2xlarge"),
        ],
    ))
    .await;
}
