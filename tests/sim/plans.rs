//! The plans of the controllers, as they make them: each is held against every constraint.
//!
//! Given each plan by which something is bought and the snapshot that it was made of; given back what is wrong
//! with them. What becomes of a plan is looked at elsewhere.

use std::sync::{Arc, Mutex, PoisonError};

use tonnage::controllers::context::PlanListener;
use tonnage::model::report::ProvisioningPlan;
use tonnage::model::snapshot::Snapshot;
use tonnage::plan::check;

/// What the plans of all controllers of a trial break, as far as nobody has asked.
#[derive(Debug, Clone, Default)]
pub(crate) struct Plans(Arc<Mutex<Found>>);

#[derive(Debug, Default)]
struct Found {
    seen: u64,
    wrong: Vec<String>,
}

impl PlanListener for Plans {
    fn planned(&self, snapshot: &Snapshot, plan: &ProvisioningPlan) {
        let mut found = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        found.seen += 1;
        let wrong = check::violations(snapshot, plan).into_iter();
        found
            .wrong
            .extend(wrong.map(|wrong| format!("a plan breaks a rule: {wrong}")));
    }
}

impl Plans {
    /// What is wrong with the plans since somebody asked last.
    pub(crate) fn take(&self) -> Vec<String> {
        let mut found = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut found.wrong)
    }

    /// How many plans there were.
    pub(crate) fn seen(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).seen
    }
}
