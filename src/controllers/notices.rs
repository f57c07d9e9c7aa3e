//! Listens to EC2's announcements and acts on them.
//!
//! Messages come from a [`NoticeSource`]; [`crate::plan::notices`] says what follows. A message is taken out
//! of the queue only after what follows from it was written: one that could not be acted on comes
//! again. The queue is read on meanwhile: a spot machine has two minutes, and must not wait for the writes of those that
//! were announced before it. All of it is one task, so nothing goes on once the term is over. Maintenance that was written
//! onto a claim is acted on when it comes near, message or not.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::future::{BoxFuture, join_all};
use futures::stream::FuturesUnordered;
use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use super::context::Acting;
use super::run::{Controller, Round, Step, StepError, all_written};
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

/// How many calls to the queue, and answers of it that are acted on, go on at the same time. An answer has ten messages at
/// most, and a message takes three writes as a rule: of the default of 200 writes a second, that is what two or three
/// seconds have room for.
const MOST_AT_ONCE: usize = 16;

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
        Listening::new(&context, &*source).go_on().await;
    };
    context.until_over(listening).await;
}

/// The queue while it is listened to.
struct Listening<'queue> {
    context: &'queue Arc<Acting>,
    source: &'queue dyn NoticeSource,
    /// What goes on: a call to the queue, and answers of it that are acted on.
    turns: FuturesUnordered<BoxFuture<'queue, Turn>>,
    is_asked: bool,
    /// The queue is not asked before.
    ask_from: Instant,
    held: Held,
    /// When those are looked at again.
    again: Instant,
}

impl<'queue> Listening<'queue> {
    fn new(context: &'queue Arc<Acting>, source: &'queue dyn NoticeSource) -> Self {
        Self {
            context,
            source,
            turns: FuturesUnordered::new(),
            is_asked: false,
            ask_from: Instant::now(),
            held: Held::default(),
            again: Instant::now(),
        }
    }

    async fn go_on(mut self) {
        loop {
            self.ask();
            let turn = tokio::select! {
                biased;
                // First, so that a queue that is never empty keeps nobody from them.
                () = tokio::time::sleep_until(self.again), if !self.held.is_empty() => None,
                turn = self.turns.next() => turn,
            };
            match turn {
                None => {
                    self.again = Instant::now() + DECIDE_AGAIN;
                    let entries = self.held.take(self.context.now());
                    self.heed(entries);
                }
                Some(turn) => self.take(turn),
            }
        }
    }

    /// Asks the queue, once there is room for the answer: from the answer on its messages wait, and the queue hands them
    /// out again after a while.
    fn ask(&mut self) {
        if self.is_asked || self.turns.len() >= MOST_AT_ONCE {
            return;
        }
        self.is_asked = true;
        self.turns.push(Box::pin(ask(self.source, self.ask_from)));
    }

    fn heed(&self, entries: Vec<Entry>) {
        if !entries.is_empty() {
            let heeding = heed(self.context, self.source, entries);
            self.turns.push(Box::pin(heeding));
        }
    }

    fn take(&mut self, turn: Turn) {
        let now = self.context.now();
        let outcome = match turn {
            Turn::Answered(answer) => {
                self.is_asked = false;
                answer.map(|deliveries| self.heed(Entry::of(deliveries, now)))
            }
            Turn::Heeded { left, outcome } => {
                for entry in left {
                    self.held.hold(entry, now);
                }
                outcome
            }
        };
        if let Err(problem) = outcome {
            tracing::warn!(problem, "the queue of EC2's announcements cannot be read");
            self.ask_from = Instant::now() + ASK_AGAIN;
        }
    }
}

/// What one of the things that go on at the same time came to.
#[derive(Debug)]
enum Turn {
    /// The queue gave these, or could not be asked.
    Answered(Result<Vec<Delivery>, String>),
    /// Messages were acted on.
    Heeded {
        /// Those that are to be looked at again.
        left: Vec<Entry>,
        /// Whether the others were taken out of the queue.
        outcome: Result<(), String>,
    },
}

/// Asks the queue, from a time on.
async fn ask(source: &dyn NoticeSource, from: Instant) -> Turn {
    tokio::time::sleep_until(from).await;
    let answer = source.receive().await;
    Turn::Answered(answer.map_err(|error| error.to_string()))
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

impl Entry {
    /// Messages that the queue has just handed out.
    fn of(deliveries: Vec<Delivery>, now: Timestamp) -> Vec<Self> {
        let until = now.saturating_add(HELD_FOR).unwrap_or(Timestamp::MIN);
        let new = |delivery| Self {
            delivery,
            until,
            is_new: true,
        };
        deliveries.into_iter().map(new).collect()
    }
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

/// Acts on messages, takes those out of the queue that were acted on, and gives the others back.
async fn heed(context: &Arc<Acting>, source: &dyn NoticeSource, entries: Vec<Entry>) -> Turn {
    let (notices, mut done) = sorted(context, &source.addressee(), entries);
    let snapshot = &context.snapshot();
    let acted = join_all(notices.into_iter().map(|(entry, notices)| async move {
        let acted = act_on(context, snapshot, &notices, entry.is_new).await;
        (entry, acted)
    }));
    let mut left = Vec::new();
    for (entry, acted) in acted.await {
        match acted {
            Ok(Acted::Done) => done.push(entry.delivery.receipt),
            Ok(Acted::Undecided) => left.push(entry),
            Err(error) => {
                tracing::warn!("not acted on yet: {error}");
                left.push(entry);
            }
        }
    }
    let acknowledged = source.acknowledge(&done).await;
    Turn::Heeded {
        left,
        outcome: acknowledged.map_err(|error| error.to_string()),
    }
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
            subject = notice.subject,
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
    let steps: Vec<_> = heeded
        .decision
        .steps
        .into_iter()
        .map(|step| carry_out(Arc::clone(context), step))
        .collect();
    // A claim that cannot be written keeps none of the others of its capacity block from leaving it.
    all_written(steps).await?;
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
    // What slipped onto a node that goes as empty would run on there as if nothing were, until it is killed.
    let goes = claim.deleting_since.is_some();
    if goes && (deadline.is_none() || !claim.goes_as_empty()) {
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
    if goes {
        return Ok(());
    }
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
