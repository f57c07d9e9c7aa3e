//! Claims whose instance has ended although nobody asked for it: reclaimed, failed, switched off, or
//! terminated or stopped by hand.
//!
//! Given a snapshot and what is known of single instances, [`ended`] gives back the claims that go
//! at once because EC2 says so, and the instances to ask about because their Node is silent. This is
//! positive evidence, so it needs no second list; a mere absence from a list does.

use std::sync::Arc;

use jiff::SignedDuration;

use super::CollectStep;
use crate::api::conditions::ConditionType;
use crate::model::snapshot::Snapshot;
use crate::plan::decision::Decision;
use crate::plan::instances::{InstanceView, Sight};

/// How long an answer about the instance of a silent Node is believed.
const ASK_AGAIN: SignedDuration = SignedDuration::from_secs(10);

/// Decides about registered claims whose Node is silent or gone.
pub fn ended(snapshot: &Snapshot, instances: &InstanceView) -> Decision<CollectStep> {
    let mut decision = Decision::default();
    for claim in snapshot.claims.values() {
        let Some(id) = claim.instance_id() else {
            continue;
        };
        let speaks = snapshot
            .nodes
            .get(&claim.node_name)
            .is_some_and(|node| node.ready);
        let registered = claim.is(ConditionType::Registered.as_str());
        if speaks || !registered || claim.deleting_since.is_some() {
            continue;
        }
        match instances.get(id) {
            Sight::Seen(instance) if instance.state.is_off() => {
                decision.push(CollectStep::DeleteClaim {
                    claim: Arc::clone(claim),
                    instance: id.to_owned(),
                });
            }
            Sight::Seen(_) | Sight::Absent(_) | Sight::Unknown => {
                let due = instances
                    .asked_at(id)
                    .and_then(|asked| asked.checked_add(ASK_AGAIN).ok());
                match due {
                    Some(due) if due > snapshot.now => decision.wake_at(due),
                    _ => {
                        decision.look_at.insert(id.to_owned());
                    }
                }
            }
        }
    }
    decision
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::instance::{Instance, InstanceState};
    use crate::plan::examples::{at, initialized, instance, node, world};

    fn seen(state: InstanceState) -> InstanceView {
        let mut view = InstanceView::default();
        let found = Instance {
            state,
            ..instance("a")
        };
        view.listed(&[Arc::new(found)], at(990));
        view
    }

    fn silent() -> Snapshot {
        let mut silent = node("a");
        silent.ready = false;
        world(1_000, &[initialized("a")], &[silent], &[])
    }

    #[test]
    fn a_silent_nodes_instance_is_asked_about_and_its_claim_goes_when_it_has_ended() {
        let unknown = ended(&silent(), &InstanceView::default());
        assert_eq!(unknown.look_at.iter().collect::<Vec<_>>(), ["i-a"]);
        assert!(unknown.steps.is_empty());
        for state in [InstanceState::Terminated, InstanceState::Stopped] {
            let gone = ended(&silent(), &seen(state));
            let steps = gone.steps.as_slice();
            assert!(
                matches!(steps, [CollectStep::DeleteClaim { .. }]),
                "{state:?}"
            );
        }
    }

    #[test]
    fn a_living_instance_or_a_node_that_speaks_keeps_its_claim() {
        assert!(
            ended(&silent(), &seen(InstanceState::Running))
                .steps
                .is_empty()
        );
        let speaking = world(1_000, &[initialized("a")], &[node("a")], &[]);
        assert_eq!(
            ended(&speaking, &seen(InstanceState::Terminated)),
            Decision::default()
        );
    }
}
