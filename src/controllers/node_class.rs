//! Resolves EC2NodeClasses, writes what was found, and cleans up after deleted ones.
//!
//! Woken by EC2NodeClasses and by time. What a class resolves to is shared with the other loops;
//! its status says what was selected, or what selects nothing and what would fix it.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::BoxFuture;
use jiff::{SignedDuration, Timestamp};

use super::class_status;
use super::context::{Acting, Context};
use super::edited::what_changed;
use super::profiles;
use super::run::{Controller, Round, Step, StepError};
use crate::api::{ConditionType, EC2NodeClass, labels};
use crate::cloud::class::DELETING;
use crate::cloud::rehearsal::Rehearsal;
use crate::cloud::{CloudError, Resolution, errors};
use crate::cluster::apply::FinalizedKind;
use crate::cluster::{Changes, Kind};
use crate::metrics::Loop;
use crate::model::node_class::NodeClass;
use crate::model::node_pool::NodePool;
use crate::model::offering::CapacityType;
use crate::plan::provision::reach;

/// How often one that is not ready is: somebody is probably mending it.
const SOON: SignedDuration = SignedDuration::from_secs(10);
/// How long the first look at a class may take before the class counts as not ready: until then
/// nothing is planned at all, and one class that EC2 does not answer about must not stop the others.
const FIRST_LOOK: SignedDuration = SignedDuration::from_secs(30);

/// The loop that resolves node classes.
#[derive(Debug)]
pub struct NodeClasses {
    context: Arc<Context>,
    hands: Option<Arc<Acting>>,
    looked: BTreeMap<String, Look>,
}

/// When a class was last looked at.
#[derive(Debug, Clone, Copy)]
struct Look {
    generation: i64,
    first: Timestamp,
    at: Timestamp,
}

impl NodeClasses {
    /// Looks with the shared context; without hands nothing is written down.
    pub fn new(context: Arc<Context>, hands: Option<Arc<Acting>>) -> Self {
        Self {
            context,
            hands,
            looked: BTreeMap::new(),
        }
    }

    /// When the first look at a class has taken too long; from then on the class is not ready.
    fn late(&self, object: &EC2NodeClass, name: &str) -> Option<Timestamp> {
        let first = self.looked.get(name)?.first;
        let late = first.saturating_add(FIRST_LOOK).unwrap_or(first);
        if late > self.context.now() {
            return Some(late);
        }
        let why = format!("EC2 has not answered about the class for {FIRST_LOOK:#}");
        not_ready(&self.context, object, name, why);
        None
    }
}

impl Controller for NodeClasses {
    fn name(&self) -> Loop {
        Loop::NodeClasses
    }

    fn interests(&self) -> Vec<Kind> {
        vec![Kind::NodeClass, Kind::NodeClaim]
    }

