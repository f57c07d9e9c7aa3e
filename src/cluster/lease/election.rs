//! Takes the lease, keeps it, and lets it go.
//!
//! Given a client; given back [`Term`]s. Each request is cut off after half the renew deadline, so
//! that one that hangs leaves time for another before the term is over. Requests do not wait for the
//! token bucket of other writes.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use kube::api::PostParams;
use tokio::time::Instant;

use super::candidate::{Candidate, Record, Verdict};
use super::standing::Standing;
use super::term::{GivenUp, Term};
use crate::cluster::apply::{Operation, WriteError, WriteErrorClass};
use crate::metrics::Metrics;
use crate::world::{RandomStream, World};

/// How long letting go may take: whoever waits for it starts over after the lease anyway.
const RELEASE_WITHIN: Duration = Duration::from_secs(2);
/// How long letting go waits at most for what may still arrive: the process ends within 8 s.
const WAIT_AT_MOST: Duration = Duration::from_secs(4);

/// How long things take around a lease. See the flags of the controller for what to choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseTiming {
    /// How long the others wait after the last change of the lease; whole seconds.
    pub duration: Duration,
    /// How long a term lasts after the last renewal that was answered; shorter than `duration`, and
    /// what is between them is for what is still on its way then.
    pub renew_deadline: Duration,
    /// Time between renewals, and between looks of those who wait.
    pub retry_period: Duration,
}

/// What an [`Election`] is about.
#[derive(Debug, Clone)]
pub struct LeaseOptions {
    /// Namespace of the Lease.
    pub namespace: String,
    /// Name of the Lease.
    pub name: String,
    /// This process among all others, the earlier ones of the same host included.
    pub identity: String,
    /// How long things take.
    pub timing: LeaseTiming,
}

/// One process's part in the election.
pub struct Election {
    api: Api<Lease>,
    options: LeaseOptions,
    candidate: Candidate,
    /// The Lease as this process last wrote it, while it leads.
    held: Option<Lease>,
    standing: Standing,
    /// Of all terms of this process.
    given_up: GivenUp,
    jitter: RandomStream,
    world: World,
    metrics: Arc<Metrics>,
}

impl std::fmt::Debug for Election {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Election")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

/// What came of trying to take the lease.
enum Attempt {
    Taken(Term),
    Wait(Instant),
}

/// What came of a renewal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Renewal {
    Done,
    Unanswered,
    Lost,
}

