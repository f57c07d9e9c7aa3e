//! Watches: a stream of events from a version on, with bookmarks, until its time is over.
//!
//! Given a place in history; given back the body of the answer. A watch that would begin before the
//! window of events gets 410 as its only event, as from the API server's watch cache; one that begins
//! nowhere is first told of what is there. A watch that selects is told that an object came or went
//! when it begins or ceases to be selected. Bookmarks tell of changes of its kind that it was not told
//! of; while there are none it gets no bookmark either. Its connection may be slow, hold everything back for a while,
//! or go silent for good: then not even its end comes through.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::body::{Body, Bytes};
use futures::stream;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::ApiServer;
use super::refusal::Refusal;
use super::resource::Resource;
use super::route::{Query, Route};
use super::selector::Selection;
use super::store::{Event, Store, line};
use crate::sim::faults::Faults;

/// How long a slow watch may be behind: less than it takes to notice one that is dead.
const MOST_BEHIND: Duration = Duration::from_secs(90);
/// How often a quiet watch says how far it is.
const BOOKMARK_EVERY: Duration = Duration::from_mins(1);
/// How long before its end a watch says once more how far it is.
const BOOKMARK_BEFORE_END: Duration = Duration::from_secs(2);
/// How long a watch lasts that does not say.
const DEFAULT_SECONDS: u64 = 1800;

/// The server's end of a watch.
#[derive(Debug)]
pub(super) struct Watcher {
    resource: Resource,
    namespace: String,
    selection: Selection,
    who: String,
    sender: mpsc::UnboundedSender<Bytes>,
    is_silent: Arc<AtomicBool>,
}

impl Watcher {
    /// True when the event is of its kind and namespace.
    pub(super) fn wants(&self, event: &Event) -> bool {
        self.resource == event.resource
            && (self.namespace.is_empty() || self.namespace == event.namespace)
    }

    /// Tells of an event as far as it is selected. False once nobody listens any more.
    pub(super) fn tell(&self, event: &Event) -> bool {
        let text = if self.selection.is_everything() {
            Some(event.text.clone())
        } else {
            self.selected(event)
        };
        text.map_or_else(
            || !self.sender.is_closed(),
            |text| self.sender.send(text).is_ok(),
        )
    }

    /// What an event is to a watch that selects.
    fn selected(&self, event: &Event) -> Option<Bytes> {
        let read = |text: &Bytes| serde_json::from_slice::<Value>(text).unwrap_or_default();
        let before = event.before.as_ref().map(read);
        let was = before
            .as_ref()
            .is_some_and(|was| self.selection.selects(was));
        let is = !event.gone && self.selection.selects(&read(&event.object));
        match (was, is) {
            (true, true) => Some(event.text.clone()),
            (false, true) => Some(line("ADDED", &event.object)),
            (true, false) => {
                let mut last = before?;
                last["metadata"]["resourceVersion"] = json!(event.version.to_string());
                Some(line("DELETED", last.to_string().as_bytes()))
            }
            (false, false) => None,
        }
    }

    /// True for the watches of a client.
    pub(super) fn is_of(&self, who: &str) -> bool {
        self.who == who
    }

    /// True for the watches of a kind, or of any.
    pub(super) fn is_about(&self, which: Option<Resource>) -> bool {
        which.is_none_or(|which| which == self.resource)
    }

    /// From now on nothing comes through.
    pub(super) fn silence(&self) {
        self.is_silent.store(true, Ordering::Relaxed);
    }
}

/// A watch that has begun, as its client's end sees it.
#[derive(Debug)]
pub(super) struct Begun {
    /// Ends when the server cuts the watch.
    receiver: mpsc::UnboundedReceiver<Bytes>,
    is_silent: Arc<AtomicBool>,
}

