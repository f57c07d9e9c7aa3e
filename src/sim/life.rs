//! Whether a process of the embedded world still lives.
//!
//! A process that was killed waits for ever for its next answer: what it asked before may have taken
//! effect, and it never learns. It can be told to die right after one of its writes.

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

    /// Dies right after so many writes, each of which takes effect.
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

    /// Counts a write that took effect, and goes on only if it survived it.
    pub async fn wrote(&self) {
        {
            let mut state = self.locked();
            state.writes += 1;
            state.dead |= state.fatal.is_some_and(|fatal| state.writes >= fatal);
        }
        self.go_on().await;
    }
}

impl Default for Life {
    fn default() -> Self {
        Self::new()
    }
}
