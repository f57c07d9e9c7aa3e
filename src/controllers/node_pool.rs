//! Writes what NodePools have, and whether they can make more.
//!
//! Woken by NodePools, claims, Nodes and node classes; asks [`crate::plan::pool_status`]; writes statuses
//! and the figures of the fleet.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::context::Acting;
use super::run::{Controller, Round, Step, StepError};
use crate::api::{
    ConditionReason, ConditionType, ConditionUpdate, Conditioned, NodePool, fields, labels,
};
use crate::cluster::observe::quantity;
use crate::cluster::{Changes, Kind, ObservedNodePool, View};
use crate::metrics::{ClaimPhase, Loop};
use crate::model::claim::Claim;
use crate::model::money::UsdPerHour;
use crate::model::offering::{CapacityType, Offering, OfferingKey};
use crate::model::resources::{NODES, Resources};
use crate::model::snapshot::Snapshot;
use crate::plan::pool_status::{self, ALWAYS, ClassState};

/// The loop that writes NodePool statuses.
#[derive(Debug)]
pub struct NodePools {
    context: Arc<Acting>,
}

impl NodePools {
    /// Acts with the shared context.
    pub fn new(context: Arc<Acting>) -> Self {
        Self { context }
    }
}

impl Controller for NodePools {
    fn name(&self) -> Loop {
        Loop::NodePools
    }

    fn interests(&self) -> Vec<Kind> {
        vec![Kind::NodePool, Kind::NodeClass, Kind::NodeClaim, Kind::Node]
    }

    fn settle(&self) -> (Duration, Duration) {
        // Counters may lag a second; a burst of claims shall not be a burst of status writes.
        (Duration::from_millis(300), Duration::from_secs(1))
    }

    fn round<'round>(&'round mut self, _changes: &'round Changes) -> BoxFuture<'round, Round> {
        let context = &self.context;
        let snapshot = context.snapshot();
        let view = context.mirror.view();
        measure(context, &snapshot);
        let steps = view
            .node_pools
            .iter()
            .filter(|(_name, observed)| observed.ours)
            .filter_map(|(name, observed)| {
                let object = status(context, &snapshot, &view, observed);
                let changed = object.status != observed.object.status;
                changed.then(|| {
                    let context = Arc::clone(context);
                    let seen = Arc::clone(&observed.object);
                    Step::new(format!("pool/{name}"), write(context, seen, object))
                })
            })
            .collect();
        Box::pin(async move { Round { steps, wake: None } })
    }
}

async fn write(
    context: Arc<Acting>,
    seen: Arc<NodePool>,
    object: NodePool,
) -> Result<(), StepError> {
    context
        .kubernetes
        .update_node_pool_status(&seen, object.status.unwrap_or_default())
        .await?;
    Ok(())
}

/// The pool with the status that it should have.
fn status(
    context: &Acting,
    snapshot: &Snapshot,
    view: &View,
    observed: &ObservedNodePool,
) -> NodePool {
    let pool = &observed.pool;
    let mut object = NodePool::clone(&observed.object);
    let usage = pool_status::usage(snapshot, &pool.name);
    let mut resources = quantity::quantities(&usage);
    for name in ALWAYS {
        resources
            .entry(name.to_owned())
            .or_insert_with(|| Quantity("0".to_owned()));
    }
    let class = view.node_classes.get(&pool.node_class);
    let state = match (class, snapshot.node_classes.get(&pool.node_class)) {
        (None, _) => ClassState::Missing,
        (Some(class), _) if class.object.metadata.deletion_timestamp.is_some() => {
            ClassState::Terminating
        }
        (Some(_class), None) => ClassState::Unknown,
        (Some(_class), Some(known)) => ClassState::Known(known),
    };
    let status = object.status.get_or_insert_default();
    status.resources = resources;
    status.nodes = usage.get(NODES);
    status.node_class_observed_generation =
        class.and_then(|class| class.object.metadata.generation);
    let now = context.now();
    for update in pool_status::conditions(pool, state) {
        object.set_condition(update, now);
    }
    match context.halt() {
        Some(halt) => {
            let update = ConditionUpdate::holds_because(
                ConditionType::CollectionHalted,
                &ConditionReason::TooManyOrphans,
                halt.message,
            );
            object.set_condition(update, now);
        }
        None => {
            object.clear_condition(ConditionType::CollectionHalted, now);
        }
    }
    let notices = fields::node_pool_notices(&object);
    object.set_condition(fields::fields_condition(&notices), now);
    object
}

/// The figures of the fleet.
fn measure(context: &Acting, snapshot: &Snapshot) {
    let mut fleet: BTreeMap<(&str, CapacityType), (i64, UsdPerHour)> = BTreeMap::new();
    let mut phases: BTreeMap<(&str, ClaimPhase), i64> = BTreeMap::new();
    for claim in snapshot.claims.values() {
        let pool = claim.node_pool.as_deref().unwrap_or_default();
        *phases.entry((pool, phase(claim))).or_insert(0) += 1;
        if let Some((capacity_type, price)) = bought(snapshot, claim) {
            let entry = fleet.entry((pool, capacity_type)).or_default();
            entry.0 += i64::from(claim.is("Registered"));
            entry.1 += price;
        }
    }
    context.metrics.set_fleet(
        fleet
            .into_iter()
            .map(|((pool, capacity_type), (nodes, price))| (pool, capacity_type, nodes, price)),
    );
    context.metrics.set_claims(
        phases
            .into_iter()
            .map(|((pool, phase), count)| (pool, phase, count)),
    );
    let usages: Vec<(&str, Resources, &Resources)> = snapshot
        .node_pools
        .values()
        .map(|pool| {
            let usage = pool_status::usage(snapshot, &pool.name);
            (pool.name.as_str(), usage, &pool.limits)
        })
        .collect();
    let figures = usages.iter().flat_map(|(pool, usage, limits)| {
        limits
            .iter()
            .map(move |(name, limit)| (*pool, name, usage.get(name), Some(limit)))
    });
    context.metrics.set_limits(figures);
}

fn phase(claim: &Claim) -> ClaimPhase {
    if claim.deleting_since.is_some() {
        ClaimPhase::Deleting
    } else if claim.is("Initialized") {
        ClaimPhase::Initialized
    } else if claim.is("Registered") {
        ClaimPhase::Registered
    } else if claim.is("Launched") {
        ClaimPhase::Launched
    } else {
        ClaimPhase::Pending
    }
}

/// What a claim's machine costs, by its labels; `None` before it is launched.
fn bought(snapshot: &Snapshot, claim: &Claim) -> Option<(CapacityType, UsdPerHour)> {
    let label = |key: &str| claim.labels.get(key).map(String::as_str);
    let capacity_type = CapacityType::parse(label(labels::CAPACITY_TYPE)?)?;
    if !claim.is("Launched") {
        return None;
    }
    let price = snapshot
        .node_classes
        .get(&claim.node_class)
        .and_then(|class| {
            let (instance_type, zone) = (label(labels::INSTANCE_TYPE)?, label(labels::ZONE)?);
            class.offering(&OfferingKey::new(instance_type, zone, capacity_type))
        })
        .map_or(UsdPerHour::ZERO, Offering::total_price);
    let fee = claim
        .node_pool
        .as_ref()
        .and_then(|name| snapshot.node_pools.get(name))
        .map_or(UsdPerHour::ZERO, |pool| pool.fee);
    Some((capacity_type, price + fee))
}
