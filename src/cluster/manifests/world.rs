//! Objects of manifests put together to a snapshot.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{
    self as core, ConfigMap, LimitRange, Node, PersistentVolume, PersistentVolumeClaim, Pod,
};
use k8s_openapi::api::node::v1::RuntimeClass;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::scheduling::v1::PriorityClass;
use k8s_openapi::api::storage::v1::{CSINode, StorageClass};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::admission::Admission;
use super::expand::{self, MOST_PODS, Negative, Template};
use super::nulls;
use super::read::{Document, ManifestError};
use crate::api::labels;
use crate::api::node_claim::NodeClaim;
use crate::api::node_class::EC2NodeClass;
use crate::api::node_pool::NodePool;
use crate::cluster::observe;
use crate::model;
use crate::model::node_class::NodeClass;
use crate::model::pod::{PodPhase, PodSpec};
use crate::model::snapshot::Snapshot;
use crate::model::workload::Namespace;

/// Objects that were read.
#[derive(Debug, Clone, Default)]
pub struct Manifests {
    pods: Vec<Pod>,
    templates: Vec<Template>,
    nodes: Vec<Node>,
    claims: Vec<NodeClaim>,
    node_pools: Vec<NodePool>,
    /// The node classes; whoever plans resolves them.
    pub node_classes: Vec<EC2NodeClass>,
    daemon_sets: Vec<DaemonSet>,
    disruption_budgets: Vec<PodDisruptionBudget>,
    volume_claims: Vec<PersistentVolumeClaim>,
    volumes: Vec<PersistentVolume>,
    storage_classes: Vec<StorageClass>,
    storage_nodes: Vec<CSINode>,
    namespaces: Vec<core::Namespace>,
    priorities: Vec<PriorityClass>,
    limit_ranges: Vec<LimitRange>,
    runtime_classes: Vec<RuntimeClass>,
    /// How many pods the templates ask for.
    asked: usize,
    /// What a controller has learned, by entry.
    pub learned: BTreeMap<String, String>,
    /// Kinds that planning has no use for.
    pub unknown: Vec<Unknown>,
}

/// True for the ConfigMap that a controller keeps what it learned in.
fn is_learned(object: &Value) -> bool {
    object["metadata"]["labels"][labels::LEARNED] == "true"
}

/// An object of a kind that planning has no use for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Unknown {
    /// The file.
    pub path: String,
    /// The kind.
    pub kind: String,
    /// The name.
    pub name: String,
}

impl Manifests {
    /// Reads documents.
    ///
    /// # Errors
    /// [`ManifestError::Malformed`] for the first object that does not have the form of its kind, and an error for
    /// the first that asks for fewer pods than none, or with those before it for more than [`MOST_PODS`].
    pub fn read(documents: Vec<Document>) -> Result<Self, ManifestError> {
        let mut manifests = Self::default();
        for document in documents {
            manifests.add(document)?;
        }
        Ok(manifests)
    }

