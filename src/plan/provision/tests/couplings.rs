//! Constraints between pods: who counts for whom, found without asking everybody, and what comes before
//! the price of a place.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fastrand::Rng;

use super::{add_pods, plan, pool, spec, world};
use crate::model::pod::{
    HostPort, LabelSelector, PodConstraints, PodKey, PodSpec, PodTerm, TopologySpread,
};
use crate::model::requirement::Requirement;
use crate::model::snapshot::Snapshot;
use crate::plan::provision::class::{self, Class};
use crate::plan::provision::default_spread;
use crate::plan::provision::topology::group::{Group, Groups, Kind, Scope};

const ZONE: &str = "topology.kubernetes.io/zone";
const HOSTNAME: &str = "kubernetes.io/hostname";

fn selector(labels: &[(&str, &str)]) -> LabelSelector {
    LabelSelector {
        match_labels: labels
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect(),
        match_expressions: Vec::new(),
    }
}

fn term(key: &str, selector: LabelSelector) -> PodTerm {
    PodTerm {
        topology_key: key.to_owned(),
        selector: Some(selector),
        namespaces: Vec::new(),
        namespace_selector: None,
        match_label_keys: Vec::new(),
        mismatch_label_keys: Vec::new(),
    }
}

fn spread(key: &str, selector: LabelSelector, required: bool) -> TopologySpread {
    TopologySpread {
        topology_key: key.to_owned(),
        max_skew: 1,
        min_domains: None,
        required,
        selector: Some(selector),
        match_label_keys: Vec::new(),
        honor_node_affinity: true,
        honor_node_taints: false,
    }
}

fn coupled(labels: &[(&str, &str)], constraints: PodConstraints) -> PodSpec {
    PodSpec {
        labels: selector(labels).match_labels,
        constraints: Some(Arc::new(constraints)),
        ..spec(500, 512)
    }
}

/// Pods with up to three labels, whose constraints select by up to two.
fn tangled(seed: u64) -> Snapshot {
    let mut random = Rng::with_seed(seed);
    let mut snapshot = world(vec![pool("general", &["c5.xlarge"])]);
    let labels = |random: &mut Rng, most: usize| -> Vec<(&str, &str)> {
        let count = random.usize(0..=most);
        (0..count)
            .map(|_label| {
                let key = ["app", "team", "tier"][random.usize(..3)];
                (key, ["x", "y", "z"][random.usize(..3)])
            })
            .collect()
    };
    for index in 0..12 {
        let mut constraints = PodConstraints::default();
        for _term in 0..random.usize(..3) {
            let selected = selector(&labels(&mut random, 2));
            let key = [ZONE, HOSTNAME][random.usize(..2)];
            match random.usize(..4) {
                0 => constraints.affinity.push(term(key, selected)),
                1 => constraints.anti_affinity.push(term(key, selected)),
                2 => constraints.spread.push(spread(key, selected, true)),
                _ => constraints.spread.push(spread(key, selected, false)),
            }
        }
        if random.bool() {
            constraints.host_ports.push(HostPort {
                address: ["", "10.0.0.1"][random.usize(..2)].to_owned(),
                port: random.i32(80..82),
                protocol: "TCP".to_owned(),
            });
        }
        let own = labels(&mut random, 3);
        add_pods(
            &mut snapshot,
            &format!("p{index}"),
            1,
            &coupled(&own, constraints),
        );
    }
    snapshot
}

fn classes(snapshot: &Snapshot) -> Vec<Class> {
    class::read(snapshot, default_spread::classes(snapshot, &[]))
}

#[test]
fn groups_count_everybody_whom_they_select_and_nobody_else() {
    for seed in 0..100 {
        let snapshot = tangled(seed);
        let classes = classes(&snapshot);
        let groups = Groups::of(&snapshot, &classes);
        for group in &groups.groups {
            let expected: BTreeSet<usize> = (0..classes.len())
                .filter(|index| group.scope.counts(&classes[*index].spec))
                .collect();
            assert_eq!(group.members, expected, "seed {seed}: {:?}", group.scope);
        }
    }
}

/// Whose affinity can never be met, by asking everybody again and again.
fn stuck(groups: &[Group], count: usize) -> BTreeSet<usize> {
    let chains = |group: &&Group| group.required && group.kind == Kind::Affinity;
    let follows = |class: usize| {
        let all = groups.iter().filter(chains);
        all.filter(move |group| group.triggers.contains_key(&class))
    };
    let mut stuck: BTreeSet<usize> = (0..count)
        .filter(|class| follows(*class).next().is_some())
        .collect();
    loop {
        let before = stuck.clone();
        stuck.retain(|class| {
            !follows(*class).all(|group| {
                let mut members = group.members.iter();
                group.members.contains(class) || members.any(|member| !before.contains(member))
            })
        });
        if stuck == before {
            return stuck;
        }
    }
}

