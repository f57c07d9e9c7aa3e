//! From a launched instance to a usable node: registration, initialization, and giving up.
//!
//! Given a snapshot, what is known of instances and the default timeouts, [`decide`] gives back what
//! to do about every claim that is not initialized and not being deleted. A Node belongs to a claim
//! only when provider id, instance and claim agree; a Node that claims another's provider id is
//! reported and left alone. Nothing is written here.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::condition::ConditionChange;
use super::decision::Decision;
use super::instances::{InstanceView, Sight};
use crate::api::conditions::{ConditionReason, ConditionType};
use crate::api::labels;
use crate::model::claim::Claim;
use crate::model::instance::{Instance, tags};
use crate::model::node::Node;
use crate::model::snapshot::Snapshot;
use crate::model::taint::{Taint, TaintEffect};

/// How long an answer of EC2 about an instance is believed when a Node asks to be bound to it, and
/// how long to wait before asking again about an instance that EC2 did not show.
const ASK_AGAIN: SignedDuration = SignedDuration::from_secs(5);

/// Timeouts of claims without a NodePool, and of NodePools that do not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LifecycleSettings {
    /// From the claim's creation until it is launched.
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
        let timeout = self.timeouts.launch_timeout;
        let message = || {
            let why = self
                .claim
                .conditions
                .get(ConditionType::Launched.as_str())
                .map_or("", |found| found.message.as_str());
            format!("nothing was launched within {timeout:#}; {why}")
        };
        self.expired(
            self.claim.created,
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
            Sight::Seen(instance) => instance.state.is_ending(),
            _ => self.instances.is_gone(id, launched),
        };
        if ended {
            decision.push(LifecycleStep::GiveUp {
                claim: Arc::clone(self.claim),
                reason: GiveUp::InstanceEnded,
                message: format!("instance {id} ended before its node registered"),
            });
            return;
        }
        let timeout = self.timeouts.registration_timeout;
        let message = || {
            format!(
                "instance {id} did not register as a node within {timeout:#}; its console output \
                 says why (subnet route to the API server, security groups, instance profile, user \
                 data)"
            )
        };
        if self.expired(
            launched,
            timeout,
            GiveUp::RegistrationTimeout,
            message,
            decision,
        ) {
            return;
        }
        if nodes.is_empty() {
            self.report(
                ConditionChange::unknown(
                    ConditionType::Registered,
                    ConditionReason::NodeNotFound,
                    format!(
                        "no Node with provider id {} exists yet",
                        self.claim.provider_id
                    ),
                ),
                decision,
            );
            return;
        }
        let Sight::Seen(instance) = sight else {
            self.ask(id, decision);
            return;
        };
        self.bind(nodes, &instance, decision);
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
                    let unmarked = !node.labels.contains_key(labels::REGISTERED)
                        && !node
                            .taints
                            .iter()
                            .any(|taint| taint.key == labels::UNREGISTERED_TAINT);
                    decision.push(LifecycleStep::Register {
                        claim: Arc::clone(self.claim),
                        node: Arc::clone(node),
                        instance: Arc::clone(instance),
                        unmarked,
                    });
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

    fn impostor(&self, node: &Arc<Node>, message: String, decision: &mut Decision<LifecycleStep>) {
        decision.push(LifecycleStep::Impostor {
            claim: Arc::clone(self.claim),
            node: Arc::clone(node),
            message,
        });
    }

    fn registered(&self, nodes: &[&Arc<Node>], decision: &mut Decision<LifecycleStep>) {
        let mut own = None;
        for node in nodes {
            if node.name == self.claim.node_name {
                own = Some(*node);
            } else {
                let message = format!("that instance is Node {}", self.claim.node_name);
                self.impostor(node, message, decision);
            }
        }
        if self.claim.is(ConditionType::Initialized.as_str()) {
            return;
        }
        let waits = match own {
            None => Some((
                ConditionReason::NodeNotFound,
                format!("Node {} does not exist", self.claim.node_name),
            )),
            Some(node) => not_usable(self.claim, node),
        };
        match (waits, own) {
            (None, Some(node)) => decision.push(LifecycleStep::Initialize {
                claim: Arc::clone(self.claim),
                node: Arc::clone(node),
            }),
            (Some((reason, message)), _) => self.wait_for_use(own, reason, message, decision),
            (None, None) => {}
        }
    }

    fn wait_for_use(
        &self,
        node: Option<&Arc<Node>>,
        reason: ConditionReason,
        message: String,
        decision: &mut Decision<LifecycleStep>,
    ) {
        // Pods that run already show that the node is of use to somebody.
        let works = node.is_some_and(|node| {
            self.snapshot
                .pods_on(&node.name)
                .any(|pod| !pod.is_daemon() && !pod.mirror)
        });
        if let Some(timeout) = self.timeouts.initialization_timeout.filter(|_limit| !works) {
            let told = message.clone();
            let text = || format!("the node was not usable within {timeout:#}: {told}");
            let start = self.since(ConditionType::Registered);
            if self.expired(
                start,
                timeout,
                GiveUp::InitializationTimeout,
                text,
                decision,
            ) {
                return;
            }
        }
        self.report(
            ConditionChange::unknown(ConditionType::Initialized, reason, message),
            decision,
        );
    }
}

