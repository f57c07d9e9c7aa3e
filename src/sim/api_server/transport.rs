//! The way of a request from kube's client to the server and back.
//!
//! A request travels for a moment, is served under one lock, and its answer travels back. Faults lose
//! it on the way there, lose its answer, or answer in the server's place. A caller who gives up or dies
//! meanwhile has lost the answer alone: what was sent arrives.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body as Answered, Bytes};
use futures::future::BoxFuture;
use http::request::Parts;
use http::{Method, Request, Response};
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimePrinter;
use kube::client::Body;
use serde_json::{Value, json};
use tower::Service;

use super::delete::DeleteOptions;
use super::patch::{PatchKind, Sent};
use super::refusal::Refusal;
use super::resource::{Resource, text};
use super::route::{Query, Route};
use super::store::Store;
use super::write::Change;
use super::{ApiServer, watch};
use crate::sim::delivery::deliver;
use crate::sim::faults::{Faults, Journey, RequestFault};
use crate::sim::life::Life;

/// A connection that broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the connection to the API server broke")]
pub struct Broken;

/// One process's connection to the server.
#[derive(Debug, Clone)]
pub struct Transport {
    pub(super) server: ApiServer,
    pub(super) who: Arc<str>,
    pub(super) life: Life,
    pub(super) faults: Arc<dyn Faults>,
}

impl Transport {
    async fn serve(self, request: Request<Body>) -> Result<Response<Answered>, Broken> {
        let (parts, body) = request.into_parts();
        let bytes = body.collect_bytes().await.map_err(|_unreadable| Broken)?;
        let life = self.life.clone();
        // Who is dead sends nothing more, and hears of nothing.
        life.go_on().await;
        let journey = self
            .faults
            .request(&self.who, &parts.method, parts.uri.path());
        let answer = deliver(self.arrives(parts, bytes, journey)).await;
        life.go_on().await;
        answer
    }

    /// What becomes of a request from its sending until its answer is back.
    async fn arrives(
        self,
        parts: Parts,
        bytes: Bytes,
        journey: Journey,
    ) -> Result<Response<Answered>, Broken> {
        let sent = self.server.locked().history.now();
        tokio::time::sleep(journey.there).await;
        if !self.life.delivers() {
            return Err(Broken);
        }
        match journey.fault {
            Some(RequestFault::Lost) => return Err(Broken),
            Some(RequestFault::Refused(refusal)) => return Ok(refused(&refusal)),
            Some(RequestFault::AnswerLost) | None => {}
        }
        let mut answer = self.answer(&parts, (&bytes, sent), journey.lag);
        date(&mut answer, self.server.now());
        if wrote(&parts) && answer.status().is_success() {
            self.life.wrote();
        }
        tokio::time::sleep(journey.back).await;
        match journey.fault {
            Some(RequestFault::AnswerLost) => Err(Broken),
            _ => Ok(answer),
        }
    }

    fn answer(
        &self,
        parts: &Parts,
        (bytes, sent): (&[u8], Timestamp),
        lag: Duration,
    ) -> Response<Answered> {
        let query = Query::parse(parts.uri.query().unwrap_or_default());
        let answer = Route::parse(parts.uri.path()).and_then(|route| {
            if parts.method == Method::GET && query.is_true("watch") {
                let begun = self
                    .server
                    .locked()
                    .begin_watch(&self.who, &route, &query)?;
                let server = self.server.clone();
                let connection = watch::Connection {
                    who: Arc::clone(&self.who),
                    late_by: lag,
                    faults: Arc::clone(&self.faults),
                };
                let body = watch::body(server, &route, &query, begun, connection);
                return Ok((200, body));
            }
            let mut store = self.server.locked();
            store.sent = Some(sent);
            let handled = self.handle(&mut store, parts, (&route, &query), bytes);
            store.sent = None;
            let (code, text) = handled?;
            Ok((code, Answered::from(text)))
        });
        match answer {
            Ok((code, body)) => response(code, body),
            Err(refusal) => refused(&refusal),
        }
    }

