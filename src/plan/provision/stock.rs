//! Nodes that exist or are on their way, and the room on them.
//!
//! Given a snapshot; given back every node that may still take pods, ours or not, with its free
//! amounts, and every claim that has no node yet as a virtual node of what was bought for it.
//! Nodes on their way out are left out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::class::EBS_DRIVER;
use super::daemons::Daemons;
use super::demand;
use super::labels::{HOSTNAME, Labelled};
use super::promise::{self, Hashes};
use crate::api::labels::{INITIALIZED, REGISTERED};
use crate::model::claim::Claim;
use crate::model::node::Node;
use crate::model::offering::{InstanceType, OfferingKey};
use crate::model::pod::{Pod, PodKey};
use crate::model::resources::Resources;
use crate::model::snapshot::Snapshot;
use crate::model::taint::{Taint, TaintEffect};
use crate::plan::launch::{labels_of, offering_of};

/// Which object a bin is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum BinName {
    /// A Node.
    Node(String),
    /// A claim without a Node.
    Claim(String),
}

/// A node, real or virtual, that takes pods at no further price.
#[derive(Debug, Clone)]
pub struct Bin {
    /// Which object it is.
    pub name: BinName,
    labels: BinLabels,
    /// Taints that count.
    pub taints: Vec<Taint>,
    /// What is left of it.
    pub free: Resources,
    /// Pods that occupy it.
    pub pods: Vec<Arc<Pod>>,
    /// DaemonSets whose pods are still to come.
    pub coming_daemons: Vec<usize>,
    /// How many more volumes it takes, by driver.
    pub volume_room: BTreeMap<String, i64>,
    /// Pods that it was bought for, by class hash, those that are bound already taken off.
    pub promised: BTreeMap<u64, u32>,
    /// It runs pods already.
    pub initialized: bool,
}

/// The labels of a bin. What a Node says of itself wins over what is still to be put on it.
#[derive(Debug, Clone, Default)]
struct BinLabels {
    node: Option<Arc<Node>>,
    /// Those that registration will put onto its Node.
    coming: BTreeMap<String, String>,
}

impl Labelled for Bin {
    fn label(&self, key: &str) -> Option<&str> {
        let BinLabels { node, coming } = &self.labels;
        let own = node.as_ref().and_then(|node| node.labels.get(key));
        own.or_else(|| coming.get(key))
            .map(String::as_str)
            .or_else(|| {
                let name = node.as_ref().map_or("\u{0}new", |node| node.name.as_str());
                (key == HOSTNAME).then_some(name)
            })
    }

    fn node_name(&self) -> Option<&str> {
        self.labels.node.as_ref().map(|node| node.name.as_str())
    }
}

impl Bin {
    /// The names of its labels; one may come twice.
    pub fn label_names(&self) -> impl Iterator<Item = &str> {
        let own = self.labels.node.iter().flat_map(|node| node.labels.keys());
        own.chain(self.labels.coming.keys().map(String::as_str))
    }
}

/// The bins of a snapshot: initialized nodes, then starting ones, then claims, each in name order.
pub fn bins(snapshot: &Snapshot, daemons: &Daemons) -> Vec<Bin> {
    let leaving = demand::Leaving::of(snapshot);
    let mut pods_by_node: BTreeMap<&str, Vec<Arc<Pod>>> = BTreeMap::new();
    for pod in snapshot.pods.values() {
        if let Some(node) = pod.node_name.as_deref()
            && pod.is_active_on_node()
        {
            pods_by_node.entry(node).or_default().push(Arc::clone(pod));
        }
    }
    let mut claims_by_node: BTreeMap<&str, &Arc<Claim>> = BTreeMap::new();
    let mut claims_by_id: BTreeMap<&str, &Arc<Claim>> = BTreeMap::new();
    for claim in snapshot.claims.values() {
        claims_by_node.insert(&claim.node_name, claim);
        claims_by_id.insert(&claim.provider_id, claim);
    }
    claims_by_node.remove("");
    claims_by_id.remove("");
    let mut hashes = Hashes::default();
    let mut bins = Vec::new();
    let mut with_node: BTreeSet<&str> = BTreeSet::new();
    for node in snapshot.nodes.values() {
        let claim = claims_by_node
            .get(node.name.as_str())
            .or_else(|| claims_by_id.get(node.provider_id.as_str()))
            .copied();
        if let Some(claim) = claim {
            with_node.insert(&claim.name);
        }
        if leaving.contains(node.name.as_str()) || node.unschedulable {
            continue;
        }
        let pods = pods_by_node.remove(node.name.as_str()).unwrap_or_default();
        bins.push(of_node((snapshot, daemons), node, claim, pods, &mut hashes));
    }
    for claim in snapshot.claims.values() {
        if claim.deleting_since.is_none() && !with_node.contains(claim.name.as_str()) {
            bins.extend(of_claim((snapshot, daemons), claim, &mut hashes));
        }
    }
    bins.sort_by(|left, right| {
        right
            .initialized
            .cmp(&left.initialized)
            .then_with(|| left.name.cmp(&right.name))
    });
    bins
}