/// What does not agree between a claim, a Node with its provider id, and the instance.
fn disagreement(claim: &Claim, node: &Node, instance: &Instance) -> Option<String> {
    if instance.provider_id() != claim.provider_id {
        return Some(format!(
            "the instance's provider id is {}, not {}",
            instance.provider_id(),
            claim.provider_id
        ));
    }
    if let Some(tag) = instance.tags.get(tags::CLAIM)
        && *tag != claim.name
    {
        return Some(format!("the instance is tagged as that of NodeClaim {tag}"));
    }
    let host = |name: &str| name.split('.').next().unwrap_or_default().to_owned();
    let named = if instance.private_dns_name.is_empty() {
        instance.tags.get(tags::CLAIM) == Some(&claim.name)
    } else {
        host(&instance.private_dns_name) == host(&node.name)
    };
    (!named).then(|| {
        format!(
            "the host name of instance {} is {}, not {}",
            instance.id, instance.private_dns_name, node.name
        )
    })
}

/// What keeps pods from using all of a node, if anything.
fn not_usable(claim: &Claim, node: &Node) -> Option<(ConditionReason, String)> {
    if !node.ready {
        let message = format!("Node {} is not Ready", node.name);
        return Some((ConditionReason::NodeNotReady, message));
    }
    let startup = claim
        .startup_taints
        .iter()
        .find(|taint| node.taints.iter().any(|present| present.matches(taint)));
    if let Some(taint) = startup {
        let message = format!(
            "startup taint {taint} is still on the Node; whatever should remove it has not"
        );
        return Some((ConditionReason::StartupTaintsExist, message));
    }
    if let Some(taint) = node.taints.iter().find(|taint| is_ephemeral(taint)) {
        let message = format!("taint {taint} is still on the Node");
        return Some((ConditionReason::KnownEphemeralTaintsExist, message));
    }
    let missing = claim
        .requests
        .iter()
        .find(|(name, amount)| *amount > 0 && node.allocatable.get(name) <= 0);
    missing.map(|(name, _amount)| {
        let message =
            format!("resource {name} is not on the Node yet; a device plugin must register it");
        (ConditionReason::ResourceNotRegistered, message)
    })
}

