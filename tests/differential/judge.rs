//! Some sets at a time: planned, carried out, and compared with what kube-scheduler does.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use crate::cluster::{Cluster, key};
use crate::generate::{Set, machines};
use crate::objects;
use crate::plan::{Planned, plan};
use crate::waiting::eventually;

/// kube-scheduler tries a pod again after at most ten seconds; nothing new for longer is its verdict.
const QUIET: Duration = Duration::from_secs(15);
/// Seconds after which pods that are still being bound one by one are a failure.
const LONGEST: u64 = 600;

/// What came out.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    sets: usize,
    nodes: usize,
    bound: usize,
    /// Pods that kube-scheduler had to be shown anew.
    anew: usize,
    refused: usize,
    limited: usize,
    pub(crate) disagreements: Vec<String>,
}

impl Verdict {
    pub(crate) fn add(&mut self, other: Self) {
        self.sets += other.sets;
        self.nodes += other.nodes;
        self.bound += other.bound;
        self.anew += other.anew;
        self.refused += other.refused;
        self.limited += other.limited;
        self.disagreements.extend(other.disagreements);
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{} sets, {} nodes planned: {} placed pods bound ({} shown anew), {} left out and refused, {} left out by limits, {} disagreements",
            self.sets,
            self.nodes,
            self.bound,
            self.anew,
            self.refused,
            self.limited,
            self.disagreements.len()
        )
    }
}

/// A set with its plan.
struct Case<'sets> {
    set: &'sets Set,
    plan: Planned,
}

/// Judges these sets and removes them again.
pub(crate) async fn batch(cluster: &Cluster, sets: &[Set]) -> Verdict {
    create(cluster, sets).await;
    let cases = planned(cluster, sets).await;
    let mut verdict = Verdict {
        sets: sets.len(),
        ..Verdict::default()
    };
    let (mut nodes, zones) = plan_nodes(&cases);
    verdict.nodes = nodes.len();
    let (standing, where_they_are) = standing_nodes(sets);
    nodes.extend(standing);
    let zones = zones.into_iter().chain(where_they_are).collect();
    carry_out(cluster, &cases, &nodes, &zones, &mut verdict).await;
    let every = try_the_rest(cluster, &cases, zones, &mut verdict).await;
    nodes.extend(every);
    remove(cluster, sets, &nodes).await;
    verdict
}

fn keys(set: &Set) -> BTreeSet<String> {
    set.pods.iter().map(key).collect()
}

fn is_gated(pod: &Value) -> bool {
    pod["spec"]["schedulingGates"].is_array()
}

async fn create(cluster: &Cluster, sets: &[Set]) {
    let of_kind = |wanted: bool| -> Vec<Value> {
        sets.iter()
            .flat_map(|set| &set.objects)
            .filter(|object| (object["kind"] == "Namespace") == wanted)
            .cloned()
            .collect()
    };
    let spaces = of_kind(true);
    cluster.create_all(&spaces).await;
    let names: Vec<String> = spaces
        .iter()
        .filter_map(|space| Some(space["metadata"]["name"].as_str()?.to_owned()))
        .collect();
    cluster.wait_for_accounts(&names).await;
    let objects = of_kind(false);
    // Volumes and defaults before what counts on them.
    cluster.create_all(&objects).await;
    eventually("defaults are known to admission", 30, async || {
        let ranges = cluster.list("v1", "LimitRange").await.len();
        let wanted = objects
            .iter()
            .filter(|object| object["kind"] == "LimitRange")
            .count();
        if ranges >= wanted {
            Ok(())
        } else {
            Err(format!("{ranges} of {wanted}"))
        }
    })
    .await;
    let pods: Vec<Value> = sets.iter().flat_map(|set| set.pods.clone()).collect();
    cluster.create_all(&pods).await;
}

