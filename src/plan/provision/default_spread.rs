//! The cluster's default topology spread constraints.
//!
//! Given a snapshot; given back the classes of waiting pods with the defaults on those that kube-scheduler
//! would put them on: pods with no constraint of their own that a ReplicaSet, a ReplicationController or a
//! StatefulSet made. It selects by what selects them; here their own labels stand for that, without
//! those that each pod of a set has for itself, which comes to the same pods.
//!
//! kube-scheduler puts them also on pods that only a Service selects. Services are not in a snapshot:
//! those pods are planned without defaults.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::demand::{self, PodClass};
use crate::api::labels::normalize;
use crate::model::pod::{LabelSelector, Pod, PodKey, PodSpec, TopologySpread};
use crate::model::snapshot::Snapshot;

/// Labels that tell the pods of one StatefulSet apart.
const OWN_LABELS: [&str; 2] = [
    "statefulset.kubernetes.io/pod-name",
    "apps.kubernetes.io/pod-index",
];

/// The classes of waiting pods with the defaults, ordered by their specs.
pub fn classes(snapshot: &Snapshot, defaults: &[TopologySpread]) -> Vec<PodClass> {
    let classes = demand::classes(snapshot);
    if defaults.is_empty() {
        return classes;
    }
    let mut by_spec: BTreeMap<Arc<PodSpec>, Vec<PodKey>> = BTreeMap::new();
    for class in classes {
        let own = class.spec.constraints.as_deref();
        let (owned, others): (Vec<PodKey>, Vec<PodKey>) = if own
            .is_some_and(|constraints| !constraints.spread.is_empty())
        {
            (Vec::new(), class.pods)
        } else {
            let is_owned = |key: &PodKey| snapshot.pods.get(key).is_some_and(|pod| is_of_set(pod));
            class.pods.into_iter().partition(is_owned)
        };
        if !owned.is_empty() {
            let spec = Arc::new(spread(&class.spec, defaults));
            by_spec.entry(spec).or_default().extend(owned);
        }
        if !others.is_empty() {
            by_spec.entry(class.spec).or_default().extend(others);
        }
    }
    by_spec
        .into_iter()
        .map(|(spec, mut pods)| {
            pods.sort_unstable();
            PodClass { spec, pods }
        })
        .collect()
}

fn is_of_set(pod: &Pod) -> bool {
    let kinds = ["ReplicaSet", "ReplicationController", "StatefulSet"];
    pod.owner
        .as_ref()
        .is_some_and(|owner| kinds.contains(&owner.kind.as_str()))
}

/// The spec with the defaults, selecting pods with its labels.
fn spread(spec: &PodSpec, defaults: &[TopologySpread]) -> PodSpec {
    let labels = spec.labels.iter();
    let labels = labels.filter(|(key, _value)| !OWN_LABELS.contains(&key.as_str()));
    let selector = LabelSelector {
        match_labels: labels
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect(),
        match_expressions: Vec::new(),
    };
    let mut constraints = spec.constraints.as_deref().cloned().unwrap_or_default();
    constraints.spread = defaults
        .iter()
        .map(|spread| TopologySpread {
            topology_key: normalize(&spread.topology_key).to_owned(),
            selector: Some(selector.clone()),
            ..spread.clone()
        })
        .collect();
    PodSpec {
        constraints: Some(Arc::new(constraints)),
        ..spec.clone()
    }
}
