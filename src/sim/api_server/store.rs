//! Objects under one counter of versions, and the window of events that watches read from.
//!
//! Every change of an object goes through [`Store::commit`] or [`Store::remove`]: it takes the next version, tells the
//! watchers and the embedded cluster, and is recorded. Each object is kept as a value and as encoded
//! text, so that lists and events are put together from texts.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use axum::body::Bytes;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::Cache;
use super::narrate::narrate;
use super::resource::{Key, Resource};
use super::watch::Watcher;
use crate::sim::clock::api_time;
use crate::sim::history::History;
use crate::world::{Clock, RandomStream};

/// Events that watches may start behind: more than a burst of thousands of pods makes between a list
/// and its watch.
const WINDOW: usize = 20_000;

/// An object and its text.
#[derive(Debug, Clone)]
pub(super) struct Stored {
    pub(super) value: Value,
    pub(super) text: Bytes,
}

/// A change, as watches see it.
#[derive(Debug, Clone)]
pub(super) struct Event {
    pub(super) version: u64,
    pub(super) resource: Resource,
    pub(super) namespace: String,
    /// The line for watches of everything.
    pub(super) text: Bytes,
    /// The object after the change; as it was last when it is gone.
    pub(super) object: Bytes,
    /// The object before the change.
    pub(super) before: Option<Bytes>,
    pub(super) gone: bool,
}

/// A list that was cut into pages, and where the next one begins.
#[derive(Debug, Clone)]
pub(super) struct Pages {
    pub(super) version: u64,
    pub(super) items: Arc<[Bytes]>,
    pub(super) begin: usize,
    pub(super) until: Timestamp,
}

/// Everything the server holds.
#[derive(Debug)]
pub(super) struct Store {
    pub(super) clock: Arc<dyn Clock>,
    pub(super) history: History,
    pub(super) random: RandomStream,
    pub(super) objects: BTreeMap<Key, Stored>,
    pub(super) version: u64,
    pub(super) window: VecDeque<Event>,
    /// The version of the latest change of each kind.
    pub(super) latest: BTreeMap<Resource, u64>,
    /// Watches from this version or older have missed something.
    pub(super) compacted: u64,
    pub(super) watchers: Vec<Watcher>,
    pub(super) pages: BTreeMap<String, Pages>,
    pub(super) applied: BTreeMap<(Key, String), Value>,
    pub(super) restores: usize,
    /// What whole lists are answered from.
    pub(super) cache: Cache,
    /// When the request was sent that is served now; those who are in the world themselves send none.
    pub(super) sent: Option<Timestamp>,
    uids: u64,
    listeners: Vec<mpsc::UnboundedSender<Key>>,
}

impl Store {
    pub(super) fn new(clock: Arc<dyn Clock>, history: History, random: RandomStream) -> Self {
        Self {
            clock,
            history,
            random,
            objects: BTreeMap::new(),
            version: 1,
            window: VecDeque::new(),
            latest: BTreeMap::new(),
            compacted: 0,
            watchers: Vec::new(),
            pages: BTreeMap::new(),
            applied: BTreeMap::new(),
            restores: 0,
            cache: Cache::Filled,
            sent: None,
            uids: 0,
            listeners: Vec::new(),
        }
    }

    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(super) fn api_now(&self) -> String {
        api_time(self.now())
    }

    pub(super) fn get(&self, key: &Key) -> Option<&Value> {
        self.objects.get(key).map(|stored| &stored.value)
    }

