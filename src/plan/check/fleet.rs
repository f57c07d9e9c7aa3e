//! The nodes and pods that a plan would lead to.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::model::claim::Claim;
use crate::model::node::Node;
use crate::model::node_class::NodeClass;
use crate::model::node_pool::NodePool;
use crate::model::offering::{CapacityType, InstanceType, Offering, OfferingKey};
use crate::model::pod::{Pod, PodKey};
use crate::model::report::{PlannedNode, ProvisioningPlan};
use crate::model::resources::Resources;
use crate::model::snapshot::Snapshot;
use crate::model::taint::{Taint, first_untolerated};
use crate::model::workload::DaemonSet;

/// A node as it would be.
#[derive(Debug, Clone)]
pub struct FutureNode {
    /// Its name, made up for nodes that do not exist yet.
    pub name: String,
    /// Every label.
    pub labels: BTreeMap<String, String>,
    /// Taints that stay.
    pub taints: Vec<Taint>,
    /// What pods and DaemonSets may use together.
    pub allocatable: Resources,
    /// Pods that are there already.
    pub present: Vec<Arc<Pod>>,
    /// Pods that the plan puts there.
    pub planned: Vec<Arc<Pod>>,
    /// Volumes that it takes by driver, where that is known.
    pub volumes: BTreeMap<String, i64>,
    /// DaemonSet pods that are still to come.
    pub coming: Vec<Arc<Pod>>,
    /// Labels of the alternatives that could be bought instead.
    pub alternatives: Vec<BTreeMap<String, String>>,
}

/// Everything that a plan would lead to.
#[derive(Debug, Clone, Default)]
pub struct Fleet {
    /// The nodes.
    pub nodes: Vec<FutureNode>,
}

impl Fleet {
    /// The fleet after the plan.
    pub fn after(snapshot: &Snapshot, plan: &ProvisioningPlan, wrong: &mut Vec<String>) -> Self {
        let mut fleet = Self::default();
        let moving: BTreeSet<&PodKey> = plan
            .new_nodes
            .iter()
            .map(|node| &node.pods)
            .chain(plan.existing.values())
            .chain(plan.in_flight.values())
            .flatten()
            .collect();
        for name in plan.existing.keys() {
            if !snapshot.nodes.contains_key(name) {
                wrong.push(format!("node {name} does not exist"));
            }
        }
        for node in snapshot.nodes.values() {
            let planned = pods(snapshot, plan.existing.get(&node.name));
            fleet.nodes.push(existing(snapshot, node, planned, &moving));
        }
        for (name, keys) in &plan.in_flight {
            match in_flight(snapshot, name, pods(snapshot, Some(keys))) {
                Some(node) => fleet.nodes.push(node),
                None => wrong.push(format!(
                    "claim {name} does not exist or says nothing of its node"
                )),
            }
        }
        for (index, node) in plan.new_nodes.iter().enumerate() {
            match new_node(snapshot, node, index) {
                Ok(node) => fleet.nodes.push(node),
                Err(problem) => wrong.push(problem),
            }
        }
        for node in &mut fleet.nodes {
            node.coming = coming(snapshot, node);
        }
        fleet
    }

    /// A Node as it is now, and where that counts all others after it: with what their kubelets say that they have, every
    /// taint that they carry, and on the first the DaemonSet pods that are still to come.
    pub fn around(snapshot: &Snapshot, node: &Node, with_others: bool) -> Self {
        let mut own = existing(snapshot, node, Vec::new(), &BTreeSet::new());
        own.coming = coming(snapshot, &own);
        own.allocatable = node.allocatable.clone();
        own.taints.clone_from(&node.taints);
        let mut fleet = Self { nodes: vec![own] };
        if with_others {
            fleet.nodes.extend(others(snapshot, &node.name));
        }
        fleet
    }
}

/// The DaemonSet pods that will land on a node and are not there yet, each as the newest of its set asks.
fn coming(snapshot: &Snapshot, node: &FutureNode) -> Vec<Arc<Pod>> {
    let sets = snapshot.daemon_sets.values().filter(|daemon_set| {
        daemon_set.spec.problem.is_none()
            && first_untolerated(&node.taints, &daemon_set.spec.tolerations).is_none()
            && daemon_set.spec.selects(&node.name, &node.labels)
            && !node.present.iter().any(|pod| is_of(pod, daemon_set))
    });
    sets.map(|daemon_set| {
        let own = snapshot.pods.values().filter(|pod| is_of(pod, daemon_set));
        let newest = own.max_by_key(|pod| (pod.created, &pod.key));
        let mut spec = Arc::clone(&daemon_set.spec);
        if let Some(newest) = newest {
            Arc::make_mut(&mut spec).requests = newest.spec.requests.clone();
        }
        let key = PodKey::new(&daemon_set.namespace, &daemon_set.name);
        Arc::new(Pod::waiting(key, spec))
    })
    .collect()
}