fn of_node(
    (snapshot, daemons): (&Snapshot, &Daemons),
    node: &Arc<Node>,
    claim: Option<&Arc<Claim>>,
    pods: Vec<Arc<Pod>>,
    hashes: &mut Hashes,
) -> Bin {
    let initialized = claim.is_none_or(|claim| {
        claim.is("Initialized")
            || node
                .labels
                .get("karpenter.sh/initialized")
                .is_some_and(|value| value == "true")
    });
    let taints = match claim {
        Some(claim) if !initialized => settled_taints(&node.taints, &claim.startup_taints),
        _ => node.taints.clone(),
    };
    let mut free = node.allocatable.clone();
    if let Some(claim) = claim
        && !initialized
    {
        // Device plugins and the kubelet report late; what was bought is known.
        free = claim_or(&claim.allocatable, &free);
    }
    let coming = match claim {
        Some(claim) if !node.labels.contains_key(REGISTERED) => {
            let offering = bought(claim);
            labels_of_claim(snapshot, claim, offering.as_ref())
        }
        _ => BTreeMap::new(),
    };
    let mut bin = Bin {
        name: BinName::Node(node.name.clone()),
        labels: BinLabels {
            node: Some(Arc::clone(node)),
            coming,
        },
        taints,
        free,
        promised: claim.map_or_else(BTreeMap::new, |claim| promise::read(&claim.annotations)),
        volume_room: volume_room(snapshot, node, claim, &pods),
        pods,
        coming_daemons: Vec::new(),
        initialized,
    };
    let landing = daemons.landing_on(&bin, &bin.taints);
    occupy(&mut bin, &landing, daemons, hashes);
    bin
}

/// How many more volumes a Node takes, by driver. Until the driver of EBS says so on the Node, a machine of ours
/// takes as many as its type, less those of the pods that are bound to it.
fn volume_room(
    snapshot: &Snapshot,
    node: &Node,
    claim: Option<&Arc<Claim>>,
    pods: &[Arc<Pod>],
) -> BTreeMap<String, i64> {
    let mut room: BTreeMap<String, i64> = snapshot
        .volume_room
        .range((node.name.clone(), String::new())..)
        .take_while(|((name, _driver), _room)| *name == node.name)
        .map(|((_name, driver), room)| (driver.clone(), *room))
        .collect();
    let own = || {
        let claim = claim?;
        instance_of(snapshot, claim, bought(claim).as_ref())
    };
    if !room.contains_key(EBS_DRIVER)
        && let Some(instance) = own()
    {
        let limit = i64::from(instance.volume_limit);
        let left = limit.saturating_sub(attached(snapshot, pods)).max(0);
        room.insert(EBS_DRIVER.to_owned(), left);
    }
    room
}

/// How many EBS volumes these pods have between them.
fn attached(snapshot: &Snapshot, pods: &[Arc<Pod>]) -> i64 {
    let mut volumes = BTreeSet::new();
    for pod in pods {
        let namespace = &pod.key.namespace;
        let names = pod
            .spec
            .constraints
            .iter()
            .flat_map(|own| &own.volume_claims);
        for key in names.map(|name| format!("{namespace}/{name}")) {
            let claim = snapshot.volume_claims.get(&key);
            if claim.is_some_and(|claim| claim.driver == EBS_DRIVER) {
                volumes.insert(key);
            }
        }
    }
    i64::try_from(volumes.len()).unwrap_or(i64::MAX)
}

