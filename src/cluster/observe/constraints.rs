//! Affinity, spread, host ports and volumes of a pod.
//!
//! Given a pod spec as the API has it; given back the model's constraints, `None` when there are
//! none. Selectors and operators are kept as written; [`super::malformed`] judges them. Labels of nodes come
//! by their current names, whatever name a pod uses.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Affinity, Container, NodeSelectorRequirement, NodeSelectorTerm, PodAffinityTerm, PodSpec,
    TopologySpreadConstraint, WeightedPodAffinityTerm,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;

use crate::api::labels::normalize;
use crate::model::pod::{
    Expression, HostPort, LabelSelector, NodeTerm, PodConstraints, PodTerm, TopologySpread,
};

/// The constraints of a pod beyond selector, tolerations and requests.
pub fn of_pod(pod_name: &str, spec: &PodSpec) -> Option<PodConstraints> {
    let mut constraints = PodConstraints {
        spread: spec
            .topology_spread_constraints
            .iter()
            .flatten()
            .map(spread)
            .collect(),
        host_ports: host_ports(spec),
        volume_claims: volume_claims(pod_name, spec),
        ..PodConstraints::default()
    };
    if let Some(affinity) = &spec.affinity {
        add_affinity(&mut constraints, affinity);
    }
    (constraints != PodConstraints::default()).then_some(constraints)
}

fn add_affinity(constraints: &mut PodConstraints, affinity: &Affinity) {
    if let Some(node) = &affinity.node_affinity {
        if let Some(required) = &node.required_during_scheduling_ignored_during_execution {
            constraints.required_node_terms =
                required.node_selector_terms.iter().map(node_term).collect();
        }
        constraints.preferred_node_terms = node
            .preferred_during_scheduling_ignored_during_execution
            .iter()
            .flatten()
            .map(|preferred| (preferred.weight, node_term(&preferred.preference)))
            .collect();
    }
    if let Some(pods) = &affinity.pod_affinity {
        constraints.affinity = terms(
            pods.required_during_scheduling_ignored_during_execution
                .as_deref(),
        );
        constraints.preferred_affinity = weighted(
            pods.preferred_during_scheduling_ignored_during_execution
                .as_deref(),
        );
    }
    if let Some(pods) = &affinity.pod_anti_affinity {
        constraints.anti_affinity = terms(
            pods.required_during_scheduling_ignored_during_execution
                .as_deref(),
        );
        constraints.preferred_anti_affinity = weighted(
            pods.preferred_during_scheduling_ignored_during_execution
                .as_deref(),
        );
    }
}

fn terms(list: Option<&[PodAffinityTerm]>) -> Vec<PodTerm> {
    list.unwrap_or_default().iter().map(pod_term).collect()
}

fn weighted(list: Option<&[WeightedPodAffinityTerm]>) -> Vec<(i32, PodTerm)> {
    list.unwrap_or_default()
        .iter()
        .map(|weighted| (weighted.weight, pod_term(&weighted.pod_affinity_term)))
        .collect()
}

fn pod_term(term: &PodAffinityTerm) -> PodTerm {
    PodTerm {
        topology_key: normalize(&term.topology_key).to_owned(),
        selector: term.label_selector.as_ref().map(selector),
        namespaces: term.namespaces.clone().unwrap_or_default(),
        namespace_selector: term.namespace_selector.as_ref().map(selector),
        match_label_keys: term.match_label_keys.clone().unwrap_or_default(),
        mismatch_label_keys: term.mismatch_label_keys.clone().unwrap_or_default(),
    }
}

/// Labels of nodes by their current names. One that is there under both names stays as it is where they
/// differ: both must hold, or both are true.
pub fn by_current_names(labels: Option<&BTreeMap<String, String>>) -> BTreeMap<String, String> {
    let Some(labels) = labels else {
        return BTreeMap::new();
    };
    let named = |(key, value): (&String, &String)| {
        let current = normalize(key);
        let differs = labels.get(current).is_some_and(|other| other != value);
        let key = if differs { key.as_str() } else { current };
        (key.to_owned(), value.clone())
    };
    labels.iter().map(named).collect()
}

