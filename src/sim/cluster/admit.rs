//! Which of the pods that are bound to its node a kubelet runs. It refuses what does not fit beside those that it has
//! taken, what does not select its node, whose ports are taken, or what does not tolerate a taint that evicts;
//! kube-scheduler is not asked again.
//!
//! Given a pod as soon as it is bound, before anything of it starts; given back why it is refused, and written for its
//! owner, in Kubernetes' words. Source: kubelet, `pkg/kubelet/lifecycle/predicate.go`. No kubelet here makes room for
//! critical pods.

use serde_json::json;

use super::Cluster;
use super::fit::{self, Used};
use super::taint_eviction::evicting;
use crate::model::node::Node;
use crate::model::pod::{Pod, PodPhase, PodSpec};
use crate::model::taint::Taint;
use crate::sim::api_server::Key;
use crate::sim::clock::api_time;

const WHO: &str = "kubelet";

/// Why a pod is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rejection {
    reason: String,
    message: String,
}

impl Rejection {
    fn predicate(name: &str, why: &str) -> Self {
        Self {
            reason: name.to_owned(),
            message: format!("Predicate {name} failed: {why}"),
        }
    }

    fn lacking(resource: &str, node: &Node, used: &[&Used], spec: &PodSpec) -> Self {
        let (wanted, all) = (spec.requests.get(resource), node.allocatable.get(resource));
        let used = fit::amount(used, resource);
        Self {
            reason: format!("OutOf{resource}"),
            message: format!(
                "Node didn't have enough resource: {resource}, requested: {wanted}, used: {used}, capacity: {all}"
            ),
        }
    }
}

/// True for a device that a node knows nothing of: it may be one that somebody else gives.
fn is_unknown(node: &Node, resource: &str) -> bool {
    resource.contains('/') && node.allocatable.get(resource) == 0
}

/// Why a node that is used so far does not run a pod.
fn judge(node: &Node, used: &Used, spec: &PodSpec) -> Option<Rejection> {
    let used = [used];
    let mut lacking = fit::lacking(node, &used, spec);
    if let Some(resource) = lacking.find(|resource| !is_unknown(node, resource)) {
        return Some(Rejection::lacking(resource, node, &used, spec));
    }
    if !spec.selects(&node.name, &node.labels) {
        let why = "node(s) didn't match Pod's node affinity/selector";
        return Some(Rejection::predicate("NodeAffinity", why));
    }
    if !fit::has_ports(&used, spec) {
        let why = "node(s) didn't have free ports for the requested pod ports";
        return Some(Rejection::predicate("NodePorts", why));
    }
    let mut taints = evicting(node);
    let tolerates = |taint: &Taint| spec.tolerations.iter().any(|known| known.tolerates(taint));
    taints.any(|taint| !tolerates(taint)).then(|| {
        let why = "node(s) had taints that the pod didn't tolerate";
        Rejection::predicate("TaintToleration", why)
    })
}

impl Cluster {
    /// Why the kubelet of its node does not run a pod, by what it runs already; `None` when it does.
    pub(super) fn refusal(&self, key: &Key, pod: &Pod) -> Option<Rejection> {
        let node = self.nodes.get(pod.node_name.as_ref()?)?;
        let mut used = Used::default();
        let tenants = self.tenants.get(&node.name).into_iter().flatten();
        let others = tenants.filter(|other| *other != key);
        for other in others.filter_map(|other| self.pods.get(other)) {
            if self.is_taken(other) {
                used.add(&other.spec);
            }
        }
        judge(node, &used, &pod.spec)
    }

    /// True for a pod that its kubelet has taken, until it has ended. One that is refused is there for a moment.
    fn is_taken(&self, pod: &Pod) -> bool {
        let was_taken = pod.phase == PodPhase::Running || self.starting.contains(&pod.uid);
        was_taken && !pod.phase.is_terminal()
    }

    /// A kubelet writes that it does not run a pod.
    pub(super) fn reject(&self, key: &Key, rejection: &Rejection) {
        let time = api_time(self.clock.now());
        let written = self.api.change(WHO, key, Some("status"), |pod| {
            pod["status"] = json!({
                "phase": "Failed",
                "reason": rejection.reason,
                "message": format!("Pod was rejected: {}", rejection.message),
                "startTime": time,
            });
        });
        match written {
            Ok(_pod) => tracing::info!(pod = %key, reason = rejection.reason, "refused"),
            Err(refusal) => tracing::debug!(pod = %key, %refusal, "gone already"),
        }
    }
}
