//! Binds the pods that a Node was bought for to it, while it is registered, ready and closed to everybody else.
//!
//! Given a claim and its Node that is held; bound are those pods of the latest plan that [`bind::decide`] names. Only where
//! `bindPods` says so. Nothing here opens a Node or keeps it closed for longer than a while, and a pod that is not bound,
//! whatever the reason, is left to kube-scheduler: no failure here is one of the registration.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::context::Acting;
use super::nominate::{looking_until, planned_onto};
use crate::api::labels;
use crate::cluster::Kind;
use crate::cluster::apply::{WriteError, WriteErrorClass};
use crate::cluster::events::{EventKind, Subject};
use crate::model::claim::Claim;
use crate::model::node::Node;
use crate::plan::bind::{self, Bindings};

/// How long a Node is held until it is ready. Machines take seconds; one whose network only comes up once a DaemonSet is
/// there that does not tolerate the hold would else wait for ever.
const READY_WITHIN: Duration = Duration::from_secs(30);
/// How long the calls may take: kube-scheduler is as fast where so many pods come at once that they take longer.
const BOUND_WITHIN: Duration = Duration::from_secs(5);
/// How long the watch may take to show what was bound. Who does not see it would nominate and plan these pods again.
const SHOWN_WITHIN: Duration = Duration::from_secs(1);

/// Whether a Node stays closed until pods are bound to it.
pub(super) fn keeps_closed(context: &Acting, claim: &Claim, node: &Node) -> bool {
    // A hold is what is left of the taint that a machine joins with: without it there is nothing to keep.
    let mut taints = node.taints.iter();
    if !context.settings.bind_pods || !taints.any(|taint| taint.key == labels::UNREGISTERED_TAINT) {
        return false;
    }
    let planned = planned_onto(context, claim, node);
    let view = context.mirror.view();
    let mut pods = planned.iter().filter_map(|key| view.pods.get(key));
    let mounts = pods.any(|pod| {
        let mut own = pod.spec.constraints.iter();
        own.any(|own| !own.volume_claims.is_empty())
    });
    // To join them takes as long as there are many, and most pods mount none.
    let volume_claims = if mounts {
        view.volume_claims()
    } else {
        BTreeMap::new()
    };
    let defaults = &context.settings.default_spread.0;
    bind::is_worth_a_hold((&view.pods, &volume_claims), claim, &planned, defaults)
}

/// Waits until a Node that is held is ready, and binds its pods to it. Its taint must be known to have evicted nobody for
/// long enough.
pub(super) async fn bind_planned(context: &Acting, claim: &Claim, node: &Node) {
    let usable = tokio::time::timeout(READY_WITHIN, usable(context, node));
    if usable.await.is_err() {
        let name = &node.name;
        tracing::info!("Node {name} is not ready in time: its pods are left to kube-scheduler");
        return;
    }
    match bindings(context, claim, node).await {
        Ok(bindings) => carry_out(context, node, &bindings).await,
        Err(error) => tell(context, node, &error),
    }
}

/// Who is bound to the Node, by what the API server itself says of the pods on it: the watch may be behind, and what is
/// not counted would be promised its room a second time.
async fn bindings(context: &Acting, claim: &Claim, node: &Node) -> Result<Bindings, WriteError> {
    let there = context.kubernetes.pods_on(&node.name).await?;
    let mut snapshot = context.snapshot();
    let there = there
        .into_iter()
        .map(|pod| (pod.key.clone(), Arc::new(pod)));
    snapshot.pods.extend(there);
    let planned = planned_onto(context, claim, node);
    let names = (claim.name.as_str(), node.name.as_str());
    let defaults = &context.settings.default_spread.0;
    Ok(bind::decide(&snapshot, names, &planned, defaults))
}

/// Waits until pods could start on the Node, or it is gone.
async fn usable(context: &Acting, node: &Node) {
    let changes = context.mirror.subscribe([Kind::Node]);
    loop {
        let view = context.mirror.view();
        let found = view.nodes.get(&node.name);
        if found.is_none_or(|found| found.uid != node.uid || bind::is_usable(found)) {
            return;
        }
        changes.changed().await;
    }
}

async fn carry_out(context: &Acting, node: &Node, bindings: &Bindings) {
    for (pod, why) in &bindings.left {
        tracing::debug!(node = node.name, %pod, why, "left to kube-scheduler");
    }
    let calls = bindings
        .pods
        .iter()
        .map(|pod| context.kubernetes.bind_pod(pod, &node.name));
    let calls = tokio::time::timeout(BOUND_WITHIN, futures::future::join_all(calls));
    // What has no answer by then may be bound all the same, and else is kube-scheduler's.
    let Ok(results) = calls.await else { return };
    let bound = results.iter().filter(|result| matches!(result, Ok(true)));
    let bound = bound.count();
    if bound > 0 {
        tracing::info!(node = node.name, pods = bound, "bound as planned");
    }
    if let Some(error) = results.into_iter().find_map(Result::err) {
        tell(context, node, &error);
        return;
    }
    let is_shown = || {
        let view = context.mirror.view();
        let mut found = bindings
            .pods
            .iter()
            .filter_map(|pod| view.pods.get(&pod.key));
        found.all(|pod| pod.node_name.is_some())
    };
    tokio::time::timeout(SHOWN_WITHIN, looking_until(is_shown))
        .await
        .ok();
}

/// What is not allowed stays so until a person changes it; everything else passes.
fn tell(context: &Acting, node: &Node, error: &WriteError) {
    if error.class != WriteErrorClass::Forbidden {
        tracing::debug!(node = node.name, "not bound: {error}");
        return;
    }
    let message = format!("pods are left to kube-scheduler, which may undo the plan: {error}");
    tracing::warn!(node = node.name, "{message}");
    let words = ("BindingForbidden", "Registering");
    context.tell(
        Subject::node(&node.name),
        EventKind::Warning,
        words,
        message,
    );
}
