//! Random small worlds: whatever the pods ask for, every plan passes the independent check.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use super::reserved::reservation;
use super::{add_pods, claims_of, plan, pool, spec, world};
use crate::model::labels::LabelSet;
use crate::model::node::Node;
use crate::model::pod::{
    Expression, HostPort, LabelSelector, NodeTerm, Pod, PodConstraints, PodKey, PodPhase, PodSpec,
    PodTerm, TopologySpread,
};
use crate::model::resources::{CPU, MEMORY, PODS, Resources};
use crate::model::snapshot::Snapshot;
use crate::model::workload::DaemonSet;

/// A world that prints only what differs between cases.
struct World(Snapshot);

impl fmt::Debug for World {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for pool in self.0.node_pools.values() {
            writeln!(
                formatter,
                "pool {} {:?} {:?}",
                pool.name, pool.limits, pool.zero_limits
            )?;
        }
        for class in self.0.node_classes.values() {
            for found in &class.reservations {
                let (key, free) = (&found.offering.key, found.free);
                writeln!(formatter, "reservation {} {key} {free}", found.id)?;
            }
        }
        for set in self.0.daemon_sets.values() {
            writeln!(formatter, "daemons {} {:?}", set.name, set.spec.constraints)?;
        }
        for node in self.0.nodes.values() {
            writeln!(
                formatter,
                "node {} {:?} {:?}",
                node.name, node.labels, node.allocatable
            )?;
        }
        let mut last = None;
        for pod in self.0.pods.values() {
            let pointer = Arc::as_ptr(&pod.spec);
            if last == Some(pointer) {
                writeln!(formatter, "pod {} the same", pod.key)?;
            } else {
                let spec = &pod.spec;
                writeln!(
                    formatter,
                    "pod {} {:?} {:?} {:?} {} {:?}",
                    pod.key,
                    pod.node_name,
                    spec.labels,
                    spec.requests,
                    spec.priority,
                    spec.constraints
                )?;
            }
            last = Some(pointer);
        }
        Ok(())
    }
}

const ZONES: [&str; 3] = ["us-east-1a", "us-east-1b", "us-east-1c"];
const APPS: [&str; 3] = ["web", "batch", "cache"];
/// The label of the pods of DaemonSets.
const AGENT: &str = "agent";
const ZONE: &str = "topology.kubernetes.io/zone";
const HOSTNAME: &str = "kubernetes.io/hostname";

fn selector(app: &str) -> LabelSelector {
    LabelSelector {
        match_labels: BTreeMap::from([("app".to_owned(), app.to_owned())]),
        match_expressions: Vec::new(),
    }
}

fn term(key: &str, app: &str) -> PodTerm {
    PodTerm {
        topology_key: key.to_owned(),
        selector: Some(selector(app)),
        namespaces: Vec::new(),
        namespace_selector: None,
        match_label_keys: Vec::new(),
        mismatch_label_keys: Vec::new(),
    }
}

fn key() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![ZONE, HOSTNAME])
}

fn app() -> impl Strategy<Value = &'static str> {
    prop::sample::select(APPS.to_vec())
}

/// Pods that others may want to be near or apart from: those of DaemonSets, too.
fn company() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["web", "batch", "cache", AGENT])
}

prop_compose! {
    /// Lands on every node of some zones, or on every node at all.
    fn daemon_spec()(
        port in prop::option::weighted(0.3, 8000..8002_i32),
        shuns in prop::option::weighted(0.3, (key(), app())),
        zones in prop::option::weighted(0.5, prop::sample::subsequence(ZONES.to_vec(), 1..3)),
    ) -> PodSpec {
        let constraints = PodConstraints {
            anti_affinity: shuns.map(|(key, app)| term(key, app)).into_iter().collect(),
            host_ports: port
                .map(|port| HostPort { address: String::new(), port, protocol: "TCP".to_owned() })
                .into_iter()
                .collect(),
            required_node_terms: zones.map(|zones| zone_term(zones, "In")).into_iter().collect(),
            ..PodConstraints::default()
        };
        PodSpec {
            labels: BTreeMap::from([("app".to_owned(), AGENT.to_owned())]),
            constraints: Some(Arc::new(constraints)),
            ..spec(100, 64)
        }
    }
}

