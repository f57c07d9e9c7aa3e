//! kube-scheduler: binds waiting pods to nodes that take them, and says of the rest that none does.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::fit::Used;
use super::topology::Placed;
use super::{Cluster, fit};
use crate::model::node::Node;
use crate::model::pod::{DEFAULT_SCHEDULER, Pod, PodPhase};
use crate::sim::api_server::{Key, set_condition};
use crate::sim::clock::api_time;

const WHO: &str = "kube-scheduler";

impl Cluster {
    /// Looks at every waiting pod once: by priority, then age, then name.
    pub(super) fn schedule(&mut self) {
        let mut waiting: Vec<(Key, Arc<Pod>)> = self
            .pods
            .iter()
            .filter(|(_key, pod)| {
                pod.node_name.is_none()
                    && pod.phase == PodPhase::Pending
                    && pod.deleting_until.is_none()
                    && !pod.spec.gated
                    && pod.spec.scheduler_name == DEFAULT_SCHEDULER
            })
            .map(|(key, pod)| (key.clone(), Arc::clone(pod)))
            .collect();
        if waiting.is_empty() {
            return;
        }
        waiting.sort_by_key(|(key, pod)| (-pod.spec.priority, pod.created, key.clone()));
        let mut used = self.used();
        let mut held = Held::of(&waiting);
        let mut placed = self
            .pods
            .values()
            .filter(|pod| pod.is_active_on_node())
            .filter_map(|pod| Some((Arc::clone(pod), pod.node_name.clone()?)))
            .collect();
        let mut decided = Vec::new();
        // Nodes only fill up in a pass: where one pod finds no place, none like it does, unless room
        // is kept for that one.
        let mut without_place: Vec<Arc<Pod>> = Vec::new();
        for (key, pod) in waiting {
            if pod.nominated_node.is_none()
                && without_place.iter().any(|known| known.spec == pod.spec)
            {
                decided.push((key, pod, None));
                continue;
            }
            let there = Placed {
                nodes: &self.nodes,
                pods: placed,
            };
            let chosen = choose(&pod, &there, &used, &held);
            placed = there.pods;
            if let Some(node) = &chosen {
                held.release(&pod);
                used.entry(node.clone()).or_default().add(&pod.spec);
                placed.push((Arc::clone(&pod), node.clone()));
            } else if pod.spec.constraints.is_none() {
                // Affinity may be met by pods that are placed later in the pass.
                without_place.push(Arc::clone(&pod));
            }
            decided.push((key, pod, chosen));
        }
        for (key, pod, chosen) in decided {
            match chosen {
                Some(node) => {
                    if let Err(refusal) = self.api.bind(WHO, &key, &node) {
                        tracing::debug!(pod = %key, %refusal, "not bound");
                    }
                }
                None if !pod.unschedulable => self.say_unschedulable(&key),
                None => {}
            }
        }
    }

    /// What pods use of each node.
    fn used(&self) -> BTreeMap<String, Used> {
        let mut used: BTreeMap<String, Used> = BTreeMap::new();
        for pod in self.pods.values().filter(|pod| pod.is_active_on_node()) {
            if let Some(node) = &pod.node_name {
                used.entry(node.clone()).or_default().add(&pod.spec);
            }
        }
        used
    }

    fn say_unschedulable(&self, key: &Key) {
        let time = api_time(self.clock.now());
        let said = self.api.change(WHO, key, Some("status"), |pod| {
            set_condition(pod, "PodScheduled", "False", "Unschedulable", &time);
        });
        if said.is_err() {
            tracing::debug!(pod = %key, "gone already");
        }
    }
}

/// Room that is kept for pods nominated to nodes: kube-scheduler counts those of the same or a higher
/// priority as if they ran there.
struct Held(BTreeMap<String, Vec<Arc<Pod>>>);

impl Held {
    fn of(waiting: &[(Key, Arc<Pod>)]) -> Self {
        let mut held: BTreeMap<String, Vec<Arc<Pod>>> = BTreeMap::new();
        for (_key, pod) in waiting {
            if let Some(node) = &pod.nominated_node {
                held.entry(node.clone()).or_default().push(Arc::clone(pod));
            }
        }
        Self(held)
    }

    /// A pod has its node.
    fn release(&mut self, pod: &Pod) {
        let held = pod.nominated_node.as_ref();
        if let Some(pods) = held.and_then(|node| self.0.get_mut(node)) {
            pods.retain(|other| other.uid != pod.uid);
        }
    }

    /// What a node keeps for others than this pod.
    fn beside(&self, node: &Node, pod: &Pod) -> Used {
        let mut kept = Used::default();
        for other in self.0.get(&node.name).into_iter().flatten() {
            if other.uid != pod.uid && other.spec.priority >= pod.spec.priority {
                kept.add(&other.spec);
            }
        }
        kept
    }
}

/// The node for a pod: the one it is nominated to if that takes it, else the emptiest.
fn choose(
    pod: &Pod,
    placed: &Placed<'_>,
    used: &BTreeMap<String, Used>,
    held: &Held,
) -> Option<String> {
    let nothing = Used::default();
    let used_of = |node: &Node| used.get(&node.name).unwrap_or(&nothing);
    let takes = |node: &&Node| {
        let kept = held.beside(node, pod);
        fit::takes(node, &[used_of(node), &kept], &pod.spec) && placed.allows(pod, node)
    };
    let nominated = pod
        .nominated_node
        .as_ref()
        .and_then(|name| placed.nodes.get(name));
    if let Some(node) = nominated.filter(takes) {
        return Some(node.name.clone());
    }
    placed
        .nodes
        .values()
        .filter(takes)
        .max_by(|one, other| {
            let rank = |node: &Node| fit::emptiness(node, used_of(node), &pod.spec);
            rank(one)
                .cmp(&rank(other))
                .then_with(|| other.name.cmp(&one.name))
        })
        .map(|node| node.name.clone())
}
