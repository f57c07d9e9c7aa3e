//! Ways of being broken towards the API server: what is asked, and what is understood of the answers.

use std::task::{Context, Poll};

use axum::body::{Body as Answer, Bytes};
use futures::StreamExt as _;
use futures::future::BoxFuture;
use http::request::Parts;
use http::{Method, Request, Response};
use kube::client::Body;
use serde_json::{Value, json};
use tonnage::api::labels;
use tonnage::controllers::assembly::Connections;
use tower::Service;

use crate::checks::PROTECTED;
use crate::limits;

/// A request as it is sent.
pub(super) struct Asked {
    parts: Parts,
    body: Vec<u8>,
}

/// What becomes of a request.
pub(super) enum Way {
    /// It is sent.
    Sent(Asked),
    /// It is sent, and in every piece of the answer the one text is read as the other.
    Misread(Asked, String, String),
    /// What it is about is read so many times at once, then it is sent.
    AfterReading(Asked, usize),
    /// It is never sent, and who waits for it takes no time.
    Never,
    /// It is not sent, and this is taken for the answer.
    Invented(Value),
}

/// How often something is read that is read in a circle.
const AGAIN: usize = 2_500;

/// What is done with requests.
pub(super) type Between = fn(Asked) -> Way;

#[derive(Clone)]
struct Altered {
    inner: kube::Client,
    between: Between,
}

/// Puts it between.
pub(super) fn between(connections: Connections, between: Between) -> Connections {
    let inner = connections.client;
    Connections {
        client: kube::Client::new(Altered { inner, between }, "default"),
        ..connections
    }
}

