//! Takes machines down in order.
//!
//! Woken by claims, Nodes and pods; asks [`crate::plan::terminate`]; fences, evicts, terminates and lets
//! finalizers go.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::future::BoxFuture;
use jiff::Timestamp;

use super::context::Acting;
use super::run::{Controller, Round, Step, StepError};
use crate::api::conditions::{ConditionReason, ConditionType};
use crate::api::labels;
use crate::cluster::apply::{ClaimMetadataChange, ClaimStatusChange, Eviction, FinalizedKind};
use crate::cluster::events::{EventKind, Subject};
use crate::cluster::{Changes, Kind};
use crate::metrics::{EvictionOutcome, Loop};
use crate::model::claim::Claim;
use crate::model::node::Node;
use crate::model::pod::Pod;
use crate::plan::condition::ConditionChange;
use crate::plan::instances::Sight;
use crate::plan::terminate::{self, TerminateStep};

/// The reason of events about a machine that EC2 refuses to end.
pub(super) const TERMINATION_FAILED: &str = "TerminationFailed";

/// The loop that terminates.
#[derive(Debug)]
pub struct Terminate {
    context: Arc<Acting>,
}

impl Terminate {
    /// Acts with the shared context.
    pub fn new(context: Arc<Acting>) -> Self {
        Self { context }
    }
}

impl Controller for Terminate {
    fn name(&self) -> Loop {
        Loop::Termination
    }

    fn interests(&self) -> Vec<Kind> {
        vec![Kind::NodeClaim, Kind::Node, Kind::Pod]
    }

    fn round<'round>(&'round mut self, _changes: &'round Changes) -> BoxFuture<'round, Round> {
        let context = &self.context;
        let snapshot = context.snapshot();
        let decision = context.instances(|instances| {
            context.launches(|launches| terminate::decide(&snapshot, instances, launches))
        });
        context.look_at(decision.look_at);
        let steps = decision
            .steps
            .into_iter()
            .map(|step| Step::new(step.key(), carry_out(Arc::clone(context), step)))
            .collect();
        let wake = decision.wake;
        Box::pin(async move { Round { steps, wake } })
    }
}

async fn carry_out(context: Arc<Acting>, step: TerminateStep) -> Result<(), StepError> {
    let kubernetes = &context.kubernetes;
    match step {
        TerminateStep::DeleteClaim { claim } => kubernetes.delete_claim(&claim).await?,
        TerminateStep::SetDeadline { claim, deadline } => {
            let deadline = for_whoever_leads(&context, deadline);
            let change = ClaimMetadataChange {
                annotations: BTreeMap::from([(
                    labels::TERMINATION_TIMESTAMP.to_owned(),
                    Some(deadline.to_string()),
                )]),
                ..ClaimMetadataChange::default()
            };
            kubernetes.patch_claim_metadata(&claim, &change).await?;
            let message = format!("pods must leave by {deadline}; then they are deleted");
            let subject = Subject::claim(&claim.name, &claim.uid);
            let words = ("TerminationGracePeriodExpiring", "Draining");
            context.tell(subject, EventKind::Warning, words, message);
        }
        TerminateStep::Fence { node } => kubernetes.taint_node_disrupted(&node).await?,
        TerminateStep::DeleteNode {
            node,
            going: Some(claim),
        } => kubernetes.delete_fenced_node(&node, &claim).await?,
        TerminateStep::DeleteNode { node, going: None } => kubernetes.delete_node(&node).await?,
        TerminateStep::Evict { pod, node, reason } => {
            evict(&context, &pod, &node, &reason).await?;
        }
        TerminateStep::ForceDelete {
            pod,
            node,
            grace_seconds,
        } => {
            kubernetes.delete_pod(&pod, grace_seconds).await?;
            context.metrics.eviction(EvictionOutcome::Forced);
            let message = format!(
                "Node {} must be gone soon: the pod was deleted with {grace_seconds} s to end",
                node.name
            );
            let words = ("Disrupted", "Draining");
            context.tell(Subject::pod(&pod), EventKind::Warning, words, message);
        }
        TerminateStep::Report { claim, change } => {
            let change = ClaimStatusChange {
                conditions: vec![change.update()],
                ..ClaimStatusChange::default()
            };
            kubernetes.patch_claim_status(&claim, &change).await?;
        }
        TerminateStep::TerminateInstance {
            instance,
            nodes,
            pods,
        } => {
            terminate_instance(&context, &instance, &nodes, &pods).await?;
        }
        TerminateStep::ReleaseNode { node } => release_node(&context, &node).await?,
        TerminateStep::ReleaseClaim { claim } => release_claim(&context, &claim).await?,
    }
    Ok(())
}

/// A deadline as it is written down. Whoever leads next goes by the API server's time at once; where its clock was set
/// forward the own time still follows it, and the deadline would have passed for them long before.
fn for_whoever_leads(context: &Acting, deadline: Timestamp) -> Timestamp {
    deadline
        .saturating_sub(context.world.ahead_of_server())
        .unwrap_or(deadline)
        .max(deadline)
}

