//! From instance to usable node.
//!
//! Woken by claims and Nodes; asks [`crate::plan::lifecycle`]; binds Nodes to their claims, says when they
//! are usable, and gives up what takes too long.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::future::BoxFuture;
use jiff::{SignedDuration, Timestamp};

use super::context::Acting;
use super::names::Unnamed;
use super::no_shows;
use super::nominate::{self, Turns};
use super::open::open;
use super::run::{Controller, Round, Step, StepError};
use crate::api::{ConditionType, labels};
use crate::cluster::apply::{ClaimMetadataChange, ClaimStatusChange, NodeRegistration};
use crate::cluster::events::{EventKind, Subject};
use crate::cluster::{Changes, Kind};
use crate::metrics::{ClaimStep, Loop, RemovalReason};
use crate::model::claim::Claim;
use crate::model::instance::{Instance, instance_id_of};
use crate::model::money::UsdPerHour;
use crate::model::node::Node;
use crate::model::offering::CapacityType;
use crate::plan::condition::ConditionChange;
use crate::plan::instances::Sight;
use crate::plan::launch::{offering_of, wanted_by};
use crate::plan::lifecycle::{self, GiveUp, LifecycleStep};
use crate::plan::provision::promise::PROMISE;

/// How long after the start Nodes wait for the first plan before they open for pods: it says which
/// pods to nominate or to bind to them, and kube-scheduler would else put pods where others were planned.
const FIRST_PLAN: SignedDuration = SignedDuration::from_secs(15);

/// The loop that binds Nodes to claims.
#[derive(Debug)]
pub struct Lifecycle {
    context: Arc<Acting>,
    /// When the wait for the first plan is over.
    opens: Timestamp,
    registrations: Registrations,
    /// Impostors that were told of: they stay until somebody removes them.
    told: BTreeSet<String>,
}

/// What registrations share.
#[derive(Debug, Clone, Default)]
struct Registrations {
    /// Machines that registered and that EC2 shall be told the names of, where it is told any.
    unnamed: Unnamed,
    /// Which Node opens next.
    turns: Turns,
}

impl Lifecycle {
    /// Acts with the shared context.
    pub fn new(context: Arc<Acting>) -> Self {
        let opens = context.now().saturating_add(FIRST_PLAN);
        Self {
            opens: opens.unwrap_or(Timestamp::MIN),
            context,
            registrations: Registrations::default(),
            told: BTreeSet::new(),
        }
    }
}

impl Controller for Lifecycle {
    fn name(&self) -> Loop {
        Loop::Registration
    }

    fn interests(&self) -> Vec<Kind> {
        vec![Kind::NodeClaim, Kind::Node, Kind::NodePool]
    }

    fn round<'round>(&'round mut self, _changes: &'round Changes) -> BoxFuture<'round, Round> {
        let context = &self.context;
        let snapshot = context.snapshot();
        let wanted: BTreeSet<String> = snapshot
            .claims
            .values()
            .map(|claim| claim.provider_id.as_str())
            .chain(
                snapshot
                    .nodes
                    .values()
                    .map(|node| node.provider_id.as_str()),
            )
            .filter_map(instance_id_of)
            .map(str::to_owned)
            .collect();
        let decision = context.instances(|view| {
            view.keep_only(&wanted);
            lifecycle::decide(&snapshot, view, &context.settings.lifecycle)
        });
        context.look_at(decision.look_at);
        let impostors: BTreeSet<String> = decision
            .steps
            .iter()
            .filter(|step| matches!(step, LifecycleStep::Impostor { .. }))
            .map(LifecycleStep::key)
            .collect();
        let settings = &context.settings;
        let waits = (settings.nominate_pods || settings.bind_pods)
            && context.planned().is_none()
            && snapshot.now < self.opens;
        let mut wake = decision.wake;
        let mut steps = Vec::new();
        for step in decision.steps {
            if waits && matches!(step, LifecycleStep::Register { .. }) {
                wake = Some(wake.map_or(self.opens, |wake| wake.min(self.opens)));
            } else if !self.told.contains(&step.key()) {
                let key = step.key();
                let task = carry_out(Arc::clone(context), self.registrations.clone(), step);
                steps.push(Step::new(key, task));
            }
        }
        steps.extend(self.registrations.unnamed.steps(context));
        self.told = impostors;
        Box::pin(async move { Round { steps, wake } })
    }
}

