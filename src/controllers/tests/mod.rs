//! The controller from end to end, in the embedded world: pods wait, machines come, boot, are used
//! and go.
//!
//! The region sells one size here, so that two pods of three cores need two machines.

mod absence;
mod answers;
mod bindings;
mod bursts;
mod ceilings;
mod clocks;
mod edited;
mod harm;
mod known_faults;
mod leader;
mod learning;
mod no_shows;
mod notices;
mod paused;
mod placement;
mod refused;
mod reservations;
mod restore;
mod roles;
mod stories;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use crate::model::instance::{Instance, InstanceState};
use crate::model::offering::{CapacityType, OfferingKey};
use crate::settings::{InstanceNames, Mode, Settings};
use crate::sim::api_server::{DeleteOptions, Key, Refusal, Resource};
use crate::sim::embedded::{ProcessOptions, default_settings};
use crate::sim::faults::{About, CallFault, Calm, Faults, Journey, RequestFault};
use crate::sim::life::Life;
use crate::sim::{Embedded, Options, Process};

/// What goes wrong: with the next launch calls, and how late watches of pods are.
#[derive(Debug, Clone, Default)]
struct Trouble {
    launches: Arc<Mutex<VecDeque<CallFault>>>,
    resolves: Arc<Mutex<VecDeque<CallFault>>>,
    /// Parts of paths that no write may have, and what is said of them.
    refused: Arc<Mutex<Vec<(String, Refusal)>>>,
    /// The controller's role may not terminate instances.
    keeps_instances: Arc<AtomicBool>,
    /// CreateTags is throttled to nothing.
    tags_nothing: Arc<AtomicBool>,
    /// Whether the next claims that are made are refused.
    creates: Arc<Mutex<VecDeque<bool>>>,
    pods_late: Arc<Mutex<Duration>>,
    /// How long requests of a method for a kind are on their way.
    late: Arc<Mutex<BTreeMap<(&'static str, &'static str), Duration>>>,
    cut_off: Arc<Mutex<BTreeSet<String>>>,
    /// Those who learn of Nodes and pods late.
    behind: Arc<Mutex<BTreeSet<String>>>,
}

impl Faults for Trouble {
    fn request(&self, who: &str, method: &http::Method, path: &str) -> Journey {
        let mut journey = Calm.request(who, method, path);
        if path == "/api/v1/pods" {
            journey.lag = *self.pods_late.lock().unwrap();
        }
        let is_late = |(asked, kind): &(&str, &str)| method == asked && path.contains(kind);
        let late = self.late.lock().unwrap();
        if let Some((_kind, by)) = late.iter().find(|(late, _by)| is_late(late)) {
            journey.there = *by;
        }
        let late = ["/api/v1/pods", "/api/v1/nodes"].contains(&path);
        if late && self.behind.lock().unwrap().contains(who) {
            journey.lag = Duration::from_mins(2);
        }
        if self.cut_off.lock().unwrap().contains(who) {
            // A connection that is silent, not one that is refused.
            journey.there = Duration::from_mins(2);
            journey.fault = Some(RequestFault::Lost);
        }
        let create = method == http::Method::POST && path.ends_with("/nodeclaims");
        let next = create.then(|| self.creates.lock().unwrap().pop_front());
        let refused = self.refused.lock().unwrap();
        let mut refused = refused.iter().filter(|_part| method != http::Method::GET);
        let refused = refused.find(|(part, _refusal)| path.contains(part.as_str()));
        let next = next.flatten().filter(|is_refused| *is_refused);
        let next = next.map(|_refused| Refusal::invalid("not here"));
        if let Some(refusal) = next.or_else(|| refused.map(|(_part, refusal)| refusal.clone())) {
            journey.fault = Some(RequestFault::Refused(refusal));
        }
        journey
    }

    fn call(&self, who: &str, operation: &str, about: &About) -> (Duration, Option<CallFault>) {
        let (mut takes, _nothing) = Calm.call(who, operation, about);
        if operation == "CreateTags" && self.tags_nothing.load(Ordering::Relaxed) {
            takes = Duration::from_hours(1);
        }
        let keeps = self.keeps_instances.load(Ordering::Relaxed);
        let next = |faults: &Mutex<VecDeque<CallFault>>| faults.lock().unwrap().pop_front();
        let fault = match operation {
            "CreateFleet" => next(&self.launches),
            "DescribeSubnets" => next(&self.resolves),
            "TerminateInstances" => keeps.then_some(CallFault::Denied),
            _ => None,
        };
        (takes, fault)
    }
}

