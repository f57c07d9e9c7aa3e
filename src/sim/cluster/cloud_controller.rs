//! The cloud controller: it says of each Node which machine it is, some time after the kubelet made it.
//!
//! Given a machine whose Node is there; the labels of zone, region and type are put onto the Node where it
//! lacks them. Kubelets do not know them, so until then nothing that selects by them is scheduled there.

use std::time::Duration;

use serde_json::json;

use super::Cluster;
use crate::api::labels;
use crate::sim::api_server::{Key, Resource};

const WHO: &str = "cloud-controller-manager";

/// From a Node's registration until the cloud controller has seen it: it asks EC2 first.
pub(super) const SEEN: Duration = Duration::from_millis(1_500);

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
}