async fn carry_out(
    context: Arc<Acting>,
    registrations: Registrations,
    step: LifecycleStep,
) -> Result<(), StepError> {
    match step {
        LifecycleStep::Register {
            claim,
            node,
            instance,
            unmarked,
        } => {
            if unmarked {
                warn_unmarked(&context, &claim, &node);
            }
            register(&context, &registrations, &claim, &node, &instance).await
        }
        LifecycleStep::Initialize { claim, node } => {
            context.kubernetes.initialize_node(&node).await?;
            // Taken back while the Node was registered and not ready.
            nominate::say(&context, &claim, &node).await;
            let change = ConditionChange::holds(ConditionType::Initialized);
            say(&context, &claim, &change, None).await?;
            reached(&context, &claim, ClaimStep::Initialized);
            tracing::info!(claim = claim.name, node = node.name, "initialized");
            Ok(())
        }
        LifecycleStep::LeaveReservation { claim, node } => {
            leave_reservation(&context, &claim, &node).await
        }
        LifecycleStep::Report { claim, change } => say(&context, &claim, &change, None).await,
        LifecycleStep::GiveUp {
            claim,
            reason,
            message,
        } => give_up(&context, &claim, reason, message).await,
        LifecycleStep::Impostor {
            claim,
            node,
            message,
        } => {
            warn_impostor(&context, &claim, &node, &message);
            Ok(())
        }
    }
}

/// Binds a Node to its claim: the Node first, then the claim; the instance's tags are left to a step of
/// their own. Each part may be repeated.
async fn register(
    context: &Acting,
    registrations: &Registrations,
    claim: &Arc<Claim>,
    node: &Node,
    instance: &Instance,
) -> Result<(), StepError> {
    let claim = &*placed(context, claim, instance).await?;
    let internal = [labels::TERMINATION_TIMESTAMP, PROMISE];
    let registration = NodeRegistration {
        labels: (*claim.labels).clone(),
        annotations: claim
            .annotations
            .iter()
            .filter(|(key, _value)| !internal.contains(&key.as_str()))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect(),
        taints: claim
            .taints
            .iter()
            .chain(&claim.startup_taints)
            .cloned()
            .collect(),
    };
    let turn = open(context, &registrations.turns, (claim, node), &registration).await?;
    let change = ConditionChange::holds(ConditionType::Registered);
    say(context, claim, &change, Some(node.name.clone())).await?;
    if !claim.is(ConditionType::Registered.as_str()) {
        reached(context, claim, ClaimStep::Registered);
        no_shows::joined(context, claim);
    }
    tracing::info!(claim = claim.name, node = node.name, "registered");
    if context.settings.instance_names.are_told() {
        let missing = instance.missing_names(&claim.name, &node.name);
        registrations.unnamed.add(&instance.id, missing);
    }
    if let Some(turn) = turn {
        turn.end(context, claim, node).await;
    }
    Ok(())
}

/// The claim, with the partition that EC2 chose for its machine among its labels: the Node gets them all.
async fn placed(
    context: &Acting,
    claim: &Arc<Claim>,
    instance: &Instance,
) -> Result<Arc<Claim>, StepError> {
    let Some(partition) = instance.partition else {
        return Ok(Arc::clone(claim));
    };
    let key = labels::PLACEMENT_GROUP_PARTITION.to_owned();
    let change = ClaimMetadataChange {
        labels: BTreeMap::from([(key, Some(partition.to_string()))]),
        ..ClaimMetadataChange::default()
    };
    let kubernetes = &context.kubernetes;
    Ok(kubernetes.patch_claim_metadata(claim, &change).await?)
}

async fn say(
    context: &Acting,
    claim: &Claim,
    change: &ConditionChange,
    node_name: Option<String>,
) -> Result<(), StepError> {
    let status = ClaimStatusChange {
        node_name,
        conditions: vec![change.update()],
        ..ClaimStatusChange::default()
    };
    context
        .kubernetes
        .patch_claim_status(claim, &status)
        .await?;
    Ok(())
}

