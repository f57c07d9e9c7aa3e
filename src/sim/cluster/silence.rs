//! Machines that ended, and what becomes of their Nodes and pods: the node controller's part. Which pods must leave
//! for its taints is the taint eviction controller's.

use std::time::Duration;

use super::Cluster;
use super::agenda::Duty;
use super::cordon::set_taint;
use crate::api::labels::UNREACHABLE_TAINT;
use crate::model::taint::TaintEffect;
use crate::sim::api_server::{Key, Resource, set_condition};
use crate::sim::clock::api_time;

const WHO: &str = "node-controller";
/// How long a kubelet may be silent before its Node is called unknown. Source: kube-controller-manager,
/// `--node-monitor-grace-period`, 50 s since Kubernetes 1.32.
pub(super) const GRACE: Duration = Duration::from_secs(50);

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
    pub(super) fn unreachable(&self, node: &str) {
        let key = Key::new(Resource::Node, "", node);
        let time = api_time(self.clock.now());
        let marked = self.api.change(WHO, &key, Some("status"), |node| {
            set_condition(node, "Ready", "Unknown", "NodeStatusUnknown", &time);
        });
        if marked.is_err() {
            return;
        }
        let tainted = self.api.change(WHO, &key, None, |node| {
            let effects = [TaintEffect::NoSchedule, TaintEffect::NoExecute];
            set_taint(node, UNREACHABLE_TAINT, &effects, &time);
        });
        if tainted.is_err() {
            tracing::debug!(node, "gone before it was tainted");
        }
        for key in self.tenants.get(node).into_iter().flatten() {
            let unready = self.api.change(WHO, key, Some("status"), |pod| {
                set_condition(pod, "Ready", "False", "NodeNotReady", &time);
            });
            if unready.is_err() {
                tracing::debug!(pod = %key, "gone already");
            }
        }
    }
}