fn is_of(pod: &Pod, daemon_set: &DaemonSet) -> bool {
    *pod.key.namespace == *daemon_set.namespace
        && pod.is_daemon()
        && pod
            .owner
            .as_ref()
            .is_some_and(|owner| owner.name == daemon_set.name)
}

fn pods(snapshot: &Snapshot, keys: Option<&Vec<PodKey>>) -> Vec<Arc<Pod>> {
    keys.into_iter()
        .flatten()
        .filter_map(|key| snapshot.pods.get(key).cloned())
        .collect()
}

fn existing(
    snapshot: &Snapshot,
    node: &Node,
    planned: Vec<Arc<Pod>>,
    moving: &BTreeSet<&PodKey>,
) -> FutureNode {
    let claim = snapshot.claims.values().find(|claim| {
        claim.node_name == node.name
            || (!claim.provider_id.is_empty() && claim.provider_id == node.provider_id)
    });
    let starting = claim.filter(|claim| {
        !claim.is("Initialized")
            && node
                .labels
                .get("karpenter.sh/initialized")
                .map(String::as_str)
                != Some("true")
    });
    let mut allocatable = node.allocatable.clone();
    let mut taints = node.taints.clone();
    if let Some(claim) = starting {
        for (name, amount) in claim.allocatable.iter() {
            if allocatable.get(name) == 0 {
                allocatable.set(name, amount);
            }
        }
        taints.retain(|taint| {
            let own = claim.taints.iter().any(|own| own.matches(taint));
            own || !(taint.key.starts_with("node.kubernetes.io/")
                || taint.key.starts_with("node.cloudprovider.kubernetes.io/")
                || taint.key.starts_with("readiness.k8s.io/")
                || taint.key == "karpenter.sh/unregistered"
                || claim.startup_taints.iter().any(|own| own.matches(taint)))
        });
    }
    let mut labels = with_hostname(node);
    if let Some(claim) = claim.filter(|_| !labels.contains_key("karpenter.sh/registered")) {
        add_coming_labels(snapshot, claim, &mut labels);
    }
    // Who ends on a node that is leaving is gone before a machine can take the node's place.
    let leaves = node.is_closing() || claim.is_some_and(|claim| claim.deleting_since.is_some());
    FutureNode {
        name: node.name.clone(),
        labels,
        taints,
        allocatable,
        present: snapshot
            .pods_on(&node.name)
            .filter(|pod| !moving.contains(&pod.key))
            .filter(|pod| !leaves || pod.deleting_until.is_none())
            .cloned()
            .collect(),
        planned,
        volumes: volume_room(snapshot, &node.name, claim),
        coming: Vec::new(),
        alternatives: Vec::new(),
    }
}

/// Every Node but one, with its pods.
fn others(snapshot: &Snapshot, but: &str) -> Vec<FutureNode> {
    let mut present: BTreeMap<&str, Vec<Arc<Pod>>> = BTreeMap::new();
    for pod in snapshot.pods.values().filter(|pod| pod.is_active_on_node()) {
        let node = pod.node_name.as_deref().unwrap_or_default();
        present.entry(node).or_default().push(Arc::clone(pod));
    }
    let others = snapshot.nodes.values().filter(|node| node.name != but);
    others
        .map(|node| FutureNode {
            name: node.name.clone(),
            labels: with_hostname(node),
            taints: node.taints.clone(),
            allocatable: node.allocatable.clone(),
            present: present.remove(node.name.as_str()).unwrap_or_default(),
            planned: Vec::new(),
            volumes: BTreeMap::new(),
            coming: Vec::new(),
            alternatives: Vec::new(),
        })
        .collect()
}

fn with_hostname(node: &Node) -> BTreeMap<String, String> {
    let mut labels = node.labels.to_map();
    labels
        .entry("kubernetes.io/hostname".to_owned())
        .or_insert_with(|| node.name.clone());
    labels
}

