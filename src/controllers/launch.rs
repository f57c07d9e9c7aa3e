//! Buys what claims ask for.
//!
//! Woken by claims, node classes, NodePools and shortages that end; asks [`crate::plan::launch`]; writes records before
//! it calls EC2, and what EC2 answered onto the claims. See decision 0004 for the order.

use std::sync::Arc;
use std::time::Duration;

use futures::future::{BoxFuture, join_all};
use jiff::Timestamp;

use super::context::Acting;
use super::edited;
use super::launched::{refused, tell_shortfalls, write_instances};
use super::recall::{is_bought_already, recall};
use super::run::{Controller, Round, Step, StepError};
use crate::api::EC2NodeClass;
use crate::cloud::{CloudError, InstanceQuery};
use crate::cluster::apply::{ClaimStatusChange, WriteErrorClass};
use crate::cluster::{Changes, Kind};
use crate::metrics::{LaunchResult, Loop, RemovalReason};
use crate::model::claim::Claim;
use crate::model::launch::{ErrorClass, LaunchOutcome, LaunchRecord};
use crate::plan::launch::{self, Batch, BatchInstance, LaunchStep, Proposal};

/// The loop that launches.
#[derive(Debug)]
pub struct Launch {
    context: Arc<Acting>,
}

impl Launch {
    /// Acts with the shared context.
    pub fn new(context: Arc<Acting>) -> Self {
        Self { context }
    }
}

impl Controller for Launch {
    fn name(&self) -> Loop {
        Loop::Launch
    }

    fn interests(&self) -> Vec<Kind> {
        vec![Kind::NodeClaim, Kind::NodeClass, Kind::NodePool]
    }

    fn settle(&self) -> (Duration, Duration) {
        // Claims of one plan are made within moments of each other and shall be one call.
        (Duration::from_millis(150), Duration::from_secs(1))
    }

    fn round<'round>(&'round mut self, _changes: &'round Changes) -> BoxFuture<'round, Round> {
        let context = &self.context;
        if !context.classes_known() {
            return Box::pin(std::future::ready(Round::default()));
        }
        let mut snapshot = context.snapshot_with_outlook();
        edited::hold_back(context, &mut snapshot);
        let decision = context.launches(|memory| {
            memory.forget(&snapshot);
            launch::decide(&snapshot, memory)
        });
        context.tell_outlook();
        context.look_at(decision.look_at);
        let steps = decision
            .steps
            .into_iter()
            .map(|step| Step::new(step.key(), carry_out(Arc::clone(context), step)))
            .collect();
        Box::pin(async move {
            Round {
                steps,
                wake: decision.wake,
            }
        })
    }
}

async fn carry_out(context: Arc<Acting>, step: LaunchStep) -> Result<(), StepError> {
    match step {
        LaunchStep::Propose(proposal) => propose(&context, &proposal).await,
        LaunchStep::Complete { record, missing } => {
            let _hand = Hand::take(&context, &missing);
            write_record(&context, &record, &missing)
                .await
                .map_err(|unwritten| unwritten.error)
        }
        LaunchStep::Call(batch) => call(&context, &batch).await,
        LaunchStep::LookUp(batch) => look_up(&context, &batch).await.map(drop),
        LaunchStep::Recall { batch, claims } => recall(&context, &batch, &claims).await,
        LaunchStep::Report { claim, change } => context.report(&claim, change).await,
        LaunchStep::GiveUp {
            claim,
            reason,
            message,
        } => {
            let (removal, event) = match reason {
                launch::REFUSED => (RemovalReason::Refused, "LaunchRefused"),
                launch::NO_SHOWS => (RemovalReason::RegistrationTimeout, launch::NO_SHOWS),
                launch::TOO_DEAR => (RemovalReason::InsufficientCapacity, launch::TOO_DEAR),
                _ => (
                    RemovalReason::InsufficientCapacity,
                    "InsufficientCapacityError",
                ),
            };
            context.give_up(&claim, removal, event, message).await
        }
    }
}

/// The EC2NodeClass object of a claim.
fn class_object(context: &Acting, claim: &Claim) -> Result<Arc<EC2NodeClass>, StepError> {
    let view = context.mirror.view();
    view.node_classes
        .get(&claim.node_class)
        .map(|observed| Arc::clone(&observed.object))
        .ok_or_else(|| StepError::Outdated(format!("EC2NodeClass {} is gone", claim.node_class)))
}

