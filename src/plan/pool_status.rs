//! What a NodePool's status says: how much it has, and whether it can make more.
//!
//! Given a snapshot and the state of the pool's node class, [`usage`] and [`conditions`] give back
//! what to write. Claims count from the moment they exist until they are being deleted, so a limit
//! can be read off the status. Nothing is written here.

use std::sync::Arc;

use crate::api::conditions::{ConditionReason, ConditionType, ConditionUpdate};
use crate::model::claim::Claim;
use crate::model::node_class::NodeClass;
use crate::model::node_pool::NodePool;
use crate::model::resources::{CPU, EPHEMERAL_STORAGE, MEMORY, NODES, PODS, Resources};
use crate::model::snapshot::Snapshot;
use crate::plan::provision::reach::Reach;

/// The names that a pool's usage always carries, zero or not.
pub const ALWAYS: [&str; 5] = [CPU, MEMORY, PODS, EPHEMERAL_STORAGE, NODES];

/// What is known of a pool's node class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClassState<'world> {
    /// There is no such EC2NodeClass.
    Missing,
    /// It is being deleted.
    Terminating,
    /// It was not resolved yet.
    Unknown,
    /// It was resolved.
    Known(&'world Arc<NodeClass>),
}

/// How much a pool has, the number of its nodes included.
pub fn usage(snapshot: &Snapshot, pool: &str) -> Resources {
    let mut usage = Resources::new();
    for claim in snapshot.claims.values() {
        if claim.node_pool.as_deref() != Some(pool) || claim.deleting_since.is_some() {
            continue;
        }
        usage.add(&capacity(snapshot, claim));
        usage.add(&Resources::new().with(NODES, 1));
    }
    usage
}

/// What a claim's machine has: as its Node says, else as its instance type says, else what it was
/// made for.
fn capacity(snapshot: &Snapshot, claim: &Claim) -> Resources {
    let node = snapshot
        .nodes
        .get(&claim.node_name)
        .filter(|_node| claim.is(ConditionType::Initialized.as_str()));
    match node {
        Some(node) => node.capacity.clone(),
        None if !claim.capacity.is_empty() => claim.capacity.clone(),
        None => claim.requests.clone(),
    }
}

/// The conditions that make up whether a pool can make nodes.
pub fn conditions(pool: &Arc<NodePool>, class: ClassState<'_>) -> [ConditionUpdate; 2] {
    let mut problems = pool.problems.clone();
    if let ClassState::Known(class) = class
        && class.ready
        && problems.is_empty()
    {
        problems.extend(Reach::of(pool, class).problem());
    }
    let validation = if problems.is_empty() {
        ConditionUpdate::holds(ConditionType::ValidationSucceeded)
    } else {
        ConditionUpdate::fails(
            ConditionType::ValidationSucceeded,
            &ConditionReason::NodePoolValidationFailed,
            problems.join(". "),
        )
    };
    [validation, class_condition(pool, class)]
}

fn class_condition(pool: &NodePool, class: ClassState<'_>) -> ConditionUpdate {
    let condition = ConditionType::NodeClassReady;
    let name = &pool.node_class;
    match class {
        ClassState::Missing => ConditionUpdate::fails(
            condition,
            &ConditionReason::NodeClassNotFound,
            format!(
                "EC2NodeClass {name} does not exist; create it, or correct \
                 spec.template.spec.nodeClassRef.name"
            ),
        ),
        ClassState::Terminating => ConditionUpdate::fails(
            condition,
            &ConditionReason::NodeClassTerminating,
            format!("EC2NodeClass {name} is being deleted; refer to another one"),
        ),
        ClassState::Unknown => ConditionUpdate::unknown(
            condition,
            &ConditionReason::NodeClassReadinessUnknown,
            format!("EC2NodeClass {name} was not looked at yet"),
        ),
        ClassState::Known(class) if class.ready => ConditionUpdate::holds(condition),
        ClassState::Known(class) => ConditionUpdate::fails(
            condition,
            &ConditionReason::from("NodeClassNotReady"),
            format!("EC2NodeClass {name} is not ready: {}", class.not_ready),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::requirement::Requirement;
    use crate::plan::examples::{
        at, claim, initialized, launched, node, node_class, node_pool, world,
    };

    #[test]
    fn every_claim_counts_with_what_is_known_of_it_until_it_is_deleted() {
        let mut bought = launched("b");
        bought.capacity = Resources::new().with(CPU, 8_000);
        let mut going = launched("d");
        going.deleting_since = Some(at(100));
        let mut foreign = launched("e");
        foreign.node_pool = Some("other".to_owned());
        let claims = [
            claim("a", &["c5.xlarge/us-east-1a/spot"]),
            bought,
            initialized("c"),
            going,
            foreign,
        ];
        let usage = usage(&world(100, &claims, &[node("c")], &[]), "general");
        assert_eq!(usage.get(NODES), 3);
        assert_eq!(usage.get(CPU), 2_000 + 8_000 + 4_000);
    }

    #[test]
    fn conditions_name_what_is_wrong_and_what_would_fix_it() {
        let mut pool = node_pool("general");
        let class = Arc::new(node_class());
        let fine = conditions(&Arc::new(pool.clone()), ClassState::Known(&class));
        assert_eq!(
            fine[1],
            ConditionUpdate::holds(ConditionType::NodeClassReady)
        );
        pool.problems
            .push("spec.limits.cpu: \"x\" is no quantity; write 100".to_owned());
        let broken = format!(
            "{:?}",
            conditions(&Arc::new(pool.clone()), ClassState::Missing)
        );
        for words in [
            "spec.limits.cpu",
            "NodeClassNotFound",
            "create it",
            "default",
        ] {
            assert!(broken.contains(words), "{broken}");
        }
    }

    #[test]
    fn a_pool_that_can_buy_nothing_says_which_requirement_does_it() {
        let class = Arc::new(node_class());
        let said = |requirements: &[(&str, Requirement)]| {
            let mut pool = node_pool("general");
            for (key, requirement) in requirements {
                pool.requirements.add(key, requirement);
            }
            let [validation, _class] = conditions(&Arc::new(pool), ClassState::Known(&class));
            format!("{validation:?}")
        };
        let family = "karpenter.k8s.aws/instance-family";
        let nothing = said(&[(family, Requirement::one_of(["zz99"]))]);
        assert!(
            nothing.contains("has karpenter.k8s.aws/instance-family In [zz99]"),
            "{nothing}"
        );
        let instance_type = "node.kubernetes.io/instance-type";
        let contradiction = said(&[
            (instance_type, Requirement::one_of(["c5.large"])),
            (instance_type, Requirement::none_of(["c5.large"])),
        ]);
        assert!(
            contradiction.contains("exclude each other"),
            "{contradiction}"
        );
        let fine = format!(
            "{:?}",
            ConditionUpdate::holds(ConditionType::ValidationSucceeded)
        );
        assert_eq!(said(&[]), fine);
    }
}
