//! Beside another provisioner: what is its own stays untouched, and pods that either could serve are
//! left to it unless the setting says otherwise.

use std::path::PathBuf;

use kube::ResourceExt;
use kube::api::ListParams;
use serde_json::json;

use crate::cluster::{Cluster, run};
use crate::controller::{Controller, Route};
use crate::waiting::eventually;
use crate::world::{World, variable};

#[tokio::test]
async fn another_provisioners_pools_claims_and_machines_are_left_alone() {
    let world = World::fresh().await;
    let _controller = Controller::start(Route::Direct, &[]).await;
    Cluster::apply_file("hack/scene/node-classes.yaml");
    let before = foreign_class(&world).await;
    world
        .cluster
        .apply(json!({
            "apiVersion": "karpenter.sh/v1", "kind": "NodePool", "metadata": {"name": "foreign"},
            "spec": {"template": {"spec": {
                "nodeClassRef": {"group": "karpenter.k8s.aws", "kind": "EC2NodeClass", "name": "default"},
                "requirements": [{"key": "karpenter.sh/capacity-type", "operator": "In", "values": ["on-demand"]}],
                "taints": [{"key": "team", "value": "other", "effect": "NoSchedule"}]
            }}}
        }))
        .await;
    world
        .cluster
        .apply(json!({
            "apiVersion": "karpenter.sh/v1", "kind": "NodeClaim",
            "metadata": {"name": "foreign-1", "labels": {"karpenter.sh/nodepool": "foreign"}},
            "spec": {
                "nodeClassRef": {"group": "karpenter.k8s.aws", "kind": "EC2NodeClass", "name": "default"},
                "requirements": [{"key": "karpenter.sh/capacity-type", "operator": "In", "values": ["on-demand"]}]
            }
        }))
        .await;
    Cluster::apply_file("hack/scene/node-pools.yaml");
    Cluster::apply_file("hack/scene/workload.yaml");
    world.cluster.scale_executors(10).await;
    world.cluster.wait_for_started(13, 120).await;
    world.cluster.scale_executors(0).await;
    drop(run("kubectl", &["delete", "jobs", "--all", "--wait=false"]));
    eventually("only the foreign claim is left", 90, async || {
        let claims = world
            .cluster
            .node_claims()
            .list(&ListParams::default())
            .await
            .unwrap()
            .items;
        let machines = world.endpoint.machines().await;
        if claims.len() == 1 && machines.is_empty() {
            Ok(())
        } else {
            Err(format!(
                "{} claims, {} machines",
                claims.len(),
                machines.len()
            ))
        }
    })
    .await;
    nothing_was_written_to_the_foreign_ones(&world).await;
    let after = run("kubectl", &["get", FOREIGN_CLASS, "default", "-o", "yaml"]);
    assert_eq!(before, after, "the foreign node class is untouched");
    drop(run("kubectl", &["delete", "nodeclaim,nodepool", "--all"]));
    drop(run("kubectl", &["delete", "crd", FOREIGN_CLASS]));
}

async fn nothing_was_written_to_the_foreign_ones(world: &World) {
    let foreign = world.cluster.node_claims().get("foreign-1").await.unwrap();
    assert!(
        foreign.metadata.finalizers.unwrap_or_default().is_empty(),
        "the foreign claim is untouched"
    );
    assert!(
        foreign
            .data
            .get("status")
            .is_none_or(|status| status.get("conditions").is_none())
    );
    let pool = world.cluster.node_pools().get("foreign").await.unwrap();
    assert!(
        pool.data
            .get("status")
            .is_none_or(|status| status.get("conditions").is_none())
    );
}

/// The other provisioner's kind of node class, whose name ours shares.
const FOREIGN_CLASS: &str = "ec2nodeclasses.karpenter.k8s.aws";

