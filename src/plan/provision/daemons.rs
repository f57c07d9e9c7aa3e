//! DaemonSet pods: what they will take of a node before anything else lands on it.
//!
//! Given the DaemonSets of a snapshot; given back which of them land on a node by their own
//! selectors, affinity (every alternative) and tolerations. Startup taints are left out: they are
//! gone before DaemonSets matter.

use std::sync::Arc;

use super::labels::{Labelled, NodeDemand};
use crate::model::pod::{Pod, PodSpec};
use crate::model::resources::Resources;
use crate::model::snapshot::Snapshot;
use crate::model::taint::{Taint, first_untolerated};

/// The DaemonSets of a cluster, ready to be asked.
#[derive(Debug, Clone, Default)]
pub struct Daemons {
    /// Specs of their pods.
    pub specs: Vec<Arc<PodSpec>>,
    names: Vec<(String, String)>,
    demands: Vec<NodeDemand>,
}

impl Daemons {
    /// Reads the DaemonSets of a snapshot.
    ///
    /// A DaemonSet's newest pod says what its pods really request; before there is one, the template does,
    /// with the defaults of LimitRanges.
    pub fn of(snapshot: &Snapshot) -> Self {
        let mut daemons = Self::default();
        for daemon_set in snapshot.daemon_sets.values() {
            let Ok(demand) = NodeDemand::of(&daemon_set.spec) else {
                continue;
            };
            let newest = snapshot
                .pods
                .values()
                .filter(|pod| is_of(pod, &daemon_set.namespace, &daemon_set.name))
                .max_by_key(|pod| (pod.created, &pod.key));
            let mut spec = Arc::clone(&daemon_set.spec);
            if let Some(pod) = newest {
                Arc::make_mut(&mut spec).requests = pod.spec.requests.clone();
            }
            daemons.specs.push(spec);
            daemons.demands.push(demand);
            daemons
                .names
                .push((daemon_set.namespace.clone(), daemon_set.name.clone()));
        }
        daemons
    }

    /// Indices of the DaemonSets whose pods land on a node with these labels and taints.
    pub fn landing_on(&self, labels: &impl Labelled, taints: &[Taint]) -> Vec<usize> {
        (0..self.specs.len())
            .filter(|index| {
                let (Some(spec), Some(demand)) = (self.specs.get(*index), self.demands.get(*index))
                else {
                    return false;
                };
                spec.problem.is_none()
                    && first_untolerated(taints, &spec.tolerations).is_none()
                    && demand.accepts(labels)
            })
            .collect()
    }

    /// Namespace and name of a DaemonSet.
    pub fn name(&self, index: usize) -> String {
        let name = self.names.get(index);
        name.map_or_else(String::new, |(namespace, name)| {
            format!("{namespace}/{name}")
        })
    }

    /// What these DaemonSets request together.
    pub fn requests(&self, indices: &[usize]) -> Resources {
        let mut sum = Resources::new();
        for spec in indices.iter().filter_map(|index| self.specs.get(*index)) {
            sum.add(&spec.requests);
        }
        sum
    }

    /// True when the pod belongs to the DaemonSet of that index.
    pub fn owns(&self, index: usize, pod: &Pod) -> bool {
        self.names
            .get(index)
            .is_some_and(|(namespace, name)| is_of(pod, namespace, name))
    }
}

fn is_of(pod: &Pod, namespace: &str, name: &str) -> bool {
    &*pod.key.namespace == namespace
        && pod
            .owner
            .as_ref()
            .is_some_and(|owner| owner.kind == "DaemonSet" && owner.name == name)
}
