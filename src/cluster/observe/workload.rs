//! DaemonSets, disruption budgets and namespaces as the API has them, converted.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::DaemonSet as ApiDaemonSet;
use k8s_openapi::api::core::v1::{Namespace as ApiNamespace, PodSpec as ApiPodSpec};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::defaults::{self, ContainerDefaults};
use super::{constraints, pod, requests};
use crate::model::taint::{TaintEffect, Toleration, TolerationOperator};
use crate::model::workload::{DaemonSet, DisruptionBudget, Namespace};

/// Taints that the DaemonSet controller makes each of its pods tolerate.
const DAEMON_TOLERATIONS: [(&str, TaintEffect); 6] = [
    ("node.kubernetes.io/not-ready", TaintEffect::NoExecute),
    ("node.kubernetes.io/unreachable", TaintEffect::NoExecute),
    ("node.kubernetes.io/disk-pressure", TaintEffect::NoSchedule),
    (
        "node.kubernetes.io/memory-pressure",
        TaintEffect::NoSchedule,
    ),
    ("node.kubernetes.io/pid-pressure", TaintEffect::NoSchedule),
    ("node.kubernetes.io/unschedulable", TaintEffect::NoSchedule),
];

/// Converts a DaemonSet: the spec is that of the pods it makes.
pub fn daemon_set(daemon_set: &ApiDaemonSet) -> DaemonSet {
    let namespace = daemon_set
        .metadata
        .namespace
        .clone()
        .unwrap_or_else(|| "default".to_owned());
    let name = daemon_set.metadata.name.clone().unwrap_or_default();
    let template = &daemon_set.spec.template;
    let labels = constraints::labels(template.metadata.as_ref());
    let mut spec = template
        .spec
        .as_ref()
        .map(|spec| pod::pod_spec(&namespace, &name, &labels, spec, &[]))
        .unwrap_or_default();
    spec.tolerations
        .extend(DAEMON_TOLERATIONS.map(|(key, effect)| Toleration {
            key: key.to_owned(),
            operator: TolerationOperator::Exists,
            value: String::new(),
            effect: Some(effect),
            seconds: None,
        }));
    DaemonSet {
        namespace,
        name,
        spec: Arc::new(spec),
    }
}

/// A DaemonSet with what its pods' containers say they need, for when LimitRanges have something to add.
#[derive(Debug, Clone, PartialEq)]
pub struct ObservedDaemonSet {
    /// The DaemonSet by itself.
    pub set: Arc<DaemonSet>,
    /// As [`defaults::sizes_of`] keeps the spec of its pods.
    sizes: ApiPodSpec,
}

impl ObservedDaemonSet {
    /// The DaemonSet in a namespace whose LimitRanges give containers this.
    pub fn with(&self, ranges: &[ContainerDefaults]) -> DaemonSet {
        let mut sizes = self.sizes.clone();
        defaults::add(&mut sizes, ranges);
        let read = requests::of_pod(&sizes, &[]);
        let mut set = DaemonSet::clone(&self.set);
        Arc::make_mut(&mut set.spec).requests = read.requests;
        set
    }
}

/// Converts a DaemonSet and keeps what LimitRanges may add to.
pub fn observed_daemon_set(daemon_set: &ApiDaemonSet) -> ObservedDaemonSet {
    let mut sizes = ApiPodSpec::default();
    if let Some(spec) = &daemon_set.spec.template.spec {
        sizes = defaults::sizes_of(spec);
    }
    ObservedDaemonSet {
        set: Arc::new(self::daemon_set(daemon_set)),
        sizes,
    }
}

/// Converts a PodDisruptionBudget.
pub fn disruption_budget(budget: &PodDisruptionBudget) -> DisruptionBudget {
    let spec = budget.spec.as_ref();
    let is = |value: Option<&IntOrString>, number: i32, percent: &str| match value {
        Some(IntOrString::Int(given)) => *given == number,
        Some(IntOrString::String(given)) => given == percent,
        None => false,
    };
    DisruptionBudget {
        namespace: budget
            .metadata
            .namespace
            .clone()
            .unwrap_or_else(|| "default".to_owned()),
        name: budget.metadata.name.clone().unwrap_or_default(),
        selector: spec
            .and_then(|spec| spec.selector.as_ref())
            .map(constraints::selector),
        disruptions_allowed: budget
            .status
            .as_ref()
            .and_then(|status| status.disruptions_allowed)
            .unwrap_or(0),
        blocks_always: spec.is_some_and(|spec| {
            is(spec.max_unavailable.as_ref(), 0, "0%")
                || is(spec.min_available.as_ref(), i32::MAX, "100%")
        }),
    }
}

/// Converts a namespace.
pub fn namespace(namespace: &ApiNamespace) -> Namespace {
    Namespace {
        labels: constraints::labels(Some(&namespace.metadata)),
    }
}
