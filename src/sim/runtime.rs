//! The runtime that an embedded world lives on: one thread, and time that jumps.

use std::future::Future;
use std::io;

/// Runs a world from its beginning to the end of `future`. Time is virtual: it stands still while
/// anything can run, and jumps to the next timer when nothing can.
///
/// # Errors
/// When the operating system gives no runtime.
pub fn run<T>(future: impl Future<Output = T>) -> io::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()?;
    Ok(runtime.block_on(future))
}
