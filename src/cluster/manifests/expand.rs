//! Templates become the pods that their controllers would make.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{
    LimitRange, PersistentVolumeClaim, Pod, PodSpec, PodTemplateSpec, Volume,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference};

/// A template and how many pods it stands for.
#[derive(Debug, Clone)]
pub(super) struct Template {
    /// Kind of the owner.
    pub kind: &'static str,
    /// API version of the owner.
    pub api_version: &'static str,
    /// Namespace and name of the owner.
    pub metadata: ObjectMeta,
    /// How many pods there should be.
    pub count: i32,
    /// The pods.
    pub pods: PodTemplateSpec,
    /// Which existing pods are some of them.
    pub selector: Option<LabelSelector>,
    /// Claims that each pod gets of its own.
    pub claims: Vec<PersistentVolumeClaim>,
}

impl Template {
    /// The pods of a Deployment.
    pub(super) fn of_deployment(deployment: Deployment) -> Self {
        let spec = deployment.spec;
        Self {
            kind: "ReplicaSet",
            api_version: "apps/v1",
            count: spec.replicas.unwrap_or(1),
            pods: spec.template,
            selector: Some(spec.selector),
            claims: Vec::new(),
            metadata: deployment.metadata,
        }
    }

    /// The pods of a ReplicaSet, unless a Deployment owns it.
    pub(super) fn of_replica_set(set: ReplicaSet) -> Option<Self> {
        let owned = set
            .metadata
            .owner_references
            .iter()
            .flatten()
            .any(|owner| owner.controller == Some(true));
        let spec = set.spec;
        let template = spec.template?;
        (!owned).then_some(Self {
            kind: "ReplicaSet",
            api_version: "apps/v1",
            count: spec.replicas.unwrap_or(1),
            pods: template,
            selector: Some(spec.selector),
            claims: Vec::new(),
            metadata: set.metadata,
        })
    }

    /// The pods of a StatefulSet, each with claims of its own.
    pub(super) fn of_stateful_set(set: StatefulSet) -> Self {
        let spec = set.spec;
        Self {
            kind: "StatefulSet",
            api_version: "apps/v1",
            count: spec.replicas.unwrap_or(1),
            pods: spec.template,
            selector: Some(spec.selector),
            claims: spec.volume_claim_templates.unwrap_or_default(),
            metadata: set.metadata,
        }
    }

    /// The pods that a Job would run at once from now.
    pub(super) fn of_job(job: Job) -> Self {
        let spec = job.spec.unwrap_or_default();
        let status = job.status.unwrap_or_default();
        let parallel = spec.parallelism.unwrap_or(1);
        let done = status.succeeded.unwrap_or(0);
        let finished = status.conditions.iter().flatten().any(|condition| {
            condition.status == "True" && matches!(condition.type_.as_str(), "Complete" | "Failed")
        });
        let count = if spec.suspend == Some(true) || finished {
            0
        } else {
            // Without completions the pods decide by themselves when the work is done.
            spec.completions
                .map_or(parallel, |wanted| parallel.min(wanted.saturating_sub(done)))
        };
        Self {
            kind: "Job",
            api_version: "batch/v1",
            count,
            pods: spec.template,
            selector: spec.selector,
            claims: Vec::new(),
            metadata: job.metadata,
        }
    }

    /// The pods that do not exist yet when `existing` do, and the claims that they bring.
    pub(super) fn pods(&self, existing: usize) -> Vec<(Pod, Vec<PersistentVolumeClaim>)> {
        let wanted = usize::try_from(self.count).unwrap_or(0);
        (existing..wanted).map(|index| self.pod(index)).collect()
    }

    fn pod(&self, index: usize) -> (Pod, Vec<PersistentVolumeClaim>) {
        let owner = self.metadata.name.clone().unwrap_or_default();
        let name = format!("{owner}-{index}");
        let template = self.pods.metadata.clone().unwrap_or_default();
        let mut spec = self.pods.spec.clone().unwrap_or_default();
        let mut claims = Vec::new();
        for template in &self.claims {
            let volume = template.metadata.name.clone().unwrap_or_default();
            let claim_name = format!("{volume}-{name}");
            mount(&mut spec, &volume, &claim_name);
            claims.push(claim(template, &self.metadata, claim_name));
        }
        let pod = Pod {
            metadata: ObjectMeta {
                name: Some(name),
                namespace: self.metadata.namespace.clone(),
                labels: template.labels,
                annotations: template.annotations,
                owner_references: Some(vec![OwnerReference {
                    api_version: self.api_version.to_owned(),
                    kind: self.kind.to_owned(),
                    name: owner,
                    controller: Some(true),
                    ..OwnerReference::default()
                }]),
                ..ObjectMeta::default()
            },
            spec: Some(spec),
            ..Pod::default()
        };
        claims.extend(ephemeral_claims(&pod));
        (pod, claims)
    }
}