    fn handle(
        &self,
        store: &mut Store,
        parts: &Parts,
        (route, query): (&Route, &Query),
        bytes: &[u8],
    ) -> Result<(u16, Bytes), Refusal> {
        let who = &*self.who;
        let key = route.key();
        let subresource = route.subresource.as_deref();
        let named = route.name.is_some();
        let value = match (&parts.method, named, subresource) {
            (&Method::GET, false, None) => return Ok((200, store.list(route, query)?)),
            (&Method::GET, true, None | Some("status")) => store.present(&key)?.clone(),
            (&Method::GET, true, Some("scale")) => store.scale(who, &key, None)?,
            (&Method::POST, _, _) => return post(store, who, route, &read(bytes)?),
            (&Method::PUT | &Method::PATCH, true, Some("scale")) => {
                store.scale(who, &key, Some(&read(bytes)?))?
            }
            (&Method::PUT, true, None | Some("status")) => {
                store.update(who, &key, subresource, Change::Replace, read(bytes)?)?
            }
            (&Method::PATCH, true, None | Some("status")) => {
                let sent = Sent {
                    kind: PatchKind::parse(content_type(parts))?,
                    manager: query.get("fieldManager"),
                    force: query.is_true("force"),
                    body: &read(bytes)?,
                };
                let (made, object) = store.patch(who, &key, subresource, sent)?;
                let code = if made { 201 } else { 200 };
                return Ok((code, Bytes::from(object.to_string())));
            }
            (&Method::DELETE, true, None) => {
                let body = match bytes {
                    [] => Value::Null,
                    bytes => read(bytes)?,
                };
                let options = DeleteOptions::read(key.resource, &body, query)?;
                let object = store.delete(who, &key, &options)?;
                if store.get(&key).is_none() && !is_shown_last(key.resource) {
                    return Ok((200, success(200)));
                }
                object
            }
            _ => return Err(not_served(&parts.method, parts.uri.path())),
        };
        Ok((200, Bytes::from(value.to_string())))
    }
}

/// Creates an object, or asks for what subresources do.
fn post(
    store: &mut Store,
    who: &str,
    route: &Route,
    body: &Value,
) -> Result<(u16, Bytes), Refusal> {
    let key = route.key();
    match (route.name.is_some(), route.subresource.as_deref()) {
        (false, None) => {
            let created = store.create(who, route.resource, &route.namespace, body.clone())?;
            return Ok((201, Bytes::from(created.to_string())));
        }
        (true, Some("eviction")) => store.evict(who, &key, body)?,
        (true, Some("binding")) => {
            let node = text(body, "/target/name");
            store.bind(who, &key, (node, text(body, "/metadata/uid")))?;
        }
        _ => return Err(not_served(&Method::POST, &key.to_string())),
    }
    Ok((201, success(201)))
}

/// Kinds of which a deletion answers with the object although it is gone.
fn is_shown_last(resource: Resource) -> bool {
    matches!(
        resource,
        Resource::Pod | Resource::Volume | Resource::VolumeClaim
    )
}

fn not_served(method: &Method, path: &str) -> Refusal {
    Refusal::new(
        405,
        "MethodNotAllowed",
        format!("{method} is not served on {path}"),
    )
}

fn content_type(parts: &Parts) -> &str {
    let header = parts.headers.get(http::header::CONTENT_TYPE);
    header
        .and_then(|header| header.to_str().ok())
        .unwrap_or_default()
}

fn read(bytes: &[u8]) -> Result<Value, Refusal> {
    serde_json::from_slice(bytes).map_err(|error| Refusal::bad_request(error.to_string()))
}

fn success(code: u16) -> Bytes {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": code,
    });
    Bytes::from(status.to_string())
}

/// True for a request that changes something a process would have to take up again.
fn wrote(parts: &Parts) -> bool {
    let path = parts.uri.path();
    parts.method != Method::GET && !path.contains("/events") && !path.contains("/leases")
}

fn refused(refusal: &Refusal) -> Response<Answered> {
    response(refusal.code, Answered::from(refusal.status().to_string()))
}

fn response(code: u16, body: Answered) -> Response<Answered> {
    let mut response = Response::new(body);
    if let Ok(code) = http::StatusCode::from_u16(code) {
        *response.status_mut() = code;
    }
    response.headers_mut().insert(
        http::header::CONTENT_TYPE,
        http::HeaderValue::from_static("application/json"),
    );
    response
}

/// Every answer says when it was given.
fn date(answer: &mut Response<Answered>, now: Timestamp) {
    let text = DateTimePrinter::new().timestamp_to_rfc9110_string(&now);
    // Times of embedded worlds can be written; a server that says none is one, too.
    if let Some(value) = text.ok().and_then(|text| text.parse().ok()) {
        answer.headers_mut().insert(http::header::DATE, value);
    }
}

impl Service<Request<Body>> for Transport {
    type Response = Response<Answered>;
    type Error = Broken;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(self.clone().serve(request))
    }
}
