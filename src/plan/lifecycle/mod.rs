//! From a launched instance to a usable node: registration, initialization, and giving up.
//!
//! Given a snapshot, what is known of instances and the default timeouts, [`decide`] gives back what
//! to do about every claim that is not initialized and not being deleted, or whose Node has lost what was written to
//! it. A Node belongs to a claim only when provider id, instance and claim agree; a Node that claims another's
//! provider id is reported and left alone. Nothing is written here.

mod agreement;
mod joined;

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use self::agreement::disagreement;
use crate::api::conditions::{ConditionReason, ConditionType};
use crate::api::labels;
use crate::model::claim::Claim;
use crate::model::instance::{Ending, Instance};
use crate::model::node::Node;
use crate::model::snapshot::Snapshot;
use crate::model::taint::Taint;
use crate::plan::condition::ConditionChange;
use crate::plan::decision::Decision;
use crate::plan::instances::{InstanceView, Sight};
use crate::plan::launch::is_held;

/// How long a machine takes to join at most if all is well, as a rule.
const LATE: SignedDuration = SignedDuration::from_secs(60);

/// How long an answer of EC2 about an instance is believed when a Node asks to be bound to it, and
/// how long to wait before asking again about an instance that EC2 did not show.
const ASK_AGAIN: SignedDuration = SignedDuration::from_secs(5);

/// Timeouts of claims without a NodePool, and of NodePools that do not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(
    clippy::struct_field_names,
    reason = "the words of the settings and annotations"
)]
pub struct LifecycleSettings {
    /// Until the claim is launched, from its creation, or from when there was room for its launch.
    pub launch_timeout: SignedDuration,
    /// From the launch until the node has registered.
    pub registration_timeout: SignedDuration,
    /// From registration until the node is usable; `None` waits for ever.
    pub initialization_timeout: Option<SignedDuration>,
}

impl Default for LifecycleSettings {
    /// 5 and 15 minutes as in the shared API's other implementation; no initialization timeout.
    fn default() -> Self {
        Self {
            launch_timeout: SignedDuration::from_mins(5),
            registration_timeout: SignedDuration::from_mins(15),
            initialization_timeout: None,
        }
    }
}

/// Why a claim is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GiveUp {
    /// Nothing could be bought in time.
    LaunchTimeout,
    /// The instance did not join in time.
    RegistrationTimeout,
    /// The node did not become usable in time.
    InitializationTimeout,
    /// The instance ended before it joined.
    InstanceEnded,
}

impl GiveUp {
    /// The word used in events and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::LaunchTimeout => "launch_timeout",
            Self::RegistrationTimeout => "registration_timeout",
            Self::InitializationTimeout => "initialization_timeout",
            Self::InstanceEnded => "instance_ended",
        }
    }
}

/// Why EC2 ended an instance, for a sentence; empty where it does not say.
fn why(sight: &Sight) -> String {
    let Sight::Seen(instance) = sight else {
        return String::new();
    };
    let said = |ending: &Ending| format!(": {} ({})", ending.message, ending.code);
    instance.ending.as_ref().map(said).unwrap_or_default()
}

/// What to do next about a claim on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LifecycleStep {
    /// Bind the Node to the claim: labels, annotations, taints, owner, finalizer; then say so.
    Register {
        /// The claim.
        claim: Arc<Claim>,
        /// The Node that agrees with it.
        node: Arc<Node>,
        /// Its instance, which gets the claim's and the Node's name as tags.
        instance: Arc<Instance>,
        /// Neither taint nor label of a node that Tonnage booted was found on it.
        unmarked: bool,
    },
    /// The node is usable: label it, then say so.
    Initialize {
        /// The claim.
        claim: Arc<Claim>,
        /// Its Node.
        node: Arc<Node>,
    },
    /// The reservation that the machine is in has ended, and EC2 bills it as on-demand: say so in the labels
    /// of the Node and of the claim.
    LeaveReservation {
        /// The claim.
        claim: Arc<Claim>,
        /// Its Node.
        node: Arc<Node>,
    },
    /// Say on the claim what it waits for.
    Report {
        /// The claim.
        claim: Arc<Claim>,
        /// One condition.
        change: ConditionChange,
    },
    /// Delete the claim, so that its pods are planned again.
    GiveUp {
        /// The claim.
        claim: Arc<Claim>,
        /// Why.
        reason: GiveUp,
        /// Why, for people.
        message: String,
    },
    /// A Node carries the provider id of an instance that is not its own.
    Impostor {
        /// The claim whose provider id it carries.
        claim: Arc<Claim>,
        /// The Node.
        node: Arc<Node>,
        /// What does not agree.
        message: String,
    },
}

