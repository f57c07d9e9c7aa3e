//! One task per kind that keeps its table current from a list and a watch.
//!
//! Given: the API server's events. Given back: updates of the mirror's state. A watch that fails is
//! retried for ever with growing, jittered pauses; what is wrong with it is kept where readiness
//! finds it, with the RBAC rule that is missing or the definition that is not installed. A list that
//! is not believed is asked for again.

use std::fmt::Debug;
use std::time::Duration;

use futures::TryStreamExt;
use kube::Api;
use kube::runtime::watcher::{self, Event, watcher};
use kube::runtime::{WatchStreamExt, utils::Backoff};
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::changes::Changes;
use super::kind::Kind;
use super::mirror::Mirror;
use super::slim::Slim;
use super::state::State;
use super::table::Listed;
use crate::world::{RandomStream, World};

/// The first pause after a failure.
const FIRST_PAUSE: Duration = Duration::from_millis(400);
/// The longest pause; client-go's reflector uses the same.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// The pause before a list that is not believed is asked for again: it is over within a minute.
const DOUBT_PAUSE: Duration = Duration::from_secs(5);
/// A watch that worked for so long starts again with the first pause.
const CALM: Duration = Duration::from_mins(2);
/// Objects per page of a list: bounds what is decoded at once, as in client-go.
const PAGE: u32 = 500;

/// How long the API server keeps one watch open. A connection that died without a word is noticed
/// five seconds later, so this bounds how stale the mirror can silently be.
const WATCH_SECONDS: u32 = 120;

/// Starts a task for each kind.
pub(super) fn start(mirror: &Mirror, client: &kube::Client, world: &World) {
    use k8s_openapi::api::{apps, core, policy, storage};
    follow::<core::v1::Namespace>(mirror, client, world);
    follow::<crate::api::node_class::EC2NodeClass>(mirror, client, world);
    follow::<crate::api::node_pool::NodePool>(mirror, client, world);
    follow::<crate::api::node_claim::NodeClaim>(mirror, client, world);
    follow::<core::v1::Node>(mirror, client, world);
    follow::<core::v1::LimitRange>(mirror, client, world);
    follow::<apps::v1::DaemonSet>(mirror, client, world);
    follow::<policy::v1::PodDisruptionBudget>(mirror, client, world);
    follow::<storage::v1::StorageClass>(mirror, client, world);
    follow::<core::v1::PersistentVolume>(mirror, client, world);
    follow::<core::v1::PersistentVolumeClaim>(mirror, client, world);
    follow::<storage::v1::CSINode>(mirror, client, world);
    follow::<core::v1::Pod>(mirror, client, world);
}

fn follow<K>(mirror: &Mirror, client: &kube::Client, world: &World)
where
    K: Slim + kube::Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let (mirror, world) = (mirror.clone(), world.clone());
    let api: Api<K> = Api::all(client.clone());
    world.clone().spawn(async move {
        let stop = world.stop().clone();
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = keep_current(&mirror, &api, &world) => {}
        }
    });
}

/// Never ends: a new watch is begun, with a list, whenever the running one cannot go on.
async fn keep_current<K>(mirror: &Mirror, api: &Api<K>, world: &World)
where
    K: Slim + kube::Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let config = watcher::Config::default()
        .page_size(PAGE)
        .timeout(WATCH_SECONDS);
    let mut pause = Pause::new(world.random(&format!("watch/{}", K::KIND)));
    let wanted = mirror.lock().lists_wanted(K::KIND);
    loop {
        let events = watcher(api.clone(), config.clone()).backoff(pause.clone());
        let mut events = std::pin::pin!(events);
        let ended = loop {
            let event = tokio::select! {
                biased;
                () = wanted.notified() => break Ended::Wanted,
                event = events.try_next() => event,
            };
            match event {
                Ok(Some(event)) => {
                    if receive(mirror, event, world) == Taken::InDoubt {
                        break Ended::InDoubt;
                    }
                }
                Ok(None) => break Ended::Failed,
                Err(error) => {
                    report(mirror, K::KIND, &error);
                    if needs_new_list(&error) {
                        break Ended::Failed;
                    }
                }
            }
        };
        let rest = match ended {
            Ended::Wanted => continue,
            Ended::InDoubt => DOUBT_PAUSE,
            Ended::Failed => pause.next().unwrap_or(LONGEST_PAUSE),
        };
        tokio::select! {
            biased;
            () = wanted.notified() => {}
            () = tokio::time::sleep(rest) => {}
        }
    }
}