    fn add(&mut self, document: Document) -> Result<(), ManifestError> {
        let text = |pointer: &str| {
            document
                .object
                .pointer(pointer)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        let kind = text("/kind");
        let name = text("/metadata/name");
        let api_version = text("/apiVersion");
        let group = api_version
            .split_once('/')
            .map_or("", |(group, _version)| group)
            .to_owned();
        let source = Source {
            path: &document.path,
            kind: &kind,
            name: &name,
        };
        let mut object = document.object;
        if matches!(group.as_str(), "" | "apps" | "batch" | "node.k8s.io") {
            nulls::to_zero(&mut object);
        }
        match (group.as_str(), kind.as_str()) {
            ("", "Pod") => self.pods.push(source.typed(object)?),
            ("apps", "Deployment" | "ReplicaSet" | "StatefulSet") | ("batch", "Job") => {
                self.add_template(&source, object)?;
            }
            ("", "Node") => self.nodes.push(source.typed(object)?),
            ("", "ConfigMap") if is_learned(&object) => {
                let found = source.typed::<ConfigMap>(object)?;
                self.learned.extend(found.data.unwrap_or_default());
            }
            ("karpenter.sh", "NodeClaim") => self.claims.push(source.typed(object)?),
            ("karpenter.sh", "NodePool") => self.node_pools.push(source.typed(object)?),
            ("tonnage.dev", "EC2NodeClass") => self.node_classes.push(source.typed(object)?),
            ("apps", "DaemonSet") => self.daemon_sets.push(source.typed(object)?),
            ("policy", "PodDisruptionBudget") => {
                self.disruption_budgets.push(source.typed(object)?);
            }
            ("", "PersistentVolumeClaim") => self.volume_claims.push(source.typed(object)?),
            ("", "PersistentVolume") => self.volumes.push(source.typed(object)?),
            ("storage.k8s.io", "StorageClass") => {
                self.storage_classes.push(source.typed(object)?);
            }
            ("storage.k8s.io", "CSINode") => self.storage_nodes.push(source.typed(object)?),
            ("", "Namespace") => self.namespaces.push(source.typed(object)?),
            ("scheduling.k8s.io", "PriorityClass") => self.priorities.push(source.typed(object)?),
            ("node.k8s.io", "RuntimeClass") => self.runtime_classes.push(source.typed(object)?),
            ("", "LimitRange") => self.limit_ranges.push(source.typed(object)?),
            _ => self.unknown.push(Unknown {
                path: document.path,
                kind,
                name,
            }),
        }
        Ok(())
    }

    fn add_template(&mut self, source: &Source<'_>, object: Value) -> Result<(), ManifestError> {
        let made = match source.kind {
            "Deployment" => Template::of_deployment(source.typed(object)?).map(Some),
            "ReplicaSet" => Template::of_replica_set(source.typed(object)?),
            "StatefulSet" => Template::of_stateful_set(source.typed(object)?).map(Some),
            _ => Template::of_job(source.typed(object)?).map(Some),
        };
        let Some(template) = made.map_err(|wrong| source.negative(wrong))? else {
            return Ok(());
        };
        self.asked = self.asked.saturating_add(template.count);
        if self.asked > MOST_PODS {
            return Err(source.too_many(&template, self.asked));
        }
        self.templates.push(template);
        Ok(())
    }

    /// The world that these objects describe. `node_classes` are the resolved classes by name.
    pub fn snapshot(
        &self,
        now: Timestamp,
        node_classes: BTreeMap<String, Arc<NodeClass>>,
    ) -> Snapshot {
        let mut snapshot = Snapshot::empty(now);
        snapshot.node_classes = node_classes;
        let claims = self.add_pods(&mut snapshot);
        for node in &self.nodes {
            let node = observe::node::node(node);
            snapshot.nodes.insert(node.name.clone(), Arc::new(node));
        }
        for claim in &self.claims {
            if claim.spec.node_class_ref.is_ours() {
                let claim = observe::claim::claim(claim);
                snapshot.claims.insert(claim.name.clone(), Arc::new(claim));
            }
        }
        for object in &self.node_pools {
            let pool = Arc::new(observe::node_pool::node_pool(object));
            let pools = if object.spec.template.spec.node_class_ref.is_ours() {
                &mut snapshot.node_pools
            } else {
                &mut snapshot.foreign_node_pools
            };
            pools.insert(pool.name.clone(), pool);
        }
        self.add_workloads(&mut snapshot);
        self.add_volumes(&mut snapshot, &claims);
        snapshot
    }

    /// Adds the pods that are given and those that templates make, and gives back all claims.
    fn add_pods(&self, snapshot: &mut Snapshot) -> Vec<PersistentVolumeClaim> {
        let mut claims = self.volume_claims.clone();
        for pod in &self.pods {
            // What an API server holds has its claims, or waits for them.
            if pod.metadata.uid.is_none() {
                let own = expand::ephemeral_claims(pod).into_iter();
                claims.extend(own.filter(|claim| !self.is_given(claim)));
            }
            let mut pod = pod.clone();
            let refused = self.admission().pod(&mut pod);
            let pod = observed(&pod, refused.as_deref(), None);
            snapshot.pods.insert(pod.key.clone(), Arc::new(pod));
        }
        for template in &self.templates {
            let existing = self.existing(template);
            let mut template = template.clone();
            let refused = self.admission().template(&mut template);
            let mut shared: Option<Arc<PodSpec>> = None;
            for (pod, own) in template.pods(existing) {
                claims.extend(own);
                let pod = observed(&pod, refused.as_deref(), shared.as_ref());
                shared = Some(Arc::clone(&pod.spec));
                snapshot.pods.insert(pod.key.clone(), Arc::new(pod));
            }
        }
        claims
    }

    fn is_given(&self, claim: &PersistentVolumeClaim) -> bool {
        self.volume_claims.iter().any(|known| {
            known.metadata.name == claim.metadata.name
                && namespace(&known.metadata) == namespace(&claim.metadata)
        })
    }

    /// How many pods of a template there are already, as its controller counts.
    fn existing(&self, template: &Template) -> usize {
        let Some(selector) = template
            .selector
            .as_ref()
            .map(observe::constraints::selector)
        else {
            return 0;
        };
        self.pods
            .iter()
            .filter(|pod| {
                let labels = observe::constraints::labels(Some(&pod.metadata));
                let phase = pod
                    .status
                    .as_ref()
                    .and_then(|status| status.phase.as_deref());
                let is_ending = pod.metadata.deletion_timestamp.is_some();
                namespace(&pod.metadata) == namespace(&template.metadata)
                    && !(is_ending && template.replaces_ending)
                    && !matches!(phase, Some("Succeeded" | "Failed"))
                    && selector.matches(&labels)
            })
            .count()
    }

    fn add_workloads(&self, snapshot: &mut Snapshot) {
        for object in &self.daemon_sets {
            let mut object = object.clone();
            self.admission().daemon_set(&mut object);
            let set = observe::workload::daemon_set(&object);
            let key = format!("{}/{}", set.namespace, set.name);
            snapshot.daemon_sets.insert(key, Arc::new(set));
        }
        for object in &self.disruption_budgets {
            let budget = observe::workload::disruption_budget(object);
            let key = format!("{}/{}", budget.namespace, budget.name);
            snapshot.disruption_budgets.insert(key, Arc::new(budget));
        }
        for object in &self.namespaces {
            let name = object.metadata.name.clone().unwrap_or_default();
            let namespace = observe::workload::namespace(object).named(&name);
            snapshot.namespaces.insert(name, Arc::new(namespace));
        }
        let of_pods = snapshot.pods.keys().map(|key| &*key.namespace);
        let of_daemons = snapshot.daemon_sets.values();
        let of_daemons = of_daemons.map(|set| set.namespace.as_str());
        Namespace::imply(&mut snapshot.namespaces, of_pods.chain(of_daemons));
    }

    fn admission(&self) -> Admission<'_> {
        Admission {
            priorities: &self.priorities,
            runtime_classes: &self.runtime_classes,
            limit_ranges: &self.limit_ranges,
        }
    }

