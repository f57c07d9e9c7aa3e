//! NodeClaims: make, change with compare-and-swap, delete.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use serde_json::{Map, Value, json};

use super::{Kubernetes, Operation, WriteError, WriteErrorClass};
use crate::api::node_claim::ResourceRequirements;
use crate::api::{
    Condition, ConditionStatus, ConditionType, ConditionUpdate, Conditioned, NodeClaim,
    NodeClaimSpec, NodeClaimStatus, NodeClassRef, labels,
};
use crate::cluster::observe;
use crate::model;
use crate::model::claim::Claim;
use crate::model::resources::Resources;

/// What to change of a claim's metadata.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClaimMetadataChange {
    /// Labels to set, or to remove where `None`.
    pub labels: BTreeMap<String, Option<String>>,
    /// Annotations to set, or to remove where `None`.
    pub annotations: BTreeMap<String, Option<String>>,
}

/// What to change of a claim's status; what is `None` or empty stays as it is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClaimStatusChange {
    /// `status.providerID`.
    pub provider_id: Option<String>,
    /// `status.nodeName`.
    pub node_name: Option<String>,
    /// `status.imageID`.
    pub image_id: Option<String>,
    /// `status.capacity`.
    pub capacity: Option<Resources>,
    /// `status.allocatable`.
    pub allocatable: Option<Resources>,
    /// `status.lastPodEventTime`, kept in whole seconds.
    pub last_pod_event: Option<Timestamp>,
    /// Conditions to set; `Ready` follows from them.
    pub conditions: Vec<ConditionUpdate>,
    /// Conditions to remove.
    pub cleared: Vec<ConditionType>,
}

impl Kubernetes {
    /// Makes a claim. Repeating it with the same object is the same claim.
    ///
    /// # Errors
    /// [`WriteErrorClass::AlreadyExists`] when another object has the name: draw another one.
    pub async fn create_claim(&self, claim: &NodeClaim) -> Result<Arc<Claim>, WriteError> {
        let name = claim.metadata.name.clone().unwrap_or_default();
        let api = self.all::<NodeClaim>();
        let params = PostParams::default();
        let created = self
            .call(Operation::CreateClaim, &name, || api.create(&params, claim))
            .await;
        let created = match created {
            Err(error) if error.class == WriteErrorClass::AlreadyExists => {
                // An earlier attempt may have taken effect without an answer. Annotations are not
                // compared: whoever saw the claim first may have written its launch already.
                let found = self
                    .call(Operation::GetClaim, &name, || api.get(&name))
                    .await?;
                if found.spec != claim.spec || owners(&found) != owners(claim) {
                    return Err(error);
                }
                found
            }
            other => other?,
        };
        Ok(self.written(&created))
    }

    /// Changes labels and annotations of a claim, if it is still as `claim` says.
    ///
    /// # Errors
    /// [`WriteErrorClass::Conflict`] when it changed meanwhile.
    pub async fn patch_claim_metadata(
        &self,
        claim: &Claim,
        change: &ClaimMetadataChange,
    ) -> Result<Arc<Claim>, WriteError> {
        self.patch_metadata(Operation::PatchClaim, claim, change)
            .await
    }

    /// Writes the record of a launch onto a claim, if it is still as `claim` says.
    ///
    /// # Errors
    /// As [`Self::patch_claim_metadata`].
    pub async fn write_launch(
        &self,
        claim: &Claim,
        record: &str,
    ) -> Result<Arc<Claim>, WriteError> {
        let change = ClaimMetadataChange {
            annotations: BTreeMap::from([(labels::LAUNCH.to_owned(), Some(record.to_owned()))]),
            ..ClaimMetadataChange::default()
        };
        self.patch_metadata(Operation::RecordLaunch, claim, &change)
            .await
    }

    async fn patch_metadata(
        &self,
        operation: Operation,
        claim: &Claim,
        change: &ClaimMetadataChange,
    ) -> Result<Arc<Claim>, WriteError> {
        let labels = change
            .labels
            .iter()
            .all(|(key, value)| claim.labels.get(key) == value.as_ref());
        let annotations = change
            .annotations
            .iter()
            .all(|(key, value)| says(claim, key, value.as_ref()));
        if labels && annotations {
            return Ok(Arc::new(claim.clone()));
        }
        let patch = json!({
            "metadata": {
                "resourceVersion": claim.resource_version,
                "uid": claim.uid,
                "labels": change.labels,
                "annotations": change.annotations,
            },
        });
        let api = self.all::<NodeClaim>();
        let (params, patch) = (PatchParams::default(), Patch::Merge(patch));
        let patched = self
            .call(operation, &claim.name, || {
                api.patch(&claim.name, &params, &patch)
            })
            .await?;
        Ok(self.written(&patched))
    }