impl Asked {
    fn is(&self, method: &Method, path: &str) -> bool {
        self.parts.method == *method && self.parts.uri.path().contains(path)
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    fn with(self, body: &Value) -> Self {
        Self {
            body: body.to_string().into_bytes(),
            ..self
        }
    }

    /// Every answer about a kind, lists and watches included.
    fn misread(self, path: &str, from: String, to: String) -> Way {
        if self.is(&Method::GET, path) {
            Way::Misread(self, from, to)
        } else {
            Way::Sent(self)
        }
    }
}

/// Claims are made without the finalizer.
pub(super) fn without_finalizers(asked: Asked) -> Way {
    if !asked.is(&Method::POST, "/nodeclaims") {
        return Way::Sent(asked);
    }
    let mut claim = asked.json();
    claim["metadata"]["finalizers"] = json!([]);
    Way::Sent(asked.with(&claim))
}

/// One limit of a NodePool is read as higher than it is.
fn with_limit(asked: Asked, name: &str, raised: &str) -> Way {
    let limits = |limits: &Value| format!("\"limits\":{limits}");
    let real = limits::of_pool();
    let mut changed = real.clone();
    changed[name] = json!(raised);
    asked.misread("/nodepools", limits(&real), limits(&changed))
}

/// More machines than a NodePool may have.
pub(super) fn more_nodes(asked: Asked) -> Way {
    with_limit(asked, "nodes", "9")
}

/// More vCPUs than a NodePool may have.
pub(super) fn more_cpu(asked: Asked) -> Way {
    with_limit(asked, "cpu", "99")
}

/// Machines are never taken for empty.
pub(super) fn never_empty(asked: Asked) -> Way {
    let after = |after: &str| format!("\"consolidateAfter\":\"{after}\"");
    asked.misread("/nodepools", after("10s"), after("Never"))
}

/// A list of claims that has nothing has one that nobody needs, and so no reason to be doubted.
pub(super) fn empty_lists_filled(asked: Asked) -> Way {
    let nobody = json!({
        "apiVersion": "karpenter.sh/v1", "kind": "NodeClaim",
        "metadata": {
            "name": "nobody", "uid": "nobody", "resourceVersion": "1",
            "creationTimestamp": "2027-01-15T08:00:00Z", "deletionTimestamp": "2027-01-15T08:00:00Z",
        },
        "spec": {
            "requirements": [],
            "nodeClassRef": { "group": "tonnage.dev", "kind": "EC2NodeClass", "name": "default" },
        },
    });
    let items = |items: &str| format!("\"items\":[{items}]");
    asked.misread("/nodeclaims", items(""), items(&nobody.to_string()))
}

/// The API server is not asked which pods are on a Node.
pub(super) fn stale_pods(asked: Asked) -> Way {
    let query = asked.parts.uri.query().unwrap_or_default();
    if asked.is(&Method::GET, "/pods") && query.contains("spec.nodeName") {
        return Way::Invented(json!({
            "apiVersion": "v1", "kind": "PodList",
            "metadata": { "resourceVersion": "1" }, "items": [],
        }));
    }
    Way::Sent(asked)
}

/// Pods are deleted where they should be evicted.
pub(super) fn deletes_pods(mut asked: Asked) -> Way {
    let path = asked.parts.uri.path().to_owned();
    let Some(pod) = path.strip_suffix("/eviction") else {
        return Way::Sent(asked);
    };
    if let Ok(uri) = pod.parse() {
        asked.parts.uri = uri;
        asked.parts.method = Method::DELETE;
    }
    let options = asked.json()["deleteOptions"].clone();
    Way::Sent(asked.with(&options))
}

/// What a claim says is read over and over before each change of it.
pub(super) fn asks_again(asked: Asked) -> Way {
    if asked.is(&Method::PATCH, "/nodeclaims/") {
        return Way::AfterReading(asked, AGAIN);
    }
    Way::Sent(asked)
}

/// No claim is ever made, and time stands still.
pub(super) fn goes_round(asked: Asked) -> Way {
    if asked.is(&Method::POST, "/nodeclaims") {
        return Way::Never;
    }
    Way::Sent(asked)
}

/// That a pod must not be disrupted is not understood.
pub(super) fn protection_unread(asked: Asked) -> Way {
    let said = |word: &str| format!("\"{PROTECTED}\":\"{word}\"");
    asked.misread("/pods", said("true"), said("unread"))
}

/// Nodes are fenced with a taint that nobody heeds.
pub(super) fn without_fence(asked: Asked) -> Way {
    if !asked.is(&Method::PATCH, "/nodes/") {
        return Way::Sent(asked);
    }
    let mut patch = asked.json();
    // Other patches of Nodes are lists of operations.
    let taints = patch.pointer_mut("/spec/taints");
    for taint in taints.and_then(Value::as_array_mut).into_iter().flatten() {
        if taint["key"] == labels::DISRUPTED_TAINT {
            taint["effect"] = json!("PreferNoSchedule");
        }
    }
    Way::Sent(asked.with(&patch))
}

impl Service<Request<Body>> for Altered {
    type Response = Response<Answer>;
    type Error = kube::Error;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let Self { inner, between } = self.clone();
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let body = body.collect_bytes().await?.to_vec();
            match between(Asked { parts, body }) {
                Way::Sent(asked) => Ok(inner.send(asked.into()).await?.map(Answer::new)),
                Way::Misread(asked, from, to) => {
                    let answer = inner.send(asked.into()).await?;
                    Ok(answer.map(|body| {
                        let pieces = Answer::new(body).into_data_stream();
                        Answer::from_stream(
                            pieces
                                .map(move |piece| piece.map(|piece| replaced(&piece, &from, &to))),
                        )
                    }))
                }
                Way::AfterReading(asked, times) => {
                    let read = |_time| {
                        let request = Request::get(asked.parts.uri.clone()).body(Body::empty());
                        let inner = inner.clone();
                        async move { inner.send(request.ok()?).await.ok() }
                    };
                    drop(futures::future::join_all((0..times).map(read)).await);
                    Ok(inner.send(asked.into()).await?.map(Answer::new))
                }
                Way::Never => loop {
                    tokio::task::yield_now().await;
                },
                Way::Invented(answer) => Ok(Response::new(Answer::from(answer.to_string()))),
            }
        })
    }
}

impl From<Asked> for Request<Body> {
    fn from(asked: Asked) -> Self {
        Self::from_parts(asked.parts, Body::from(asked.body))
    }
}

fn replaced(piece: &Bytes, from: &str, to: &str) -> Bytes {
    let text = String::from_utf8_lossy(piece);
    Bytes::from(text.replace(from, to))
}
