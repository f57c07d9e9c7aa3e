//! Amounts and constraints of pods that kube-apiserver refuses because they contradict each other.
//!
//! Given the spec of a pod that was completed as on admission, and its labels; given back the first field that
//! another one contradicts, and what to write instead. The pod is left out with that sentence. Pods that an API
//! server holds are never asked: it keeps what it took, also where another version would refuse it. What has no
//! meaning by itself is told by [`crate::cluster::observe::malformed`].

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, PodAffinityTerm, PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Written;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use crate::cluster::observe::defaults::sizes_of;
use crate::cluster::observe::requests::{HUGE_PAGES, of_pod};
use crate::model::quantity::{self, Quantity};
use crate::model::resources::{CPU, MEMORY};

type Amounts = BTreeMap<String, Written>;
type Labels = BTreeMap<String, String>;

/// The first field that an API server refuses.
pub(super) fn problem(spec: &PodSpec, labels: &Labels) -> Option<String> {
    let inits = spec.init_containers.iter().flatten();
    let mut containers = spec.containers.iter().chain(inits);
    containers
        .find_map(of_container)
        .or_else(|| {
            spec.resources
                .as_ref()
                .and_then(|own| of_the_pod(spec, own))
        })
        .or_else(|| of_spread(spec, labels))
        .or_else(|| of_company(spec, labels))
}

fn of_container(container: &Container) -> Option<String> {
    let wrong = of_resources(container.resources.as_ref()?)?;
    Some(format!("{}: {wrong}", container.name))
}

fn of_resources(resources: &ResourceRequirements) -> Option<String> {
    let requests = resources.requests.iter().flatten();
    let limits = resources.limits.as_ref();
    requests.into_iter().find_map(|(name, request)| {
        let limit = limits.and_then(|limits| limits.get(name));
        of_pair(name, request, limit)
    })
}

/// A request and its limit. An amount that cannot be read is no reason here: it is named as such elsewhere.
fn of_pair(name: &str, request: &Written, limit: Option<&Written>) -> Option<String> {
    let Some(limit) = limit else {
        return (!may_be_overcommitted(name)).then(|| {
            format!(
                "resources.requests.{name} is {}, and there is no limit; {name} is never promised twice, so write the same amount under resources.limits",
                request.0
            )
        });
    };
    let (requested, most) = (amount(request)?, amount(limit)?);
    let pair = format!(
        "resources.requests.{name} is {}, and its limit is {}",
        request.0, limit.0
    );
    if requested != most && !may_be_overcommitted(name) {
        return Some(format!(
            "{pair}; {name} is never promised twice, so both must be the same"
        ));
    }
    (requested > most).then(|| format!("{pair}; raise the limit, or lower the request"))
}

fn amount(written: &Written) -> Option<Quantity> {
    Quantity::parse(&written.0).ok()
}

/// True for resources of which a node may promise more than it has: those of Kubernetes except huge pages.
fn may_be_overcommitted(name: &str) -> bool {
    let of_kubernetes = name
        .split_once('/')
        .is_none_or(|(domain, _name)| domain.ends_with("kubernetes.io"));
    of_kubernetes && !name.starts_with(HUGE_PAGES)
}

/// What a pod asks for as a whole, against what its containers say.
fn of_the_pod(spec: &PodSpec, own: &ResourceRequirements) -> Option<String> {
    let lists = [("requests", &own.requests), ("limits", &own.limits)];
    for (list, amounts) in lists {
        let names = amounts.iter().flat_map(Amounts::keys);
        let mut strange = names
            .filter(|name| !matches!(name.as_str(), CPU | MEMORY) && !name.starts_with(HUGE_PAGES));
        if let Some(name) = strange.next() {
            return Some(format!(
                "resources.{list}.{name} cannot be asked for by a pod as a whole, as cpu, memory and huge pages can; move it to a container"
            ));
        }
    }
    of_resources(own)
        .or_else(|| below_the_sum(spec, own.requests.as_ref()?))
        .or_else(|| above_the_pod(spec, own.limits.as_ref()?))
}

fn below_the_sum(spec: &PodSpec, requests: &Amounts) -> Option<String> {
    let of_containers = PodSpec {
        resources: None,
        overhead: None,
        ..sizes_of(spec)
    };
    let sum = of_pod(&of_containers, &[]).requests;
    requests.iter().find_map(|(name, request)| {
        let requested = quantity::amount(name, &request.0).ok()?;
        (requested < sum.get(name)).then(|| {
            format!(
                "resources.requests.{name} is {}, less than the {} that its containers request in sum; raise it, or leave it out",
                request.0,
                quantity::text(name, sum.get(name))
            )
        })
    })
}

