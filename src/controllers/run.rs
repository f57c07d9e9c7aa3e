//! The loop that every controller runs in.
//!
//! Given a [`Controller`], it waits for changes, for the time the controller asked for, or for a
//! step to end; lets a burst of changes settle; asks for a round; and starts those of its steps that
//! may run. A step that panics or fails rests and is decided again; nothing a step does can end the
//! loop. It ends when the world stops, after the steps that run, or at once, with all that it has
//! begun, when the term is over.

use std::collections::BTreeMap;
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, stream};
use jiff::Timestamp;
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::context::Context;
use super::guard::NOT_LEADING;
use super::queue::{Outcome, Queue};
use crate::cloud::{CloudError, errors};
use crate::cluster::apply::{WriteError, WriteErrorClass};
use crate::cluster::{Changes, Kind, Subscription};
use crate::metrics::{Loop, Metrics, ReconcileOutcome};
use crate::model::launch::ErrorClass;

/// The most steps of one loop that run at the same time. Each waits for the network most of its
/// life; the token buckets bound the calls.
const MOST_RUNNING: usize = 200;
/// How many writes that belong together go on at the same time: what the default of 200 writes a second needs when the
/// API server takes 0.3 s for each.
const WRITES_AT_ONCE: usize = 64;
/// The longest sleep of a loop that nobody wakes: a net under every missed wake-up.
const LONGEST_SLEEP: Duration = Duration::from_mins(1);
/// How long rounds and steps may take to end when the world stops: another controller waits for it,
/// and shall act within 3 s. What is interrupted then is taken up again by it, or after the start: all
/// that matters is in the API objects and in EC2 tags.
const STOP_WITHIN: Duration = Duration::from_secs(1);

/// Why a step did not do what it should.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StepError {
    /// The API server.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// EC2.
    #[error(transparent)]
    Cloud(#[from] CloudError),
    /// Something that the decision took for given is not there any more.
    #[error("{0}")]
    Outdated(String),
    /// Somebody else has to allow it first.
    #[error("{0}")]
    Blocked(String),
}

impl StepError {
    fn outcome(&self) -> Outcome {
        match self {
            Self::Write(error) => match error.class {
                WriteErrorClass::Conflict | WriteErrorClass::Gone => Outcome::Outdated,
                _ => Outcome::Failed,
            },
            Self::Cloud(_) => Outcome::Failed,
            Self::Outdated(_) => Outcome::Outdated,
            Self::Blocked(_) => Outcome::Blocked,
        }
    }

    /// What EC2 has against a call, in the same words each time, where repeating it does not help.
    pub(super) fn lasting_refusal(&self) -> Option<String> {
        match self {
            Self::Cloud(error)
                if error.code != NOT_LEADING && !errors::is_retryable(error.class) =>
            {
                Some(errors::without_encoded(&error.to_string()))
            }
            _ => None,
        }
    }

    /// True where EC2 says that the controller's role may not do it; not where it does not know who asks.
    pub(super) fn is_unauthorized(&self) -> bool {
        matches!(self, Self::Cloud(error) if error.code == "UnauthorizedOperation")
    }

    /// True for faults that pass by themselves and are worth no more than a line at debug level.
    fn is_passing(&self) -> bool {
        match self {
            Self::Write(error) => {
                matches!(
                    error.class,
                    WriteErrorClass::Conflict | WriteErrorClass::Gone | WriteErrorClass::NotLeading
                )
            }
            Self::Cloud(error) => error.class == ErrorClass::Throttled || error.code == NOT_LEADING,
            Self::Outdated(_) | Self::Blocked(_) => true,
        }
    }
}

/// One thing to do.
pub struct Step {
    /// What may not run twice at the same time.
    pub key: String,
    /// Does it.
    pub task: BoxFuture<'static, Result<(), StepError>>,
}

impl Step {
    /// A step from its key and its task.
    pub fn new(
        key: impl Into<String>,
        task: impl Future<Output = Result<(), StepError>> + Send + 'static,
    ) -> Self {
        Self {
            key: key.into(),
            task: Box::pin(task),
        }
    }
}

