//! What came of a launch, said where people and the other loops look.
//!
//! Given a batch and what EC2 answered; the claims get their instances, and one that still waits is told what could
//! not be bought. Nothing is decided or called at EC2 here, but for the end of an instance whose claim is gone.

use std::sync::Arc;
use std::time::Duration;

use super::context::Acting;
use super::run::{StepError, all_written};
use crate::api::conditions::{ConditionReason, ConditionType};
use crate::cloud::{CloudError, errors};
use crate::cluster::apply::{ClaimMetadataChange, ClaimStatusChange};
use crate::cluster::events::{EventKind, Subject};
use crate::metrics::ClaimStep;
use crate::model::claim::Claim;
use crate::model::launch::{ErrorClass, LaunchOutcome};
use crate::plan::condition::ConditionChange;
use crate::plan::launch::{Batch, BatchInstance, assign, launched_status, relabelled};

/// Counts what could not be bought, and says the first of it on a claim that still waits.
pub(super) fn tell_shortfalls(context: &Acting, batch: &Batch, outcome: &LaunchOutcome) {
    for shortfall in &outcome.shortfalls {
        context
            .metrics
            .launch_failed(shortfall.offering.as_ref(), shortfall.class);
        tracing::info!(
            batch = batch.record.batch,
            offering = shortfall.offering.as_ref().map(ToString::to_string),
            code = shortfall.code,
            message = shortfall.message,
            "EC2 could not give an offering"
        );
    }
    let waiting = batch
        .claims
        .iter()
        .rfind(|claim| claim.provider_id.is_empty());
    if let (Some(first), Some(claim)) = (outcome.shortfalls.first(), waiting) {
        let what = first
            .offering
            .as_ref()
            .map_or_else(|| "an offering".to_owned(), ToString::to_string);
        let message = format!(
            "{} of {} instances were launched; {what}: {} ({}); what else the claims allow is tried next",
            outcome.instances.len(),
            batch.record.size,
            first.message,
            first.code
        );
        let subject = Subject::claim(&claim.name, &claim.uid);
        let reason = if first.is_of_the_class() {
            "LaunchRefused"
        } else {
            "InsufficientCapacityError"
        };
        context.tell(subject, EventKind::Warning, (reason, "Launching"), message);
    }
}

/// Writes down on the claims of a batch which of them got which instance.
pub(super) async fn write_instances(
    context: &Acting,
    claims: &[Arc<Claim>],
    instances: &[BatchInstance],
) -> Result<(), StepError> {
    // As they are now: the call took a while.
    let view = context.mirror.view();
    let claims: Vec<Arc<Claim>> = claims
        .iter()
        .filter_map(|claim| {
            let current = view.claims.get(&claim.name)?;
            (current.uid == claim.uid).then(|| Arc::clone(current))
        })
        .collect();
    let writes: Vec<_> = assign(&claims, instances)
        .into_iter()
        .map(|(claim, instance)| async move { write_instance(context, &claim, &instance).await })
        .collect();
    all_written(writes).await
}

/// Says on every claim of the batch why EC2 refused, and lets the step be tried again later. What is only to be
/// repeated is said nowhere: it passes by itself, and each claim would take a write that launches wait for.
pub(super) async fn refused(
    context: &Acting,
    claims: &[Arc<Claim>],
    error: CloudError,
) -> Result<(), StepError> {
    if errors::is_retryable(error.class) {
        return Err(error.into());
    }
    let reason = match error.class {
        ErrorClass::InsufficientCapacity => "InsufficientCapacity",
        ErrorClass::QuotaExceeded => "QuotaExceeded",
        ErrorClass::Unauthorized => "Unauthorized",
        _ => "LaunchFailed",
    };
    let change = ConditionChange::unknown(
        ConditionType::Launched,
        ConditionReason::from(reason),
        error.to_string(),
    );
    let waiting = claims.iter().filter(|claim| claim.provider_id.is_empty());
    let writes: Vec<_> = waiting
        .map(|claim| tell_refusal(context, claim, change.clone()))
        .collect();
    all_written(writes).await?;
    Err(error.into())
}

async fn tell_refusal(
    context: &Acting,
    claim: &Claim,
    change: ConditionChange,
) -> Result<(), StepError> {
    let message = change.message.clone();
    context.report(claim, change).await?;
    let subject = Subject::claim(&claim.name, &claim.uid);
    context.tell(
        subject,
        EventKind::Warning,
        ("LaunchFailed", "Launching"),
        message,
    );
    Ok(())
}

/// Writes an instance onto a claim that has none: one that has is never paired, and one that got its own meanwhile is not as
/// it was seen, so that the write is refused.
async fn write_instance(
    context: &Acting,
    claim: &Claim,
    instance: &BatchInstance,
) -> Result<(), StepError> {
    let resolution = context.class(&claim.node_class);
    let class = resolution.as_ref().map(|resolution| &resolution.class);
    let status = launched_status(instance, class, &claim.requests);
    let change = ClaimMetadataChange {
        labels: relabelled(claim, &instance.offering, status.labels),
        ..ClaimMetadataChange::default()
    };
    // The labels first: the status says that the claim is launched, so they must be there by then.
    let labelled = match context
        .kubernetes
        .patch_claim_metadata(claim, &change)
        .await
    {
        Ok(labelled) => labelled,
        // The claim is gone although its finalizer should have held it: the instance must not stay.
        Err(error) if error.is_gone() => {
            context.endings.terminate(&instance.id).await?;
            return Ok(());
        }
        Err(error) => return Err(error.into()),
    };
    let change = ClaimStatusChange {
        provider_id: Some(status.provider_id),
        image_id: Some(status.image_id).filter(|image| !image.is_empty()),
        capacity: Some(status.capacity),
        allocatable: Some(status.allocatable),
        conditions: vec![ConditionChange::holds(ConditionType::Launched).update()],
        ..ClaimStatusChange::default()
    };
    context
        .kubernetes
        .patch_claim_status(&labelled, &change)
        .await?;
    let price = class.and_then(|class| {
        let offering = class.offering(&instance.offering)?;
        Some(format!(" at {} USD per hour", offering.total_price()))
    });
    let message = format!(
        "bought {} as {}{}",
        instance.offering,
        instance.id,
        price.as_deref().unwrap_or_default()
    );
    tracing::info!(claim = claim.name, instance = instance.id, "{message}");
    let after = context.now().duration_since(claim.created);
    context.metrics.claim_reached(
        claim.node_pool.as_deref().unwrap_or_default(),
        ClaimStep::Launched,
        Duration::try_from(after).unwrap_or_default(),
    );
    let subject = Subject::claim(&claim.name, &claim.uid);
    context.tell(
        subject,
        EventKind::Normal,
        ("Launched", "Launching"),
        message,
    );
    Ok(())
}
