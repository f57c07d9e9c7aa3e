//! Writes to the API server: one function for each thing that Tonnage may change.
//!
//! Given model values; given back what the object became, or a [`WriteError`] whose class says what
//! to do next. Every call may be repeated: it names the very object it means by uid or resource
//! version, and does nothing when what it asks for is so already. Calls pass a token bucket, and
//! those that got no answer are repeated a few times with jittered pauses. What is written is put
//! into the mirror's ledger, so the next view shows it. Every call is made within a [`Term`] and is
//! cut off when that is over. Nothing is decided here.

mod claim;
mod error;
mod event;
mod learned;
mod listed;
mod new_claim;
mod node;
mod operation;
mod pod;
mod status;

use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use tokio::time::Instant;

pub use claim::{ClaimMetadataChange, ClaimStatusChange};
pub use error::{WriteError, WriteErrorClass};
pub use learned::{Learned, LearnedPlace};
pub use new_claim::new_claim;
pub use node::{Hold, NodeRegistration, Opening};
pub use operation::Operation;
pub use pod::Eviction;
pub use status::FinalizedKind;

use super::lease::{OnItsWay, Term};
use super::mirror::Mirror;
use super::rate::RateLimit;
use crate::metrics::Metrics;
use crate::world::{RandomStream, World};

/// How long one attempt may take. The API server itself gives up on a request after 60 s; a small
/// write that took half of that is lost.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(30);
/// Attempts per call; whoever called repeats the rest with its own, longer pauses.
const ATTEMPTS: usize = 4;
/// The first pause between attempts.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause between attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Whether anything may be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Everything below.
    ReadWrite,
    /// Nothing: every write is refused before it leaves the process.
    ReadOnly,
}

/// What a [`Kubernetes`] is made with.
#[derive(Debug, Clone)]
pub struct ApplyOptions {
    /// Whether anything may be written.
    pub access: Access,
    /// As long as this lasts.
    pub term: Term,
    /// Calls per second on average.
    pub per_second: NonZeroU32,
    /// Calls at once.
    pub burst: NonZeroU32,
    /// Counts every call.
    pub metrics: Arc<Metrics>,
}

/// The API server as Tonnage writes to it; clones share it.
#[derive(Clone)]
pub struct Kubernetes {
    shared: Arc<Shared>,
}

struct Shared {
    client: kube::Client,
    mirror: Mirror,
    world: World,
    random: RandomStream,
    limit: RateLimit,
    access: Access,
    term: Term,
    metrics: Arc<Metrics>,
}

impl fmt::Debug for Kubernetes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Kubernetes")
            .field("access", &self.shared.access)
            .finish_non_exhaustive()
    }
}

impl Kubernetes {
    /// Writes through `client`; own writes of claims go into `mirror`'s ledger.
    pub fn new(client: kube::Client, mirror: Mirror, world: World, options: ApplyOptions) -> Self {
        Self {
            shared: Arc::new(Shared {
                random: world.random("kubernetes/retry"),
                limit: RateLimit::new(options.per_second, options.burst),
                access: options.access,
                term: options.term,
                metrics: options.metrics,
                client,
                mirror,
                world,
            }),
        }
    }

    /// Whether anything may be written.
    pub fn access(&self) -> Access {
        self.shared.access
    }

    /// The mirror that own writes are put into.
    pub fn mirror(&self) -> &Mirror {
        &self.shared.mirror
    }

    fn all<K>(&self) -> kube::Api<K>
    where
        K: kube::Resource<DynamicType = ()>,
    {
        kube::Api::all(self.shared.client.clone())
    }

    fn namespaced<K>(&self, namespace: &str) -> kube::Api<K>
    where
        K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
    {
        kube::Api::namespaced(self.shared.client.clone(), namespace)
    }

    /// Makes one call: waits for a token, repeats what got no answer, classifies what failed. All of
    /// that ends with the term.
    async fn call<T, Attempt, Answer>(
        &self,
        operation: Operation,
        object: &str,
        attempt: Attempt,
    ) -> Result<T, WriteError>
    where
        Attempt: Fn() -> Answer,
        Answer: Future<Output = kube::Result<T>>,
    {
        if self.shared.access == Access::ReadOnly && !operation.is_read() {
            return Err(WriteError::new(
                operation,
                object,
                WriteErrorClass::ReadOnly,
                "not written because of --mode observe",
            ));
        }
        let begin = Instant::now();
        let attempts = Box::pin(self.attempts(operation, object, &attempt));
        let outcome = self.shared.term.within(attempts).await;
        let outcome = outcome.unwrap_or_else(|over| {
            let class = WriteErrorClass::NotLeading;
            Err(WriteError::new(operation, object, class, over.to_string()))
        });
        let told = match &outcome {
            Ok(_) => "success",
            Err(error) => error.class.as_str(),
        };
        self.shared
            .metrics
            .kubernetes_call(operation.as_str(), told, begin.elapsed());
        if let Err(error) = &outcome {
            tracing::debug!(class = error.class.as_str(), "{error}");
        }
        outcome
    }

    async fn attempts<T, Attempt, Answer>(
        &self,
        operation: Operation,
        object: &str,
        attempt: &Attempt,
    ) -> Result<T, WriteError>
    where
        Attempt: Fn() -> Answer,
        Answer: Future<Output = kube::Result<T>>,
    {
        let mut pauses = ExponentialBuilder::default()
            .with_min_delay(FIRST_PAUSE)
            .with_max_delay(LONGEST_PAUSE)
            .with_max_times(ATTEMPTS - 1)
            .with_jitter()
            .with_jitter_seed(self.shared.random.below(u64::MAX))
            .build();
        loop {
            self.shared.limit.acquire(operation.lane()).await;
            let on_its_way = operation.decides().then(|| self.shared.term.sends());
            let answer = tokio::time::timeout(ATTEMPT_TIMEOUT, Box::pin(attempt())).await;
            let (error, retry_after) = match answer {
                Ok(Ok(value)) => {
                    OnItsWay::arrived(on_its_way);
                    return Ok(value);
                }
                Ok(Err(error)) => WriteError::classify(operation, object, &error),
                Err(_elapsed) => (
                    WriteError::new(
                        operation,
                        object,
                        WriteErrorClass::Transient,
                        "the API server did not answer within 30 s",
                    ),
                    None,
                ),
            };
            if error.class != WriteErrorClass::Transient {
                OnItsWay::arrived(on_its_way);
            }
            if !error.class.is_retryable() {
                return Err(error);
            }
            let Some(pause) = pauses.next() else {
                return Err(error);
            };
            let pause = pause.max(retry_after.unwrap_or_default().min(LONGEST_PAUSE));
            tokio::time::sleep(pause).await;
        }
    }
}
