//! Every metric that Tonnage exports: name, help, labels and unit, in one place.
//!
//! Given what happened, as method calls; given back the OpenMetrics text. Labels with a fixed set of
//! values come from enums; the others are names of objects and instance types. Figures that describe
//! the present are set as a whole, so a NodePool that is gone leaves no figure behind. Nothing here
//! decides, waits or reads a clock.

mod labels;
mod record;

use std::fmt;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use labels::{
    Call, CallName, CapacityLabel, ClaimPhaseLabels, DisruptedLabels, EvictionLabels,
    FailureLabels, HoldLabel, HolderLabel, KindLabel, LaunchLabels, LoopLabel, LoopOutcome,
    MessageLabel, OfferingLabels, PoolCapacity, PoolLabel, PoolResource, StepLabels, WaitLabel,
    ZoneLabels,
};
pub use labels::{
    ClaimPhase, ClaimStep, EvictionOutcome, LaunchResult, Loop, OrphanHold, ReconcileOutcome,
    RemovalReason,
};

type Float = Gauge<f64, AtomicU64>;
type Timings<Labels> = Family<Labels, Histogram, fn() -> Histogram>;

/// From a quick API call to a slow boot, in seconds.
const SECONDS: [f64; 16] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0,
];

fn seconds() -> Histogram {
    Histogram::new(SECONDS)
}