fn above_the_pod(spec: &PodSpec, limits: &Amounts) -> Option<String> {
    spec.containers.iter().find_map(|container| {
        let own = container.resources.as_ref()?.limits.as_ref()?;
        own.iter().find_map(|(name, limit)| {
            let most = limits.get(name)?;
            (amount(limit)? > amount(most)?).then(|| {
                format!(
                    "{}: resources.limits.{name} is {}, more than the {} of the pod as a whole; lower it, or raise that of the pod",
                    container.name, limit.0, most.0
                )
            })
        })
    })
}

fn of_spread(spec: &PodSpec, labels: &Labels) -> Option<String> {
    let mut known: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    let constraints = spec.topology_spread_constraints.iter().flatten();
    constraints.enumerate().find_map(|(index, constraint)| {
        let key = constraint.topology_key.as_str();
        let when = constraint.when_unsatisfiable.as_str();
        if let Some(first) = known.insert((key, when), index) {
            return Some(format!(
                "topologySpreadConstraints[{index}] has the topologyKey {key} and whenUnsatisfiable {when} of topologySpreadConstraints[{first}]; a pod has one constraint of each pair"
            ));
        }
        let keys = constraint.match_label_keys.as_deref().unwrap_or_default();
        let wrong = of_keys(keys, &[], constraint.label_selector.as_ref(), labels)?;
        Some(format!("topologySpreadConstraints[{index}].{wrong}"))
    })
}

/// Affinity and anti-affinity, required and preferred.
fn of_company(spec: &PodSpec, labels: &Labels) -> Option<String> {
    let affinity = spec.affinity.as_ref()?;
    let near = affinity.pod_affinity.as_ref().map(|own| {
        (
            &own.required_during_scheduling_ignored_during_execution,
            &own.preferred_during_scheduling_ignored_during_execution,
        )
    });
    let apart = affinity.pod_anti_affinity.as_ref().map(|own| {
        (
            &own.required_during_scheduling_ignored_during_execution,
            &own.preferred_during_scheduling_ignored_during_execution,
        )
    });
    let kinds = [("podAffinity", near), ("podAntiAffinity", apart)];
    kinds.into_iter().find_map(|(kind, lists)| {
        let (required, preferred) = lists?;
        let preferred = preferred.iter().flatten();
        let preferred = preferred.map(|weighted| &weighted.pod_affinity_term);
        let in_required = of_terms(required.iter().flatten(), labels)
            .map(|wrong| ("requiredDuringSchedulingIgnoredDuringExecution", wrong));
        let (list, wrong) = in_required.or_else(|| {
            let wrong = of_terms(preferred, labels)?;
            Some(("preferredDuringSchedulingIgnoredDuringExecution", wrong))
        })?;
        Some(format!("affinity.{kind}.{list}{wrong}"))
    })
}

fn of_terms<'spec>(
    terms: impl Iterator<Item = &'spec PodAffinityTerm>,
    labels: &Labels,
) -> Option<String> {
    terms.enumerate().find_map(|(index, term)| {
        let matching = term.match_label_keys.as_deref().unwrap_or_default();
        let differing = term.mismatch_label_keys.as_deref().unwrap_or_default();
        let wrong = of_keys(matching, differing, term.label_selector.as_ref(), labels)?;
        Some(format!("[{index}].{wrong}"))
    })
}