prop_compose! {
    fn spread()(
        key in key(),
        app in app(),
        max_skew in 1..3_i32,
        min_domains in prop::option::of(1..4_i32),
        required in prop::bool::weighted(0.7),
        honor_node_affinity in any::<bool>(),
    ) -> TopologySpread {
        TopologySpread {
            topology_key: key.to_owned(),
            max_skew,
            min_domains,
            required,
            selector: Some(selector(app)),
            match_label_keys: Vec::new(),
            honor_node_affinity,
            honor_node_taints: false,
        }
    }
}

fn zone_term(zones: Vec<&'static str>, operator: &'static str) -> NodeTerm {
    NodeTerm {
        expressions: vec![Expression {
            key: ZONE.to_owned(),
            operator: operator.to_owned(),
            values: zones.into_iter().map(str::to_owned).collect(),
        }],
        fields: Vec::new(),
    }
}

prop_compose! {
    fn constraints()(
        spread in prop::collection::vec(spread(), 0..2),
        affinity in prop::collection::vec((key(), company()), 0..2),
        anti in prop::collection::vec((key(), company()), 0..2),
        likes in prop::collection::vec((1..100_i32, key(), app()), 0..2),
        dislikes in prop::collection::vec((1..100_i32, key(), app()), 0..2),
        port in prop::option::weighted(0.2, 8000..8002_i32),
        zones in prop::option::weighted(0.3, prop::sample::subsequence(ZONES.to_vec(), 1..3)),
        operator in prop::sample::select(vec!["In", "NotIn"]),
        liked in prop::option::weighted(0.3, (1..=100_i32, prop::sample::select(ZONES.to_vec()))),
        which in 0..8_u8,
    ) -> PodConstraints {
        let mut constraints = PodConstraints::default();
        if which & 1 != 0 {
            constraints.spread = spread;
        }
        if which & 2 != 0 {
            constraints.affinity = affinity.into_iter().map(|(key, app)| term(key, app)).collect();
        }
        if which & 4 != 0 {
            constraints.anti_affinity = anti.into_iter().map(|(key, app)| term(key, app)).collect();
        }
        let weighted = |list: Vec<(i32, &str, &str)>| {
            list.into_iter().map(|(weight, key, app)| (weight, term(key, app))).collect()
        };
        constraints.preferred_node_terms =
            liked.map(|(weight, zone)| (weight, zone_term(vec![zone], "In"))).into_iter().collect();
        constraints.preferred_affinity = weighted(likes);
        constraints.preferred_anti_affinity = weighted(dislikes);
        constraints.host_ports = port
            .map(|port| HostPort { address: String::new(), port, protocol: "TCP".to_owned() })
            .into_iter()
            .collect();
        constraints.required_node_terms =
            zones.map(|zones| zone_term(zones, operator)).into_iter().collect();
        constraints
    }
}

prop_compose! {
    fn pod_spec()(
        app in app(),
        cpu in 1..40_i64,
        memory in 1..60_i64,
        priority in 0..3_i32,
        constraints in prop::option::weighted(0.7, constraints()),
    ) -> PodSpec {
        PodSpec {
            labels: BTreeMap::from([("app".to_owned(), app.to_owned())]),
            priority,
            constraints: constraints.map(Arc::new),
            ..spec(cpu * 100, memory * 100)
        }
    }
}

fn add_node(snapshot: &mut Snapshot, name: &str, zone: &str, cpu: i64, pods: &[(PodSpec, bool)]) {
    let amounts = Resources::new()
        .with(CPU, cpu)
        .with(MEMORY, 16 << 30)
        .with(PODS, 20);
    let node = Node {
        name: name.to_owned(),
        uid: String::new(),
        created: Timestamp::UNIX_EPOCH,
        deleting_since: None,
        provider_id: String::new(),
        labels: LabelSet::from_iter([(ZONE.to_owned(), zone.to_owned())]),
        annotations: BTreeMap::new(),
        finalizers: Vec::new(),
        taints: Vec::new(),
        unschedulable: false,
        ready: true,
        capacity: amounts.clone(),
        allocatable: amounts,
    };
    snapshot.nodes.insert(name.to_owned(), Arc::new(node));
    for (index, (spec, ending)) in pods.iter().enumerate() {
        // What runs already is taken as it is, so its own constraints on others must hold: only
        // plain pods run here, and the tests of anti-affinity add theirs by hand.
        let mut spec = spec.clone();
        spec.constraints = None;
        let key = PodKey::new("default", &format!("{name}-{index}"));
        add_pods(snapshot, &format!("{name}-x"), 1, &spec);
        let template = snapshot
            .pods
            .remove(&PodKey::new("default", &format!("{name}-x-0")));
        if let Some(template) = template {
            let pod = Pod {
                key: key.clone(),
                node_name: Some(name.to_owned()),
                phase: PodPhase::Running,
                unschedulable: false,
                deleting_until: ending.then_some(Timestamp::UNIX_EPOCH),
                ..Pod::clone(&template)
            };
            snapshot.pods.insert(key, Arc::new(pod));
        }
    }
}