impl Election {
    /// Takes part through `client`.
    pub fn new(
        client: kube::Client,
        options: LeaseOptions,
        world: &World,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            api: Api::namespaced(client, &options.namespace),
            candidate: Candidate::new(options.identity.clone(), options.timing.duration),
            held: None,
            standing: Standing::default(),
            given_up: GivenUp::default(),
            jitter: world.random("lease/pauses"),
            world: world.clone(),
            metrics,
            options,
        }
    }

    /// How this process stands.
    pub fn standing(&self) -> Standing {
        self.standing.clone()
    }

    /// Waits until this process holds the lease.
    pub async fn acquire(&mut self) -> Term {
        // An own term may follow an own one at once, and lists what there is, too.
        tokio::time::sleep_until(self.all_arrived()).await;
        loop {
            let pause = Instant::now() + self.pause();
            let next = match self.attempt().await {
                Ok(Attempt::Taken(term)) => {
                    tracing::info!(identity = self.options.identity, "this controller leads");
                    return term;
                }
                Ok(Attempt::Wait(until)) => until.min(pause),
                Err(error) => {
                    self.failed(&error);
                    pause
                }
            };
            tokio::time::sleep_until(next).await;
        }
    }

    /// Renews the lease until the term is over.
    pub async fn keep(&mut self, term: &Term) {
        let retry_period = self.options.timing.retry_period;
        loop {
            let renewal = async {
                tokio::time::sleep(retry_period).await;
                self.renew(term).await
            };
            match term.within(renewal).await {
                Ok(Renewal::Done | Renewal::Unanswered) => {}
                Ok(Renewal::Lost) => {
                    term.end();
                    tracing::warn!("the lease was taken away, this controller stops acting");
                    break;
                }
                Err(_over) => {
                    tracing::warn!(
                        "the lease could not be renewed in time, this controller stops acting"
                    );
                    break;
                }
            }
        }
        if let Some(held) = self.held.take() {
            self.candidate.stopped(Record::of(&held), Instant::now());
        }
    }

    /// Lets the lease go if this process holds it, so that the others need not wait. To be called
    /// when nothing acts any more. A write that was given up while it was on its way must not meet another leader who has
    /// listed what there is.
    pub async fn release(&mut self) {
        if !self.candidate.may_hold() {
            return;
        }
        let arrived = self.all_arrived();
        if arrived.saturating_duration_since(Instant::now()) > WAIT_AT_MOST {
            tracing::warn!(
                "a write may still arrive: the lease is not released, it runs out by itself"
            );
            return;
        }
        tokio::time::sleep_until(arrived).await;
        let released = tokio::time::timeout(RELEASE_WITHIN, self.let_go()).await;
        let problem = match released {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_elapsed) => Some("no answer in time".to_owned()),
        };
        if let Some(problem) = problem {
            tracing::warn!(problem, "the lease is not released, it runs out by itself");
        }
    }

    /// Reads the Lease and takes it if that is allowed.
    async fn attempt(&mut self) -> Result<Attempt, WriteError> {
        let Some(found) = self.read().await? else {
            return self.make_one_of_nobody().await;
        };
        let record = Record::of(&found);
        if let Verdict::Wait(until) = self.candidate.look(&record, Instant::now()) {
            return Ok(Attempt::Wait(until));
        }
        let sent = Instant::now();
        let taken = self.candidate.take(&record, self.world.now(), sent);
        match self.write(taken, Some(&found)).await {
            Ok(()) => {
                let term = Term::up_to(sent + self.options.timing.renew_deadline);
                Ok(Attempt::Taken(term.tells(self.given_up.clone())))
            }
            // Another was quicker.
            Err(error) if is_overtaken(&error) => Ok(Attempt::Wait(sent + self.pause())),
            Err(error) => Err(error),
        }
    }

    /// Makes the Lease that is not there, without taking it: that is for a later attempt.
    async fn make_one_of_nobody(&mut self) -> Result<Attempt, WriteError> {
        let next = Instant::now() + self.pause();
        match self.write(self.candidate.nobody(), None).await {
            Ok(()) => {
                let made = self.held.take().as_ref().map(Record::of);
                let verdict = made.map(|made| self.candidate.look(&made, Instant::now()));
                let Some(Verdict::Wait(until)) = verdict else {
                    return Ok(Attempt::Wait(next));
                };
                Ok(Attempt::Wait(until))
            }
            // Another was quicker. That it cannot be made is something else.
            Err(error) if is_overtaken(&error) && !error.is_gone() => Ok(Attempt::Wait(next)),
            Err(error) => Err(error),
        }
    }

    /// Renews once. The term counts from before the request: the others count from when they see it.
    async fn renew(&mut self, term: &Term) -> Renewal {
        let mut base = self.held.clone();
        for _try in 0..2 {
            let Some(found) = base else {
                return Renewal::Lost;
            };
            let record = Record::of(&found);
            if !self.candidate.is_named_by(&record) {
                return Renewal::Lost;
            }
            let renewed = self.candidate.renew(&record, self.world.now());
            let sent = Instant::now();
            match self.write(renewed, Some(&found)).await {
                Ok(()) => {
                    self.candidate.renewed(sent);
                    term.prolong(sent + self.options.timing.renew_deadline);
                    return Renewal::Done;
                }
                // An own renewal whose answer was lost, somebody else's change, or their lease.
                Err(error) if is_overtaken(&error) => {}
                Err(error) => {
                    self.failed(&error);
                    return Renewal::Unanswered;
                }
            }
            base = match self.read().await {
                Ok(found) => found,
                Err(error) => {
                    self.failed(&error);
                    return Renewal::Unanswered;
                }
            };
        }
        Renewal::Unanswered
    }

    /// When the last write that was given up has arrived if it ever does: it has as long as when a term runs out.
    fn all_arrived(&self) -> Instant {
        let timing = self.options.timing;
        let arrives_within = timing.duration.saturating_sub(timing.renew_deadline);
        let given_up = self.given_up.last();
        given_up.map_or_else(Instant::now, |given_up| given_up + arrives_within)
    }

    async fn let_go(&mut self) -> Result<(), WriteError> {
        let mut base = self.held.take();
        loop {
            let found = match base.take() {
                Some(held) => Some(held),
                None => self.read().await?,
            };
            let record = found.as_ref().map(Record::of);
            let now = Instant::now();
            let Some(record) = record.filter(|record| self.candidate.is_mine(record, now)) else {
                return Ok(());
            };
            let released = self.candidate.release(&record, self.world.now());
            match self.write(released, found.as_ref()).await {
                Err(error) if is_overtaken(&error) => {}
                other => return other,
            }
        }
    }

    async fn read(&self) -> Result<Option<Lease>, WriteError> {
        let name = &self.options.name;
        let found = self
            .call(Operation::GetLease, self.api.get_opt(name))
            .await?;
        let holder = found.as_ref().and_then(|lease| Record::of(lease).holder);
        self.metrics.set_lease_holder(holder.as_deref());
        self.standing.set_problem(None);
        Ok(found)
    }

    /// Writes a record over a Lease as it was found, or makes a new one.
    async fn write(&mut self, record: Record, found: Option<&Lease>) -> Result<(), WriteError> {
        let name = &self.options.name;
        let lease = record.into_lease(name, found);
        let params = PostParams::default();
        let written = if found.is_some() {
            let replaced = self.api.replace(name, &params, &lease);
            self.call(Operation::UpdateLease, replaced).await?
        } else {
            let created = self.api.create(&params, &lease);
            self.call(Operation::CreateLease, created).await?
        };
        let holder = Record::of(&written).holder;
        self.metrics.set_lease_holder(holder.as_deref());
        self.standing.set_problem(None);
        self.held = Some(written);
        Ok(())
    }

    async fn call<T>(
        &self,
        operation: Operation,
        answer: impl Future<Output = kube::Result<T>>,
    ) -> Result<T, WriteError> {
        let object = format!("{}/{}", self.options.namespace, self.options.name);
        let begin = Instant::now();
        let most = self.options.timing.renew_deadline / 2;
        let outcome = match tokio::time::timeout(most, Box::pin(answer)).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(WriteError::classify(operation, &object, &error).0),
            Err(_elapsed) => Err(WriteError::new(
                operation,
                &object,
                WriteErrorClass::Transient,
                format!("the API server did not answer within {most:?}"),
            )),
        };
        let told = outcome
            .as_ref()
            .map_or_else(|error| error.class.as_str(), |_answer| "success");
        self.metrics
            .kubernetes_call(operation.as_str(), told, begin.elapsed());
        outcome
    }

    /// Says what failed; what only a person can mend makes the process not ready.
    fn failed(&self, error: &WriteError) {
        tracing::warn!("the lease: {error}");
        let lasting = matches!(
            error.class,
            WriteErrorClass::Forbidden | WriteErrorClass::Invalid | WriteErrorClass::Gone
        );
        if lasting {
            self.standing.set_problem(Some(error.to_string()));
        }
    }

    /// Up to a fifth shorter than the retry period, so that those who wait do not ask together.
    fn pause(&self) -> Duration {
        let period = self.options.timing.retry_period;
        let fifth = u64::try_from(period.as_millis() / 5).unwrap_or(0);
        period.saturating_sub(Duration::from_millis(self.jitter.below(fifth + 1)))
    }
}

/// True when the Lease is not as it was seen any more.
fn is_overtaken(error: &WriteError) -> bool {
    matches!(
        error.class,
        WriteErrorClass::Conflict | WriteErrorClass::AlreadyExists | WriteErrorClass::Gone
    )
}
