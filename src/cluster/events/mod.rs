//! Events: what users see of decisions in `kubectl describe`.
//!
//! Given an event about an object, it is written once; the same again (object, reason, message)
//! within [`WINDOW`] is counted instead and the count is written now and then. Memory and rate are
//! bounded: what does not fit is dropped and counted, so that a storm of events can neither fill
//! the process nor the API server. Time and names come from the world.

mod series;

use std::num::NonZeroU32;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::{Event as EventObject, EventSeries};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use serde_json::json;
use tokio::sync::mpsc;

pub use series::WINDOW;
use series::{Series, Step};

use super::apply::{Access, Kubernetes, WriteError};
use super::rate::RateLimit;
use crate::metrics::Metrics;
use crate::world::{RandomStream, World};

/// Who reports.
pub const COMPONENT: &str = "tonnage";
/// Events waiting to be written.
const MOST_WAITING: usize = 1024;
/// Event writes per second on average.
const PER_SECOND: NonZeroU32 = NonZeroU32::new(20).expect("20 is not zero");
/// Event writes at once.
const BURST: NonZeroU32 = NonZeroU32::new(200).expect("200 is not zero");
/// The API server's limit on a note, in bytes.
const NOTE_LIMIT: usize = 1024;
/// Room for the subject in an event's name, which may have 253 characters.
const NAME_LIMIT: usize = 230;

/// Normal or Warning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EventKind {
    /// Things go as they should.
    Normal,
    /// Somebody should look.
    Warning,
}

impl EventKind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

/// The object that an event is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subject {
    api_version: &'static str,
    kind: &'static str,
    namespace: Option<String>,
    name: String,
    uid: String,
}

impl Subject {
    /// A pod.
    pub fn pod(pod: &crate::model::pod::Pod) -> Self {
        Self {
            api_version: "v1",
            kind: "Pod",
            namespace: Some(pod.key.namespace.to_string()),
            name: pod.key.name.to_string(),
            uid: pod.uid.clone(),
        }
    }

    /// A Node. Kubelets and `kubectl describe node` refer to Nodes by name in place of the uid.
    pub fn node(name: &str) -> Self {
        Self::cluster("v1", "Node", name, name)
    }

    /// A NodeClaim.
    pub fn claim(name: &str, uid: &str) -> Self {
        Self::cluster("karpenter.sh/v1", "NodeClaim", name, uid)
    }

    /// A NodePool.
    pub fn node_pool(name: &str, uid: &str) -> Self {
        Self::cluster("karpenter.sh/v1", "NodePool", name, uid)
    }

    /// An EC2NodeClass.
    pub fn node_class(name: &str, uid: &str) -> Self {
        Self::cluster("tonnage.dev/v1alpha1", "EC2NodeClass", name, uid)
    }

    /// The Lease that lets this process act. Its uid changes when it is made anew, so it is left out.
    pub fn lease(namespace: &str, name: &str) -> Self {
        Self {
            namespace: Some(namespace.to_owned()),
            ..Self::cluster("coordination.k8s.io/v1", "Lease", name, "")
        }
    }

    fn cluster(api_version: &'static str, kind: &'static str, name: &str, uid: &str) -> Self {
        Self {
            api_version,
            kind,
            namespace: None,
            name: name.to_owned(),
            uid: uid.to_owned(),
        }
    }
}

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// What it is about.
    pub subject: Subject,
    /// Normal or Warning.
    pub kind: EventKind,
    /// One CamelCase word.
    pub reason: &'static str,
    /// What was done, one word for machines, for example `Launching`.
    pub action: &'static str,
    /// For people: what happened, and what they can do.
    pub message: String,
}

/// Takes events; clones share it.
#[derive(Debug, Clone)]
pub struct Recorder {
    queue: mpsc::Sender<Event>,
    metrics: Arc<Metrics>,
}

impl Recorder {
    /// Starts the task that writes; it ends with the world. Without write access events are only
    /// logged.
    pub fn start(
        kubernetes: &Kubernetes,
        instance: &str,
        metrics: Arc<Metrics>,
        world: &World,
    ) -> Self {
        let (queue, events) = mpsc::channel(MOST_WAITING);
        let writer = Writer {
            kubernetes: kubernetes.clone(),
            instance: instance.to_owned(),
            names: world.random("events/names"),
            limit: RateLimit::new(PER_SECOND, BURST),
            metrics: Arc::clone(&metrics),
            world: world.clone(),
            series: Series::default(),
        };
        world.spawn(writer.run(events));
        Self { queue, metrics }
    }