/// One node selector term.
pub fn node_term(term: &NodeSelectorTerm) -> NodeTerm {
    let expressions = |list: Option<&Vec<NodeSelectorRequirement>>| {
        list.into_iter()
            .flatten()
            .map(|requirement| Expression {
                key: normalize(&requirement.key).to_owned(),
                operator: requirement.operator.clone(),
                values: requirement.values.clone().unwrap_or_default(),
            })
            .collect()
    };
    NodeTerm {
        expressions: expressions(term.match_expressions.as_ref()),
        fields: expressions(term.match_fields.as_ref()),
    }
}

/// A label selector.
pub fn selector(selector: &meta::LabelSelector) -> LabelSelector {
    LabelSelector {
        match_labels: selector.match_labels.clone().unwrap_or_default(),
        match_expressions: selector
            .match_expressions
            .iter()
            .flatten()
            .map(|requirement| Expression {
                key: requirement.key.clone(),
                operator: requirement.operator.clone(),
                values: requirement.values.clone().unwrap_or_default(),
            })
            .collect(),
    }
}

fn spread(constraint: &TopologySpreadConstraint) -> TopologySpread {
    TopologySpread {
        topology_key: normalize(&constraint.topology_key).to_owned(),
        max_skew: constraint.max_skew,
        min_domains: constraint.min_domains,
        required: constraint.when_unsatisfiable != "ScheduleAnyway",
        selector: constraint.label_selector.as_ref().map(selector),
        match_label_keys: constraint.match_label_keys.clone().unwrap_or_default(),
        honor_node_affinity: constraint.node_affinity_policy.as_deref() != Some("Ignore"),
        honor_node_taints: constraint.node_taints_policy.as_deref() == Some("Honor"),
    }
}

/// True for an init container that keeps running beside the containers.
pub fn is_sidecar(init: &Container) -> bool {
    init.restart_policy.as_deref() == Some("Always")
}

/// Ports that the pod takes on the host: those of its containers and sidecars. Init containers that end before the pod
/// runs take none, as kube-scheduler has it.
fn host_ports(spec: &PodSpec) -> Vec<HostPort> {
    let host_network = spec.host_network == Some(true);
    let mut ports: Vec<HostPort> = spec
        .containers
        .iter()
        .chain(
            spec.init_containers
                .iter()
                .flatten()
                .filter(|init| is_sidecar(init)),
        )
        .flat_map(|container| container.ports.iter().flatten())
        .filter_map(|port| {
            let number = port
                .host_port
                .filter(|number| *number != 0)
                .or_else(|| host_network.then_some(port.container_port))?;
            let address = port.host_ip.as_deref().unwrap_or_default();
            (number > 0).then(|| HostPort {
                address: if matches!(address, "0.0.0.0" | "::") {
                    String::new()
                } else {
                    address.to_owned()
                },
                port: number,
                protocol: port.protocol.clone().unwrap_or_else(|| "TCP".to_owned()),
            })
        })
        .collect();
    ports.sort();
    ports.dedup();
    ports
}

/// Names of the PersistentVolumeClaims that the pod mounts; an ephemeral volume's claim is named
/// after pod and volume.
fn volume_claims(pod_name: &str, spec: &PodSpec) -> Vec<String> {
    let mut names: Vec<String> = spec
        .volumes
        .iter()
        .flatten()
        .filter_map(|volume| {
            if let Some(claim) = &volume.persistent_volume_claim {
                Some(claim.claim_name.clone())
            } else {
                volume
                    .ephemeral
                    .is_some()
                    .then(|| format!("{pod_name}-{}", volume.name))
            }
        })
        .collect();
    names.sort();
    names.dedup();
    names
}

/// Labels of a metadata, empty when absent.
pub fn labels(metadata: Option<&meta::ObjectMeta>) -> BTreeMap<String, String> {
    metadata
        .and_then(|metadata| metadata.labels.clone())
        .unwrap_or_default()
}
