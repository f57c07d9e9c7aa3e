//! What happened and what is, told to the metrics.

use std::time::Duration;

use jiff::Timestamp;

use super::Metrics;
use super::labels::{
    self, Call, CallName, CapacityLabel, ClaimPhase, ClaimPhaseLabels, ClaimStep, DisruptedLabels,
    EvictionLabels, EvictionOutcome, FailureLabels, HoldLabel, HolderLabel, KindLabel,
    LaunchLabels, LaunchResult, Loop, LoopLabel, LoopOutcome, MessageLabel, OfferingLabels,
    OrphanHold, PoolCapacity, PoolLabel, PoolResource, ReconcileOutcome, RemovalReason, StepLabels,
    WaitLabel, ZoneLabels,
};
use crate::model::launch::ErrorClass;
use crate::model::money::{UNITS_PER_USD, UsdPerHour};
use crate::model::notice::{NoticeKind, Unread};
use crate::model::offering::{CapacityType, OfferingKey};
use crate::model::report::ReasonKind;

impl Metrics {
    /// Replaces the figures of registered nodes and of what the launched ones cost.
    pub fn set_fleet<'pools>(
        &self,
        fleet: impl IntoIterator<Item = (&'pools str, CapacityType, i64, UsdPerHour)>,
    ) {
        self.nodes.clear();
        self.usd_per_hour.clear();
        for (node_pool, capacity_type, nodes, price) in fleet {
            let labels = PoolCapacity::new(node_pool, Some(capacity_type));
            self.nodes.get_or_create(&labels).inc_by(nodes);
            self.usd_per_hour
                .get_or_create(&labels)
                .inc_by(dollars(price));
        }
    }

    /// The dates of prices; a capacity type without one has none.
    pub fn set_price_dates(
        &self,
        dates: impl IntoIterator<Item = (CapacityType, Option<Timestamp>)>,
    ) {
        for (capacity_type, at) in dates {
            let labels = CapacityLabel::new(capacity_type);
            match at {
                Some(at) => {
                    self.prices_read_at
                        .get_or_create(&labels)
                        .set(at.as_second());
                }
                None => {
                    self.prices_read_at.remove(&labels);
                }
            }
        }
    }

    /// Replaces the counts of claims by NodePool and phase.
    pub fn set_claims<'pools>(
        &self,
        claims: impl IntoIterator<Item = (&'pools str, ClaimPhase, i64)>,
    ) {
        self.claims.clear();
        for (node_pool, phase, count) in claims {
            let labels = ClaimPhaseLabels::new(node_pool, phase);
            self.claims.get_or_create(&labels).set(count);
        }
    }

