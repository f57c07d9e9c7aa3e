//! Pods as the API has them, converted.
//!
//! Given a Pod or a pod template; given back the model's pod or spec. What cannot be understood
//! becomes the spec's `problem`, so one bad pod never hides another.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod as ApiPod, PodSpec as ApiPodSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{constraints, malformed, requests};
use crate::api::labels::OS;
use crate::model::pod::{
    CLUSTER_CRITICAL, DEFAULT_SCHEDULER, DoNotDisrupt, NODE_CRITICAL, Owner, Pod, PodKey, PodPhase,
    PodSpec,
};
use crate::model::taint::{TaintEffect, Toleration, TolerationOperator};

const DO_NOT_DISRUPT: &str = "karpenter.sh/do-not-disrupt";
const MIRROR: &str = "kubernetes.io/config.mirror";

/// Converts a pod.
pub fn pod(pod: &ApiPod) -> Pod {
    let metadata = &pod.metadata;
    let status = pod.status.as_ref();
    let namespace = metadata.namespace.as_deref().unwrap_or("default");
    let name = metadata.name.as_deref().unwrap_or_default();
    let statuses: Vec<ContainerStatus> = status
        .into_iter()
        .flat_map(|status| {
            status
                .container_statuses
                .iter()
                .chain(&status.init_container_statuses)
                .flatten()
        })
        .filter(|status| status.allocated_resources.is_some())
        .cloned()
        .collect();
    let empty = ApiPodSpec::default();
    let api_spec = pod.spec.as_ref().unwrap_or(&empty);
    let labels = constraints::labels(Some(metadata));
    let mut spec = pod_spec(namespace, name, &labels, api_spec, &statuses);
    // What a DaemonSet's pods claim is no reason to reckon without them: so not in `pod_spec`.
    spec.problem = spec.problem.or_else(|| claimed_devices(api_spec));
    Pod {
        key: PodKey::new(namespace, name),
        uid: metadata.uid.clone().unwrap_or_default(),
        created: metadata
            .creation_timestamp
            .as_ref()
            .map_or(Timestamp::UNIX_EPOCH, |time| time.0),
        started: status.and_then(|status| status.start_time.as_ref().map(|time| time.0)),
        phase: phase(status.and_then(|status| status.phase.as_deref())),
        node_name: api_spec.node_name.clone().filter(|node| !node.is_empty()),
        nominated_node: status
            .and_then(|status| status.nominated_node_name.clone())
            .filter(|node| !node.is_empty()),
        unschedulable: is_unschedulable(pod),
        deleting_until: metadata.deletion_timestamp.as_ref().map(|time| time.0),
        owner: owner(metadata),
        mirror: annotation(metadata, MIRROR).is_some(),
        do_not_disrupt: do_not_disrupt(annotation(metadata, DO_NOT_DISRUPT)),
        spec: Arc::new(spec),
    }
}

/// Converts the spec of a pod or template. `pod_name` names the claims of ephemeral volumes;
/// `statuses` carry what the kubelet allocated to a running pod.
pub fn pod_spec(
    namespace: &str,
    pod_name: &str,
    labels: &BTreeMap<String, String>,
    spec: &ApiPodSpec,
    statuses: &[ContainerStatus],
) -> PodSpec {
    let requests = requests::of_pod(spec, statuses);
    let (tolerations, bad_toleration) = tolerations(spec);
    PodSpec {
        namespace: namespace.to_owned(),
        labels: labels.clone(),
        requests: requests.requests,
        node_selector: node_selector(spec),
        tolerations,
        priority: spec.priority.unwrap_or(0),
        critical: matches!(
            spec.priority_class_name.as_deref(),
            Some(CLUSTER_CRITICAL | NODE_CRITICAL)
        ),
        scheduler_name: spec
            .scheduler_name
            .clone()
            .unwrap_or_else(|| DEFAULT_SCHEDULER.to_owned()),
        gated: spec
            .scheduling_gates
            .as_ref()
            .is_some_and(|gates| !gates.is_empty()),
        termination_grace_seconds: spec.termination_grace_period_seconds.unwrap_or(30),
        problem: requests
            .problem
            .or(bad_toleration)
            .or_else(|| malformed::problem(spec)),
        constraints: constraints::of_pod(pod_name, spec).map(Arc::new),
    }
}

