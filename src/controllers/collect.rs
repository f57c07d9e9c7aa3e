//! Lists all instances from time to time and acts on what belongs to nobody.
//!
//! Woken by its timer; reads a complete list, then takes a snapshot; asks [`crate::plan::collect`]. A list
//! that fails counts as no list. While the brake holds, it only says so.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use jiff::Timestamp;

use super::context::Acting;
use super::orphans::{halted, held_by_pause, listeners, measure_held};
use super::run::{Controller, Round, Step, StepError};
use super::terminate::TERMINATION_FAILED;
use crate::api::conditions::ConditionType;
use crate::api::labels;
use crate::cloud::InstanceQuery;
use crate::cluster::apply::{ClaimStatusChange, new_claim};
use crate::cluster::events::{EventKind, Subject};
use crate::cluster::{Changes, Kind, View};
use crate::metrics::{Loop, RemovalReason};
use crate::model::claim::Claim;
use crate::model::instance::{Instance, tags};
use crate::model::money::UsdPerHour;
use crate::model::node::Node;
use crate::model::report::PlannedNode;
use crate::model::resources::Resources;
use crate::plan::collect::{CollectStep, Collection, add_listed, decide, ended};
use crate::plan::condition::ConditionChange;

/// The loop that collects.
#[derive(Debug)]
pub struct Collect {
    context: Arc<Acting>,
    ended: Ended,
    due: Timestamp,
}

/// What was terminated since the last list, which still shows it: to terminate it again would take
/// room under the ceiling a second time.
#[derive(Debug, Clone, Default)]
struct Ended(Arc<Mutex<BTreeSet<String>>>);

impl Ended {
    fn ids(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, id: &str) {
        self.ids().insert(id.to_owned());
    }

    fn has(&self, step: &CollectStep) -> bool {
        matches!(step, CollectStep::Terminate { instance, .. } if self.ids().contains(&instance.id))
    }

    fn forget(&self) {
        self.ids().clear();
    }
}

impl Collect {
    /// Acts with the shared context.
    pub fn new(context: Arc<Acting>) -> Self {
        let due = context.now();
        Self {
            context,
            ended: Ended::default(),
            due,
        }
    }

    /// Reads a complete list of instances, and then one of claims straight from the API server: the
    /// mirror alone could be behind, and a claim that exists must never be missed.
    async fn list(&mut self, context: &Acting, now: Timestamp) -> Result<(), String> {
        let problems = context.mirror.problems();
        if !problems.is_empty() {
            return Err(problems.join("; "));
        }
        let found = context
            .eyes
            .instances(&InstanceQuery::All)
            .await
            .map_err(|error| error.to_string())?;
        let known = context.mirror.view().claims;
        let claims = context
            .kubernetes
            .list_claims(&known)
            .await
            .map_err(|error| error.to_string())?;
        // Of a map that somebody else holds the mirror makes a copy before it changes it.
        drop(known);
        context.instances(|view| view.listed(&found, now));
        let mut snapshot = context.snapshot();
        add_listed(&mut snapshot, claims);
        context.sights(|memory| memory.listed(now, found, &snapshot));
        self.ended.forget();
        for name in [Loop::Registration, Loop::Termination] {
            context.wake(name);
        }
        Ok(())
    }

    async fn sweep(&mut self) -> Round {
        let context = Arc::clone(&self.context);
        let now = context.now();
        let next = now + context.settings.orphan_sweep;
        // A due time beyond the next is of a clock that was far ahead.
        let mut is_listed = false;
        if now >= self.due || self.due > next {
            self.due = next;
            match self.list(&context, now).await {
                Ok(()) => is_listed = true,
                Err(problem) => {
                    tracing::warn!(problem, "no complete lists, nothing is collected");
                }
            }
        }
        let snapshot = context.snapshot();
        let collection = if context.kept_is_unread() {
            Collection::default()
        } else {
            context.sights(|memory| {
                let collection = decide(&snapshot, memory);
                memory.asked(&collection);
                collection
            })
        };
        if is_listed && context.sights(|memory| memory.misses_something()) {
            // Whoever leads next may need it sooner than what else was learned.
            context.keep_soon();
        }
        let ended = context.instances(|view| ended(&snapshot, view));
        context.look_at(ended.look_at);
        halted(&context, collection.halt.as_ref());
        measure_held(&context, &collection);
        let steps = collection
            .decision
            .steps
            .into_iter()
            .chain(ended.steps)
            .filter(|step| !self.ended.has(step))
            .map(|step| {
                let task = carry_out(Arc::clone(&context), self.ended.clone(), step.clone());
                Step::new(step.key(), task)
            })
            .collect();
        Round {
            steps,
            wake: Some(ended.wake.map_or(self.due, |wake| wake.min(self.due))),
        }
    }
}

