//! The API server as the test uses it: creating, listing, nominating, and making volumes as a CSI
//! driver's provisioner would.

use std::collections::BTreeMap;
use std::path::PathBuf;

use futures::{StreamExt, stream};
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Client, Config};
use serde_json::{Value, json};

use crate::constraints::volume;
use crate::waiting::eventually;

/// Calls that are under way at the same time.
const AT_ONCE: usize = 24;

/// A connection with an administrator's rights.
#[derive(Clone)]
pub(crate) struct Cluster {
    client: Client,
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Cluster")
    }
}

fn resource(object: &Value) -> ApiResource {
    let api_version = object["apiVersion"].as_str().unwrap();
    let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
    ApiResource::from_gvk(&GroupVersionKind::gvk(
        group,
        version,
        object["kind"].as_str().unwrap(),
    ))
}

impl Cluster {
    pub(crate) async fn connect() -> Self {
        drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
        let path = std::env::var("KUBECONFIG").unwrap_or_else(|_missing| {
            panic!("KUBECONFIG is not set: run `hack/test differential`, or `eval \"$(hack/up)\"`")
        });
        let kubeconfig = Kubeconfig::read_from(PathBuf::from(path)).unwrap();
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
            .await
            .unwrap();
        Self {
            client: Client::try_from(config).unwrap(),
        }
    }

    fn api(&self, object: &Value) -> Api<DynamicObject> {
        let resource = resource(object);
        match object["metadata"]["namespace"].as_str() {
            Some(space) => Api::namespaced_with(self.client.clone(), space, &resource),
            None => Api::all_with(self.client.clone(), &resource),
        }
    }

    /// Creates objects; what is there already is left as it is.
    pub(crate) async fn create_all(&self, objects: &[Value]) {
        stream::iter(objects)
            .for_each_concurrent(AT_ONCE, |object| self.create(object))
            .await;
    }

    async fn create(&self, object: &Value) {
        let typed: DynamicObject = serde_json::from_value(object.clone()).unwrap();
        match self
            .api(object)
            .create(&PostParams::default(), &typed)
            .await
        {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(error) => panic!("{error}: {object:#}"),
        }
    }

    /// Deletes objects at once; what is gone already is as well.
    pub(crate) async fn delete_all(&self, objects: &[Value]) {
        let at_once = &DeleteParams::default().grace_period(0);
        stream::iter(objects)
            .for_each_concurrent(AT_ONCE, |object| async move {
                let name = object["metadata"]["name"].as_str().unwrap();
                match self.api(object).delete(name, at_once).await {
                    Ok(_) => {}
                    Err(kube::Error::Api(status)) if status.code == 404 => {}
                    Err(error) => panic!("{error}: {object:#}"),
                }
            })
            .await;
    }

    /// Every object of a kind, in all namespaces.
    pub(crate) async fn list(&self, api_version: &str, kind: &str) -> Vec<Value> {
        let kind = json!({"apiVersion": api_version, "kind": kind});
        let listed = self.api(&kind).list(&ListParams::default()).await.unwrap();
        listed
            .into_iter()
            .map(|object| {
                let mut value = serde_json::to_value(&object).unwrap();
                value["apiVersion"] = kind["apiVersion"].clone();
                value["kind"] = kind["kind"].clone();
                value
            })
            .collect()
    }

    /// Pods by `namespace/name`.
    pub(crate) async fn pods(&self) -> BTreeMap<String, Value> {
        let pods = self.list("v1", "Pod").await;
        pods.into_iter().map(|pod| (key(&pod), pod)).collect()
    }

    /// Nominates a pod to a node, as the controller does for the nodes it buys.
    pub(crate) async fn nominate(&self, pod: &str, node: &str) {
        let (space, name) = pod.split_once('/').unwrap();
        let object = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": space}});
        let patch = Patch::Merge(json!({"status": {"nominatedNodeName": node}}));
        let patched = self
            .api(&object)
            .patch_status(name, &PatchParams::default(), &patch)
            .await;
        match patched {
            Ok(_) => {}
            // It was bound in the meantime.
            Err(kube::Error::Api(status)) if status.code == 422 => {}
            Err(error) => panic!("{error}: {pod}"),
        }
    }

    /// Lets kube-scheduler look at pods that were held by a scheduling gate.
    pub(crate) async fn release(&self, pods: &[Value]) {
        let open = &Patch::Merge(json!({"spec": {"schedulingGates": []}}));
        stream::iter(pods)
            .for_each_concurrent(AT_ONCE, |pod| async move {
                let name = pod["metadata"]["name"].as_str().unwrap();
                let parameters = PatchParams::default();
                self.api(pod).patch(name, &parameters, open).await.unwrap();
            })
            .await;
    }

    /// Makes the volumes that claims wait for, in the zone of the node that was selected for them.
    pub(crate) async fn provision_volumes(&self, zones: &BTreeMap<String, String>) {
        let claims = self.list("v1", "PersistentVolumeClaim").await;
        let mut volumes = Vec::new();
        for claim in claims {
            let annotations = &claim["metadata"]["annotations"];
            let selected = annotations["volume.kubernetes.io/selected-node"].as_str();
            let zone = selected.and_then(|node| zones.get(node));
            if let (Some(zone), Value::Null) = (zone, &claim["spec"]["volumeName"]) {
                let name = claim["metadata"]["name"].as_str().unwrap();
                let class = claim["spec"]["storageClassName"].as_str().unwrap_or("");
                let space = &claim["metadata"]["namespace"];
                let uid = claim["metadata"]["uid"].as_str().unwrap();
                volumes.push(volume(&format!("pvc-{uid}"), space, name, zone, class));
            }
        }
        self.create_all(&volumes).await;
    }

    /// Waits until each namespace can take pods.
    pub(crate) async fn wait_for_accounts(&self, namespaces: &[String]) {
        eventually("namespaces have their ServiceAccount", 60, async || {
            let accounts = self.list("v1", "ServiceAccount").await;
            let missing: Vec<_> = namespaces
                .iter()
                .filter(|space| {
                    !accounts
                        .iter()
                        .any(|account| account["metadata"]["namespace"] == **space)
                })
                .collect();
            if missing.is_empty() {
                Ok(())
            } else {
                Err(format!("{missing:?}"))
            }
        })
        .await;
    }

    /// Waits until every node is Ready and nothing keeps pods off it but its own taints.
    pub(crate) async fn wait_for_nodes(&self, names: &[String]) {
        eventually("nodes are ready", 90, async || {
            let nodes = self.list("v1", "Node").await;
            let ready = nodes
                .iter()
                .filter(|node| {
                    let taints = node["spec"]["taints"].as_array().into_iter().flatten();
                    !taints.clone().any(|taint| {
                        taint["key"]
                            .as_str()
                            .unwrap_or_default()
                            .starts_with("node.kubernetes.io/")
                    })
                })
                .filter_map(|node| node["metadata"]["name"].as_str())
                .filter(|name| names.iter().any(|wanted| wanted == name))
                .count();
            if ready == names.len() {
                Ok(())
            } else {
                Err(format!("{ready} of {}", names.len()))
            }
        })
        .await;
    }
}

/// `namespace/name`.
pub(crate) fn key(object: &Value) -> String {
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default();
    format!("{}/{}", text("namespace"), text("name"))
}
