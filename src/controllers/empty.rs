//! Lets empty nodes go.
//!
//! Woken by pods, Nodes, claims and NodePools; asks [`crate::plan::empty`]; fences nodes that are empty for
//! long enough and deletes their claims.

use std::sync::Arc;

use futures::future::BoxFuture;

use super::context::{AGREE_AGAIN, Acting};
use super::run::{Controller, Round, Step, StepError};
use crate::api::ConditionType;
use crate::cluster::apply::ClaimStatusChange;
use crate::cluster::events::{EventKind, Subject};
use crate::cluster::{Changes, Kind};
use crate::metrics::{Loop, RemovalReason};
use crate::model::claim::Claim;
use crate::model::node::Node;
use crate::plan::empty::{self, EmptyMemory, EmptyStep};

/// The loop that removes empty nodes.
#[derive(Debug)]
pub struct Empty {
    context: Arc<Acting>,
    memory: EmptyMemory,
}

impl Empty {
    /// Acts with the shared context.
    pub fn new(context: Arc<Acting>) -> Self {
        Self {
            context,
            memory: EmptyMemory::default(),
        }
    }
}

impl Controller for Empty {
    fn name(&self) -> Loop {
        Loop::Emptiness
    }

    fn interests(&self) -> Vec<Kind> {
        vec![Kind::Pod, Kind::Node, Kind::NodeClaim, Kind::NodePool]
    }

    fn round<'round>(&'round mut self, _changes: &'round Changes) -> BoxFuture<'round, Round> {
        let context = &self.context;
        let snapshot = context.snapshot();
        self.memory.observe(&snapshot, context.planned().as_deref());
        let mut decision = empty::decide(&snapshot, &self.memory);
        if context.must_wait() {
            // No plan is made meanwhile that could put pods there.
            let takes = |step: &EmptyStep| {
                matches!(step, EmptyStep::Fence { .. } | EmptyStep::Remove { .. })
            };
            decision.steps.retain(|step| !takes(step));
            let again = snapshot.now + AGREE_AGAIN;
            decision.wake = Some(decision.wake.map_or(again, |wake| wake.min(again)));
        }
        let steps = decision
            .steps
            .into_iter()
            .map(|step| Step::new(step.key(), carry_out(Arc::clone(context), step)))
            .collect();
        let wake = decision.wake;
        Box::pin(async move { Round { steps, wake } })
    }
}

async fn carry_out(context: Arc<Acting>, step: EmptyStep) -> Result<(), StepError> {
    let kubernetes = &context.kubernetes;
    match step {
        EmptyStep::Fence {
            claim,
            node,
            change,
        } => {
            kubernetes.taint_node_disrupted(&node).await?;
            if let Some(change) = change {
                let change = ClaimStatusChange {
                    conditions: vec![change.update()],
                    ..ClaimStatusChange::default()
                };
                kubernetes.patch_claim_status(&claim, &change).await?;
            }
        }
        EmptyStep::Unfence { claim, node } => unfence(&context, &claim, &node).await?,
        EmptyStep::Remove {
            claim,
            node,
            message,
        } => {
            // A Node that the claim names and no watch has shown yet may run pods already: whoever takes
            // the lease reads every claim anew, and knows Nodes and pods by their watches alone.
            let name = node.map_or_else(|| claim.node_name.clone(), |node| node.name.clone());
            if !name.is_empty() {
                context.no_work_on(&name).await?;
            }
            remove(&context, &claim, &message).await?;
        }
        EmptyStep::Touch { claim, at } => {
            let change = ClaimStatusChange {
                last_pod_event: Some(at),
                ..ClaimStatusChange::default()
            };
            kubernetes.patch_claim_status(&claim, &change).await?;
        }
    }
    Ok(())
}

async fn unfence(context: &Acting, claim: &Claim, node: &Node) -> Result<(), StepError> {
    context.kubernetes.untaint_node_disrupted(node).await?;
    let change = ClaimStatusChange {
        cleared: vec![ConditionType::DisruptionReason],
        ..ClaimStatusChange::default()
    };
    context
        .kubernetes
        .patch_claim_status(claim, &change)
        .await?;
    tracing::info!(node = node.name, "not empty any more: kept");
    Ok(())
}

async fn remove(context: &Acting, claim: &Claim, message: &str) -> Result<(), StepError> {
    context.remove_claim(claim, RemovalReason::Empty).await?;
    tracing::info!(
        claim = claim.name,
        node = claim.node_name,
        "removing: {message}"
    );
    let words = ("DisruptionTerminating", "Removing");
    let message = format!("removed as empty: {message}");
    if !claim.node_name.is_empty() {
        let subject = Subject::node(&claim.node_name);
        context.tell(subject, EventKind::Normal, words, message.clone());
    }
    let subject = Subject::claim(&claim.name, &claim.uid);
    context.tell(subject, EventKind::Normal, words, message);
    Ok(())
}
