//! Whether a node may take a pod: cordons, selectors, affinity to nodes, taints, and what is left of resources and
//! ports.

use super::cordon;
use crate::model::node::Node;
use crate::model::pod::{HostPort, PodSpec};
use crate::model::resources::{CPU, EPHEMERAL_STORAGE, MEMORY, PODS, Resources};
use crate::model::taint::first_untolerated;

/// Resources that Kubernetes counts before any other, and in this order.
const COUNTED_FIRST: [&str; 4] = [PODS, CPU, MEMORY, EPHEMERAL_STORAGE];

/// What pods use of a node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Used {
    /// What they request together.
    pub resources: Resources,
    /// Their ports on the host.
    pub ports: Vec<HostPort>,
}

impl Used {
    /// One pod more.
    pub fn add(&mut self, spec: &PodSpec) {
        self.resources.add(&spec.requests);
        self.ports.extend_from_slice(ports_of(spec));
    }
}

/// Ports that a pod takes on its host.
fn ports_of(spec: &PodSpec) -> &[HostPort] {
    let own = spec.constraints.as_deref();
    own.map_or(&[][..], |own| &own.host_ports)
}

/// True when a node of which this much is used, by one or another, takes a pod.
pub fn takes(node: &Node, used: &[&Used], spec: &PodSpec) -> bool {
    // What is cheap to ask comes first: this is asked for every waiting pod and every node.
    first_untolerated(&node.taints, &spec.tolerations).is_none()
        && cordon::lets_in(node, spec)
        && spec.selects(&node.name, &node.labels)
        && lacking(node, used, spec).next().is_none()
        && has_ports(used, spec)
}

/// The resources of which a node has too little left for a pod, as Kubernetes counts them. What a pod does not
/// request it may lack.
pub fn lacking<'fit>(
    node: &'fit Node,
    used: &'fit [&'fit Used],
    spec: &'fit PodSpec,
) -> impl Iterator<Item = &'fit str> {
    let first: [&'fit str; 4] = COUNTED_FIRST;
    let others = spec.requests.iter().map(|(name, _amount)| name);
    let others = others.filter(|name| !COUNTED_FIRST.contains(name));
    first.into_iter().chain(others).filter(move |name| {
        let wanted = spec.requests.get(name);
        wanted > 0 && wanted.saturating_add(amount(used, name)) > node.allocatable.get(name)
    })
}

/// How much of a resource is used together.
pub fn amount(used: &[&Used], resource: &str) -> i64 {
    let each = used.iter().map(|used| used.resources.get(resource));
    each.fold(0, i64::saturating_add)
}

/// True when every port that a pod takes on its host is free.
pub fn has_ports(used: &[&Used], spec: &PodSpec) -> bool {
    let mut wanted = ports_of(spec).iter();
    wanted.all(|port| {
        let mut taken = used.iter().flat_map(|used| &used.ports);
        !taken.any(|taken| taken.conflicts(port))
    })
}

/// How empty a node is after it took a pod: the mean of the free shares of processors and memory, of
/// 1000. kube-scheduler's default prefers the emptier node.
pub fn emptiness(node: &Node, used: &Used, spec: &PodSpec) -> i64 {
    let share = |resource: &str| {
        let all = node.allocatable.get(resource).max(1);
        let left = all - used.resources.get(resource) - spec.requests.get(resource);
        i64::try_from(i128::from(left) * 1_000 / i128::from(all)).unwrap_or(0)
    };
    i64::midpoint(share(CPU), share(MEMORY))
}
