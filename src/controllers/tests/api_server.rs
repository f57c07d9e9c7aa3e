//! A small API server in memory: it keeps objects, answers lists and watches, checks resource
//! versions and uids, and honours finalizers.
//!
//! It can be told to stop answering after so many writes, as if the process that asks had been
//! killed right after the last of them took effect.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use axum::body::Body as Answered;
use futures::channel::mpsc;
use futures::future::BoxFuture;
use http::{Request, Response};
use jiff::Timestamp;
use kube::client::Body;
use serde_json::{Map, Value, json};
use tower::Service;

use super::Fate;
use crate::world::Clock;

/// Collection (`/api/v1/pods`), namespace, name.
type Key = (String, String, String);

#[derive(Debug)]
struct State {
    clock: Arc<dyn Clock>,
    objects: BTreeMap<Key, Value>,
    version: u64,
    events: Vec<(u64, String, String)>,
    watchers: Vec<(String, mpsc::UnboundedSender<Result<String, Infallible>>)>,
}

/// The server; clones share it.
#[derive(Debug, Clone)]
pub(super) struct ApiServer(Arc<Mutex<State>>);

/// What a path means.
#[derive(Debug, PartialEq)]
struct Route {
    collection: String,
    namespace: String,
    name: Option<String>,
    subresource: Option<String>,
}

impl Route {
    fn parse(path: &str) -> Self {
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        let (prefix, rest) = parts.split_at(if parts[0] == "api" { 2 } else { 3 });
        let (namespace, rest) = match rest {
            ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (*namespace, rest),
            rest => ("", rest),
        };
        Self {
            collection: format!("/{}/{}", prefix.join("/"), rest[0]),
            namespace: namespace.to_owned(),
            name: rest.get(1).map(|name| (*name).to_owned()),
            subresource: rest.get(2).map(|name| (*name).to_owned()),
        }
    }

    fn key(&self) -> Key {
        (
            self.collection.clone(),
            self.namespace.clone(),
            self.name.clone().unwrap_or_default(),
        )
    }
}

/// Status code and body.
type Answer = (u16, Value);

fn refuse(code: u16, reason: &str) -> Answer {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": reason, "reason": reason, "code": code,
    });
    (code, status)
}

impl ApiServer {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self(Arc::new(Mutex::new(State {
            clock,
            objects: BTreeMap::new(),
            version: 1,
            events: Vec::new(),
            watchers: Vec::new(),
        })))
    }

    /// A client of one process, which shares the process's fate.
    pub(super) fn client(&self, fate: Fate) -> kube::Client {
        let transport = Transport {
            server: self.clone(),
            fate,
        };
        kube::Client::new(transport, "default")
    }

    /// Puts an object there, as somebody other than the controller would.
    pub(super) fn put(&self, collection: &str, object: Value) {
        let namespace = object["metadata"]["namespace"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        let key = (collection.to_owned(), namespace, name);
        self.0.lock().unwrap().store(key, object);
    }

    /// Changes an object.
    pub(super) fn change(&self, collection: &str, name: &str, change: impl FnOnce(&mut Value)) {
        let mut state = self.0.lock().unwrap();
        let found = state
            .objects
            .iter()
            .find(|(key, _object)| key.0 == collection && key.2 == name);
        let Some((key, object)) = found else { return };
        let (key, mut object) = (key.clone(), object.clone());
        change(&mut object);
        state.store(key, object);
    }

    /// Deletes an object as `kubectl delete` does.
    pub(super) fn delete(&self, collection: &str, name: &str) {
        let mut state = self.0.lock().unwrap();
        let key = state
            .objects
            .keys()
            .find(|key| key.0 == collection && key.2 == name)
            .cloned();
        if let Some(key) = key {
            state.delete(&key);
        }
    }

    /// Every object of a collection, in name order.
    pub(super) fn all(&self, collection: &str) -> Vec<Value> {
        let state = self.0.lock().unwrap();
        state
            .objects
            .iter()
            .filter(|(key, _object)| key.0 == collection)
            .map(|(_key, object)| object.clone())
            .collect()
    }
}

impl State {
    /// Stores an object under a new version and tells the watchers; one that is being deleted and
    /// has no finalizer left goes.
    fn store(&mut self, key: Key, mut object: Value) -> Value {
        self.version += 1;
        let metadata = object["metadata"].as_object_mut().unwrap();
        metadata.insert(
            "resourceVersion".to_owned(),
            json!(self.version.to_string()),
        );
        metadata
            .entry("uid")
            .or_insert_with(|| json!(format!("uid-{}", self.version)));
        metadata.entry("generation").or_insert_with(|| json!(1));
        metadata
            .entry("creationTimestamp")
            .or_insert_with(|| json!(now(&*self.clock)));
        let finalizers = metadata.get("finalizers").and_then(Value::as_array);
        let going =
            metadata.contains_key("deletionTimestamp") && finalizers.is_none_or(Vec::is_empty);
        let word = if going {
            "DELETED"
        } else if self.objects.contains_key(&key) {
            "MODIFIED"
        } else {
            "ADDED"
        };
        if going {
            self.objects.remove(&key);
        } else {
            self.objects.insert(key.clone(), object.clone());
        }
        let event = format!("{}\n", json!({"type": word, "object": object}));
        self.watchers.retain(|(collection, watcher)| {
            *collection != key.0 || watcher.unbounded_send(Ok(event.clone())).is_ok()
        });
        self.events.push((self.version, key.0, event));
        object
    }

