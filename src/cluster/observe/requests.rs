//! What a pod requests of its node, summed the way kube-scheduler does.
//!
//! Given containers, init containers, sidecars, overhead, pod-level resources and, for a running
//! pod, what the kubelet has allocated; given back one sum with a pod slot. A request of a container
//! that is not set is its limit, as the API server would have defaulted it. A pod-level request that is
//! not set is what its containers request in sum, and the pod-level limit only where no container
//! requests anything of that resource.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Container, ContainerStatus, PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::constraints::is_sidecar;
use crate::model::quantity;
use crate::model::resources::{PODS, Resources};

/// Largest amount that a single pod may ask for; sums of 100 000 such pods still fit 63 bits.
const LARGEST_REQUEST: i64 = i64::MAX / 1_000_000;

/// So many containers at most are named in a problem.
const FEW: usize = 6;

/// What the names of huge pages begin with; sizes follow.
pub const HUGE_PAGES: &str = "hugepages-";

/// The sum, and the first thing about it that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PodRequests {
    /// Requests, one pod slot included.
    pub requests: Resources,
    /// Names the container and the amount that cannot be understood.
    pub problem: Option<String>,
}

type Quantities = BTreeMap<String, Quantity>;

/// Sums up what a pod requests.
pub fn of_pod(spec: &PodSpec, statuses: &[ContainerStatus]) -> PodRequests {
    let mut problem = None;
    let mut read = |owner: &str, list: Option<&Quantities>| read(owner, list, &mut problem);
    let mut running = Resources::new();
    for container in &spec.containers {
        running.add(&container_requests(container, statuses, &mut read));
    }
    // Sidecars start in order and keep running, so each init container runs beside those before it.
    let mut sidecars = Resources::new();
    let mut starting = Resources::new();
    for container in spec.init_containers.iter().flatten() {
        let own = container_requests(container, statuses, &mut read);
        if is_sidecar(container) {
            sidecars.add(&own);
            starting = starting.maximum(&sidecars);
        } else {
            let mut beside = sidecars.clone();
            beside.add(&own);
            starting = starting.maximum(&beside);
        }
    }
    running.add(&sidecars);
    let mut requests = running.maximum(&starting);
    if let Some(resources) = &spec.resources {
        for (name, amount) in for_the_pod(resources, spec, &mut read) {
            requests.set(&name, amount);
        }
    }
    requests.add(&read("overhead", spec.overhead.as_ref()));
    requests.add(&Resources::new().with(PODS, 1));
    let problem = problem.or_else(|| {
        requests.iter().find_map(|(name, amount)| {
            (amount > LARGEST_REQUEST).then(|| {
                let sum = quantity::text(name, amount);
                let or_more = if amount == i64::MAX { " or more" } else { "" };
                format!(
                    "the pod's {name} requests add up to {sum}{or_more} ({}), more than any node can have; is a unit \
                     wrong?",
                    summed(spec, statuses, name)
                )
            })
        })
    });
    PodRequests { requests, problem }
}

/// What makes up the sum of a resource: what the pod asks for as a whole, or else its containers do, and the overhead.
fn summed(spec: &PodSpec, statuses: &[ContainerStatus], name: &str) -> String {
    let mut read = |owner: &str, list: Option<&Quantities>| read(owner, list, &mut None);
    let whole = spec.resources.as_ref().and_then(|own| {
        let amounts = for_the_pod(own, spec, &mut read);
        amounts.get(name).copied()
    });
    let mut parts: Vec<(&str, i64)> = match whole {
        Some(amount) => vec![("the pod as a whole", amount)],
        None => spec
            .containers
            .iter()
            .chain(spec.init_containers.iter().flatten())
            .map(|container| {
                let own = container_requests(container, statuses, &mut read);
                (container.name.as_str(), own.get(name))
            })
            .filter(|(_container, amount)| *amount > 0)
            .take(FEW)
            .collect(),
    };
    let overhead = read("overhead", spec.overhead.as_ref());
    parts.push(("overhead", overhead.get(name)));
    let told: Vec<String> = parts
        .into_iter()
        .filter(|(_owner, amount)| *amount > 0)
        .map(|(owner, amount)| format!("{owner} {}", quantity::text(name, amount)))
        .collect();
    told.join(", ")
}