async fn propose(context: &Acting, proposal: &Proposal) -> Result<(), StepError> {
    let now = context.now();
    let before = context
        .launches(|memory| memory.reserve(proposal, now))
        // The decision holds what there is no room for: it is made again at once.
        .map_err(|full| StepError::Outdated(format!("launches: {full}")))?;
    let hand = Hand::take(context, &proposal.claims);
    let chosen = choose(context, proposal).await;
    drop(hand);
    match chosen {
        Ok(()) => {
            // The claims carry the record now; the call follows in the next round.
            context.wake(Loop::Launch);
            Ok(())
        }
        Err(Unwritten { error, everywhere }) => {
            // A claim that may carry the record may be bought: what it needs stays spent.
            if everywhere {
                context.launches(|memory| memory.give_back(proposal, before));
            }
            Err(error)
        }
    }
}

/// Claims that a record is being written onto. Whoever decides meanwhile leaves them alone: a round that
/// sees half of a record would write the rest as well, or take it for settled.
struct Hand<'step> {
    context: &'step Acting,
    claims: &'step [Arc<Claim>],
}

impl<'step> Hand<'step> {
    fn take(context: &'step Acting, claims: &'step [Arc<Claim>]) -> Self {
        context.launches(|memory| memory.take(claims));
        Self { context, claims }
    }
}

impl Drop for Hand<'_> {
    fn drop(&mut self) {
        self.context.launches(|memory| memory.let_go(self.claims));
    }
}

/// A record that was not written onto all of its claims.
struct Unwritten {
    error: StepError,
    /// No claim carries it for certain.
    everywhere: bool,
}

impl From<StepError> for Unwritten {
    /// What failed before anything was written.
    fn from(error: StepError) -> Self {
        Self {
            error,
            everywhere: true,
        }
    }
}

/// Says on the claims that the ceiling holds them no more, and gives them back as they are then.
async fn admit(context: &Acting, claims: &[Arc<Claim>]) -> Result<Vec<Arc<Claim>>, StepError> {
    let writes: Vec<_> = claims
        .iter()
        .map(|claim| async move {
            let Some(change) = launch::admitted(claim) else {
                return Ok(Arc::clone(claim));
            };
            let change = ClaimStatusChange {
                conditions: vec![change.update()],
                ..ClaimStatusChange::default()
            };
            context.kubernetes.patch_claim_status(claim, &change).await
        })
        .collect();
    let written = join_all(writes).await;
    let admitted: Result<Vec<_>, _> = written.into_iter().collect();
    Ok(admitted?)
}

/// Makes the launch templates of a proposal and writes its record.
async fn choose(context: &Acting, proposal: &Proposal) -> Result<(), Unwritten> {
    let claims = admit(context, &proposal.claims).await?;
    let Some(claim) = claims.first() else {
        return Ok(());
    };
    if is_bought_already(context, &proposal.batch, &claims).await? {
        let why = "machines of the batch were bought before, and are looked at first";
        return Err(StepError::Outdated(why.to_owned()).into());
    }
    let object = class_object(context, claim)?;
    let class = &proposal.node_class;
    if let Some(why) = edited::what_changed(&object, class) {
        let why = format!("EC2NodeClass {}: {why}", class.name);
        return Err(StepError::Outdated(why).into());
    }
    let prepared = context
        .cloud
        .prepare(&object, class, claim, &proposal.offerings)
        .await;
    let templates = match prepared {
        Ok(templates)
            if templates
                .iter()
                .any(|template| !template.overrides.is_empty()) =>
        {
            templates
        }
        Ok(_nothing) => {
            let error = CloudError {
                operation: "CreateLaunchTemplate",
                class: ErrorClass::Invalid,
                code: "NothingToLaunch".to_owned(),
                message: format!(
                    "EC2NodeClass {} has no image or no subnet for any of the offerings of the claim; \
                     widen its amiSelectorTerms or subnetSelectorTerms",
                    class.name
                ),
            };
            unprepared(context, proposal, &error);
            return Ok(refused(context, &claims, error).await?);
        }
        Err(error) => {
            unprepared(context, proposal, &error);
            return Ok(refused(context, &claims, error).await?);
        }
    };
    let record = proposal.record(templates);
    let now = context.now();
    context.launches(|memory| {
        memory.chosen(&record, now);
        memory.moves_on(&claims, &record.batch);
    });
    write_record(context, &record, &claims).await
}