    fn delete(&mut self, key: &Key) -> Answer {
        let Some(mut object) = self.objects.get(key).cloned() else {
            return refuse(404, "NotFound");
        };
        let time = now(&*self.clock);
        object["metadata"]
            .as_object_mut()
            .unwrap()
            .entry("deletionTimestamp")
            .or_insert_with(|| json!(time));
        (200, self.store(key.clone(), object))
    }

    fn handle(&mut self, method: &str, route: &Route, json_patch: bool, body: &Value) -> Answer {
        let key = route.key();
        match (method, route.subresource.as_deref()) {
            ("GET", None) if route.name.is_none() => self.list(route),
            ("GET", None) => match self.objects.get(&key) {
                Some(object) => (200, object.clone()),
                None => refuse(404, "NotFound"),
            },
            ("POST", None) => self.create(route, body),
            ("POST", Some("eviction")) | ("DELETE", None) => self.delete(&key),
            ("PATCH" | "PUT", subresource) => {
                let status = subresource == Some("status");
                self.update(key, json_patch, status, body)
            }
            _ => refuse(405, "MethodNotAllowed"),
        }
    }

    fn list(&self, route: &Route) -> Answer {
        let items: Vec<&Value> = self
            .objects
            .iter()
            .filter(|(key, _object)| key.0 == route.collection)
            .map(|(_key, object)| object)
            .collect();
        let list = json!({
            "kind": "List", "apiVersion": "v1", "items": items,
            "metadata": {"resourceVersion": self.version.to_string()},
        });
        (200, list)
    }

    fn create(&mut self, route: &Route, body: &Value) -> Answer {
        let mut key = route.key();
        key.2 = body["metadata"]["name"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        if self.objects.contains_key(&key) {
            return refuse(409, "AlreadyExists");
        }
        (201, self.store(key, body.clone()))
    }

    fn update(&mut self, key: Key, json_patch: bool, status: bool, body: &Value) -> Answer {
        let Some(before) = self.objects.get(&key).cloned() else {
            return refuse(404, "NotFound");
        };
        let mut after = before.clone();
        if json_patch {
            for step in body.as_array().unwrap() {
                let pointer = step["path"].as_str().unwrap();
                match step["op"].as_str().unwrap() {
                    "test" if before.pointer(pointer) != Some(&step["value"]) => {
                        return refuse(422, "Invalid");
                    }
                    "test" => {}
                    _ => after["metadata"]["finalizers"] = step["value"].clone(),
                }
            }
        } else {
            for field in ["resourceVersion", "uid"] {
                let wanted = &body["metadata"][field];
                if !wanted.is_null() && *wanted != before["metadata"][field] {
                    return refuse(409, "Conflict");
                }
            }
            if status {
                merge(&mut after["status"], &body["status"]);
            } else {
                let kept = after["status"].clone();
                merge(&mut after, body);
                after["status"] = kept;
            }
        }
        if after == before {
            return (200, after);
        }
        (200, self.store(key, after))
    }
}

/// A JSON merge patch (RFC 7386).
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let target = target.as_object_mut().unwrap();
    for (name, value) in patch {
        if value.is_null() {
            target.remove(name);
        } else {
            merge(target.entry(name.clone()).or_insert(Value::Null), value);
        }
    }
}

/// The time as the API writes it: whole seconds.
fn now(clock: &dyn Clock) -> String {
    Timestamp::from_second(clock.now().as_second())
        .unwrap()
        .to_string()
}

#[derive(Debug, Clone)]
struct Transport {
    server: ApiServer,
    fate: Fate,
}

impl Transport {
    fn watch(&self, route: &Route, query: &str) -> Response<Answered> {
        let since: u64 = query
            .split('&')
            .find_map(|part| part.strip_prefix("resourceVersion="))
            .and_then(|text| text.parse().ok())
            .unwrap_or(0);
        let (sender, receiver) = mpsc::unbounded();
        let mut state = self.server.0.lock().unwrap();
        for (version, collection, event) in &state.events {
            if *version > since && *collection == route.collection {
                sender.unbounded_send(Ok(event.clone())).unwrap();
            }
        }
        state.watchers.push((route.collection.clone(), sender));
        Response::new(Answered::from_stream(receiver))
    }
}

impl Service<Request<Body>> for Transport {
    type Response = Response<Answered>;
    type Error = kube::Error;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let transport = self.clone();
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let bytes = body.collect_bytes().await?;
            // A request takes a moment, so that loops interleave.
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
            transport.fate.before().await;
            let route = Route::parse(parts.uri.path());
            let query = parts.uri.query().unwrap_or_default();
            if query.contains("watch=true") {
                return Ok(transport.watch(&route, query));
            }
            let json_patch = parts
                .headers
                .get("content-type")
                .is_some_and(|kind| kind == "application/json-patch+json");
            let body: Value = serde_json::from_slice(&bytes).unwrap_or_default();
            let (code, answer) = transport.server.0.lock().unwrap().handle(
                parts.method.as_str(),
                &route,
                json_patch,
                &body,
            );
            let is_event = route.collection.ends_with("/events");
            if parts.method != http::Method::GET && !is_event {
                transport.fate.after().await;
            }
            let response = Response::builder()
                .status(code)
                .body(Answered::from(answer.to_string()));
            Ok(response.unwrap())
        })
    }
}