/// Waits until kube-scheduler has looked at every pod in vain, and plans for each set.
async fn planned<'sets>(cluster: &Cluster, sets: &'sets [Set]) -> Vec<Case<'sets>> {
    let wanted: BTreeSet<String> = sets.iter().flat_map(keys).collect();
    let pods = eventually("kube-scheduler has refused every pod", 90, async || {
        let pods = cluster.pods().await;
        let open: Vec<&String> = wanted
            .iter()
            .filter(|name| {
                pods.get(*name)
                    .is_none_or(|pod| !is_gated(pod) && refusal(pod).is_none())
            })
            .collect();
        let claims = cluster.list("v1", "PersistentVolumeClaim").await;
        let loose = claims.iter().filter(|claim| {
            !claim["spec"]["volumeName"].is_null() && claim["status"]["phase"] != "Bound"
        });
        if open.is_empty() && loose.count() == 0 {
            Ok(pods)
        } else {
            Err(format!("{open:?}"))
        }
    })
    .await;
    let mut world = Vec::new();
    for (version, kind) in [
        ("v1", "Namespace"),
        ("v1", "PersistentVolumeClaim"),
        ("v1", "PersistentVolume"),
        ("v1", "LimitRange"),
        ("storage.k8s.io/v1", "StorageClass"),
        ("scheduling.k8s.io/v1", "PriorityClass"),
    ] {
        world.extend(cluster.list(version, kind).await);
    }
    sets.iter()
        .map(|set| {
            let own = keys(set);
            let mut all = objects::pools(set);
            // They come into the cluster with the plan's nodes, or their room would be taken before the plan.
            all.extend(objects::standing(set).into_iter().flatten());
            all.extend(objects::occupants(set));
            all.extend(world.iter().cloned());
            all.extend(
                pods.iter()
                    .filter(|(name, _pod)| own.contains(*name))
                    .map(|(_name, pod)| pod.clone()),
            );
            Case {
                set,
                plan: plan(&set.name, &all),
            }
        })
        .collect()
}

/// Why kube-scheduler last refused a pod, once what it waits for beside nodes is there.
fn refusal(pod: &Value) -> Option<&str> {
    let conditions = pod["status"]["conditions"].as_array()?;
    let scheduled = conditions
        .iter()
        .find(|condition| condition["type"] == "PodScheduled")?;
    let message = scheduled["message"].as_str().unwrap_or_default();
    let settled = [
        "ephemeral volume controller",
        "not found",
        "was not created for",
    ]
    .iter()
    .all(|waiting| !message.contains(waiting));
    (scheduled["status"] == "False" && scheduled["reason"] == "Unschedulable" && settled)
        .then_some(message)
}

fn is_bound(pods: &BTreeMap<String, Value>, name: &str) -> bool {
    pods.get(name)
        .is_some_and(|pod| pod["spec"]["nodeName"].is_string())
}

fn node_name(set: &Set, index: usize) -> String {
    format!("{}-node-{index}", set.name)
}

