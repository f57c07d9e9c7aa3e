//! Whether the lower bound of a plan is proven.
//!
//! Given a plan and the proofs of its bound; given back everything that is wrong with them, in words. Each proof
//! is verified by itself: no content of a machine may be worth more than the machine. Nothing is solved here.

use crate::model::money::UsdPerHour;
use crate::model::offering::CapacityType;
use crate::model::report::{PlannedNode, ProvisioningPlan};
use crate::plan::pack::problem::{Item, Problem};
use crate::plan::pack::verify_certificate;
use crate::plan::provision::buy::Proof;

/// What is wrong with the proofs of a plan's lower bound: each must hold by the packer's checker, be
/// about the pods of the new nodes that are bought, and together they must come to the bound.
pub fn unproven(plan: &ProvisioningPlan, proofs: &[Proof]) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut proven: i64 = 0;
    let mut counted: u64 = 0;
    for proof in proofs {
        match verify_certificate(&proof.problem, &proof.certificate) {
            Ok(bound) => proven = proven.saturating_add(bound),
            Err(fault) => wrong.push(format!("certificate: {fault}")),
        }
        let items = proof
            .problem
            .items
            .iter()
            .zip(&proof.certificate.class_prices);
        for (item, price) in items {
            if fits_somewhere(&proof.problem, item) {
                counted += u64::from(item.count);
            } else if *price != 0 {
                wrong.push(format!("certificate: {price} for what fits no machine"));
            }
        }
    }
    let bought: usize = plan
        .new_nodes
        .iter()
        .filter(|node| !is_reserved(node))
        .map(|node| node.pods.len())
        .sum();
    if counted != u64::try_from(bought).unwrap_or(u64::MAX) {
        wrong.push(format!(
            "certificate: it is about {counted} pods, and {bought} are on new nodes"
        ));
    }
    let bound = UsdPerHour::from_units(proven).min(plan.price);
    if wrong.is_empty() && bound != plan.lower_bound {
        wrong.push(format!(
            "certificate: it proves {bound}, and the plan says {}",
            plan.lower_bound
        ));
    }
    wrong
}

/// True where a machine of the problem holds one of an item: others are left out by every packing, and worth nothing.
fn fits_somewhere(problem: &Problem, item: &Item) -> bool {
    let mut machines = problem.machines.iter().enumerate();
    machines.any(|(index, machine)| {
        let mut each = item.size.iter().zip(&machine.capacity);
        item.allowed.contains(index) && each.all(|(size, capacity)| size <= capacity)
    })
}

/// True for a machine in a capacity reservation: its slot is paid for, and filled before anything is bought.
fn is_reserved(node: &PlannedNode) -> bool {
    node.offerings
        .first()
        .is_some_and(|offering| offering.capacity_type == CapacityType::Reserved)
}
