//! The controller from end to end, in virtual time: pods wait, machines come, boot, are used and go.
//!
//! Beside the controller a stage hand plays everybody else: the kubelets of machines that run, the
//! scheduler, and the node controller that calls a dead kubelet's Node not ready.

mod api_server;
mod machines;
mod stories;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tokio::time::Instant;

use api_server::ApiServer;
use machines::{Machines, ids};

use super::context::{Acting, Context, Eyes, Parts};
use crate::cloud::Cloud;
use crate::cluster::Mirror;
use crate::cluster::apply::{Access, ApplyOptions, Kubernetes};
use crate::cluster::events::Recorder;
use crate::metrics::Metrics;
use crate::plan::lifecycle::LifecycleSettings;
use crate::plan::provision::ContestedPods;
use crate::settings::{Mode, Settings};
use crate::world::{Clock, World};

const NODES: &str = "/api/v1/nodes";
const PODS: &str = "/api/v1/pods";
const CLAIMS: &str = "/apis/karpenter.sh/v1/nodeclaims";
const POOLS: &str = "/apis/karpenter.sh/v1/nodepools";
const CLASSES: &str = "/apis/tonnage.dev/v1alpha1/ec2nodeclasses";
const EVENTS: &str = "/apis/events.k8s.io/v1/events";

/// The wall clock over Tokio's.
#[derive(Debug)]
struct VirtualClock(Instant);

impl Clock for VirtualClock {
    fn now(&self) -> Timestamp {
        let elapsed = SignedDuration::try_from(self.0.elapsed()).unwrap();
        Timestamp::from_second(1_800_000_000).unwrap() + elapsed
    }
}

/// Whether a process still lives: one that was killed waits for ever for its next answer.
#[derive(Debug, Clone)]
struct Fate(Arc<Mutex<Life>>);

#[derive(Debug)]
struct Life {
    dead: bool,
    writes: usize,
    fatal: Option<usize>,
}

impl Fate {
    fn immortal() -> Self {
        Self::fatal_after(None)
    }

    /// Dies after so many writes, each of which takes effect.
    fn fatal_after(fatal: Option<usize>) -> Self {
        Self(Arc::new(Mutex::new(Life {
            dead: false,
            writes: 0,
            fatal,
        })))
    }

    fn is_dead(&self) -> bool {
        self.0.lock().unwrap().dead
    }

    async fn before(&self) {
        if self.is_dead() {
            std::future::pending::<()>().await;
        }
    }

    async fn after(&self) {
        {
            let mut life = self.0.lock().unwrap();
            life.writes += 1;
            life.dead |= life.fatal.is_some_and(|fatal| life.writes >= fatal);
        }
        self.before().await;
    }
}

/// Everything around the controller.
struct Stage {
    clock: Arc<dyn Clock>,
    api: ApiServer,
    machines: Machines,
}

/// One run of the controller.
struct Process {
    world: World,
    fate: Fate,
}

impl Process {
    /// Ends it as SIGKILL does.
    fn kill(&self) {
        self.fate.0.lock().unwrap().dead = true;
        self.world.stop().cancel();
    }
}

fn settings(mode: Mode) -> Settings {
    Settings {
        mode,
        contested_pods: ContestedPods::Leave,
        drivers_on_demand: true,
        batch_idle: Duration::from_secs(1),
        batch_max: Duration::from_secs(10),
        plan_budget_ms: 1,
        price_band_percent: 100,
        nominate_pods: true,
        lifecycle: LifecycleSettings::default(),
        orphan_sweep: SignedDuration::from_secs(30),
        resolve_again: SignedDuration::from_mins(1),
    }
}

impl Stage {
    fn new() -> Self {
        let clock: Arc<dyn Clock> = Arc::new(VirtualClock(Instant::now()));
        let stage = Self {
            api: ApiServer::new(Arc::clone(&clock)),
            machines: Machines::new(Arc::clone(&clock)),
            clock,
        };
        stage.api.put(
            CLASSES,
            json!({
                "apiVersion": "tonnage.dev/v1alpha1", "kind": "EC2NodeClass",
                "metadata": {"name": "default"},
                "spec": {
                    "amiFamily": "AL2023",
                    "amiSelectorTerms": [{"id": "ami-1"}],
                    "subnetSelectorTerms": [{"id": "subnet-a"}],
                    "securityGroupSelectorTerms": [{"id": "sg-1"}],
                    "instanceProfile": "node",
                },
            }),
        );
        stage.api.put(
            POOLS,
            json!({
                "apiVersion": "karpenter.sh/v1", "kind": "NodePool",
                "metadata": {"name": "general"},
                "spec": {
                    "template": {"spec": {
                        "nodeClassRef": {"group": "tonnage.dev", "kind": "EC2NodeClass", "name": "default"},
                        "requirements": [
                            {"key": "karpenter.sh/capacity-type", "operator": "In", "values": ["spot", "on-demand"]},
                        ],
                        "expireAfter": "Never",
                    }},
                    "disruption": {"consolidationPolicy": "WhenEmpty", "consolidateAfter": "10s"},
                },
            }),
        );
        stage
    }

