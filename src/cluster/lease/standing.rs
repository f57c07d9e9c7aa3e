//! How a process stands in the election, for whoever asks it how it is.

use std::sync::{Arc, Mutex, PoisonError};

/// What keeps a process from ever leading, if anything does; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Standing(Arc<Mutex<Option<String>>>);

impl Standing {
    /// What a person must mend before this process can lead; `None` when nothing.
    pub fn problem(&self) -> Option<String> {
        let problem = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        problem.clone()
    }

    pub(super) fn set_problem(&self, problem: Option<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = problem;
    }
}
