//! The whole plan, made again with other requests of some pods.
//!
//! Given a snapshot and edits; given back the plan for all pods that wait, those that nobody edited
//! included, on the nodes that are there or on their way and on new ones. Every plan is counted, so that
//! the work of advice has a bound.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::change::Change;
use crate::model::money::UsdPerHour;
use crate::model::pod::{Pod, PodSpec};
use crate::model::report::ProvisioningPlan;
use crate::model::snapshot::Snapshot;
use crate::plan::provision::{ProvisionSettings, provision};

/// The share of the search budget that a quick plan gets: one in so many units.
const QUICK_PART: u64 = 10;

/// How much search a plan is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effort {
    /// A tenth of the budget: to choose what is worth a closer look.
    Quick,
    /// All of the budget, as for the plan that would be carried out.
    Full,
}

/// Pods and the requests that they would have.
#[derive(Debug, Clone, Copy)]
pub struct Edit<'advice> {
    /// The pods.
    pub pods: &'advice [Arc<Pod>],
    /// What changes.
    pub change: &'advice Change,
}

/// Makes plans of one world, and counts them.
#[derive(Debug)]
pub struct Planner<'world> {
    snapshot: &'world Snapshot,
    full: &'world ProvisionSettings,
    quick: ProvisionSettings,
    /// Plans made so far.
    pub plans: usize,
}

impl<'world> Planner<'world> {
    /// A planner for a world.
    pub fn new(snapshot: &'world Snapshot, settings: &'world ProvisionSettings) -> Self {
        Self {
            snapshot,
            full: settings,
            quick: ProvisionSettings {
                budget_units: settings.budget_units / QUICK_PART,
                ..settings.clone()
            },
            plans: 0,
        }
    }

    /// The plan of the whole world with these edits.
    pub fn plan(&mut self, edits: &[Edit<'_>], effort: Effort) -> ProvisioningPlan {
        self.plans += 1;
        let settings = match effort {
            Effort::Quick => &self.quick,
            Effort::Full => self.full,
        };
        if edits.is_empty() {
            return provision(self.snapshot, settings);
        }
        let mut world = self.snapshot.clone();
        for edit in edits {
            // Pods of one template share their spec, before and after.
            let mut changed: BTreeMap<*const PodSpec, Arc<PodSpec>> = BTreeMap::new();
            for pod in edit.pods {
                let spec = changed
                    .entry(Arc::as_ptr(&pod.spec))
                    .or_insert_with(|| Arc::new(edit.change.apply(&pod.spec)));
                let pod = Pod {
                    spec: Arc::clone(spec),
                    ..Pod::clone(pod)
                };
                world.pods.insert(pod.key.clone(), Arc::new(pod));
            }
        }
        provision(&world, settings)
    }
}

/// What a plan with edits is against the plan without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Effect {
    /// What the whole plan costs with the edits.
    pub price: UsdPerHour,
    /// How much less that is; negative when more pods have a place and it costs more.
    pub saves: UsdPerHour,
    /// How many pods have a place that have none without the edits.
    pub places: usize,
}

impl Effect {
    /// Compares two plans of one effort; `None` when some pod loses its place, since such a plan is
    /// no answer to the same question.
    pub fn of(now: &ProvisioningPlan, then: &ProvisioningPlan) -> Option<Self> {
        let loses = |pod| !now.unschedulable.contains_key(pod);
        if then.unschedulable.keys().any(loses) {
            return None;
        }
        Some(Self {
            price: then.price,
            saves: now.price - then.price,
            places: now.unschedulable.len() - then.unschedulable.len(),
        })
    }
}