fn container_requests(
    container: &Container,
    statuses: &[ContainerStatus],
    read: &mut impl FnMut(&str, Option<&Quantities>) -> Resources,
) -> Resources {
    let asked = container
        .resources
        .as_ref()
        .map(|resources| defaulted(resources, &container.name, read))
        .unwrap_or_default();
    // While a resize is on its way the node still holds the larger of both.
    let allocated = statuses
        .iter()
        .find(|status| status.name == container.name)
        .and_then(|status| status.allocated_resources.as_ref());
    match allocated {
        Some(list) => asked.maximum(&read(&container.name, Some(list))),
        None => asked,
    }
}

/// What is asked for a pod as a whole, in the place of what its containers ask for in sum; zeros count.
///
/// Kubernetes defaults a pod-level request that has a limit only: to the sum of the containers where one
/// of them requests the resource, and to the limit where none does. Huge pages cannot be overcommitted,
/// so theirs is the limit in any case.
fn for_the_pod(
    resources: &ResourceRequirements,
    spec: &PodSpec,
    read: &mut impl FnMut(&str, Option<&Quantities>) -> Resources,
) -> BTreeMap<String, i64> {
    let names = |list: Option<&Quantities>| -> BTreeSet<String> {
        list.into_iter().flat_map(BTreeMap::keys).cloned().collect()
    };
    let by_containers: BTreeSet<String> = spec
        .containers
        .iter()
        .chain(spec.init_containers.iter().flatten())
        .filter_map(|container| container.resources.as_ref())
        .flat_map(|own| [own.requests.as_ref(), own.limits.as_ref()])
        .flat_map(names)
        .collect();
    let requests = read("pod", resources.requests.as_ref());
    let mut amounts: BTreeMap<String, i64> = names(resources.requests.as_ref())
        .into_iter()
        .map(|name| {
            let amount = requests.get(&name);
            (name, amount)
        })
        .collect();
    let limits = read("pod", resources.limits.as_ref());
    for (name, limit) in limits.iter() {
        let summed = by_containers.contains(name) && !name.starts_with(HUGE_PAGES);
        if !summed {
            amounts.entry(name.to_owned()).or_insert(limit);
        }
    }
    amounts
}

fn defaulted(
    resources: &ResourceRequirements,
    owner: &str,
    read: &mut impl FnMut(&str, Option<&Quantities>) -> Resources,
) -> Resources {
    let named: BTreeSet<&String> = resources.requests.iter().flat_map(BTreeMap::keys).collect();
    let mut requests = read(owner, resources.requests.as_ref());
    for (name, amount) in read(owner, resources.limits.as_ref()).iter() {
        if !named.contains(&name.to_owned()) {
            requests.set(name, amount);
        }
    }
    requests
}

fn read(owner: &str, list: Option<&Quantities>, problem: &mut Option<String>) -> Resources {
    let mut resources = Resources::new();
    for (name, written) in list.into_iter().flatten() {
        match quantity::amount(name, &written.0) {
            Ok(amount) if amount >= 0 => resources.set(name, amount),
            Ok(_negative) => {
                problem.get_or_insert_with(|| {
                    format!(
                        "{owner}: {name} is {}; requests cannot be negative",
                        written.0
                    )
                });
            }
            Err(error) => {
                problem.get_or_insert_with(|| format!("{owner}: {name}: {error}"));
            }
        }
    }
    resources
}

#[cfg(test)]
mod tests {
    use super::*;

    fn requests(yaml: &str) -> PodRequests {
        of_pod(&serde_saphyr::from_str(yaml).unwrap(), &[])
    }