/// How many more volumes a node takes, as its drivers say, or before they do as the type of its machine does.
fn volume_room(
    snapshot: &Snapshot,
    node: &str,
    claim: Option<&Arc<Claim>>,
) -> BTreeMap<String, i64> {
    let all = snapshot.volume_room.iter();
    let mut volumes: BTreeMap<String, i64> = all
        .filter(|((name, _driver), _room)| name == node)
        .map(|((_name, driver), room)| (driver.clone(), *room))
        .collect();
    let limit = claim.and_then(|claim| {
        let name = claim.labels.get("node.kubernetes.io/instance-type")?;
        let class = snapshot.node_classes.get(&claim.node_class)?;
        let instance = class.catalogue.types.get(name.as_str())?;
        Some(i64::from(instance.volume_limit))
    });
    if let (None, Some(limit)) = (volumes.get("ebs.csi.aws.com"), limit) {
        let there = attached(snapshot, node);
        volumes.insert("ebs.csi.aws.com".to_owned(), limit - there);
    }
    volumes
}

/// How many EBS volumes the pods of a node have between them.
fn attached(snapshot: &Snapshot, node: &str) -> i64 {
    let mut keys = BTreeSet::new();
    for pod in snapshot.pods_on(node) {
        for name in pod.spec.constraints.iter().flat_map(|c| &c.volume_claims) {
            keys.insert(format!("{}/{name}", pod.key.namespace));
        }
    }
    let volumes = keys
        .iter()
        .filter_map(|key| snapshot.volume_claims.get(key));
    let of_ebs = volumes.filter(|claim| claim.driver == "ebs.csi.aws.com");
    i64::try_from(of_ebs.count()).unwrap_or(i64::MAX)
}

/// What registration will put onto a Node, where the Node does not say otherwise: the labels of its claim, and
/// those of the type that the claim was launched as.
fn add_coming_labels(snapshot: &Snapshot, claim: &Claim, labels: &mut BTreeMap<String, String>) {
    let class = snapshot.node_classes.get(&claim.node_class);
    let instance = claim
        .labels
        .get("node.kubernetes.io/instance-type")
        .and_then(|name| class?.catalogue.types.get(name.as_str()));
    let of_type = instance.iter().flat_map(|found| &found.labels);
    let settled = ["karpenter.sh/registered", "karpenter.sh/initialized"];
    for (key, value) in claim.labels.iter().chain(of_type) {
        labels.entry(key.clone()).or_insert_with(|| value.clone());
    }
    for key in settled {
        labels
            .entry(key.to_owned())
            .or_insert_with(|| "true".to_owned());
    }
}

fn in_flight(snapshot: &Snapshot, name: &str, planned: Vec<Arc<Pod>>) -> Option<FutureNode> {
    let claim = snapshot.claims.get(name)?;
    let class = snapshot.node_classes.get(&claim.node_class);
    let key = claim.offerings.first();
    let instance = key.and_then(|key| class?.catalogue.types.get(&key.instance_type));
    let mut labels = instance
        .map(|found| found.labels.clone())
        .unwrap_or_default();
    if let Some(key) = key {
        add_offering_labels(&mut labels, key);
    }
    labels.extend((*claim.labels).clone());
    labels.insert("kubernetes.io/hostname".to_owned(), format!("claim/{name}"));
    let allocatable = if claim.allocatable.is_empty() {
        instance?.allocatable()
    } else {
        claim.allocatable.clone()
    };
    Some(FutureNode {
        name: format!("claim/{name}"),
        labels,
        taints: claim.taints.clone(),
        allocatable,
        present: Vec::new(),
        planned,
        volumes: instance
            .map(|found| {
                BTreeMap::from([("ebs.csi.aws.com".to_owned(), i64::from(found.volume_limit))])
            })
            .unwrap_or_default(),
        coming: Vec::new(),
        alternatives: Vec::new(),
    })
}

fn add_offering_labels(labels: &mut BTreeMap<String, String>, key: &OfferingKey) {
    labels.insert(
        "node.kubernetes.io/instance-type".to_owned(),
        key.instance_type.to_string(),
    );
    labels.insert(
        "topology.kubernetes.io/zone".to_owned(),
        key.zone.to_string(),
    );
    labels.insert(
        "karpenter.sh/capacity-type".to_owned(),
        key.capacity_type.to_string(),
    );
}