async fn write_record(
    context: &Acting,
    record: &LaunchRecord,
    claims: &[Arc<Claim>],
) -> Result<(), Unwritten> {
    let text = serde_json::to_string(record)
        .map_err(|error| StepError::Outdated(format!("launch record: {error}")))?;
    // All at once: the client-side bucket spreads them, and one that is slow holds up no other.
    let writes = claims
        .iter()
        .map(|claim| context.kubernetes.write_launch(claim, &text));
    let written = join_all(writes).await;
    let mut failed = None;
    let mut everywhere = true;
    for (claim, result) in claims.iter().zip(written) {
        let Err(error) = result else {
            everywhere = false;
            continue;
        };
        // Repeating it is no use, and the claims beside it must not wait for that: they are chosen
        // anew without it.
        let refused = matches!(
            error.class,
            WriteErrorClass::Invalid | WriteErrorClass::Forbidden
        );
        if refused && record.size > 1 {
            context.launches(|memory| memory.set_alone(claim));
        }
        // A conflict may be with a write of its own whose answer was lost.
        everywhere &= refused || error.class == WriteErrorClass::Gone;
        failed.get_or_insert(error);
    }
    failed.map_or(Ok(()), |error| {
        Err(Unwritten {
            error: error.into(),
            everywhere,
        })
    })
}

/// The turn of a call may come long after it was decided. One that nobody can have made yet is not made for claims
/// that leave: what it bought would be ended at once.
fn still_wanted(context: &Acting, batch: &Batch) -> Result<(), StepError> {
    if !context.launches(|memory| memory.bought_nothing(&batch.record)) {
        return Ok(());
    }
    let view = context.mirror.view();
    let stays = |claim: &Arc<Claim>| {
        let current = view.claims.get(&claim.name);
        current.is_some_and(|current| current.uid == claim.uid && current.deleting_since.is_none())
    };
    if batch.claims.iter().all(stays) {
        return Ok(());
    }
    let why = format!(
        "claims of batch {} leave before it was bought",
        batch.record.batch
    );
    Err(StepError::Outdated(why))
}

async fn call(context: &Acting, batch: &Batch) -> Result<(), StepError> {
    let Some(claim) = batch
        .claims
        .iter()
        .find(|claim| claim.provider_id.is_empty())
    else {
        return Ok(());
    };
    let object = class_object(context, claim)?;
    let record = &batch.record;
    // A restore may have taken back that a later attempt bought, while EC2 had refused this one.
    if context.launches(|memory| memory.is_unasked(&record.batch, &batch.claims)) {
        let found = look_up(context, batch).await?;
        context.launches(|memory| memory.asked_about(&record.batch));
        if found.settled {
            return Ok(());
        }
    }
    context.cloud.turn().await;
    still_wanted(context, batch)?;
    let now = context.now();
    let before = context.launches(|memory| memory.called(record, now));
    match context.cloud.launch(record, claim, &object).await {
        Ok(outcome) => answered(context, batch, &outcome, before).await,
        Err(error) => {
            context.metrics.launch_failed(None, error.class);
            let now = context.now();
            context.launches(|memory| match error.class {
                ErrorClass::Transient => memory.unanswered(record, now),
                ErrorClass::TokenMismatch => memory.was_used(record, before, now),
                ErrorClass::Throttled => memory.throttled(record, before, now),
                _ => memory.took_no_effect(record, before, now),
            });
            unanswered(context, batch, error).await
        }
    }
}

/// Writes down what EC2 launched. Where the answer may leave out what an earlier call did, EC2 is asked for that.
async fn answered(
    context: &Acting,
    batch: &Batch,
    outcome: &LaunchOutcome,
    before: Option<Timestamp>,
) -> Result<(), StepError> {
    let record = &batch.record;
    let now = context.now();
    let tells_all = context.launches(|memory| memory.tells_all(record, outcome, before, now));
    if tells_all {
        let result = match outcome.instances.len() {
            0 => LaunchResult::NoCapacity,
            bought if bought < record.size as usize => LaunchResult::Partial,
            _ => LaunchResult::Complete,
        };
        context.metrics.launched(record.capacity_type, result);
        tell_shortfalls(context, batch, outcome);
    }
    let bought: Vec<BatchInstance> = outcome.instances.iter().map(Into::into).collect();
    write_instances(context, &batch.claims, &bought).await?;
    if !tells_all {
        return look_up(context, batch).await.map(drop);
    }
    let now = context.now();
    let known = batch.claims.first();
    let known = known.and_then(|claim| context.class(&claim.node_class));
    let class = known.as_ref().map(|known| &known.class);
    context.launches(|memory| memory.answered(record, class, outcome, now));
    settled(context);
    Ok(())
}

