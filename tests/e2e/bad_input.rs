//! Bad input: each gives a condition or an event that says what is wrong and what would fix it,
//! and nothing else is disturbed.

use serde_json::json;

use crate::cluster::{Cluster, run};
use crate::controller::{Controller, Route};
use crate::waiting::eventually;
use crate::world::World;

async fn says(world: &World, kind: &str, name: &str, words: &[&str]) {
    eventually(
        &format!("an event about {kind} {name} says {words:?}"),
        40,
        async || {
            let events = world.cluster.events_about(kind, name).await;
            let said = events
                .iter()
                .any(|event| words.iter().all(|word| event.contains(word)));
            if said {
                Ok(())
            } else {
                Err(format!("{events:#?}"))
            }
        },
    )
    .await;
}

async fn condition_says(world: &World, kind: &str, name: &str, condition: &str, words: &[&str]) {
    let api = match kind {
        "NodePool" => world.cluster.node_pools(),
        _ => world.cluster.node_classes(),
    };
    eventually(
        &format!("{condition} of {kind} {name} says {words:?}"),
        40,
        async || {
            let text = world.cluster.condition(&api, name, condition).await;
            if words.iter().all(|word| text.contains(word)) {
                Ok(())
            } else {
                Err(text)
            }
        },
    )
    .await;
}

fn pod(name: &str, requests: &serde_json::Value) -> serde_json::Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "containers": [{"name": "main", "image": "example.invalid/main:1",
                "resources": {"requests": requests, "limits": requests}}],
            "terminationGracePeriodSeconds": 1
        }
    })
}

fn pool(name: &str, class: &str, requirements: &serde_json::Value) -> serde_json::Value {
    json!({
        "apiVersion": "karpenter.sh/v1", "kind": "NodePool", "metadata": {"name": name},
        "spec": {
            "template": {"spec": {
                "nodeClassRef": {"group": "tonnage.dev", "kind": "EC2NodeClass", "name": class},
                "requirements": requirements
            }},
            "disruption": {"consolidateAfter": "5s"}
        }
    })
}

/// A node class whose subnet selector matches nothing.
fn empty_handed() -> serde_json::Value {
    json!({
        "apiVersion": "tonnage.dev/v1alpha1", "kind": "EC2NodeClass", "metadata": {"name": "empty-handed"},
        "spec": {
            "amiFamily": "AL2023",
            "amiSelectorTerms": [{"tags": {"tonnage.dev/discovery": "demo"}}],
            "subnetSelectorTerms": [{"tags": {"no-such-tag": "at-all"}}],
            "securityGroupSelectorTerms": [{"tags": {"tonnage.dev/discovery": "demo"}}],
            "instanceProfile": "tonnage-node"
        }
    })
}

#[tokio::test]
async fn everything_wrong_at_once_is_named_and_disturbs_nothing() {
    let world = World::fresh().await;
    let _controller = Controller::start(Route::Direct, &[]).await;
    let c5 =
        json!([{"key": "karpenter.k8s.aws/instance-family", "operator": "In", "values": ["c5"]}]);
    Cluster::apply_file("hack/scene/node-classes.yaml");
    world.cluster.apply(pool("general", "default", &c5)).await;
    world
        .cluster
        .apply(pool("classless", "no-such-class", &c5))
        .await;
    world.cluster.apply(empty_handed()).await;
    world
        .cluster
        .apply(pool("stranded", "empty-handed", &c5))
        .await;
    world
        .cluster
        .apply(pod(
            "thousand-cpus",
            &json!({"cpu": "1000", "memory": "1Gi"}),
        ))
        .await;
    world
        .cluster
        .apply(pod(
            "gpu-in-c5",
            &json!({"cpu": "1", "memory": "1Gi", "nvidia.com/gpu": "1"}),
        ))
        .await;
    world
        .cluster
        .apply(pod("plain", &json!({"cpu": "1", "memory": "1Gi"})))
        .await;

    condition_says(
        &world,
        "NodePool",
        "classless",
        "NodeClassReady",
        &["False", "NodeClassNotFound", "no-such-class"],
    )
    .await;
    condition_says(
        &world,
        "EC2NodeClass",
        "empty-handed",
        "SubnetsReady",
        &["False", "no-such-tag"],
    )
    .await;
    condition_says(&world, "NodePool", "stranded", "Ready", &["False"]).await;
    says(&world, "Pod", "thousand-cpus", &["cpu", "general"]).await;
    says(&world, "Pod", "gpu-in-c5", &["nvidia.com/gpu", "general"]).await;
    world.cluster.wait_for_started(1, 90).await;
    let phases = world.cluster.phases().await;
    assert_eq!(
        phases.get("Running"),
        Some(&1),
        "only the plain pod can run: {phases:?}"
    );
    assert_eq!(world.endpoint.machines().await.len(), 1);
    drop(run("kubectl", &["delete", "pods", "--all", "--wait=false"]));
    world.cluster.wait_for_nothing(&world.endpoint, 60).await;
}

