//! Whether a node may take a pod: selectors, affinity to nodes, taints and free resources.

use crate::model::node::Node;
use crate::model::pod::PodSpec;
use crate::model::resources::Resources;
use crate::model::taint::first_untolerated;

/// True when a node with so much used takes a pod.
pub fn takes(node: &Node, used: &Resources, spec: &PodSpec) -> bool {
    // What is cheap to ask comes first: this is asked for every waiting pod and every node.
    if first_untolerated(&node.taints, &spec.tolerations).is_some()
        || !spec.selects(&node.name, &node.labels)
    {
        return false;
    }
    let mut wanted = used.clone();
    wanted.add(&spec.requests);
    wanted.fits(&node.allocatable)
}

/// How empty a node is after it took a pod: the mean of the free shares of processors and memory, of
/// 1000. kube-scheduler's default prefers the emptier node.
pub fn emptiness(node: &Node, used: &Resources, spec: &PodSpec) -> i64 {
    let share = |resource: &str| {
        let all = node.allocatable.get(resource).max(1);
        let left = all - used.get(resource) - spec.requests.get(resource);
        i64::try_from(i128::from(left) * 1_000 / i128::from(all)).unwrap_or(0)
    };
    i64::midpoint(share("cpu"), share("memory"))
}