impl fmt::Debug for Step {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Step")
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

/// Does all of some writes that belong together: one that fails keeps none of the others from being done.
pub(super) async fn all_written<Write>(writes: Vec<Write>) -> Result<(), StepError>
where
    Write: Future<Output = Result<(), StepError>>,
{
    let written = stream::iter(writes)
        .buffer_unordered(WRITES_AT_ONCE)
        .collect::<Vec<_>>()
        .await;
    written.into_iter().collect()
}

/// What a controller wants done now, and when it wants to be asked again.
#[derive(Debug, Default)]
pub struct Round {
    /// What to do, most urgent first.
    pub steps: Vec<Step>,
    /// When the passing of time alone asks for another round.
    pub wake: Option<Timestamp>,
}

/// A controller.
pub trait Controller: Send + 'static {
    /// Its name in logs and metrics.
    fn name(&self) -> Loop;

    /// Changes of which kinds wake it.
    fn interests(&self) -> Vec<Kind>;

    /// How long a burst of changes settles before a round: first the quiet that ends it, then the
    /// most it may take.
    fn settle(&self) -> (Duration, Duration) {
        (Duration::from_millis(20), Duration::from_millis(200))
    }

    /// Whether a change that comes in while a burst settles makes the burst longer.
    fn extends(&self, _changes: &Changes) -> bool {
        true
    }

    /// Looks at the world once.
    fn round<'round>(&'round mut self, changes: &'round Changes) -> BoxFuture<'round, Round>;
}

/// Runs a controller until the world stops or the term is over.
pub async fn run(context: Arc<Context>, mut controller: impl Controller) {
    let name = controller.name();
    let mut work = Work {
        name,
        queue: Queue::new(context.world.random(&format!("queue/{}", name.as_str()))),
        tasks: JoinSet::new(),
        keys: BTreeMap::new(),
        metrics: Arc::clone(&context.metrics),
    };
    tokio::select! {
        biased;
        () = must_end(&context) => {}
        () = turn(&context, &mut controller, &mut work) => {}
    }
    // Nothing that was begun outlives this.
    work.tasks.shutdown().await;
}

/// Waits until nothing may go on: the term is over, or the world was told to stop a while ago.
async fn must_end(context: &Context) {
    let told = async {
        context.world.stop().cancelled().await;
        tokio::time::sleep(STOP_WITHIN).await;
    };
    tokio::select! {
        biased;
        () = context.term.over() => {}
        () = told => {}
    }
}

/// Makes rounds until the world stops, then waits for the steps that run.
async fn turn(context: &Context, controller: &mut impl Controller, work: &mut Work) {
    let stop = context.world.stop().clone();
    let subscription = context.mirror.subscribe(controller.interests());
    let waker = context.waker(work.name);
    tokio::select! {
        biased;
        () = stop.cancelled() => return,
        () = context.mirror.synced() => {}
    }
    let mut wake = Instant::now();
    loop {
        let mut changes = Changes::default();
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            Some(done) = work.tasks.join_next_with_id(), if !work.tasks.is_empty() => {
                work.finish(done);
            }
            () = waker.notified() => {}
            found = subscription.changed() => changes = found,
            () = tokio::time::sleep_until(wake) => {}
        }
        if !settle(controller, &subscription, &stop, &mut changes).await {
            break;
        }
        let round = work.round(controller, &changes).await;
        wake = next_wake(context, &work.queue, round, Instant::now());
    }
    while work.tasks.join_next().await.is_some() {}
}

/// Lets a burst of changes settle; false when the world stops meanwhile.
async fn settle(
    controller: &mut impl Controller,
    subscription: &Subscription,
    stop: &CancellationToken,
    changes: &mut Changes,
) -> bool {
    let (quiet, most) = controller.settle();
    let latest = Instant::now() + most;
    let mut until = (Instant::now() + quiet).min(latest);
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return false,
            () = tokio::time::sleep_until(until) => return true,
            more = subscription.changed() => {
                if controller.extends(&more) {
                    until = (Instant::now() + quiet).min(latest);
                }
                changes.absorb(more);
            }
        }
    }
}

