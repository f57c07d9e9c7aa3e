//! Cordons: which pods go onto a Node that is closed by `spec.unschedulable`, and the taint that the node controller
//! puts onto it.
//!
//! Told are changes of Nodes; the taint follows the field. Nobody who runs is asked to leave.

use serde_json::{Value, json};

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

/// A Node carries the taint of a key with these effects from now on, and with no others.
pub(super) fn set_taint(node: &mut Value, key: &str, effects: &[TaintEffect], time: &str) {
    if !node["spec"]["taints"].is_array() {
        node["spec"]["taints"] = json!([]);
    }
    if let Some(taints) = node["spec"]["taints"].as_array_mut() {
        taints.retain(|taint| taint["key"] != key);
        let effects = effects.iter().map(|effect| effect.as_str());
        taints.extend(
            effects.map(|effect| json!({ "key": key, "effect": effect, "timeAdded": time })),
        );
    }
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
            let effects = is_closed.then_some(cordon.effect);
            set_taint(object, UNSCHEDULABLE, effects.as_slice(), &time);
        });
        if changed.is_err() {
            tracing::debug!(node = %key, "gone already");
        }
    }
}
