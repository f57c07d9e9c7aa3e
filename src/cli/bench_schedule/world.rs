//! Synthetic worlds for timing: instance types whose price follows their size, and pods of five
//! kinds.
//!
//! Given numbers of pods and types; given back a snapshot. The same numbers give the same world.

use std::collections::BTreeMap;
use std::sync::Arc;

use fastrand::Rng;
use jiff::Timestamp;

use crate::api::labels::{HOSTNAME, ZONE};
use crate::model::money::UsdPerHour;
use crate::model::node_class::NodeClass;
use crate::model::node_pool::NodePool;
use crate::model::offering::{
    CapacityType, Catalogue, InstanceType, Offering, OfferingKey, Outlook,
};
use crate::model::pod::{
    Expression, LabelSelector, NodeTerm, Pod, PodConstraints, PodKey, PodSpec, PodTerm,
    TopologySpread,
};
use crate::model::resources::{CPU, MEMORY, PODS, Resources};
use crate::model::snapshot::Snapshot;

const ZONES: [&str; 3] = ["test-zone-1", "test-zone-2", "test-zone-3"];
const LETTERS: [&str; 7] = ["a", "b", "c", "d", "e", "f", "g"];
const CPUS: [i64; 5] = [100, 250, 500, 1000, 1500];
const MEMORIES: [i64; 6] = [100, 256, 512, 1024, 2048, 4096];

fn any<Value: Copy>(random: &mut Rng, list: &[Value], fallback: Value) -> Value {
    random.choice(list.iter().copied()).unwrap_or(fallback)
}

/// So many types: the i-th has i vCPU, 2·i GiB and 10·i pod slots, costs 0.1 USD per vCPU and 0.1
/// USD per 10⁹ bytes, and is offered on-demand in three zones and as spot in two.
fn catalogue(types: i64) -> Catalogue {
    let mut catalogue = Catalogue::default();
    for size in 1..=types {
        let memory = size << 31;
        let name: Arc<str> = format!("size-{size:04}").into();
        let instance = InstanceType {
            name: Arc::clone(&name),
            labels: BTreeMap::from([
                ("kubernetes.io/arch".to_owned(), "amd64".to_owned()),
                ("kubernetes.io/os".to_owned(), "linux".to_owned()),
            ]),
            capacity: Resources::new()
                .with(CPU, size * 1000)
                .with(MEMORY, memory)
                .with(PODS, size * 10),
            overhead: Resources::new().with(CPU, 100).with(MEMORY, 10 << 20),
            volume_limit: 26,
        };
        // 0.1 USD per vCPU and per 10⁹ bytes, in units of 10⁻¹⁰ USD: exactly one unit per byte.
        let price = UsdPerHour::from_units(size * 1_000_000_000 + memory);
        for (capacity_type, zones) in [(CapacityType::Spot, 2), (CapacityType::OnDemand, 3)] {
            for zone in ZONES.iter().take(zones) {
                catalogue.offerings.push(Offering {
                    key: OfferingKey::new(&name, zone, capacity_type),
                    price,
                    fees: UsdPerHour::ZERO,
                    available: true,
                    outlook: Outlook::default(),
                });
            }
        }
        catalogue.types.insert(name, Arc::new(instance));
    }
    catalogue
        .offerings
        .sort_by(|left, right| left.key.cmp(&right.key));
    catalogue
}

fn pool() -> NodePool {
    NodePool {
        limits: Resources::new()
            .with(CPU, 10_000_000_000)
            .with(MEMORY, 1 << 60),
        ..NodePool::named("default", "default")
    }
}

fn selector(key: &str, value: &str) -> LabelSelector {
    LabelSelector {
        match_labels: BTreeMap::from([(key.to_owned(), value.to_owned())]),
        match_expressions: Vec::new(),
    }
}

fn term(topology_key: &str, key: &str, value: &str) -> PodTerm {
    PodTerm {
        topology_key: topology_key.to_owned(),
        selector: Some(selector(key, value)),
        namespaces: Vec::new(),
        namespace_selector: None,
        match_label_keys: Vec::new(),
        mismatch_label_keys: Vec::new(),
    }
}

