//! An API server that answers from a script and remembers what it was asked.
//!
//! Requests that the script does not mention get what a server without objects says: an empty list,
//! or a watch that stays silent. Anything else that is not in the script is answered with 500.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use http::{Request, Response};
use kube::client::Body;
use serde_json::{Value, json};
use tower::Service;

/// Stands for a GET that watches.
const WATCH: &str = "WATCH";

/// What was asked.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Asked {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) query: String,
    pub(super) body: Value,
}

/// An answer, given once, to the first request that matches.
#[derive(Debug, Clone)]
struct Answer {
    method: &'static str,
    path: &'static str,
    status: u16,
    body: String,
    after: Duration,
}

#[derive(Debug, Default)]
struct State {
    answers: VecDeque<Answer>,
    asked: Vec<Asked>,
}

/// The script; clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct Script(Arc<Mutex<State>>);

impl Script {
    pub(super) fn new() -> Self {
        Self::default()
    }

    pub(super) fn client(&self) -> kube::Client {
        kube::Client::new(self.clone(), "default")
    }

    /// Answers one request.
    pub(super) fn on(
        &self,
        method: &'static str,
        path: &'static str,
        status: u16,
        body: &Value,
    ) -> &Self {
        self.add(method, path, status, body.to_string(), Duration::ZERO)
    }

    /// Answers one request only after a time.
    pub(super) fn late(
        &self,
        method: &'static str,
        path: &'static str,
        after: Duration,
        body: &Value,
    ) -> &Self {
        self.add(method, path, 200, body.to_string(), after)
    }

    /// Answers one watch with events; then the connection ends.
    pub(super) fn watch(&self, path: &'static str, events: &[Value]) -> &Self {
        let lines: Vec<String> = events.iter().map(|event| format!("{event}\n")).collect();
        self.add(WATCH, path, 200, lines.concat(), Duration::ZERO)
    }

    /// Refuses one watch.
    pub(super) fn refuse_watch(&self, path: &'static str, status: u16) -> &Self {
        let body = failure(status, "Expired", "too old resource version");
        self.add(WATCH, path, status, body.to_string(), Duration::ZERO)
    }

    fn add(
        &self,
        method: &'static str,
        path: &'static str,
        status: u16,
        body: String,
        after: Duration,
    ) -> &Self {
        self.0.lock().unwrap().answers.push_back(Answer {
            method,
            path,
            status,
            body,
            after,
        });
        self
    }

    /// Everything that was asked with these methods.
    pub(super) fn asked(&self, methods: &[&str]) -> Vec<Asked> {
        let state = self.0.lock().unwrap();
        state
            .asked
            .iter()
            .filter(|asked| methods.contains(&asked.method.as_str()))
            .cloned()
            .collect()
    }

    fn answer(&self, asked: Asked) -> Option<Answer> {
        let mut state = self.0.lock().unwrap();
        let watch = asked.query.contains("watch=true");
        let found = state.answers.iter().position(|answer| {
            answer.method == (if watch { WATCH } else { &asked.method })
                && answer.path == asked.path
        });
        let is_list = asked.method == "GET" && !asked.path.contains("/nodes/");
        state.asked.push(asked);
        if let Some(found) = found {
            return state.answers.remove(found);
        }
        if watch {
            return None;
        }
        let (status, body) = if is_list {
            (200, list("1", &[]))
        } else {
            (500, failure(500, "InternalError", "not in the script"))
        };
        Some(Answer {
            method: "",
            path: "",
            status,
            body: body.to_string(),
            after: Duration::ZERO,
        })
    }
}

impl Service<Request<Body>> for Script {
    type Response = Response<Body>;
    type Error = kube::Error;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let script = self.clone();
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let bytes = body.collect_bytes().await?;
            let answer = script.answer(Asked {
                method: parts.method.to_string(),
                path: parts.uri.path().to_owned(),
                query: parts.uri.query().unwrap_or_default().to_owned(),
                body: serde_json::from_slice(&bytes).unwrap_or_default(),
            });
            let Some(answer) = answer else {
                return std::future::pending().await;
            };
            if !answer.after.is_zero() {
                tokio::time::sleep(answer.after).await;
            }
            Ok(Response::builder()
                .status(answer.status)
                .body(Body::from(answer.body.into_bytes()))
                .unwrap())
        })
    }
}

/// A list answer.
pub(super) fn list(resource_version: &str, items: &[Value]) -> Value {
    json!({
        "kind": "List",
        "apiVersion": "v1",
        "metadata": {"resourceVersion": resource_version},
        "items": items,
    })
}

/// A watch event.
pub(super) fn event(kind: &str, object: &Value) -> Value {
    json!({"type": kind, "object": object})
}

/// A failure answer.
pub(super) fn failure(code: u16, reason: &str, message: &str) -> Value {
    json!({
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "code": code,
        "reason": reason,
        "message": message,
    })
}

/// A manifest as JSON.
pub(super) fn yaml(text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap()
}
