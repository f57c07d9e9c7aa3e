//! The cloud controller: it says of each Node which machine it is, some time after the kubelet made it, and deletes
//! Nodes whose machine is no more.
//!
//! Given a machine whose Node is there; the labels of zone, region and type are put onto the Node where it
//! lacks them. Kubelets do not know them, so until then nothing that selects by them is scheduled there.
//! Given Nodes that are not ready; those are deleted whose machine EC2 calls terminated, or has forgotten. A machine
//! that EC2 leaves out of its answers for a while is not taken for gone: worlds hide young ones for longer than EC2
//! does, and a Node that is deleted while it joins does not come back.

use std::time::Duration;

use serde_json::json;

use super::Cluster;
use super::agenda::Duty;
use crate::api::labels;
use crate::model::instance::{InstanceState, instance_id_of};
use crate::model::node::Node;
use crate::sim::api_server::{DeleteOptions, Key, Resource};

const WHO: &str = "cloud-controller-manager";

/// From a Node's registration until the cloud controller has seen it: it asks EC2 first.
pub(super) const SEEN: Duration = Duration::from_millis(1_500);
/// How often it looks whether the machines of Nodes that are not ready are still there. Source:
/// cloud-controller-manager, `--node-monitor-period`.
const LOOKS: Duration = Duration::from_secs(5);

impl Cluster {
    /// Labels the Node of a machine.
    pub(super) fn identify(&self, id: &str) {
        let (Some(name), Some(machine)) = (self.kubelets.get(id), self.ec2.machine(id)) else {
            return;
        };
        let Some(shown) = machine.shown(self.clock.now()) else {
            return;
        };
        let offering = shown.offering;
        let own = [
            (labels::INSTANCE_TYPE, &*offering.instance_type),
            (labels::ZONE, &*offering.zone),
            (labels::REGION, offering.region()),
        ];
        let key = Key::new(Resource::Node, "", name);
        let is_said = self.api.get(&key).is_none_or(|node| {
            let said = &node["metadata"]["labels"];
            own.iter().all(|(label, _value)| said[*label].is_string())
        });
        if is_said {
            return;
        }
        let labelled = self.api.change(WHO, &key, None, |node| {
            for (label, value) in own {
                let said = &mut node["metadata"]["labels"][label];
                if !said.is_string() {
                    *said = json!(value);
                }
            }
        });
        if labelled.is_err() {
            tracing::debug!(node = name, "gone before it was labelled");
        }
    }

    /// A Node is this from now on.
    pub(super) fn note_readiness(&mut self, node: &Node) {
        if is_looked_at(node) {
            self.agenda.plan(Duty::LookAtNodes, LOOKS);
        }
    }

    /// Deletes the Nodes that are not ready and whose machine is no more.
    pub(super) fn look_at_nodes(&mut self) {
        let unready = self.nodes.values().filter(|node| is_looked_at(node));
        let (stay, go): (Vec<&Node>, Vec<&Node>) = unready.partition(|node| self.has_machine(node));
        for node in go {
            let key = Key::new(Resource::Node, "", &node.name);
            let options = DeleteOptions::default();
            if let Err(refusal) = self.api.delete(WHO, &key, &options) {
                tracing::debug!(node = node.name, %refusal, "not deleted");
            }
        }
        if !stay.is_empty() {
            self.agenda.plan(Duty::LookAtNodes, LOOKS);
        }
    }

    /// True unless EC2 itself says that nothing is left of a Node's machine.
    fn has_machine(&self, node: &Node) -> bool {
        let Some(id) = instance_id_of(&node.provider_id) else {
            return true;
        };
        let machine = self.ec2.machine(id);
        let shown = machine.and_then(|machine| machine.shown(self.clock.now()));
        shown.is_some_and(|shown| shown.state != InstanceState::Terminated)
    }
}

/// True while it is of interest whether a Node still has its machine.
fn is_looked_at(node: &Node) -> bool {
    !node.ready && node.deleting_since.is_none()
}
