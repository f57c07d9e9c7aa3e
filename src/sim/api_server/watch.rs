//! Watches: a stream of events from a version on, with bookmarks, until its time is over.
//!
//! Given a place in history; given back the body of the answer. A watch that would begin before the
//! window of events gets 410 as its only event, as from the API server's watch cache.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::{Body, Bytes};
use futures::stream;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::ApiServer;
use super::refusal::Refusal;
use super::resource::Resource;
use super::route::{Query, Route};
use super::store::{Event, Store};

/// How often a quiet watch says how far it is.
const BOOKMARK_EVERY: Duration = Duration::from_mins(1);
/// How long a watch lasts that does not say.
const DEFAULT_SECONDS: u64 = 1800;

/// The server's end of a watch.
#[derive(Debug)]
pub(super) struct Watcher {
    resource: Resource,
    namespace: String,
    who: String,
    sender: mpsc::UnboundedSender<Bytes>,
}

impl Watcher {
    /// True when the event is of its kind and namespace.
    pub(super) fn wants(&self, event: &Event) -> bool {
        self.resource == event.resource
            && (self.namespace.is_empty() || self.namespace == event.namespace)
    }

    /// False once nobody listens any more.
    pub(super) fn send(&self, event: &Event) -> bool {
        self.sender.send(event.text.clone()).is_ok()
    }

    /// True for the watches of a client.
    pub(super) fn is_of(&self, who: &str) -> bool {
        self.who == who
    }
}

impl Store {
    /// Begins a watch; the receiver ends when the server cuts it.
    pub(super) fn begin_watch(
        &mut self,
        who: &str,
        route: &Route,
        query: &Query,
    ) -> Result<mpsc::UnboundedReceiver<Bytes>, Refusal> {
        if query.get("labelSelector").is_some() || query.get("fieldSelector").is_some() {
            return Err(Refusal::bad_request(
                "watches with selectors are not served",
            ));
        }
        let since = query.number("resourceVersion").unwrap_or(0);
        let (sender, receiver) = mpsc::unbounded_channel();
        if since != 0 && since < self.compacted {
            let status = Refusal::new(
                410,
                "Expired",
                format!("too old resource version: {since} ({})", self.compacted),
            );
            let event = json!({ "type": "ERROR", "object": status.status() });
            // The receiver is in hand, so it takes the only event.
            let _sent = sender.send(Bytes::from(format!("{event}\n")));
            return Ok(receiver);
        }
        let watcher = Watcher {
            resource: route.resource,
            namespace: route.namespace.clone(),
            who: who.to_owned(),
            sender,
        };
        // Versions only grow, so the events of interest are at the end.
        let begin = self.window.partition_point(|event| event.version <= since);
        let missed = self.window.range(begin..);
        for event in missed.filter(|event| watcher.wants(event)) {
            watcher.send(event);
        }
        self.watchers.push(watcher);
        Ok(receiver)
    }
}

/// What a watch needs to go on.
struct Running {
    receiver: mpsc::UnboundedReceiver<Bytes>,
    server: ApiServer,
    resource: Resource,
    until: Instant,
    bookmark: Option<Instant>,
    lag: Duration,
}

/// The body of the answer: every event after `lag`, which stands for a slow connection.
pub(super) fn body(
    server: ApiServer,
    route: &Route,
    query: &Query,
    receiver: mpsc::UnboundedReceiver<Bytes>,
    lag: Duration,
) -> Body {
    let now = Instant::now();
    let seconds = query.number("timeoutSeconds").unwrap_or(DEFAULT_SECONDS);
    let running = Running {
        receiver,
        server,
        resource: route.resource,
        until: now + Duration::from_secs(seconds),
        bookmark: query
            .is_true("allowWatchBookmarks")
            .then(|| now + BOOKMARK_EVERY),
        lag,
    };
    Body::from_stream(stream::unfold(running, |mut running| async move {
        let line = next(&mut running).await?;
        Some((Ok::<Bytes, Infallible>(line), running))
    }))
}

async fn next(running: &mut Running) -> Option<Bytes> {
    let bookmark = running.bookmark.unwrap_or(running.until);
    tokio::select! {
        biased;
        received = running.receiver.recv() => {
            let line = received?;
            if !running.lag.is_zero() {
                tokio::time::sleep(running.lag).await;
            }
            Some(line)
        }
        () = tokio::time::sleep_until(running.until) => None,
        () = tokio::time::sleep_until(bookmark) => {
            running.bookmark = Some(Instant::now() + BOOKMARK_EVERY);
            // Everything up to now was received above, so the version holds for this watch.
            Some(bookmark_of(running.resource, running.server.version()))
        }
    }
}

fn bookmark_of(resource: Resource, version: u64) -> Bytes {
    let definition = resource.definition();
    let event = json!({
        "type": "BOOKMARK",
        "object": {
            "kind": definition.kind,
            "apiVersion": definition.api_version(),
            "metadata": { "resourceVersion": version.to_string(), "creationTimestamp": null },
            "spec": {},
        },
    });
    Bytes::from(format!("{event}\n"))
}
