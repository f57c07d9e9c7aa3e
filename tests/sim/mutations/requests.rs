//! Ways of being broken towards the API server: what is asked, and what is understood of the answers.

use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::{Body as Answer, Bytes};
use futures::StreamExt as _;
use futures::future::BoxFuture;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{Method, Request, Response};
use kube::client::Body;
use serde_json::{Value, json};
use tonnage::api::labels;
use tonnage::controllers::assembly::Connections;
use tonnage::settings::LeaseSettings;
use tonnage::sim::Embedded;
use tonnage::sim::api_server::{Key, Resource};
use tower::Service;

use crate::checks::PROTECTED;
use crate::trial::LIMITED;

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
    /// It is sent, and then what it is about is patched.
    ThenPatched(Asked, Value),
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
type Between = dyn Fn(Asked) -> Way + Send + Sync;

#[derive(Clone)]
struct Altered {
    inner: kube::Client,
    between: Arc<Between>,
}

/// Puts it between.
pub(super) fn between(
    connections: Connections,
    between: impl Fn(Asked) -> Way + Send + Sync + 'static,
) -> Connections {
    let altered = Altered {
        inner: connections.client,
        between: Arc::new(between),
    };
    Connections {
        client: kube::Client::new(altered, "default"),
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

/// What holds a claim goes as soon as its deletion is asked for.
pub(super) fn drops_finalizers(asked: Asked) -> Way {
    if !asked.is(&Method::DELETE, "/nodeclaims/") {
        return Way::Sent(asked);
    }
    Way::ThenPatched(asked, json!({ "metadata": { "finalizers": [] } }))
}

/// Claims are made with a deadline for their pods that is over as soon as anybody looks.
pub(super) fn with_deadlines(world: &Embedded, connections: Connections) -> Connections {
    let clock = Arc::clone(&world.clock);
    between(connections, move |asked| {
        if !asked.is(&Method::POST, "/nodeclaims") {
            return Way::Sent(asked);
        }
        let mut claim = asked.json();
        let now = json!(clock.now().to_string());
        claim["metadata"]["annotations"][labels::TERMINATION_TIMESTAMP] = now;
        Way::Sent(asked.with(&claim))
    })
}

/// One limit of the NodePool that has some is read as another amount, as long as nobody raises it.
pub(super) fn with_limit(
    world: &Embedded,
    connections: Connections,
    (name, amount): (&'static str, &'static str),
) -> Connections {
    let api = world.api.clone();
    between(connections, move |asked| {
        let pool = Key::new(Resource::NodePool, "", LIMITED);
        let real = api.read(&pool, |pool| pool["spec"]["limits"].clone());
        let real = real.unwrap_or_default();
        let mut changed = real.clone();
        changed[name] = json!(amount);
        let limits = |limits: &Value| format!("\"limits\":{limits}");
        asked.misread("/nodepools", limits(&real), limits(&changed))
    })
}

/// A pod's selector as answers have it.
fn selector(selector: &Value) -> String {
    format!("\"nodeSelector\":{selector}")
}

/// That of pods for a NodePool.
fn for_pool(pool: &str) -> String {
    selector(&json!({ labels::NODE_POOL: pool }))
}

/// Pods for one NodePool are taken for pods for another, which there is not.
pub(super) fn other_pool(asked: Asked) -> Way {
    asked.misread("/pods", for_pool(LIMITED), for_pool("unread"))
}

/// Whoever holds the lease is thought to have promised a second of it.
pub(super) fn short_promise(asked: Asked) -> Way {
    let promised = |seconds: u64| format!("\"leaseDurationSeconds\":{seconds}");
    let real = LeaseSettings::default().duration.as_secs();
    asked.misread("/leases/", promised(real), promised(1))
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

/// The API server is not asked which pods are on a Node, and the watch is as slow as one can be: that pods were bound
/// shows with the next list.
pub(super) fn stale_pods(asked: Asked) -> Way {
    let query = asked.parts.uri.query().unwrap_or_default();
    if asked.is(&Method::GET, "/pods") && query.contains("spec.nodeName") {
        return Way::Invented(json!({
            "apiVersion": "v1", "kind": "PodList",
            "metadata": { "resourceVersion": "1" }, "items": [],
        }));
    }
    if query.contains("watch=") {
        return asked.misread(
            "/pods",
            "\"nodeName\":".to_owned(),
            "\"unread\":".to_owned(),
        );
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

/// What the largest pods of a trial ask for is read as a tenth of it.
pub(super) fn smaller_pods(asked: Asked) -> Way {
    let cpu = |amount: &str| format!("\"cpu\":\"{amount}\"");
    asked.misread("/pods", cpu("3"), cpu("300m"))
}

/// That a pod is for one NodePool is not understood.
pub(super) fn selectors_unread(asked: Asked) -> Way {
    asked.misread("/pods", for_pool(LIMITED), selector(&json!({})))
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
                Way::ThenPatched(asked, patch) => {
                    let uri = asked.parts.uri.clone();
                    let answer = inner.send(asked.into()).await?;
                    let patch = Request::patch(uri)
                        .header(CONTENT_TYPE, "application/merge-patch+json")
                        .body(Body::from(patch.to_string().into_bytes()));
                    if let Ok(patch) = patch {
                        // It may be gone already.
                        drop(inner.send(patch).await);
                    }
                    Ok(answer.map(Answer::new))
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