async fn terminate_instance(
    context: &Acting,
    instance: &str,
    nodes: &BTreeSet<String>,
    pods: &BTreeSet<String>,
) -> Result<(), StepError> {
    let ready = nothing_new(context, nodes, pods);
    // The decision holds what there is no room for: it is made again at once.
    let ended = context.end(instance, StepError::Outdated, ready).await;
    if let Err(error) = &ended {
        say_if_refused(context, instance, nodes, error).await?;
    }
    ended?;
    let now = context.now();
    context.instances(|view| view.terminated(instance, now));
    tracing::info!(instance, "terminating");
    context.wake(Loop::Termination);
    Ok(())
}

/// Says on Nodes and claim that EC2 does not end their machine, if asking again will not mend it: it costs money
/// until somebody does.
async fn say_if_refused(
    context: &Acting,
    instance: &str,
    nodes: &BTreeSet<String>,
    error: &StepError,
) -> Result<(), StepError> {
    let Some(message) = error.lasting_refusal() else {
        return Ok(());
    };
    let is_hidden = context.instances(|view| {
        if error.is_unauthorized() {
            view.refused(instance);
        }
        matches!(view.get(instance), Sight::Absent(_))
    });
    let message = if is_hidden {
        format!(
            "EC2 does not show instance {instance} and does not let it be terminated: {message}. If it runs it costs \
             money. If it ended long ago EC2 has forgotten its tags, by which the permission goes: its NodeClaim goes \
             when EC2 has not shown it for an hour"
        )
    } else {
        format!("instance {instance} is not terminated and costs money: {message}")
    };
    let words = (TERMINATION_FAILED, "Terminating");
    let view = context.mirror.view();
    for node in nodes.iter().filter(|name| view.nodes.contains_key(*name)) {
        let subject = Subject::node(node);
        context.tell(subject, EventKind::Warning, words, message.clone());
    }
    let mut claims = view.claims.values();
    let Some(claim) = claims.find(|claim| claim.instance_id() == Some(instance)) else {
        return Ok(());
    };
    let subject = Subject::claim(&claim.name, &claim.uid);
    context.tell(subject, EventKind::Warning, words, message.clone());
    let change = ConditionChange::unknown(
        ConditionType::InstanceTerminating,
        ConditionReason::TerminationFailed,
        message,
    );
    context.report(claim, change).await
}

/// Asks the API server itself for the pods of Nodes whose instance is about to go: a watch may be
/// behind, and a pod that came just before the fence must not be lost.
async fn nothing_new(
    context: &Acting,
    nodes: &BTreeSet<String>,
    known: &BTreeSet<String>,
) -> Result<(), StepError> {
    for node in nodes {
        let pods = context.kubernetes.pods_on(node).await?;
        if let Some(pod) = pods.iter().find(|pod| !known.contains(&pod.uid)) {
            return Err(StepError::Outdated(format!(
                "pod {} is on Node {node} and was not known to be",
                pod.key
            )));
        }
    }
    Ok(())
}

async fn evict(context: &Acting, pod: &Pod, node: &Node, reason: &str) -> Result<(), StepError> {
    match context.kubernetes.evict_pod(pod).await {
        Ok(Eviction::Evicted) => {
            context.metrics.eviction(EvictionOutcome::Evicted);
            context.tell(
                Subject::pod(pod),
                EventKind::Normal,
                ("Evicted", "Draining"),
                format!("evicted from Node {}: {reason}", node.name),
            );
            Ok(())
        }
        Ok(Eviction::Gone) => {
            context.metrics.eviction(EvictionOutcome::Gone);
            Ok(())
        }
        Ok(Eviction::Blocked(why)) => {
            context.metrics.eviction(EvictionOutcome::Blocked);
            let message = format!("pod {} cannot be evicted now: {why}", pod.key);
            let words = ("FailedDraining", "Draining");
            context.tell(
                Subject::node(&node.name),
                EventKind::Warning,
                words,
                message.clone(),
            );
            Err(StepError::Blocked(message))
        }
        Err(error) => {
            context.metrics.eviction(EvictionOutcome::Failed);
            Err(error.into())
        }
    }
}

async fn release_node(context: &Acting, node: &Node) -> Result<(), StepError> {
    context
        .kubernetes
        .remove_finalizer(
            FinalizedKind::Node,
            &node.name,
            &node.uid,
            labels::TERMINATION_FINALIZER,
        )
        .await?;
    tracing::info!(node = node.name, "node gone");
    Ok(())
}

async fn release_claim(context: &Acting, claim: &Claim) -> Result<(), StepError> {
    context
        .kubernetes
        .remove_finalizer(
            FinalizedKind::Claim,
            &claim.name,
            &claim.uid,
            labels::TERMINATION_FINALIZER,
        )
        .await?;
    let pool = claim.node_pool.as_deref().unwrap_or_default();
    let since = claim.deleting_since.unwrap_or(claim.created);
    let after = context.now().duration_since(since);
    context.metrics.claim_terminated(
        pool,
        claim.offerings.first(),
        after.try_into().unwrap_or_default(),
    );
    tracing::info!(claim = claim.name, "claim gone");
    Ok(())
}
