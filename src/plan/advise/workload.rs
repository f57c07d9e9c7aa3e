//! Pods that one object makes: what people change when they follow advice.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::pod::Pod;
use crate::model::resources::Resources;
use crate::model::snapshot::Snapshot;
use crate::plan::provision::demand::Waiting;

/// What a person would edit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Workload {
    /// Namespace.
    pub namespace: String,
    /// Kind of the owner; `Pod` for a pod without one, `Spark executors` for those of an
    /// application.
    pub kind: String,
    /// Name of the owner, the application, or the pod.
    pub name: String,
    /// How many of its pods wait.
    pub pods: usize,
    /// True for executors of Spark, whose memory request is a multiple of what they ask for.
    pub is_spark: bool,
}

/// The workloads whose pods wait, each with its pods; pods of one workload that differ in their
/// requests are told apart.
pub fn workloads(snapshot: &Snapshot) -> Vec<(Workload, Vec<Arc<Pod>>)> {
    grouped(snapshot, |pod| {
        let sound = pod.spec.problem.is_none();
        sound.then(|| pod.spec.requests.clone())
    })
    .into_iter()
    .map(|(workload, _requests, pods): (_, Resources, _)| (workload, pods))
    .collect()
}

/// The workloads whose pods wait and can have no place as they are written, with what is wrong.
pub fn invalid(snapshot: &Snapshot) -> Vec<(Workload, String)> {
    grouped(snapshot, |pod| pod.spec.problem.clone())
        .into_iter()
        .map(|(workload, problem, _pods)| (workload, problem))
        .collect()
}

/// The pods that wait and have the property, by workload and what it is.
fn grouped<Property: Ord>(
    snapshot: &Snapshot,
    property: impl Fn(&Pod) -> Option<Property>,
) -> Vec<(Workload, Property, Vec<Arc<Pod>>)> {
    let waiting = Waiting::of(snapshot);
    let mut found: BTreeMap<_, Vec<Arc<Pod>>> = BTreeMap::new();
    for pod in snapshot.pods.values() {
        if waiting.includes(pod)
            && let Some(property) = property(pod)
        {
            let key = (identity(pod), property);
            found.entry(key).or_default().push(Arc::clone(pod));
        }
    }
    found
        .into_iter()
        .map(|(((namespace, kind, name, is_spark), property), pods)| {
            let workload = Workload {
                namespace,
                kind,
                name,
                pods: pods.len(),
                is_spark,
            };
            (workload, property, pods)
        })
        .collect()
}

fn identity(pod: &Pod) -> (String, String, String, bool) {
    let namespace = pod.key.namespace.to_string();
    let label = |key: &str| pod.spec.labels.get(key).cloned();
    if label("spark-role").as_deref() == Some("executor") {
        let name = label("spark-app-name")
            .or_else(|| label("spark-app-selector"))
            .unwrap_or_else(|| pod.key.name.to_string());
        return (namespace, "Spark executors".to_owned(), name, true);
    }
    match &pod.owner {
        Some(owner) => (namespace, owner.kind.clone(), owner.name.clone(), false),
        None => (namespace, "Pod".to_owned(), pod.key.name.to_string(), false),
    }
}
