//! Waiting with a deadline, for every test against something real: nothing else there sleeps.

use std::future::Future;
use std::time::Duration;

use tokio::time::Instant;

/// Polls until `check` gives a value; panics with its last complaint at the deadline.
pub(crate) async fn eventually<T, F>(what: &str, seconds: u64, mut check: impl FnMut() -> F) -> T
where
    F: Future<Output = Result<T, String>>,
{
    let deadline = Instant::now() + Duration::from_secs(seconds);
    loop {
        let complaint = match check().await {
            Ok(value) => return value,
            Err(complaint) => complaint,
        };
        assert!(
            Instant::now() < deadline,
            "after {seconds} s not yet: {what}\n{complaint}"
        );
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