prop_compose! {
    fn any_world()(
        specs in prop::collection::vec((pod_spec(), 1..7_usize), 1..7),
        nodes in prop::collection::vec(
            (0..3_usize, 20..80_i64, prop::collection::vec((pod_spec(), any::<bool>()), 0..3)),
            0..4,
        ),
        limit in prop::option::of(0..6_i64),
        second in any::<bool>(),
        slots in prop::collection::vec((0..3_usize, 0..3_usize, 0..4_u32, 0..4_u32), 0..3),
        daemons in prop::collection::vec(daemon_spec(), 0..2),
    ) -> World {
        let mut first = pool("first", &["c5.xlarge", "c5.2xlarge", "t3.medium"]);
        first.weight = 5;
        match limit {
            Some(0) => first.zero_limits.push("nodes".to_owned()),
            Some(limit) => first.limits.set("nodes", limit),
            None => {}
        }
        let mut pools = vec![first];
        if second {
            pools.push(pool("second", &["c5.4xlarge", "c5.xlarge"]));
        }
        let mut snapshot = world(pools);
        for (index, (zone, cpu, pods)) in nodes.into_iter().enumerate() {
            add_node(&mut snapshot, &format!("node-{index}"), ZONES[zone], cpu * 100, &pods);
        }
        for (index, (spec, count)) in specs.into_iter().enumerate() {
            add_pods(&mut snapshot, &format!("pod{index}"), count, &spec);
        }
        for (index, spec) in daemons.into_iter().enumerate() {
            let name = format!("agent-{index}");
            let set = DaemonSet {
                namespace: "default".to_owned(),
                name: name.clone(),
                spec: Arc::new(spec),
            };
            snapshot.daemon_sets.insert(format!("default/{name}"), Arc::new(set));
        }
        let class = snapshot.node_classes.get_mut("default").unwrap();
        Arc::make_mut(class).reservations = slots
            .into_iter()
            .enumerate()
            .map(|(index, (instance_type, zone, total, free))| {
                let id = format!("cr-{index}");
                let instance_type = ["c5.xlarge", "c5.2xlarge", "c5.4xlarge"][instance_type];
                let mut found = reservation(&id, instance_type, total, free.min(total));
                found.offering.key.zone = ZONES[zone].into();
                found
            })
            .collect();
        World(snapshot)
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 300,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(4),
        ..ProptestConfig::default()
    })]

    #[test]
    fn every_plan_passes_the_independent_check(world in any_world()) {
        let first = plan(&world.0);
        let again = plan(&world.0);
        prop_assert_eq!(&first, &again);
    }

    #[test]
    fn carrying_a_plan_out_leaves_nothing_to_buy(world in any_world()) {
        let first = plan(&world.0);
        // A pod that found no place may find one beside what was bought for others.
        prop_assume!(first.unschedulable.is_empty());
        let mut after = world.0;
        after.claims = claims_of(&first);
        // kube-scheduler binds what fits the nodes that are there.
        for (node, pods) in &first.existing {
            for key in pods {
                let bound = Pod {
                    node_name: Some(node.clone()),
                    phase: PodPhase::Running,
                    unschedulable: false,
                    ..Pod::clone(&after.pods[key])
                };
                after.pods.insert(key.clone(), Arc::new(bound));
            }
        }
        let second = plan(&after);
        let bought: Vec<_> = second.new_nodes.iter().map(|node| &node.pods).collect();
        prop_assert!(bought.is_empty(), "first {first:#?} second {second:#?}");
    }
}
