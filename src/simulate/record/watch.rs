//! Watching a cluster while its work is recorded.
//!
//! Given a client, the time, and when to stop; given back a trace. Pods are listed once and watched from
//! there; volumes are looked up at the beginning, so that a missing permission shows at once, and again at
//! the end. Nothing is written to the cluster.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::api::{Api, ListParams};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;

use super::{Hide, Recorder, Zones};
use crate::cluster::observe::volume;
use crate::cluster::unlisted::ListError;
use crate::world::Clock;

/// Objects asked for at a time.
const PAGE: u32 = 500;

/// What was recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// The trace.
    pub trace: String,
    /// Pods in it.
    pub pods: usize,
    /// Pods that were gone before they had started: they are not in it.
    pub unstarted: usize,
}

/// Why nothing was recorded.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// A kind cannot be listed.
    #[error(transparent)]
    List(#[from] ListError),
    /// The watch of pods ends before all of them were listed.
    #[error("pods cannot be watched; check that the API server is well, and record again")]
    Watch(#[source] Box<watcher::Error>),
}

impl From<watcher::Error> for RecordError {
    fn from(error: watcher::Error) -> Self {
        match error {
            watcher::Error::InitialListFailed(cause)
            | watcher::Error::WatchStartFailed(cause)
            | watcher::Error::WatchFailed(cause) => {
                ListError::new("pods", "verbs list and watch", cause).into()
            }
            other => Self::Watch(Box::new(other)),
        }
    }
}

/// Records until told to stop; `look` is told how many pods are there and how many have ended.
///
/// # Errors
/// [`RecordError`] when pods could not be listed even once, or volumes not at the beginning.
pub async fn record(
    client: &Client,
    clock: &Arc<dyn Clock>,
    hide: Hide,
    stop: impl Future<Output = ()>,
    look: &dyn Fn(usize, usize),
) -> Result<Recorded, RecordError> {
    let mut recorder = Recorder::new(clock.now(), hide);
    let at_first = zones(client).await?;
    let pods: Api<Pod> = Api::all(client.clone());
    let config = watcher::Config::default().page_size(PAGE);
    let mut events = watcher(pods, config).default_backoff().boxed();
    let mut stop = std::pin::pin!(stop);
    let mut listed: Option<BTreeSet<String>> = None;
    let mut complete = false;
    loop {
        let event = tokio::select! {
            biased;
            () = &mut stop => break,
            event = events.try_next() => event,
        };
        let now = clock.now();
        match event {
            Ok(Some(Event::Init)) => listed = Some(BTreeSet::new()),
            Ok(Some(Event::InitApply(pod))) => {
                if let (Some(listed), Some(uid)) = (&mut listed, pod.uid()) {
                    listed.insert(uid);
                }
                recorder.see(&pod, now);
            }
            Ok(Some(Event::InitDone)) => {
                complete = true;
                if let Some(listed) = listed.take() {
                    recorder.only(&listed, now);
                }
            }
            Ok(Some(Event::Apply(pod))) => recorder.see(&pod, now),
            Ok(Some(Event::Delete(pod))) => {
                recorder.see(&pod, now);
                recorder.gone(&pod.uid().unwrap_or_default(), now);
            }
            Ok(None) => break,
            Err(error) if !complete => return Err(error.into()),
            // The watch is begun again after a pause, with a list that tells what was missed.
            Err(error) => tracing::warn!(%error, "the watch of pods failed and is begun again"),
        }
        let (there, ended) = recorder.counts();
        look(there, ended);
    }
    // Hours of watching are not given up for a list.
    let zones = zones(client).await.unwrap_or_else(|error| {
        tracing::warn!(
            %error,
            "volumes are recorded as they were at the beginning"
        );
        at_first
    });
    let (there, ended) = recorder.counts();
    Ok(Recorded {
        trace: recorder.trace(&zones, clock.now()),
        pods: there + ended,
        unstarted: recorder.unstarted,
    })
}

/// In which zones the volumes of the cluster are.
async fn zones(client: &Client) -> Result<Zones, RecordError> {
    let claims: BTreeMap<_, _> = all::<PersistentVolumeClaim>(client)
        .await?
        .iter()
        .map(|claim| {
            let claim = volume::claimed_volume(claim);
            (
                format!("{}/{}", claim.namespace, claim.name),
                Arc::new(claim),
            )
        })
        .collect();
    let volumes: BTreeMap<_, _> = all::<PersistentVolume>(client)
        .await?
        .iter()
        .map(|found| (found.name_any(), Arc::new(volume::volume(found))))
        .collect();
    let classes: BTreeMap<_, _> = all::<StorageClass>(client)
        .await?
        .iter()
        .map(|class| (class.name_any(), Arc::new(volume::storage_class(class))))
        .collect();
    let joined = volume::join(&claims, &volumes, &classes);
    Ok(Zones::new(
        joined.iter().map(|(key, claim)| (key, &**claim)),
    ))
}

async fn all<Object>(client: &Client) -> Result<Vec<Object>, RecordError>
where
    Object: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug,
{
    let api: Api<Object> = Api::all(client.clone());
    let mut parameters = ListParams::default().limit(PAGE);
    let mut objects = Vec::new();
    loop {
        let page = api.list(&parameters).await.map_err(|error| {
            let objects = format!("{} objects", Object::kind(&()));
            ListError::new(&objects, "verb list", error)
        })?;
        objects.extend(page.items);
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => parameters.continue_token = Some(token),
            None => return Ok(objects),
        }
    }
}
