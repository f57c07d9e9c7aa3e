//! Nodes: registration, labels, taints, deletion.
//!
//! A change of a Node reads it first and writes with its resource version, because taints are a
//! list that others write too; a conflict reads again.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1 as core;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use serde_json::json;

use super::{Kubernetes, Operation, WriteError, WriteErrorClass};
use crate::api::{NodeClaim, labels};
use crate::cluster::observe::node::is_ready;
use crate::model::claim::Claim;
use crate::model::node::Node;
use crate::model::taint::{Taint, TaintEffect};

/// How often a change is tried again because somebody else was faster.
const CONFLICT_ATTEMPTS: usize = 5;

/// Whether a registered Node takes pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opening {
    /// It does, as far as registration is concerned.
    Open,
    /// It has or had a taint that evicts, and pods would come at once, since it is ready or was a moment ago, or are to be bound.
    /// kube-controller-manager learns of Nodes and of pods apart, and deletes pods for a taint that it still sees. So the
    /// taint only keeps pods away now; registering once more a little later, as one that was held, takes it off.
    Held,
}

/// Which Nodes stay closed for a moment when they are registered, by a taint that keeps pods away and evicts nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// Those that pods would come to at once.
    IfTaken,
    /// All: pods are bound to it before kube-scheduler may put others there.
    Always,
    /// It was held: only one whose taint evicts all the same, and that pods would come to.
    Over,
}

/// What registration puts onto a Node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NodeRegistration {
    /// Labels to set, beside `karpenter.sh/registered`.
    pub labels: BTreeMap<String, String>,
    /// Annotations to set.
    pub annotations: BTreeMap<String, String>,
    /// Taints to add, startup taints included, where the Node has none of that key and effect.
    pub taints: Vec<Taint>,
}

impl Kubernetes {
    /// Binds a Node to its claim in one write: finalizer, labels, annotations and taints,
    /// and takes the taint `karpenter.sh/unregistered` off, unless the Node is to be held: one that pods would come to at once
    /// opens only when its taint is known to have evicted nobody for long enough. A Node that is registered already keeps
    /// its taints as they are, so startup taints that were removed do not come back. The claim does not
    /// own the Node: were claims ever lost, Kubernetes would collect every Node under running pods.
    pub async fn register_node(
        &self,
        node: &Node,
        registration: &NodeRegistration,
        hold: Hold,
    ) -> Result<Opening, WriteError> {
        let registered = self
            .written_node(node, |object| register(object, registration, hold))
            .await?;
        let taints = registered.spec.and_then(|spec| spec.taints);
        let is_held = |taint: &core::Taint| taint.key == labels::UNREGISTERED_TAINT;
        if taints.iter().flatten().any(is_held) {
            Ok(Opening::Held)
        } else {
            Ok(Opening::Open)
        }
    }

    /// Sets the label `karpenter.sh/initialized`.
    pub async fn initialize_node(&self, node: &Node) -> Result<(), WriteError> {
        self.change_node(node, |object| {
            set(
                object.metadata.labels.get_or_insert_default(),
                labels::INITIALIZED,
                "true",
            );
        })
        .await
    }

    /// Sets labels of a Node, or removes them where `None`.
    pub async fn relabel_node(
        &self,
        node: &Node,
        changed: &BTreeMap<String, Option<String>>,
    ) -> Result<(), WriteError> {
        self.change_node(node, |object| {
            let present = object.metadata.labels.get_or_insert_default();
            for (key, value) in changed {
                match value {
                    Some(value) => set(present, key, value),
                    None => drop(present.remove(key)),
                }
            }
        })
        .await
    }

    /// Sets labels and annotations of a Node.
    pub async fn label_node(
        &self,
        node: &Node,
        node_labels: &BTreeMap<String, String>,
        annotations: &BTreeMap<String, String>,
    ) -> Result<(), WriteError> {
        self.change_node(node, |object| {
            let metadata = &mut object.metadata;
            let present = metadata.labels.get_or_insert_default();
            present.extend(node_labels.clone());
            let present = metadata.annotations.get_or_insert_default();
            present.extend(annotations.clone());
        })
        .await
    }

    /// Keeps new pods off a Node that goes away: the taint `karpenter.sh/disrupted:NoSchedule` and
    /// the label that takes it out of load balancers.
    pub async fn taint_node_disrupted(&self, node: &Node) -> Result<(), WriteError> {
        self.change_node(node, |object| {
            let taints = taints_of(object);
            taints.retain(|taint| {
                taint.key != labels::DISRUPTED_TAINT
                    || taint.effect == TaintEffect::NoSchedule.as_str()
            });
            if !taints
                .iter()
                .any(|taint| taint.key == labels::DISRUPTED_TAINT)
            {
                taints.push(written_taint(&Taint::new(
                    labels::DISRUPTED_TAINT,
                    "",
                    TaintEffect::NoSchedule,
                )));
            }
            set(
                object.metadata.labels.get_or_insert_default(),
                labels::EXCLUDE_FROM_LOAD_BALANCERS,
                labels::EXCLUDE_FROM_LOAD_BALANCERS_VALUE,
            );
        })
        .await
    }