/// Keys whose values the API server takes from the pod's own labels and adds to the selector.
fn of_keys(
    matching: &[String],
    differing: &[String],
    selector: Option<&LabelSelector>,
    labels: &Labels,
) -> Option<String> {
    let lists = [
        ("matchLabelKeys", matching),
        ("mismatchLabelKeys", differing),
    ];
    let Some(selector) = selector else {
        let (field, _keys) = lists.into_iter().find(|(_field, keys)| !keys.is_empty())?;
        return Some(format!(
            "{field} adds to a labelSelector, and there is none; write one, or leave the keys out"
        ));
    };
    let selects = |key: &String| {
        let by_value = selector.match_labels.as_ref();
        let mut expressions = selector.match_expressions.iter().flatten();
        by_value.is_some_and(|known| known.contains_key(key))
            || expressions.any(|expression| expression.key == *key)
    };
    matching.iter().find_map(|key| {
        if differing.contains(key) {
            return Some(format!("matchLabelKeys and mismatchLabelKeys both have {key}; leave it out of one"));
        }
        // Without the label nothing is added, and nothing said twice.
        (labels.contains_key(key) && selects(key)).then(|| {
            format!("matchLabelKeys has {key}, which the labelSelector selects by already; leave it out of one")
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(yaml: &str) -> Option<String> {
        let labels = BTreeMap::from([("k".to_owned(), "v".to_owned())]);
        problem(&serde_saphyr::from_str(yaml).unwrap(), &labels)
    }

    fn container(resources: &str) -> Option<String> {
        of(&format!(
            "containers: [{{name: main, resources: {{{resources}}}}}]"
        ))
    }

    fn pod(resources: &str) -> Option<String> {
        of(&format!(
            "resources: {{{resources}}}\ncontainers: [{{name: main, resources: {{requests: {{cpu: 1}}, limits: {{cpu: 2}}}}}}]"
        ))
    }

    fn assert_says(found: Option<String>, expected: &str) {
        let found = found.unwrap_or_default();
        assert!(found.contains(expected), "`{found}` lacks `{expected}`");
    }

    #[test]
    fn requests_are_at_most_the_limits_and_the_same_where_nothing_is_promised_twice() {
        for fine in [
            "requests: {cpu: 1}",
            "requests: {cpu: 1000m}, limits: {cpu: '1'}",
            "limits: {nvidia.com/gpu: 2}",
            "requests: {nvidia.com/gpu: '1'}, limits: {nvidia.com/gpu: 1}",
            "requests: {cpu: many}, limits: {cpu: 1}",
        ] {
            assert_eq!(container(fine), None, "{fine}");
        }
        for (wrong, expected) in [
            (
                "requests: {cpu: 2}, limits: {cpu: 1}",
                "main: resources.requests.cpu is 2, and its limit is 1; raise",
            ),
            (
                "requests: {nvidia.com/gpu: 1}, limits: {nvidia.com/gpu: 2}",
                "main: resources.requests.nvidia.com/gpu is 1, and its limit is 2; nvidia.com/gpu is never",
            ),
            (
                "requests: {nvidia.com/gpu: 1}",
                "and there is no limit; nvidia.com/gpu is never",
            ),
            (
                "requests: {hugepages-2Mi: 4Mi}",
                "hugepages-2Mi is 4Mi, and there is no limit",
            ),
        ] {
            assert_says(container(wrong), expected);
        }
    }

    #[test]
    fn a_pod_as_a_whole_asks_for_what_its_containers_do_at_least() {
        assert_eq!(pod("requests: {cpu: 1}, limits: {cpu: 2}"), None);
        for (wrong, expected) in [
            (
                "requests: {cpu: 999m}",
                "resources.requests.cpu is 999m, less than the 1 that",
            ),
            (
                "limits: {cpu: 1500m}",
                "main: resources.limits.cpu is 2, more than the 1500m of the pod",
            ),
            (
                "requests: {cpu: 3}, limits: {cpu: 2}",
                "resources.requests.cpu is 3, and its limit is 2",
            ),
            (
                "requests: {nvidia.com/gpu: 1}",
                "resources.requests.nvidia.com/gpu cannot be asked for",
            ),
        ] {
            assert_says(pod(wrong), expected);
        }
    }

    #[test]
    fn spread_constraints_that_say_something_twice_are_named() {
        let spread = |more: &[&str]| {
            let one = |fields: &&str| {
                format!("{{maxSkew: 1, topologyKey: zone, whenUnsatisfiable: {fields}}}")
            };
            let all: Vec<String> = more.iter().map(one).collect();
            of(&format!(
                "containers: []\ntopologySpreadConstraints: [{}]",
                all.join(", ")
            ))
        };
        assert_eq!(spread(&["DoNotSchedule", "ScheduleAnyway"]), None);
        assert_says(
            spread(&["DoNotSchedule", "ScheduleAnyway", "DoNotSchedule"]),
            "topologySpreadConstraints[2] has the topologyKey zone and whenUnsatisfiable DoNotSchedule of topologySpreadConstraints[0]",
        );
        assert_says(
            spread(&["DoNotSchedule, matchLabelKeys: [k]"]),
            "topologySpreadConstraints[0].matchLabelKeys adds to a labelSelector, and there is none",
        );
        let selected = |key: &str| {
            spread(&[&format!(
                "DoNotSchedule, matchLabelKeys: [{key}], labelSelector: {{matchLabels: {{{key}: v}}}}"
            )])
        };
        assert_says(selected("k"), "[0].matchLabelKeys has k, which");
        assert_eq!(selected("absent"), None);
    }

    #[test]
    fn keys_of_affinity_belong_to_one_list_and_a_selector() {
        let term = |kind: &str, fields: &str| {
            of(&format!(
                "containers: []\naffinity: {{{kind}: {{requiredDuringSchedulingIgnoredDuringExecution: [{{topologyKey: zone, {fields}}}]}}}}"
            ))
        };
        let selector = "labelSelector: {matchLabels: {app: a}}";
        assert_eq!(
            term("podAffinity", &format!("{selector}, matchLabelKeys: [k]")),
            None
        );
        assert_says(
            term(
                "podAntiAffinity",
                &format!("{selector}, matchLabelKeys: [k], mismatchLabelKeys: [k]"),
            ),
            "affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].matchLabelKeys and mismatchLabelKeys both have k",
        );
        assert_says(
            term("podAffinity", "mismatchLabelKeys: [k]"),
            "[0].mismatchLabelKeys adds to a labelSelector",
        );
        let weighted = of(
            "containers: []\naffinity: {podAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [{weight: 1, podAffinityTerm: {topologyKey: zone, matchLabelKeys: [k]}}]}}",
        );
        assert_says(
            weighted,
            "podAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].matchLabelKeys adds",
        );
    }
}
