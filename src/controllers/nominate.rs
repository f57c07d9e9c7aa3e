//! Tells kube-scheduler which pods a Node was bought for, before it opens.
//!
//! Given a claim and its Node; written is `status.nominatedNodeName` of the pods that the latest plan put
//! there. It is a hint: the pods of a plan that is forgotten, or of a call that fails, are scheduled all the
//! same, and no Node stays closed for it longer than a moment.
//!
//! kube-scheduler takes a nomination back when it tries the pod in vain, as it does while the Node is closed
//! (Kubernetes 1.36, `pkg/scheduler/framework/preemption`: no candidate, so the nominated name is cleared),
//! and then tries all pods again. The room is nobody's meanwhile, and a pod of another size gets it. So pods
//! are nominated in a quiet moment right before their Node opens, Nodes that come together open one after the
//! other, and what was taken back all the same is said again once the Node is open, never before.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::time::Instant;

use super::context::Acting;
use crate::model::claim::Claim;
use crate::model::node::Node;
use crate::model::pod::{Pod, PodKey};

/// How long kube-scheduler must have tried no pod before pods are nominated. It takes milliseconds for each of
/// those that the Node's appearance has woken.
const QUIET: Duration = Duration::from_millis(150);
/// How long that is waited for at most: in a large cluster it is always at work.
const QUIET_WITHIN: Duration = Duration::from_millis(1500);
/// How long the pods of an open Node may take to be bound before the next Node's turn.
const BOUND_WITHIN: Duration = Duration::from_millis(800);
/// How long the watch may take to show a nomination; what it does not show then was taken back.
const SHOWN_WITHIN: Duration = Duration::from_millis(300);
/// How often it is looked whether it is quiet, and whether pods are bound.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// How long a Node waits for its turn: of many that come at once the rest opens together after this time, since
/// pods that start late are worse than a machine too many.
const TURN_WITHIN: Duration = Duration::from_secs(2);

/// Whose turn it is to open.
#[derive(Debug, Clone, Default)]
pub(super) struct Turns(Arc<Mutex<()>>);

/// The turn of one Node that pods wait for.
#[derive(Debug)]
pub(super) struct Turn {
    /// Nobody else opens meanwhile; `None` when waiting for that took too long.
    _alone: Option<OwnedMutexGuard<()>>,
}

impl Turns {
    /// Waits for a Node's turn and nominates its pods; `None` at once for a Node that no pods wait for.
    pub(super) async fn take(&self, context: &Acting, claim: &Claim, node: &Node) -> Option<Turn> {
        if expected(context, claim, node).is_empty() {
            return None;
        }
        let alone = tokio::time::timeout(TURN_WITHIN, Arc::clone(&self.0).lock_owned());
        let alone = alone.await.ok();
        let until = Instant::now() + QUIET_WITHIN;
        // To say it takes many calls, and what was said first may be taken back before the last: then once more.
        for _time in 0..2 {
            tokio::time::timeout_at(until, quiet(context)).await.ok();
            say(context, claim, node).await;
            let is_shown = || unsaid(context, &expected(context, claim, node)).is_empty();
            let shown = tokio::time::timeout(SHOWN_WITHIN, looking_until(is_shown));
            if shown.await.is_ok() {
                break;
            }
        }
        Some(Turn { _alone: alone })
    }
}

/// Waits until kube-scheduler tries no pod.
async fn quiet(context: &Acting) {
    // The Node's last change may have woken pods that were not tried yet.
    tokio::time::sleep(LOOK_AGAIN).await;
    looking_until(|| context.mirror.waiting_pods_quiet_for() >= QUIET).await;
}

pub(super) async fn looking_until(holds: impl Fn() -> bool) {
    while !holds() {
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

impl Turn {
    /// The Node is open: says again what was taken back while it opened. The next one's turn comes when the pods
    /// are bound, or after a while.
    pub(super) async fn end(self, context: &Acting, claim: &Claim, node: &Node) {
        let taken_back = say(context, claim, node).await;
        if taken_back > 0 {
            tracing::debug!(
                node = node.name,
                pods = taken_back,
                "nominations were taken back while the node opened, and are said again"
            );
        }
        let bound = looking_until(|| expected(context, claim, node).is_empty());
        // Pods that are not bound by then are no reason to keep others waiting.
        tokio::time::timeout(BOUND_WITHIN, bound).await.ok();
    }
}

/// Nominates the pods of the latest plan that are not nominated, and gives back how many these are.
///
/// What was said of a pod stays: a pod that is called off from a Node leaves room there that nobody has,
/// which kube-scheduler gives to a pod of another size.
pub(super) async fn say(context: &Acting, claim: &Claim, node: &Node) -> usize {
    let unsaid = unsaid(context, &expected(context, claim, node));
    let calls = unsaid
        .iter()
        .map(|pod| context.kubernetes.nominate_pod(pod, &node.name));
    for result in futures::future::join_all(calls).await {
        if let Err(error) = result {
            tracing::debug!(node = node.name, "not nominated: {error}");
        }
    }
    unsaid.len()
}

/// The pods that the latest plan put onto the Node.
pub(super) fn planned_onto(context: &Acting, claim: &Claim, node: &Node) -> Vec<PodKey> {
    let Some(planned) = context.planned() else {
        return Vec::new();
    };
    // A plan calls a Node by its name as soon as there is one.
    let names = [&claim.name, &node.name];
    let planned = names.into_iter().filter_map(|name| planned.onto.get(name));
    planned.flatten().cloned().collect()
}

/// Those of them that are to be nominated to it: they are not bound yet.
fn expected(context: &Acting, claim: &Claim, node: &Node) -> Vec<Arc<Pod>> {
    if !context.settings.nominate_pods {
        return Vec::new();
    }
    let view = context.mirror.view();
    planned_onto(context, claim, node)
        .iter()
        .filter_map(|key| view.pods.get(key))
        .filter(|pod| pod.node_name.is_none() && pod.deleting_until.is_none())
        .map(Arc::clone)
        .collect()
}

/// Those of them that are nominated to no open Node.
fn unsaid(context: &Acting, expected: &[Arc<Pod>]) -> Vec<Arc<Pod>> {
    let view = context.mirror.view();
    let is_said = |pod: &Pod| {
        let node = pod.nominated_node.as_ref();
        let node = node.and_then(|node| view.nodes.get(node));
        node.is_some_and(|node| !node.is_closing())
    };
    let unsaid = expected.iter().filter(|pod| !is_said(pod));
    unsaid.cloned().collect()
}
