//! Claims that one pod at a time may use: `ReadWriteOncePod`.
//!
//! Given a snapshot and the classes that wait; given back the classes without the pods that must wait
//! for another pod to go, and the reason of each. Kube-scheduler places no pod whose claim is used by a
//! pod on any node, whatever the node, so one of those that wait goes first: by priority, then by
//! age, then by name. Nothing is placed here.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::demand::PodClass;
use crate::model::pod::{Pod, PodKey, PodSpec};
use crate::model::report::{PoolReason, ProvisioningPlan, ReasonKind, Unschedulable};
use crate::model::snapshot::Snapshot;

/// Rounds of planning in which pods that go first and find no place make way for others, before the
/// rest is left as it is.
pub const MOST_ROUNDS: usize = 4;

/// Whose turn it is.
#[derive(Debug, Clone, Default)]
pub struct Turns {
    /// The pods that others wait for.
    pub first: BTreeSet<PodKey>,
    /// The pods that wait for others, with the reason.
    pub later: BTreeMap<PodKey, Unschedulable>,
}

impl Turns {
    /// Decides, and takes the pods that must wait out of `waiting`, as well as those in `passed`, which
    /// have found no place.
    pub fn take(
        snapshot: &Snapshot,
        waiting: &mut Vec<PodClass>,
        passed: &BTreeMap<PodKey, Unschedulable>,
    ) -> Self {
        let mut turns = Self {
            later: passed.clone(),
            ..Self::default()
        };
        leave(waiting, &turns.later);
        let mut rivals: Vec<(&Pod, Vec<String>)> = Vec::new();
        for class in waiting.iter() {
            let claims = exclusive(snapshot, &class.spec);
            if claims.is_empty() || class.spec.problem.is_some() {
                continue;
            }
            let pods = class.pods.iter();
            let pods = pods.filter_map(|key| snapshot.pods.get(key));
            rivals.extend(pods.map(|pod| (&**pod, claims.clone())));
        }
        if rivals.is_empty() {
            return turns;
        }
        // What is still on a node that goes away has its claim in use already.
        rivals.sort_by_key(|(pod, _claims)| {
            let order = (Reverse(pod.spec.priority), pod.created, &pod.key);
            (pod.node_name.is_none(), order)
        });
        let waits: BTreeSet<&PodKey> = waiting.iter().flat_map(|class| &class.pods).collect();
        let mut users = users(snapshot, &waits);
        for (pod, claims) in rivals {
            let taken = claims
                .iter()
                .find_map(|claim| Some((claim, users.get(claim)?)));
            if let Some((claim, user)) = taken {
                if waits.contains(user) {
                    turns.first.insert(user.clone());
                }
                turns.later.insert(pod.key.clone(), because(claim, user));
                continue;
            }
            for claim in claims {
                users.insert(claim, pod.key.clone());
            }
        }
        leave(waiting, &turns.later);
        turns
    }

    /// Those that went first and were left out, so that others may go in their place.
    pub fn stuck(&self, plan: &ProvisioningPlan) -> BTreeMap<PodKey, Unschedulable> {
        self.first
            .iter()
            .filter_map(|pod| Some((pod.clone(), plan.unschedulable.get(pod)?.clone())))
            .collect()
    }
}

/// Takes pods out of the classes that wait.
fn leave(waiting: &mut Vec<PodClass>, gone: &BTreeMap<PodKey, Unschedulable>) {
    if gone.is_empty() {
        return;
    }
    for class in waiting.iter_mut() {
        class.pods.retain(|pod| !gone.contains_key(pod));
    }
    waiting.retain(|class| !class.pods.is_empty());
}

/// The claims of pods with this spec that no other pod may use beside them, by `namespace/name`.
fn exclusive(snapshot: &Snapshot, spec: &PodSpec) -> Vec<String> {
    spec.constraints
        .iter()
        .flat_map(|constraints| &constraints.volume_claims)
        .map(|name| format!("{}/{name}", spec.namespace))
        .filter(|key| {
            snapshot
                .volume_claims
                .get(key)
                .is_some_and(|claim| claim.one_pod && claim.problem.is_none())
        })
        .collect()
}

/// The pods on nodes that use such claims, but for those that wait for another node themselves.
fn users(snapshot: &Snapshot, waits: &BTreeSet<&PodKey>) -> BTreeMap<String, PodKey> {
    let mut users = BTreeMap::new();
    for pod in snapshot.pods.values().filter(|pod| pod.is_active_on_node()) {
        if !waits.contains(&pod.key) {
            for claim in exclusive(snapshot, &pod.spec) {
                users.insert(claim, pod.key.clone());
            }
        }
    }
    users
}

fn because(claim: &str, user: &PodKey) -> Unschedulable {
    Unschedulable {
        reasons: vec![PoolReason {
            node_pool: String::new(),
            reason: ReasonKind::VolumeUnsatisfiable,
            detail: format!(
                "PersistentVolumeClaim {claim} is ReadWriteOncePod: one pod at a time may use it, and {user} comes first; give each pod a claim of its own, or use ReadWriteOnce"
            ),
            nearest_miss: None,
        }],
    }
}
