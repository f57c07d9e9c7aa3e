//! Cordons: which pods go onto a Node that is closed by `spec.unschedulable`, and the taint that the node controller
//! puts onto it.
//!
//! Told are changes of Nodes; the taint follows the field. Nobody who runs is asked to leave.

use serde_json::json;

use super::Cluster;
use crate::model::node::Node;
use crate::model::pod::PodSpec;
use crate::model::taint::{Taint, TaintEffect, first_untolerated};
use crate::sim::api_server::Key;
use crate::sim::clock::api_time;

const WHO: &str = "node-controller";
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";

fn cordon() -> Taint {
    Taint::new(UNSCHEDULABLE, "", TaintEffect::NoSchedule)
}

/// True when no cordon keeps a pod off a node. kube-scheduler goes by the field: the taint comes a moment later.
pub(super) fn lets_in(node: &Node, spec: &PodSpec) -> bool {
    !node.unschedulable || first_untolerated(&[cordon()], &spec.tolerations).is_none()
}

impl Cluster {
    /// A Node is this from now on.
    pub(super) fn note_cordon(&self, key: &Key, node: &Node) {
        let cordon = cordon();
        let is_tainted = node.taints.iter().any(|taint| taint.matches(&cordon));
        if is_tainted == node.unschedulable {
            return;
        }
        let time = api_time(self.clock.now());
        let changed = self.api.change(WHO, key, None, |object| {
            // It may have been opened again since.
            let is_closed = object["spec"]["unschedulable"] == true;
            if !object["spec"]["taints"].is_array() {
                object["spec"]["taints"] = json!([]);
            }
            if let Some(taints) = object["spec"]["taints"].as_array_mut() {
                taints.retain(|taint| taint["key"] != UNSCHEDULABLE);
                if is_closed {
                    let effect = cordon.effect.as_str();
                    taints
                        .push(json!({ "key": UNSCHEDULABLE, "effect": effect, "timeAdded": time }));
                }
            }
        });
        if changed.is_err() {
            tracing::debug!(node = %key, "gone already");
        }
    }
}
