//! Constraints that kube-apiserver would have refused.
//!
//! Given a pod spec of a manifest or a template, which no API server has seen yet; given back the first
//! field that has no meaning, what is wrong with it and what to write instead. The pod is left out
//! with that sentence, and no other pod is disturbed. What may be written but matches nothing is named
//! too, where a person can hardly have meant it.

use k8s_openapi::api::core::v1::{
    Affinity, NodeSelector, PodAffinityTerm, PodSpec, TopologySpreadConstraint,
    WeightedPodAffinityTerm,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

/// Ports that a host has.
const PORTS: std::ops::RangeInclusive<i32> = 1..=65_535;
/// Weights of preferences.
const WEIGHTS: std::ops::RangeInclusive<i32> = 1..=100;
const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

/// The first thing that is wrong with affinity, spread or host ports of a pod.
pub fn problem(spec: &PodSpec) -> Option<String> {
    let spread = spec.topology_spread_constraints.iter().flatten();
    let in_spread = spread.enumerate().find_map(|(index, constraint)| {
        let field = format!("topologySpreadConstraints[{index}]");
        of_spread(constraint).map(|(part, wrong)| format!("{field}.{part} {wrong}"))
    });
    in_spread
        .or_else(|| spec.affinity.as_ref().and_then(of_affinity))
        .or_else(|| of_ports(spec))
}

/// A field and what is wrong with it.
type Wrong = (String, String);

fn of_spread(constraint: &TopologySpreadConstraint) -> Option<Wrong> {
    let wrong = |field: &str, text: String| Some((field.to_owned(), text));
    if constraint.topology_key.is_empty() {
        return wrong("topologyKey", NO_TOPOLOGY_KEY.to_owned());
    }
    if constraint.max_skew < 1 {
        let given = constraint.max_skew;
        return wrong("maxSkew", format!("is {given}; it must be at least 1"));
    }
    let anyway = match constraint.when_unsatisfiable.as_str() {
        "DoNotSchedule" => false,
        "ScheduleAnyway" => true,
        other => {
            let text = format!("is `{other}`; use DoNotSchedule or ScheduleAnyway");
            return wrong("whenUnsatisfiable", text);
        }
    };
    match constraint.min_domains {
        Some(given) if given < 1 => {
            let text = format!("is {given}; it must be at least 1, or leave it out");
            return wrong("minDomains", text);
        }
        Some(_) if anyway => {
            let text =
                "counts with whenUnsatisfiable DoNotSchedule only; leave it out, or use that";
            return wrong("minDomains", text.to_owned());
        }
        _ => {}
    }
    let policies = [
        ("nodeAffinityPolicy", &constraint.node_affinity_policy),
        ("nodeTaintsPolicy", &constraint.node_taints_policy),
    ];
    for (field, policy) in policies {
        if let Some(other) = policy
            && !matches!(other.as_str(), "Honor" | "Ignore")
        {
            return wrong(field, format!("is `{other}`; use Honor or Ignore"));
        }
    }
    of_selector("labelSelector", constraint.label_selector.as_ref())
}

const NO_TOPOLOGY_KEY: &str = "is empty; name a node label such as topology.kubernetes.io/zone";

fn of_affinity(affinity: &Affinity) -> Option<String> {
    let of_nodes = affinity.node_affinity.as_ref().and_then(|node| {
        let required = node
            .required_during_scheduling_ignored_during_execution
            .as_ref()
            .and_then(of_node_selector);
        required.or_else(|| {
            let preferred = node
                .preferred_during_scheduling_ignored_during_execution
                .iter()
                .flatten();
            preferred.enumerate().find_map(|(index, preferred)| {
                Some(format!(
                    "affinity.nodeAffinity.{PREFERRED}[{index}].{}",
                    of_weight(preferred.weight)?
                ))
            })
        })
    });
    of_nodes.or_else(|| {
        let near = affinity.pod_affinity.as_ref().and_then(|pods| {
            of_pod_terms(
                "podAffinity",
                pods.required_during_scheduling_ignored_during_execution
                    .as_deref(),
                pods.preferred_during_scheduling_ignored_during_execution
                    .as_deref(),
            )
        });
        near.or_else(|| {
            affinity.pod_anti_affinity.as_ref().and_then(|pods| {
                of_pod_terms(
                    "podAntiAffinity",
                    pods.required_during_scheduling_ignored_during_execution
                        .as_deref(),
                    pods.preferred_during_scheduling_ignored_during_execution
                        .as_deref(),
                )
            })
        })
    })
}

fn of_node_selector(required: &NodeSelector) -> Option<String> {
    let terms = &required.node_selector_terms;
    let field = format!("affinity.nodeAffinity.{REQUIRED}.nodeSelectorTerms");
    if terms.is_empty() {
        return Some(format!(
            "{field} is empty, which matches no node; write a term, or leave the affinity out"
        ));
    }
    let says_nothing = terms.iter().all(|term| {
        term.match_expressions.as_ref().is_none_or(Vec::is_empty)
            && term.match_fields.as_ref().is_none_or(Vec::is_empty)
    });
    says_nothing.then(|| {
        format!(
            "{field} has empty terms only, and an empty term matches no node; write matchExpressions or matchFields, or leave the affinity out"
        )
    })
}

fn of_weight(weight: i32) -> Option<String> {
    (!WEIGHTS.contains(&weight)).then(|| {
        format!(
            "weight is {weight}; it must be from {} to {}",
            WEIGHTS.start(),
            WEIGHTS.end()
        )
    })
}

fn of_pod_terms(
    kind: &str,
    required: Option<&[PodAffinityTerm]>,
    preferred: Option<&[WeightedPodAffinityTerm]>,
) -> Option<String> {
    let required = required.unwrap_or_default().iter().enumerate();
    let in_required = required.into_iter().find_map(|(index, term)| {
        let (part, wrong) = of_pod_term(term)?;
        Some(format!(
            "affinity.{kind}.{REQUIRED}[{index}].{part} {wrong}"
        ))
    });
    in_required.or_else(|| {
        let preferred = preferred.unwrap_or_default().iter().enumerate();
        preferred.into_iter().find_map(|(index, weighted)| {
            let wrong = of_weight(weighted.weight).or_else(|| {
                let (part, wrong) = of_pod_term(&weighted.pod_affinity_term)?;
                Some(format!("podAffinityTerm.{part} {wrong}"))
            })?;
            Some(format!("affinity.{kind}.{PREFERRED}[{index}].{wrong}"))
        })
    })
}

fn of_pod_term(term: &PodAffinityTerm) -> Option<Wrong> {
    if term.topology_key.is_empty() {
        return Some(("topologyKey".to_owned(), NO_TOPOLOGY_KEY.to_owned()));
    }
    of_selector("labelSelector", term.label_selector.as_ref())
        .or_else(|| of_selector("namespaceSelector", term.namespace_selector.as_ref()))
}

/// Label selectors know four operators; those that compare numbers are for nodes only.
fn of_selector(field: &str, selector: Option<&LabelSelector>) -> Option<Wrong> {
    let expressions = selector?.match_expressions.iter().flatten();
    expressions.enumerate().find_map(|(index, expression)| {
        let operator = expression.operator.as_str();
        let any = expression
            .values
            .as_ref()
            .is_some_and(|values| !values.is_empty());
        let (part, wrong) = match (operator, any) {
            _ if expression.key.is_empty() => ("key", "is empty; name a label".to_owned()),
            ("In" | "NotIn", false) => (
                "values",
                format!("is empty; {operator} needs at least one value"),
            ),
            ("Exists" | "DoesNotExist", true) => {
                ("values", format!("must be left out; {operator} takes none"))
            }
            ("In" | "NotIn" | "Exists" | "DoesNotExist", _) => return None,
            (other, _) => (
                "operator",
                format!("is `{other}`, which no label selector knows; use In, NotIn, Exists or DoesNotExist"),
            ),
        };
        Some((format!("{field}.matchExpressions[{index}].{part}"), wrong))
    })
}

/// A host port of zero is none at all. With the host's network every container port is one.
fn of_ports(spec: &PodSpec) -> Option<String> {
    let host_network = spec.host_network == Some(true);
    let containers = spec
        .containers
        .iter()
        .chain(spec.init_containers.iter().flatten());
    for container in containers {
        for (index, port) in container.ports.iter().flatten().enumerate() {
            let (field, number) = match port.host_port {
                Some(number) if number != 0 => ("hostPort", number),
                _ if host_network => ("containerPort", port.container_port),
                _ => continue,
            };
            if !PORTS.contains(&number) {
                return Some(format!(
                    "{}: ports[{index}].{field} is {number}; it must be from {} to {}",
                    container.name,
                    PORTS.start(),
                    PORTS.end()
                ));
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(yaml: &str) -> Option<String> {
        let spec = format!("containers: []\n{yaml}");
        problem(&serde_saphyr::from_str(&spec).unwrap())
    }

    fn spread(fields: &str) -> Option<String> {
        of(&format!("topologySpreadConstraints: [{{{fields}}}]"))
    }

    const GOOD: &str = "topologyKey: zone, maxSkew: 1, whenUnsatisfiable: DoNotSchedule";

    #[test]
    fn spread_constraints_without_meaning_are_named_with_the_fix() {
        assert_eq!(spread(GOOD), None);
        assert_eq!(spread(&format!("{GOOD}, minDomains: 2")), None);
        for (fields, expected) in [
            (
                "maxSkew: 1, whenUnsatisfiable: DoNotSchedule, topologyKey: ''",
                "topologyKey is empty",
            ),
            (
                "topologyKey: zone, maxSkew: 0, whenUnsatisfiable: DoNotSchedule",
                "maxSkew is 0; it must be at least 1",
            ),
            (
                "topologyKey: zone, maxSkew: -1, whenUnsatisfiable: DoNotSchedule",
                "maxSkew is -1",
            ),
            (
                "topologyKey: zone, maxSkew: 1, whenUnsatisfiable: Maybe",
                "whenUnsatisfiable is `Maybe`; use",
            ),
            ("topologyKey: zone, maxSkew: 1", "whenUnsatisfiable is ``"),
            (
                "topologyKey: zone, maxSkew: 1, whenUnsatisfiable: ScheduleAnyway, minDomains: 2",
                "minDomains counts with",
            ),
        ] {
            let found = spread(fields).unwrap();
            assert!(
                found.starts_with("topologySpreadConstraints[0]."),
                "{found}"
            );
            assert!(found.contains(expected), "{found}");
        }
        for (more, expected) in [
            ("minDomains: 0", "minDomains is 0"),
            ("nodeTaintsPolicy: Perhaps", "nodeTaintsPolicy is `Perhaps`"),
            (
                "labelSelector: {matchExpressions: [{key: a, operator: Near, values: [b]}]}",
                "labelSelector.matchExpressions[0].operator is `Near`",
            ),
        ] {
            let found = spread(&format!("{GOOD}, {more}")).unwrap();
            assert!(found.contains(expected), "{found}");
        }
    }

    #[test]
    fn affinity_terms_without_meaning_are_named_with_the_fix() {
        for (kind, term, expected) in [
            ("podAffinity", "topologyKey: ''", "[0].topologyKey is empty"),
            (
                "podAntiAffinity",
                "topologyKey: zone, labelSelector: {matchExpressions: [{key: a, operator: Gt, values: ['1']}]}",
                "[0].labelSelector.matchExpressions[0].operator is `Gt`",
            ),
            (
                "podAffinity",
                "topologyKey: zone, namespaceSelector: {matchExpressions: [{key: a, operator: In}]}",
                "[0].namespaceSelector.matchExpressions[0].values is empty; In needs",
            ),
            (
                "podAffinity",
                "topologyKey: zone, labelSelector: {matchExpressions: [{key: a, operator: Exists, values: [b]}]}",
                "values must be left out",
            ),
        ] {
            let found = of(&format!(
                "affinity: {{{kind}: {{{REQUIRED}: [{{{term}}}]}}}}"
            ))
            .unwrap();
            assert!(
                found.starts_with(&format!("affinity.{kind}.{REQUIRED}")),
                "{found}"
            );
            assert!(found.contains(expected), "{found}");
        }
        let weighted = |weight: i32| {
            of(&format!(
                "affinity: {{podAffinity: {{{PREFERRED}: [{{weight: {weight}, podAffinityTerm: {{topologyKey: zone}}}}]}}}}"
            ))
        };
        assert_eq!(weighted(100), None);
        assert!(weighted(101).unwrap().contains("weight is 101"));
        let nodes = |terms: &str| {
            of(&format!(
                "affinity: {{nodeAffinity: {{{REQUIRED}: {{nodeSelectorTerms: [{terms}]}}}}}}"
            ))
        };
        assert!(nodes("").unwrap().contains("nodeSelectorTerms is empty"));
        assert!(nodes("{}, {}").unwrap().contains("has empty terms only"));
        let term = "{matchExpressions: [{key: a, operator: Exists}]}";
        assert_eq!(nodes(&format!("{{}}, {term}")), None);
    }

    #[test]
    fn ports_are_those_that_a_host_has() {
        let port = |port: &str, host: bool| {
            let spec =
                format!("hostNetwork: {host}\ncontainers: [{{name: main, ports: [{{{port}}}]}}]");
            problem(&serde_saphyr::from_str(&spec).unwrap())
        };
        assert_eq!(port("containerPort: 80, hostPort: 65535", false), None);
        assert_eq!(port("containerPort: 80, hostPort: 0", false), None);
        assert_eq!(port("containerPort: 70000", false), None);
        for (written, host) in [
            ("containerPort: 80, hostPort: 65536", false),
            ("containerPort: 80, hostPort: -1", false),
            ("containerPort: 70000", true),
        ] {
            let found = port(written, host).unwrap();
            assert!(found.starts_with("main: ports[0]."), "{found}");
            assert!(found.ends_with("it must be from 1 to 65535"), "{found}");
        }
    }
}
