//! Faults: the controller dies at any moment, EC2 is short, slow, silent or broken. No pod is
//! forgotten, no instance is leaked, none is bought twice.

use std::collections::BTreeMap;

use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams};
use serde_json::{Value, json};

use crate::cluster::{Cluster, run};
use crate::controller::{Controller, Route};
use crate::waiting::eventually;
use crate::world::{World, variable};

const EXECUTORS: usize = 10;

/// Where executors are held to: their own pool.
const OWN_POOL: &str = r#"{"karpenter.sh/nodepool":"executors"}"#;

/// The pods of the scene, all of them waiting, and no pool yet: [`grow`] lets them in.
///
/// Here every machine that was bought must be needed, so that one too many is seen. So nothing may happen
/// for which a machine is rightly given back: executors are held to their own pool, since kube-scheduler may
/// put one onto spare room of the machine for the jobs; the pools come last, since a job whose pod comes a
/// second before the other's gets a machine of its own; and jobs run until they are deleted.
async fn prepare(world: &World, executors_held_to: &str) {
    Cluster::apply_file("hack/scene/node-classes.yaml");
    let scene = std::fs::read_to_string("hack/scene/workload.yaml").unwrap();
    let lasting = scene.replace(r#"run-seconds: "30""#, r#"run-seconds: "forever""#);
    assert_ne!(scene, lasting, "the jobs of the scene end at another time");
    let path = format!("{}/lasting-workload.yaml", variable("TONNAGE_STATE"));
    std::fs::write(&path, lasting).unwrap();
    Cluster::apply_file(&path);
    let selector =
        format!(r#"{{"spec":{{"template":{{"spec":{{"nodeSelector":{executors_held_to}}}}}}}}}"#);
    let patch = ["patch", "deployment", "executor", "--type=merge", "-p"];
    drop(run("kubectl", &[&patch[..], &[&selector]].concat()));
    world.cluster.scale_executors(10).await;
    world.cluster.wait_for_waiting(EXECUTORS + 3).await;
}

/// Gives the waiting pods their pools.
fn grow() {
    Cluster::apply_file("hack/scene/node-pools.yaml");
}

/// The scene from its pods to the moment in which the first machine may be bought.
pub(crate) async fn start_growing(world: &World) {
    prepare(world, OWN_POOL).await;
    grow();
}

/// Something that goes wrong with an action; dry runs go well, since nothing is bought by them.
fn ec2(action: &str, kind: &str, times: Option<u64>) -> Value {
    let matched = json!({"action": action, "body": "^(?!.*DryRun=true)"});
    json!({"target": "ec2", "match": matched, "kind": kind, "times": times})
}

fn kubernetes(verb: &str, path: &str, kind: &str, times: Option<u64>) -> Value {
    let matched = json!({"verb": verb, "path": path});
    json!({"target": "kubernetes", "match": matched, "kind": kind, "times": times})
}

async fn wait_until_held(world: &World, rule: &str) {
    eventually("the request at the named point is held", 60, async || {
        let (hits, holding) = world.endpoint.hits(rule).await;
        if holding > 0 {
            Ok(())
        } else {
            Err(format!("{hits} hits, {holding} held"))
        }
    })
    .await;
}

/// Everything runs, one node and one claim for each machine, and nothing was bought and thrown away.
pub(crate) async fn settled(world: &World) {
    world.cluster.wait_for_started(EXECUTORS + 3, 120).await;
    eventually("one node and one claim for each machine", 60, async || {
        world.machines_are_nodes_and_claims().await
    })
    .await;
}

pub(crate) async fn end(world: &World) {
    world.cluster.scale_executors(0).await;
    drop(run("kubectl", &["delete", "jobs", "--all", "--wait=false"]));
    world.cluster.wait_for_nothing(&world.endpoint, 90).await;
}

/// Kills the controller while a request of the growing scene is held, and starts it again.
async fn killed_while_growing(rule: Value) {
    let world = World::fresh().await;
    let controller = Controller::start(Route::Faults, &[]).await;
    let rule = world.endpoint.fault(rule).await;
    start_growing(&world).await;
    wait_until_held(&world, &rule).await;
    controller.kill();
    world.endpoint.clear_faults().await;
    let _again = Controller::start(Route::Faults, &[]).await;
    settled(&world).await;
    nothing_was_bought_in_vain(&world, 0).await;
    end(&world).await;
}

/// Everything that was ever launched is still there, but for so many machines that rightly went.
pub(crate) async fn nothing_was_bought_in_vain(world: &World, gone: usize) {
    let launched = world.endpoint.launched_in_all().await;
    let kept = world.endpoint.machines().await.len();
    assert_eq!(
        launched.len(),
        kept + gone,
        "an instance was bought that nobody needed: {launched:#?}"
    );
}

/// Kills the controller while a request of the shrinking scene is held, and starts it again.
async fn killed_while_shrinking(rule: Value) {
    let world = World::fresh().await;
    let controller = Controller::start(Route::Faults, &[]).await;
    start_growing(&world).await;
    settled(&world).await;
    let rule = world.endpoint.fault(rule).await;
    world.cluster.scale_executors(0).await;
    drop(run("kubectl", &["delete", "jobs", "--all", "--wait=false"]));
    wait_until_held(&world, &rule).await;
    controller.kill();
    world.endpoint.clear_faults().await;
    let _again = Controller::start(Route::Faults, &[]).await;
    world.cluster.wait_for_nothing(&world.endpoint, 90).await;
}

#[tokio::test]
async fn killed_with_the_fleet_call_sent_and_unanswered() {
    killed_while_growing(ec2("CreateFleet", "hold_before", None)).await;
}

#[tokio::test]
async fn killed_with_the_fleet_call_answered_and_unwritten() {
    killed_while_growing(ec2("CreateFleet", "hold_after", None)).await;
}

#[tokio::test]
async fn killed_with_the_launched_claim_written() {
    killed_while_growing(kubernetes(
        "PATCH",
        "/nodeclaims/[^/]+/status",
        "hold_after",
        None,
    ))
    .await;
}

#[tokio::test]
async fn killed_with_a_node_registering() {
    killed_while_growing(kubernetes(
        "PATCH",
        "/api/v1/nodes/[^/]+$",
        "hold_before",
        None,
    ))
    .await;
}

#[tokio::test]
async fn killed_with_the_taint_set() {
    killed_while_shrinking(kubernetes(
        "PATCH",
        "/api/v1/nodes/[^/]+$",
        "hold_after",
        None,
    ))
    .await;
}

#[tokio::test]
async fn killed_with_the_terminate_call_sent() {
    killed_while_shrinking(ec2("TerminateInstances", "hold_after", None)).await;
}

#[tokio::test]
async fn killed_with_the_finalizer_pending() {
    killed_while_shrinking(kubernetes(
        "PATCH",
        "/nodeclaims/[^/?]+(\\?|$)",
        "hold_before",
        None,
    ))
    .await;
}

#[tokio::test]
async fn killed_with_an_eviction_sent() {
    let world = World::fresh().await;
    let controller = Controller::start(Route::Faults, &[]).await;
    start_growing(&world).await;
    settled(&world).await;
    let rule = world
        .endpoint
        .fault(kubernetes("POST", "/eviction", "hold_after", None))
        .await;
    let claims = world.cluster.node_claims();
    let pools = ListParams::default().labels("karpenter.sh/nodepool=executors");
    let victim = claims
        .list(&pools)
        .await
        .unwrap()
        .items
        .pop()
        .unwrap()
        .name_any();
    drop(
        claims
            .delete(&victim, &DeleteParams::default())
            .await
            .unwrap(),
    );
    wait_until_held(&world, &rule).await;
    controller.kill();
    world.endpoint.clear_faults().await;
    let _again = Controller::start(Route::Faults, &[]).await;
    eventually("the deleted claim is gone", 60, async || {
        match claims.get_opt(&victim).await.unwrap() {
            None => Ok(()),
            Some(claim) => Err(format!("{:?}", claim.metadata.finalizers)),
        }
    })
    .await;
    settled(&world).await;
    nothing_was_bought_in_vain(&world, 1).await;
    end(&world).await;
}

/// Two kills at moments that differ from run to run: after so many calls to both sides; the number is
/// printed for the record.
#[tokio::test]
async fn killed_at_two_random_moments() {
    let world = World::fresh().await;
    let controller = Controller::start(Route::Faults, &[]).await;
    prepare(&world, OWN_POOL).await;
    let before = world.endpoint.calls().await;
    grow();
    let number = fastrand::u64(0..60);
    println!("killed after {number} calls while growing");
    kill_after(&world, controller, before, number).await;
    let controller = Controller::start(Route::Faults, &[]).await;
    settled(&world).await;
    nothing_was_bought_in_vain(&world, 0).await;

    let before = world.endpoint.calls().await;
    world.cluster.scale_executors(0).await;
    drop(run("kubectl", &["delete", "jobs", "--all", "--wait=false"]));
    let number = fastrand::u64(0..30);
    println!("killed after {number} calls while shrinking");
    kill_after(&world, controller, before, number).await;
    let _again = Controller::start(Route::Faults, &[]).await;
    world.cluster.wait_for_nothing(&world.endpoint, 90).await;
}

/// Kills the controller after so many calls.
async fn kill_after(world: &World, controller: Controller, before: u64, number: u64) {
    eventually("so many calls are made", 60, async || {
        let made = world.endpoint.calls().await.saturating_sub(before);
        if made >= number {
            Ok(())
        } else {
            Err(format!("{made} of {number}"))
        }
    })
    .await;
    controller.kill();
}

/// Runs the growing scene under a fault that ends by itself or does not matter in the end.
async fn grows_in_spite_of(rules: &[Value]) {
    let world = World::fresh().await;
    let _controller = Controller::start(Route::Faults, &[]).await;
    let mut ids = Vec::new();
    for rule in rules {
        ids.push(world.endpoint.fault(rule.clone()).await);
    }
    start_growing(&world).await;
    settled(&world).await;
    for (id, rule) in ids.iter().zip(rules) {
        assert!(
            world.endpoint.hits(id).await.0 > 0,
            "the fault was never met: {rule}"
        );
    }
    nothing_was_bought_in_vain(&world, 0).await;
    end(&world).await;
}

#[tokio::test]
async fn a_lost_fleet_answer_buys_nothing_twice() {
    grows_in_spite_of(&[ec2("CreateFleet", "lose_response", Some(3))]).await;
}

#[tokio::test]
async fn throttling_and_server_errors_are_waited_out() {
    let mut error = ec2("CreateFleet", "error", Some(2));
    error["status"] = json!(500);
    grows_in_spite_of(&[ec2("CreateFleet", "throttle", Some(3)), error]).await;
}

#[tokio::test]
async fn kubernetes_errors_are_waited_out() {
    grows_in_spite_of(&[
        kubernetes("PATCH", "/nodeclaims/[^/]+/status", "reset", Some(3)),
        kubernetes("POST", "/nodeclaims", "lose_response", Some(2)),
    ])
    .await;
}

#[tokio::test]
async fn a_shortage_walks_on_to_other_zones_types_and_on_demand() {
    let world = World::fresh().await;
    let _controller = Controller::start(Route::Direct, &[]).await;
    // No spot anywhere, and on demand only in one zone.
    let pools = json!({"pools": [
        {"type": "*", "zone": "*", "capacityType": "spot", "capacity": 0},
        {"type": "*", "zone": "us-east-1a", "capacityType": "on-demand", "capacity": 0},
        {"type": "*", "zone": "us-east-1b", "capacityType": "on-demand", "capacity": 0},
    ]});
    drop(
        world
            .endpoint
            .overlay("POST", "/_tonnage/capacity", Some(pools))
            .await,
    );
    start_growing(&world).await;
    settled(&world).await;
    for machine in world.endpoint.machines().await {
        assert_eq!(machine.capacity_type, "on-demand");
        assert_eq!(machine.zone, "us-east-1c");
    }
    eventually("what was learned is kept in the cluster", 60, async || {
        let kept = world.cluster.learned().await?;
        if kept.contains("us-east-1a") {
            Ok(())
        } else {
            Err(kept)
        }
    })
    .await;
    end(&world).await;
}

/// Ten machines of one type are one call, of which EC2 has four on spot.
#[tokio::test]
async fn a_partial_fleet_is_completed_from_elsewhere() {
    let world = World::fresh().await;
    let controller = Controller::start(Route::Direct, &[]).await;
    let pools = json!({"pools": [{"type": "c5.xlarge", "zone": "*", "capacityType": "spot", "capacity": 4}]});
    drop(
        world
            .endpoint
            .overlay("POST", "/_tonnage/capacity", Some(pools))
            .await,
    );
    let one_type =
        r#"{"karpenter.sh/nodepool":"executors","node.kubernetes.io/instance-type":"c5.xlarge"}"#;
    prepare(&world, one_type).await;
    grow();
    settled(&world).await;
    nothing_was_bought_in_vain(&world, 0).await;
    let mut bought: BTreeMap<String, usize> = BTreeMap::new();
    for machine in world.endpoint.machines().await {
        if machine.instance_type == "c5.xlarge" {
            *bought.entry(machine.capacity_type).or_default() += 1;
        }
    }
    let expected = BTreeMap::from([("on-demand".to_owned(), 6), ("spot".to_owned(), 4)]);
    assert_eq!(bought, expected);
    let metrics = controller.metrics_text().await;
    let partial = metrics
        .lines()
        .any(|line| line.starts_with("tonnage_launches_total{") && line.contains("\"partial\""));
    assert!(partial, "no fleet was partial: {metrics}");
    end(&world).await;
}

#[tokio::test]
async fn an_instance_that_dies_takes_its_node_along_and_its_pods_run_elsewhere() {
    let world = World::fresh().await;
    let _controller = Controller::start(Route::Direct, &[]).await;
    start_growing(&world).await;
    settled(&world).await;
    let before = world.endpoint.machines().await;
    let victim = before
        .iter()
        .find(|machine| {
            machine
                .tags
                .get("tonnage.dev/nodepool")
                .is_some_and(|pool| pool == "executors")
        })
        .unwrap();
    drop(
        world
            .endpoint
            .overlay(
                "POST",
                "/_tonnage/terminate",
                Some(json!({"id": victim.id})),
            )
            .await,
    );
    eventually("the dead machine's node is gone", 120, async || {
        let nodes = world.cluster.worker_nodes().await;
        let alive = nodes.iter().any(|node| {
            node.spec
                .as_ref()
                .and_then(|spec| spec.provider_id.as_ref())
                .is_some_and(|id| id.ends_with(&victim.id))
        });
        if alive {
            Err(format!("{} nodes", nodes.len()))
        } else {
            Ok(())
        }
    })
    .await;
    settled(&world).await;
    end(&world).await;
}
