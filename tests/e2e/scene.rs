//! The scene: from zero nodes to ten executors and three jobs, to fifty executors, to nothing.

use std::collections::BTreeMap;

use kube::ResourceExt;
use kube::api::ListParams;
use serde_json::json;

use crate::cluster::{Cluster, run};
use crate::controller::{Controller, Route};
use crate::endpoint::Machine;
use crate::faults::nothing_was_bought_in_vain;
use crate::waiting::eventually;
use crate::world::World;

/// Seconds from a burst to the last pod running, on a machine that does other things too.
const BURST_SECONDS: u64 = 120;
/// Seconds from the last pod's end to nothing: `consolidateAfter` is 5 s.
const TO_ZERO_SECONDS: u64 = 40;

/// On-demand prices per hour in micro-dollars of the types that the scene can buy.
fn on_demand_micros(instance_type: &str) -> u64 {
    match instance_type {
        "c5.xlarge" => 170_000,
        "c5.2xlarge" => 340_000,
        "c5.4xlarge" => 680_000,
        other => panic!("the executors' pool cannot buy {other}"),
    }
}

fn of_pool<'machines>(machines: &'machines [Machine], pool: &str) -> Vec<&'machines Machine> {
    machines
        .iter()
        .filter(|machine| {
            machine.tags.get("tonnage.dev/nodepool").map(String::as_str) == Some(pool)
        })
        .collect()
}

/// What nodes join with is found in the cluster; the chart gives the right to.
#[tokio::test]
async fn nodes_join_with_what_is_found_where_no_setting_says_it() {
    let world = World::fresh().await;
    let unset = ["--cluster-ca-bundle=", "--cluster-cidr="];
    let _controller = Controller::start(Route::Direct, &unset).await;
    Cluster::apply_file("hack/scene/node-classes.yaml");
    Cluster::apply_file("hack/scene/node-pools.yaml");
    Cluster::apply_file("hack/scene/workload-pinned.yaml");
    drop(run("kubectl", &["delete", "jobs", "--all", "--wait=false"]));
    world.cluster.scale_executors(1).await;
    world.cluster.wait_for_started(1, BURST_SECONDS).await;
    world.cluster.scale_executors(0).await;
    world
        .cluster
        .wait_for_nothing(&world.endpoint, TO_ZERO_SECONDS)
        .await;
}

/// Takes pools and classes away as a user does, who waits until no finalizer holds them.
async fn what_was_made_for_classes_goes_with_them(world: &World) {
    assert_ne!(world.endpoint.launch_templates().await, 0);
    let kinds = "nodepools.karpenter.sh,ec2nodeclasses.tonnage.dev";
    drop(run("kubectl", &["delete", kinds, "--all", "--timeout=60s"]));
    assert_eq!(world.endpoint.launch_templates().await, 0);
}

#[tokio::test]
async fn the_scene_from_zero_to_zero() {
    let world = World::fresh().await;
    let controller = Controller::start(Route::Direct, &[]).await;
    Cluster::apply_file("hack/scene/node-classes.yaml");
    Cluster::apply_file("hack/scene/workload.yaml");
    world.cluster.scale_executors(10).await;
    // A job whose pod came after the first plan would get a machine of its own.
    world.cluster.wait_for_waiting(13).await;
    Cluster::apply_file("hack/scene/node-pools.yaml");
    world.cluster.wait_for_started(13, BURST_SECONDS).await;
    world.machines_are_nodes_and_claims().await.unwrap();
    nothing_was_bought_in_vain(&world, 0).await;
    // The smallest that has room for 4 CPUs beside what the node keeps for itself.
    let machines = world.endpoint.machines().await;
    let gpu: Vec<&str> = of_pool(&machines, "gpu")
        .iter()
        .map(|machine| machine.instance_type.as_str())
        .collect();
    assert_eq!(gpu, ["g4dn.2xlarge"]);

    world.cluster.scale_executors(50).await;
    world.cluster.wait_for_started(53, BURST_SECONDS).await;
    let machines = world.endpoint.machines().await;
    assert!(
        of_pool(&machines, "executors").len() <= 20,
        "the limit of 20 nodes: {machines:?}"
    );

    world.cluster.scale_executors(0).await;
    drop(run("kubectl", &["delete", "jobs", "--all", "--wait=false"]));
    world
        .cluster
        .wait_for_nothing(&world.endpoint, TO_ZERO_SECONDS)
        .await;
    what_was_made_for_classes_goes_with_them(&world).await;
    assert_eq!(controller.stop().await, Some(0), "SIGTERM ends cleanly");
}

