//! The Kubernetes side as the tests see it: applying manifests, counting, waiting for nothing.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use k8s_openapi::api::core::v1::{ConfigMap, Event, Node, Pod};
use kube::api::{Api, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams};
use kube::core::ApiResource;
use kube::{Client, ResourceExt};
use serde_json::{Value, json};

use crate::endpoint::Endpoint;
use crate::waiting::eventually;
use crate::world::variable;

/// The namespace that the chart is installed into.
pub(crate) const SYSTEM_NAMESPACE: &str = "tonnage-system";
/// The ConfigMap that the controller keeps in it.
const LEARNED: &str = "tonnage-learned";

/// A connection to the cluster with an administrator's rights.
#[derive(Clone)]
pub(crate) struct Cluster {
    client: Client,
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Cluster")
    }
}

/// Runs a program from the environment's PATH and returns what it printed; panics when it fails.
pub(crate) fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .unwrap_or_else(|error| {
            panic!("{program} does not start: {error}; is the PATH of hack/up set?")
        });
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{program} {arguments:?} failed:\n{printed}\n{complaints}"
    );
    printed
}

impl Cluster {
    pub(crate) fn new(client: Client) -> Self {
        Self { client }
    }

    /// Installs or upgrades the chart without a pod: the binary under test runs beside it.
    pub(crate) fn install_chart(mode: &str) {
        Self::install_chart_with(mode, &[]);
    }

    /// The same with further values, as `--set` takes them.
    pub(crate) fn install_chart_with(mode: &str, further: &[&str]) {
        let mut values = vec![format!("settings.mode={mode}"), "replicas=0".to_owned()];
        values.extend(further.iter().map(|value| (*value).to_owned()));
        for (value, name) in [
            ("clusterName", "TONNAGE_CLUSTER_NAME"),
            ("clusterEndpoint", "TONNAGE_CLUSTER_ENDPOINT"),
            ("clusterCaBundle", "TONNAGE_CLUSTER_CA_BUNDLE"),
            ("clusterCidr", "TONNAGE_CLUSTER_CIDR"),
        ] {
            values.push(format!("settings.{value}={}", variable(name)));
        }
        let mut arguments = vec!["upgrade", "--install", "tonnage", "charts/tonnage"];
        arguments.extend(["--namespace", SYSTEM_NAMESPACE, "--create-namespace"]);
        arguments.extend(values.iter().flat_map(|value| ["--set", value]));
        drop(run("helm", &arguments));
    }

    /// Applies a manifest file below the repository, as a user would.
    pub(crate) fn apply_file(path: &str) {
        assert!(Path::new(path).exists(), "{path} is missing");
        drop(run("kubectl", &["apply", "--server-side", "-f", path]));
    }

    /// Applies one object.
    pub(crate) async fn apply(&self, manifest: Value) {
        self.try_apply(manifest).await.unwrap();
    }

    /// The same, where the API server may refuse it.
    pub(crate) async fn try_apply(&self, manifest: Value) -> kube::Result<()> {
        let object: DynamicObject = serde_json::from_value(manifest.clone()).unwrap();
        let api = self.api_of(&object);
        let parameters = PatchParams::apply("e2e").force();
        let patch = Patch::Apply(manifest);
        api.patch(&object.name_any(), &parameters, &patch).await?;
        Ok(())
    }

