//! Provisioning: which nodes to buy for the pods that wait, and why the rest waits.
//!
//! Given a snapshot and settings, [`provision`] gives back a plan: which pods go onto which
//! existing, in-flight or new nodes, each new node with its alternatives, and reasons for every pod
//! left out. Equal inputs give equal plans. Nothing is bought or written here.

pub mod demand;
pub mod settings;

pub use settings::{ContestedPods, ProvisionSettings};

use crate::model::report::{PoolReason, ProvisioningPlan, ReasonKind, Unschedulable};
use crate::model::snapshot::Snapshot;

/// Plans for the pods of a snapshot that wait for a node.
pub fn provision(snapshot: &Snapshot, _settings: &ProvisionSettings) -> ProvisioningPlan {
    let mut plan = ProvisioningPlan::default();
    if snapshot.node_pools.is_empty() {
        for class in demand::classes(snapshot) {
            for pod in class.pods {
                plan.unschedulable.insert(pod, no_node_pool());
            }
        }
    }
    plan
}

/// The reason of every pod while there is no NodePool.
fn no_node_pool() -> Unschedulable {
    Unschedulable {
        reasons: vec![PoolReason {
            node_pool: String::new(),
            reason: ReasonKind::NoNodePool,
            detail: "there is no NodePool whose nodeClassRef is an EC2NodeClass; create one"
                .to_owned(),
            nearest_miss: None,
        }],
    }
}