async fn carry_out(context: Arc<Acting>, gone: Ended, step: CollectStep) -> Result<(), StepError> {
    match step {
        CollectStep::Readopt { instance, node } => readopt(&context, &instance, &node).await,
        CollectStep::Terminate { instance, node } => {
            terminate(&context, &gone, &instance, node).await
        }
        CollectStep::DeleteClaim { claim, instance } => {
            delete_claim(&context, &claim, &instance).await
        }
        CollectStep::DeleteNode { node } => {
            tracing::warn!(
                node = node.name,
                "neither claim nor instance of the node is left, it is deleted"
            );
            context.kubernetes.delete_node(&node).await?;
            Ok(())
        }
        CollectStep::Tag { instance, tags } => {
            context.cloud.tag(&instance, &tags).await?;
            Ok(())
        }
        CollectStep::HeldByPause {
            node_pool,
            instances,
        } => {
            held_by_pause(&context, &node_pool, &instances);
            Ok(())
        }
    }
}

async fn delete_claim(context: &Acting, claim: &Claim, instance: &str) -> Result<(), StepError> {
    let message =
        format!("instance {instance} is gone, so is its claim; its pods are planned again");
    tracing::warn!(claim = claim.name, "{message}");
    context
        .remove_claim(claim, RemovalReason::GarbageCollected)
        .await?;
    let subject = Subject::claim(&claim.name, &claim.uid);
    let words = ("InstanceGone", "Collecting");
    context.tell(subject, EventKind::Warning, words, message);
    Ok(())
}

/// Fences the node and then asks the API server itself; a pod that came meanwhile makes the instance
/// one to take back.
async fn runs_nothing(context: &Acting, node: &Node) -> Result<(), StepError> {
    context.kubernetes.taint_node_disrupted(node).await?;
    let idle = context.no_work_on(&node.name).await;
    if idle.is_err() {
        context.kubernetes.untaint_node_disrupted(node).await?;
    }
    idle
}

/// Asks the API server itself for a Node of an instance that is known to have none: by the names that it can have.
async fn has_no_node(context: &Acting, instance: &Instance) -> Result<(), StepError> {
    let names = [
        instance.own_name().map(String::as_str),
        Some(instance.private_dns_name.as_str()),
        instance.host(),
        Some(instance.id.as_str()),
    ];
    let names: BTreeSet<&str> = names.into_iter().flatten().collect();
    for name in names.into_iter().filter(|name| !name.is_empty()) {
        let found = context.kubernetes.provider_id_of_node(name).await?;
        if found.is_some_and(|found| found == instance.provider_id()) {
            let message = format!("instance {} has Node {name}", instance.id);
            return Err(StepError::Outdated(message));
        }
    }
    Ok(())
}

async fn terminate(
    context: &Acting,
    ended: &Ended,
    instance: &Instance,
    node: Option<Arc<Node>>,
) -> Result<(), StepError> {
    let ready = async {
        match &node {
            Some(node) => runs_nothing(context, node).await?,
            None => has_no_node(context, instance).await?,
        }
        tracing::warn!(
            instance = instance.id,
            offering = %instance.offering,
            "the instance belongs to no claim and runs nothing, it is terminated"
        );
        Ok(())
    };
    // The sweep knows nothing of the ceiling: what there is no room for rests longer each time.
    let answer = context.end(&instance.id, StepError::Blocked, ready).await;
    if let Some(why) = answer.as_ref().err().and_then(StepError::lasting_refusal) {
        let message = format!(
            "instance {} belongs to no claim, is not terminated and costs money: {why}",
            instance.id
        );
        let subjects = match &node {
            Some(node) => vec![Subject::node(&node.name)],
            None => listeners(context),
        };
        for subject in subjects {
            let words = (TERMINATION_FAILED, "Collecting");
            context.tell(subject, EventKind::Warning, words, message.clone());
        }
    }
    answer?;
    context.metrics.orphans_found(1, false);
    if let Some(node) = node {
        context.kubernetes.delete_node(&node).await?;
    }
    ended.add(&instance.id);
    Ok(())
}

/// The plan that would have made the instance, with nothing to buy.
fn as_planned(node_pool: &str, instance: &Instance) -> PlannedNode {
    let offering = &instance.offering;
    let found = [
        (labels::INSTANCE_TYPE, offering.instance_type.to_string()),
        (labels::ZONE, offering.zone.to_string()),
        (
            labels::CAPACITY_TYPE,
            offering.capacity_type.as_str().to_owned(),
        ),
    ];
    PlannedNode {
        node_pool: node_pool.to_owned(),
        offerings: Vec::new(),
        price: UsdPerHour::ZERO,
        fees: UsdPerHour::ZERO,
        risk: UsdPerHour::ZERO,
        requests: Resources::new(),
        pods: Vec::new(),
        labels: found
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value))
            .collect(),
        annotations: BTreeMap::new(),
    }
}