    fn api_of(&self, object: &DynamicObject) -> Api<DynamicObject> {
        let types = object.types.clone().unwrap();
        let (group, version) = types
            .api_version
            .rsplit_once('/')
            .unwrap_or(("", types.api_version.as_str()));
        let mut resource =
            ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, &types.kind));
        if types.kind == "EC2NodeClass" {
            "ec2nodeclasses".clone_into(&mut resource.plural);
        }
        match object.namespace() {
            Some(namespace) => Api::namespaced_with(self.client.clone(), &namespace, &resource),
            None => Api::all_with(self.client.clone(), &resource),
        }
    }

    /// Objects of a kind that a cluster has once, such as `karpenter.sh/v1` `NodeClaim`.
    pub(crate) fn objects(&self, api_version: &str, kind: &str) -> Api<DynamicObject> {
        let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
        Api::all_with(self.client.clone(), &resource)
    }

    pub(crate) fn node_claims(&self) -> Api<DynamicObject> {
        self.objects("karpenter.sh/v1", "NodeClaim")
    }

    pub(crate) fn node_pools(&self) -> Api<DynamicObject> {
        self.objects("karpenter.sh/v1", "NodePool")
    }

    pub(crate) fn node_classes(&self) -> Api<DynamicObject> {
        let mut resource = ApiResource::from_gvk(&GroupVersionKind::gvk(
            "tonnage.dev",
            "v1alpha1",
            "EC2NodeClass",
        ));
        "ec2nodeclasses".clone_into(&mut resource.plural);
        Api::all_with(self.client.clone(), &resource)
    }

    pub(crate) fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), "default")
    }

    pub(crate) fn nodes(&self) -> Api<Node> {
        Api::all(self.client.clone())
    }

    /// Nodes other than the system node.
    pub(crate) async fn worker_nodes(&self) -> Vec<Node> {
        let mut nodes = self
            .nodes()
            .list(&ListParams::default())
            .await
            .unwrap()
            .items;
        nodes.retain(|node| !node.name_any().starts_with("system-"));
        nodes
    }

    /// Changes the number of replicas of the Deployment `executor`.
    pub(crate) async fn scale_executors(&self, replicas: i32) {
        let api: Api<k8s_openapi::api::apps::v1::Deployment> =
            Api::namespaced(self.client.clone(), "default");
        let patch = Patch::Merge(json!({"spec": {"replicas": replicas}}));
        api.patch_scale("executor", &PatchParams::default(), &patch)
            .await
            .unwrap();
    }

    /// Pods of the default namespace by phase, those of ended Jobs included.
    pub(crate) async fn phases(&self) -> BTreeMap<String, usize> {
        let mut phases = BTreeMap::new();
        for pod in self.pods().list(&ListParams::default()).await.unwrap() {
            let phase = pod
                .status
                .and_then(|status| status.phase)
                .unwrap_or_default();
            *phases.entry(phase).or_insert(0) += 1;
        }
        phases
    }

    /// Waits until `count` pods of the default namespace are Running or Succeeded.
    pub(crate) async fn wait_for_started(&self, count: usize, seconds: u64) {
        eventually(&format!("{count} pods run"), seconds, async || {
            let phases = self.phases().await;
            let of = |phase: &str| phases.get(phase).copied().unwrap_or(0);
            if of("Running") + of("Succeeded") >= count {
                Ok(())
            } else {
                Err(format!("{phases:?}"))
            }
        })
        .await;
    }

    /// Waits until `count` pods of the default namespace are there, all of them Pending.
    pub(crate) async fn wait_for_waiting(&self, count: usize) {
        eventually(&format!("{count} pods wait"), 60, async || {
            let phases = self.phases().await;
            if phases == BTreeMap::from([("Pending".to_owned(), count)]) {
                Ok(())
            } else {
                Err(format!("{phases:?}"))
            }
        })
        .await;
    }

    /// Messages of events about an object, newest last.
    pub(crate) async fn events_about(&self, kind: &str, name: &str) -> Vec<String> {
        let api: Api<Event> = Api::all(self.client.clone());
        let events = api.list(&ListParams::default()).await.unwrap();
        events
            .into_iter()
            .filter(|event| {
                event.involved_object.kind.as_deref() == Some(kind)
                    && event.involved_object.name.as_deref() == Some(name)
            })
            .map(|event| {
                format!(
                    "{}: {}",
                    event.reason.unwrap_or_default(),
                    event.message.unwrap_or_default()
                )
            })
            .collect()
    }

    /// The status, reason and message of a condition; empty text when it is not there.
    pub(crate) async fn condition(
        &self,
        api: &Api<DynamicObject>,
        name: &str,
        condition_type: &str,
    ) -> String {
        let Ok(object) = api.get(name).await else {
            return String::new();
        };
        object.data["status"]["conditions"]
            .as_array()
            .into_iter()
            .flatten()
            .find(|condition| condition["type"] == condition_type)
            .map(|condition| {
                let text = |field: &str| condition[field].as_str().unwrap_or_default().to_owned();
                format!("{} {} {}", text("status"), text("reason"), text("message"))
            })
            .unwrap_or_default()
    }

    /// Waits until no node, claim or instance is left; says what is.
    pub(crate) async fn wait_for_nothing(&self, endpoint: &Endpoint, seconds: u64) {
        eventually("zero nodes, claims and instances", seconds, async || {
            let nodes: Vec<String> = self
                .worker_nodes()
                .await
                .iter()
                .map(ResourceExt::name_any)
                .collect();
            let claims: Vec<String> = match self.node_claims().list(&ListParams::default()).await {
                Ok(claims) => claims.iter().map(ResourceExt::name_any).collect(),
                Err(kube::Error::Api(status)) if status.code == 404 => Vec::new(),
                Err(error) => return Err(error.to_string()),
            };
            let machines = endpoint.machines().await;
            if nodes.is_empty() && claims.is_empty() && machines.is_empty() {
                return Ok(());
            }
            Err(format!(
                "nodes {nodes:?}\nclaims {claims:?}\nmachines {machines:?}"
            ))
        })
        .await;
    }

    /// What the controller has written down of what it learned; an error while there is nothing.
    pub(crate) async fn learned(&self) -> Result<String, String> {
        let maps: Api<ConfigMap> = Api::namespaced(self.client.clone(), SYSTEM_NAMESPACE);
        let map = maps.get(LEARNED).await.map_err(|error| error.to_string())?;
        Ok(format!("{:?}", map.data))
    }

    /// Removes all that an earlier test left: workloads, pools, claims, nodes, instances.
    pub(crate) async fn remove_everything(&self, endpoint: &Endpoint) {
        let quietly = |arguments: &[&str]| {
            drop(
                Command::new("kubectl")
                    .args(arguments)
                    .output()
                    .expect("kubectl starts"),
            );
        };
        quietly(&[
            "delete",
            "deployments,jobs,daemonsets,pods,pdb",
            "--all",
            "--now",
            "--wait=false",
        ]);
        quietly(&["delete", "events", "--all", "--all-namespaces"]);
        // Shortages that one test made are not the next one's.
        quietly(&[
            "delete",
            "configmap",
            LEARNED,
            "--namespace",
            SYSTEM_NAMESPACE,
        ]);
        drop(endpoint.overlay("POST", "/_tonnage/reset", None).await);
        for kind in [
            "nodepools.karpenter.sh",
            "nodeclaims.karpenter.sh",
            "ec2nodeclasses.tonnage.dev",
        ] {
            Self::remove_kind(kind);
        }
        for node in self.worker_nodes().await {
            let name = node.name_any();
            quietly(&[
                "patch",
                "node",
                &name,
                "--type=merge",
                "-p",
                r#"{"metadata":{"finalizers":null}}"#,
            ]);
            quietly(&["delete", "node", &name, "--wait=false"]);
        }
        eventually("the earlier test's pods are gone", 60, async || {
            let phases = self.phases().await;
            if phases.is_empty() {
                Ok(())
            } else {
                Err(format!("{phases:?}"))
            }
        })
        .await;
        self.wait_for_nothing(endpoint, 30).await;
    }

    fn remove_kind(kind: &str) {
        let listed = Command::new("kubectl")
            .args(["get", kind, "-o", "name"])
            .output()
            .expect("kubectl starts");
        for name in String::from_utf8_lossy(&listed.stdout).lines() {
            for arguments in [
                vec!["delete", name, "--wait=false"],
                vec![
                    "patch",
                    name,
                    "--type=merge",
                    "-p",
                    r#"{"metadata":{"finalizers":null}}"#,
                ],
            ] {
                drop(
                    Command::new("kubectl")
                        .args(arguments)
                        .output()
                        .expect("kubectl starts"),
                );
            }
        }
    }
}
