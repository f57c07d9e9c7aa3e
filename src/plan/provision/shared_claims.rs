//! Volume claims that several pods mount before there is a volume.
//!
//! Given a snapshot and the classes that wait; given back which claims tie their pods to one zone. Until
//! a claim with `WaitForFirstConsumer` is bound, the first pod that kube-scheduler places decides where the
//! volume is made, and all other pods with the claim must be where the volume can be attached: for EBS,
//! and for classes whose allowed topologies speak of zones, in its zone. That is all that kube-scheduler
//! enforces: `ReadWriteOnce` keeps nobody from another node of the zone, where the pod would wait for
//! the volume. Claims that are bound say by themselves where their volume is. `ReadWriteOncePod` is the
//! business of [`super::turns`].

use std::collections::{BTreeMap, BTreeSet};

use super::class::EBS_DRIVER;
use super::demand::PodClass;
use super::labels::ZONE;
use crate::model::pod::PodSpec;
use crate::model::snapshot::Snapshot;
use crate::model::workload::VolumeClaim;

/// Claims that tie pods to one zone, by `namespace/name`.
#[derive(Debug, Clone, Default)]
pub struct SharedClaims(BTreeSet<String>);

impl SharedClaims {
    /// The claims that tie waiting pods to each other, or to pods that run.
    pub fn of(snapshot: &Snapshot, waiting: &[PodClass]) -> Self {
        let mut users: BTreeMap<String, usize> = BTreeMap::new();
        for class in waiting {
            for name in claims(&class.spec) {
                let key = key(&class.spec, name);
                if snapshot
                    .volume_claims
                    .get(&key)
                    .is_some_and(|claim| waits(claim))
                {
                    *users.entry(key).or_default() += class.pods.len();
                }
            }
        }
        if users.is_empty() {
            return Self::default();
        }
        for pod in snapshot.pods.values().filter(|pod| pod.is_active_on_node()) {
            for name in claims(&pod.spec) {
                if let Some(count) = users.get_mut(&key(&pod.spec, name)) {
                    *count += 1;
                }
            }
        }
        users.retain(|_key, count| *count > 1);
        Self(users.into_keys().collect())
    }

    /// True for a claim of pods with this spec that is shared.
    pub fn contains(&self, spec: &PodSpec, name: &str) -> bool {
        !self.0.is_empty() && self.0.contains(&key(spec, name))
    }
}

/// The volume is made in the zone of the first pod that is placed.
fn waits(claim: &VolumeClaim) -> bool {
    let zonal = claim.driver == EBS_DRIVER
        || claim
            .node_terms
            .iter()
            .flat_map(|term| &term.expressions)
            .any(|expression| expression.key == ZONE);
    claim.volume_name.is_none() && claim.problem.is_none() && zonal
}

/// The names of the claims that a pod mounts.
pub fn claims(spec: &PodSpec) -> impl Iterator<Item = &String> {
    spec.constraints
        .iter()
        .flat_map(|constraints| &constraints.volume_claims)
}

fn key(spec: &PodSpec, name: &str) -> String {
    format!("{}/{name}", spec.namespace)
}

/// True for a pod of this namespace that mounts the claim.
pub fn mounts(spec: &PodSpec, namespace: &str, name: &str) -> bool {
    spec.namespace == namespace && claims(spec).any(|own| own == name)
}