/// Installs that kind and makes the class `default`; gives it back as it is.
async fn foreign_class(world: &World) -> String {
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": FOREIGN_CLASS},
        "spec": {
            "group": "karpenter.k8s.aws", "scope": "Cluster",
            "names": {"kind": "EC2NodeClass", "plural": "ec2nodeclasses", "singular": "ec2nodeclass"},
            "versions": [{
                "name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {
                    "type": "object", "x-kubernetes-preserve-unknown-fields": true
                }}
            }]
        }
    });
    world.cluster.apply(definition).await;
    let condition = "--for=condition=Established";
    drop(run(
        "kubectl",
        &["wait", condition, "crd", FOREIGN_CLASS, "--timeout=30s"],
    ));
    let class = json!({
        "apiVersion": "karpenter.k8s.aws/v1", "kind": "EC2NodeClass", "metadata": {"name": "default"},
        "spec": {"role": "theirs", "amiSelectorTerms": [{"alias": "al2023@latest"}]}
    });
    eventually("the kind is served", 30, async || {
        let written = world.cluster.try_apply(class.clone()).await;
        written.map_err(|error| error.to_string())
    })
    .await;
    run("kubectl", &["get", FOREIGN_CLASS, "default", "-o", "yaml"])
}

/// A NodePool of another provisioner that takes pods of the other team, and a pod of that team.
async fn contested_pod(world: &World) {
    world
        .cluster
        .apply(json!({
            "apiVersion": "karpenter.sh/v1", "kind": "NodePool", "metadata": {"name": "foreign"},
            "spec": {"template": {"spec": {
                "nodeClassRef": {"group": "karpenter.k8s.aws", "kind": "EC2NodeClass", "name": "default"},
                "requirements": [{"key": "karpenter.sh/capacity-type", "operator": "In", "values": ["on-demand"]}]
            }}}
        }))
        .await;
    world
        .cluster
        .apply(json!({
            "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "contested", "namespace": "default"},
            "spec": {"template": {
                "metadata": {"annotations": {"tonnage.test/run-seconds": "30"}},
                "spec": {
                    "restartPolicy": "Never",
                    "containers": [{
                        "name": "evaluate", "image": "example.invalid/evaluate:1",
                        "resources": {"requests": {"cpu": "1", "memory": "1Gi"}}
                    }]
                }
            }}
        }))
        .await;
}

#[tokio::test]
async fn contested_pods_are_left_until_the_setting_takes_them() {
    let world = World::fresh().await;
    Cluster::apply_file("hack/scene/node-classes.yaml");
    Cluster::apply_file("hack/scene/node-pools.yaml");
    contested_pod(&world).await;
    let controller = Controller::start(Route::Direct, &[]).await;
    eventually("the pod is told to whom it is left", 60, async || {
        let pods = world
            .cluster
            .pods()
            .list(&ListParams::default())
            .await
            .unwrap();
        let mut told = Vec::new();
        for pod in pods {
            let name = pod.metadata.name.unwrap_or_default();
            told.extend(world.cluster.events_about("Pod", &name).await);
        }
        let said = told
            .iter()
            .any(|event| event.contains("foreign") && event.contains("--contested-pods take"));
        if said {
            Ok(())
        } else {
            Err(format!("{told:#?}"))
        }
    })
    .await;
    assert!(
        world.endpoint.machines().await.is_empty(),
        "nothing was bought"
    );
    controller.kill();
    let _takes = Controller::start(Route::Direct, &["--contested-pods", "take"]).await;
    world.cluster.wait_for_started(1, 90).await;
    assert_eq!(world.endpoint.machines().await.len(), 1);
    drop(run("kubectl", &["delete", "jobs", "--all", "--wait=false"]));
    drop(run("kubectl", &["delete", "nodepool", "foreign"]));
    world.cluster.wait_for_nothing(&world.endpoint, 90).await;
}

/// A Node of another provisioner with 8 CPUs, and a Job of five pods of which four fit there.
fn foreign_node_and_work() -> [serde_json::Value; 2] {
    let capacity = json!({"cpu": "8", "memory": "15Gi", "pods": "58"});
    let node = json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": "foreign-node", "labels": {
            "kubernetes.io/hostname": "foreign-node", "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64",
            "karpenter.sh/nodepool": "foreign", "node.kubernetes.io/instance-type": "m5.2xlarge"
        }},
        "spec": {"providerID": "aws:///us-east-1a/i-0foreign"},
        "status": {"capacity": capacity, "allocatable": capacity}
    });
    let job = json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "evaluate", "namespace": "default"},
        "spec": {"parallelism": 5, "completions": 5, "template": {"spec": {
            "restartPolicy": "Never",
            "containers": [{
                "name": "evaluate", "image": "example.invalid/evaluate:1",
                "resources": {"requests": {"cpu": "1900m", "memory": "2Gi"}}
            }]
        }}}
    });
    [node, job]
}