fn plan_nodes(cases: &[Case<'_>]) -> (Vec<[Value; 2]>, BTreeMap<String, String>) {
    let mut nodes = Vec::new();
    let mut zones = BTreeMap::new();
    for case in cases {
        for (index, (pool, machine, zone, _pods)) in case.plan.nodes.iter().enumerate() {
            let name = node_name(case.set, index);
            let pool = case.set.pools.iter().find(|known| known.name == *pool);
            let machine = machines().into_iter().find(|known| known.name == machine);
            nodes.push(objects::node(&name, pool.unwrap(), &machine.unwrap(), zone));
            zones.insert(name, zone.clone());
        }
    }
    (nodes, zones)
}

/// The nodes that stand already, with their zones.
fn standing_nodes(sets: &[Set]) -> (Vec<[Value; 2]>, BTreeMap<String, String>) {
    let nodes = sets.iter().flat_map(objects::standing).collect();
    let all = sets.iter().flat_map(|set| &set.standing);
    let zones = all.map(|found| (found.name.clone(), found.zone.to_owned()));
    (nodes, zones.collect())
}

/// Creates the plan's nodes; every pod that it placed must be bound, and no other.
async fn carry_out(
    cluster: &Cluster,
    cases: &[Case<'_>],
    nodes: &[[Value; 2]],
    zones: &BTreeMap<String, String>,
    verdict: &mut Verdict,
) {
    let mut placed: BTreeMap<String, String> = BTreeMap::new();
    for case in cases {
        for (index, (_, _, _, pods)) in case.plan.nodes.iter().enumerate() {
            for pod in pods {
                placed.insert(pod.clone(), node_name(case.set, index));
            }
        }
        for (node, pods) in &case.plan.existing {
            placed.extend(pods.iter().map(|pod| (pod.clone(), node.clone())));
        }
    }
    // Pods are held until all nodes are ready and every pod is nominated, so that the first node does
    // not take what others were bought for. What was left out is tried afterwards.
    let (held, left): (Vec<Value>, Vec<Value>) = cases
        .iter()
        .flat_map(|case| &case.set.pods)
        .filter(|pod| !is_gated(pod))
        .cloned()
        .partition(|pod| placed.contains_key(&key(pod)));
    remove_pods(cluster, &left).await;
    remove_pods(cluster, &held).await;
    create_nodes(cluster, nodes).await;
    let sets = cases.iter().map(|case| case.set);
    let occupants: Vec<Value> = sets.flat_map(objects::occupants).collect();
    cluster.create_all(&occupants).await;
    let all_bound = |pods: &BTreeMap<String, Value>| placed.keys().all(|name| is_bound(pods, name));
    offer(cluster, &held, &placed).await;
    let mut pods = quiet(cluster, zones, &placed, all_bound).await;
    // A pod that was tried while the one it follows was being bound can miss that event, and then stays
    // in kube-scheduler's queue for five minutes. As a new pod it gets the verdict of now.
    let waiting: Vec<Value> = held
        .into_iter()
        .filter(|pod| !is_bound(&pods, &key(pod)))
        .collect();
    if !waiting.is_empty() {
        verdict.anew += waiting.len();
        remove_pods(cluster, &waiting).await;
        offer(cluster, &waiting, &placed).await;
        pods = quiet(cluster, zones, &placed, all_bound).await;
    }
    for case in cases {
        for pod in &case.set.pods {
            let name = key(pod);
            let Some(node) = placed.get(&name) else {
                continue;
            };
            let found = &pods[&name];
            if is_bound(&pods, &name) {
                verdict.bound += 1;
            } else {
                verdict.disagreements.push(format!(
                    "{name}: planned on {node}, but not bound: {}; nominated to {}, {} of the set are elsewhere: {:?}",
                    refusal(found).unwrap_or("no verdict"),
                    found["status"]["nominatedNodeName"],
                    case.set.name,
                    strayed(case.set, &placed, &pods),
                ));
            }
        }
    }
}

/// Creates pods so that kube-scheduler sees them all at once, each nominated to its node of the plan.
async fn offer(cluster: &Cluster, pods: &[Value], placed: &BTreeMap<String, String>) {
    let mut held = pods.to_vec();
    for pod in &mut held {
        pod["spec"]["schedulingGates"] = serde_json::json!([{"name": "example.com/hold"}]);
    }
    cluster.create_all(&held).await;
    for pod in &held {
        let name = key(pod);
        if let Some(node) = placed.get(&name) {
            cluster.nominate(&name, node).await;
        }
    }
    cluster.release(&held).await;
}

/// Pods that were bound to another node than the plan's, with both.
fn strayed(
    set: &Set,
    placed: &BTreeMap<String, String>,
    pods: &BTreeMap<String, Value>,
) -> Vec<String> {
    keys(set)
        .iter()
        .filter_map(|name| {
            let node = pods.get(name)?["spec"]["nodeName"].as_str()?;
            let planned = placed.get(name)?;
            (node != planned).then(|| format!("{name}: {planned} -> {node}"))
        })
        .collect()
}

async fn create_nodes(cluster: &Cluster, nodes: &[[Value; 2]]) {
    let (storage, nodes): (Vec<Value>, Vec<Value>) = nodes.iter().cloned().map(Into::into).unzip();
    cluster.create_all(&storage).await;
    cluster.create_all(&nodes).await;
    let names: Vec<String> = nodes
        .iter()
        .filter_map(|node| Some(node["metadata"]["name"].as_str()?.to_owned()))
        .collect();
    cluster.wait_for_nodes(&names).await;
}

/// Waits until `done`, or until no further pod was bound for long.
async fn quiet(
    cluster: &Cluster,
    zones: &BTreeMap<String, String>,
    placed: &BTreeMap<String, String>,
    done: impl Fn(&BTreeMap<String, Value>) -> bool,
) -> BTreeMap<String, Value> {
    let progress = Cell::new((0, Instant::now()));
    eventually("no further pod is bound", LONGEST, async || {
        cluster.provision_volumes(zones).await;
        let pods = cluster.pods().await;
        for (name, node) in placed {
            let status = pods.get(name).map(|pod| &pod["status"]);
            // kube-scheduler forgets a nomination when it fails to place the pod.
            if !is_bound(&pods, name) && status.is_some_and(|s| s["nominatedNodeName"].is_null()) {
                cluster.nominate(name, node).await;
            }
        }
        let bound = pods.keys().filter(|name| is_bound(&pods, name)).count();
        let (most, since) = progress.get();
        if bound > most {
            progress.set((bound, Instant::now()));
        }
        if done(&pods) || since.elapsed() > QUIET {
            return Ok(pods);
        }
        Err(format!("{bound} are bound"))
    })
    .await
}

/// One node of every offering that a set may buy: what was left out must be refused there too.
async fn try_the_rest(
    cluster: &Cluster,
    cases: &[Case<'_>],
    mut zones: BTreeMap<String, String>,
    verdict: &mut Verdict,
) -> Vec<[Value; 2]> {
    let mut nodes = Vec::new();
    let mut rest: BTreeMap<String, String> = BTreeMap::new();
    for case in cases {
        rest.extend(case.plan.left_out.clone());
        // What a limit forbids is no offering that is allowed: only the plan's own nodes stand.
        if case.plan.is_limited() {
            verdict.limited += case.plan.left_out.len();
        } else if !case.plan.left_out.is_empty() {
            nodes.extend(objects::every_offering(case.set));
        }
    }
    for [_storage, node] in &nodes {
        let label = |pointer: &str| node.pointer(pointer).and_then(Value::as_str);
        let zone = label("/metadata/labels/topology.kubernetes.io~1zone").unwrap();
        let name = label("/metadata/name").unwrap();
        zones.insert(name.to_owned(), zone.to_owned());
    }
    create_nodes(cluster, &nodes).await;
    // Pods made now get a verdict that knows all nodes.
    let pods: Vec<Value> = cases
        .iter()
        .flat_map(|case| &case.set.pods)
        .filter(|pod| rest.contains_key(&key(pod)))
        .cloned()
        .collect();
    cluster.create_all(&pods).await;
    let pods = quiet(cluster, &zones, &BTreeMap::new(), |pods| {
        rest.keys().all(|name| {
            pods.get(name)
                .is_some_and(|pod| refusal(pod).is_some() || is_bound(pods, name))
        })
    })
    .await;
    for (name, reason) in &rest {
        // kube-scheduler knows no limits: what they keep out is counted, not judged.
        if is_bound(&pods, name) && reason.contains("LimitReached") {
            continue;
        }
        if is_bound(&pods, name) {
            verdict.disagreements.push(format!(
                "{name}: left out ({reason}), but bound to {} of every offering",
                pods[name]["spec"]["nodeName"]
            ));
        } else if refusal(&pods[name]).is_none() {
            verdict
                .disagreements
                .push(format!("{name}: no verdict in time"));
        } else {
            verdict.refused += 1;
        }
    }
    nodes
}

async fn remove_pods(cluster: &Cluster, pods: &[Value]) {
    cluster.delete_all(pods).await;
    eventually("the pods are gone", 60, async || {
        let left = cluster.pods().await;
        if pods.iter().any(|pod| left.contains_key(&key(pod))) {
            Err(String::new())
        } else {
            Ok(())
        }
    })
    .await;
}

async fn remove(cluster: &Cluster, sets: &[Set], nodes: &[[Value; 2]]) {
    let nodes: Vec<Value> = nodes.iter().flatten().cloned().collect();
    let occupants = sets.iter().flat_map(objects::occupants);
    let pods = sets.iter().flat_map(|set| set.pods.clone());
    let pods: Vec<Value> = pods.chain(occupants).collect();
    cluster.delete_all(&pods).await;
    cluster.delete_all(&nodes).await;
    let spaces: Vec<Value> = sets
        .iter()
        .flat_map(|set| &set.objects)
        .filter(|object| {
            matches!(
                object["kind"].as_str(),
                Some("Namespace" | "PersistentVolume")
            )
        })
        .cloned()
        .collect();
    cluster.delete_all(&spaces).await;
}
