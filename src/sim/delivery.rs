//! What was sent arrives, whatever becomes of its sender.
//!
//! Given all that happens to a request from its sending until its answer is back; given back what comes of it, to
//! whoever still listens. It is a task of the runtime that the world lives on, begun in the order of sending: a
//! sender that gives up, loses its lease or dies takes nothing back that is on its way. What is still on its way at
//! the end of the runtime never arrives.

use std::panic::resume_unwind;

/// Sends something off, and waits for what comes of it.
pub(super) async fn deliver<T: Send + 'static>(
    delivery: impl Future<Output = T> + Send + 'static,
) -> T {
    match tokio::spawn(delivery).await {
        Ok(outcome) => outcome,
        Err(error) => match error.try_into_panic() {
            // A defect of the world is one of whoever met it.
            Ok(panic) => resume_unwind(panic),
            Err(_ended) => std::future::pending().await,
        },
    }
}