    fn add_volumes(&self, snapshot: &mut Snapshot, claims: &[PersistentVolumeClaim]) {
        let claims = claims
            .iter()
            .map(|claim| {
                let claim = observe::volume::claimed_volume(claim);
                let key = format!("{}/{}", claim.namespace, claim.name);
                (key, Arc::new(claim))
            })
            .collect();
        let volumes = by_name(
            &self.volumes,
            |volume| &volume.metadata,
            observe::volume::volume,
        );
        let classes = by_name(
            &self.storage_classes,
            |class| &class.metadata,
            observe::volume::storage_class,
        );
        let nodes = by_name(
            &self.storage_nodes,
            |node| &node.metadata,
            observe::volume::storage_node,
        );
        snapshot.volume_claims = observe::volume::join(&claims, &volumes, &classes);
        snapshot.volume_room = observe::volume::room(
            &nodes,
            &snapshot.volume_claims,
            snapshot.pods.values().filter(|pod| pod.is_active_on_node()),
        );
    }
}

/// A pod after its admission, which may have refused it, as the API server would hold it. Pods of a template share a
/// spec where theirs are equal: they are many.
fn observed(pod: &Pod, refused: Option<&str>, before: Option<&Arc<PodSpec>>) -> model::pod::Pod {
    let mut pod = observe::pod::pod(pod);
    pod.unschedulable |= pod.node_name.is_none() && pod.phase == PodPhase::Pending;
    if pod.spec.problem.is_none()
        && let Some(refused) = refused
    {
        Arc::make_mut(&mut pod.spec).problem = Some(refused.to_owned());
    }
    if let Some(before) = before.filter(|before| **before == pod.spec) {
        pod.spec = Arc::clone(before);
    }
    pod
}

/// The namespace of an object, which kubectl would put it into.
pub(super) fn namespace(
    metadata: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta,
) -> &str {
    metadata.namespace.as_deref().unwrap_or("default")
}

fn by_name<Object, Facts>(
    objects: &[Object],
    metadata: impl Fn(&Object) -> &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta,
    convert: impl Fn(&Object) -> Facts,
) -> BTreeMap<String, Arc<Facts>> {
    objects
        .iter()
        .map(|object| {
            let name = metadata(object).name.clone().unwrap_or_default();
            (name, Arc::new(convert(object)))
        })
        .collect()
}

/// Where an object came from, for errors.
struct Source<'document> {
    path: &'document str,
    kind: &'document str,
    name: &'document str,
}

impl Source<'_> {
    fn negative(&self, wrong: Negative) -> ManifestError {
        ManifestError::NegativeCount {
            path: self.path.to_owned(),
            kind: self.kind.to_owned(),
            name: self.name.to_owned(),
            field: wrong.field,
            given: wrong.given,
        }
    }

    fn too_many(&self, template: &Template, sum: usize) -> ManifestError {
        ManifestError::TooManyPods {
            path: self.path.to_owned(),
            kind: self.kind.to_owned(),
            name: self.name.to_owned(),
            field: template.field,
            count: template.count,
            sum,
        }
    }

    fn typed<Object: DeserializeOwned>(&self, object: Value) -> Result<Object, ManifestError> {
        serde_json::from_value(object).map_err(|error| ManifestError::Malformed {
            path: self.path.to_owned(),
            kind: self.kind.to_owned(),
            name: self.name.to_owned(),
            problem: error.to_string(),
        })
    }
}