    #[test]
    fn init_containers_count_where_they_need_more_and_sidecars_always() {
        let found = requests(
            "
initContainers:
- {name: proxy, restartPolicy: Always, resources: {requests: {cpu: 200m}}}
- {name: unpack, resources: {requests: {cpu: 1500m, memory: 1Gi}}}
containers:
- {name: main, resources: {requests: {cpu: 1}, limits: {cpu: 3, memory: 2Gi}}}
overhead: {cpu: 50m}
",
        );
        assert_eq!(found.problem, None);
        assert_eq!(found.requests.get("cpu"), 1750);
        assert_eq!(found.requests.get("memory"), 2 << 30);
        assert_eq!(found.requests.get(PODS), 1);
    }

    #[test]
    fn a_sum_that_is_too_large_names_what_was_summed() {
        let problem = requests(
            "{containers: [{name: a, resources: {requests: {memory: 5Ei}}}, \
             {name: b, resources: {requests: {memory: 5Ei}}}, {name: c, resources: {requests: {cpu: 1}}}]}",
        )
        .problem
        .unwrap();
        assert!(
            problem.contains(
                "add up to 9223372036854775807 or more (a 5Ei, b 5Ei), more than any node"
            ),
            "{problem}"
        );
        for (rest, expected) in [
            (
                "resources: {requests: {memory: 6Ei}}",
                "(the pod as a whole 6Ei)",
            ),
            ("resources: {limits: {memory: 6Ei}}", "(a 2Ei)"),
            ("overhead: {memory: 6Ei}", "(a 2Ei, overhead 6Ei)"),
            (
                "resources: {requests: {memory: 3Ei}}, overhead: {memory: 3Ei}",
                "(the pod as a whole 3Ei, overhead 3Ei)",
            ),
            (
                "resources: {requests: {memory: '0'}}, overhead: {memory: 6Ei}",
                "(overhead 6Ei)",
            ),
        ] {
            let problem = requests(&format!(
                "{{containers: [{{name: a, resources: {{requests: {{memory: 2Ei}}}}}}], {rest}}}"
            ))
            .problem
            .unwrap();
            assert!(problem.contains(expected), "{rest}: {problem}");
        }
        let cores = requests(
            "{containers: [{name: a, resources: {requests: {cpu: 9223372036854775807}}}]}",
        );
        assert_eq!(
            cores.problem.unwrap(),
            "a: cpu: `9223372036854775807` is too large: 9223372036854775807m of cpu is the most that can be counted"
        );
    }

    #[test]
    fn pod_level_requests_replace_the_sum_and_limits_only_what_no_container_requests() {
        let found = requests(
            "
resources:
  requests: {cpu: 2}
  limits: {cpu: 4, memory: 1Gi, hugepages-2Mi: 64Mi, hugepages-1Gi: 1Gi}
containers:
- {name: main, resources: {requests: {cpu: 500m, memory: 100Mi, hugepages-2Mi: 32Mi}}}
- {name: other, resources: {limits: {memory: 28Mi}}}
",
        );
        assert_eq!(found.requests.get("cpu"), 2000);
        assert_eq!(found.requests.get("memory"), 128 << 20);
        assert_eq!(found.requests.get("hugepages-2Mi"), 64 << 20);
        assert_eq!(found.requests.get("hugepages-1Gi"), 1 << 30);
        let found = requests(
            "
resources: {limits: {cpu: 4, memory: 1Gi}}
initContainers: [{name: setup, resources: {requests: {cpu: '0'}}}]
containers: [{name: main}]
",
        );
        assert_eq!(found.requests.get("cpu"), 0);
        assert_eq!(found.requests.get("memory"), 1 << 30);
    }

    #[test]
    fn bad_amounts_are_named_with_their_container() {
        for (written, word) in [
            ("-1", "main: cpu is -1; requests cannot be negative"),
            ("1x", "main: cpu: `1x` is not a quantity"),
            ("9e12", "cpu requests add up to"),
        ] {
            let found = requests(&format!(
                "containers: [{{name: main, resources: {{requests: {{cpu: '{written}'}}}}}}]"
            ));
            assert!(found.problem.as_ref().unwrap().contains(word), "{found:?}");
        }
    }
}