    /// Changes the status of a claim, if it is still as `claim` says. Nothing is written when
    /// nothing changes.
    ///
    /// # Errors
    /// [`WriteErrorClass::Conflict`] when it changed meanwhile.
    pub async fn patch_claim_status(
        &self,
        claim: &Claim,
        change: &ClaimStatusChange,
    ) -> Result<Arc<Claim>, WriteError> {
        let Some(status) = status_patch(claim, change, self.shared.world.now()) else {
            return Ok(Arc::new(claim.clone()));
        };
        let patch = Patch::Merge(json!({
            "metadata": {"resourceVersion": claim.resource_version, "uid": claim.uid},
            "status": status,
        }));
        let api = self.all::<NodeClaim>();
        let params = PatchParams::default();
        let patched = self
            .call(Operation::PatchClaimStatus, &claim.name, || {
                api.patch_status(&claim.name, &params, &patch)
            })
            .await?;
        Ok(self.written(&patched))
    }

    /// Asks for a claim's deletion, whatever it says by now; no error when it is deleted or gone already.
    ///
    /// # Errors
    /// What the API server says against it.
    pub async fn delete_claim(&self, claim: &Claim) -> Result<(), WriteError> {
        self.delete_if(claim, None).await
    }

    /// Asks for a claim's deletion, if it is still as `claim` says: for reasons that may be gone when the
    /// claim is another than it was, as after a restore of the API server. No error when it is deleted or
    /// gone already.
    ///
    /// # Errors
    /// [`WriteErrorClass::Conflict`] when it changed meanwhile.
    pub async fn delete_unchanged_claim(&self, claim: &Claim) -> Result<(), WriteError> {
        self.delete_if(claim, Some(&claim.resource_version)).await
    }

