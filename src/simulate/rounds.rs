//! Planning rounds and the search for empty nodes: the controller's decisions, folded into the world.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::PlanFault;
use super::agenda::{Event, PodId};
use super::demand::STEP;
use super::engine::{Engine, condition};
use super::outcome::NeverPlaced;
use super::pods::Stage;
use crate::api::conditions::{ConditionReason, ConditionType};
use crate::api::labels;
use crate::model::claim::{Claim, ConditionStatus};
use crate::model::pod::PodKey;
use crate::model::report::{PlannedNode, ProvisioningPlan, ReasonKind, Unschedulable};
use crate::model::resources::Resources;
use crate::model::snapshot::Snapshot;
use crate::model::taint::{Taint, TaintEffect};
use crate::plan::check;
use crate::plan::empty::{self, EmptyStep, Planned};
use crate::plan::provision::provision_proven;

/// How long a burst may pause before it is planned for, milliseconds: the controller's default.
const BATCH_IDLE: i64 = 1_000;
/// How long a burst may last before it is planned for, milliseconds: the controller's default.
const BATCH_MAX: i64 = 10_000;
/// The least time between two rounds for pods that nothing was found for, milliseconds.
const AGAIN: i64 = 10_000;
/// Looks at empty nodes in one moment: fence, then remove, and one to see that nothing is left to do.
const LOOKS: usize = 4;

/// What the last round found.
#[derive(Debug, Default)]
pub(super) struct Standing {
    /// Pods by the claim or Node that they were planned onto.
    pub(super) onto: BTreeMap<String, Vec<PodKey>>,
    /// Pods that nothing was found for, and why.
    left: BTreeMap<PodKey, Unschedulable>,
    burst_began: Option<i64>,
    planned_at: i64,
}

/// Pods that are left out for the same reason.
#[derive(Debug, Default)]
struct Group {
    pods: usize,
    loads: BTreeSet<usize>,
    reasons: BTreeSet<ReasonKind>,
}

/// True when what keeps a pod out may pass by itself.
fn may_change(why: &Unschedulable) -> bool {
    why.reasons.iter().any(|reason| {
        matches!(
            reason.reason,
            ReasonKind::OfferingsUnavailable
                | ReasonKind::LimitReached
                | ReasonKind::PriceCeiling
                | ReasonKind::TopologyUnsatisfiable
        )
    })
}

