//! A controller that believes it leads for ever: what the checks must find.
//!
//! It sits between kube's client and the API server, and answers every renewal of a lease that the
//! server refuses or does not answer as if it had been granted.

use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use http::{Method, Request, Response};
use kube::client::Body;
use serde_json::Value;
use tower::Service;

/// A deceived client.
#[derive(Clone)]
pub(crate) struct Deceived(kube::Client);

/// The client of a controller that believes it leads for ever once it has led.
pub(crate) fn client(inner: kube::Client) -> kube::Client {
    kube::Client::new(Deceived(inner), "default")
}

/// True for a renewal, as against taking or releasing a lease.
fn renews(lease: &Value) -> bool {
    let spec = &lease["spec"];
    spec["holderIdentity"].is_string() && spec["renewTime"] != spec["acquireTime"]
}

impl Service<Request<Body>> for Deceived {
    type Response = Response<Body>;
    type Error = kube::Error;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let client = self.0.clone();
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let renewal = parts.method == Method::PUT && parts.uri.path().contains("/leases/");
            let bytes = body.collect_bytes().await?;
            let request = Request::from_parts(parts, Body::from(bytes.to_vec()));
            let lease: Value = serde_json::from_slice(&bytes).unwrap_or_default();
            if !renewal || !renews(&lease) {
                return client.send(request).await;
            }
            let answer = tokio::time::timeout(Duration::from_secs(1), client.send(request)).await;
            match answer {
                Ok(Ok(granted)) if granted.status().is_success() => Ok(granted),
                _ => Ok(Response::new(Body::from(bytes.to_vec()))),
            }
        })
    }
}
