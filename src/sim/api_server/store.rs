//! Objects under one counter of versions, and the window of events that watches read from.
//!
//! Every change of an object goes through [`Store::commit`]: it takes the next version, tells the
//! watchers and the embedded cluster, and is recorded. Each object is kept as a value and as encoded
//! text, so that lists and events are put together from texts.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use axum::body::Bytes;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::narrate::narrate;
use super::resource::{Key, Resource};
use super::schema::Schemas;
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
    pub(super) text: Bytes,
}

/// The rest of a list that was cut into pages.
#[derive(Debug)]
pub(super) struct Pages {
    pub(super) version: u64,
    pub(super) rest: VecDeque<Bytes>,
}

/// Everything the server holds.
#[derive(Debug)]
pub(super) struct Store {
    pub(super) clock: Arc<dyn Clock>,
    pub(super) history: History,
    pub(super) random: RandomStream,
    pub(super) schemas: Schemas,
    pub(super) objects: BTreeMap<Key, Stored>,
    pub(super) version: u64,
    pub(super) window: VecDeque<Event>,
    /// Watches from this version or older have missed something.
    pub(super) compacted: u64,
    pub(super) watchers: Vec<Watcher>,
    pub(super) pages: BTreeMap<String, Pages>,
    pub(super) applied: BTreeMap<(Key, String), Value>,
    uids: u64,
    listeners: Vec<mpsc::UnboundedSender<Key>>,
}

impl Store {
    pub(super) fn new(clock: Arc<dyn Clock>, history: History, random: RandomStream) -> Self {
        Self {
            clock,
            history,
            random,
            schemas: Schemas::of_our_kinds(),
            objects: BTreeMap::new(),
            version: 1,
            window: VecDeque::new(),
            compacted: 0,
            watchers: Vec::new(),
            pages: BTreeMap::new(),
            applied: BTreeMap::new(),
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

    /// Stores an object under the next version, or removes it, and tells everybody.
    pub(super) fn commit(
        &mut self,
        key: &Key,
        mut object: Value,
        (who, verb): (&str, &str),
    ) -> Value {
        self.version += 1;
        let version = self.version.to_string();
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.insert("resourceVersion".to_owned(), json!(version));
        }
        let going = is_going(key.resource, &object);
        let before = self.objects.get(key);
        let word = match (going, before.is_some()) {
            (true, _) => "DELETED",
            (false, true) => "MODIFIED",
            (false, false) => "ADDED",
        };
        let told = narrate(
            key,
            before.map(|stored| &stored.value),
            Some(&object).filter(|_object| !going),
        );
        let text = Bytes::from(object.to_string());
        self.emit(key, word, &text);
        if going {
            self.objects.remove(key);
        } else {
            let stored = Stored {
                value: object.clone(),
                text,
            };
            self.objects.insert(key.clone(), stored);
        }
        let mut write = json!({
            "client": who, "verb": verb, "object": key.to_string(), "change": word, "version": self.version,
        });
        if key.resource == Resource::Lease {
            write["holder"] = object["spec"]["holderIdentity"].clone();
        }
        self.history.request("Write", write);
        for (event, fields) in told {
            self.history.event(event, fields);
        }
        self.listeners
            .retain(|listener| listener.send(key.clone()).is_ok());
        object
    }

    /// Forgets past events.
    pub(super) fn compact(&mut self) {
        self.compacted = self.version;
        self.window.clear();
        self.pages.clear();
    }

    /// Holds the given objects and no others from now on.
    pub(super) fn restore(&mut self, objects: &BTreeMap<Key, Stored>) {
        let changed: BTreeSet<Key> = self.objects.keys().chain(objects.keys()).cloned().collect();
        self.objects.clone_from(objects);
        self.applied.clear();
        self.version += 1;
        self.compact();
        self.watchers.clear();
        self.history
            .event("Restored", json!({ "objects": self.objects.len() }));
        for key in changed {
            self.listeners
                .retain(|listener| listener.send(key.clone()).is_ok());
        }
    }

    fn emit(&mut self, key: &Key, word: &str, object: &Bytes) {
        let mut line = Vec::with_capacity(object.len() + 32);
        line.extend_from_slice(b"{\"type\":\"");
        line.extend_from_slice(word.as_bytes());
        line.extend_from_slice(b"\",\"object\":");
        line.extend_from_slice(object);
        line.extend_from_slice(b"}\n");
        let event = Event {
            version: self.version,
            resource: key.resource,
            namespace: key.namespace.clone(),
            text: Bytes::from(line),
        };
        self.watchers
            .retain(|watcher| !watcher.wants(&event) || watcher.send(&event));
        self.window.push_back(event);
        if self.window.len() > WINDOW
            && let Some(oldest) = self.window.pop_front()
        {
            self.compacted = oldest.version;
        }
    }
}

/// True for an object that nothing holds any more: it is being deleted, has no finalizer left, and a
/// pod's time to end is over.
fn is_going(resource: Resource, object: &Value) -> bool {
    let metadata = &object["metadata"];
    let held = metadata["finalizers"]
        .as_array()
        .is_some_and(|finalizers| !finalizers.is_empty());
    let ending = resource == Resource::Pod
        && metadata["deletionGracePeriodSeconds"].as_i64().unwrap_or(0) > 0;
    metadata["deletionTimestamp"].is_string() && !held && !ending
}
