//! The kubelets: a machine that runs joins with what its user data says, and its pods start and end.

use std::time::Duration;

use serde_json::{Value, json};

use super::agenda::Duty;
use super::cloud_controller::SEEN;
use super::user_data::{self, KubeletSettings};
use super::{Cluster, MOMENT, RUN_SECONDS};
use crate::cloud::capacity::{self, NodeShape};
use crate::cloud::facts;
use crate::cluster::observe::quantity;
use crate::model::instance::Instance;
use crate::model::pod::{Pod, PodPhase};
use crate::model::resources::{EFA, MEMORY, PODS, Resources};
use crate::sim::api_server::{Key, Resource, set_condition, text};
use crate::sim::clock::api_time;
use crate::sim::ec2::machine::Machine;

const WHO: &str = "kubelet";
/// Share of memory that the hypervisor really takes, basis points: a little less than is planned with.
const MEMORY_LOST: u32 = 700;
/// Memory below which a kubelet evicts: 100 MiB.
const EVICTION_MEMORY: i64 = 100 << 20;

/// From a Node's registration until it is ready, milliseconds: at least, and how much more at most.
pub const NETWORK: (u64, u64) = (3_000, 5_000);
/// From a pod's binding until its containers run, milliseconds: at least, and how much more at most.
pub const POD_START: (u64, u64) = (1_200, 3_800);

impl Cluster {
    /// Something happened to a machine.
    pub(super) fn machine_changed(&mut self, id: &str) {
        let Some(machine) = self.ec2.machine(id) else {
            return;
        };
        if let Some((at, _cause)) = machine.ended {
            let after = self.until(at);
            self.agenda.plan(Duty::Silence(id.to_owned()), after);
        } else if !machine.never_joins {
            let after = self.until(machine.running_at) + machine.boot;
            self.agenda.plan(Duty::Register(id.to_owned()), after);
        }
    }

    fn until(&self, at: jiff::Timestamp) -> Duration {
        Duration::try_from(at.duration_since(self.clock.now())).unwrap_or_default()
    }

    /// A kubelet comes up and registers its Node.
    pub(super) fn register(&mut self, id: &str) {
        let Some(machine) = self.ec2.machine(id) else {
            return;
        };
        if !machine.is_alive(self.clock.now()) {
            return;
        }
        let Some(settings) = user_data::read(&machine.user_data) else {
            tracing::warn!(
                instance = id,
                "the user data has no NodeConfig: it never joins"
            );
            return;
        };
        let Some(shown) = machine.shown(self.clock.now()) else {
            return;
        };
        let devices = machine.efa_devices();
        let node = self.node_object(&shown, &settings, devices, false);
        if self.api.create(WHO, node).is_ok() {
            self.kubelets.insert(id.to_owned(), shown.private_dns_name);
            self.agenda.plan(Duty::Identify(id.to_owned()), SEEN);
            let after = NETWORK.0 + self.random.below(NETWORK.1);
            self.agenda
                .plan(Duty::Ready(id.to_owned()), Duration::from_millis(after));
        }
    }

