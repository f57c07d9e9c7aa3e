//! Logs, and the HTTP endpoints that say how the process is.
//!
//! Given a format and a filter, logs go to standard error, one line each. Given an address and what
//! readiness depends on, /healthz answers while the runtime turns, /readyz once everything is known
//! (with what is missing until then), /metrics with every figure. No secret is ever logged here.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;
use tracing_subscriber::EnvFilter;

use crate::metrics::Metrics;
use crate::settings::LogFormat;
use crate::world::World;

/// A log filter that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error(
    "--log-level: `{filter}` is not a filter: write a level, or for example info,tonnage::plan=debug"
)]
pub struct FilterError {
    filter: String,
    source: tracing_subscriber::filter::ParseError,
}

/// Starts logging.
///
/// # Errors
/// [`FilterError`] when the filter cannot be read.
pub fn start_logs(format: LogFormat, filter: &str) -> Result<(), FilterError> {
    let parsed = EnvFilter::try_new(filter).map_err(|source| FilterError {
        filter: filter.to_owned(),
        source,
    })?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(parsed)
        .with_writer(std::io::stderr);
    match format {
        LogFormat::Json => builder.json().flatten_event(true).init(),
        LogFormat::Text => builder.with_ansi(false).init(),
    }
    Ok(())
}

/// What is still missing for readiness, one sentence each; empty when ready.
pub type Readiness = Arc<dyn Fn() -> Vec<String> + Send + Sync>;

/// Brings figures up to date that are only worth counting when somebody looks.
pub type Refresh = Arc<dyn Fn(&Metrics) + Send + Sync>;

#[derive(Clone)]
struct Endpoints {
    metrics: Arc<Metrics>,
    refresh: Refresh,
    readiness: Readiness,
}

/// Serves the endpoints until the world stops.
///
/// # Errors
/// When the address cannot be listened on.
pub async fn serve(
    address: SocketAddr,
    (metrics, refresh): (Arc<Metrics>, Refresh),
    readiness: Readiness,
    world: &World,
) -> std::io::Result<()> {
    let listener = TcpListener::bind(address).await?;
    let router = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(figures))
        .with_state(Endpoints {
            metrics,
            refresh,
            readiness,
        });
    let stop = world.stop().clone();
    world.spawn(async move {
        let served = axum::serve(listener, router)
            .with_graceful_shutdown(async move { stop.cancelled().await })
            .await;
        if let Err(error) = served {
            tracing::error!(%error, "the HTTP endpoints ended");
        }
    });
    Ok(())
}

async fn readyz(State(endpoints): State<Endpoints>) -> impl IntoResponse {
    let missing = (endpoints.readiness)();
    if missing.is_empty() {
        (StatusCode::OK, "ok\n".to_owned())
    } else {
        (
            StatusCode::SERVICE_UNAVAILABLE,
            format!("not ready: {}\n", missing.join("; ")),
        )
    }
}

async fn figures(State(endpoints): State<Endpoints>) -> impl IntoResponse {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    (endpoints.refresh)(&endpoints.metrics);
    ([(header::CONTENT_TYPE, kind)], endpoints.metrics.text())
}