/// The claim that an instance is taken back with.
enum Half {
    /// It was made before and its instance not yet written down.
    Made(Arc<Claim>),
    /// It has this name and does not exist.
    Missing(String),
}

/// Finds the claim to take an instance back with: by the name it had if that is free, else by one
/// that follows from the instance, so that taking back a second time makes no second claim.
fn half_adopted(view: &View, pool: &str, instance: &Instance) -> Half {
    let suffix = instance.id.trim_start_matches("i-");
    let derived = format!("{pool}-{suffix}");
    let named = instance.tags.get(tags::CLAIM);
    for name in named.into_iter().chain([&derived]) {
        match view.claims.get(name) {
            None => return Half::Missing(name.clone()),
            // A claim that may buy nothing and has nothing: only taking back makes such.
            Some(claim)
                if claim.provider_id.is_empty()
                    && claim.offerings.is_empty()
                    && claim.launch.is_none()
                    && claim.deleting_since.is_none() =>
            {
                return Half::Made(Arc::clone(claim));
            }
            Some(_other) => {}
        }
    }
    // Both are taken: creating the second says so and is tried again.
    Half::Missing(derived)
}

/// True when an instance has to say whose it is before the claim that it is taken back with: its Node binds to no other
/// than the one that it names, and where EC2 tells no host name, to that one alone.
fn must_name(context: &Acting, instance: &Instance, claim: &str) -> bool {
    match instance.tags.get(tags::CLAIM) {
        Some(named) => named != claim,
        None => context.settings.instance_names.are_told() || instance.host().is_none(),
    }
}

/// Makes the claim of a living Node again. It is made without anything to buy, so that nothing can be
/// bought for it before its instance is written down.
async fn readopt(context: &Acting, instance: &Instance, node: &Node) -> Result<(), StepError> {
    let view = context.mirror.view();
    let pool = node
        .labels
        .get(labels::NODE_POOL)
        .or_else(|| instance.tags.get(tags::NODE_POOL));
    let Some(observed) = pool
        .and_then(|pool| view.node_pools.get(pool))
        .filter(|pool| pool.ours)
    else {
        let message = format!(
            "instance {} runs pods but has neither a claim nor a NodePool (`{}`); make the NodePool again \
             and it is taken back",
            instance.id,
            pool.map_or("unknown", String::as_str)
        );
        context.tell(
            Subject::node(&node.name),
            EventKind::Warning,
            ("NoNodePool", "Collecting"),
            message,
        );
        return Ok(());
    };
    let claim = match half_adopted(&view, &observed.pool.name, instance) {
        Half::Made(claim) => claim,
        Half::Missing(name) => {
            let object = new_claim(
                &name,
                &observed.object,
                &observed.pool,
                &as_planned(&observed.pool.name, instance),
                &BTreeMap::new(),
            );
            context.kubernetes.create_claim(&object).await?
        }
    };
    // Before the claim says that the instance is its own.
    if must_name(context, instance, &claim.name) {
        let named = BTreeMap::from([(tags::CLAIM.to_owned(), claim.name.clone())]);
        context.cloud.tag(&instance.id, &named).await?;
    }
    let change = ClaimStatusChange {
        provider_id: Some(instance.provider_id()),
        image_id: Some(instance.image_id.clone()),
        capacity: Some(node.capacity.clone()),
        allocatable: Some(node.allocatable.clone()),
        conditions: vec![ConditionChange::holds(ConditionType::Launched).update()],
        ..ClaimStatusChange::default()
    };
    context
        .kubernetes
        .patch_claim_status(&claim, &change)
        .await?;
    let message = format!(
        "took instance {} back: its node {} runs pods",
        instance.id, node.name
    );
    tracing::warn!(claim = claim.name, "{message}");
    let subject = Subject::claim(&claim.name, &claim.uid);
    context.tell(
        subject,
        EventKind::Normal,
        ("Readopted", "Collecting"),
        message,
    );
    Ok(())
}

impl Controller for Collect {
    fn name(&self) -> Loop {
        Loop::Orphans
    }

    fn interests(&self) -> Vec<Kind> {
        vec![Kind::NodePool, Kind::Node]
    }

    fn settle(&self) -> (Duration, Duration) {
        (Duration::from_millis(100), Duration::from_secs(1))
    }

    fn round<'round>(&'round mut self, _changes: &'round Changes) -> BoxFuture<'round, Round> {
        Box::pin(self.sweep())
    }
}