impl LifecycleStep {
    /// What may not run twice at the same time.
    pub fn key(&self) -> String {
        match self {
            Self::Register { claim, .. }
            | Self::Initialize { claim, .. }
            | Self::LeaveReservation { claim, .. }
            | Self::Report { claim, .. }
            | Self::GiveUp { claim, .. } => format!("claim/{}", claim.name),
            Self::Impostor { node, .. } => format!("impostor/{}", node.name),
        }
    }
}

/// Decides about every claim that is on its way.
pub fn decide(
    snapshot: &Snapshot,
    instances: &InstanceView,
    settings: &LifecycleSettings,
) -> Decision<LifecycleStep> {
    let mut by_provider_id: BTreeMap<&str, Vec<&Arc<Node>>> = BTreeMap::new();
    for node in snapshot.nodes.values() {
        if !node.provider_id.is_empty() {
            by_provider_id
                .entry(&node.provider_id)
                .or_default()
                .push(node);
        }
    }
    let mut decision = Decision::default();
    for claim in snapshot.claims.values() {
        if claim.deleting_since.is_some() {
            continue;
        }
        let nodes = by_provider_id
            .get(claim.provider_id.as_str())
            .map_or(&[][..], Vec::as_slice);
        let turn = Turn {
            snapshot,
            instances,
            timeouts: timeouts(snapshot, claim, settings),
            claim,
        };
        if !claim.is(ConditionType::Launched.as_str()) {
            turn.unlaunched(&mut decision);
        } else if !claim.is(ConditionType::Registered.as_str()) {
            turn.unregistered(nodes, &mut decision);
        } else {
            turn.registered(nodes, &mut decision);
        }
    }
    decision
}

fn timeouts(snapshot: &Snapshot, claim: &Claim, settings: &LifecycleSettings) -> LifecycleSettings {
    let pool = claim
        .node_pool
        .as_ref()
        .and_then(|name| snapshot.node_pools.get(name));
    pool.map_or(*settings, |pool| LifecycleSettings {
        launch_timeout: pool.launch_timeout,
        registration_timeout: pool.registration_timeout,
        initialization_timeout: pool
            .initialization_timeout
            .or(settings.initialization_timeout),
    })
}

/// The decision about one claim.
struct Turn<'world> {
    snapshot: &'world Snapshot,
    instances: &'world InstanceView,
    timeouts: LifecycleSettings,
    claim: &'world Arc<Claim>,
}

