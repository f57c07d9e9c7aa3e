//! What a namespace's LimitRanges give containers that do not say what they need.
//!
//! Given LimitRanges; given back the amounts that they add to the containers of new pods, and the spec of a pod
//! with them, as the API server makes it. Least and greatest amounts are not looked at: what breaks them is
//! refused before it becomes a pod.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Container, LimitRange, PodSpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

type Amounts = BTreeMap<String, Quantity>;

/// What one item of a LimitRange gives each container.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ContainerDefaults {
    /// Limits.
    pub limits: Amounts,
    /// Requests.
    pub requests: Amounts,
}

/// What a LimitRange gives containers, item by item.
pub fn of_range(range: &LimitRange) -> Vec<ContainerDefaults> {
    let items = range.spec.iter().flat_map(|spec| &spec.limits);
    items
        .filter(|item| item.type_ == "Container")
        .map(|item| ContainerDefaults {
            limits: item.default.clone().unwrap_or_default(),
            requests: item.default_request.clone().unwrap_or_default(),
        })
        .collect()
}

/// Adds requests and limits to the containers that have none of their own.
pub fn add(spec: &mut PodSpec, defaults: &[ContainerDefaults]) {
    settle_the_pod(spec);
    for item in defaults {
        let containers = spec
            .containers
            .iter_mut()
            .chain(spec.init_containers.iter_mut().flatten());
        for container in containers {
            let resources = container.resources.get_or_insert_default();
            let limits = resources.limits.get_or_insert_default();
            // A request that is missing beside a limit becomes the limit, not the default request.
            let limited: Vec<String> = limits.keys().cloned().collect();
            let requests = resources.requests.get_or_insert_default();
            add_missing(limits, &item.limits);
            for (name, amount) in &item.requests {
                if !limited.contains(name) {
                    requests
                        .entry(name.clone())
                        .or_insert_with(|| amount.clone());
                }
            }
        }
    }
}

/// Of a pod's spec what [`add`] and the sum of requests look at.
pub fn sizes_of(spec: &PodSpec) -> PodSpec {
    let sized = |container: &Container| Container {
        name: container.name.clone(),
        resources: container.resources.clone(),
        restart_policy: container.restart_policy.clone(),
        ..Container::default()
    };
    let of_init = |list: &Vec<Container>| list.iter().map(sized).collect();
    PodSpec {
        containers: spec.containers.iter().map(sized).collect(),
        init_containers: spec.init_containers.as_ref().map(of_init),
        overhead: spec.overhead.clone(),
        resources: spec.resources.clone(),
        ..PodSpec::default()
    }
}

/// Sets the pod-level requests that the API server defaults to the limits before any LimitRange is asked:
/// those of resources that no container names.
fn settle_the_pod(spec: &mut PodSpec) {
    let containers = spec
        .containers
        .iter()
        .chain(spec.init_containers.iter().flatten());
    let named: BTreeSet<String> = containers
        .filter_map(|container| container.resources.as_ref())
        .flat_map(|own| own.requests.iter().chain(&own.limits))
        .flat_map(|list| list.keys().cloned())
        .collect();
    let Some(resources) = spec.resources.as_mut() else {
        return;
    };
    for (name, limit) in resources.limits.iter().flatten() {
        if !named.contains(name) {
            let requests = resources.requests.get_or_insert_default();
            requests
                .entry(name.clone())
                .or_insert_with(|| limit.clone());
        }
    }
}

fn add_missing(list: &mut Amounts, defaults: &Amounts) {
    for (name, amount) in defaults {
        list.entry(name.clone()).or_insert_with(|| amount.clone());
    }
}