    /// Starts a controller.
    fn start(&self, mode: Mode, seed: u64, fate: Fate) -> Process {
        let world = World::new(Arc::clone(&self.clock), seed);
        let client = self.api.client(fate.clone());
        let mirror = Mirror::new();
        mirror.start(&client, &world);
        let metrics = Arc::new(Metrics::new());
        let options = ApplyOptions {
            access: match mode {
                Mode::Run => Access::ReadWrite,
                Mode::Observe => Access::ReadOnly,
            },
            per_second: 1_000.try_into().unwrap(),
            burst: 1_000.try_into().unwrap(),
            metrics: Arc::clone(&metrics),
        };
        let kubernetes = Kubernetes::new(client, mirror.clone(), world.clone(), options);
        let recorder = Recorder::start(&kubernetes, "test", Arc::clone(&metrics), &world);
        let cloud: Arc<dyn Cloud> = Arc::new(self.machines.of(fate.clone()));
        let context = Arc::new(Context::new(Parts {
            world: world.clone(),
            mirror,
            eyes: Eyes::new(Arc::clone(&cloud)),
            recorder,
            metrics,
            settings: settings(mode),
        }));
        let hands = Acting::new(&context, kubernetes, cloud);
        super::start(&context, hands.as_ref());
        Process { world, fate }
    }

    fn run(&self) -> Process {
        self.start(Mode::Run, 7, Fate::immortal())
    }

    /// A pod of three cores that kube-scheduler found no node for.
    fn pod(&self, name: &str) {
        self.api.put(
            PODS,
            json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {
                    "name": name, "namespace": "default",
                    "ownerReferences": [{
                        "apiVersion": "batch/v1", "kind": "Job", "name": "job", "uid": "job",
                        "controller": true,
                    }],
                },
                "spec": {
                    "schedulerName": "default-scheduler",
                    "containers": [{"name": "main", "resources": {"requests": {"cpu": "3", "memory": "4Gi"}}}],
                },
                "status": {"phase": "Pending", "conditions": [{
                    "type": "PodScheduled", "status": "False", "reason": "Unschedulable",
                }]},
            }),
        );
    }

    /// One turn of everybody else.
    fn others(&self) {
        let nodes = self.api.all(NODES);
        let known = |provider_id: &str| {
            nodes
                .iter()
                .any(|node| node["spec"]["providerID"] == provider_id)
        };
        for instance in self.machines.running() {
            if !known(&instance.provider_id()) {
                self.boot(&instance.private_dns_name, &instance.provider_id());
            }
        }
        let running = self.machines.running();
        for node in &nodes {
            let provider_id = node["spec"]["providerID"].as_str().unwrap_or_default();
            let alive = running
                .iter()
                .any(|instance| instance.provider_id() == provider_id);
            if !alive {
                let name = node["metadata"]["name"].as_str().unwrap();
                self.api.change(NODES, name, |node| {
                    node["status"]["conditions"][0]["status"] = json!("Unknown");
                });
            }
        }
        self.schedule(&nodes);
    }

    /// What a kubelet registers.
    fn boot(&self, name: &str, provider_id: &str) {
        let resources = json!({"cpu": "3920m", "memory": "7Gi", "pods": "58"});
        self.api.put(
            NODES,
            json!({
                "apiVersion": "v1", "kind": "Node",
                "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
                "spec": {
                    "providerID": provider_id,
                    "taints": [{"key": "karpenter.sh/unregistered", "effect": "NoExecute"}],
                },
                "status": {
                    "capacity": resources, "allocatable": resources,
                    "conditions": [{"type": "Ready", "status": "True"}],
                },
            }),
        );
    }

    /// Binds each waiting pod to a node that has no taint and no pod.
    fn schedule(&self, nodes: &[Value]) {
        let pods = self.api.all(PODS);
        let mut taken: Vec<Value> = pods
            .iter()
            .map(|pod| pod["spec"]["nodeName"].clone())
            .collect();
        for pod in pods.iter().filter(|pod| pod["spec"]["nodeName"].is_null()) {
            let free = nodes.iter().find(|node| {
                let taints = node["spec"]["taints"].as_array();
                taints.is_none_or(Vec::is_empty) && !taken.contains(&node["metadata"]["name"])
            });
            let Some(free) = free else { continue };
            let node = free["metadata"]["name"].clone();
            taken.push(node.clone());
            let name = pod["metadata"]["name"].as_str().unwrap();
            self.api.change(PODS, name, |pod| {
                pod["spec"]["nodeName"] = node;
                pod["status"]["phase"] = json!("Running");
                pod["status"]["startTime"] = json!("2027-01-15T08:00:00Z");
            });
        }
    }

    /// Lets time pass until something holds; fails after so many virtual seconds.
    async fn until(&self, seconds: u64, what: &str, holds: impl Fn(&Self) -> bool) {
        for _half_second in 0..seconds * 2 {
            self.others();
            if holds(self) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        let claims: Vec<String> = self
            .api
            .all(CLAIMS)
            .iter()
            .map(|claim| format!("{} {}", claim["metadata"], claim["status"]))
            .collect();
        panic!(
            "not within {seconds} s: {what}\nclaims {claims:#?}\nnodes {:#?}\nrunning {:?}",
            self.api.all(NODES),
            ids(&self.machines.running()),
        );
    }

    fn running_pods(&self) -> usize {
        let pods = self.api.all(PODS);
        pods.iter()
            .filter(|pod| pod["status"]["phase"] == "Running")
            .count()
    }

    /// True when nothing that costs money or stands for it is left.
    fn is_bare(&self) -> bool {
        self.machines.running().is_empty()
            && self.api.all(NODES).is_empty()
            && self.api.all(CLAIMS).is_empty()
    }

    /// Messages of events with a reason.
    fn told(&self, reason: &str) -> Vec<String> {
        let events = self.api.all(EVENTS);
        events
            .iter()
            .filter(|event| event["reason"] == reason)
            .map(|event| event["note"].as_str().unwrap_or_default().to_owned())
            .collect()
    }
}
