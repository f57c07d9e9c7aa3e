//! Machines that ended, and what becomes of their Nodes and pods: the node controller's part.

use std::time::Duration;

use serde_json::json;

use super::Cluster;
use super::agenda::Duty;
use crate::model::taint::{Taint, TaintEffect};
use crate::sim::api_server::{DeleteOptions, Key, Resource, set_condition};
use crate::sim::clock::api_time;

const WHO: &str = "node-controller";
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
/// How long a kubelet may be silent before its Node is called unknown. Source: kube-controller-manager,
/// `--node-monitor-grace-period`, 50 s since Kubernetes 1.32.
pub(super) const GRACE: Duration = Duration::from_secs(50);
/// How long pods tolerate a silent node by default. Source: admission plugin DefaultTolerationSeconds.
const TOLERATED: Duration = Duration::from_mins(5);

impl Cluster {
    /// A machine has ended.
    pub(super) fn silence(&mut self, id: &str) {
        let lives = self
            .ec2
            .machine(id)
            .is_some_and(|machine| self.speaks(&machine));
        if lives {
            return;
        }
        if let Some(node) = self.kubelets.remove(id) {
            self.agenda.plan(Duty::Unreachable(node), GRACE);
        }
    }

    /// A kubelet has been silent for too long.
    pub(super) fn unreachable(&mut self, node: &str) {
        let key = Key::new(Resource::Node, "", node);
        let time = api_time(self.clock.now());
        let marked = self.api.change(WHO, &key, Some("status"), |node| {
            set_condition(node, "Ready", "Unknown", "NodeStatusUnknown", &time);
        });
        if marked.is_err() {
            return;
        }
        let tainted = self.api.change(WHO, &key, None, |node| {
            if !node["spec"]["taints"].is_array() {
                node["spec"]["taints"] = json!([]);
            }
            if let Some(taints) = node["spec"]["taints"].as_array_mut() {
                taints.retain(|taint| taint["key"] != UNREACHABLE);
                for effect in ["NoSchedule", "NoExecute"] {
                    taints.push(json!({ "key": UNREACHABLE, "effect": effect, "timeAdded": time }));
                }
            }
        });
        let mut ready: Vec<Key> = Vec::new();
        for (key, pod) in &self.pods {
            if pod.node_name.as_deref() == Some(node) {
                ready.push(key.clone());
            }
        }
        for key in ready {
            let unready = self.api.change(WHO, &key, Some("status"), |pod| {
                set_condition(pod, "Ready", "False", "NodeNotReady", &time);
            });
            if unready.is_err() {
                tracing::debug!(pod = %key, "gone already");
            }
        }
        if tainted.is_ok() {
            self.agenda
                .plan(Duty::EvictUnreachable(node.to_owned()), TOLERATED);
        }
    }

    /// Pods that do not tolerate the taint for ever are deleted; without a kubelet they stay until
    /// their Node is gone.
    pub(super) fn evict_unreachable(&mut self, node: &str) {
        let taint = Taint::new(UNREACHABLE, "", TaintEffect::NoExecute);
        let still = self
            .nodes
            .get(node)
            .is_some_and(|node| node.taints.iter().any(|known| known.matches(&taint)));
        if !still {
            return;
        }
        let on_node: Vec<Key> = self
            .pods
            .iter()
            .filter(|(_key, pod)| {
                let tolerates =
                    pod.spec.tolerations.iter().any(|toleration| {
                        toleration.seconds.is_none() && toleration.tolerates(&taint)
                    });
                pod.node_name.as_deref() == Some(node) && !tolerates && pod.deleting_until.is_none()
            })
            .map(|(key, _pod)| key.clone())
            .collect();
        for key in on_node {
            if self
                .api
                .delete(WHO, &key, &DeleteOptions::default())
                .is_err()
            {
                tracing::debug!(pod = %key, "gone already");
            }
        }
    }
}