/// The amounts of `known` where `reported` has none yet.
fn claim_or(known: &Resources, reported: &Resources) -> Resources {
    let mut amounts = reported.clone();
    for (name, amount) in known.iter() {
        if reported.get(name) == 0 {
            amounts.set(name, amount);
        }
    }
    amounts
}

/// Takes the bound pods off, and the DaemonSet pods that are still to come.
fn occupy(bin: &mut Bin, landing: &[usize], daemons: &Daemons, hashes: &mut Hashes) {
    for pod in &bin.pods {
        bin.free.subtract(&pod.spec.requests);
        if !bin.promised.is_empty()
            && let Some(count) = bin.promised.get_mut(&hashes.of(&pod.spec))
        {
            *count = count.saturating_sub(1);
        }
    }
    bin.coming_daemons = landing
        .iter()
        .copied()
        .filter(|index| !bin.pods.iter().any(|pod| daemons.owns(*index, pod)))
        .collect();
    bin.free.subtract(&daemons.requests(&bin.coming_daemons));
}

/// Taints that stay when a starting node is done.
fn settled_taints(taints: &[Taint], startup: &[Taint]) -> Vec<Taint> {
    taints
        .iter()
        .filter(|taint| {
            !taint.is_ephemeral() && !startup.iter().any(|startup| startup.matches(taint))
        })
        .cloned()
        .collect()
}

/// What is on its way for a claim: the type it was launched as, or the first that will be tried.
fn of_claim(
    (snapshot, daemons): (&Snapshot, &Daemons),
    claim: &Claim,
    hashes: &mut Hashes,
) -> Option<Bin> {
    let class = snapshot.node_classes.get(&claim.node_class);
    let offering = bought(claim).or_else(|| claim.offerings.first().cloned());
    let instance = instance_of(snapshot, claim, offering.as_ref());
    let free = if claim.allocatable.is_empty() {
        let all = instance?.allocatable();
        class.map_or_else(Resources::new, |class| class.promised(all, &claim.requests))
    } else {
        claim.allocatable.clone()
    };
    let volume_room = instance
        .map(|instance| {
            let limit = i64::from(instance.volume_limit);
            BTreeMap::from([(EBS_DRIVER.to_owned(), limit)])
        })
        .unwrap_or_default();
    let mut bin = Bin {
        name: BinName::Claim(claim.name.clone()),
        labels: BinLabels {
            node: None,
            coming: labels_of_claim(snapshot, claim, offering.as_ref()),
        },
        taints: claim
            .taints
            .iter()
            .filter(|taint| taint.effect != TaintEffect::PreferNoSchedule)
            .cloned()
            .collect(),
        free,
        pods: Vec::new(),
        coming_daemons: Vec::new(),
        volume_room,
        promised: promise::read(&claim.annotations),
        initialized: false,
    };
    let landing = daemons.landing_on(&bin, &bin.taints);
    occupy(&mut bin, &landing, daemons, hashes);
    Some(bin)
}

fn instance_of<'world>(
    snapshot: &'world Snapshot,
    claim: &Claim,
    offering: Option<&OfferingKey>,
) -> Option<&'world InstanceType> {
    let class = snapshot.node_classes.get(&claim.node_class)?;
    let instance = class.catalogue.types.get(&offering?.instance_type)?;
    Some(&**instance)
}

/// The labels that the Node of a claim will have. A kubelet may not give itself those that say what its
/// machine is, so between joining and registration they are known from the claim alone.
fn labels_of_claim(
    snapshot: &Snapshot,
    claim: &Claim,
    offering: Option<&OfferingKey>,
) -> BTreeMap<String, String> {
    let class = snapshot.node_classes.get(&claim.node_class);
    let mut labels = offering.map_or_else(BTreeMap::new, |offering| {
        labels_of(offering, class.map(|class| &**class))
    });
    labels.extend((*claim.labels).clone());
    for settled in [REGISTERED, INITIALIZED] {
        labels.insert(settled.to_owned(), "true".to_owned());
    }
    labels
}

/// The offering that a launched claim turned out to be, by its labels.
fn bought(claim: &Claim) -> Option<OfferingKey> {
    if claim.provider_id.is_empty() {
        return None;
    }
    offering_of(claim)
}

/// Pods placed on bins, by bin index.
pub type Placed = BTreeMap<usize, Vec<PodKey>>;
