//! Whether a node may take a pod: selectors, affinity to nodes, taints and free resources.

use std::collections::BTreeMap;

use crate::model::node::Node;
use crate::model::pod::{Expression, NodeTerm, PodSpec};
use crate::model::requirement::Requirement;
use crate::model::resources::Resources;
use crate::model::taint::first_untolerated;

/// True when selector and required affinity select a node of that name with these labels.
pub(super) fn selects(spec: &PodSpec, name: &str, labels: &BTreeMap<String, String>) -> bool {
    let selected = spec
        .node_selector
        .iter()
        .all(|(key, value)| labels.get(key) == Some(value));
    let terms = spec
        .constraints
        .as_ref()
        .map_or(&[][..], |constraints| &constraints.required_node_terms);
    selected && (terms.is_empty() || terms.iter().any(|term| term_selects(term, name, labels)))
}

fn term_selects(term: &NodeTerm, name: &str, labels: &BTreeMap<String, String>) -> bool {
    let holds = |expression: &Expression, value: Option<&str>| {
        Requirement::parse(&expression.operator, &expression.values)
            .is_ok_and(|requirement| requirement.accepts(value))
    };
    // A term without anything in it selects nothing.
    (!term.expressions.is_empty() || !term.fields.is_empty())
        && term
            .expressions
            .iter()
            .all(|found| holds(found, labels.get(&found.key).map(String::as_str)))
        && term
            .fields
            .iter()
            .all(|found| found.key == "metadata.name" && holds(found, Some(name)))
}

/// True when a node with so much used takes a pod.
pub(super) fn takes(node: &Node, used: &Resources, spec: &PodSpec) -> bool {
    let mut wanted = used.clone();
    wanted.add(&spec.requests);
    first_untolerated(&node.taints, &spec.tolerations).is_none()
        && selects(spec, &node.name, &node.labels)
        && wanted.fits(&node.allocatable)
}

/// How empty a node is after it took a pod: the mean of the free shares of processors and memory, of
/// 1000. kube-scheduler's default prefers the emptier node.
pub(super) fn emptiness(node: &Node, used: &Resources, spec: &PodSpec) -> i64 {
    let share = |resource: &str| {
        let all = node.allocatable.get(resource).max(1);
        let left = all - used.get(resource) - spec.requests.get(resource);
        i64::try_from(i128::from(left) * 1_000 / i128::from(all)).unwrap_or(0)
    };
    i64::midpoint(share("cpu"), share("memory"))
}
