//! The disruption controller: what each budget allows, written into its status.

use serde_json::json;

use super::Cluster;
use crate::sim::api_server::{Key, Resource};

impl Cluster {
    /// Counts every budget.
    pub(super) fn count_budgets(&mut self) {
        let mut budgets: Vec<Key> = Vec::new();
        self.api.each(Resource::DisruptionBudget, |key, _budget| {
            budgets.push(key.clone());
        });
        for key in budgets {
            let Some(state) = self.api.budget(&key) else {
                continue;
            };
            let written =
                self.api
                    .change("disruption-controller", &key, Some("status"), |budget| {
                        budget["status"] = json!({
                            "disruptionsAllowed": state.allowed(),
                            "currentHealthy": state.healthy,
                            "desiredHealthy": state.desired,
                            "expectedPods": state.expected,
                            "observedGeneration": budget["metadata"]["generation"],
                        });
                    });
            if written.is_err() {
                tracing::debug!(budget = %key, "gone already");
            }
        }
    }
}