/// A node to buy, as each of its offerings would make it; the first is what is planned.
fn new_node(snapshot: &Snapshot, node: &PlannedNode, index: usize) -> Result<FutureNode, String> {
    let name = format!("new/{index}");
    let pool = snapshot
        .node_pools
        .get(&node.node_pool)
        .ok_or_else(|| format!("{name}: NodePool {} does not exist", node.node_pool))?;
    let class = snapshot
        .node_classes
        .get(&pool.node_class)
        .ok_or_else(|| format!("{name}: EC2NodeClass {} does not exist", pool.node_class))?;
    if pool.paused || pool.deleting_since.is_some() || !pool.problems.is_empty() || !class.ready {
        return Err(format!("{name}: NodePool {} may not buy", pool.name));
    }
    let mut made: Vec<FutureNode> = Vec::new();
    for key in &node.offerings {
        made.push(as_offering(snapshot, node, (pool, class), key, &name)?);
    }
    let mut made = made.into_iter();
    let mut first = made
        .next()
        .ok_or_else(|| format!("{name} has no offering"))?;
    for other in made {
        for (resource, amount) in node.requests.iter() {
            if amount > other.allocatable.get(resource) {
                return Err(format!(
                    "{name}: alternative {} has too little {resource}",
                    other
                        .labels
                        .get("node.kubernetes.io/instance-type")
                        .map_or("", String::as_str)
                ));
            }
        }
        first.alternatives.push(other.labels);
    }
    Ok(first)
}

/// What an offering of a node is: one of the catalogue, or that of the reservation which the node's label names.
fn named<'class>(
    class: &'class NodeClass,
    node: &PlannedNode,
    key: &OfferingKey,
) -> Option<&'class Offering> {
    if key.capacity_type == CapacityType::Reserved {
        let id = node
            .labels
            .get("karpenter.k8s.aws/capacity-reservation-id")?;
        let mut reservations = class.reservations.iter();
        let found = reservations.find(|found| found.id == *id && found.offering.key == *key)?;
        return Some(&found.offering);
    }
    let mut offerings = class.catalogue.offerings.iter();
    offerings.find(|offering| offering.key == *key)
}

fn as_offering(
    snapshot: &Snapshot,
    node: &PlannedNode,
    (pool, class): (&NodePool, &NodeClass),
    key: &OfferingKey,
    name: &str,
) -> Result<FutureNode, String> {
    let offering =
        named(class, node, key).ok_or_else(|| format!("{name}: {key} is not in the catalogue"))?;
    if !offering.available {
        return Err(format!("{name}: {key} is not available"));
    }
    let instance: &InstanceType = class
        .catalogue
        .types
        .get(&key.instance_type)
        .ok_or_else(|| format!("{name}: {key} has no instance type"))?;
    let mut labels = instance.labels.clone();
    for (label, requirement) in &pool.requirements.0 {
        if let Some(value) = requirement.single() {
            labels
                .entry(label.clone())
                .or_insert_with(|| value.to_owned());
        }
    }
    labels.extend(pool.labels.clone());
    add_offering_labels(&mut labels, key);
    for (label, value) in &node.labels {
        if labels.get(label).is_some_and(|known| known != value) {
            return Err(format!("{name}: {key} cannot have label {label}={value}"));
        }
        labels.insert(label.clone(), value.clone());
    }
    for subnet in class.subnets.get(&*key.zone).into_iter().flatten() {
        labels.insert(
            "topology.k8s.aws/zone-id".to_owned(),
            subnet.zone_id.clone(),
        );
    }
    for (label, requirement) in &pool.requirements.0 {
        if let Some(value) = labels.get(label)
            && !requirement.contains(value)
        {
            return Err(format!(
                "{name}: {key} breaks the NodePool's requirement on {label}"
            ));
        }
    }
    labels.insert("kubernetes.io/hostname".to_owned(), name.to_owned());
    Ok(FutureNode {
        name: name.to_owned(),
        labels,
        taints: pool.taints.clone(),
        allocatable: instance.allocatable(),
        present: Vec::new(),
        planned: pods(snapshot, Some(&node.pods)),
        volumes: BTreeMap::from([(
            "ebs.csi.aws.com".to_owned(),
            i64::from(instance.volume_limit),
        )]),
        coming: Vec::new(),
        alternatives: Vec::new(),
    })
}