/// Everything around the controller.
struct Stage {
    world: Embedded,
    trouble: Trouble,
    owner: Value,
}

impl Stage {
    fn new() -> Self {
        let world = Embedded::begin(Options::calm(7));
        world
            .apply(json!({
                "apiVersion": "tonnage.dev/v1alpha1", "kind": "EC2NodeClass",
                "metadata": {"name": "default"},
                "spec": {
                    "amiFamily": "AL2023",
                    "amiSelectorTerms": [{"tags": {"tonnage.dev/discovery": "embedded"}}],
                    "subnetSelectorTerms": [{"tags": {"tonnage.dev/discovery": "embedded"}}],
                    "securityGroupSelectorTerms": [{"name": "nodes"}],
                    "instanceProfile": "node",
                },
            }))
            .unwrap();
        world
            .apply(json!({
                "apiVersion": "karpenter.sh/v1", "kind": "NodePool",
                "metadata": {"name": "general"},
                "spec": {
                    "template": {"spec": {
                        "nodeClassRef": {"group": "tonnage.dev", "kind": "EC2NodeClass", "name": "default"},
                        "requirements": [
                            {"key": "karpenter.sh/capacity-type", "operator": "In", "values": ["spot", "on-demand"]},
                            {"key": "node.kubernetes.io/instance-type", "operator": "In", "values": ["c5.xlarge"]},
                            {"key": "topology.kubernetes.io/zone", "operator": "In", "values": ["us-east-1a"]},
                        ],
                        "expireAfter": "Never",
                    }},
                    "disruption": {"consolidationPolicy": "WhenEmpty", "consolidateAfter": "10s"},
                },
            }))
            .unwrap();
        // Pods without a living owner would be collected as garbage.
        let owner = json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"name": "run", "namespace": "default"},
        });
        let owner = world.apply(owner).unwrap();
        Self {
            world,
            trouble: Trouble::default(),
            owner,
        }
    }

    fn fail_launches(&self, faults: &[CallFault]) {
        self.trouble.launches.lock().unwrap().extend(faults);
    }

    /// From now on the API server takes no write whose path has this part.
    fn refuse(&self, part: &str) {
        self.refuse_as(part, Refusal::invalid("not here"));
    }

    fn refuse_as(&self, part: &str, refusal: Refusal) {
        let mut refused = self.trouble.refused.lock().unwrap();
        refused.push((part.to_owned(), refusal));
    }

    /// The API server refuses those of the next claims that are made.
    fn refuse_creates(&self, refused: &[bool]) {
        self.trouble.creates.lock().unwrap().extend(refused);
    }

    /// The API server takes everything again.
    fn relent(&self) {
        self.trouble.refused.lock().unwrap().clear();
    }

    /// From now on a controller learns of Nodes and pods two minutes late.
    fn leave_behind(&self, who: &str) {
        self.trouble.behind.lock().unwrap().insert(who.to_owned());
        self.world.api.cut_watches(who);
    }

    /// From now on each event of a pod comes so much late, one after the other.
    fn delay_pods(&self, by: Duration) {
        *self.trouble.pods_late.lock().unwrap() = by;
        self.world.api.cut_watches("tonnage");
    }

    /// From now on requests of a method for a kind, as paths name it, are on their way for so long.
    fn delay(&self, method: &'static str, kind: &'static str, by: Duration) {
        let mut late = self.trouble.late.lock().unwrap();
        late.insert((method, kind), by);
    }

    /// Starts a controller.
    fn start(&self, mode: Mode, seed: u64, life: Life) -> Process {
        self.start_with(default_settings(mode, 1), seed, life)
    }

    fn start_with(&self, settings: Settings, seed: u64, life: Life) -> Process {
        self.world.start(ProcessOptions {
            life,
            faults: Arc::new(self.trouble.clone()),
            ..ProcessOptions::new(seed, settings)
        })
    }

    /// Starts a controller that tells each machine its names.
    fn run_with_names(&self) -> Process {
        let mut settings = default_settings(Mode::Run, 1);
        settings.instance_names = InstanceNames::OfNode;
        self.start_with(settings, 7, Life::new())
    }

    fn run(&self) -> Process {
        self.start(Mode::Run, 7, Life::new())
    }

    /// A pod of three cores.
    fn pod(&self, name: &str) {
        self.pod_of(name, "3");
    }

    fn pod_of(&self, name: &str, cpu: &str) {
        self.pod_with(
            name,
            &json!({
                "containers": [{"name": "main", "resources": {"requests": {"cpu": cpu, "memory": "4Gi"}}}],
            }),
        );
    }

    /// A pod of this spec that the owner owns.
    fn pod_with(&self, name: &str, spec: &Value) {
        self.world
            .apply(json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {
                    "name": name, "namespace": "default",
                    "ownerReferences": [{
                        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "name": "run",
                        "uid": self.owner["metadata"]["uid"], "controller": true,
                    }],
                },
                "spec": spec,
            }))
            .unwrap();
    }

    fn key(resource: Resource, name: &str) -> Key {
        let namespace = if resource.definition().namespaced {
            "default"
        } else {
            ""
        };
        Key::new(resource, namespace, name)
    }

    fn change(&self, resource: Resource, name: &str, change: impl FnOnce(&mut Value)) {
        let key = Self::key(resource, name);
        self.world.api.change("user", &key, None, change).unwrap();
    }

    fn delete(&self, resource: Resource, name: &str) {
        let key = Self::key(resource, name);
        // Deleting what is on its way already is as good.
        self.world
            .api
            .delete("user", &key, &DeleteOptions::default())
            .ok();
    }

    fn all(&self, resource: Resource) -> Vec<Value> {
        self.world.api.all(resource)
    }

    /// Everything ever launched.
    fn machines(&self) -> Vec<Instance> {
        let now = self.world.now();
        let machines = self.world.ec2.machines();
        machines
            .iter()
            .filter_map(|machine| machine.shown(now))
            .collect()
    }

    /// What is not on its way out.
    fn running(&self) -> Vec<Instance> {
        let mut machines = self.machines();
        machines.retain(|machine| {
            matches!(
                machine.state,
                InstanceState::Pending | InstanceState::Running
            )
        });
        machines
    }

    /// Launches a machine that no claim asked for.
    fn stray(&self) -> String {
        let offering = OfferingKey::new("c5.xlarge", "us-east-1a", CapacityType::OnDemand);
        self.world.ec2.stray("embedded", &offering)
    }

    /// Calls to terminate machines.
    fn terminations(&self) -> u64 {
        let calls = self.world.ec2.calls();
        calls
            .get("TerminateInstances")
            .map_or(0, |tally| tally.calls)
    }

    /// Lets time pass until something holds; fails after so many virtual seconds.
    async fn until(&self, seconds: u64, what: &str, holds: impl Fn(&Self) -> bool) {
        for _half_second in 0..seconds * 2 {
            if holds(self) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        let lines: Vec<String> = self
            .world
            .history
            .since(0)
            .iter()
            .map(crate::sim::history::Line::text)
            .collect();
        panic!(
            "not within {seconds} s: {what}\nrunning {:?}\n{}",
            ids(&self.running()),
            lines.join("\n"),
        );
    }

    /// Makes the pod `a` and waits until it runs.
    async fn one_pod_runs(&self) {
        self.pod("a");
        self.until(120, "the pod runs", |stage| stage.running_pods() == 1)
            .await;
    }

    /// Makes the pods `a` and `b` and waits until they run.
    async fn two_pods_run(&self) {
        self.pod("a");
        self.pod("b");
        self.until(300, "both pods run", |stage| stage.running_pods() == 2)
            .await;
    }

    /// No pod may be disrupted, until [`Self::free`].
    fn hold(&self) {
        let budget = json!({
            "apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
            "metadata": { "name": "held", "namespace": "default" },
            "spec": { "maxUnavailable": 0, "selector": {} },
        });
        self.world.apply(budget).unwrap();
    }

    /// Takes back what [`Self::hold`] did.
    fn free(&self) {
        self.delete(Resource::DisruptionBudget, "held");
    }

    fn running_pods(&self) -> usize {
        let pods = self.all(Resource::Pod);
        pods.iter()
            .filter(|pod| pod["status"]["phase"] == "Running")
            .count()
    }

    /// True when nothing that costs money or stands for it is left.
    fn is_bare(&self) -> bool {
        self.running().is_empty()
            && self.all(Resource::Node).is_empty()
            && self.all(Resource::NodeClaim).is_empty()
    }

    /// Messages of events with a reason.
    fn told(&self, reason: &str) -> Vec<String> {
        let events = self.all(Resource::Event);
        events
            .iter()
            .filter(|event| event["reason"] == reason)
            .map(|event| event["note"].as_str().unwrap_or_default().to_owned())
            .collect()
    }
}

/// The ids of instances, for messages.
fn ids(instances: &[Instance]) -> BTreeSet<String> {
    instances
        .iter()
        .map(|instance| instance.id.clone())
        .collect()
}
