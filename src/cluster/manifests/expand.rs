//! Templates become the pods that their controllers would make.
//!
//! Given an object with a template; given back how many pods it asks for, and the pods, one at a time: a number is
//! written faster than pods are made, so nothing here holds them all. A number below zero is refused, as an API
//! server does.

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, PodSpec, PodTemplateSpec, Volume};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference};

/// The most pods that manifests may ask for in all. Kubernetes is made for clusters of 150 000.
pub const MOST_PODS: usize = 500_000;

/// A number of pods below zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Negative {
    /// The field that says it.
    pub field: &'static str,
    /// What it says.
    pub given: i32,
}

/// A number of pods as a field says it.
fn number(field: &'static str, given: i32) -> Result<usize, Negative> {
    usize::try_from(given).map_err(|_below_zero| Negative { field, given })
}

const REPLICAS: &str = "spec.replicas";
const PARALLELISM: &str = "spec.parallelism";
const COMPLETIONS: &str = "spec.completions";

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
    pub count: usize,
    /// The field that says how many.
    pub field: &'static str,
    /// The pods.
    pub pods: PodTemplateSpec,
    /// Which existing pods are some of them.
    pub selector: Option<LabelSelector>,
    /// Whether a pod that is ending is made anew before it is gone.
    pub replaces_ending: bool,
    /// Claims that each pod gets of its own.
    pub claims: Vec<PersistentVolumeClaim>,
}

impl Template {
    /// The pods of a Deployment.
    pub(super) fn of_deployment(deployment: Deployment) -> Result<Self, Negative> {
        let spec = deployment.spec;
        Ok(Self {
            kind: "ReplicaSet",
            api_version: "apps/v1",
            count: number(REPLICAS, spec.replicas.unwrap_or(1))?,
            field: REPLICAS,
            pods: spec.template,
            selector: Some(spec.selector),
            replaces_ending: true,
            claims: Vec::new(),
            metadata: deployment.metadata,
        })
    }

    /// The pods of a ReplicaSet, unless a Deployment owns it.
    pub(super) fn of_replica_set(set: ReplicaSet) -> Result<Option<Self>, Negative> {
        let owned = set
            .metadata
            .owner_references
            .iter()
            .flatten()
            .any(|owner| owner.controller == Some(true));
        let spec = set.spec;
        let count = number(REPLICAS, spec.replicas.unwrap_or(1))?;
        let template = spec.template.filter(|_template| !owned);
        Ok(template.map(|pods| Self {
            kind: "ReplicaSet",
            api_version: "apps/v1",
            count,
            field: REPLICAS,
            pods,
            selector: Some(spec.selector),
            replaces_ending: true,
            claims: Vec::new(),
            metadata: set.metadata,
        }))
    }

    /// The pods of a StatefulSet, each with claims of its own, and a name that must be free before it is made anew.
    pub(super) fn of_stateful_set(set: StatefulSet) -> Result<Self, Negative> {
        let spec = set.spec;
        Ok(Self {
            kind: "StatefulSet",
            api_version: "apps/v1",
            count: number(REPLICAS, spec.replicas.unwrap_or(1))?,
            field: REPLICAS,
            pods: spec.template,
            selector: Some(spec.selector),
            replaces_ending: false,
            claims: spec.volume_claim_templates.unwrap_or_default(),
            metadata: set.metadata,
        })
    }

    /// The pods that a Job would run at once from now.
    pub(super) fn of_job(job: Job) -> Result<Self, Negative> {
        let spec = job.spec.unwrap_or_default();
        let status = job.status.unwrap_or_default();
        let parallel = number(PARALLELISM, spec.parallelism.unwrap_or(1))?;
        // Without completions the pods decide by themselves when the work is done.
        let wanted = match spec.completions {
            Some(given) => number(COMPLETIONS, given)?,
            None => usize::MAX,
        };
        let done = usize::try_from(status.succeeded.unwrap_or(0)).unwrap_or(0);
        let finished = status.conditions.iter().flatten().any(|condition| {
            condition.status == "True" && matches!(condition.type_.as_str(), "Complete" | "Failed")
        });
        let count = if spec.suspend == Some(true) || finished {
            0
        } else {
            parallel.min(wanted.saturating_sub(done))
        };
        // A failure that its own policy judges must be over first.
        let replaces_ending = match spec.pod_replacement_policy.as_deref() {
            Some(policy) => policy != "Failed",
            None => spec.pod_failure_policy.is_none(),
        };
        Ok(Self {
            kind: "Job",
            api_version: "batch/v1",
            count,
            field: PARALLELISM,
            pods: spec.template,
            selector: spec.selector,
            replaces_ending,
            claims: Vec::new(),
            metadata: job.metadata,
        })
    }

    /// The pods that do not exist yet when `existing` do, and the claims that they bring.
    pub(super) fn pods(
        &self,
        existing: usize,
    ) -> impl Iterator<Item = (Pod, Vec<PersistentVolumeClaim>)> {
        (existing..self.count).map(|index| self.pod(index))
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
