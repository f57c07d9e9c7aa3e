//! What the API server does to a pod when it is created.
//!
//! Given a pod as somebody wrote it, and the classes and LimitRanges of the manifests; given back the pod with its
//! priority, what its RuntimeClass adds and the defaults of LimitRanges, and the field for which an API server would
//! refuse it. What an API server holds went through all this when it was made, and stays as it is.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{LimitRange, Pod, PodSpec, Toleration};
use k8s_openapi::api::node::v1::RuntimeClass;
use k8s_openapi::api::scheduling::v1::PriorityClass;

use super::expand::Template;
use super::refused;
use super::world::namespace;
use crate::cluster::observe::constraints;
use crate::cluster::observe::defaults::{self, ContainerDefaults};
use crate::model::pod::{CLUSTER_CRITICAL, NODE_CRITICAL};

/// The objects that admission looks at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Admission<'objects> {
    /// Priorities by name.
    pub priorities: &'objects [PriorityClass],
    /// Ways to run pods by name.
    pub runtime_classes: &'objects [RuntimeClass],
    /// Defaults of namespaces.
    pub limit_ranges: &'objects [LimitRange],
}

impl Admission<'_> {
    /// Completes a pod; what an API server would refuse it for is the answer.
    pub(super) fn pod(&self, pod: &mut Pod) -> Option<String> {
        if pod.metadata.uid.is_some() {
            return None;
        }
        let labels = constraints::labels(Some(&pod.metadata));
        self.complete(pod.spec.as_mut()?, namespace(&pod.metadata), &labels)
    }

    /// Completes a template once for all of its pods, which differ only in what is not looked at here: their names, and
    /// the volumes of their own claims.
    pub(super) fn template(&self, template: &mut Template) -> Option<String> {
        let labels = constraints::labels(template.pods.metadata.as_ref());
        let spec = template.pods.spec.get_or_insert_default();
        self.complete(spec, namespace(&template.metadata), &labels)
    }

    fn complete(
        &self,
        spec: &mut PodSpec,
        space: &str,
        labels: &BTreeMap<String, String>,
    ) -> Option<String> {
        if spec.priority.is_none() {
            spec.priority = self.priority(spec.priority_class_name.as_deref());
        }
        if spec.node_name.is_some() {
            return None;
        }
        let contradiction = self.add_runtime_class(spec);
        defaults::add(spec, &self.ranges_of(space));
        contradiction.or_else(|| refused::problem(spec, labels))
    }

    /// Completes the pods that a DaemonSet makes. Which Nodes are tolerated its controller takes from the template
    /// alone, before there is a pod.
    pub(super) fn daemon_set(&self, set: &mut DaemonSet) {
        let ranges = self.ranges_of(namespace(&set.metadata));
        if let Some(spec) = set.spec.template.spec.as_mut() {
            let tolerations = spec.tolerations.clone();
            // Pods that contradict their class are never made.
            drop(self.add_runtime_class(spec));
            spec.tolerations = tolerations;
            defaults::add(spec, &ranges);
        }
    }

    fn priority(&self, class: Option<&str>) -> Option<i32> {
        let found = |wanted: &dyn Fn(&PriorityClass) -> bool| {
            let class = self.priorities.iter().find(|class| wanted(class));
            class.and_then(|class| class.value)
        };
        match class {
            Some(NODE_CRITICAL) => Some(2_000_001_000),
            Some(CLUSTER_CRITICAL) => Some(2_000_000_000),
            Some(name) => found(&|class| class.metadata.name.as_deref() == Some(name)),
            None => found(&|class| class.global_default == Some(true)),
        }
    }

    fn ranges_of(&self, space: &str) -> Vec<ContainerDefaults> {
        self.limit_ranges
            .iter()
            .filter(|range| namespace(&range.metadata) == space)
            .flat_map(defaults::of_range)
            .collect()
    }

    /// Adds what a pod's RuntimeClass says of its pods; an overhead of its own stays. The answer is a node selector
    /// that contradicts that of the class.
    fn add_runtime_class(&self, spec: &mut PodSpec) -> Option<String> {
        let name = spec.runtime_class_name.clone()?;
        let class = self
            .runtime_classes
            .iter()
            .find(|class| class.metadata.name.as_ref() == Some(&name))?;
        if spec.overhead.as_ref().is_none_or(BTreeMap::is_empty) {
            let own = class.overhead.as_ref();
            spec.overhead = own.and_then(|own| own.pod_fixed.clone());
        }
        let scheduling = class.scheduling.as_ref()?;
        add_tolerations(spec, scheduling.tolerations.as_deref().unwrap_or_default());
        let selector = spec.node_selector.get_or_insert_default();
        for (key, value) in scheduling.node_selector.iter().flatten() {
            let own = selector.entry(key.clone()).or_insert_with(|| value.clone());
            if own != value {
                return Some(format!(
                    "nodeSelector.{key} is {own}, and RuntimeClass {name} asks for {value}; leave it out, or use another runtimeClassName"
                ));
            }
        }
        None
    }
}

fn add_tolerations(spec: &mut PodSpec, more: &[Toleration]) {
    let own = spec.tolerations.get_or_insert_default();
    for toleration in more {
        if !own.contains(toleration) {
            own.push(toleration.clone());
        }
    }
}
