//! Finds machines that were bought for claims which do not say so any more.
//!
//! Given a batch of claims that a restored API server has taken back, or that another process may have bought under;
//! EC2 is asked for its machines, and those that no claim knows are written onto the claims. Nothing is bought or
//! ended here.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::context::Acting;
use super::launch::settled;
use super::launched::write_instances;
use super::run::StepError;
use crate::cloud::InstanceQuery;
use crate::model::claim::Claim;
use crate::plan::instances::VISIBLE_WITHIN;
use crate::plan::launch::BatchInstance;

/// Asks for what was bought under a batch that was taken back.
pub(super) async fn recall(
    context: &Acting,
    batch: &str,
    claims: &[Arc<Claim>],
) -> Result<(), StepError> {
    let asked = context.now();
    let found = bought_under(context, batch).await?;
    write_instances(context, claims, &found).await?;
    let is_all = found.len() >= claims.len();
    context.launches(|memory| memory.recalled(batch, claims, (is_all, asked)));
    settled(context);
    Ok(())
}

/// True when another process had bought for the claims of a batch that is about to be bought, as far as EC2 shows
/// it: they have got it now. The same where a restore of the API server may have taken that back so lately that EC2
/// need not show it yet: it is looked for until then.
pub(super) async fn is_bought_already(
    context: &Acting,
    batch: &str,
    claims: &[Arc<Claim>],
) -> Result<bool, StepError> {
    if !context.launches(|memory| memory.is_unasked(batch, claims)) {
        return Ok(false);
    }
    let asked = context.now();
    let found = bought_under(context, batch).await?;
    write_instances(context, claims, &found).await?;
    let is_hidden = found.len() < claims.len()
        && context
            .mirror
            .went_back_within(VISIBLE_WITHIN.unsigned_abs());
    context.launches(|memory| {
        memory.asked_about(batch);
        if is_hidden {
            memory.suspects(batch, claims, asked);
        }
    });
    Ok(is_hidden || !found.is_empty())
}

/// The machines of a batch that no claim knows and that are not on their way out.
async fn bought_under(context: &Acting, batch: &str) -> Result<Vec<BatchInstance>, StepError> {
    let query = InstanceQuery::Batch(batch.to_owned());
    let found = context.eyes.instances(&query).await?;
    let view = context.mirror.view();
    let claims = view.claims.values();
    let known: BTreeSet<&str> = claims.filter_map(|claim| claim.instance_id()).collect();
    let free = found
        .iter()
        .filter(|instance| !instance.state.is_ending() && !known.contains(instance.id.as_str()));
    Ok(free.map(|instance| (&**instance).into()).collect())
}
