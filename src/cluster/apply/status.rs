//! Statuses of NodePools and EC2NodeClasses, and finalizers.

use std::fmt::Debug;

use k8s_openapi::api::core::v1 as core;
use kube::ResourceExt;
use kube::api::{Patch, PatchParams, PostParams};
use serde::de::DeserializeOwned;
use serde_json::json;

use super::{Kubernetes, Operation, WriteError, WriteErrorClass};
use crate::api::{EC2NodeClass, EC2NodeClassStatus, NodeClaim, NodePool, NodePoolStatus};

/// How often a finalizer is tried again because somebody else changed the list.
const CONFLICT_ATTEMPTS: usize = 5;

/// The kinds that carry a finalizer of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FinalizedKind {
    /// NodeClaims.
    Claim,
    /// Nodes.
    Node,
    /// EC2NodeClasses.
    NodeClass,
}

/// What a change does with a finalizer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Swap {
    Adds,
    /// Only while the object is being deleted.
    Removes,
}

impl Kubernetes {
    /// Writes a NodePool's status, if the object is still as it was seen. Nothing is written when
    /// nothing changes.
    ///
    /// # Errors
    /// [`WriteErrorClass::Conflict`] when it changed meanwhile.
    pub async fn update_node_pool_status(
        &self,
        seen: &NodePool,
        status: NodePoolStatus,
    ) -> Result<(), WriteError> {
        if seen.status.as_ref() == Some(&status) {
            return Ok(());
        }
        let mut object = seen.clone();
        object.status = Some(status);
        let name = object.name_any();
        let api = self.all::<NodePool>();
        let params = PostParams::default();
        self.call(Operation::UpdateNodePoolStatus, &name, || {
            api.replace_status(&name, &params, &object)
        })
        .await
        .map(drop)
    }

    /// Writes an EC2NodeClass's status, if the object is still as it was seen. Nothing is written
    /// when nothing changes.
    ///
    /// # Errors
    /// [`WriteErrorClass::Conflict`] when it changed meanwhile.
    pub async fn update_node_class_status(
        &self,
        seen: &EC2NodeClass,
        status: EC2NodeClassStatus,
    ) -> Result<(), WriteError> {
        if seen.status.as_ref() == Some(&status) {
            return Ok(());
        }
        let mut object = seen.clone();
        object.status = Some(status);
        let name = object.name_any();
        let api = self.all::<EC2NodeClass>();
        let params = PostParams::default();
        self.call(Operation::UpdateNodeClassStatus, &name, || {
            api.replace_status(&name, &params, &object)
        })
        .await
        .map(drop)
    }

    /// Sets annotations of an EC2NodeClass.
    pub async fn annotate_node_class(
        &self,
        seen: &EC2NodeClass,
        annotations: &std::collections::BTreeMap<String, String>,
    ) -> Result<(), WriteError> {
        let same = annotations
            .iter()
            .all(|(key, value)| seen.annotations().get(key) == Some(value));
        if same {
            return Ok(());
        }
        let name = seen.name_any();
        let patch = Patch::Merge(json!({"metadata": {"annotations": annotations}}));
        let api = self.all::<EC2NodeClass>();
        let params = PatchParams::default();
        self.call(Operation::PatchNodeClass, &name, || {
            api.patch(&name, &params, &patch)
        })
        .await
        .map(drop)
    }

    /// Adds a finalizer; no error when it is there already.
    ///
    /// # Errors
    /// [`WriteErrorClass::Gone`] when the very object is not there any more.
    pub async fn add_finalizer(
        &self,
        kind: FinalizedKind,
        name: &str,
        uid: &str,
        finalizer: &str,
    ) -> Result<(), WriteError> {
        self.change_finalizers(kind, (name, uid), Swap::Adds, |finalizers| {
            if !finalizers.iter().any(|present| present == finalizer) {
                finalizers.push(finalizer.to_owned());
            }
        })
        .await
    }