    fn round<'round>(&'round mut self, _changes: &'round Changes) -> BoxFuture<'round, Round> {
        let context = Arc::clone(&self.context);
        let view = context.mirror.view();
        let now = context.now();
        let again = context.settings.resolve_again;
        let mut round = Round::default();
        let mut wake: Option<Timestamp> = None;
        self.looked
            .retain(|name, _look| view.node_classes.contains_key(name));
        for name in context.class_names() {
            if !view.node_classes.contains_key(&name) {
                context.set_class(&name, None);
            }
        }
        for (name, observed) in view.node_classes.iter() {
            let object = Arc::clone(&observed.object);
            let key = format!("class/{name}");
            if object.metadata.deletion_timestamp.is_some() {
                // Nothing more is bought through it: it could never go while pods keep coming.
                match context.class(name) {
                    Some(_known) => context.renew_class(name),
                    None => not_ready(&context, &object, name, DELETING.to_owned()),
                }
                let used = view
                    .claims
                    .values()
                    .filter(|claim| claim.node_class == *name)
                    .count();
                if used == 0 {
                    let task = self.hands.clone().map(|hands| release(hands, object));
                    round.steps.extend(task.map(|task| Step::new(key, task)));
                } else {
                    tracing::debug!(class = name, claims = used, "still in use");
                }
                continue;
            }
            let known = context.class(name);
            if known.is_none()
                && let Some(late) = self.late(&object, name)
            {
                wake = Some(wake.map_or(late, |wake| wake.min(late)));
            }
            let ready = known.is_some_and(|found| is_of(&object, &found.class));
            let generation = object.metadata.generation.unwrap_or(0);
            let due = self
                .looked
                .get(name)
                .filter(|look| look.generation == generation)
                .and_then(|look| {
                    look.at
                        .saturating_add(if ready { again } else { SOON })
                        .ok()
                });
            if let Some(due) = due.filter(|due| *due > now) {
                wake = Some(wake.map_or(due, |wake| wake.min(due)));
                continue;
            }
            let first = self.looked.get(name).map_or(now, |look| look.first);
            let look = Look {
                generation,
                first,
                at: now,
            };
            self.looked.insert(name.clone(), look);
            let task = resolve(Arc::clone(&context), self.hands.clone(), object);
            round.steps.push(Step::new(key, task));
        }
        // Without a wake nobody would look again: a round is made when the shortest pause is over.
        if wake.is_none() && !self.looked.is_empty() {
            wake = now.saturating_add(SOON).ok();
        }
        round.wake = wake;
        Box::pin(async move { round })
    }
}

/// True for a class that is ready as the object is now.
fn is_of(object: &EC2NodeClass, class: &NodeClass) -> bool {
    class.ready && what_changed(object, class).is_none()
}

/// Resolves a class, shares the result and writes it into the status.
async fn resolve(
    context: Arc<Context>,
    hands: Option<Arc<Acting>>,
    object: Arc<EC2NodeClass>,
) -> Result<(), StepError> {
    let name = object.metadata.name.clone().unwrap_or_default();
    if let Some(hands) = &hands {
        // Before anything is made for the class in EC2.
        let uid = object.metadata.uid.clone().unwrap_or_default();
        let held = hands
            .kubernetes
            .add_finalizer(
                FinalizedKind::NodeClass,
                &name,
                &uid,
                labels::NODE_CLASS_FINALIZER,
            )
            .await;
        if let Err(error) = held {
            not_ready(
                &context,
                &object,
                &name,
                format!("its finalizer cannot be written: {error}"),
            );
            return Err(error.into());
        }
    }
    let answer = ask(&context, hands.as_deref(), &object).await;
    let failure = match answer {
        Ok(resolution) => {
            let resolution = Arc::new(resolution);
            let catalogue = &resolution.class.catalogue;
            // A class whose settings cannot be read has no catalogue, and says nothing of prices.
            if catalogue.on_demand_priced_at.is_some() {
                context.metrics.set_price_dates([
                    (CapacityType::OnDemand, catalogue.on_demand_priced_at),
                    (CapacityType::Spot, catalogue.spot_priced_at),
                ]);
            }
            context.set_class(&name, Some(Arc::clone(&resolution)));
            if let Some(hands) = &hands {
                write(hands, &object, &name, |object, now| {
                    class_status::resolved(object, &resolution, now);
                })
                .await?;
            }
            return Ok(());
        }
        Err(error) => error,
    };
    let is_usable = context.class(&name).is_some_and(|known| known.class.ready);
    let why = errors::without_encoded(&failure.to_string());
    not_ready(&context, &object, &name, why);
    if let Some(hands) = &hands {
        write(hands, &object, &name, |object, now| {
            class_status::failed(object, &failure, is_usable, now);
        })
        .await?;
    }
    Err(failure.into())
}

/// What EC2 says of a class and, to who may act, to a launch through it.
async fn ask(
    context: &Context,
    hands: Option<&Acting>,
    object: &EC2NodeClass,
) -> Result<Resolution, CloudError> {
    let Some(hands) = hands else {
        return context.eyes.resolve(object).await;
    };
    hands.cloud.keep_profile(object).await?;
    let resolution = context.eyes.resolve(object).await?;
    if resolution.class.ready {
        return rehearsed(hands, object, resolution).await;
    }
    Ok(resolution)
}