/// True for taints that Kubernetes itself puts on starting nodes and takes off again.
pub fn is_ephemeral(taint: &Taint) -> bool {
    let kind = (taint.key.as_str(), taint.effect);
    matches!(
        kind,
        (
            labels::NOT_READY_TAINT,
            TaintEffect::NoSchedule | TaintEffect::NoExecute
        ) | (
            labels::UNREACHABLE_TAINT | labels::UNINITIALIZED_TAINT,
            TaintEffect::NoSchedule
        ) | (labels::UNREGISTERED_TAINT, TaintEffect::NoExecute)
    ) || taint.key.starts_with(labels::READINESS_TAINT_PREFIX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::instance::InstanceState;
    use crate::model::resources::Resources;
    use crate::plan::examples::{
        at, booted, claim, initialized, instance, launched, node, pod, set, world,
    };
    use std::collections::BTreeSet;

    fn seen(instances: &[Instance]) -> InstanceView {
        let mut view = InstanceView::default();
        let found: Vec<Arc<Instance>> = instances.iter().cloned().map(Arc::new).collect();
        view.answered(&BTreeSet::new(), &found, at(41));
        view
    }

    fn decide_at(
        second: i64,
        claims: &[Claim],
        nodes: &[Node],
        view: &InstanceView,
    ) -> Decision<LifecycleStep> {
        decide(
            &world(second, claims, nodes, &[]),
            view,
            &LifecycleSettings::default(),
        )
    }

    fn reported(decision: &Decision<LifecycleStep>) -> Vec<(&'static str, String)> {
        decision
            .steps
            .iter()
            .filter_map(|step| match step {
                LifecycleStep::Report { change, .. } => {
                    Some((change.condition.as_str(), change.reason.as_str().to_owned()))
                }
                _ => None,
            })
            .collect()
    }

    #[test]
    fn a_node_is_bound_when_provider_id_instance_and_claim_agree() {
        let claims = [launched("a")];
        let unknown = decide_at(42, &claims, &[booted("a")], &InstanceView::default());
        assert_eq!(unknown.steps, []);
        assert_eq!(unknown.look_at, BTreeSet::from(["i-a".to_owned()]));
        let decision = decide_at(42, &claims, &[booted("a")], &seen(&[instance("a")]));
        assert!(matches!(
            decision.steps.as_slice(),
            [LifecycleStep::Register { unmarked: false, node, .. }] if node.name == "ip-a"
        ));
    }

    #[test]
    fn a_node_with_anothers_provider_id_is_reported_and_left_alone() {
        let mut impostor = booted("a");
        impostor.name = "ip-evil".to_owned();
        let view = seen(&[instance("a")]);
        let alone = decide_at(42, &[launched("a")], &[impostor.clone()], &view);
        assert!(
            matches!(&alone.steps[0], LifecycleStep::Impostor { node, .. } if node.name == "ip-evil")
        );
        assert_eq!(
            reported(&alone),
            [("Registered", "NodeNotFound".to_owned())]
        );
        let both = decide_at(
            42,
            &[launched("a")],
            &[impostor.clone(), booted("a")],
            &view,
        );
        let names: Vec<(&str, &str)> = both
            .steps
            .iter()
            .map(|step| match step {
                LifecycleStep::Register { node, .. } => ("register", node.name.as_str()),
                LifecycleStep::Impostor { node, .. } => ("impostor", node.name.as_str()),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(names, [("register", "ip-a"), ("impostor", "ip-evil")]);
        let later = decide_at(99, &[initialized("a")], &[impostor, node("a")], &view);
        assert!(matches!(
            later.steps.as_slice(),
            [LifecycleStep::Impostor { .. }]
        ));
    }

    #[test]
    fn an_instance_tagged_for_another_claim_binds_to_no_node() {
        let mut tagged = instance("a");
        tagged.tags.insert(tags::CLAIM.to_owned(), "b".to_owned());
        let decision = decide_at(42, &[launched("a")], &[booted("a")], &seen(&[tagged]));
        assert!(matches!(&decision.steps[0], LifecycleStep::Impostor { .. }));
    }

    #[test]
    fn a_node_is_usable_only_when_nothing_holds_pods_off() {
        let mut claim = initialized("a");
        claim.conditions.remove("Initialized");
        let startup = Taint::new("cni", "", TaintEffect::NoSchedule);
        claim.startup_taints.push(startup.clone());
        claim.requests.set("nvidia.com/gpu", 1);
        let mut machine = node("a");
        machine.ready = false;
        machine.taints.push(startup);
        machine.taints.push(Taint::new(
            labels::NOT_READY_TAINT,
            "",
            TaintEffect::NoSchedule,
        ));
        let view = InstanceView::default();
        let mut told = Vec::new();
        for change in 0..4 {
            match change {
                1 => machine.ready = true,
                2 => drop(machine.taints.remove(0)),
                3 => machine.taints.clear(),
                _ => {}
            }
            let decision = decide_at(70, &[claim.clone()], &[machine.clone()], &view);
            told.extend(
                reported(&decision)
                    .into_iter()
                    .map(|(_condition, reason)| reason),
            );
        }
        let expected = [
            "NodeNotReady",
            "StartupTaintsExist",
            "KnownEphemeralTaintsExist",
            "ResourceNotRegistered",
        ];
        assert_eq!(told, expected);
        machine.allocatable.set("nvidia.com/gpu", 1);
        let decision = decide_at(70, &[claim], &[machine], &view);
        assert!(matches!(
            decision.steps.as_slice(),
            [LifecycleStep::Initialize { .. }]
        ));
    }

    #[test]
    fn timeouts_of_the_pool_give_a_claim_up() {
        let view = InstanceView::default();
        let waiting = [claim("a", &["c5.xlarge/us-east-1a/spot"])];
        let early = decide_at(299, &waiting, &[], &view);
        assert_eq!((early.steps.len(), early.wake), (0, Some(at(300))));
        let late = decide_at(300, &waiting, &[], &view);
        assert!(matches!(
            late.steps.as_slice(),
            [LifecycleStep::GiveUp {
                reason: GiveUp::LaunchTimeout,
                ..
            }]
        ));
        let unregistered = decide_at(10 + 900, &[launched("a")], &[], &view);
        assert!(matches!(
            unregistered.steps.as_slice(),
            [LifecycleStep::GiveUp {
                reason: GiveUp::RegistrationTimeout,
                ..
            }]
        ));
    }

    #[test]
    fn a_node_that_never_becomes_usable_is_given_up_unless_pods_run_on_it() {
        let mut claim = initialized("a");
        set(
            &mut claim,
            "Initialized",
            crate::model::claim::ConditionStatus::Unknown,
            at(50),
        );
        let mut machine = node("a");
        machine.allocatable = Resources::new();
        let settings = LifecycleSettings {
            initialization_timeout: Some(SignedDuration::from_secs(100)),
            ..LifecycleSettings::default()
        };
        let view = InstanceView::default();
        let idle = world(150, &[claim.clone()], &[machine.clone()], &[]);
        assert!(matches!(
            decide(&idle, &view, &settings).steps.as_slice(),
            [LifecycleStep::GiveUp {
                reason: GiveUp::InitializationTimeout,
                ..
            }]
        ));
        let busy = world(150, &[claim], &[machine], &[pod("p", "ip-a")]);
        assert!(matches!(
            decide(&busy, &view, &settings).steps.as_slice(),
            [LifecycleStep::Report { .. }]
        ));
    }

    #[test]
    fn an_instance_that_ends_before_it_joins_is_given_up_at_once() {
        let mut ended = instance("a");
        ended.state = InstanceState::Terminated;
        let decision = decide_at(42, &[launched("a")], &[], &seen(&[ended]));
        assert!(matches!(
            decision.steps.as_slice(),
            [LifecycleStep::GiveUp {
                reason: GiveUp::InstanceEnded,
                ..
            }]
        ));
        // A fresh instance may be invisible for a while.
        let mut view = InstanceView::default();
        view.answered(&BTreeSet::from(["i-a".to_owned()]), &[], at(41));
        let decision = decide_at(42, &[launched("a")], &[], &view);
        assert_eq!(
            reported(&decision),
            [("Registered", "NodeNotFound".to_owned())]
        );
    }
}
