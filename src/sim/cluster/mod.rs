//! Everybody else in the cluster: kube-scheduler, the kubelets of machines that run, the cloud controller, and
//! the controllers of Jobs, Deployments, DaemonSets, disruption budgets, silent and cordoned nodes, evicting taints and
//! garbage.
//!
//! One task plays them all. It is told what changed in the API server and in EC2, keeps an agenda of
//! what it will do, and does one thing at a time, so that equal seeds give equal histories. What it
//! does follows the rules that matter for buying and removing nodes, and it refuses what a real cluster
//! refuses of what is done to its nodes. Volumes and preemption are not played. Neither is what a Job makes of pods
//! that are deleted: those are replaced at once and count as no failure.

mod admit;
mod agenda;
mod budgets;
mod cloud_controller;
mod cordon;
mod daemons;
pub mod fit;
mod garbage;
mod jobs;
pub mod kubelet;
mod recovery;
mod replicas;
mod scheduler;
mod silence;
mod taint_eviction;
pub mod topology;
mod user_data;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1 as core;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::api_server::{ApiServer, Key, Resource, text};
use super::ec2::Ec2;
use crate::cluster::observe;
use crate::model;
use crate::world::{Clock, RandomStream, World};
use agenda::{Agenda, Duty};

/// The annotation that says how long the process of a pod runs before it ends well, seconds. The
/// doubles of machines in `hack/` read the same.
pub const RUN_SECONDS: &str = "tonnage.test/run-seconds";

/// A moment in which several changes become one look.
const MOMENT: Duration = Duration::from_millis(50);

/// The embedded cluster's own people.
#[derive(Debug)]
pub struct Cluster {
    api: ApiServer,
    ec2: Ec2,
    clock: Arc<dyn Clock>,
    objects: mpsc::UnboundedReceiver<Key>,
    machines: mpsc::UnboundedReceiver<String>,
    agenda: Agenda,
    pods: BTreeMap<Key, Arc<model::pod::Pod>>,
    nodes: BTreeMap<String, model::node::Node>,
    /// The pods that are bound to each node, which need not be there.
    tenants: BTreeMap<String, BTreeSet<Key>>,
    /// Nodes by the machine whose living kubelet made them.
    kubelets: BTreeMap<String, String>,
    /// Pods that kubelets have taken, by uid.
    starting: BTreeSet<String>,
    /// How far Jobs have come, by uid.
    progress: BTreeMap<String, jobs::Progress>,
    shed: taint_eviction::Shed,
    tolerating: taint_eviction::Tolerating,
    random: RandomStream,
    /// How often the API server has been restored, as far as it is known here.
    restores: usize,
}

impl Cluster {
    /// The people of a cluster; they begin when they are run.
    pub fn new(api: &ApiServer, ec2: &Ec2, clock: &Arc<dyn Clock>, world: &World) -> Self {
        Self {
            objects: api.listen(),
            machines: ec2.listen(),
            api: api.clone(),
            ec2: ec2.clone(),
            clock: Arc::clone(clock),
            agenda: Agenda::default(),
            pods: BTreeMap::new(),
            nodes: BTreeMap::new(),
            tenants: BTreeMap::new(),
            kubelets: BTreeMap::new(),
            starting: BTreeSet::new(),
            progress: BTreeMap::new(),
            shed: BTreeMap::new(),
            tolerating: BTreeMap::new(),
            random: world.random("cluster"),
            restores: 0,
        }
    }