    /// Replaces usage and limits of NodePools, each (NodePool, resource, usage, limit) in the units
    /// of [`crate::model::resources`].
    pub fn set_limits<'pools>(
        &self,
        limits: impl IntoIterator<Item = (&'pools str, &'pools str, i64, Option<i64>)>,
    ) {
        self.pool_usage.clear();
        self.pool_limit.clear();
        for (node_pool, resource, usage, limit) in limits {
            let labels = PoolResource::new(node_pool, resource);
            self.pool_usage
                .get_or_create(&labels)
                .set(base_units(resource, usage));
            if let Some(limit) = limit {
                self.pool_limit
                    .get_or_create(&labels)
                    .set(base_units(resource, limit));
            }
        }
    }

    /// Replaces the counts of waiting pods: those a plan has a node for, and those left out.
    pub fn set_waiting(&self, planned: i64, left_out: impl IntoIterator<Item = (ReasonKind, i64)>) {
        self.pods_waiting.clear();
        self.pods_waiting
            .get_or_create(&WaitLabel::new("Planned"))
            .set(planned);
        for (reason, count) in left_out {
            self.pods_waiting
                .get_or_create(&WaitLabel::new(reason.as_str()))
                .inc_by(count);
        }
    }

    /// A plan was made.
    pub fn planned(
        &self,
        elapsed: Duration,
        nodes: usize,
        price: UsdPerHour,
        lower_bound: UsdPerHour,
        truncated: bool,
    ) {
        self.plans.inc();
        self.plan_seconds.observe(elapsed.as_secs_f64());
        if truncated {
            self.plans_truncated.inc();
        }
        self.plan_nodes
            .set(i64::try_from(nodes).unwrap_or(i64::MAX));
        self.plan_usd_per_hour.set(dollars(price));
        self.plan_lower_bound.set(dollars(lower_bound));
    }

    /// A pod was bound to a node of ours, so long after its creation.
    pub fn pod_bound(&self, after: Duration) {
        self.pod_bound_seconds.observe(after.as_secs_f64());
    }

    /// A claim was made.
    pub fn claim_created(&self, node_pool: &str, capacity_type: Option<CapacityType>) {
        self.claims_created
            .get_or_create(&PoolCapacity::new(node_pool, capacity_type))
            .inc();
    }

    /// A claim reached a step, so long after its creation.
    pub fn claim_reached(&self, node_pool: &str, step: ClaimStep, after: Duration) {
        self.claim_steps
            .get_or_create(&StepLabels::new(node_pool, step))
            .observe(after.as_secs_f64());
    }

    /// A claim's deletion was asked for.
    pub fn claim_disrupted(
        &self,
        node_pool: &str,
        reason: RemovalReason,
        capacity_type: Option<CapacityType>,
    ) {
        self.claims_disrupted
            .get_or_create(&DisruptedLabels::new(node_pool, reason, capacity_type))
            .inc();
    }

    /// A claim is gone, so long after its deletion.
    pub fn claim_terminated(
        &self,
        node_pool: &str,
        offering: Option<&OfferingKey>,
        after: Duration,
    ) {
        self.claims_terminated
            .get_or_create(&ZoneLabels::new(node_pool, offering))
            .inc();
        self.termination_seconds
            .get_or_create(&PoolLabel::new(node_pool))
            .observe(after.as_secs_f64());
    }

    /// A launch call was answered, or not.
    pub fn launched(&self, capacity_type: CapacityType, result: LaunchResult) {
        self.launches
            .get_or_create(&LaunchLabels::new(capacity_type, result))
            .inc();
    }

    /// A launch could not buy an offering.
    pub fn launch_failed(&self, offering: Option<&OfferingKey>, class: ErrorClass) {
        self.launch_failures
            .get_or_create(&FailureLabels::new(offering, class))
            .inc();
    }

    /// An eviction was asked for.
    pub fn eviction(&self, outcome: EvictionOutcome) {
        self.evictions
            .get_or_create(&EvictionLabels::new(outcome))
            .inc();
    }

    /// An orphan sweep ended.
    pub fn orphans_found(&self, count: usize, halted: bool) {
        self.orphans.set(i64::try_from(count).unwrap_or(i64::MAX));
        self.orphans_halted.set(i64::from(halted));
    }

    /// So many instances without a claim are not ended, for this.
    pub fn set_orphans_held(&self, hold: OrphanHold, count: usize) {
        self.orphans_held
            .get_or_create(&HoldLabel::new(hold))
            .set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// A message was read, and this is what it announces.
    pub fn message_read(&self, kind: &NoticeKind) {
        self.message(kind.as_str());
    }

    /// A message announces nothing.
    pub fn message_unread(&self, why: Unread) {
        self.message(why.as_str());
    }

    fn message(&self, kind: &'static str) {
        self.messages.get_or_create(&MessageLabel::new(kind)).inc();
    }

    /// A call to AWS ended; `None` is success.
    pub fn ec2_call(
        &self,
        operation: &'static str,
        failure: Option<ErrorClass>,
        elapsed: Duration,
    ) {
        self.ec2_calls
            .get_or_create(&Call::new(
                operation,
                failure.map_or("success", labels::error_class),
            ))
            .inc();
        self.ec2_call_seconds
            .get_or_create(&CallName::new(operation))
            .observe(elapsed.as_secs_f64());
    }

    /// A call to AWS waited for a token of the bucket.
    pub fn ec2_waited(&self, bucket: &'static str, elapsed: Duration) {
        self.ec2_wait_seconds
            .get_or_create(&CallName::new(bucket))
            .observe(elapsed.as_secs_f64());
    }

    /// A call to the API server ended. Both names come from closed sets.
    pub fn kubernetes_call(
        &self,
        operation: &'static str,
        outcome: &'static str,
        elapsed: Duration,
    ) {
        self.kubernetes_calls
            .get_or_create(&Call::new(operation, outcome))
            .inc();
        self.kubernetes_call_seconds
            .get_or_create(&CallName::new(operation))
            .observe(elapsed.as_secs_f64());
    }

    /// What is believed short, in millionths.
    pub fn set_shortages<'known>(
        &self,
        beliefs: impl IntoIterator<Item = (&'known OfferingKey, u32)>,
    ) {
        self.shortages.clear();
        for (offering, millionths) in beliefs {
            self.shortages
                .get_or_create(&OfferingLabels::new(offering))
                .set(f64::from(millionths) / 1e6);
        }
    }

    /// How often machines are taken back, per machine and hour, in millionths.
    pub fn set_hazards<'known>(
        &self,
        hazards: impl IntoIterator<Item = (&'known OfferingKey, u32)>,
    ) {
        self.hazards.clear();
        for (offering, millionths) in hazards {
            self.hazards
                .get_or_create(&OfferingLabels::new(offering))
                .set(f64::from(millionths) / 1e6);
        }
    }

    /// An event was dropped.
    pub fn event_dropped(&self) {
        self.events_dropped.inc();
    }

    /// A round of a loop ended.
    pub fn reconciled(&self, which: Loop, outcome: ReconcileOutcome, elapsed: Duration) {
        self.reconciles
            .get_or_create(&LoopOutcome::new(which, outcome))
            .inc();
        self.reconcile_seconds
            .get_or_create(&LoopLabel::new(which))
            .observe(elapsed.as_secs_f64());
    }

    /// So many objects wait in a loop's queue.
    pub fn set_queue_depth(&self, which: Loop, depth: usize) {
        self.queue_depth
            .get_or_create(&LoopLabel::new(which))
            .set(i64::try_from(depth).unwrap_or(i64::MAX));
    }

    /// The mirror holds so many objects of a resource after so many complete lists.
    pub fn set_mirror(&self, resource: &'static str, objects: usize, lists: u64) {
        let labels = KindLabel::new(resource);
        self.mirror_objects
            .get_or_create(&labels)
            .set(i64::try_from(objects).unwrap_or(i64::MAX));
        self.mirror_lists
            .get_or_create(&labels)
            .set(i64::try_from(lists).unwrap_or(i64::MAX));
    }

    /// Whether the mirror is current, and how many own writes it waits to see.
    pub fn set_mirror_state(&self, synced: bool, unseen_writes: usize) {
        self.mirror_synced.set(i64::from(synced));
        self.mirror_unseen_writes
            .set(i64::try_from(unseen_writes).unwrap_or(i64::MAX));
    }

    /// Who holds the lease, as far as this process has seen; `None` is nobody.
    pub fn set_lease_holder(&self, holder: Option<&str>) {
        self.lease_holder.clear();
        if let Some(holder) = holder {
            let labels = HolderLabel::new(holder);
            self.lease_holder.get_or_create(&labels).set(1);
        }
    }

    /// This process acts from now on.
    pub fn leads(&self) {
        self.leading.set(1);
    }

    /// This process does not act: what it last said of the fleet and of plans is for whoever leads to
    /// say now.
    pub fn stands_by(&self) {
        self.leading.set(0);
        self.set_fleet([]);
        self.set_claims([]);
        self.set_limits([]);
        self.pods_waiting.clear();
        self.plan_nodes.set(0);
        self.plan_usd_per_hour.set(0.0);
        self.plan_lower_bound.set(0.0);
        self.orphans_found(0, false);
        self.orphans_held.clear();
        self.queue_depth.clear();
        self.set_shortages([]);
        self.set_hazards([]);
    }
}

/// Dollars per hour for people and dashboards; never calculated with.
#[expect(
    clippy::cast_precision_loss,
    reason = "a figure for a dashboard; 15 digits are enough"
)]
fn dollars(price: UsdPerHour) -> f64 {
    price.units() as f64 / UNITS_PER_USD as f64
}

/// Cores for cpu, which is counted in millicores; everything else as it is.
#[expect(
    clippy::cast_precision_loss,
    reason = "a figure for a dashboard; 15 digits are enough"
)]
fn base_units(resource: &str, amount: i64) -> f64 {
    if resource == crate::model::resources::CPU {
        amount as f64 / 1000.0
    } else {
        amount as f64
    }
}
