//! Objects for the tests of decisions: a small world in virtual time.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use crate::api::labels;
use crate::model::claim::{Claim, ClaimCondition, ConditionStatus};
use crate::model::instance::{Instance, InstanceState, tags};
use crate::model::labels::LabelSet;
use crate::model::money::UsdPerHour;
use crate::model::node::Node;
use crate::model::node_class::{NodeClass, Subnet};
use crate::model::node_pool::NodePool;
use crate::model::offering::{Catalogue, InstanceType, Offering, OfferingKey, Outlook};
use crate::model::pod::{DoNotDisrupt, Owner, Pod, PodKey, PodPhase, PodSpec, TopologySpread};
use crate::model::resources::{CPU, MEMORY, Resources};
use crate::model::snapshot::Snapshot;
use crate::model::taint::{Taint, TaintEffect};

/// So many seconds after the beginning of the test's time.
pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

/// `TYPE/ZONE/CAPACITY-TYPE`.
pub(crate) fn offering(text: &str) -> OfferingKey {
    text.parse().unwrap()
}

/// A claim of pool `general`, made at second 0, that may buy what is listed.
pub(crate) fn claim(name: &str, offerings: &[&str]) -> Claim {
    Claim {
        name: name.to_owned(),
        uid: format!("uid-{name}"),
        resource_version: "1".to_owned(),
        generation: 1,
        created: at(0),
        finalizers: vec![labels::TERMINATION_FINALIZER.to_owned()],
        node_pool: Some("general".to_owned()),
        node_class: "default".to_owned(),
        labels: Arc::new(BTreeMap::from([(
            labels::NODE_POOL.to_owned(),
            "general".to_owned(),
        )])),
        requests: Resources::new().with(CPU, 2_000),
        offerings: offerings.iter().map(|text| offering(text)).collect(),
        ..Claim::default()
    }
}

/// Sets a condition of a claim.
pub(crate) fn set(claim: &mut Claim, condition: &str, status: ConditionStatus, since: Timestamp) {
    claim.conditions.insert(
        condition.to_owned(),
        ClaimCondition {
            status,
            reason: condition.to_owned(),
            message: String::new(),
            since,
        },
    );
}

/// A claim whose instance `i-NAME` was launched at second 10.
pub(crate) fn launched(name: &str) -> Claim {
    let mut claim = claim(name, &["c5.xlarge/us-east-1a/on-demand"]);
    claim.provider_id = format!("aws:///us-east-1a/i-{name}");
    set(&mut claim, "Launched", ConditionStatus::True, at(10));
    claim
}

/// A claim whose node `ip-NAME` was usable from second 60 on.
pub(crate) fn initialized(name: &str) -> Claim {
    let mut claim = launched(name);
    claim.node_name = format!("ip-{name}");
    set(&mut claim, "Registered", ConditionStatus::True, at(50));
    set(&mut claim, "Initialized", ConditionStatus::True, at(60));
    claim
}

/// The instance `i-NAME` of the claim of that name.
pub(crate) fn instance(name: &str) -> Instance {
    Instance {
        id: format!("i-{name}"),
        offering: offering("c5.xlarge/us-east-1a/on-demand"),
        state: InstanceState::Running,
        launched: at(10),
        image_id: "ami-1".to_owned(),
        partition: None,
        subnet_id: "subnet-a".to_owned(),
        private_dns_name: format!("ip-{name}"),
        tags: BTreeMap::from([
            (tags::CLUSTER.to_owned(), "test".to_owned()),
            (tags::NODE_POOL.to_owned(), "general".to_owned()),
            (tags::NODE_CLASS.to_owned(), "default".to_owned()),
        ]),
        ending: None,
    }
}

/// The Node `ip-NAME` as its kubelet makes it.
pub(crate) fn booted(name: &str) -> Node {
    Node {
        name: format!("ip-{name}"),
        uid: format!("node-uid-{name}"),
        created: at(40),
        deleting_since: None,
        provider_id: format!("aws:///us-east-1a/i-{name}"),
        labels: LabelSet::default(),
        annotations: BTreeMap::new(),
        finalizers: Vec::new(),
        taints: vec![Taint::new(
            labels::UNREGISTERED_TAINT,
            "",
            TaintEffect::NoExecute,
        )],
        unschedulable: false,
        ready: true,
        capacity: Resources::new().with(CPU, 4_000).with(MEMORY, 8 << 30),
        allocatable: Resources::new().with(CPU, 3_920).with(MEMORY, 7 << 30),
    }
}

/// The Node `ip-NAME` in use.
pub(crate) fn node(name: &str) -> Node {
    let mut node = booted(name);
    node.taints.clear();
    node.finalizers = vec![labels::TERMINATION_FINALIZER.to_owned()];
    for (key, value) in [
        (labels::NODE_POOL, "general"),
        (labels::NODE_CLASS, "default"),
        (labels::REGISTERED, "true"),
        (labels::INITIALIZED, "true"),
    ] {
        node.labels.insert(key.to_owned(), value.to_owned());
    }
    node
}

/// A running pod of a ReplicaSet on a node.
pub(crate) fn pod(name: &str, node: &str) -> Pod {
    Pod {
        key: PodKey::new("default", name),
        uid: format!("pod-uid-{name}"),
        created: at(0),
        started: Some(at(60)),
        phase: PodPhase::Running,
        node_name: Some(node.to_owned()),
        nominated_node: None,
        unschedulable: false,
        deleting_until: None,
        owner: Some(Owner {
            api_version: "apps/v1".to_owned(),
            kind: "ReplicaSet".to_owned(),
            name: "app".to_owned(),
            uid: "owner".to_owned(),
        }),
        mirror: false,
        do_not_disrupt: DoNotDisrupt::No,
        spec: Arc::new(PodSpec {
            namespace: "default".to_owned(),
            termination_grace_seconds: 30,
            ..PodSpec::default()
        }),
    }
}