/// Asks EC2 whether it would launch through a class that seems ready, and says so in its conditions. It is
/// asked for what NodePools may buy: a role may be allowed to launch nothing else.
async fn rehearsed(
    hands: &Acting,
    object: &EC2NodeClass,
    mut resolution: Resolution,
) -> Result<Resolution, CloudError> {
    let validation = ConditionType::ValidationSucceeded.as_str();
    let pools: Vec<Arc<NodePool>> = hands
        .mirror
        .view()
        .node_pools
        .values()
        .filter(|observed| observed.ours)
        .map(|observed| Arc::clone(&observed.pool))
        .collect();
    let class = reach::bought_by(&Arc::new(resolution.class.clone()), &pools);
    match hands.cloud.rehearse(object, &class).await? {
        Rehearsal::Passed => {}
        Rehearsal::Doubtful(why) => {
            resolution.remarks.insert(validation, why);
        }
        Rehearsal::Failed(why) => {
            resolution.class.ready = false;
            resolution.class.not_ready.clone_from(&why.message);
            resolution.conditions.insert(validation, Err(why));
        }
    }
    Ok(resolution)
}

/// Remembers why a class cannot be used. What was known of it stays in use; one that was never
/// resolved is known not to be ready, and holds up nobody but the pods that need it.
fn not_ready(context: &Context, object: &EC2NodeClass, name: &str, why: String) {
    // What says nothing of any condition comes from here: the newest reason is the one that somebody can mend.
    let known = context.class(name);
    if known.is_none_or(|known| known.conditions.is_empty()) {
        context.set_class(name, Some(Arc::new(unknown(object, name, why))));
    }
}

/// Changes the status of a class as it is now.
async fn write(
    context: &Acting,
    seen: &EC2NodeClass,
    name: &str,
    change: impl FnOnce(&mut EC2NodeClass, Timestamp) + Send,
) -> Result<(), StepError> {
    let current = context
        .mirror
        .view()
        .node_classes
        .get(name)
        .map(|observed| Arc::clone(&observed.object))
        .filter(|current| current.metadata.uid == seen.metadata.uid);
    let Some(current) = current else {
        return Err(StepError::Outdated(format!("EC2NodeClass {name} is gone")));
    };
    let mut changed = EC2NodeClass::clone(&current);
    change(&mut changed, context.now());
    let status = changed.status.unwrap_or_default();
    context
        .kubernetes
        .update_node_class_status(&current, status)
        .await?;
    Ok(())
}

/// A class that could not be looked at.
fn unknown(object: &EC2NodeClass, name: &str, why: String) -> Resolution {
    Resolution {
        class: NodeClass {
            name: name.to_owned(),
            uid: object.metadata.uid.clone().unwrap_or_default(),
            generation: object.metadata.generation.unwrap_or(0),
            ready: false,
            not_ready: why,
            subnets: BTreeMap::new(),
            security_groups: Vec::new(),
            images: BTreeMap::new(),
            hash: String::new(),
            catalogue: Arc::default(),
            reservations: Vec::new(),
            placement_group: None,
            lists_interfaces: false,
        },
        conditions: BTreeMap::new(),
        remarks: BTreeMap::new(),
        instance_profile: String::new(),
    }
}

/// Removes what was made in EC2 for a class that nobody uses any more, then lets it go.
async fn release(context: Arc<Acting>, object: Arc<EC2NodeClass>) -> Result<(), StepError> {
    let name = object.metadata.name.clone().unwrap_or_default();
    let uid = object.metadata.uid.clone().unwrap_or_default();
    context.cloud.release(&name).await?;
    profiles::release(&context, &object).await?;
    context
        .kubernetes
        .remove_finalizer(
            FinalizedKind::NodeClass,
            &name,
            &uid,
            labels::NODE_CLASS_FINALIZER,
        )
        .await?;
    tracing::info!(class = name, "node class gone");
    Ok(())
}
