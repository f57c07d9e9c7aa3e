//! The DaemonSet controller: one pod for each node that the template could run on.

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::DaemonSet;
use serde_json::{Value, json};

use super::Cluster;
use crate::cluster::observe;
use crate::model::pod::PodSpec;
use crate::model::taint::{Taint, first_untolerated};
use crate::sim::api_server::{DeleteOptions, Key, text};

const WHO: &str = "daemonset-controller";
/// Taints that every pod of a DaemonSet tolerates. Source: Kubernetes documentation, "DaemonSet",
/// "Taints and tolerations".
const TOLERATED: [&str; 7] = [
    "node.kubernetes.io/not-ready",
    "node.kubernetes.io/unreachable",
    "node.kubernetes.io/disk-pressure",
    "node.kubernetes.io/memory-pressure",
    "node.kubernetes.io/pid-pressure",
    "node.kubernetes.io/unschedulable",
    "node.kubernetes.io/network-unavailable",
];

impl Cluster {
    /// Looks at a DaemonSet.
    pub(super) fn sync_daemon_set(&mut self, key: &Key) {
        let Some(object) = self.api.get(key) else {
            return;
        };
        let Ok(read) = serde_json::from_value::<DaemonSet>(object.clone()) else {
            return;
        };
        let spec = observe::workload::daemon_set(&read).spec;
        let eligible: BTreeSet<String> = self.eligible(&spec);
        let mut served = BTreeSet::new();
        for (pod_key, pod) in self.pods_of(text(&object, "/metadata/uid")) {
            let aimed = pod.node_name.clone().or_else(|| {
                let pod = self.api.get(&pod_key)?;
                Some(aim_of(&pod).to_owned())
            });
            let aimed = aimed.unwrap_or_default();
            // One that has ended, as when its kubelet refused it, makes room for the next.
            let superfluous =
                pod.phase.is_terminal() || !eligible.contains(&aimed) || !served.insert(aimed);
            if superfluous
                && pod.deleting_until.is_none()
                && self
                    .api
                    .delete(WHO, &pod_key, &DeleteOptions::default())
                    .is_err()
            {
                tracing::debug!(pod = %pod_key, "gone already");
            }
        }
        for node in eligible.difference(&served) {
            let mut template = object["spec"]["template"].clone();
            aim(&mut template, node);
            self.create_pod(WHO, &object, &template);
        }
    }

    /// The nodes that a DaemonSet's pods could run on.
    fn eligible(&self, spec: &Arc<PodSpec>) -> BTreeSet<String> {
        self.nodes
            .values()
            .filter(|node| {
                let taints: Vec<Taint> = node
                    .taints
                    .iter()
                    .filter(|taint| !TOLERATED.contains(&taint.key.as_str()))
                    .cloned()
                    .collect();
                first_untolerated(&taints, &spec.tolerations).is_none()
                    && spec.selects(&node.name, &node.labels)
            })
            .map(|node| node.name.clone())
            .collect()
    }
}

const FIELDS: &str = "/spec/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms/0/matchFields/0/values/0";

fn aim_of(pod: &Value) -> &str {
    text(pod, FIELDS)
}

/// Ties a pod to one node, as the controller does: by affinity, so that the scheduler binds it.
fn aim(template: &mut Value, node: &str) {
    if !template["spec"].is_object() {
        return;
    }
    template["spec"]["affinity"] = json!({
        "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": [{
            "matchFields": [{ "key": "metadata.name", "operator": "In", "values": [node] }],
        }] } },
    });
    let spec = &mut template["spec"];
    if !spec["tolerations"].is_array() {
        spec["tolerations"] = json!([]);
    }
    if let Some(tolerations) = spec["tolerations"].as_array_mut() {
        tolerations.extend(
            TOLERATED
                .iter()
                .map(|key| json!({ "key": key, "operator": "Exists" })),
        );
    }
}