    /// Plays until the world stops.
    pub async fn run(mut self, world: World) {
        let stop = world.stop().clone();
        self.agenda.plan(Duty::Minute, Duration::from_mins(1));
        loop {
            while let Some(duty) = self.agenda.take(Instant::now()) {
                self.perform(duty);
                self.hear();
            }
            let next = self.agenda.next();
            let due = async {
                match next {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                Some(key) = self.objects.recv() => self.changed(&key),
                Some(id) = self.machines.recv() => self.machine_changed(&id),
                () = due => {}
            }
            self.hear();
        }
    }

    /// Takes in everything that has changed by now.
    fn hear(&mut self) {
        while let Ok(key) = self.objects.try_recv() {
            self.changed(&key);
        }
        while let Ok(id) = self.machines.try_recv() {
            self.machine_changed(&id);
        }
        self.look_for_restore();
    }

    fn perform(&mut self, duty: Duty) {
        match duty {
            Duty::Schedule => self.schedule(),
            Duty::Register(machine) => self.register(&machine),
            Duty::Identify(machine) => self.identify(&machine),
            Duty::Ready(machine) => self.node_ready(&machine),
            Duty::Silence(machine) => self.silence(&machine),
            Duty::Unreachable(node) => self.unreachable(&node),
            Duty::LookAtNodes => self.look_at_nodes(),
            Duty::Evict(key) => self.evict_tolerating(&key),
            Duty::StartPod(key, uid) => self.start_pod(&key, &uid),
            Duty::FinishPod(key, uid) => self.finish_pod(&key, &uid),
            Duty::StopPod(key, uid) => self.stop_pod(&key, &uid),
            Duty::Sync(key) => self.sync(&key),
            Duty::Budgets => self.count_budgets(),
            Duty::Garbage => self.collect_garbage(),
            Duty::CollectPods => self.collect_pods(),
            Duty::Expire(key) => self.expire(&key),
            Duty::Minute => {
                self.ec2.pass_minute();
                self.agenda.plan(Duty::Minute, Duration::from_mins(1));
            }
        }
    }

    fn sync(&mut self, key: &Key) {
        match key.resource {
            Resource::Job => self.sync_job(key),
            Resource::Deployment => self.sync_deployment(key),
            Resource::ReplicaSet => self.sync_replica_set(key),
            Resource::DaemonSet => self.sync_daemon_set(key),
            _ => {}
        }
    }

    /// An object changed, came or went.
    fn changed(&mut self, key: &Key) {
        let object = self.api.get(key);
        let gone = object.is_none();
        let waits = object.as_ref().is_some_and(Self::awaits_collector);
        match key.resource {
            Resource::Pod => self.pod_changed(key, object),
            Resource::Node => self.node_changed(key, object),
            Resource::Job | Resource::Deployment | Resource::ReplicaSet | Resource::DaemonSet => {
                self.agenda.plan(Duty::Sync(key.clone()), MOMENT);
            }
            Resource::DisruptionBudget => self.agenda.plan(Duty::Budgets, MOMENT),
            _ => {}
        }
        if gone || waits {
            self.agenda.plan(Duty::Garbage, Duration::from_secs(1));
        }
    }

    fn pod_changed(&mut self, key: &Key, object: Option<Value>) {
        self.agenda.plan(Duty::Schedule, MOMENT);
        self.agenda.plan(Duty::Budgets, MOMENT);
        let Some(object) = object else {
            self.note_place(key, None);
            self.tolerating.remove(key);
            if let Some(pod) = self.pods.remove(key) {
                self.starting.remove(&pod.uid);
                self.plan_owner(key, &pod);
            }
            return;
        };
        let Ok(read) = serde_json::from_value::<core::Pod>(object) else {
            return;
        };
        let pod = Arc::new(observe::pod::pod(&read));
        self.note_place(key, pod.node_name.as_deref());
        self.plan_owner(key, &pod);
        self.attend(key, &pod);
        let known = self.pods.insert(key.clone(), Arc::clone(&pod));
        if known.is_none_or(|known| known.node_name.is_none()) {
            self.evict_by_taints(key, &pod);
        }
    }

    /// A pod is on this node from now on, or on none. Must be told before the pod itself is known anew.
    fn note_place(&mut self, key: &Key, node: Option<&str>) {
        let before = self.pods.get(key).and_then(|pod| pod.node_name.as_deref());
        if before == node {
            return;
        }
        if let Some(before) = before
            && let Some(tenants) = self.tenants.get_mut(before)
        {
            tenants.remove(key);
            if tenants.is_empty() {
                self.tenants.remove(before);
            }
        }
        if let Some(node) = node {
            let tenants = self.tenants.entry(node.to_owned()).or_default();
            tenants.insert(key.clone());
        }
    }

    /// Plans a look at the workload that a pod belongs to.
    fn plan_owner(&mut self, key: &Key, pod: &model::pod::Pod) {
        let Some(owner) = &pod.owner else { return };
        let resource = match owner.kind.as_str() {
            "Job" => Resource::Job,
            "ReplicaSet" => Resource::ReplicaSet,
            "DaemonSet" => Resource::DaemonSet,
            _ => return,
        };
        if resource == Resource::Job && pod.phase.is_terminal() {
            let progress = self.progress.entry(owner.uid.clone()).or_default();
            progress.note(&pod.uid, pod.phase);
        }
        let owner = Key::new(resource, &key.namespace, &owner.name);
        self.agenda.plan(Duty::Sync(owner), MOMENT);
    }

    fn node_changed(&mut self, key: &Key, object: Option<Value>) {
        self.agenda.plan(Duty::Schedule, MOMENT);
        let mut daemons = Vec::new();
        self.api.each(Resource::DaemonSet, |key, _daemon_set| {
            daemons.push(key.clone());
        });
        for daemon_set in daemons {
            self.agenda.plan(Duty::Sync(daemon_set), MOMENT);
        }
        let read = object.and_then(|object| serde_json::from_value::<core::Node>(object).ok());
        let read = read.map(|node| observe::node::node(&node));
        let are_weighed = self.note_taints(&key.name, read.as_ref());
        if let Some(node) = read {
            self.note_cordon(key, &node);
            self.note_readiness(&node);
            self.nodes.insert(key.name.clone(), node);
            if are_weighed {
                self.weigh_tenants(&key.name);
            }
        } else {
            self.nodes.remove(&key.name);
            // The collector of orphaned pods comes by every 20 s and waits 40 s more.
            let after = 40_000 + self.random.below(20_000);
            self.agenda
                .plan(Duty::CollectPods, Duration::from_millis(after));
        }
    }

    /// The pods that a workload made, with their keys.
    fn pods_of(&self, owner_uid: &str) -> Vec<(Key, Arc<model::pod::Pod>)> {
        self.pods
            .iter()
            .filter(|(_key, pod)| {
                pod.owner
                    .as_ref()
                    .is_some_and(|owner| owner.uid == owner_uid)
            })
            .map(|(key, pod)| (key.clone(), Arc::clone(pod)))
            .collect()
    }

    /// Creates a pod from a template for its owner.
    fn create_pod(&self, who: &str, owner: &Value, template: &Value) {
        let mut pod = template.clone();
        if !pod.is_object() {
            return;
        }
        pod["apiVersion"] = "v1".into();
        pod["kind"] = "Pod".into();
        if !pod["metadata"].is_object() {
            pod["metadata"] = serde_json::json!({});
        }
        let name = text(owner, "/metadata/name");
        pod["metadata"]["generateName"] = format!("{name}-").into();
        pod["metadata"]["namespace"] = owner["metadata"]["namespace"].clone();
        pod["metadata"]["ownerReferences"] = serde_json::json!([{
            "apiVersion": owner["apiVersion"],
            "kind": owner["kind"],
            "name": name,
            "uid": owner["metadata"]["uid"],
            "controller": true,
            "blockOwnerDeletion": true,
        }]);
        if let Err(refusal) = self.api.create(who, pod) {
            tracing::warn!(owner = name, %refusal, "the pod is not accepted");
        }
    }
}