/// The steps of one controller that run and rest.
struct Work {
    name: Loop,
    queue: Queue,
    tasks: JoinSet<(String, Outcome)>,
    keys: BTreeMap<tokio::task::Id, String>,
    metrics: Arc<Metrics>,
}

impl Work {
    /// Asks for a round and starts what may start; gives back when to ask again.
    async fn round(
        &mut self,
        controller: &mut impl Controller,
        changes: &Changes,
    ) -> Option<Timestamp> {
        while let Some(done) = self.tasks.try_join_next_with_id() {
            self.finish(done);
        }
        self.queue.begin_round(Instant::now());
        // Asking may panic as well as answering.
        let asked = AssertUnwindSafe(async { controller.round(changes).await });
        let Ok(round) = asked.catch_unwind().await else {
            tracing::error!(
                controller = self.name.as_str(),
                "a defect ended a decision; it is made again; please report it"
            );
            self.metrics
                .reconciled(self.name, ReconcileOutcome::Error, Duration::ZERO);
            return None;
        };
        let now = Instant::now();
        for step in round.steps {
            if self.queue.running() >= MOST_RUNNING {
                break;
            }
            if self.queue.start(&step.key, now) {
                self.start(step);
            }
        }
        self.metrics.set_queue_depth(self.name, self.queue.depth());
        round.wake
    }

    fn start(&mut self, step: Step) {
        let (name, key) = (self.name, step.key.clone());
        let metrics = Arc::clone(&self.metrics);
        let task = self.tasks.spawn(async move {
            let began = Instant::now();
            let outcome = conclude(name, &step.key, step.task.await);
            metrics.reconciled(name, outcome_label(outcome), began.elapsed());
            (step.key, outcome)
        });
        self.keys.insert(task.id(), key);
    }

    fn finish(&mut self, done: Result<(tokio::task::Id, (String, Outcome)), JoinError>) {
        let now = Instant::now();
        match done {
            Ok((id, (key, outcome))) => {
                self.keys.remove(&id);
                self.queue.finish(&key, outcome, now);
            }
            Err(error) => {
                if let Some(key) = self.keys.remove(&error.id()) {
                    tracing::error!(
                        controller = self.name.as_str(),
                        key,
                        %error,
                        "a defect ended a step; it is tried again; please report it"
                    );
                    self.metrics
                        .reconciled(self.name, ReconcileOutcome::Error, Duration::ZERO);
                    self.queue.finish(&key, Outcome::Failed, now);
                }
            }
        }
    }
}

const fn outcome_label(outcome: Outcome) -> ReconcileOutcome {
    match outcome {
        Outcome::Done => ReconcileOutcome::Success,
        Outcome::Failed => ReconcileOutcome::Error,
        Outcome::Outdated | Outcome::Blocked => ReconcileOutcome::Requeued,
    }
}

fn next_wake(context: &Context, queue: &Queue, asked: Option<Timestamp>, now: Instant) -> Instant {
    let mut wake = now + LONGEST_SLEEP;
    if let Some(asked) = asked {
        let wait = asked.duration_since(context.world.now());
        // At least a moment, or a time in the past would make an endless loop of the sleep.
        let wait = Duration::try_from(wait)
            .unwrap_or(Duration::ZERO)
            .max(Duration::from_millis(50));
        wake = wake.min(now + wait);
    }
    queue
        .next_release()
        .map_or(wake, |release| wake.min(release))
}

fn conclude(name: Loop, key: &str, result: Result<(), StepError>) -> Outcome {
    match result {
        Ok(()) => Outcome::Done,
        Err(error) => {
            if error.is_passing() {
                tracing::debug!(controller = name.as_str(), key, %error, "step to be decided again");
            } else {
                tracing::warn!(controller = name.as_str(), key, %error, "step failed, it is tried again");
            }
            error.outcome()
        }
    }
}
