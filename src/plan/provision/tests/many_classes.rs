//! Ten thousand pods of which no two are alike: every one of them gets a place or a reason.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{ProvisionSettings, add_pods, plan, pool, spec, world};
use crate::model::pod::{LabelSelector, PodConstraints, PodKey, PodSpec, PodTerm, TopologySpread};
use crate::model::snapshot::Snapshot;
use crate::plan::provision::provision_guarded;

const PODS: usize = 10_000;
const ZONE: &str = "topology.kubernetes.io/zone";

fn only(value: &str) -> LabelSelector {
    LabelSelector {
        match_labels: BTreeMap::from([("app".to_owned(), value.to_owned())]),
        match_expressions: Vec::new(),
    }
}

/// A pod with a label, and constraints over that label, that no other has.
fn coupled(index: usize, spec: PodSpec) -> PodSpec {
    let app = format!("app-{index}");
    let mut constraints = PodConstraints::default();
    if index.is_multiple_of(2) {
        constraints.spread.push(TopologySpread {
            topology_key: ZONE.to_owned(),
            max_skew: 1,
            min_domains: None,
            required: true,
            selector: Some(only(&app)),
            match_label_keys: Vec::new(),
            honor_node_affinity: true,
            honor_node_taints: false,
        });
    } else {
        constraints.anti_affinity.push(PodTerm {
            topology_key: "kubernetes.io/hostname".to_owned(),
            selector: Some(only(&app)),
            namespaces: Vec::new(),
            namespace_selector: None,
            match_label_keys: Vec::new(),
            mismatch_label_keys: Vec::new(),
        });
    }
    PodSpec {
        labels: BTreeMap::from([("app".to_owned(), app)]),
        constraints: Some(Arc::new(constraints)),
        ..spec
    }
}

/// Every pod asks for one millicore more than the one before; the last ask for more than any machine has.
/// One in a hundred wants a node that nobody sells, one in fifty is coupled.
fn snapshot() -> Snapshot {
    let mut snapshot = world(vec![pool("general", &["c5.2xlarge", "t3.medium"])]);
    for index in 0..PODS {
        let cpu = i64::try_from(index).unwrap();
        let mut spec = spec(10 + cpu, 16 + cpu % 97);
        if index % 100 == 7 {
            spec.node_selector
                .insert("example.com/shape".to_owned(), format!("shape-{index}"));
        } else if index % 50 < 2 {
            spec = coupled(index, spec);
        }
        add_pods(&mut snapshot, &format!("pod-{index:05}"), 1, &spec);
    }
    snapshot
}

/// True for pods that no machine of the pool can take, or that want one that nobody sells.
fn cannot_be(index: usize) -> bool {
    let largest = 7910;
    10 + index > largest || index % 100 == 7
}

#[test]
fn ten_thousand_pods_of_which_no_two_are_alike_get_a_place_or_a_reason() {
    let snapshot = snapshot();
    // The helper has the plan judged by the independent checker, which misses no pod.
    let plan = plan(&snapshot);
    let placed: usize = plan.new_nodes.iter().map(|node| node.pods.len()).sum();
    assert_eq!(placed + plan.unschedulable.len(), PODS);
    for index in 0..PODS {
        let key = PodKey::new("default", &format!("pod-{index:05}-0"));
        let left_out = plan.unschedulable.get(&key);
        assert_eq!(left_out.is_some(), cannot_be(index), "{key}: {left_out:?}");
        assert!(left_out.is_none_or(|why| !why.reasons.is_empty()), "{key}");
    }
}

/// Who has no time at all for a plan still gets one, and nobody's place is lost to it.
#[test]
fn a_plan_that_is_ended_at_once_has_a_place_for_each_of_them_as_well() {
    let settings = ProvisionSettings::default();
    let plan = provision_guarded(&snapshot(), &settings, &|| true);
    assert!(plan.truncated);
    let left_out = (0..PODS).filter(|index| cannot_be(*index)).count();
    assert_eq!(plan.unschedulable.len(), left_out);
}