    async fn delete_if(&self, claim: &Claim, version: Option<&String>) -> Result<(), WriteError> {
        if claim.deleting_since.is_some() {
            return Ok(());
        }
        let api = self.all::<NodeClaim>();
        let params = DeleteParams::default().preconditions(Preconditions {
            uid: Some(claim.uid.clone()),
            resource_version: version.cloned(),
        });
        let deleted = self
            .call(Operation::DeleteClaim, &claim.name, || {
                api.delete(&claim.name, &params)
            })
            .await;
        match deleted {
            Ok(either) => {
                match either.left() {
                    Some(object) => drop(self.written(&object)),
                    None => self.shared.mirror.claim_removed(&claim.name, &claim.uid),
                }
                Ok(())
            }
            Err(error) if error.is_conflict() && version.is_some() => {
                self.unless_going(claim, error).await
            }
            // A conflict says that another object has the name by now.
            Err(error) if error.is_gone() || error.is_conflict() => {
                self.shared.mirror.claim_removed(&claim.name, &claim.uid);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// What a conflict about a claim that was to be deleted comes to: nothing when an earlier attempt took
    /// effect without an answer, or when another object has the name.
    async fn unless_going(&self, claim: &Claim, conflict: WriteError) -> Result<(), WriteError> {
        let api = self.all::<NodeClaim>();
        let found = self
            .call(Operation::GetClaim, &claim.name, || api.get(&claim.name))
            .await;
        match found {
            Ok(object) if object.metadata.uid.as_deref() == Some(claim.uid.as_str()) => {
                let now = self.written(&object);
                now.deleting_since.map(drop).ok_or(conflict)
            }
            Err(error) if !error.is_gone() => Err(error),
            _ => {
                self.shared.mirror.claim_removed(&claim.name, &claim.uid);
                Ok(())
            }
        }
    }

    /// Puts an answered claim into the ledger.
    pub(super) fn written(&self, object: &NodeClaim) -> Arc<Claim> {
        let mut claim = Arc::new(observe::claim::claim(object));
        self.shared.mirror.claim_written(&mut claim);
        claim
    }
}

/// True when a claim is known to have an annotation just so, or to lack one that is to go. Of the two whose texts are not
/// kept, one that cannot be read looks absent: that there is none, only writing makes sure.
fn says(claim: &Claim, key: &str, value: Option<&String>) -> bool {
    match key {
        labels::OFFERINGS => false,
        labels::LAUNCH => {
            let record = claim.launch.as_deref();
            value.is_some() && record.map(observe::claim::launch_text).as_ref() == value
        }
        _ => claim.annotations.get(key) == value,
    }
}

/// The uids of a claim's owners.
fn owners(claim: &NodeClaim) -> Vec<&str> {
    let owners = claim.metadata.owner_references.iter().flatten();
    owners.map(|owner| owner.uid.as_str()).collect()
}

/// The merge patch of the status; `None` when nothing changes.
fn status_patch(claim: &Claim, change: &ClaimStatusChange, now: Timestamp) -> Option<Value> {
    let mut patch = Map::new();
    let mut text = |field: &str, wanted: &Option<String>, present: Option<&str>| {
        if let Some(wanted) = wanted
            && present != Some(wanted)
        {
            patch.insert(field.to_owned(), json!(wanted));
        }
    };
    text("providerID", &change.provider_id, Some(&claim.provider_id));
    text("nodeName", &change.node_name, Some(&claim.node_name));
    text("imageID", &change.image_id, None);
    for (field, wanted, present) in [
        ("capacity", &change.capacity, &claim.capacity),
        ("allocatable", &change.allocatable, &claim.allocatable),
    ] {
        if let Some(wanted) = wanted
            && wanted != present
        {
            let mut quantities = json!(observe::quantity::quantities(wanted));
            if let Some(map) = quantities.as_object_mut() {
                for (name, _amount) in present.iter() {
                    map.entry(name).or_insert(Value::Null);
                }
            }
            patch.insert(field.to_owned(), quantities);
        }
    }
    if let Some(at) = change.last_pod_event {
        let at = Timestamp::from_second(at.as_second()).unwrap_or(at);
        if claim.last_pod_event != Some(at) {
            patch.insert("lastPodEventTime".to_owned(), json!(Time(at)));
        }
    }
    if let Some(conditions) = changed_conditions(claim, change, now) {
        patch.insert("conditions".to_owned(), json!(conditions));
    }
    (!patch.is_empty()).then_some(Value::Object(patch))
}

/// The conditions after the change; `None` when they stay as they are.
fn changed_conditions(
    claim: &Claim,
    change: &ClaimStatusChange,
    now: Timestamp,
) -> Option<Vec<Condition>> {
    if change.conditions.is_empty() && change.cleared.is_empty() {
        return None;
    }
    let mut object = conditions_of(claim);
    let before = by_type(object.conditions());
    for update in &change.conditions {
        object.set_condition(update.clone(), now);
    }
    for cleared in &change.cleared {
        object.clear_condition(*cleared, now);
    }
    // Compared without order: the claim that was seen has lost the order of its conditions.
    (by_type(object.conditions()) != before).then(|| object.status.unwrap_or_default().conditions)
}

fn by_type(conditions: &[Condition]) -> BTreeMap<String, Condition> {
    conditions
        .iter()
        .map(|condition| (condition.type_.clone(), condition.clone()))
        .collect()
}

/// A claim object with nothing but what conditions need.
fn conditions_of(claim: &Claim) -> NodeClaim {
    let conditions = claim
        .conditions
        .iter()
        .map(|(kind, condition)| Condition {
            type_: kind.clone(),
            status: match condition.status {
                model::claim::ConditionStatus::True => ConditionStatus::True,
                model::claim::ConditionStatus::False => ConditionStatus::False,
                model::claim::ConditionStatus::Unknown => ConditionStatus::Unknown,
            },
            // The spec of a claim never changes, so every condition is of its only generation.
            observed_generation: Some(claim.generation),
            last_transition_time: Time(condition.since),
            reason: condition.reason.clone(),
            message: condition.message.clone(),
        })
        .collect();
    NodeClaim {
        metadata: ObjectMeta {
            generation: Some(claim.generation),
            creation_timestamp: Some(Time(claim.created)),
            ..ObjectMeta::default()
        },
        spec: NodeClaimSpec {
            taints: Vec::new(),
            startup_taints: Vec::new(),
            requirements: Vec::new(),
            resources: ResourceRequirements::default(),
            node_class_ref: NodeClassRef::ec2(&claim.node_class),
            termination_grace_period: None,
            expire_after: crate::api::DurationOrNever::never(),
        },
        status: Some(NodeClaimStatus {
            conditions,
            ..NodeClaimStatus::default()
        }),
    }
}