/// Why a watch is begun anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    /// It was asked for: what it shows is not what the API server holds.
    Wanted,
    /// Its list is not believed.
    InDoubt,
    /// It cannot go on.
    Failed,
}

/// Whether what a watch brought is in the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    /// It is, or is no object of ours.
    Yes,
    /// A list is not believed: the watch that follows it would tell of changes to what is not known.
    InDoubt,
}

/// Takes one event into the state and tells the consumers.
pub(super) fn receive<K: Slim>(mirror: &Mirror, event: Event<K>, world: &World) -> Taken {
    let mut changes = Changes::default();
    let mut state = mirror.lock();
    match event {
        Event::Init => K::table(&mut state).begin_list(),
        Event::InitApply(object) => {
            drop(state);
            let key = object.key();
            let Some(value) = object.slim() else {
                return Taken::Yes;
            };
            let mut state = mirror.lock();
            let value = K::keep(&mut state, value);
            K::table(&mut state).list_item(key, value);
            return Taken::Yes;
        }
        Event::InitDone => {
            if finish_list::<K>(&mut state, &mut changes, world) == Taken::InDoubt {
                return Taken::InDoubt;
            }
        }
        Event::Apply(object) => {
            drop(state);
            let key = object.key();
            let slim = object.slim();
            state = mirror.lock();
            state.works(K::KIND);
            let difference = match slim {
                Some(value) => {
                    let value = K::keep(&mut state, value);
                    K::table(&mut state).apply(key, value)
                }
                None => K::table(&mut state).delete(&key),
            };
            if let Some(difference) = difference {
                K::changed(&mut state, &difference, &mut changes);
                changes.kinds.insert(K::KIND);
            }
        }
        Event::Delete(object) => {
            state.works(K::KIND);
            if let Some(difference) = K::table(&mut state).delete(&object.key()) {
                K::changed(&mut state, &difference, &mut changes);
                changes.kinds.insert(K::KIND);
            }
        }
    }
    state.publish(&changes);
    drop(state);
    if changes.relisted.contains(&K::KIND) {
        mirror.list_completed();
    }
    Taken::Yes
}

/// Takes a complete list into the state.
fn finish_list<K: Slim>(state: &mut State, changes: &mut Changes, world: &World) -> Taken {
    let (begun, differences) = match K::table(state).finish_list(world.now()) {
        Some(Listed::Taken { begun, differences }) => (begun, differences),
        Some(Listed::Doubted { known }) => {
            doubt(state, K::KIND, known);
            return Taken::InDoubt;
        }
        None => return Taken::Yes,
    };
    for difference in &differences {
        K::changed(state, difference, changes);
    }
    if !differences.is_empty() {
        changes.kinds.insert(K::KIND);
    }
    if K::KIND == Kind::NodeClaim {
        state.ledger.listed(begun);
    }
    changes.relisted.insert(K::KIND);
    let record = K::table(state).record();
    state.listed(K::KIND, record);
    let filled = record.generation > 1 && record.objects_before == 0 && record.objects > 0;
    if filled && K::KIND == Kind::Pod {
        state.pulse.filled();
    }
    tracing::debug!(
        kind = K::KIND.resource(),
        objects = record.objects,
        before = record.objects_before,
        "listed"
    );
    Taken::Yes
}

/// Says why a list is not believed.
fn doubt(state: &mut State, kind: Kind, known: usize) {
    let problem = format!(
        "{kind}: the API server lists none where there were {known}; that is believed when it still \
         says so in a minute"
    );
    if state.fails(kind, problem.clone()) {
        tracing::warn!(kind = kind.resource(), "{problem}");
    }
}