impl Store {
    /// Begins a watch.
    pub(super) fn begin_watch(
        &mut self,
        who: &str,
        route: &Route,
        query: &Query,
    ) -> Result<Begun, Refusal> {
        let selection = Selection::of(route.resource, query)?;
        let since = match query.get("resourceVersion") {
            None => 0,
            Some(version) => version.parse::<u64>().map_err(|error| {
                Refusal::new(500, "", format!("resourceVersion {version:?}: {error}"))
            })?,
        };
        let (sender, receiver) = mpsc::unbounded_channel();
        let is_silent = Arc::new(AtomicBool::new(false));
        let begun = Begun {
            receiver,
            is_silent: Arc::clone(&is_silent),
        };
        if since != 0 && since < self.compacted {
            let status = Refusal::new(
                410,
                "Expired",
                format!("too old resource version: {since} ({})", self.compacted),
            );
            let event = json!({ "type": "ERROR", "object": status.status() });
            // The receiver is in hand, so it takes the only event.
            let _sent = sender.send(Bytes::from(format!("{event}\n")));
            return Ok(begun);
        }
        let watcher = Watcher {
            resource: route.resource,
            namespace: route.namespace.clone(),
            selection,
            who: who.to_owned(),
            sender,
            is_silent,
        };
        if since == 0 {
            let there = self.of(route.resource, &route.namespace);
            for (_key, stored) in
                there.filter(|(_key, stored)| watcher.selection.selects(&stored.value))
            {
                // The receiver is in hand.
                let _sent = watcher.sender.send(line("ADDED", &stored.text));
            }
        } else {
            // Versions only grow, so the events of interest are at the end.
            let begin = self.window.partition_point(|event| event.version <= since);
            let missed = self.window.range(begin..);
            for event in missed.filter(|event| watcher.wants(event)) {
                watcher.tell(event);
            }
        }
        self.watchers.push(watcher);
        Ok(begun)
    }
}

/// What a watch needs to go on.
struct Running {
    begun: Begun,
    server: ApiServer,
    resource: Resource,
    since: u64,
    until: Instant,
    bookmark: Option<Instant>,
    connection: Connection,
    /// Since when events wait on a slow connection.
    behind: Option<Instant>,
}

/// The connection of a watch.
#[derive(Debug)]
pub(super) struct Connection {
    /// Whose it is.
    pub(super) who: Arc<str>,
    /// By how much each event is late, and all that wait behind it.
    pub(super) late_by: Duration,
    /// Who holds everything back, and wants to know what was late.
    pub(super) faults: Arc<dyn Faults>,
}

impl Running {
    /// Whether the connection is slow now. One that has been behind for so long catches up: the API server does not keep a
    /// reader that never does.
    fn falls_behind(&mut self) -> bool {
        let now = Instant::now();
        let since = *self.behind.get_or_insert(now);
        now.duration_since(since) < MOST_BEHIND
    }

    /// Waits while nothing comes through, be it for ever.
    async fn comes_through(&self) {
        let Connection { who, faults, .. } = &self.connection;
        loop {
            if self.begun.is_silent.load(Ordering::Relaxed) {
                std::future::pending::<()>().await;
            }
            let Some(until) = faults.deaf_until(who) else {
                return;
            };
            tokio::time::sleep_until(until).await;
        }
    }
}

/// The body of the answer: every event as late as the connection has it.
pub(super) fn body(
    server: ApiServer,
    route: &Route,
    query: &Query,
    begun: Begun,
    connection: Connection,
) -> Body {
    let now = Instant::now();
    let seconds = query.number("timeoutSeconds").unwrap_or(DEFAULT_SECONDS);
    let until = now + Duration::from_secs(seconds);
    let running = Running {
        begun,
        server,
        resource: route.resource,
        since: query.number("resourceVersion").unwrap_or(0),
        until,
        bookmark: query
            .is_true("allowWatchBookmarks")
            .then(|| next_bookmark(now, until)),
        connection,
        behind: None,
    };
    Body::from_stream(stream::unfold(running, |mut running| async move {
        let line = next(&mut running).await;
        running.comes_through().await;
        Some((Ok::<Bytes, Infallible>(line?), running))
    }))
}

/// In a minute, or shortly before the watch ends if that comes first and is still to come.
fn next_bookmark(now: Instant, until: Instant) -> Instant {
    let regular = now + BOOKMARK_EVERY;
    until
        .checked_sub(BOOKMARK_BEFORE_END)
        .filter(|last| now < *last && *last < regular)
        .unwrap_or(regular)
}

async fn next(running: &mut Running) -> Option<Bytes> {
    loop {
        if !running.connection.late_by.is_zero() && running.begun.receiver.is_empty() {
            running.behind = None;
        }
        let bookmark = running.bookmark.unwrap_or(running.until);
        tokio::select! {
            biased;
            received = running.begun.receiver.recv() => {
                let line = received?;
                if running.connection.late_by.is_zero() {
                    return Some(line);
                }
                if running.falls_behind() {
                    tokio::time::sleep(running.connection.late_by).await;
                }
                running.connection.faults.told_late(running.resource, &line);
                return Some(line);
            }
            () = tokio::time::sleep_until(running.until) => return None,
            () = tokio::time::sleep_until(bookmark) => {
                running.bookmark = Some(next_bookmark(Instant::now(), running.until));
                // Everything up to now was received above, so the version holds for this watch.
                let version = running.server.latest(running.resource);
                if version > running.since {
                    return Some(bookmark_of(running.resource, version));
                }
            }
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