#[tokio::test]
async fn the_free_capacity_of_another_provisioners_node_counts() {
    let world = World::fresh().await;
    Cluster::apply_file("hack/scene/node-classes.yaml");
    Cluster::apply_file("hack/scene/node-pools.yaml");
    let [node, job] = foreign_node_and_work();
    world.cluster.apply(node).await;
    drop(run(
        "kubectl",
        &[
            "wait",
            "node",
            "foreign-node",
            "--for=condition=Ready",
            "--timeout=60s",
        ],
    ));

    // Before kube-scheduler has a say: four go to the free room, one is bought for.
    let state = PathBuf::from(variable("TONNAGE_STATE"));
    let (cluster, work) = (state.join("cluster.yaml"), state.join("work.json"));
    let seen = run(
        "kubectl",
        &[
            "get",
            "nodes,nodepools,ec2nodeclasses.tonnage.dev",
            "-o",
            "yaml",
        ],
    );
    std::fs::write(&cluster, seen).unwrap();
    std::fs::write(&work, job.to_string()).unwrap();
    let files = [cluster, work].map(|file| file.display().to_string());
    let plan = run(
        &variable("TONNAGE_BIN"),
        &["plan", "-f", &files[0], "-f", &files[1], "-o", "json"],
    );
    let plan: serde_json::Value = serde_json::from_str(&plan).unwrap();
    let bought = plan["nodes"].as_array().unwrap();
    assert_eq!(bought.len(), 1, "{plan:#}");
    assert_eq!(bought[0]["pods"].as_array().unwrap().len(), 1, "{plan:#}");

    let _controller = Controller::start(Route::Direct, &[]).await;
    world.cluster.apply(job).await;
    world.cluster.wait_for_started(5, 120).await;
    assert_eq!(world.endpoint.machines().await.len(), 1);
    drop(run("kubectl", &["delete", "jobs", "--all", "--wait=false"]));
    eventually("only the foreign node is left", 90, async || {
        let nodes = world.cluster.worker_nodes().await;
        let names: Vec<String> = nodes.iter().map(ResourceExt::name_any).collect();
        if names == ["foreign-node"] && world.endpoint.machines().await.is_empty() {
            Ok(())
        } else {
            Err(format!("{names:?}"))
        }
    })
    .await;
    drop(run("kubectl", &["delete", "node", "foreign-node"]));
    world.cluster.wait_for_nothing(&world.endpoint, 30).await;
}

#[tokio::test]
async fn another_provisioners_machine_outlives_an_orphan_of_ours() {
    let world = World::fresh().await;
    Cluster::apply_file("hack/scene/node-classes.yaml");
    let _controller = Controller::start(Route::Direct, &["--orphan-sweep", "5s"]).await;
    let classes = world.cluster.node_classes();
    let what = "the node class is resolved";
    let status = eventually(what, 60, async || {
        let status = classes.get("default").await.unwrap().data["status"].clone();
        let resolved =
            status["subnets"][0]["id"].is_string() && status["amis"][0]["id"].is_string();
        if resolved {
            Ok(status)
        } else {
            Err(status.to_string())
        }
    })
    .await;
    let image = status["amis"][0]["id"].as_str().unwrap();
    let subnet = status["subnets"][0]["id"].as_str().unwrap();
    let cluster = variable("TONNAGE_CLUSTER_NAME");
    let owned = format!("kubernetes.io/cluster/{cluster}");
    let theirs = [
        (owned.as_str(), "owned"),
        ("karpenter.sh/nodepool", "foreign"),
    ];
    let theirs = world.endpoint.run_instance(image, subnet, &theirs).await;
    let ours = [
        (owned.as_str(), "owned"),
        ("tonnage.dev/cluster", cluster.as_str()),
    ];
    let ours = world.endpoint.run_instance(image, subnet, &ours).await;
    eventually("the orphan is ended", 150, async || {
        let machines = world.endpoint.machines().await;
        let ids: Vec<&str> = machines.iter().map(|machine| machine.id.as_str()).collect();
        if ids.contains(&ours.as_str()) {
            Err(format!("{ids:?}"))
        } else {
            Ok(())
        }
    })
    .await;
    let left = world.endpoint.machines().await;
    let states: Vec<(&str, &str)> = left
        .iter()
        .map(|machine| (machine.id.as_str(), machine.state.as_str()))
        .collect();
    assert_eq!(states, [(theirs.as_str(), "running")]);
}