#[test]
fn pods_that_wait_for_each_other_in_turn_are_found() {
    let mut found = 0;
    for seed in 0..300 {
        let snapshot = tangled(seed);
        let classes = classes(&snapshot);
        let mut groups = Groups::of(&snapshot, &classes);
        let expected = stuck(&groups.groups, classes.len());
        assert_eq!(groups.take_stuck(|_group| false), expected, "seed {seed}");
        found += expected.len();
        let mut all = groups.groups.iter();
        assert!(all.all(|group| group.members.is_disjoint(&expected)));
    }
    assert!(found > 100, "{found} are too few to show anything");
}

#[test]
fn labels_that_no_node_has_are_told_to_those_alone_who_need_them() {
    let mut snapshot = world(vec![pool("general", &["c5.xlarge"])]);
    let all = || selector(&[("app", "x")]);
    for index in 0..3 {
        let mut constraints = PodConstraints::default();
        let key = format!("example.com/row-{index}");
        match index {
            0 => constraints.spread.push(spread(&key, all(), true)),
            1 => constraints.anti_affinity.push(term(&key, all())),
            _ => constraints.spread.push(spread(&key, all(), false)),
        }
        let own = coupled(&[("app", "x")], constraints);
        add_pods(&mut snapshot, &format!("p{index}"), 2, &own);
    }
    let plan = plan(&snapshot);
    let left: Vec<String> = plan.unschedulable.keys().map(ToString::to_string).collect();
    assert_eq!(left, ["default/p0-0", "default/p0-1"]);
    let reasons = &plan.unschedulable[&PodKey::new("default", "p0-0")].reasons;
    assert!(
        reasons[0].detail.contains("label example.com/row-0, which"),
        "{}",
        reasons[0].detail
    );
    let placed: usize = plan.new_nodes.iter().map(|node| node.pods.len()).sum();
    assert_eq!((plan.new_nodes.len(), placed), (1, 4));
}

#[test]
fn the_heavier_pool_comes_first_for_coupled_pods_too() {
    let in_zone = |name: &str, types: &[&str], zone: &str, weight: i32| {
        let mut pool = pool(name, types);
        pool.requirements.add(ZONE, &Requirement::one_of([zone]));
        pool.weight = weight;
        pool
    };
    let mut snapshot = world(vec![
        in_zone("dear", &["c5.4xlarge"], "us-east-1b", 10),
        in_zone("cheap", &["t3.medium"], "us-east-1a", 1),
    ]);
    let mut constraints = PodConstraints::default();
    let all = selector(&[("app", "x")]);
    constraints.affinity.push(term(ZONE, all));
    add_pods(
        &mut snapshot,
        "x",
        2,
        &coupled(&[("app", "x")], constraints),
    );
    let plan = plan(&snapshot);
    let pools: BTreeMap<&str, usize> = plan
        .new_nodes
        .iter()
        .map(|node| (node.node_pool.as_str(), node.pods.len()))
        .collect();
    assert_eq!(pools, BTreeMap::from([("dear", 2)]));
}

#[test]
fn every_port_of_a_pod_finds_its_group() {
    let port = |address: &str| HostPort {
        address: address.to_owned(),
        port: 80,
        protocol: "TCP".to_owned(),
    };
    let scope = Scope::Port(port("10.0.0.1"));
    let with = |address: &str| {
        let constraints = PodConstraints {
            host_ports: vec![port(address)],
            ..PodConstraints::default()
        };
        coupled(&[], constraints)
    };
    assert!(scope.counts(&with("10.0.0.1")));
    assert!(scope.counts(&with("")));
    assert!(!scope.counts(&with("10.0.0.2")));
}

/// A pool without room left makes no node in its zone: that zone is no empty domain that others wait for.
#[test]
fn a_zone_whose_pool_is_used_up_holds_no_spread_back() {
    let of_zone = |name: &str, zone: &str, nodes: Option<i64>| {
        let mut pool = pool(name, &["c5.xlarge"]);
        pool.requirements.add(ZONE, &Requirement::one_of([zone]));
        match nodes {
            Some(0) => pool.zero_limits.push("nodes".to_owned()),
            Some(nodes) => pool.limits.set("nodes", nodes),
            None => {}
        }
        pool
    };
    let constraints = PodConstraints {
        spread: vec![spread(ZONE, selector(&[("app", "web")]), true)],
        ..PodConstraints::default()
    };
    let web = coupled(&[("app", "web")], constraints);
    let left_out = |nodes: Option<i64>| {
        let first = of_zone("first", "us-east-1a", None);
        let mut snapshot = world(vec![first, of_zone("second", "us-east-1b", nodes)]);
        add_pods(&mut snapshot, "web", 4, &web);
        plan(&snapshot).unschedulable.len()
    };
    assert_eq!(left_out(None), 0);
    assert_eq!(left_out(Some(1)), 0);
    assert_eq!(left_out(Some(0)), 0);
}
