//! Which of the pods that were planned onto a Node are bound to it before kube-scheduler may put others there.
//!
//! Given a snapshot, the Node and the pods that the latest plan put there; given back who is to be bound: those whom
//! kube-scheduler would let onto the Node as well if it were open, judged by what the Node really has and by everything
//! that runs, not by the plan. Whoever is in doubt is left to kube-scheduler, with the reason. Nothing is written
//! here, and no pod is ever sent to another Node than its plan's.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::claim::Claim;
use crate::model::node::Node;
use crate::model::pod::{DEFAULT_SCHEDULER, Pod, PodKey, TopologySpread};
use crate::model::snapshot::Snapshot;
use crate::model::taint::{Taint, first_untolerated};
use crate::model::workload::VolumeClaim;
use crate::plan::check::fleet::Fleet;
use crate::plan::check::{nodes, topology};

/// PersistentVolumeClaims by `namespace/name`.
type VolumeClaims = BTreeMap<String, Arc<VolumeClaim>>;

/// Who is bound to a Node, and who is left to kube-scheduler.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Bindings {
    /// To be bound.
    pub pods: Vec<Arc<Pod>>,
    /// Left, with the reason for people.
    pub left: Vec<(PodKey, String)>,
}

/// Whether a claim's Node is worth keeping closed until it is ready: some pod of the plan could be bound to it then,
/// under the taints that it registers with. Given are all pods and, if one of the plan's mounts any, all
/// PersistentVolumeClaims. `defaults` are the cluster's default topology spread constraints.
pub fn is_worth_a_hold(
    (pods, volume_claims): (&BTreeMap<PodKey, Arc<Pod>>, &VolumeClaims),
    claim: &Claim,
    planned: &[PodKey],
    defaults: &[TopologySpread],
) -> bool {
    let taints: Vec<Taint> = claim
        .taints
        .iter()
        .chain(&claim.startup_taints)
        .cloned()
        .collect();
    let mut pods = planned.iter().filter_map(|key| pods.get(key));
    pods.any(|pod| {
        first_untolerated(&taints, &pod.spec.tolerations).is_none()
            && doubt(volume_claims, pod, defaults).is_none()
    })
}

/// Whether pods could start on a Node that is held: it is ready, and has shed what a starting Node sheds by itself.
pub fn is_usable(node: &Node) -> bool {
    let mut taints = node.taints.iter();
    node.ready && !taints.any(|taint| taint.is_ephemeral() && !taint.is_hold())
}

/// Decides who is bound to the Node of a claim now. `defaults` are the cluster's default topology spread constraints.
pub fn decide(
    snapshot: &Snapshot,
    (claim, node): (&str, &str),
    planned: &[PodKey],
    defaults: &[TopologySpread],
) -> Bindings {
    let mut bindings = Bindings::default();
    let mut pods: Vec<Arc<Pod>> = Vec::new();
    for pod in planned.iter().filter_map(|key| snapshot.pods.get(key)) {
        match doubt(&snapshot.volume_claims, pod, defaults) {
            Some(why) => bindings.left.push((pod.key.clone(), why)),
            None => pods.push(Arc::clone(pod)),
        }
    }
    // As kube-scheduler takes them.
    pods.sort_by_key(|pod| (Reverse(pod.spec.priority), pod.created, pod.key.clone()));
    match Place::of(snapshot, claim, node, &pods) {
        Ok(place) => place.fill(pods, &mut bindings),
        Err(why) => {
            let all = pods.iter().map(|pod| (pod.key.clone(), why.clone()));
            bindings.left.extend(all);
        }
    }
    bindings
}

/// Why a pod is left to kube-scheduler, whatever its Node is like.
fn doubt(volume_claims: &VolumeClaims, pod: &Pod, defaults: &[TopologySpread]) -> Option<String> {
    let constraints = pod.spec.constraints.as_deref();
    if pod.node_name.is_some() {
        return Some("it has a node".to_owned());
    }
    if pod.deleting_until.is_some() || pod.phase.is_terminal() || !pod.is_work() {
        return Some("it does not wait for a node".to_owned());
    }
    if pod.spec.gated {
        return Some("it has scheduling gates".to_owned());
    }
    if pod.spec.scheduler_name != DEFAULT_SCHEDULER {
        let scheduler = &pod.spec.scheduler_name;
        return Some(format!("scheduler {scheduler} places it"));
    }
    if let Some(problem) = &pod.spec.problem {
        return Some(problem.clone());
    }
    // kube-scheduler puts them on pods without their own, also on some that cannot be told from here.
    let has_own = constraints.is_some_and(|constraints| !constraints.spread.is_empty());
    if !has_own && defaults.iter().any(|spread| spread.required) {
        return Some("the cluster's default spread constraints may hold for it".to_owned());
    }
    let mut claims = constraints.into_iter().flat_map(|c| &c.volume_claims);
    claims.find_map(|name| unsettled_volume(volume_claims, &pod.key.namespace, name))
}