impl Turn<'_> {
    fn since(&self, condition: ConditionType) -> Timestamp {
        self.claim
            .conditions
            .get(condition.as_str())
            .map_or(self.claim.created, |found| found.since)
    }

    fn report(&self, change: ConditionChange, decision: &mut Decision<LifecycleStep>) {
        if let Some(change) = change.news_for(self.claim) {
            decision.push(LifecycleStep::Report {
                claim: Arc::clone(self.claim),
                change,
            });
        }
    }

    /// Gives the claim up when `timeout` has passed since `start`; says whether it did.
    fn expired(
        &self,
        start: Timestamp,
        timeout: SignedDuration,
        reason: GiveUp,
        message: impl FnOnce() -> String,
        decision: &mut Decision<LifecycleStep>,
    ) -> bool {
        let due = start.saturating_add(timeout).unwrap_or(Timestamp::MAX);
        if self.snapshot.now < due {
            decision.wake_at(due);
            return false;
        }
        decision.push(LifecycleStep::GiveUp {
            claim: Arc::clone(self.claim),
            reason,
            message: message(),
        });
        true
    }

    fn unlaunched(&self, decision: &mut Decision<LifecycleStep>) {
        let said = self.claim.conditions.get(ConditionType::Launched.as_str());
        // That there is no room yet is no reason to make the claim anew: it would wait again.
        if said.is_some_and(|said| is_held(&said.reason)) {
            return;
        }
        let timeout = self.timeouts.launch_timeout;
        let message = || {
            let why = said.map_or("", |found| found.message.as_str());
            format!("nothing was launched within {timeout:#}; {why}")
        };
        // When its status last changed: a claim that waited for room did not fail meanwhile.
        self.expired(
            self.since(ConditionType::Launched),
            timeout,
            GiveUp::LaunchTimeout,
            message,
            decision,
        );
    }

    fn unregistered(&self, nodes: &[&Arc<Node>], decision: &mut Decision<LifecycleStep>) {
        let id = self.claim.instance_id().unwrap_or_default();
        let launched = self.since(ConditionType::Launched);
        let sight = self.instances.get(id);
        let ended = match &sight {
            // One that switched itself off before it joined has ended as well.
            Sight::Seen(instance) => instance.state.is_off(),
            _ => self.instances.is_gone(id, launched),
        };
        if ended {
            decision.push(LifecycleStep::GiveUp {
                claim: Arc::clone(self.claim),
                reason: GiveUp::InstanceEnded,
                message: format!(
                    "instance {id} ended before its node registered{}",
                    why(&sight)
                ),
            });
            return;
        }
        let Sight::Seen(instance) = sight else {
            if !nodes.is_empty() {
                // A Node that may be the instance's own is looked at before its claim is given up,
                // however late: the controller may have been away while it registered.
                self.ask(id, decision);
            } else if !self.registration_expired(id, launched, decision) {
                self.look_at_the_late(id, launched, ASK_AGAIN, decision);
                self.no_node(decision);
            }
            return;
        };
        let own = nodes
            .iter()
            .any(|node| disagreement(self.claim, node, &instance).is_none());
        if !own && self.registration_expired(id, launched, decision) {
            return;
        }
        if nodes.is_empty() {
            self.look_at_the_late(id, launched, LATE, decision);
            self.no_node(decision);
        } else {
            self.bind(nodes, &instance, decision);
        }
    }

    fn registration_expired(
        &self,
        id: &str,
        launched: Timestamp,
        decision: &mut Decision<LifecycleStep>,
    ) -> bool {
        let timeout = self.timeouts.registration_timeout;
        let message = || {
            format!(
                "instance {id} did not register as a node within {timeout:#}; its console output \
                 says why (subnet route to the API server, security groups, instance profile, user \
                 data)"
            )
        };
        let reason = GiveUp::RegistrationTimeout;
        self.expired(launched, timeout, reason, message, decision)
    }

    fn no_node(&self, decision: &mut Decision<LifecycleStep>) {
        let provider_id = &self.claim.provider_id;
        let change = ConditionChange::unknown(
            ConditionType::Registered,
            ConditionReason::NodeNotFound,
            format!("no Node with provider id {provider_id} exists yet"),
        );
        self.report(change, decision);
    }

    /// A machine that is late may have ended, which nobody announces where there is no queue: it is looked at, and
    /// again after so long.
    fn look_at_the_late(
        &self,
        id: &str,
        launched: Timestamp,
        again: SignedDuration,
        decision: &mut Decision<LifecycleStep>,
    ) {
        let late = launched.saturating_add(LATE).unwrap_or(launched);
        let asked = self.instances.asked_at(id);
        let due = asked.map_or(late, |at| late.max(at.saturating_add(again).unwrap_or(at)));
        if due > self.snapshot.now {
            return decision.wake_at(due);
        }
        self.ask(id, decision);
    }

    /// Asks EC2 about an instance, unless it was asked a moment ago.
    fn ask(&self, id: &str, decision: &mut Decision<LifecycleStep>) {
        let due = self
            .instances
            .asked_at(id)
            .map(|at| at.saturating_add(ASK_AGAIN).unwrap_or(at));
        match due {
            Some(due) if due > self.snapshot.now => decision.wake_at(due),
            _ => {
                decision.look_at.insert(id.to_owned());
                // The answer may fail to come: ask again.
                decision.wake_at(
                    self.snapshot
                        .now
                        .saturating_add(ASK_AGAIN)
                        .unwrap_or(self.snapshot.now),
                );
            }
        }
    }

    fn bind(
        &self,
        nodes: &[&Arc<Node>],
        instance: &Arc<Instance>,
        decision: &mut Decision<LifecycleStep>,
    ) {
        let mut bound = false;
        for node in nodes {
            match disagreement(self.claim, node, instance) {
                None if !bound => {
                    bound = true;
                    decision.push(self.register(node, Arc::clone(instance)));
                }
                None => self.impostor(node, "another Node is that instance".to_owned(), decision),
                Some(message) => self.impostor(node, message, decision),
            }
        }
        if !bound {
            self.report(
                ConditionChange::unknown(
                    ConditionType::Registered,
                    ConditionReason::NodeNotFound,
                    format!(
                        "only Nodes that are not instance {} carry its provider id",
                        instance.id
                    ),
                ),
                decision,
            );
        }
    }

    fn register(&self, node: &Arc<Node>, instance: Arc<Instance>) -> LifecycleStep {
        let unmarked = !node.labels.contains_key(labels::REGISTERED)
            && !node.taints.iter().any(is_unregistered);
        LifecycleStep::Register {
            claim: Arc::clone(self.claim),
            node: Arc::clone(node),
            instance,
            unmarked,
        }
    }

    fn impostor(&self, node: &Arc<Node>, message: String, decision: &mut Decision<LifecycleStep>) {
        decision.push(LifecycleStep::Impostor {
            claim: Arc::clone(self.claim),
            node: Arc::clone(node),
            message,
        });
    }
}

/// The taint that machines join with.
fn is_unregistered(taint: &Taint) -> bool {
    taint.key == labels::UNREGISTERED_TAINT
}

#[cfg(test)]
mod tests;