#[tokio::test]
async fn ten_executors_on_demand_cost_1_19_usd_per_hour() {
    let world = World::fresh().await;
    let _controller = Controller::start(Route::Direct, &[]).await;
    Cluster::apply_file("hack/scene/node-classes.yaml");
    Cluster::apply_file("hack/scene/node-pools.yaml");
    let on_demand_only = r#"[{"op":"replace","path":"/spec/template/spec/requirements/1/values","value":["on-demand"]}]"#;
    drop(run(
        "kubectl",
        &[
            "patch",
            "nodepool",
            "executors",
            "--type=json",
            "-p",
            on_demand_only,
        ],
    ));
    Cluster::apply_file("hack/scene/workload.yaml");
    drop(run("kubectl", &["delete", "jobs", "--all", "--wait=false"]));
    world.cluster.scale_executors(10).await;
    world.cluster.wait_for_started(10, BURST_SECONDS).await;
    let machines = world.endpoint.machines().await;
    let executors = of_pool(&machines, "executors");
    let bought: BTreeMap<&str, usize> =
        executors
            .iter()
            .fold(BTreeMap::new(), |mut counts, machine| {
                *counts.entry(machine.instance_type.as_str()).or_insert(0) += 1;
                counts
            });
    let price: u64 = executors
        .iter()
        .map(|machine| on_demand_micros(&machine.instance_type))
        .sum();
    assert_eq!(price, 1_190_000, "{bought:?}");
    assert!(
        executors
            .iter()
            .all(|machine| machine.capacity_type == "on-demand")
    );
    world.cluster.scale_executors(0).await;
    world
        .cluster
        .wait_for_nothing(&world.endpoint, TO_ZERO_SECONDS)
        .await;
}

#[tokio::test]
async fn pinned_workloads_run_except_the_gpu_job_that_can_never_fit() {
    let world = World::fresh().await;
    let _controller = Controller::start(Route::Direct, &[]).await;
    Cluster::apply_file("hack/scene/node-classes.yaml");
    Cluster::apply_file("hack/scene/node-pools.yaml");
    Cluster::apply_file("hack/scene/workload-pinned.yaml");
    world.cluster.scale_executors(10).await;
    world.cluster.wait_for_started(12, BURST_SECONDS).await;
    let machines = world.endpoint.machines().await;
    let executors = of_pool(&machines, "executors");
    assert_eq!(
        executors.len(),
        10,
        "one 2-CPU executor for each c5.xlarge: {machines:?}"
    );
    assert!(
        executors
            .iter()
            .all(|machine| machine.instance_type == "c5.xlarge")
    );

    let gpu_pod = world
        .cluster
        .pods()
        .list(&ListParams::default().labels("job-name=gpu"))
        .await
        .unwrap()
        .items
        .pop()
        .unwrap()
        .name_any();
    eventually(
        "the GPU pod's event names the smallest change",
        30,
        async || {
            let events = world.cluster.events_about("Pod", &gpu_pod).await;
            let named = events
                .iter()
                .any(|event| event.contains("g4dn.xlarge") && event.contains("80m"));
            if named {
                Ok(())
            } else {
                Err(format!("{events:#?}"))
            }
        },
    )
    .await;
    drop(run(
        "kubectl",
        &["delete", "deployments,jobs", "--all", "--wait=false"],
    ));
    world
        .cluster
        .wait_for_nothing(&world.endpoint, TO_ZERO_SECONDS)
        .await;
}

fn scale_tonnage(replicas: &str) {
    let scale = ["scale", "deployment/tonnage", "-n", "tonnage-system"];
    let replicas = ["--replicas", replicas];
    drop(run("kubectl", &[&scale[..], &replicas[..]].concat()));
}

#[tokio::test]
async fn no_machine_is_bought_for_tonnages_own_pods() {
    let world = World::fresh().await;
    let _controller = Controller::start(Route::Direct, &[]).await;
    Cluster::apply_file("hack/scene/node-classes.yaml");
    Cluster::apply_file("hack/scene/node-pools.yaml");
    // Far more replicas than the system node holds: the rest stays Pending rather than be bought for.
    scale_tonnage("40");
    let pods: kube::Api<k8s_openapi::api::core::v1::Pod> = kube::Api::namespaced(
        crate::world::client_of(&crate::world::variable("KUBECONFIG")).await,
        "tonnage-system",
    );
    eventually("some of Tonnage's pods find no place", 60, async || {
        let listed = pods
            .list(&ListParams::default())
            .await
            .map_err(|error| error.to_string())?;
        let waiting = listed
            .iter()
            .filter(|pod| {
                pod.spec
                    .as_ref()
                    .is_some_and(|spec| spec.node_name.is_none())
            })
            .count();
        if listed.items.len() == 40 && waiting > 0 {
            Ok(())
        } else {
            Err(format!("{waiting} wait"))
        }
    })
    .await;
    // A pod that may be bought for, made afterwards, shows that planning has looked at all of them.
    world
        .cluster
        .apply(json!({
            "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "bought-for", "namespace": "default"},
            "spec": {"template": {"spec": {
                "restartPolicy": "Never",
                "containers": [{
                    "name": "evaluate", "image": "example.invalid/evaluate:1",
                    "resources": {"requests": {"cpu": "4", "memory": "8Gi"}}
                }]
            }}}
        }))
        .await;
    world.cluster.wait_for_started(1, BURST_SECONDS).await;
    assert_eq!(
        world.endpoint.launched_in_all().await.len(),
        1,
        "only the job is bought for: {:?}",
        world.endpoint.machines().await
    );
    scale_tonnage("0");
    drop(run(
        "kubectl",
        &["delete", "deployments,jobs", "--all", "--wait=false"],
    ));
    world
        .cluster
        .wait_for_nothing(&world.endpoint, TO_ZERO_SECONDS)
        .await;
}
