//! Listens to EC2's announcements and acts on them.
//!
//! Messages come from a [`NoticeSource`]; [`crate::plan::notices`] says what follows. A message is taken out
//! of the queue only after what follows from it was written: one that could not be acted on comes
//! again. Maintenance that was written onto a claim is acted on when it comes near, message or not.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{BoxFuture, join_all};
use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use super::context::Acting;
use super::run::{Controller, Round, Step, StepError};
use crate::api::conditions::{ConditionReason, ConditionType};
use crate::api::labels;
use crate::cloud::notices::{Addressee, Delivery, NoticeSource, read};
use crate::cluster::apply::{ClaimMetadataChange, ClaimStatusChange};
use crate::cluster::events::{EventKind, Subject};
use crate::cluster::{Changes, Kind};
use crate::metrics::{Loop, RemovalReason};
use crate::model::claim::Claim;
use crate::model::launch::ErrorClass;
use crate::model::notice::Notice;
use crate::model::snapshot::Snapshot;
use crate::plan::condition::ConditionChange;
use crate::plan::notices::{NoticeStep, decide, due};

/// How long to wait before the queue is asked again after it could not be.
const ASK_AGAIN: Duration = Duration::from_secs(10);

/// How long until messages that were not acted on are looked at again.
const DECIDE_AGAIN: Duration = Duration::from_secs(2);
/// How long they are: less than it takes the queue to hand them out again.
const HELD_FOR: SignedDuration = SignedDuration::from_secs(25);
/// How many they are at most; any more are looked at when the queue hands them out again.
const MOST_HELD: usize = 1_000;

/// The loop that acts on maintenance that comes near.
#[derive(Debug)]
pub struct Maintenance {
    context: Arc<Acting>,
}

impl Maintenance {
    /// Acts with the shared context.
    pub fn new(context: Arc<Acting>) -> Self {
        Self { context }
    }
}

impl Controller for Maintenance {
    fn name(&self) -> Loop {
        Loop::Notices
    }

    fn interests(&self) -> Vec<Kind> {
        vec![Kind::NodeClaim]
    }

    fn round<'round>(&'round mut self, _changes: &'round Changes) -> BoxFuture<'round, Round> {
        let decision = due(&self.context.snapshot());
        let steps = decision
            .steps
            .into_iter()
            .map(|step| Step::new(step.key(), carry_out(Arc::clone(&self.context), step)))
            .collect();
        let wake = decision.wake;
        Box::pin(async move { Round { steps, wake } })
    }
}

/// Listens to the queue until the world stops or the term is over.
pub async fn listen(context: Arc<Acting>, source: Arc<dyn NoticeSource>) {
    let listening = async {
        // Before every claim is known, its notice would look like nobody's business.
        context.mirror.synced().await;
        let mut held = Held::default();
        let mut receiving = source.receive();
        let mut again = Instant::now();
        loop {
            // First, so that a queue that is never empty keeps nobody from them.
            let received = tokio::select! {
                biased;
                () = tokio::time::sleep_until(again), if !held.is_empty() => None,
                received = &mut receiving => Some(received),
            };
            let outcome = match received {
                None => {
                    again = Instant::now() + DECIDE_AGAIN;
                    let deliveries = held.take(context.now());
                    heed(&context, &*source, deliveries, &mut held).await
                }
                Some(answer) => {
                    receiving = source.receive();
                    let until = context.now().saturating_add(HELD_FOR);
                    let until = until.unwrap_or(Timestamp::MIN);
                    let new = |delivery| Entry {
                        delivery,
                        until,
                        is_new: true,
                    };
                    match answer.map(|answer| answer.into_iter().map(new).collect()) {
                        Ok(deliveries) => heed(&context, &*source, deliveries, &mut held).await,
                        Err(error) => Err(error.to_string()),
                    }
                }
            };
            if let Err(problem) = outcome {
                tracing::warn!(problem, "the queue of EC2's announcements cannot be read");
                tokio::time::sleep(ASK_AGAIN).await;
            }
        }
    };
    context.until_over(listening).await;
}

/// A message that is being looked at.
#[derive(Debug)]
struct Entry {
    delivery: Delivery,
    /// Soon after that the queue hands it out again.
    until: Timestamp,
    /// It was not looked at before.
    is_new: bool,
}

/// Messages that cannot be decided or acted on yet. They stay in the queue, so nothing is lost with this.
#[derive(Debug, Default)]
struct Held(Vec<Entry>);

impl Held {
    const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Those that the queue has not handed out again.
    fn take(&mut self, now: Timestamp) -> Vec<Entry> {
        let mut entries = std::mem::take(&mut self.0);
        entries.retain(|entry| now < entry.until);
        entries
    }

    fn hold(&mut self, entry: Entry, now: Timestamp) {
        if self.0.len() >= MOST_HELD {
            self.0.retain(|entry| now < entry.until);
        }
        if self.0.len() < MOST_HELD {
            self.0.push(Entry {
                is_new: false,
                ..entry
            });
        }
    }
}

