//! Pods: list on purpose, evict, delete, nominate, bind.

use k8s_openapi::api::core::v1 as core;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions};
use serde_json::json;

use super::{Kubernetes, Operation, WriteError, WriteErrorClass};
use crate::cluster::observe;
use crate::model::pod::Pod;

/// What became of an eviction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Eviction {
    /// The pod is being deleted.
    Evicted,
    /// This very pod is not there any more.
    Gone,
    /// A PodDisruptionBudget does not allow it now; the API server's words.
    Blocked(String),
}

impl Kubernetes {
    /// The pods that are bound to a Node and have not ended, straight from the API server: what the
    /// watch has not shown yet is among them.
    pub async fn pods_on(&self, node: &str) -> Result<Vec<Pod>, WriteError> {
        let api = self.all::<core::Pod>();
        let params = ListParams::default().fields(&format!("spec.nodeName={node}"));
        let listed = self
            .call(Operation::ListPods, node, || api.list(&params))
            .await?;
        let pods = listed.items.iter().map(observe::pod::pod);
        Ok(pods.filter(Pod::is_active_on_node).collect())
    }

    /// Evicts this very pod through the eviction API, so that disruption budgets hold.
    pub async fn evict_pod(&self, pod: &Pod) -> Result<Eviction, WriteError> {
        // kube's own `evict` names the field `delete_options`, which the API server ignores, and
        // with it the precondition on the uid.
        let body = json!({
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": &*pod.key.name, "namespace": &*pod.key.namespace},
            "deleteOptions": {"preconditions": {"uid": pod.uid}},
        });
        let answer = self.create_under(Operation::EvictPod, pod, "eviction", &body);
        match answer.await {
            Ok(()) => Ok(Eviction::Evicted),
            Err(error) => match error.class {
                WriteErrorClass::Gone | WriteErrorClass::Conflict => Ok(Eviction::Gone),
                WriteErrorClass::Blocked => Ok(Eviction::Blocked(error.message)),
                _ => Err(error),
            },
        }
    }

    /// Deletes this very pod with so many seconds to end, whatever disruption budgets say; no error
    /// when it is gone already.
    pub async fn delete_pod(&self, pod: &Pod, grace_seconds: u32) -> Result<(), WriteError> {
        let object = pod.key.to_string();
        let api = self.namespaced::<core::Pod>(&pod.key.namespace);
        let params = DeleteParams::default()
            .grace_period(grace_seconds)
            .preconditions(Preconditions {
                uid: Some(pod.uid.clone()),
                resource_version: None,
            });
        let deleted = self
            .call(Operation::DeletePod, &object, || {
                api.delete(&pod.key.name, &params)
            })
            .await;
        match deleted {
            Err(error) if !error.is_gone() && !error.is_conflict() => Err(error),
            _ => Ok(()),
        }
    }

    /// Tells where a pending pod is expected to run: `status.nominatedNodeName`. A hint, so a pod
    /// that is gone or bound meanwhile is no error.
    pub async fn nominate_pod(&self, pod: &Pod, node_name: &str) -> Result<(), WriteError> {
        if pod.nominated_node.as_deref() == Some(node_name) || pod.node_name.is_some() {
            return Ok(());
        }
        let object = pod.key.to_string();
        let patch = Patch::Merge(json!({
            "metadata": {"uid": pod.uid},
            "status": {"nominatedNodeName": node_name},
        }));
        let api = self.namespaced::<core::Pod>(&pod.key.namespace);
        let params = PatchParams::default();
        let patched = self
            .call(Operation::PatchPodStatus, &object, || {
                api.patch_status(&pod.key.name, &params, &patch)
            })
            .await;
        match patched {
            Ok(_) => Ok(()),
            // A uid that differs is refused as a change of an immutable field.
            Err(error)
                if matches!(
                    error.class,
                    WriteErrorClass::Gone | WriteErrorClass::Conflict | WriteErrorClass::Invalid
                ) =>
            {
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Binds this very pod to a Node, as kube-scheduler does; true when this call has done it. That somebody else was
    /// first, or that the pod ends or is gone, is no error.
    pub async fn bind_pod(&self, pod: &Pod, node_name: &str) -> Result<bool, WriteError> {
        let body = json!({
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {
                "name": &*pod.key.name, "namespace": &*pod.key.namespace, "uid": pod.uid,
            },
            "target": {"apiVersion": "v1", "kind": "Node", "name": node_name},
        });
        let bound = self.create_under(Operation::BindPod, pod, "binding", &body);
        match bound.await {
            Ok(()) => Ok(true),
            Err(error) if error.is_gone() || error.is_conflict() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Creates what a pod has under its own path.
    async fn create_under(
        &self,
        operation: Operation,
        pod: &Pod,
        subresource: &str,
        body: &serde_json::Value,
    ) -> Result<(), WriteError> {
        let object = pod.key.to_string();
        let api = self.namespaced::<core::Pod>(&pod.key.namespace);
        let params = PostParams::default();
        let created = self.call(operation, &object, || {
            api.create_subresource::<_, serde_json::Value>(
                subresource,
                &pod.key.name,
                &params,
                body,
            )
        });
        created.await.map(drop)
    }
}