impl Engine<'_> {
    /// Pods arrived that no node takes: a round is due when the burst is over.
    pub(super) fn wait_for_more(&mut self) {
        let began = *self.standing.burst_began.get_or_insert(self.now);
        let due = (self.now + BATCH_IDLE).min(began + BATCH_MAX);
        self.plan_due = Some(due);
    }

    /// Plans when a burst is over, or when pods that were left out may have a chance.
    pub(super) fn plan_if_due(&mut self) {
        let burst = self.plan_due.is_some_and(|due| due <= self.now);
        let again = self.retry_from.is_some_and(|due| due <= self.now)
            && self.now >= self.standing.planned_at + AGAIN;
        let needed = || self.standing.left.values().any(may_change) || self.has_strays();
        if burst || (again && needed()) {
            self.plan();
        } else if again {
            self.retry_from = None;
        } else if let Some(due) = self.retry_from {
            self.retry_from = Some(due.max(self.standing.planned_at + AGAIN));
        }
    }

    /// A machine that pods were planned onto is ready or goes: those that still wait are planned again.
    pub(super) fn look_for_strays(&mut self) {
        let due = self.standing.planned_at + AGAIN;
        let sooner = self.retry_from.map_or(due, |at| at.min(due));
        self.retry_from = Some(sooner.max(self.now));
    }

    /// True when a pod waits that neither has a place on its way nor was left out with a reason.
    fn has_strays(&self) -> bool {
        let coming = |name: &String| {
            self.snapshot
                .claims
                .get(name)
                .is_some_and(|claim| claim.node_name.is_empty() && claim.deleting_since.is_none())
        };
        let expected: BTreeSet<&PodKey> = self
            .standing
            .onto
            .iter()
            .filter(|(name, _pods)| coming(name))
            .flat_map(|(_name, pods)| pods)
            .collect();
        let mut waiting = self.pods.waiting.values().flatten();
        waiting.any(|(_arrived, id)| {
            self.key(*id).is_some_and(|key| {
                !expected.contains(&key) && !self.standing.left.contains_key(&key)
            })
        })
    }

    fn plan(&mut self) {
        let now = self.time();
        self.plan_due = None;
        self.standing.burst_began = None;
        self.standing.planned_at = self.now;
        self.retry_from = None;
        self.snapshot.now = now;
        self.snapshot.node_classes = self.prices.classes(now).clone();
        self.launches.forget(&self.snapshot);
        self.launches.shortages.mark(&mut self.snapshot);
        let (plan, violation) = self.planned();
        self.fault = violation.map(|violation| PlanFault {
            variant: self.variant.name.clone(),
            at: now,
            violation,
        });
        self.tally.figures.rounds += 1;
        let onto_nodes = !plan.existing.is_empty();
        self.standing.onto = plan.existing;
        self.standing.onto.extend(plan.in_flight);
        self.standing.left = plan.unschedulable;
        let known = self.claim_names.len();
        for node in &plan.new_nodes {
            self.claim(node);
        }
        if self.standing.left.values().any(may_change) {
            // Prices move and shortages end.
            self.retry_from = Some((self.now.div_euclid(STEP) + 1) * STEP);
        }
        if onto_nodes {
            self.look_for_strays();
        }
        if !plan.new_nodes.is_empty() {
            self.launch();
            self.limit_patience(known);
        }
        self.look_at_empties = true;
    }

    /// The planner's answer, and what is wrong with it. Pods wait because no node takes them, so nodes that are there matter only to
    /// pods that look at other pods; for the rest they are shut, which saves reading what is on them.
    fn planned(&self) -> (ProvisioningPlan, Option<String>) {
        let waiting = self.pods.waiting.keys();
        let mut classes = waiting.filter_map(|class| self.pods.classes.get(*class));
        if classes.any(|class| class.social) {
            return self.judged(&self.snapshot);
        }
        let waiting = self.pods.waiting.values().flatten();
        let pods = waiting.filter_map(|(_arrived, id)| {
            let key = self.key(*id)?;
            let pod = Arc::clone(self.snapshot.pods.get(&key)?);
            Some((key, pod))
        });
        let known = &self.snapshot;
        let stage = Snapshot {
            pods: pods.collect(),
            nodes: self.shut.clone(),
            claims: known.claims.clone(),
            node_pools: known.node_pools.clone(),
            node_classes: known.node_classes.clone(),
            daemon_sets: known.daemon_sets.clone(),
            volume_claims: known.volume_claims.clone(),
            namespaces: known.namespaces.clone(),
            ..Snapshot::empty(known.now)
        };
        self.judged(&stage)
    }

    fn judged(&self, snapshot: &Snapshot) -> (ProvisioningPlan, Option<String>) {
        let (plan, proofs) = provision_proven(snapshot, &self.variant.settings, &|| false);
        let wrong = check::faults(snapshot, &plan, &proofs);
        (plan, wrong.into_iter().next())
    }

    /// Makes the claim of a planned node.
    fn claim(&mut self, node: &PlannedNode) {
        let Some(pool) = self.snapshot.node_pools.get(&node.node_pool) else {
            return;
        };
        let number = self.claim_names.len();
        let name = format!("{}-{number:07}", node.node_pool);
        let mut known = pool.labels.clone();
        known.extend(node.labels.clone());
        known.insert(labels::NODE_POOL.to_owned(), pool.name.clone());
        known.insert(labels::NODE_CLASS.to_owned(), pool.node_class.clone());
        let mut annotations = pool.annotations.clone();
        annotations.extend(node.annotations.clone());
        let claim = Claim {
            name: name.clone(),
            uid: format!("claim-{number:07}"),
            resource_version: String::new(),
            generation: 1,
            created: self.time(),
            deleting_since: None,
            finalizers: Vec::new(),
            node_pool: Some(pool.name.clone()),
            node_class: pool.node_class.clone(),
            labels: Arc::new(known),
            annotations,
            taints: pool.taints.clone(),
            startup_taints: pool.startup_taints.clone(),
            requests: node.requests.clone(),
            offerings: node.offerings.as_slice().into(),
            launch: None,
            termination_grace: pool.termination_grace,
            expire_after: pool.expire_after,
            provider_id: String::new(),
            node_name: String::new(),
            capacity: Resources::new(),
            allocatable: Resources::new(),
            conditions: BTreeMap::new(),
            last_pod_event: None,
        };
        self.claim_names.push(name.clone());
        self.standing.onto.insert(name.clone(), node.pods.clone());
        self.snapshot.claims.insert(name, Arc::new(claim));
    }

    /// Claims from a number on that are not launched yet will be given up.
    fn limit_patience(&mut self, from: usize) {
        for number in from..self.claim_names.len() {
            let claim = self.claim_names.get(number);
            let claim = claim.and_then(|name| self.snapshot.claims.get(name));
            let Some(claim) = claim.filter(|claim| claim.provider_id.is_empty()) else {
                continue;
            };
            let pool = claim.node_pool.as_ref();
            let pool = pool.and_then(|name| self.snapshot.node_pools.get(name));
            let patience = pool.map_or(0, |pool| pool.launch_timeout.as_millis());
            let patience = i64::try_from(patience).unwrap_or(i64::MAX);
            let at = self.now.saturating_add(patience);
            self.agenda.plan(at, Event::GiveUp(number));
        }
    }

    /// A claim that was not launched in time is given up, and its pods are planned again.
    pub(super) fn give_up(&mut self, number: usize) {
        let Some(name) = self.claim_names.get(number) else {
            return;
        };
        let waits = self
            .snapshot
            .claims
            .get(name)
            .is_some_and(|claim| claim.provider_id.is_empty());
        if waits {
            self.snapshot.claims.remove(name);
            self.tally.figures.given_up += 1;
            self.plan_due = Some(self.now);
        }
    }

    /// Asks which nodes have been empty for long enough, and lets them go.
    pub(super) fn let_go_of_empties(&mut self) {
        let due = self.empty_due.is_some_and(|due| due <= self.now);
        if !due && !self.look_at_empties {
            return;
        }
        for _look in 0..LOOKS {
            self.look_at_empties = false;
            self.snapshot.now = self.time();
            // What was planned holds until something changes: the controller repeats its rounds for that.
            let planned = Planned {
                at: self.snapshot.now,
                onto: self.expected(),
            };
            self.empties.observe(&self.snapshot, Some(&planned));
            let decision = empty::decide(&self.snapshot, &self.empties);
            self.empty_due = decision
                .wake
                .map(|at| self.millis(at))
                .filter(|at| *at > self.now);
            let mut acted = false;
            for step in decision.steps {
                acted |= self.carry_out(step);
            }
            if !acted {
                return;
            }
        }
    }

    /// What pods that still wait were planned onto.
    fn expected(&self) -> BTreeMap<String, Vec<PodKey>> {
        let onto = self.standing.onto.iter().filter_map(|(name, pods)| {
            let waits = |key: &&PodKey| {
                let id = self.pods.id(key);
                id.is_some_and(|id| self.pods.is_waiting(id))
            };
            let waiting: Vec<PodKey> = pods.iter().filter(waits).cloned().collect();
            (!waiting.is_empty()).then(|| (name.clone(), waiting))
        });
        onto.collect()
    }

    fn carry_out(&mut self, step: EmptyStep) -> bool {
        match step {
            EmptyStep::Fence { claim, node, .. } => {
                self.mark_empty(&claim.name, &node.name);
                true
            }
            EmptyStep::Unfence { claim, node } => {
                self.unmark(&claim.name, &node.name);
                true
            }
            EmptyStep::Remove { claim, .. } => {
                self.remove(&claim.name);
                true
            }
            EmptyStep::Touch { .. } => false,
        }
    }

    fn mark_empty(&mut self, claim: &str, node: &str) {
        let now = self.time();
        if let Some(claim) = self.snapshot.claims.get_mut(claim) {
            let mut empty = condition(ConditionStatus::True, now);
            ConditionReason::Empty
                .as_str()
                .clone_into(&mut empty.reason);
            let reason = ConditionType::DisruptionReason.as_str().to_owned();
            Arc::make_mut(claim).conditions.insert(reason, empty);
        }
        if let Some(node) = self.snapshot.nodes.get_mut(node) {
            let fence = Taint::new(labels::DISRUPTED_TAINT, "", TaintEffect::NoSchedule);
            Arc::make_mut(node).taints.push(fence);
        }
        if let Some(place) = self.places.get_mut(node) {
            place.closed = true;
        }
    }

    fn unmark(&mut self, claim: &str, node: &str) {
        if let Some(claim) = self.snapshot.claims.get_mut(claim) {
            let reason = ConditionType::DisruptionReason.as_str();
            Arc::make_mut(claim).conditions.remove(reason);
        }
        if let Some(node) = self.snapshot.nodes.get_mut(node) {
            let fence = labels::DISRUPTED_TAINT;
            Arc::make_mut(node)
                .taints
                .retain(|taint| taint.key != fence);
        }
        if let Some(place) = self.places.get_mut(node) {
            place.closed = false;
            self.dirty.insert(node.into());
        }
    }

    /// Pods that still wait at the end, and why.
    pub(super) fn never_placed(&self, counts: impl Fn(&Self, PodId) -> bool) -> Vec<NeverPlaced> {
        let mut groups: BTreeMap<String, Group> = BTreeMap::new();
        for (id, record) in self.pods.records.iter().enumerate() {
            if record.stage != Stage::Waiting || !counts(self, id) {
                continue;
            }
            let why = self.key(id).and_then(|key| self.standing.left.get(&key));
            let message = match why {
                Some(why) => why.message(),
                None => self.unplanned(record.class),
            };
            let group = groups.entry(message).or_default();
            group.pods += 1;
            group.loads.insert(record.load);
            let reasons = why.into_iter().flat_map(|why| &why.reasons);
            group.reasons.extend(reasons.map(|reason| reason.reason));
        }
        let name = |load: Option<&usize>| {
            let load = load.and_then(|load| self.scenario.loads.get(*load));
            load.map_or_else(String::new, |load| {
                format!("{}/{}", load.spec.namespace, load.name)
            })
        };
        let named = groups.into_iter().map(|(message, group)| NeverPlaced {
            load: name(group.loads.first()),
            other_loads: group.loads.len().saturating_sub(1),
            pods: group.pods,
            reasons: group.reasons.into_iter().collect(),
            message,
        });
        named.collect()
    }

    /// Why a pod waits that no round was asked about.
    fn unplanned(&self, class: usize) -> String {
        let spec = self.pods.spec(class);
        match spec.and_then(|spec| spec.problem.clone()) {
            Some(problem) => problem,
            None if spec.is_some_and(|spec| spec.gated) => {
                "spec.schedulingGates is not empty: whoever set the gates has to remove them"
                    .to_owned()
            }
            None => "a machine was on its way when the simulation ended".to_owned(),
        }
    }
}