    /// Takes back what [`Self::taint_node_disrupted`] did.
    pub async fn untaint_node_disrupted(&self, node: &Node) -> Result<(), WriteError> {
        self.change_node(node, |object| {
            taints_of(object).retain(|taint| taint.key != labels::DISRUPTED_TAINT);
            let node_labels = object.metadata.labels.get_or_insert_default();
            if node_labels
                .get(labels::EXCLUDE_FROM_LOAD_BALANCERS)
                .is_some_and(|value| value == labels::EXCLUDE_FROM_LOAD_BALANCERS_VALUE)
            {
                node_labels.remove(labels::EXCLUDE_FROM_LOAD_BALANCERS);
            }
        })
        .await
    }

    /// The provider id of a Node as the API server has it; `None` where there is no such Node.
    ///
    /// # Errors
    /// What the API server says against it.
    pub async fn provider_id_of_node(&self, name: &str) -> Result<Option<String>, WriteError> {
        let api = self.all::<core::Node>();
        let found = self
            .call(Operation::GetNode, name, || api.get_opt(name))
            .await?;
        let spec = found.and_then(|node| node.spec);
        Ok(spec.and_then(|spec| spec.provider_id))
    }

    /// Asks for a Node's deletion, whatever it says by now; no error when it is deleted or gone already.
    ///
    /// # Errors
    /// What the API server says against it.
    pub async fn delete_node(&self, node: &Node) -> Result<(), WriteError> {
        if node.deleting_since.is_some() {
            return Ok(());
        }
        match self.delete_at(node, None).await {
            Err(error) if !error.is_gone() && !error.is_conflict() => Err(error),
            _ => Ok(()),
        }
    }

    /// Asks for the deletion of a Node whose machine runs, while the Node is closed to new pods and its claim
    /// goes: a restored API server may have either back as it was before, with pods that nobody counted. No
    /// error when the Node is deleted or gone already.
    ///
    /// # Errors
    /// [`WriteErrorClass::Conflict`] when the fence is not there any more, or the claim does not go.
    pub async fn delete_fenced_node(&self, node: &Node, claim: &Claim) -> Result<(), WriteError> {
        if node.deleting_since.is_some() {
            return Ok(());
        }
        let api = self.all::<core::Node>();
        let mut attempt = 1;
        loop {
            let found = self
                .call(Operation::GetNode, &node.name, || api.get(&node.name))
                .await;
            let mut found = match found {
                Ok(found) if found.metadata.uid.as_deref() == Some(node.uid.as_str()) => found,
                Err(error) if !error.is_gone() => return Err(error),
                _ => return Ok(()),
            };
            if found.metadata.deletion_timestamp.is_some() {
                return Ok(());
            }
            let mut taints = taints_of(&mut found).iter();
            if !taints.any(|taint| taint.key == labels::DISRUPTED_TAINT) {
                return Err(is_kept(node, "the Node takes new pods again"));
            }
            if !self.is_going(claim).await? {
                return Err(is_kept(node, "its NodeClaim is not being deleted"));
            }
            match self.delete_at(node, found.metadata.resource_version).await {
                Err(error) if error.is_conflict() && attempt < CONFLICT_ATTEMPTS => attempt += 1,
                Err(error) if !error.is_gone() => return Err(error),
                _ => return Ok(()),
            }
        }
    }