/// The metrics.
pub struct Metrics {
    registry: Registry,
    nodes: Family<PoolCapacity, Gauge>,
    claims: Family<ClaimPhaseLabels, Gauge>,
    usd_per_hour: Family<PoolCapacity, Float>,
    pool_usage: Family<PoolResource, Float>,
    pool_limit: Family<PoolResource, Float>,
    claims_created: Family<PoolCapacity, Counter>,
    claims_disrupted: Family<DisruptedLabels, Counter>,
    claims_terminated: Family<ZoneLabels, Counter>,
    claim_steps: Timings<StepLabels>,
    termination_seconds: Timings<PoolLabel>,
    pods_waiting: Family<WaitLabel, Gauge>,
    pod_bound_seconds: Histogram,
    plans: Counter,
    plan_seconds: Histogram,
    plans_truncated: Counter,
    plan_nodes: Gauge,
    plan_usd_per_hour: Float,
    plan_lower_bound: Float,
    launches: Family<LaunchLabels, Counter>,
    launch_failures: Family<FailureLabels, Counter>,
    shortages: Family<OfferingLabels, Float>,
    hazards: Family<OfferingLabels, Float>,
    prices_read_at: Family<CapacityLabel, Gauge>,
    evictions: Family<EvictionLabels, Counter>,
    orphans: Gauge,
    orphans_halted: Gauge,
    orphans_held: Family<HoldLabel, Gauge>,
    messages: Family<MessageLabel, Counter>,
    ec2_calls: Family<Call, Counter>,
    ec2_call_seconds: Timings<CallName>,
    ec2_wait_seconds: Timings<CallName>,
    kubernetes_calls: Family<Call, Counter>,
    kubernetes_call_seconds: Timings<CallName>,
    events_dropped: Counter,
    reconciles: Family<LoopOutcome, Counter>,
    reconcile_seconds: Timings<LoopLabel>,
    queue_depth: Family<LoopLabel, Gauge>,
    mirror_objects: Family<KindLabel, Gauge>,
    mirror_lists: Family<KindLabel, Gauge>,
    mirror_synced: Gauge,
    mirror_unseen_writes: Gauge,
    leading: Gauge,
    lease_holder: Family<HolderLabel, Gauge>,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// All metrics at zero.
    pub fn new() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("tonnage"),
            nodes: Family::default(),
            claims: Family::default(),
            usd_per_hour: Family::default(),
            pool_usage: Family::default(),
            pool_limit: Family::default(),
            claims_created: Family::default(),
            claims_disrupted: Family::default(),
            claims_terminated: Family::default(),
            claim_steps: Family::new_with_constructor(seconds),
            termination_seconds: Family::new_with_constructor(seconds),
            pods_waiting: Family::default(),
            pod_bound_seconds: seconds(),
            plans: Counter::default(),
            plan_seconds: seconds(),
            plans_truncated: Counter::default(),
            plan_nodes: Gauge::default(),
            plan_usd_per_hour: Float::default(),
            plan_lower_bound: Float::default(),
            launches: Family::default(),
            launch_failures: Family::default(),
            shortages: Family::default(),
            hazards: Family::default(),
            prices_read_at: Family::default(),
            evictions: Family::default(),
            orphans: Gauge::default(),
            orphans_halted: Gauge::default(),
            orphans_held: Family::default(),
            messages: Family::default(),
            ec2_calls: Family::default(),
            ec2_call_seconds: Family::new_with_constructor(seconds),
            ec2_wait_seconds: Family::new_with_constructor(seconds),
            kubernetes_calls: Family::default(),
            kubernetes_call_seconds: Family::new_with_constructor(seconds),
            events_dropped: Counter::default(),
            reconciles: Family::default(),
            reconcile_seconds: Family::new_with_constructor(seconds),
            queue_depth: Family::default(),
            mirror_objects: Family::default(),
            mirror_lists: Family::default(),
            mirror_synced: Gauge::default(),
            mirror_unseen_writes: Gauge::default(),
            leading: Gauge::default(),
            lease_holder: Family::default(),
        };
        metrics.register_fleet();
        metrics.register_decisions();
        metrics.register_orphans();
        metrics.register_outlook();
        metrics.register_machinery();
        metrics.register_lease();
        metrics
    }

    fn register_fleet(&mut self) {
        let registry = &mut self.registry;
        registry.register(
            "build",
            "The version that runs.",
            Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]),
        );
        registry.register(
            "nodes",
            "Nodes of Tonnage that are registered, by NodePool and capacity type.",
            self.nodes.clone(),
        );
        registry.register(
            "nodeclaims",
            "NodeClaims of Tonnage by NodePool and by how far they have come.",
            self.claims.clone(),
        );
        registry.register(
            "cluster_usd_per_hour",
            "What the launched nodes cost per hour now, fees included, in US dollars.",
            self.usd_per_hour.clone(),
        );
        registry.register(
            "nodepools_usage",
            "Capacity of a NodePool's nodes; cpu in cores, the rest in base units.",
            self.pool_usage.clone(),
        );
        registry.register(
            "nodepools_limit",
            "Limits of a NodePool; cpu in cores, the rest in base units.",
            self.pool_limit.clone(),
        );
        registry.register(
            "nodeclaims_created",
            "NodeClaims made.",
            self.claims_created.clone(),
        );
        registry.register(
            "nodeclaims_disrupted",
            "NodeClaims whose deletion Tonnage asked for, by reason.",
            self.claims_disrupted.clone(),
        );
        registry.register(
            "nodeclaims_terminated",
            "NodeClaims whose machine is gone and whose finalizer was removed.",
            self.claims_terminated.clone(),
        );
        registry.register_with_unit(
            "nodeclaims_step_duration",
            "Time from a NodeClaim's creation until it was launched, registered, initialized.",
            Unit::Seconds,
            self.claim_steps.clone(),
        );
        registry.register_with_unit(
            "nodeclaims_termination_duration",
            "Time from a NodeClaim's deletion until its finalizer was removed.",
            Unit::Seconds,
            self.termination_seconds.clone(),
        );
    }

    fn register_decisions(&mut self) {
        let registry = &mut self.registry;
        registry.register(
            "pods_waiting",
            "Pods that no node can hold now: planned for a node on its way, or left out for a reason.",
            self.pods_waiting.clone(),
        );
        registry.register_with_unit(
            "pods_bound_duration",
            "Time from a pod's creation until it was bound to a node of Tonnage.",
            Unit::Seconds,
            self.pod_bound_seconds.clone(),
        );
        registry.register("plans", "Provisioning plans made.", self.plans.clone());
        registry.register_with_unit(
            "plan_duration",
            "Time to make a provisioning plan.",
            Unit::Seconds,
            self.plan_seconds.clone(),
        );
        registry.register(
            "plans_truncated",
            "Plans whose search was ended by the wall-clock guard.",
            self.plans_truncated.clone(),
        );
        registry.register(
            "plan_nodes",
            "Nodes that the last plan wants to buy.",
            self.plan_nodes.clone(),
        );
        registry.register(
            "plan_usd_per_hour",
            "Price of the nodes that the last plan wants to buy, fees included, in US dollars.",
            self.plan_usd_per_hour.clone(),
        );
        registry.register(
            "plan_lower_bound_usd_per_hour",
            "Proven lower bound of that price, in US dollars.",
            self.plan_lower_bound.clone(),
        );
        registry.register(
            "launches",
            "Launch calls by capacity type and outcome.",
            self.launches.clone(),
        );
        registry.register(
            "instance_launch_failures",
            "Offerings that a launch could not buy, by zone, capacity type and class of error.",
            self.launch_failures.clone(),
        );
        registry.register(
            "pod_evictions",
            "Evictions asked for while draining, by outcome.",
            self.evictions.clone(),
        );
        registry.register(
            "interruption_received_messages",
            "Messages from the queue of EC2's announcements, by what they announce.",
            self.messages.clone(),
        );
    }

    fn register_orphans(&mut self) {
        let registry = &mut self.registry;
        registry.register(
            "orphans",
            "Instances or NodeClaims that looked orphaned in the last sweep.",
            self.orphans.clone(),
        );
        registry.register(
            "orphan_collection_halted",
            "1 while too many orphans were found at once and a person must acknowledge them.",
            self.orphans_halted.clone(),
        );
        registry.register(
            "orphans_held",
            "Instances without a NodeClaim that run on and are not terminated, by why.",
            self.orphans_held.clone(),
        );
    }

    fn register_outlook(&mut self) {
        let registry = &mut self.registry;
        registry.register(
            "offering_shortage",
            "How likely an offering that EC2 refused is still short of capacity, from 0 to 1; from 0.5 on it is left alone.",
            self.shortages.clone(),
        );
        registry.register(
            "offering_interruptions_per_hour",
            "How often EC2 takes a machine of a spot offering back, per machine and hour, recent days counting most.",
            self.hazards.clone(),
        );
        registry.register(
            "prices_timestamp_seconds",
            "When the prices in use were true, in seconds since 1970, by capacity type; none for spot while it counts at the on-demand price.",
            self.prices_read_at.clone(),
        );
    }

    fn register_machinery(&mut self) {
        let registry = &mut self.registry;
        registry.register(
            "ec2_calls",
            "Calls to AWS by operation and outcome.",
            self.ec2_calls.clone(),
        );
        registry.register_with_unit(
            "ec2_call_duration",
            "Duration of calls to AWS, waiting for a token apart.",
            Unit::Seconds,
            self.ec2_call_seconds.clone(),
        );
        registry.register_with_unit(
            "ec2_rate_limit_wait",
            "Time that calls to AWS waited for a token of the client-side bucket.",
            Unit::Seconds,
            self.ec2_wait_seconds.clone(),
        );
        registry.register(
            "kubernetes_calls",
            "Calls to the API server, watches apart, by operation and outcome.",
            self.kubernetes_calls.clone(),
        );
        registry.register_with_unit(
            "kubernetes_call_duration",
            "Duration of calls to the API server, waiting and repeats included.",
            Unit::Seconds,
            self.kubernetes_call_seconds.clone(),
        );
        registry.register(
            "events_dropped",
            "Kubernetes events that were not written because there were too many.",
            self.events_dropped.clone(),
        );
        registry.register(
            "reconciles",
            "Rounds of each loop by outcome.",
            self.reconciles.clone(),
        );
        registry.register_with_unit(
            "reconcile_duration",
            "Duration of a round of each loop.",
            Unit::Seconds,
            self.reconcile_seconds.clone(),
        );
        registry.register(
            "queue_depth",
            "Objects that wait in each loop's queue.",
            self.queue_depth.clone(),
        );
        registry.register(
            "mirror_objects",
            "Objects that the mirror holds, by resource.",
            self.mirror_objects.clone(),
        );
        registry.register(
            "mirror_lists",
            "Complete lists that the mirror has read, by resource.",
            self.mirror_lists.clone(),
        );
        registry.register(
            "mirror_synced",
            "1 when every resource has been listed and every watch works.",
            self.mirror_synced.clone(),
        );
        registry.register(
            "mirror_unseen_writes",
            "Own writes that no watch has shown yet.",
            self.mirror_unseen_writes.clone(),
        );
    }

    fn register_lease(&mut self) {
        let registry = &mut self.registry;
        registry.register(
            "leading",
            "1 while this controller acts: it holds the lease, or runs without one; 0 while it stands by.",
            self.leading.clone(),
        );
        registry.register(
            "lease_holder",
            "1 for the controller that holds the lease, as far as this one has seen.",
            self.lease_holder.clone(),
        );
    }

    /// The metrics in the OpenMetrics text format.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing into a String cannot fail.
        encode(&mut text, &self.registry).ok();
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::money::UsdPerHour;
    use crate::model::offering::CapacityType;

    #[test]
    fn the_present_is_replaced_and_the_past_is_counted() {
        let metrics = Metrics::new();
        metrics.set_fleet([
            (
                "general",
                CapacityType::Spot,
                2,
                UsdPerHour::from_micros(170_000),
            ),
            (
                "general",
                CapacityType::OnDemand,
                1,
                UsdPerHour::from_micros(340_000),
            ),
        ]);
        metrics.set_fleet([(
            "general",
            CapacityType::Spot,
            1,
            UsdPerHour::from_micros(85_000),
        )]);
        metrics.claim_created("general", Some(CapacityType::Spot));
        metrics.claim_created("general", Some(CapacityType::Spot));
        let text = metrics.text();
        let line = |line: &str| assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        line(r#"tonnage_nodes{nodepool="general",capacity_type="spot"} 1"#);
        line(r#"tonnage_cluster_usd_per_hour{nodepool="general",capacity_type="spot"} 0.085"#);
        line(r#"tonnage_nodeclaims_created_total{nodepool="general",capacity_type="spot"} 2"#);
        assert!(!text.contains("on-demand"), "{text}");
    }

    #[test]
    fn who_stands_by_says_nothing_of_the_fleet() {
        let metrics = Metrics::new();
        metrics.leads();
        metrics.set_lease_holder(Some("a"));
        metrics.set_claims([("general", ClaimPhase::Launched, 3)]);
        metrics.set_waiting(2, []);
        metrics.set_orphans_held(OrphanHold::Paused, 1);
        let text = metrics.text();
        assert!(text.contains("\ntonnage_leading 1\n"), "{text}");
        assert!(
            text.contains("\ntonnage_orphans_held{reason=\"paused\"} 1\n"),
            "{text}"
        );
        metrics.stands_by();
        metrics.set_lease_holder(Some("b"));
        let text = metrics.text();
        assert!(text.contains("\ntonnage_leading 0\n"), "{text}");
        assert!(
            text.contains("tonnage_lease_holder{holder=\"b\"} 1"),
            "{text}"
        );
        for gone in ["general", "holder=\"a\"", "Planned", "paused"] {
            assert!(!text.contains(gone), "{gone}\n{text}");
        }
    }

    #[test]
    fn hostile_names_are_escaped() {
        let metrics = Metrics::new();
        metrics.set_claims([("a\"b\\c\nd", ClaimPhase::Launched, 1)]);
        assert!(
            metrics
                .text()
                .contains(r#"nodepool="a\"b\\c\nd",phase="launched""#)
        );
    }
}
