//! The region on a loopback port.
//!
//! Nobody's signature is checked, so nobody from elsewhere may come: other addresses are refused.

use std::future::Future;
use std::net::SocketAddr;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use tokio::net::TcpListener;

use super::Endpoint;

/// Why the region is not served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Others could reach it.
    #[error(
        "--listen {0}: the simulated EC2 checks no signatures and is served on loopback only: use \
         127.0.0.1:{port} or [::1]:{port}",
        port = .0.port()
    )]
    NotLoopback(SocketAddr),
    /// The port cannot be had.
    #[error(
        "--listen {address}: the address cannot be listened on; choose a free port, or 0 for any"
    )]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// Serving failed.
    #[error("the simulated EC2 cannot go on serving")]
    Serve(#[source] std::io::Error),
}

/// Listens on a loopback address; port 0 is any free one.
///
/// # Errors
/// The address is not loopback, or cannot be had.
pub async fn listen(address: SocketAddr) -> Result<TcpListener, ServeError> {
    if !address.ip().is_loopback() {
        return Err(ServeError::NotLoopback(address));
    }
    TcpListener::bind(address)
        .await
        .map_err(|source| ServeError::Listen { address, source })
}

/// Serves until `stop`, and then what has begun.
///
/// # Errors
/// The listener failed.
pub async fn serve(
    listener: TcpListener,
    endpoint: Endpoint,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<(), ServeError> {
    let router = Router::new().route("/", post(answer)).with_state(endpoint);
    axum::serve(listener, router)
        .with_graceful_shutdown(stop)
        .await
        .map_err(ServeError::Serve)
}

async fn answer(State(endpoint): State<Endpoint>, headers: HeaderMap, body: Bytes) -> Response {
    let target = headers.get("x-amz-target");
    let target = target.and_then(|target| target.to_str().ok());
    match endpoint.answer(target, &body).await {
        Some(answer) => {
            let status =
                StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            let kind = [(header::CONTENT_TYPE, answer.kind)];
            (status, kind, answer.body).into_response()
        }
        // On a port somebody waits in real time: a lost answer is the gateway's.
        None => StatusCode::GATEWAY_TIMEOUT.into_response(),
    }
}