/// Says in the labels that a machine is on-demand from now on: on the Node first, because the claim's tell
/// whether it is done.
async fn leave_reservation(context: &Acting, claim: &Claim, node: &Node) -> Result<(), StepError> {
    let id = claim.labels.get(labels::CAPACITY_RESERVATION_ID);
    let message = format!(
        "capacity reservation {} has ended; EC2 bills the machine as on-demand from now on{}",
        id.map_or("", String::as_str),
        on_demand_price(context, claim)
            .map_or_else(String::new, |price| format!(", at {price} USD per hour"))
    );
    let on_demand = CapacityType::OnDemand.as_str().to_owned();
    let changed = BTreeMap::from([
        (labels::CAPACITY_TYPE.to_owned(), Some(on_demand)),
        (labels::CAPACITY_RESERVATION_ID.to_owned(), None),
        (labels::CAPACITY_RESERVATION_TYPE.to_owned(), None),
        (labels::CAPACITY_RESERVATION_INTERRUPTIBLE.to_owned(), None),
    ]);
    context.kubernetes.relabel_node(node, &changed).await?;
    let change = ClaimMetadataChange {
        labels: changed,
        ..ClaimMetadataChange::default()
    };
    context
        .kubernetes
        .patch_claim_metadata(claim, &change)
        .await?;
    tracing::info!(claim = claim.name, node = node.name, message);
    for subject in [
        Subject::node(&node.name),
        Subject::claim(&claim.name, &claim.uid),
    ] {
        let words = ("ReservationEnded", "Relabelling");
        context.tell(subject, EventKind::Warning, words, message.clone());
    }
    Ok(())
}

/// What a machine of a claim's type and zone costs on-demand.
fn on_demand_price(context: &Acting, claim: &Claim) -> Option<UsdPerHour> {
    let reserved = offering_of(claim)?;
    let known = context.class(&claim.node_class)?;
    let mut offerings = known.class.catalogue.offerings.iter();
    let on_demand = offerings.find(|offering| {
        offering.key.capacity_type == CapacityType::OnDemand
            && offering.key.instance_type == reserved.instance_type
            && offering.key.zone == reserved.zone
    })?;
    Some(on_demand.price)
}

fn reached(context: &Acting, claim: &Claim, step: ClaimStep) {
    let pool = claim.node_pool.as_deref().unwrap_or_default();
    let after = context.world.now().duration_since(claim.created);
    context
        .metrics
        .claim_reached(pool, step, after.try_into().unwrap_or_default());
}

async fn give_up(
    context: &Acting,
    claim: &Arc<Claim>,
    reason: GiveUp,
    message: String,
) -> Result<(), StepError> {
    let (event, removal) = match reason {
        GiveUp::LaunchTimeout => ("LaunchTimeout", RemovalReason::LaunchTimeout),
        GiveUp::RegistrationTimeout => ("RegistrationTimeout", RemovalReason::RegistrationTimeout),
        GiveUp::InitializationTimeout => (
            "InitializationTimeout",
            RemovalReason::InitializationTimeout,
        ),
        GiveUp::InstanceEnded => ("InstanceEnded", RemovalReason::GarbageCollected),
    };
    if reason == GiveUp::LaunchTimeout && context.launches(|memory| memory.is_looked_for(claim)) {
        // The claim is as old as its backup, and its machine may be young.
        let why = "a restore took its launch back, and its machine is looked for first";
        return Err(StepError::Blocked(why.to_owned()));
    }
    if reason == GiveUp::InstanceEnded {
        learn_from_the_end(context, claim);
    }
    context.give_up(claim, removal, event, message).await?;
    if reason == GiveUp::RegistrationTimeout {
        no_shows::learn(context, claim);
    }
    Ok(())
}

/// What did not start shall not be bought again at once.
fn learn_from_the_end(context: &Acting, claim: &Claim) {
    let id = claim.instance_id().unwrap_or_default();
    let Sight::Seen(instance) = context.instances(|view| view.get(id)) else {
        return;
    };
    let Some((offering, ending)) = offering_of(claim).zip(instance.ending.clone()) else {
        return;
    };
    let known = context.class(&claim.node_class);
    let class = known.as_ref().map(|known| &known.class);
    let now = context.now();
    let wanted = wanted_by(claim, &offering);
    context.launches(|memory| memory.ended_early(class, (wanted, &claim.offerings), &ending, now));
}

fn warn_unmarked(context: &Acting, claim: &Claim, node: &Node) {
    let message = format!(
        "Node {} came without the taint {}; pods may have started before it was ready: add the taint \
         in the node class's user data",
        node.name,
        labels::UNREGISTERED_TAINT
    );
    let subject = Subject::claim(&claim.name, &claim.uid);
    let words = ("UnregisteredTaintMissing", "Registering");
    context.tell(subject, EventKind::Warning, words, message);
}

fn warn_impostor(context: &Acting, claim: &Claim, node: &Node, message: &str) {
    let message = format!(
        "Node {} carries provider id {} of NodeClaim {}, but {message}; the Node is ignored",
        node.name, node.provider_id, claim.name
    );
    for subject in [
        Subject::node(&node.name),
        Subject::claim(&claim.name, &claim.uid),
    ] {
        let words = ("ProviderIDConflict", "Registering");
        context.tell(subject, EventKind::Warning, words, message.clone());
    }
}