fn spread(topology_key: &str, value: &str) -> TopologySpread {
    TopologySpread {
        topology_key: topology_key.to_owned(),
        max_skew: 1,
        min_domains: None,
        required: true,
        selector: Some(selector("my-label", value)),
        match_label_keys: Vec::new(),
        honor_node_affinity: true,
        honor_node_taints: false,
    }
}

fn spec(label: (&str, &str), cpu: i64, memory_mib: i64, constraints: PodConstraints) -> PodSpec {
    let constraints = (constraints != PodConstraints::default()).then(|| Arc::new(constraints));
    PodSpec {
        namespace: "default".to_owned(),
        labels: BTreeMap::from([(label.0.to_owned(), label.1.to_owned())]),
        requests: Resources::new()
            .with(CPU, cpu)
            .with(MEMORY, memory_mib << 20)
            .with(PODS, 1),
        constraints,
        ..PodSpec::default()
    }
}

/// One of five kinds: plain, spread over zones, spread over nodes, near each other in a zone, apart
/// on nodes.
fn diverse(kind: usize, random: &mut Rng) -> PodSpec {
    let own = any(random, &LETTERS, "a");
    let mut constraints = PodConstraints::default();
    let label = match kind {
        1 => {
            constraints
                .spread
                .push(spread(ZONE, any(random, &LETTERS, "a")));
            ("my-label", own)
        }
        2 => {
            constraints
                .spread
                .push(spread(HOSTNAME, any(random, &LETTERS, "a")));
            ("my-label", own)
        }
        3 => {
            constraints.affinity.push(term(ZONE, "my-affinity", own));
            ("my-affinity", own)
        }
        4 => {
            constraints
                .anti_affinity
                .push(term(HOSTNAME, "app", "apart"));
            ("app", "apart")
        }
        _ => ("my-label", own),
    };
    let cpu = any(random, &CPUS, 100);
    let memory = any(random, &MEMORIES, 100);
    spec(label, cpu, memory, constraints)
}

/// Pods whose preferences cannot all be met: one zone, away from each other over zones, and away
/// from each other on nodes.
fn wishful() -> PodSpec {
    let mut constraints = PodConstraints::default();
    constraints.preferred_node_terms.push((
        1,
        NodeTerm {
            expressions: vec![Expression {
                key: ZONE.to_owned(),
                operator: "In".to_owned(),
                values: vec!["test-zone-1".to_owned()],
            }],
            fields: Vec::new(),
        },
    ));
    constraints
        .preferred_anti_affinity
        .push((10, term(ZONE, "app", "wishful")));
    constraints
        .preferred_anti_affinity
        .push((1, term(HOSTNAME, "app", "wishful")));
    spec(("app", "wishful"), 500, 1024, constraints)
}

/// A world of so many pods and types. With `wishes` all pods are alike and want too much.
pub(super) fn world(pods: usize, types: i64, wishes: bool) -> Snapshot {
    let mut snapshot = Snapshot::empty(Timestamp::UNIX_EPOCH);
    let class = NodeClass {
        name: "default".to_owned(),
        uid: String::new(),
        generation: 1,
        ready: true,
        not_ready: String::new(),
        subnets: BTreeMap::new(),
        security_groups: Vec::new(),
        images: BTreeMap::new(),
        hash: String::new(),
        catalogue: Arc::new(catalogue(types)),
        reservations: Vec::new(),
        placement_group: None,
        lists_interfaces: false,
    };
    snapshot
        .node_classes
        .insert("default".to_owned(), Arc::new(class));
    snapshot
        .node_pools
        .insert("default".to_owned(), Arc::new(pool()));
    let mut random = Rng::with_seed(42);
    // One copy of equal specs, as the watch caches keep it.
    let mut specs: BTreeMap<PodSpec, Arc<PodSpec>> = BTreeMap::new();
    for index in 0..pods {
        let spec = if wishes {
            wishful()
        } else {
            diverse(index * 5 / pods.max(1), &mut random)
        };
        let spec = Arc::clone(
            specs
                .entry(spec)
                .or_insert_with_key(|spec| Arc::new(spec.clone())),
        );
        let key = PodKey::new("default", &format!("pod-{index:06}"));
        let pod = Pod::waiting(key.clone(), spec);
        snapshot.pods.insert(key, Arc::new(pod));
    }
    snapshot
}
