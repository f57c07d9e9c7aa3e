//! The taint eviction controller: deletes pods from Nodes whose `NoExecute` taints they do not tolerate, at once, or
//! when they have tolerated them for as long as they say.
//!
//! Told are changes of Nodes, pods that were bound, and pods that are gone. As the real one it learns of Nodes and of
//! pods apart, so here it goes by what a Node had a moment ago: who binds pods to a Node that has just lost such a
//! taint has them deleted. A pod's time runs on when another taint comes, and ends early only when no taint is left
//! that the pod does not tolerate for ever. Source: kube-controller-manager, `pkg/controller/tainteviction`.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::Cluster;
use super::agenda::Duty;
use crate::model::node::Node;
use crate::model::pod::Pod;
use crate::model::taint::{Taint, TaintEffect, Toleration};
use crate::sim::api_server::{DeleteOptions, Key, text};

const WHO: &str = "taint-eviction-controller";

/// How much later than of pods it learns of Nodes. A deletion within a tenth of this was seen of the real one.
const BEHIND: Duration = Duration::from_millis(500);

/// The `NoExecute` taints that Nodes have lost last, and when.
pub(super) type Shed = BTreeMap<String, (Instant, Vec<Taint>)>;

/// When pods must have left that tolerate the taints of their Nodes for a while, with their uids.
pub(super) type Tolerating = BTreeMap<Key, (String, Instant)>;

/// The taints of a Node that evict.
pub(super) fn evicting(node: &Node) -> impl Iterator<Item = &Taint> {
    let taints = node.taints.iter();
    taints.filter(|taint| taint.effect == TaintEffect::NoExecute)
}

/// How long a pod with these tolerations stays under taints; `None` is for ever.
fn tolerated_for<'taints>(
    taints: impl Iterator<Item = &'taints Taint>,
    tolerations: &[Toleration],
) -> Option<Duration> {
    let mut least: Option<Duration> = None;
    for taint in taints {
        let mut known = tolerations.iter();
        let Some(toleration) = known.find(|known| known.tolerates(taint)) else {
            return Some(Duration::ZERO);
        };
        if let Some(seconds) = toleration.seconds {
            let time = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
            least = Some(least.map_or(time, |least| least.min(time)));
        }
    }
    least
}

impl Cluster {
    /// A Node is this from now on, or gone; true when the pods on it are to be weighed against its taints.
    pub(super) fn note_taints(&mut self, name: &str, after: Option<&Node>) -> bool {
        let Some(after) = after else {
            self.shed.remove(name);
            return false;
        };
        let Some(before) = self.nodes.get(name) else {
            return true;
        };
        let lost: Vec<Taint> = evicting(before)
            .filter(|taint| !evicting(after).any(|kept| kept.matches(taint)))
            .cloned()
            .collect();
        let is_changed = evicting(before).ne(evicting(after));
        if !lost.is_empty() {
            self.shed.insert(name.to_owned(), (Instant::now(), lost));
        }
        is_changed
    }

    /// Weighs every pod on a Node.
    pub(super) fn weigh_tenants(&mut self, node: &str) {
        for key in self.tenants.get(node).cloned().unwrap_or_default() {
            if let Some(pod) = self.pods.get(&key).cloned() {
                self.weigh(&key, &pod);
            }
        }
    }

    /// A pod was bound to a Node.
    pub(super) fn evict_by_taints(&mut self, key: &Key, pod: &Pod) {
        let Some(name) = &pod.node_name else { return };
        let still = self.shed.get(name).into_iter();
        let still = still.filter(|(lost_at, _taints)| lost_at.elapsed() < BEHIND);
        let still = still.flat_map(|(_lost_at, taints)| taints);
        if tolerated_for(still, &pod.spec.tolerations).is_some_and(|time| time.is_zero()) {
            self.delete_from(name, key, &pod.uid);
        } else {
            self.weigh(key, pod);
        }
    }

    /// Decides by the taints that a pod's Node has now: it goes at once, in a while, or stays.
    pub(super) fn weigh(&mut self, key: &Key, pod: &Pod) {
        let Some(name) = &pod.node_name else { return };
        let there = self.nodes.get(name).into_iter().flat_map(evicting);
        let Some(time) = tolerated_for(there, &pod.spec.tolerations) else {
            self.tolerating.remove(key);
            return;
        };
        if time.is_zero() {
            self.tolerating.remove(key);
            self.delete_from(name, key, &pod.uid);
            return;
        }
        let known = self.tolerating.get(key);
        if known.is_none_or(|(uid, _due)| *uid != pod.uid) {
            let due = Instant::now() + time;
            self.tolerating.insert(key.clone(), (pod.uid.clone(), due));
            self.agenda.plan(Duty::Evict(key.clone()), time);
        }
    }

    /// The time of a pod may be over.
    pub(super) fn evict_tolerating(&mut self, key: &Key) {
        let Some((uid, due)) = self.tolerating.get(key).cloned() else {
            return;
        };
        let left = due.saturating_duration_since(Instant::now());
        if !left.is_zero() {
            // It began anew after its taints had gone for a while.
            self.agenda.plan(Duty::Evict(key.clone()), left);
            return;
        }
        self.tolerating.remove(key);
        let pod = self.pods.get(key).filter(|pod| pod.uid == uid);
        if let Some(node) = pod.and_then(|pod| pod.node_name.as_deref()) {
            self.delete_from(node, key, &uid);
        }
    }

    fn delete_from(&self, node: &str, key: &Key, uid: &str) {
        // A restore that is not heard of yet may have taken it off its Node.
        let is_there = self.api.read(key, |pod| {
            text(pod, "/metadata/uid") == uid && text(pod, "/spec/nodeName") == node
        });
        if is_there != Some(true) {
            return;
        }
        tracing::info!(pod = %key, node, "deleted for a taint");
        let options = DeleteOptions::default();
        if let Err(refusal) = self.api.delete(WHO, key, &options) {
            tracing::debug!(pod = %key, %refusal, "not deleted");
        }
    }
}