    /// Objects of a kind in name order, of one namespace or of all.
    pub(super) fn of<'store>(
        &'store self,
        resource: Resource,
        namespace: &'store str,
    ) -> impl Iterator<Item = (&'store Key, &'store Stored)> {
        self.objects
            .range(Key::new(resource, namespace, "")..)
            .take_while(move |(key, _stored)| {
                key.resource == resource && (namespace.is_empty() || key.namespace == namespace)
            })
    }

    /// A uid: a counter in the form of a UUID, so that it is the same for equal histories.
    pub(super) fn next_uid(&mut self) -> String {
        self.uids += 1;
        let random = self.random.below(1 << 48);
        format!("{:08x}-0000-4000-8000-{random:012x}", self.uids)
    }

    /// Everything that changes from now on, by key.
    pub(super) fn listen(&mut self) -> mpsc::UnboundedReceiver<Key> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.listeners.push(sender);
        receiver
    }

    /// Stores an object under the next version and tells everybody.
    pub(super) fn commit(
        &mut self,
        key: &Key,
        mut object: Value,
        (who, verb): (&str, &str),
    ) -> Value {
        self.take_version(&mut object);
        let before = self.objects.get(key);
        let word = if before.is_some() {
            "MODIFIED"
        } else {
            "ADDED"
        };
        let told = narrate(key, before.map(|stored| &stored.value), Some(&object));
        let was = before.map(|stored| stored.text.clone());
        let text = Bytes::from(object.to_string());
        self.emit(key, word, (was, &text));
        let stored = Stored {
            value: object.clone(),
            text,
        };
        self.objects.insert(key.clone(), stored);
        self.record(key, &object, (who, verb, word), told);
        object
    }

    /// Removes an object under the next version and tells everybody, who see it as it was last.
    pub(super) fn remove(&mut self, key: &Key, (who, verb): (&str, &str)) -> Option<Value> {
        let stored = self.objects.remove(key)?;
        // Another object of the name is nobody's yet.
        self.applied.retain(|(of, _by), _body| of != key);
        let told = narrate(key, Some(&stored.value), None);
        let mut object = stored.value;
        self.take_version(&mut object);
        let text = Bytes::from(object.to_string());
        self.emit(key, "DELETED", (Some(stored.text), &text));
        self.record(key, &object, (who, verb, "DELETED"), told);
        Some(object)
    }

    fn take_version(&mut self, object: &mut Value) {
        self.version += 1;
        let version = self.version.to_string();
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.insert("resourceVersion".to_owned(), json!(version));
        }
    }

    fn record(
        &mut self,
        key: &Key,
        object: &Value,
        (who, verb, word): (&str, &str, &str),
        told: Vec<(&'static str, Value)>,
    ) {
        let mut write = json!({
            "client": who, "verb": verb, "object": key.to_string(), "change": word, "version": self.version,
        });
        if key.resource == Resource::Lease {
            write["holder"] = object["spec"]["holderIdentity"].clone();
        }
        if let Some(sent) = self.sent {
            write["sent"] = json!(sent.to_string());
        }
        self.history.request("Write", write);
        for (event, fields) in told {
            self.history.event(event, fields);
        }
        self.listeners
            .retain(|listener| listener.send(key.clone()).is_ok());
    }

    /// Forgets past events.
    pub(super) fn compact(&mut self) {
        self.compacted = self.version;
        self.window.clear();
        self.pages.clear();
    }

    /// Starts again with a cache that is filled or not: every watch ends, and what was is forgotten.
    pub(super) fn start_again(&mut self, cache: Cache) {
        self.cache = cache;
        self.version += 1;
        self.compact();
        self.watchers.clear();
        self.history
            .event("ServerStarted", json!({ "cache": format!("{cache:?}") }));
    }

    /// Holds the given objects and no others from now on, and counts versions on from the one that is
    /// given, else from its own.
    pub(super) fn restore(&mut self, objects: &BTreeMap<Key, Stored>, back: Option<u64>) {
        let changed: BTreeSet<Key> = self.objects.keys().chain(objects.keys()).cloned().collect();
        self.objects.clone_from(objects);
        self.applied.clear();
        self.version = back.unwrap_or(self.version + 1);
        self.latest.values_mut().for_each(|latest| {
            *latest = (*latest).min(self.version);
        });
        self.compact();
        self.watchers.clear();
        self.restores += 1;
        self.history
            .event("Restored", json!({ "objects": self.objects.len() }));
        for key in changed {
            self.listeners
                .retain(|listener| listener.send(key.clone()).is_ok());
        }
    }

    fn emit(&mut self, key: &Key, word: &str, (before, object): (Option<Bytes>, &Bytes)) {
        let text = line(word, object);
        self.latest.insert(key.resource, self.version);
        let event = Event {
            version: self.version,
            resource: key.resource,
            namespace: key.namespace.clone(),
            text,
            object: object.clone(),
            before,
            gone: word == "DELETED",
        };
        self.watchers
            .retain(|watcher| !watcher.wants(&event) || watcher.tell(&event));
        self.window.push_back(event);
        if self.window.len() > WINDOW
            && let Some(oldest) = self.window.pop_front()
        {
            self.compacted = oldest.version;
        }
    }
}

/// The line of a watch for one event.
pub(super) fn line(word: &str, object: &[u8]) -> Bytes {
    let mut line = Vec::with_capacity(object.len() + 32);
    line.extend_from_slice(b"{\"type\":\"");
    line.extend_from_slice(word.as_bytes());
    line.extend_from_slice(b"\",\"object\":");
    line.extend_from_slice(object);
    line.extend_from_slice(b"}\n");
    Bytes::from(line)
}

/// True for an object that nothing holds any more: it is being deleted, has no finalizer left, and a
/// pod's time to end is over.
pub(super) fn is_going(resource: Resource, object: &Value) -> bool {
    let metadata = &object["metadata"];
    let held = metadata["finalizers"]
        .as_array()
        .is_some_and(|finalizers| !finalizers.is_empty());
    let ending = resource == Resource::Pod
        && metadata["deletionGracePeriodSeconds"].as_i64().unwrap_or(0) > 0;
    metadata["deletionTimestamp"].is_string() && !held && !ending
}