    /// True while a claim is being deleted, as the API server has it. One that is gone does not go: claims
    /// outlive their Nodes, and what is left without one is for others to judge.
    async fn is_going(&self, claim: &Claim) -> Result<bool, WriteError> {
        let api = self.all::<NodeClaim>();
        let found = self
            .call(Operation::GetClaim, &claim.name, || api.get(&claim.name))
            .await;
        match found {
            Ok(found) => {
                let is_it = found.metadata.uid.as_deref() == Some(claim.uid.as_str());
                Ok(is_it && found.metadata.deletion_timestamp.is_some())
            }
            Err(error) if error.is_gone() => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn delete_at(&self, node: &Node, version: Option<String>) -> Result<(), WriteError> {
        let api = self.all::<core::Node>();
        let params = DeleteParams::default().preconditions(Preconditions {
            uid: Some(node.uid.clone()),
            resource_version: version,
        });
        self.call(Operation::DeleteNode, &node.name, || {
            api.delete(&node.name, &params)
        })
        .await
        .map(drop)
    }

    async fn change_node(
        &self,
        node: &Node,
        change: impl Fn(&mut core::Node),
    ) -> Result<(), WriteError> {
        self.written_node(node, change).await.map(drop)
    }

    /// Reads a Node, changes it and writes what differs, until nobody else was faster; gives back what it is then.
    async fn written_node(
        &self,
        node: &Node,
        change: impl Fn(&mut core::Node),
    ) -> Result<core::Node, WriteError> {
        let api = self.all::<core::Node>();
        let params = PatchParams::default();
        let mut attempt = 1;
        loop {
            let before = self
                .call(Operation::GetNode, &node.name, || api.get(&node.name))
                .await?;
            if before.metadata.uid.as_deref() != Some(&node.uid) {
                return Err(WriteError::new(
                    Operation::PatchNode,
                    &node.name,
                    WriteErrorClass::Gone,
                    "another Node has the name by now",
                ));
            }
            let mut after = before.clone();
            change(&mut after);
            if after == before {
                return Ok(after);
            }
            let patch = Patch::Merge(node_patch(&before, &after));
            let patched = self
                .call(Operation::PatchNode, &node.name, || {
                    api.patch(&node.name, &params, &patch)
                })
                .await;
            match patched {
                Err(error) if error.is_conflict() && attempt < CONFLICT_ATTEMPTS => attempt += 1,
                Err(error) => return Err(error),
                Ok(written) => return Ok(written),
            }
        }
    }
}

/// Why a Node is not deleted after all.
fn is_kept(node: &Node, why: &str) -> WriteError {
    let conflict = WriteErrorClass::Conflict;
    WriteError::new(Operation::DeleteNode, &node.name, conflict, why)
}

/// What [`Kubernetes::register_node`] makes of a Node.
fn register(object: &mut core::Node, registration: &NodeRegistration, hold: Hold) {
    let metadata = &mut object.metadata;
    let finalizers = metadata.finalizers.get_or_insert_default();
    if !finalizers
        .iter()
        .any(|finalizer| finalizer == labels::TERMINATION_FINALIZER)
    {
        finalizers.push(labels::TERMINATION_FINALIZER.to_owned());
    }
    let annotations = metadata.annotations.get_or_insert_default();
    annotations.extend(registration.annotations.clone());
    let node_labels = metadata.labels.get_or_insert_default();
    let registered = node_labels.contains_key(labels::REGISTERED);
    let keeps_taints = node_labels
        .get(labels::DO_NOT_SYNC_TAINTS)
        .is_some_and(|value| value == "true");
    node_labels.extend(registration.labels.clone());
    set(node_labels, labels::REGISTERED, "true");
    let is_ready = is_ready(object);
    let taints = taints_of(object);
    // kube-scheduler goes by the taint, which follows the condition with a delay.
    let keeps_pods_away = |taint: &core::Taint| {
        taint.key == labels::NOT_READY_TAINT && taint.effect == TaintEffect::NoSchedule.as_str()
    };
    let takes_pods = is_ready || !taints.iter().any(keeps_pods_away);
    if !registered && !keeps_taints {
        for taint in &registration.taints {
            let present = taints
                .iter()
                .any(|other| other.key == taint.key && other.effect == taint.effect.as_str());
            if !present {
                taints.push(written_taint(taint));
            }
        }
    }
    taints.retain_mut(|taint| {
        if taint.key != labels::UNREGISTERED_TAINT {
            return true;
        }
        let evicts = taint.effect == TaintEffect::NoExecute.as_str();
        let is_held = match hold {
            Hold::IfTaken => takes_pods,
            Hold::Always => true,
            Hold::Over => takes_pods && evicts,
        };
        TaintEffect::NoSchedule
            .as_str()
            .clone_into(&mut taint.effect);
        taint.time_added = None;
        is_held
    });
}

/// The merge patch between two versions of a Node, bound to the version that was read.
fn node_patch(before: &core::Node, after: &core::Node) -> serde_json::Value {
    let removed_labels = before
        .metadata
        .labels
        .iter()
        .flatten()
        .map(|(key, _value)| key)
        .filter(|key| {
            after
                .metadata
                .labels
                .as_ref()
                .is_none_or(|labels| !labels.contains_key(*key))
        });
    let mut node_labels = json!(after.metadata.labels.clone().unwrap_or_default());
    for key in removed_labels {
        if let Some(map) = node_labels.as_object_mut() {
            map.insert(key.clone(), serde_json::Value::Null);
        }
    }
    json!({
        "metadata": {
            "resourceVersion": before.metadata.resource_version,
            "uid": before.metadata.uid,
            "labels": node_labels,
            "annotations": after.metadata.annotations.clone().unwrap_or_default(),
            "finalizers": after.metadata.finalizers,
        },
        "spec": {
            "taints": after.spec.as_ref().and_then(|spec| spec.taints.as_ref()),
        },
    })
}

fn taints_of(object: &mut core::Node) -> &mut Vec<core::Taint> {
    object
        .spec
        .get_or_insert_default()
        .taints
        .get_or_insert_default()
}

fn written_taint(taint: &Taint) -> core::Taint {
    core::Taint {
        key: taint.key.clone(),
        value: Some(taint.value.clone()).filter(|value| !value.is_empty()),
        effect: taint.effect.as_str().to_owned(),
        time_added: None,
    }
}

fn set(map: &mut BTreeMap<String, String>, key: &str, value: &str) {
    map.insert(key.to_owned(), value.to_owned());
}
