//! What a claim whose Node has registered still waits for.
//!
//! Given a claim and the Nodes with its provider id; given back in the decision: that the Node is usable, what keeps
//! it from being so, or that its kubelet has registered it anew and it must be opened again. Nothing is written here.

use std::sync::Arc;

use super::agreement::{disagreement, has_left_its_reservation};
use super::{ASK_AGAIN, GiveUp, LifecycleStep, Turn};
use crate::api::conditions::{ConditionReason, ConditionType};
use crate::api::labels;
use crate::model::claim::Claim;
use crate::model::node::Node;
use crate::model::taint::Taint;
use crate::plan::condition::ConditionChange;
use crate::plan::decision::Decision;
use crate::plan::instances::Sight;

impl Turn<'_> {
    pub(super) fn registered(&self, nodes: &[&Arc<Node>], decision: &mut Decision<LifecycleStep>) {
        let mut own = None;
        for node in nodes {
            if node.name == self.claim.node_name {
                own = Some(*node);
            } else {
                let message = format!("that instance is Node {}", self.claim.node_name);
                self.impostor(node, message, decision);
            }
        }
        if let Some(node) = own.filter(|_node| has_left_its_reservation(self.claim, self.instances))
        {
            decision.push(LifecycleStep::LeaveReservation {
                claim: Arc::clone(self.claim),
                node: Arc::clone(node),
            });
            return;
        }
        let anew = own.filter(|node| is_anew(node));
        if let Some(node) = anew
            && self.registered_anew(node, decision)
        {
            return;
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

    /// A Node that lacks what registration wrote to it: its kubelet has registered it anew, as one does that starts and
    /// finds no Node, which a restore may have taken. It counts as one that has just joined, and is registered again
    /// as long as it is the claim's machine. Says whether there is a step.
    fn registered_anew(&self, node: &Arc<Node>, decision: &mut Decision<LifecycleStep>) -> bool {
        // The Node is written before the claim, and a watch may show it after the claim.
        let since = self.since(ConditionType::Registered);
        let due = since.saturating_add(ASK_AGAIN).unwrap_or(since);
        if self.snapshot.now < due {
            decision.wake_at(due);
            return false;
        }
        if self.claim.is(ConditionType::Initialized.as_str()) {
            let message = format!("Node {} was registered anew by its kubelet", node.name);
            let reason = ConditionReason::NodeNotReady;
            self.report(
                ConditionChange::unknown(ConditionType::Initialized, reason, message),
                decision,
            );
            return true;
        }
        let id = self.claim.instance_id().unwrap_or_default();
        let Sight::Seen(instance) = self.instances.get(id) else {
            self.ask(id, decision);
            return false;
        };
        if let Some(message) = disagreement(self.claim, node, &instance) {
            self.impostor(node, message, decision);
            return false;
        }
        let is_off = instance.state.is_off();
        if !is_off {
            decision.push(self.register(node, instance));
        }
        !is_off
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
            let text = || format!("the node was not usable within {timeout:#}: {message}");
            // Later than the registration where the Node was registered anew.
            let registered = self.since(ConditionType::Registered);
            let start = registered.max(self.since(ConditionType::Initialized));
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

/// Whether a Node lacks what registration writes to it, or has been left half open by it: a kubelet's own taint evicts.
fn is_anew(node: &Node) -> bool {
    node.deleting_since.is_none()
        && (!node.labels.contains_key(labels::REGISTERED) || node.taints.iter().any(Taint::is_hold))
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
    if let Some(taint) = node.taints.iter().find(|taint| taint.is_ephemeral()) {
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
