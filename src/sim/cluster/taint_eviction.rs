//! The taint eviction controller: deletes pods that are bound to Nodes whose `NoExecute` taints they do not tolerate.
//!
//! Told are changes of Nodes, and pods that were bound. As the real one it learns of Nodes and of pods apart, so
//! here it goes by what a Node had a moment ago: who binds pods to a Node that has just lost such a taint has
//! them deleted. What an unreachable Node's pods tolerate for a while is the node controller's part.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::Cluster;
use crate::model::node::Node;
use crate::model::pod::Pod;
use crate::model::taint::{Taint, TaintEffect};
use crate::sim::api_server::{DeleteOptions, Key};

const WHO: &str = "taint-eviction-controller";

/// How much later than of pods it learns of Nodes. A deletion within a tenth of this was seen of the real one.
const BEHIND: Duration = Duration::from_millis(500);

/// The `NoExecute` taints that Nodes have lost last, and when.
pub(super) type Shed = BTreeMap<String, (Instant, Vec<Taint>)>;

fn evicting(node: &Node) -> impl Iterator<Item = &Taint> {
    let taints = node.taints.iter();
    taints.filter(|taint| taint.effect == TaintEffect::NoExecute)
}

impl Cluster {
    /// A Node is this from now on, or gone.
    pub(super) fn note_taints(&mut self, name: &str, after: Option<&Node>) {
        let Some(after) = after else {
            self.shed.remove(name);
            return;
        };
        let before = self.nodes.get(name).into_iter().flat_map(evicting);
        let lost: Vec<Taint> = before
            .filter(|taint| !evicting(after).any(|kept| kept.matches(taint)))
            .cloned()
            .collect();
        if !lost.is_empty() {
            self.shed.insert(name.to_owned(), (Instant::now(), lost));
        }
    }

    /// A pod was bound to a Node.
    pub(super) fn evict_by_taints(&self, key: &Key, pod: &Pod) {
        let Some(name) = &pod.node_name else { return };
        let there = self.nodes.get(name).into_iter().flat_map(evicting);
        let still = self.shed.get(name).into_iter();
        let still = still.filter(|(lost_at, _taints)| lost_at.elapsed() < BEHIND);
        let mut taints = there.chain(still.flat_map(|(_lost_at, taints)| taints));
        let tolerations = &pod.spec.tolerations;
        let untolerated = |taint: &&Taint| !tolerations.iter().any(|known| known.tolerates(taint));
        let Some(taint) = taints.find(untolerated) else {
            return;
        };
        tracing::info!(pod = %key, node = name, %taint, "deleted for a taint");
        let options = DeleteOptions::default();
        if let Err(refusal) = self.api.delete(WHO, key, &options) {
            tracing::debug!(pod = %key, %refusal, "not deleted");
        }
    }
}
