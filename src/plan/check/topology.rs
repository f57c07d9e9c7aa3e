//! Constraints between pods, on the state that the plan leads to.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::fleet::{Fleet, FutureNode};
use crate::model::pod::{LabelSelector, Pod, PodSpec, PodTerm, TopologySpread};
use crate::model::requirement::Requirement;
use crate::model::snapshot::Snapshot;
use crate::model::taint::first_untolerated;

/// Checks every pod that the plan places, and the anti-affinity of pods that run.
pub fn check(snapshot: &Snapshot, fleet: &Fleet, wrong: &mut Vec<String>) {
    let mut judged: BTreeSet<(*const PodSpec, &str)> = BTreeSet::new();
    let nodes = fleet.nodes.iter();
    let filled: Vec<&FutureNode> = nodes.filter(|node| !node.planned.is_empty()).collect();
    for node in &fleet.nodes {
        for pod in &node.planned {
            let Some(constraints) = &pod.spec.constraints else {
                continue;
            };
            if !judged.insert((Arc::as_ptr(&pod.spec), &node.name)) {
                continue;
            }
            let must_hold = || constraints.spread.iter().filter(|spread| spread.required);
            let keys: Vec<&str> = must_hold()
                .map(|spread| spread.topology_key.as_str())
                .collect();
            for spread in must_hold() {
                check_spread(fleet, node, (pod, &keys), spread, wrong);
            }
            for term in &constraints.affinity {
                let terms = &constraints.affinity;
                check_affinity(snapshot, fleet, node, (pod, terms), term, wrong);
            }
        }
        let all = node.planned.iter().chain(&node.present).chain(&node.coming);
        for pod in all {
            for term in pod.spec.constraints.iter().flat_map(|c| &c.anti_affinity) {
                check_anti(snapshot, (fleet, &filled), node, pod, term, wrong);
            }
        }
    }
}

/// A selector with the labels that matchLabelKeys and mismatchLabelKeys add.
fn selects(
    selector: Option<&LabelSelector>,
    owner: &PodSpec,
    same: &[String],
    different: &[String],
    other: &PodSpec,
) -> bool {
    let value = |spec: &'_ PodSpec, key: &str| spec.labels.get(key).cloned();
    selector.is_some_and(|selector| selector.matches(&other.labels))
        && same
            .iter()
            .all(|key| value(owner, key).is_none() || value(owner, key) == value(other, key))
        && different.iter().all(|key| {
            value(owner, key).is_none_or(|own| {
                Requirement::none_of([own]).accepts(other.labels.get(key).map(String::as_str))
            })
        })
}

fn term_selects(snapshot: &Snapshot, owner: &PodSpec, term: &PodTerm, other: &PodSpec) -> bool {
    let by_label = term.namespace_selector.as_ref().is_some_and(|selector| {
        let empty = BTreeMap::new();
        let labels = snapshot
            .namespaces
            .get(&other.namespace)
            .map_or(&empty, |namespace| &namespace.labels);
        *selector == LabelSelector::default() || selector.matches(labels)
    });
    let own = term.namespaces.is_empty()
        && term.namespace_selector.is_none()
        && owner.namespace == other.namespace;
    (own || by_label || term.namespaces.contains(&other.namespace))
        && selects(
            term.selector.as_ref(),
            owner,
            &term.match_label_keys,
            &term.mismatch_label_keys,
            other,
        )
}

/// The pods of a node. Those that are ending are among them until they are gone: they keep others away, and neither
/// company nor spread counts them.
fn pods(node: &FutureNode) -> impl Iterator<Item = &Arc<Pod>> {
    node.present.iter().chain(&node.planned).chain(&node.coming)
}

