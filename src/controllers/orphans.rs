//! What people are told of machines without a claim that stay.
//!
//! Given what collection decided; given back events where people look, and the figures of what is held. Nothing is
//! decided or ended here.

use std::sync::Arc;

use super::context::Acting;
use crate::cluster::events::{EventKind, Subject};
use crate::metrics::{Loop, OrphanHold};
use crate::model::instance::Instance;
use crate::model::node_pool::NodePool;
use crate::plan::collect::{CollectStep, Collection, Halt};

/// How many instances a message names.
const MOST_NAMED: usize = 5;

/// Sets how many orphans stay, and why.
pub(super) fn measure_held(context: &Acting, collection: &Collection) {
    let steps = collection.decision.steps.iter();
    let paused: usize = steps
        .map(|step| match step {
            CollectStep::HeldByPause { instances, .. } => instances.len(),
            _ => 0,
        })
        .sum();
    let halt = collection.halt.as_ref();
    let too_many = halt.map_or(0, |halt| halt.orphans.len());
    let metrics = &context.metrics;
    metrics.set_orphans_held(OrphanHold::Paused, paused);
    metrics.set_orphans_held(OrphanHold::TooMany, too_many);
}

/// Says where people look that the brake holds, when that is news.
pub(super) fn halted(context: &Acting, halt: Option<&Halt>) {
    if context.set_halt(halt.cloned()) {
        context.metrics.orphans_found(0, halt.is_some());
        if let Some(halt) = halt {
            tracing::error!(token = halt.token, "{}", halt.message);
            for subject in listeners(context) {
                let reason = ("OrphanCollectionHalted", "Collecting");
                context.tell(subject, EventKind::Warning, reason, halt.message.clone());
            }
        }
        context.wake(Loop::NodePools);
    }
}

/// Says on a paused NodePool which machines it keeps. In every sweep: the event counts as long as they are there.
pub(super) fn held_by_pause(context: &Acting, node_pool: &NodePool, instances: &[Arc<Instance>]) {
    let named = instances.iter().take(MOST_NAMED);
    let named: Vec<String> = named
        .map(|instance| format!("{} {}", instance.id, instance.offering))
        .collect();
    let message = format!(
        "machines without a NodeClaim stay, and cost money, while the NodePool is paused: {} ({}{}); remove the annotation \
         tonnage.dev/paused to have them terminated, or terminate them at EC2",
        instances.len(),
        named.join(", "),
        if instances.len() > MOST_NAMED {
            ", ..."
        } else {
            ""
        },
    );
    let subject = Subject::node_pool(&node_pool.name, &node_pool.uid);
    let words = ("OrphansHeld", "Collecting");
    context.tell(subject, EventKind::Warning, words, message);
}

/// Where people look: our NodePools, or the Lease where there is none.
pub(super) fn listeners(context: &Acting) -> Vec<Subject> {
    let view = context.mirror.view();
    let pools: Vec<Subject> = view
        .node_pools
        .values()
        .filter(|observed| observed.ours)
        .map(|observed| Subject::node_pool(&observed.pool.name, &observed.pool.uid))
        .collect();
    if !pools.is_empty() {
        return pools;
    }
    let lease = context.settings.lease.iter().map(|lease| {
        let namespace = lease
            .namespace
            .as_deref()
            .unwrap_or_else(|| context.kubernetes.default_namespace());
        Subject::lease(namespace, &lease.name)
    });
    lease.collect()
}