    /// Removes a finalizer of an object that is being deleted; no error when it, or the very object, is gone
    /// already.
    ///
    /// # Errors
    /// [`WriteErrorClass::Conflict`] when the object is not being deleted: a restored API server may have it back
    /// as it was before, and it needs the finalizer again.
    pub async fn remove_finalizer(
        &self,
        kind: FinalizedKind,
        name: &str,
        uid: &str,
        finalizer: &str,
    ) -> Result<(), WriteError> {
        let removed = self
            .change_finalizers(kind, (name, uid), Swap::Removes, |finalizers| {
                finalizers.retain(|present| present != finalizer);
            })
            .await;
        match removed {
            Err(error) if error.is_gone() => {
                if kind == FinalizedKind::Claim {
                    // A watch that is behind shows it still.
                    self.shared.mirror.claim_removed(name, uid);
                }
                Ok(())
            }
            other => other,
        }
    }

    async fn change_finalizers(
        &self,
        kind: FinalizedKind,
        (name, uid): (&str, &str),
        swap: Swap,
        change: impl Fn(&mut Vec<String>) + Send + Sync,
    ) -> Result<(), WriteError> {
        let object = (name, uid);
        match kind {
            FinalizedKind::Claim => {
                let operations = (Operation::GetClaim, Operation::PatchClaim);
                let patched: Option<NodeClaim> = self
                    .swap_finalizers(operations, object, swap, change)
                    .await?;
                if let Some(claim) = patched {
                    let gone = claim.metadata.deletion_timestamp.is_some()
                        && claim.finalizers().is_empty();
                    if gone {
                        self.shared.mirror.claim_removed(name, uid);
                    } else if claim.spec.node_class_ref.is_ours() {
                        drop(self.written(&claim));
                    }
                }
            }
            FinalizedKind::Node => {
                let operations = (Operation::GetNode, Operation::PatchNode);
                let patched: Option<core::Node> = self
                    .swap_finalizers(operations, object, swap, change)
                    .await?;
                drop(patched);
            }
            FinalizedKind::NodeClass => {
                let operations = (Operation::GetNodeClass, Operation::PatchNodeClass);
                let patched: Option<EC2NodeClass> = self
                    .swap_finalizers(operations, object, swap, change)
                    .await?;
                drop(patched);
            }
        }
        Ok(())
    }

    /// Reads the list of finalizers and writes the changed one with a JSON patch that tests uid and
    /// resource version. Gives back the object when something was written.
    async fn swap_finalizers<K>(
        &self,
        (get, patch_operation): (Operation, Operation),
        (name, uid): (&str, &str),
        swap: Swap,
        change: impl Fn(&mut Vec<String>),
    ) -> Result<Option<K>, WriteError>
    where
        K: kube::Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug,
    {
        let api = self.all::<K>();
        let params = PatchParams::default();
        let mut attempt = 1;
        loop {
            let seen = self
                .call(get, name, || api.get_metadata(name))
                .await?
                .metadata;
            if seen.uid.as_deref() != Some(uid) {
                return Err(WriteError::new(
                    patch_operation,
                    name,
                    WriteErrorClass::Gone,
                    "another object has the name by now",
                ));
            }
            let before = seen.finalizers.clone().unwrap_or_default();
            let mut after = before.clone();
            change(&mut after);
            if after == before {
                return Ok(None);
            }
            if swap == Swap::Removes && seen.deletion_timestamp.is_none() {
                return Err(WriteError::new(
                    patch_operation,
                    name,
                    WriteErrorClass::Conflict,
                    "the object is not being deleted any more",
                ));
            }
            let operations = json!([
                {"op": "test", "path": "/metadata/uid", "value": uid},
                {"op": "test", "path": "/metadata/resourceVersion", "value": seen.resource_version},
                {"op": "add", "path": "/metadata/finalizers", "value": after},
            ]);
            let patch = serde_json::from_value(operations)
                .map(Patch::<()>::Json)
                .map_err(|error| {
                    WriteError::new(
                        patch_operation,
                        name,
                        WriteErrorClass::Invalid,
                        error.to_string(),
                    )
                })?;
            let patched = self
                .call(patch_operation, name, || api.patch(name, &params, &patch))
                .await;
            match patched {
                Ok(object) => return Ok(Some(object)),
                // A failed test comes back as an invalid patch.
                Err(error)
                    if attempt < CONFLICT_ATTEMPTS
                        && matches!(
                            error.class,
                            WriteErrorClass::Conflict | WriteErrorClass::Invalid
                        ) =>
                {
                    attempt += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }
}