#[tokio::test]
async fn a_pool_at_its_limit_says_so_and_never_exceeds_it() {
    let world = World::fresh().await;
    let _controller = Controller::start(Route::Direct, &[]).await;
    Cluster::apply_file("hack/scene/node-classes.yaml");
    let one_size = json!([{"key": "node.kubernetes.io/instance-type", "operator": "In", "values": ["c5.xlarge"]}]);
    let mut limited = pool("limited", "default", &one_size);
    limited["spec"]["limits"] = json!({"nodes": "2"});
    world.cluster.apply(limited).await;
    for name in ["one", "two", "three"] {
        world
            .cluster
            .apply(pod(name, &json!({"cpu": "3", "memory": "2Gi"})))
            .await;
    }
    world.cluster.wait_for_started(2, 90).await;
    eventually("the pod left out is told of the limit", 40, async || {
        let mut events = Vec::new();
        for name in ["one", "two", "three"] {
            events.extend(world.cluster.events_about("Pod", name).await);
        }
        let told = events
            .iter()
            .any(|event| event.contains("limit") && event.contains("limited"));
        if told {
            Ok(())
        } else {
            Err(format!("{events:#?}"))
        }
    })
    .await;
    assert_eq!(world.endpoint.launched_in_all().await.len(), 2);
    drop(run("kubectl", &["delete", "pods", "--all", "--wait=false"]));
    world.cluster.wait_for_nothing(&world.endpoint, 60).await;
}

#[tokio::test]
async fn the_api_server_refuses_what_the_rules_refuse() {
    let world = World::fresh().await;
    let printed = run("tests/fixtures/api/replay", &[]);
    assert!(printed.contains("manifests, 0 not treated"), "{printed}");
    world.cluster.wait_for_nothing(&world.endpoint, 5).await;
}

#[tokio::test]
async fn a_node_that_claims_anothers_provider_id_is_ignored_with_an_event() {
    let world = World::fresh().await;
    let _controller = Controller::start(Route::Direct, &[]).await;
    Cluster::apply_file("hack/scene/node-classes.yaml");
    Cluster::apply_file("hack/scene/node-pools.yaml");
    world
        .cluster
        .apply(pod("plain", &json!({"cpu": "1", "memory": "1Gi"})))
        .await;
    eventually("a machine is bought", 60, async || {
        let machines = world.endpoint.machines().await;
        if machines.len() == 1 {
            Ok(())
        } else {
            Err(format!("{machines:?}"))
        }
    })
    .await;
    let machine = world.endpoint.machines().await.pop().unwrap();
    world
        .cluster
        .apply(json!({
            "apiVersion": "v1", "kind": "Node", "metadata": {"name": "impostor"},
            "spec": {"providerID": format!("aws:///{}/{}", machine.zone, machine.id),
                "taints": [{"key": "karpenter.sh/unregistered", "effect": "NoExecute"}]}
        }))
        .await;
    says(&world, "Node", "impostor", &["impostor", &machine.id]).await;
    world.cluster.wait_for_started(1, 90).await;
    let impostor = world.cluster.nodes().get("impostor").await.unwrap();
    let labels = impostor.metadata.labels.unwrap_or_default();
    assert!(
        !labels.contains_key("karpenter.sh/registered"),
        "{labels:?}"
    );
    drop(run("kubectl", &["delete", "node", "impostor"]));
    drop(run("kubectl", &["delete", "pods", "--all", "--wait=false"]));
    world.cluster.wait_for_nothing(&world.endpoint, 60).await;
}