/// What follows when EC2 did not say what it launched. It may have launched all the same: in this
/// call, when the answer was lost, or in an earlier one of the same record.
async fn unanswered(context: &Acting, batch: &Batch, error: CloudError) -> Result<(), StepError> {
    let record = &batch.record;
    let now = context.now();
    match error.class {
        ErrorClass::Throttled | ErrorClass::Transient => Err(error.into()),
        ErrorClass::TokenMismatch => match look_up(context, batch).await? {
            Found { settled: true, .. } => Ok(()),
            // Tried again after a rest: EC2 may not show everything yet.
            Found { settled: false, .. } => Err(error.into()),
        },
        // There is no capacity, or templates, subnets or permissions are not what they were.
        ErrorClass::InsufficientCapacity
        | ErrorClass::QuotaExceeded
        | ErrorClass::NotFound
        | ErrorClass::Unauthorized
        | ErrorClass::Invalid => {
            let known = batch.claims.first();
            let known = known.and_then(|claim| context.class(&claim.node_class));
            let class = known.as_ref().map(|known| &known.class);
            let said = (error.class, error.code.as_str(), error.message.as_str());
            context.launches(|memory| memory.refused(record, class, said, now));
            refused_call(context, batch, error).await
        }
    }
}

/// What a class asks for is wrong as it stands: its claims walk on to what it can launch, and hold their pods no
/// longer. What is missing or not allowed may be mended meanwhile.
fn unprepared(context: &Acting, proposal: &Proposal, error: &CloudError) {
    if error.class != ErrorClass::Invalid {
        return;
    }
    let (class, now) = (&proposal.node_class, context.now());
    context.launches(|memory| {
        for offering in &proposal.offerings {
            let wanted = (offering, proposal.reservation());
            memory.refusals.note(class, wanted, &error.message, now);
        }
    });
}

/// EC2 refused a call, which settles its record: at once when none of its calls can have bought
/// anything, else when EC2 has shown what an earlier one bought. The claims are told if it bought
/// nothing.
async fn refused_call(context: &Acting, batch: &Batch, error: CloudError) -> Result<(), StepError> {
    if context.launches(|memory| memory.bought_nothing(&batch.record)) {
        // Told first: once the record is settled the next one is written onto the same claims.
        let told = refused(context, &batch.claims, error).await;
        context.launches(|memory| memory.settled(&batch.record));
        settled(context);
        return told;
    }
    if look_up(context, batch).await?.any {
        return Err(error.into());
    }
    refused(context, &batch.claims, error).await
}

/// What a look at EC2 showed of a record.
struct Found {
    /// There are instances.
    any: bool,
    /// Nothing more will come of it.
    settled: bool,
}

/// Asks EC2 what came of a record that nobody will repeat, and writes down the instances that it
/// shows. The record is settled once all that it asked for is there, or EC2 has had the time to show
/// everything.
async fn look_up(context: &Acting, batch: &Batch) -> Result<Found, StepError> {
    let record = &batch.record;
    let asked = context.now();
    let query = InstanceQuery::Batch(record.batch.clone());
    let found = context.eyes.instances(&query).await?;
    let found: Vec<BatchInstance> = found.iter().map(|found| (&**found).into()).collect();
    write_instances(context, &batch.claims, &found).await?;
    let complete = found.len() >= usize::try_from(record.size).unwrap_or(usize::MAX);
    let done = context.launches(|memory| {
        let done = complete || asked >= memory.visible_at(record);
        if done {
            memory.settled(record);
        } else {
            memory.looked(record, asked);
        }
        done
    });
    settled(context);
    Ok(Found {
        any: !found.is_empty(),
        settled: done,
    })
}

/// Wakes what waits for launches to be settled.
pub(super) fn settled(context: &Acting) {
    for name in [
        Loop::Launch,
        Loop::Registration,
        Loop::Termination,
        Loop::Provisioning,
    ] {
        context.wake(name);
    }
}