fn check_spread(
    fleet: &Fleet,
    node: &FutureNode,
    (pod, keys): (&Pod, &[&str]),
    spread: &TopologySpread,
    wrong: &mut Vec<String>,
) {
    let mut counts: BTreeMap<&str, i64> = BTreeMap::new();
    let selector = spread.counted(&pod.spec);
    for other in &fleet.nodes {
        // A node counts for a spread only if it has the labels of all of them.
        if !keys.iter().all(|key| other.labels.contains_key(*key)) {
            continue;
        }
        let Some(value) = other.labels.get(&spread.topology_key) else {
            continue;
        };
        if spread.honor_node_affinity && !pod.spec.selects(&other.name, &other.labels) {
            continue;
        }
        if spread.honor_node_taints
            && first_untolerated(&other.taints, &pod.spec.tolerations).is_some()
        {
            continue;
        }
        let here = pods(other)
            .filter(|found| {
                found.deleting_until.is_none()
                    && found.spec.namespace == pod.spec.namespace
                    && selects(
                        selector,
                        &pod.spec,
                        &spread.match_label_keys,
                        &[],
                        &found.spec,
                    )
            })
            .count();
        *counts.entry(value).or_default() += i64::try_from(here).unwrap_or(i64::MAX);
    }
    let Some(own) = node
        .labels
        .get(&spread.topology_key)
        .and_then(|value| counts.get(value.as_str()))
    else {
        wrong.push(format!(
            "{}: {} is spread over {}, which the node lacks",
            node.name, pod.key, spread.topology_key
        ));
        return;
    };
    let few = spread
        .min_domains
        .is_some_and(|least| i64::try_from(counts.len()).unwrap_or(0) < i64::from(least));
    let least = if few {
        0
    } else {
        counts.values().min().copied().unwrap_or(0)
    };
    if own - least > i64::from(spread.max_skew) {
        wrong.push(format!(
            "{}: {} breaks maxSkew {} over {}: {counts:?}",
            node.name, pod.key, spread.max_skew, spread.topology_key
        ));
    }
    same_everywhere(node, pod, &spread.topology_key, wrong);
}

fn check_affinity(
    snapshot: &Snapshot,
    fleet: &Fleet,
    node: &FutureNode,
    (pod, terms): (&Pod, &[PodTerm]),
    term: &PodTerm,
    wrong: &mut Vec<String>,
) {
    // One and the same pod must meet every term.
    let selects_all = |other: &PodSpec| {
        terms
            .iter()
            .all(|term| term_selects(snapshot, &pod.spec, term, other))
    };
    let own = node.labels.get(&term.topology_key);
    let mut near = false;
    let mut far = false;
    for other in &fleet.nodes {
        let matching = pods(other)
            .filter(|found| found.key != pod.key && found.deleting_until.is_none())
            .any(|found| selects_all(&found.spec));
        if matching {
            let value = other.labels.get(&term.topology_key);
            near |= own.is_some() && value == own;
            far |= value.is_some() && value != own;
        }
    }
    let itself = selects_all(&pod.spec);
    if own.is_none() || !(near || (itself && !far)) {
        wrong.push(format!(
            "{}: {} has no pod near it over {} that its affinity selects",
            node.name, pod.key, term.topology_key
        ));
    }
    // A DaemonSet's pod lands on the node itself, wherever that is.
    let key = &term.topology_key;
    let by_daemons = node.coming.iter().any(|daemon| {
        let lands = |labels: &BTreeMap<String, String>| {
            labels.contains_key(key) && daemon.spec.selects(&node.name, labels)
        };
        selects_all(&daemon.spec) && node.alternatives.iter().all(lands)
    });
    if !by_daemons {
        same_everywhere(node, pod, key, wrong);
    }
}

/// Checks what a pod keeps away from. One that the plan does not place is held only against those that it does:
/// `filled` are the nodes that have such.
fn check_anti(
    snapshot: &Snapshot,
    (fleet, filled): (&Fleet, &[&FutureNode]),
    node: &FutureNode,
    pod: &Pod,
    term: &PodTerm,
    wrong: &mut Vec<String>,
) {
    let Some(own) = node.labels.get(&term.topology_key) else {
        return;
    };
    let planned_here = node.planned.iter().any(|planned| planned.key == pod.key);
    let is_near = |other: &&FutureNode| other.labels.get(&term.topology_key) == Some(own);
    let is_shunned = |found: &&Arc<Pod>| {
        found.key != pod.key && term_selects(snapshot, &pod.spec, term, &found.spec)
    };
    let found = if planned_here {
        let near = fleet.nodes.iter().filter(is_near);
        near.flat_map(pods).find(is_shunned)
    } else {
        let near = filled.iter().copied().filter(is_near);
        near.flat_map(|other| &other.planned).find(is_shunned)
    };
    if let Some(found) = found {
        wrong.push(format!(
            "{}: {} keeps away from {} over {}",
            node.name, pod.key, found.key, term.topology_key
        ));
    }
}

/// A pod that is coupled over a label must keep the label's value whichever alternative is bought.
fn same_everywhere(node: &FutureNode, pod: &Pod, key: &str, wrong: &mut Vec<String>) {
    let own = node.labels.get(key);
    let differs = key != "kubernetes.io/hostname"
        && node
            .alternatives
            .iter()
            .any(|labels| labels.get(key) != own);
    if differs {
        wrong.push(format!(
            "{}: {} is coupled over {key}, but the alternatives differ in it",
            node.name, pod.key
        ));
    }
}