    /// The Node as its kubelet reports it; which type of machine it is, and where, the kubelet does not know.
    fn node_object(
        &self,
        instance: &Instance,
        settings: &KubeletSettings,
        devices: i64,
        ready: bool,
    ) -> Value {
        let offering = &instance.offering;
        let mut labels = settings.labels.clone();
        labels.extend(
            [
                ("kubernetes.io/hostname", instance.private_dns_name.as_str()),
                ("kubernetes.io/os", "linux"),
            ]
            .map(|(key, value)| (key.to_owned(), value.to_owned())),
        );
        let (capacity, allocatable) = sizes(&offering.instance_type, settings, devices);
        if let Some(facts) = facts::built_in().types.get(&offering.instance_type) {
            let architecture = facts.architecture.as_str().to_owned();
            labels.insert("kubernetes.io/arch".to_owned(), architecture);
        }
        let mut taints = settings.taints.clone();
        for effect in ["NoSchedule", "NoExecute"] {
            taints.push(json!({ "key": "node.kubernetes.io/not-ready", "effect": effect }));
        }
        let time = api_time(self.clock.now());
        let mut node = json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": { "name": instance.private_dns_name, "labels": labels },
            "spec": { "providerID": instance.provider_id(), "taints": taints },
            "status": {
                "capacity": quantity::quantities(&capacity),
                "allocatable": quantity::quantities(&allocatable),
            },
        });
        let (status, reason) = if ready {
            ("True", "KubeletReady")
        } else {
            ("False", "KubeletNotReady")
        };
        set_condition(&mut node, "Ready", status, reason, &time);
        node
    }

    /// The network of a Node is up: it is ready.
    pub(super) fn node_ready(&mut self, id: &str) {
        let Some(name) = self.kubelets.get(id) else {
            return;
        };
        let key = Key::new(Resource::Node, "", name);
        let time = api_time(self.clock.now());
        let status = self.api.change(WHO, &key, Some("status"), |node| {
            set_condition(node, "Ready", "True", "KubeletReady", &time);
        });
        if status.is_err() {
            return;
        }
        let untainted = self.api.change("node-controller", &key, None, |node| {
            if let Some(taints) = node["spec"]["taints"].as_array_mut() {
                taints.retain(|taint| taint["key"] != "node.kubernetes.io/not-ready");
            }
        });
        if untainted.is_err() {
            tracing::debug!(node = name, "gone before it was ready");
        }
    }

    /// The machine whose living kubelet looks after a node.
    pub(super) fn kubelet_of(&self, node: &str) -> Option<&str> {
        self.kubelets
            .iter()
            .find(|(_id, name)| *name == node)
            .map(|(id, _name)| id.as_str())
    }

    /// Sees what a kubelet has to do about a pod.
    pub(super) fn attend(&mut self, key: &Key, pod: &Pod) {
        let Some(node) = &pod.node_name else { return };
        if self.kubelet_of(node).is_none() {
            return;
        }
        if pod.deleting_until.is_some() {
            let grace = u64::try_from(pod.spec.termination_grace_seconds).unwrap_or(0);
            let takes = (200 + self.random.below(1_800)).min(grace * 1_000);
            let duty = Duty::StopPod(key.clone(), pod.uid.clone());
            self.agenda.plan(duty, Duration::from_millis(takes));
        } else if pod.phase == PodPhase::Pending && !self.starting.contains(&pod.uid) {
            if let Some(rejection) = self.refusal(key, pod) {
                self.reject(key, &rejection);
                return;
            }
            self.starting.insert(pod.uid.clone());
            // The image is pulled, the sandbox made.
            let takes = POD_START.0 + self.random.below(POD_START.1);
            let duty = Duty::StartPod(key.clone(), pod.uid.clone());
            self.agenda.plan(duty, Duration::from_millis(takes));
        }
    }

    /// A pod as it is, if it is there and its kubelet lives.
    pub(super) fn tended(&self, key: &Key, uid: &str) -> Option<Value> {
        let pod = self.api.get(key)?;
        let node = text(&pod, "/spec/nodeName");
        (text(&pod, "/metadata/uid") == uid && self.kubelet_of(node).is_some()).then_some(pod)
    }

    /// A pod's containers start.
    pub(super) fn start_pod(&mut self, key: &Key, uid: &str) {
        let Some(pod) = self.tended(key, uid) else {
            return;
        };
        if pod["metadata"]["deletionTimestamp"].is_string() {
            return;
        }
        let time = api_time(self.clock.now());
        let started = self.api.change(WHO, key, Some("status"), |pod| {
            pod["status"]["phase"] = json!("Running");
            pod["status"]["startTime"] = json!(time);
            set_condition(pod, "Ready", "True", "", &time);
        });
        if started.is_ok() {
            self.plan_end(key, uid, &pod);
        }
    }

    /// Plans the end of a pod whose process ends by itself, and whose containers start now.
    pub(super) fn plan_end(&mut self, key: &Key, uid: &str, pod: &Value) {
        let seconds = pod["metadata"]["annotations"][RUN_SECONDS]
            .as_str()
            .and_then(|seconds| seconds.parse::<u64>().ok());
        if let Some(seconds) = seconds {
            let duty = Duty::FinishPod(key.clone(), uid.to_owned());
            self.agenda.plan(duty, Duration::from_secs(seconds));
        }
    }

    /// A pod's process ends well.
    pub(super) fn finish_pod(&mut self, key: &Key, uid: &str) {
        if self.tended(key, uid).is_none() {
            return;
        }
        let time = api_time(self.clock.now());
        let finished = self.api.change(WHO, key, Some("status"), |pod| {
            pod["status"]["phase"] = json!("Succeeded");
            set_condition(pod, "Ready", "False", "PodCompleted", &time);
        });
        if finished.is_ok() {
            self.agenda.plan(Duty::Schedule, MOMENT);
        }
    }

    /// A pod that is being deleted has ended.
    pub(super) fn stop_pod(&mut self, key: &Key, uid: &str) {
        if self.tended(key, uid).is_some() && self.api.finish(WHO, key, uid).is_err() {
            tracing::debug!(pod = %key, "gone already");
        }
    }

    /// True while a machine's kubelet can speak.
    pub(super) fn speaks(&self, machine: &Machine) -> bool {
        machine.is_alive(self.clock.now())
    }
}

/// What a kubelet reports of its machine with so many Elastic Fabric Adapters, and what of it pods may use.
fn sizes(instance_type: &str, settings: &KubeletSettings, devices: i64) -> (Resources, Resources) {
    let Some(facts) = facts::built_in().types.get(instance_type) else {
        return (Resources::new(), Resources::new());
    };
    let shape = NodeShape {
        memory_overhead_basis_points: MEMORY_LOST,
        ..NodeShape::default()
    };
    let mut capacity = capacity::capacity(facts, &shape);
    capacity.set(PODS, settings.max_pods);
    capacity.set(EFA, devices);
    let mut allocatable = capacity.clone();
    allocatable.subtract(&settings.kube_reserved);
    allocatable.subtract(&settings.system_reserved);
    allocatable.set(MEMORY, allocatable.get(MEMORY) - EVICTION_MEMORY);
    (capacity, allocatable)
}