/// The Node `ip-NAME` in use, closed to new pods.
pub(crate) fn fenced(name: &str) -> Node {
    let mut node = node(name);
    node.taints.push(Taint::new(
        labels::DISRUPTED_TAINT,
        "",
        TaintEffect::NoSchedule,
    ));
    node
}

/// The claim, written down as empty at second 99.
pub(crate) fn as_empty(mut claim: Claim) -> Claim {
    set(
        &mut claim,
        "DisruptionReason",
        ConditionStatus::True,
        at(99),
    );
    if let Some(found) = claim.conditions.get_mut("DisruptionReason") {
        found.reason = "Empty".to_owned();
    }
    claim
}

/// A running pod of a DaemonSet on a node.
pub(crate) fn daemon(name: &str, node: &str) -> Pod {
    let mut pod = pod(name, node);
    if let Some(owner) = &mut pod.owner {
        owner.kind = "DaemonSet".to_owned();
    }
    pod
}

/// A NodePool with the defaults.
pub(crate) fn node_pool(name: &str) -> NodePool {
    NodePool {
        uid: format!("pool-uid-{name}"),
        consolidate_after: Some(SignedDuration::from_secs(30)),
        ..NodePool::named(name, "default")
    }
}

/// The node class `default`, ready, with c5.xlarge and c5.2xlarge in two zones, spot and on-demand.
pub(crate) fn node_class() -> NodeClass {
    let mut types = BTreeMap::new();
    let mut offerings = Vec::new();
    for (name, cores) in [("c5.xlarge", 4), ("c5.2xlarge", 8)] {
        types.insert(
            name.into(),
            Arc::new(InstanceType {
                name: name.into(),
                labels: BTreeMap::from([(labels::ARCH.to_owned(), "amd64".to_owned())]),
                capacity: Resources::new().with(CPU, cores * 1_000),
                overhead: Resources::new().with(CPU, 80),
                volume_limit: 26,
            }),
        );
        for zone in ["us-east-1a", "us-east-1b"] {
            for capacity_type in ["spot", "on-demand"] {
                offerings.push(Offering {
                    key: offering(&format!("{name}/{zone}/{capacity_type}")),
                    price: UsdPerHour::from_micros(42_500 * cores),
                    fees: UsdPerHour::ZERO,
                    available: true,
                    outlook: Outlook::default(),
                });
            }
        }
    }
    offerings.sort_by(|left, right| left.key.cmp(&right.key));
    let subnet = |id: &str, zone: &str| {
        (
            zone.to_owned(),
            vec![Subnet {
                id: id.to_owned(),
                zone: zone.to_owned(),
                zone_id: "use1-az1".to_owned(),
                free_addresses: 100,
            }],
        )
    };
    NodeClass {
        name: "default".to_owned(),
        uid: "class-uid".to_owned(),
        generation: 1,
        ready: true,
        not_ready: String::new(),
        subnets: BTreeMap::from([
            subnet("subnet-a", "us-east-1a"),
            subnet("subnet-b", "us-east-1b"),
        ]),
        security_groups: vec!["sg-1".to_owned()],
        images: BTreeMap::new(),
        hash: String::new(),
        catalogue: Arc::new(Catalogue {
            types,
            offerings,
            price_region: "us-east-1".to_owned(),
            has_foreign_prices: false,
            on_demand_priced_at: None,
            spot_priced_at: None,
        }),
        reservations: Vec::new(),
        placement_group: None,
        lists_interfaces: false,
    }
}

/// The world at a second: pool `general`, class `default`, and what is given.
pub(crate) fn world(second: i64, claims: &[Claim], nodes: &[Node], pods: &[Pod]) -> Snapshot {
    let mut snapshot = Snapshot::empty(at(second));
    snapshot
        .node_pools
        .insert("general".to_owned(), Arc::new(node_pool("general")));
    snapshot
        .node_classes
        .insert("default".to_owned(), Arc::new(node_class()));
    for claim in claims {
        snapshot
            .claims
            .insert(claim.name.clone(), Arc::new(claim.clone()));
    }
    for node in nodes {
        snapshot
            .nodes
            .insert(node.name.clone(), Arc::new(node.clone()));
    }
    for pod in pods {
        snapshot.pods.insert(pod.key.clone(), Arc::new(pod.clone()));
    }
    snapshot
}

/// A spread over zones that must hold, and counts nobody.
pub(crate) fn zone_spread() -> TopologySpread {
    TopologySpread {
        topology_key: "topology.kubernetes.io/zone".to_owned(),
        max_skew: 1,
        min_domains: None,
        required: true,
        selector: None,
        match_label_keys: Vec::new(),
        honor_node_affinity: true,
        honor_node_taints: false,
    }
}

/// The claim as one that was bought as spot, with the labels that tell so.
pub(crate) fn as_spot(mut claim: Claim) -> Claim {
    for (key, value) in [
        (labels::INSTANCE_TYPE, "c5.xlarge"),
        (labels::ZONE, "us-east-1a"),
        (labels::CAPACITY_TYPE, "spot"),
    ] {
        Arc::make_mut(&mut claim.labels).insert(key.to_owned(), value.to_owned());
    }
    claim
}