/// What kube-scheduler still has to do about a volume before the pod that mounts it may have a Node.
fn unsettled_volume(volume_claims: &VolumeClaims, namespace: &str, name: &str) -> Option<String> {
    let Some(claim) = volume_claims.get(&format!("{namespace}/{name}")) else {
        return Some(format!("PersistentVolumeClaim {name} does not exist"));
    };
    if claim.volume_name.is_none() {
        return Some(format!("PersistentVolumeClaim {name} has no volume yet"));
    }
    if claim.one_pod {
        return Some(format!(
            "PersistentVolumeClaim {name} is for one pod at a time"
        ));
    }
    claim.problem.clone()
}

/// The Node among everything that runs, with the pods that are bound to it so far.
struct Place<'world> {
    snapshot: &'world Snapshot,
    fleet: Fleet,
}

impl<'world> Place<'world> {
    /// The Node as it will be when its hold is over, or why nobody is bound to it.
    fn of(
        snapshot: &'world Snapshot,
        claim: &str,
        node: &str,
        pods: &[Arc<Pod>],
    ) -> Result<Self, String> {
        let Some(node) = snapshot.nodes.get(node) else {
            return Err(format!("Node {node} is not there"));
        };
        let claim = snapshot.claims.get(claim);
        if node.is_closing() || claim.is_none_or(|claim| claim.deleting_since.is_some()) {
            return Err(format!("Node {} goes", node.name));
        }
        if node.unschedulable {
            return Err(format!("Node {} is cordoned", node.name));
        }
        // Where kube-scheduler puts pods too, two would give the same room away.
        if !node.taints.iter().any(Taint::is_hold) {
            return Err(format!("Node {} is open", node.name));
        }
        if !is_usable(node) {
            return Err(format!("Node {} is not ready", node.name));
        }
        let mut open = Node::clone(node);
        open.taints.retain(|taint| !taint.is_hold());
        let keeps_away = |pod: &Pod| {
            let mut own = pod.spec.constraints.iter();
            own.any(|own| !own.anti_affinity.is_empty())
        };
        let looks_around = |pod: &Arc<Pod>| {
            let mut own = pod.spec.constraints.iter();
            let is_coupled = own.any(|own| {
                !own.affinity.is_empty() || own.spread.iter().any(|spread| spread.required)
            });
            is_coupled || keeps_away(pod)
        };
        let mut running = snapshot.pods.values();
        let counts_others = pods.iter().any(looks_around)
            || running.any(|pod| pod.is_active_on_node() && keeps_away(pod));
        Ok(Self {
            fleet: Fleet::around(snapshot, &open, counts_others),
            snapshot,
        })
    }

    /// Takes all pods if they may be there together, and else one after the other those that may.
    fn fill(mut self, pods: Vec<Arc<Pod>>, bindings: &mut Bindings) {
        if self.refuses(&pods).is_none() {
            bindings.pods = pods;
            return;
        }
        let mut refused: Vec<(Arc<Pod>, String)> = Vec::new();
        for pod in pods {
            let mut known = refused.iter();
            // The Node only fills up: whoever is like one that it refused is refused too.
            if let Some((_pod, why)) = known.find(|(other, _why)| other.spec == pod.spec) {
                bindings.left.push((pod.key.clone(), why.clone()));
                continue;
            }
            bindings.pods.push(Arc::clone(&pod));
            if let Some(why) = self.refuses(&bindings.pods) {
                bindings.pods.pop();
                bindings.left.push((pod.key.clone(), why.clone()));
                refused.push((pod, why));
            }
        }
    }

    /// What is wrong with these pods on the Node.
    fn refuses(&mut self, pods: &[Arc<Pod>]) -> Option<String> {
        if let Some(node) = self.fleet.nodes.first_mut() {
            node.planned = pods.to_vec();
        }
        let mut wrong = Vec::new();
        nodes::check(self.snapshot, &self.fleet, &mut wrong);
        topology::check(self.snapshot, &self.fleet, &mut wrong);
        wrong.into_iter().next()
    }
}

#[cfg(test)]
mod tests;