/// True when only a new list helps: the place in history is gone, an event could not be read and
/// would be missing for ever, or a failure was told. A watch that works again says nothing until
/// something changes, which for some kinds is never; a list shows that it does.
fn needs_new_list(error: &watcher::Error) -> bool {
    match error {
        watcher::Error::WatchStartFailed(_) => true,
        watcher::Error::WatchFailed(_) => !is_routine(error),
        _ => false,
    }
}

fn report(mirror: &Mirror, kind: Kind, error: &watcher::Error) {
    if is_routine(error) {
        tracing::debug!(kind = kind.resource(), %error, "watch ended, listing again");
        mirror.lock().pulse.cut(kind);
        return;
    }
    let problem = explain(kind, error);
    if mirror.lock().fails(kind, problem.clone()) {
        tracing::warn!(kind = kind.resource(), "{problem}");
    }
}

/// True for ends that belong to the protocol: history was compacted, or the connection closed.
fn is_routine(error: &watcher::Error) -> bool {
    match error {
        watcher::Error::WatchError(status)
        | watcher::Error::WatchStartFailed(kube::Error::Api(status)) => status.code == 410,
        watcher::Error::WatchFailed(
            kube::Error::ReadEvents(_) | kube::Error::HyperError(_) | kube::Error::Service(_),
        ) => true,
        _ => false,
    }
}

/// What is wrong and what would fix it.
fn explain(kind: Kind, error: &watcher::Error) -> String {
    let (verb, cause) = match error {
        watcher::Error::InitialListFailed(cause) => ("list", cause),
        watcher::Error::WatchStartFailed(cause) | watcher::Error::WatchFailed(cause) => {
            ("watch", cause)
        }
        watcher::Error::WatchError(status) => {
            return format!("{kind}: the watch failed: {}", status.message);
        }
        watcher::Error::NoResourceVersion => {
            return format!("{kind}: the API server gave no resourceVersion");
        }
    };
    match cause {
        kube::Error::Api(status) if status.code == 403 => format!(
            "{kind}: the ServiceAccount may not {verb} them; give its ClusterRole the verbs get, \
             list and watch on {kind} ({})",
            status.message
        ),
        kube::Error::Api(status) if status.code == 401 => format!(
            "{kind}: the API server does not accept the credentials; check the token or kubeconfig ({})",
            status.message
        ),
        kube::Error::Api(status) if status.code == 404 && kind.is_custom() => format!(
            "{kind}: the definition is not installed; run `tonnage crds | kubectl apply \
             --server-side -f -`"
        ),
        kube::Error::SerdeError(cause) => {
            format!("{kind}: an object could not be read: {cause}")
        }
        cause => format!("{kind}: {verb} failed: {cause}"),
    }
}

/// Pauses between attempts: doubling, with full jitter over the upper half, from an injected
/// stream. Kube's own would seed itself from the clock; and because a watcher reports success
/// before each list, only a calm period starts the pauses over, not any success.
#[derive(Debug, Clone)]
struct Pause {
    random: RandomStream,
    attempt: u32,
    last: Option<Instant>,
}

impl Pause {
    fn new(random: RandomStream) -> Self {
        Self {
            random,
            attempt: 0,
            last: None,
        }
    }
}

impl Iterator for Pause {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let now = Instant::now();
        if self
            .last
            .is_some_and(|last| now.saturating_duration_since(last) > CALM)
        {
            self.attempt = 0;
        }
        self.last = Some(now);
        let full = FIRST_PAUSE
            .saturating_mul(1 << self.attempt.min(7))
            .min(LONGEST_PAUSE);
        self.attempt = self.attempt.saturating_add(1);
        let half = u64::try_from(full.as_millis() / 2).unwrap_or(u64::MAX);
        Some(Duration::from_millis(
            half + self.random.below(half.saturating_add(1)),
        ))
    }
}

impl Backoff for Pause {
    fn reset(&mut self) {
        // Deliberately nothing: see the type.
    }
}