/// The node selector, with the system that the pod is made for: a kubelet of another one ends the pod. The label of
/// Linux is not asked for, since Nodes may lack it, and every machine has that system unless it says otherwise.
fn node_selector(spec: &ApiPodSpec) -> BTreeMap<String, String> {
    let mut selector = constraints::by_current_names(spec.node_selector.as_ref());
    let system = spec.os.as_ref().map(|os| &os.name);
    if let Some(system) = system.filter(|system| system.as_str() != "linux") {
        let own = selector.entry(OS.to_owned());
        own.or_insert_with(|| system.clone());
    }
    selector
}

/// What nodes have for resource claims is not known before they are there, and a machine that is bought in spite
/// of that may not help.
fn claimed_devices(spec: &ApiPodSpec) -> Option<String> {
    let claims = spec.resource_claims.as_ref()?;
    let first = claims.first()?;
    Some(format!(
        "spec.resourceClaims ({}): nodes are not bought for pods with resource claims (dynamic resource allocation); \
         request the device as an extended resource, such as nvidia.com/gpu, or provide the node yourself",
        first.name
    ))
}

fn tolerations(spec: &ApiPodSpec) -> (Vec<Toleration>, Option<String>) {
    let mut problem = None;
    let mut tolerations = Vec::new();
    for toleration in spec.tolerations.iter().flatten() {
        let operator = match toleration.operator.as_deref() {
            None | Some("" | "Equal") => TolerationOperator::Equal,
            Some("Exists") => TolerationOperator::Exists,
            Some("Lt") => TolerationOperator::Lt,
            Some("Gt") => TolerationOperator::Gt,
            Some(other) => {
                problem.get_or_insert_with(|| {
                    format!("toleration operator `{other}` is unknown: use Equal, Exists, Lt or Gt")
                });
                continue;
            }
        };
        let effect = match toleration.effect.as_deref() {
            None | Some("") => None,
            Some(text) => {
                let effect = TaintEffect::parse(text);
                if effect.is_none() {
                    problem.get_or_insert_with(|| {
                        format!("toleration effect `{text}` is unknown: use NoSchedule, PreferNoSchedule or NoExecute")
                    });
                    continue;
                }
                effect
            }
        };
        tolerations.push(Toleration {
            key: toleration.key.clone().unwrap_or_default(),
            operator,
            value: toleration.value.clone().unwrap_or_default(),
            effect,
            seconds: toleration.toleration_seconds,
        });
    }
    (tolerations, problem)
}

fn phase(text: Option<&str>) -> PodPhase {
    match text {
        Some("Running") => PodPhase::Running,
        Some("Succeeded") => PodPhase::Succeeded,
        Some("Failed") => PodPhase::Failed,
        Some("Unknown") => PodPhase::Unknown,
        _ => PodPhase::Pending,
    }
}

fn is_unschedulable(pod: &ApiPod) -> bool {
    pod.status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten())
        .any(|condition| {
            condition.type_ == "PodScheduled"
                && condition.status == "False"
                && condition.reason.as_deref() == Some("Unschedulable")
        })
}

fn owner(metadata: &ObjectMeta) -> Option<Owner> {
    metadata
        .owner_references
        .iter()
        .flatten()
        .find(|reference| reference.controller == Some(true))
        .map(|reference| Owner {
            api_version: reference.api_version.clone(),
            kind: reference.kind.clone(),
            name: reference.name.clone(),
            uid: reference.uid.clone(),
        })
}

fn annotation<'object>(metadata: &'object ObjectMeta, key: &str) -> Option<&'object str> {
    metadata
        .annotations
        .as_ref()
        .and_then(|annotations| annotations.get(key))
        .map(String::as_str)
}

fn do_not_disrupt(value: Option<&str>) -> DoNotDisrupt {
    match value {
        None => DoNotDisrupt::No,
        Some("true") => DoNotDisrupt::Always,
        Some(text) => match text.parse::<SignedDuration>() {
            Ok(duration) if duration.is_positive() => DoNotDisrupt::For(duration),
            _ => DoNotDisrupt::No,
        },
    }
}
