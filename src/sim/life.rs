//! Whether a process of the embedded world still lives.
//!
//! A process that was killed sends nothing more and waits for ever for its next answer: what it sent before
//! takes effect, and it never learns. It can be told to die right after one of its writes: then none of those that
//! it sent beside that one arrives, so that what is written by half is met.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

#[derive(Debug)]
struct State {
    dead: bool,
    writes: usize,
    fatal: Option<usize>,
}

/// The life of one process; clones share it.
#[derive(Debug, Clone)]
pub struct Life(Arc<Mutex<State>>);

impl Life {
    /// A process that nothing but [`Self::kill`] ends.
    pub fn new() -> Self {
        Self::fatal_after(None)
    }

    /// Dies right after so many writes, each of which takes effect, and no other ever does.
    pub fn fatal_after(fatal: Option<usize>) -> Self {
        Self(Arc::new(Mutex::new(State {
            dead: false,
            writes: 0,
            fatal,
        })))
    }

    fn locked(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends it.
    pub fn kill(&self) {
        self.locked().dead = true;
    }

    /// True once it was killed.
    pub fn is_dead(&self) -> bool {
        self.locked().dead
    }

    /// How many writes it made.
    pub fn writes(&self) -> usize {
        self.locked().writes
    }

    /// Goes on only while it lives.
    pub async fn go_on(&self) {
        if self.is_dead() {
            std::future::pending::<()>().await;
        }
    }

    /// Counts a write that took effect, after which it may be dead.
    pub fn wrote(&self) {
        let mut state = self.locked();
        state.writes += 1;
        state.dead |= state.fatal.is_some_and(|fatal| state.writes >= fatal);
    }

    /// Whether what it has sent arrives: not once it has died of its last write.
    pub fn delivers(&self) -> bool {
        let state = self.locked();
        state.fatal.is_none_or(|fatal| state.writes < fatal)
    }
}

impl Default for Life {
    fn default() -> Self {
        Self::new()
    }
}
