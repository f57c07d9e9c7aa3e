//! Opens a Node for pods: registers it, in its turn, once nobody is evicted from it any more.
//!
//! Given a claim, its Node and what registration writes. A Node that pods would come to at once is held for a moment, and
//! one that pods are to be bound to until they are; both by a taint that evicts nobody and that whoever registers the Node
//! next takes off as well, so that no Node stays closed for want of the one who closed it.

use std::time::Duration;

use super::bind;
use super::context::Acting;
use super::nominate::{Turn, Turns};
use super::run::StepError;
use crate::cluster::apply::{Hold, NodeRegistration, Opening};
use crate::model::claim::Claim;
use crate::model::node::Node;

/// How long after a Node lost a taint that evicts kube-controller-manager may still go by it: it learns of
/// Nodes and of pods apart, and deletes a pod that it sees on a Node first (`pkg/controller/tainteviction`).
const STILL_EVICTS: Duration = Duration::from_secs(1);

/// Registers a Node and opens it.
pub(super) async fn open(
    context: &Acting,
    turns: &Turns,
    (claim, node): (&Claim, &Node),
    registration: &NodeRegistration,
) -> Result<Option<Turn>, StepError> {
    let kubernetes = &context.kubernetes;
    let view = context.mirror.view();
    let is_ready = view.nodes.get(&node.name).is_some_and(|node| node.ready);
    let binds = bind::keeps_closed(context, claim, node);
    let mut was_held = false;
    if is_ready || binds {
        // Before its turn, so that nobody waits for it.
        let hold = if binds { Hold::Always } else { Hold::IfTaken };
        let opening = kubernetes.register_node(node, registration, hold).await?;
        was_held = opening == Opening::Held;
    }
    loop {
        if was_held {
            tokio::time::sleep(STILL_EVICTS).await;
            if binds {
                bind::bind_planned(context, claim, node).await;
            }
        }
        let turn = turns.take(context, claim, node).await;
        let hold = if was_held { Hold::Over } else { Hold::IfTaken };
        let opening = kubernetes.register_node(node, registration, hold);
        if opening.await? == Opening::Open {
            return Ok(turn);
        }
        // Ready since it was looked at. Others open meanwhile.
        drop(turn);
        was_held = true;
    }
}