/// Acts on messages and takes those out of the queue that were acted on; the others are held.
async fn heed(
    context: &Arc<Acting>,
    source: &dyn NoticeSource,
    entries: Vec<Entry>,
    held: &mut Held,
) -> Result<(), String> {
    if entries.is_empty() {
        return Ok(());
    }
    let (notices, mut done) = sorted(context, &source.addressee(), entries);
    let snapshot = &context.snapshot();
    let acted = join_all(notices.into_iter().map(|(entry, notices)| async move {
        let acted = act_on(context, snapshot, &notices, entry.is_new).await;
        (entry, acted)
    }));
    for (entry, acted) in acted.await {
        match acted {
            Ok(Acted::Done) => done.push(entry.delivery.receipt),
            Ok(Acted::Undecided) => held.hold(entry, snapshot.now),
            Err(error) => {
                tracing::warn!("not acted on yet: {error}");
                held.hold(entry, snapshot.now);
            }
        }
    }
    let acknowledged = source.acknowledge(&done).await;
    acknowledged.map_err(|error| error.to_string())
}

/// What messages announce, and the receipts of those that announce nothing to us.
fn sorted(
    context: &Acting,
    addressee: &Addressee,
    entries: Vec<Entry>,
) -> (Vec<(Entry, Vec<Notice>)>, Vec<String>) {
    let (mut notices, mut nothing) = (Vec::new(), Vec::new());
    for entry in entries {
        match read(&entry.delivery.body, addressee) {
            Ok(read) => notices.push((entry, read)),
            Err(unread) => {
                context.metrics.message_unread(unread);
                tracing::debug!(why = unread.as_str(), "a message announces nothing");
                nothing.push(entry.delivery.receipt);
            }
        }
    }
    (notices, nothing)
}

/// What came of a message.
enum Acted {
    /// It is done with.
    Done,
    /// It names a machine that a claim may turn out to own.
    Undecided,
}

async fn act_on(
    context: &Arc<Acting>,
    snapshot: &Snapshot,
    notices: &[Notice],
    is_new: bool,
) -> Result<Acted, StepError> {
    let heeded = decide(snapshot, notices);
    for notice in notices.iter().filter(|_notice| is_new) {
        context.metrics.message_read(&notice.kind);
        tracing::info!(
            instance = notice.instance,
            kind = notice.kind.as_str(),
            unowned = heeded.unowned,
            "EC2 announces"
        );
    }
    context.launches(|memory| {
        for offering in &heeded.scarce {
            let class = ErrorClass::InsufficientCapacity;
            memory.shortages.note(offering, class, snapshot.now);
        }
        for (offering, instance) in &heeded.taken {
            memory.hazards.interrupted(offering, instance, snapshot.now);
        }
        for (offering, instance) in &heeded.advised {
            memory.hazards.advised(offering, instance, snapshot.now);
        }
    });
    context.look_at(heeded.decision.look_at);
    for step in heeded.decision.steps {
        carry_out(Arc::clone(context), step).await?;
    }
    Ok(match heeded.undecided {
        0 => Acted::Done,
        _ => Acted::Undecided,
    })
}

async fn carry_out(context: Arc<Acting>, step: NoticeStep) -> Result<(), StepError> {
    match step {
        NoticeStep::End {
            claim,
            deadline,
            reason,
            message,
        } => end(&context, &claim, deadline, (reason, message)).await,
        NoticeStep::Schedule {
            claim,
            begins,
            message,
        } => {
            annotate(&context, &claim, labels::MAINTENANCE, begins).await?;
            let kind = begins.map_or(EventKind::Normal, |_begins| EventKind::Warning);
            tell(&context, &claim, kind, "ScheduledChange", &message);
            Ok(())
        }
        NoticeStep::Tell {
            claim,
            reason,
            message,
        } => {
            tell(&context, &claim, EventKind::Normal, reason, &message);
            Ok(())
        }
    }
}

/// The deadline first, so that the drain knows it from its beginning.
async fn end(
    context: &Acting,
    claim: &Arc<Claim>,
    deadline: Option<Timestamp>,
    (reason, message): (&'static str, String),
) -> Result<(), StepError> {
    let mut current = Arc::clone(claim);
    if let Some(deadline) = deadline {
        let deadline = Some(deadline);
        current = annotate(context, claim, labels::TERMINATION_TIMESTAMP, deadline).await?;
    }
    if claim.deleting_since.is_some() {
        return Ok(());
    }
    let change = ConditionChange::holds_because(
        ConditionType::DisruptionReason,
        ConditionReason::from(reason),
        message.as_str(),
    );
    let change = ClaimStatusChange {
        conditions: vec![change.update()],
        ..ClaimStatusChange::default()
    };
    context
        .kubernetes
        .patch_claim_status(&current, &change)
        .await?;
    context
        .remove_claim(claim, RemovalReason::Interrupted)
        .await?;
    tracing::warn!(claim = claim.name, node = claim.node_name, "{message}");
    tell(context, claim, EventKind::Warning, reason, &message);
    Ok(())
}

async fn annotate(
    context: &Acting,
    claim: &Claim,
    key: &str,
    at: Option<Timestamp>,
) -> Result<Arc<Claim>, StepError> {
    let change = ClaimMetadataChange {
        annotations: BTreeMap::from([(key.to_owned(), at.map(|at| at.to_string()))]),
        ..ClaimMetadataChange::default()
    };
    let kubernetes = &context.kubernetes;
    Ok(kubernetes.patch_claim_metadata(claim, &change).await?)
}

/// Tells the Node and the claim.
fn tell(context: &Acting, claim: &Claim, kind: EventKind, reason: &'static str, message: &str) {
    let words = (reason, "Interrupting");
    if !claim.node_name.is_empty() {
        context.tell(Subject::node(&claim.node_name), kind, words, message);
    }
    let subject = Subject::claim(&claim.name, &claim.uid);
    context.tell(subject, kind, words, message);
}