    /// Hands an event over. Never waits: when too many are waiting it is dropped and counted.
    pub fn publish(&self, event: Event) {
        if self.queue.try_send(event).is_err() {
            self.metrics.event_dropped();
        }
    }
}

struct Writer {
    kubernetes: Kubernetes,
    instance: String,
    names: RandomStream,
    limit: RateLimit,
    metrics: Arc<Metrics>,
    world: World,
    series: Series,
}

impl Writer {
    async fn run(mut self, mut events: mpsc::Receiver<Event>) {
        let stop = self.world.stop().clone();
        loop {
            let event = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                event = events.recv() => event,
            };
            let Some(event) = event else { return };
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = self.handle(event) => {}
            }
        }
    }

    async fn handle(&mut self, event: Event) {
        let now = self.world.now();
        let step = self.series.step(&event, now);
        if step == Step::Nothing {
            return;
        }
        if !self.limit.try_acquire() {
            self.metrics.event_dropped();
            return;
        }
        log(&event);
        if self.kubernetes.access() == Access::ReadOnly {
            self.series.written(&event, String::new(), now);
            return;
        }
        let namespace = event.subject.namespace.as_deref().unwrap_or("default");
        let outcome: Result<(), WriteError> = match step {
            Step::Create => {
                let name = format!(
                    "{}.{}",
                    cut(&event.subject.name, NAME_LIMIT),
                    self.names.name_suffix(12)
                );
                let object = self.object(&event, &name, namespace, now);
                let outcome = self.kubernetes.create_event(namespace, &object).await;
                if outcome.is_ok() {
                    self.series.written(&event, name, now);
                }
                outcome
            }
            Step::Count { name, count } => {
                let series = EventSeries {
                    count,
                    last_observed_time: MicroTime(now),
                };
                let patch = json!({"series": series});
                let outcome = self.kubernetes.patch_event(namespace, &name, &patch).await;
                match outcome {
                    // The API server forgets events after an hour; the next one begins anew.
                    Err(error) if error.is_gone() => {
                        self.series.forget(&event);
                        Ok(())
                    }
                    other => other,
                }
            }
            Step::Nothing => Ok(()),
        };
        if let Err(error) = outcome {
            self.metrics.event_dropped();
            tracing::debug!("an event was lost: {error}");
        }
    }

    fn object(&self, event: &Event, name: &str, namespace: &str, now: Timestamp) -> EventObject {
        let subject = &event.subject;
        EventObject {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                namespace: Some(namespace.to_owned()),
                ..ObjectMeta::default()
            },
            action: Some(event.action.to_owned()),
            reason: Some(event.reason.to_owned()),
            note: Some(cut(&event.message, NOTE_LIMIT).to_owned()),
            type_: Some(event.kind.as_str().to_owned()),
            event_time: Some(MicroTime(now)),
            regarding: Some(ObjectReference {
                api_version: Some(subject.api_version.to_owned()),
                kind: Some(subject.kind.to_owned()),
                name: Some(subject.name.clone()),
                namespace: subject.namespace.clone(),
                uid: Some(subject.uid.clone()),
                ..ObjectReference::default()
            }),
            reporting_controller: Some(COMPONENT.to_owned()),
            reporting_instance: Some(self.instance.clone()),
            ..EventObject::default()
        }
    }
}

/// The longest beginning of a text with at most so many bytes.
fn cut(text: &str, bytes: usize) -> &str {
    text.get(..text.floor_char_boundary(bytes)).unwrap_or(text)
}

fn log(event: &Event) {
    let subject = &event.subject;
    let object = subject.namespace.as_ref().map_or_else(
        || subject.name.clone(),
        |namespace| format!("{namespace}/{}", subject.name),
    );
    match event.kind {
        EventKind::Normal => tracing::info!(
            kind = subject.kind,
            object,
            reason = event.reason,
            "{}",
            event.message
        ),
        EventKind::Warning => tracing::warn!(
            kind = subject.kind,
            object,
            reason = event.reason,
            "{}",
            event.message
        ),
    }
}
