//! An independent judge of plans.
//!
//! Given a snapshot and a plan; given back everything that is wrong with the plan, in words. It
//! shares no code with the planner beyond the model: labels are plain maps, sums are made anew, and
//! constraints are judged on the state that the plan would lead to. Lower bounds are held against their proofs,
//! which the packer's own checker verifies. Tests call it, the simulator in its rounds, and [`super::bind`] asks its
//! parts about pods that kube-scheduler will not look at.

mod bound;
pub mod claims;
pub mod fleet;
pub mod limits;
pub mod nodes;
pub mod topology;

pub use bound::unproven;

use std::collections::{BTreeMap, BTreeSet};

use crate::model::money::UsdPerHour;
use crate::model::pod::PodKey;
use crate::model::report::ProvisioningPlan;
use crate::model::snapshot::Snapshot;
use crate::plan::provision::buy::Proof;

/// Everything that is wrong with a plan, and then with the proofs of its lower bound.
pub fn faults(snapshot: &Snapshot, plan: &ProvisioningPlan, proofs: &[Proof]) -> Vec<String> {
    let mut wrong = violations(snapshot, plan);
    wrong.extend(unproven(plan, proofs));
    wrong
}

/// Everything that is wrong with a plan; empty when it may be carried out.
pub fn violations(snapshot: &Snapshot, plan: &ProvisioningPlan) -> Vec<String> {
    let mut wrong = Vec::new();
    once(snapshot, plan, &mut wrong);
    let fleet = fleet::Fleet::after(snapshot, plan, &mut wrong);
    nodes::check(snapshot, &fleet, &mut wrong);
    topology::check(snapshot, &fleet, &mut wrong);
    claims::check(snapshot, &fleet, &mut wrong);
    limits::check(snapshot, plan, &mut wrong);
    limits::reservations(snapshot, plan, &mut wrong);
    money(plan, &mut wrong);
    wrong
}

/// Every pod is placed or explained once, and only pods that exist are.
fn once(snapshot: &Snapshot, plan: &ProvisioningPlan, wrong: &mut Vec<String>) {
    let mut seen: BTreeMap<&PodKey, u32> = BTreeMap::new();
    let placed = plan
        .new_nodes
        .iter()
        .map(|node| &node.pods)
        .chain(plan.existing.values())
        .chain(plan.in_flight.values());
    for pod in placed.flatten().chain(plan.unschedulable.keys()) {
        *seen.entry(pod).or_default() += 1;
    }
    for (pod, times) in &seen {
        if *times > 1 {
            wrong.push(format!("pod {pod} is in the plan {times} times"));
        }
        if !snapshot.pods.contains_key(*pod) {
            wrong.push(format!("pod {pod} does not exist"));
        }
    }
    let known: BTreeSet<&PodKey> = seen.into_keys().collect();
    for pod in snapshot.pods.values() {
        let waits = pod.node_name.is_none()
            && pod.unschedulable
            && pod.nominated_node.is_none()
            && pod.deleting_until.is_none()
            && !pod.phase.is_terminal()
            && pod.is_work()
            && !pod.spec.gated;
        if waits && !known.contains(&pod.key) {
            wrong.push(format!("pod {} waits and is forgotten", pod.key));
        }
    }
    for (pod, why) in &plan.unschedulable {
        if why.reasons.is_empty() {
            wrong.push(format!("pod {pod} is left out without a reason"));
        }
    }
}

fn money(plan: &ProvisioningPlan, wrong: &mut Vec<String>) {
    let sum: UsdPerHour = plan
        .new_nodes
        .iter()
        .map(|node| node.price + node.fees)
        .sum();
    if sum != plan.price {
        wrong.push(format!(
            "the nodes cost {sum}, the plan says {}",
            plan.price
        ));
    }
    if plan.lower_bound > plan.price {
        wrong.push(format!(
            "the lower bound {} is above the price {}",
            plan.lower_bound, plan.price
        ));
    }
}