/// The claims that a controller makes for the pod's ephemeral volumes once the pod exists.
pub(super) fn ephemeral_claims(pod: &Pod) -> Vec<PersistentVolumeClaim> {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let volumes = pod.spec.iter().flat_map(|spec| &spec.volumes).flatten();
    volumes
        .filter_map(|volume| {
            let own = volume.ephemeral.as_ref()?.volume_claim_template.as_ref()?;
            let made = PersistentVolumeClaim {
                spec: Some(own.spec.clone()),
                ..PersistentVolumeClaim::default()
            };
            let claim_name = format!("{name}-{}", volume.name);
            Some(claim(&made, &pod.metadata, claim_name))
        })
        .collect()
}

fn claim(
    template: &PersistentVolumeClaim,
    owner: &ObjectMeta,
    name: String,
) -> PersistentVolumeClaim {
    PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: owner.namespace.clone(),
            ..ObjectMeta::default()
        },
        ..template.clone()
    }
}

/// The StatefulSet controller points the volume of a template's name at the pod's own claim.
fn mount(spec: &mut PodSpec, volume: &str, claim_name: &str) {
    let volumes = spec.volumes.get_or_insert_default();
    volumes.retain(|known| known.name != volume);
    let mut own = Volume {
        name: volume.to_owned(),
        ..Volume::default()
    };
    claim_name.clone_into(
        &mut own
            .persistent_volume_claim
            .get_or_insert_default()
            .claim_name,
    );
    volumes.push(own);
}

/// Adds the requests and limits that a namespace's LimitRanges give containers without their own.
pub(super) fn add_defaults(spec: &mut PodSpec, ranges: &[LimitRange]) {
    settle_the_pod(spec);
    let items = ranges
        .iter()
        .flat_map(|range| range.spec.iter())
        .flat_map(|spec| &spec.limits)
        .filter(|item| item.type_ == "Container");
    for item in items {
        let containers = spec
            .containers
            .iter_mut()
            .chain(spec.init_containers.iter_mut().flatten());
        for container in containers {
            let resources = container.resources.get_or_insert_default();
            let limits = resources.limits.get_or_insert_default();
            // A request that is missing beside a limit becomes the limit, not the default request.
            let limited: Vec<String> = limits.keys().cloned().collect();
            let requests = resources.requests.get_or_insert_default();
            add_missing(limits, item.default.as_ref());
            for (name, amount) in item.default_request.iter().flatten() {
                if !limited.contains(name) {
                    requests
                        .entry(name.clone())
                        .or_insert_with(|| amount.clone());
                }
            }
        }
    }
}

/// Sets the pod-level requests that the API server defaults to the limits before any LimitRange is asked:
/// those of resources that no container names.
fn settle_the_pod(spec: &mut PodSpec) {
    let containers = spec
        .containers
        .iter()
        .chain(spec.init_containers.iter().flatten());
    let named: BTreeSet<String> = containers
        .filter_map(|container| container.resources.as_ref())
        .flat_map(|own| own.requests.iter().chain(&own.limits))
        .flat_map(|list| list.keys().cloned())
        .collect();
    let Some(resources) = spec.resources.as_mut() else {
        return;
    };
    for (name, limit) in resources.limits.iter().flatten() {
        if !named.contains(name) {
            let requests = resources.requests.get_or_insert_default();
            requests
                .entry(name.clone())
                .or_insert_with(|| limit.clone());
        }
    }
}

fn add_missing(
    list: &mut BTreeMap<String, Quantity>,
    defaults: Option<&BTreeMap<String, Quantity>>,
) {
    for (name, amount) in defaults.into_iter().flatten() {
        list.entry(name.clone()).or_insert_with(|| amount.clone());
    }
}
