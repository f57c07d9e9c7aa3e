//! Instances without a claim: the brake on their collection, and the return of those that work.
//!
//! What an API server looks like after it was restored from an old backup: the machines run, and the
//! claims that own them were never there.

use std::collections::BTreeSet;

use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use serde_json::json;

use crate::cluster::{Cluster, run};
use crate::controller::{Controller, Route};
use crate::waiting::eventually;
use crate::world::World;

/// Two complete lists a minute apart, a sweep between them, and some patience.
const CONFIRMED_SECONDS: u64 = 120;
const SWEEPS: [&str; 2] = ["--orphan-sweep", "5s"];

/// Ten executors on a machine each.
async fn ten_machines(world: &World) {
    Cluster::apply_file("hack/scene/node-classes.yaml");
    Cluster::apply_file("hack/scene/node-pools.yaml");
    Cluster::apply_file("hack/scene/workload-pinned.yaml");
    drop(run("kubectl", &["delete", "jobs", "--all", "--wait=false"]));
    world.cluster.scale_executors(10).await;
    world.cluster.wait_for_started(10, 120).await;
}

/// Takes every claim out of the API server without anybody noticing: no finalizer runs.
async fn forget_claims(world: &World) {
    let claims = world.cluster.node_claims();
    for claim in claims.list(&ListParams::default()).await.unwrap() {
        let name = claim.name_any();
        let bare = Patch::Merge(json!({"metadata": {"finalizers": null}}));
        claims
            .patch(&name, &PatchParams::default(), &bare)
            .await
            .unwrap();
        claims
            .delete(&name, &DeleteParams::default())
            .await
            .unwrap();
    }
}

async fn forget_nodes(world: &World) {
    for node in world.cluster.worker_nodes().await {
        let name = node.name_any();
        let bare = Patch::Merge(json!({"metadata": {"finalizers": null}}));
        let nodes = world.cluster.nodes();
        nodes
            .patch(&name, &PatchParams::default(), &bare)
            .await
            .unwrap();
        nodes.delete(&name, &DeleteParams::default()).await.unwrap();
    }
}

async fn machine_ids(world: &World) -> BTreeSet<String> {
    let machines = world.endpoint.machines().await;
    machines.into_iter().map(|machine| machine.id).collect()
}

async fn executor_uids(world: &World) -> BTreeSet<String> {
    let pods = world
        .cluster
        .pods()
        .list(&ListParams::default())
        .await
        .unwrap();
    pods.iter().filter_map(ResourceExt::uid).collect()
}

#[tokio::test]
async fn many_orphans_at_once_are_left_until_a_person_allows_their_end() {
    let world = World::fresh().await;
    let controller = Controller::start(Route::Direct, &SWEEPS).await;
    ten_machines(&world).await;
    controller.kill();
    world.cluster.scale_executors(0).await;
    eventually("the executors are gone", 60, async || {
        match world.cluster.phases().await {
            phases if phases.is_empty() => Ok(()),
            phases => Err(format!("{phases:?}")),
        }
    })
    .await;
    forget_claims(&world).await;
    forget_nodes(&world).await;
    let orphans = machine_ids(&world).await;
    assert_eq!(orphans.len(), 10);

    let _again = Controller::start(Route::Direct, &SWEEPS).await;
    let what = "the brake says so on the pool";
    let said = eventually(what, CONFIRMED_SECONDS, async || {
        let pools = world.cluster.node_pools();
        let condition = world
            .cluster
            .condition(&pools, "executors", "CollectionHalted")
            .await;
        if condition.starts_with("True TooManyOrphans") {
            Ok(condition)
        } else {
            Err(condition)
        }
    })
    .await;
    assert!(said.contains("10 of 10 instances"), "{said}");
    eventually("an event says so", 30, async || {
        let events = world.cluster.events_about("NodePool", "executors").await;
        let told = events
            .iter()
            .any(|event| event.starts_with("OrphanCollectionHalted"));
        if told {
            Ok(())
        } else {
            Err(format!("{events:#?}"))
        }
    })
    .await;
    assert_eq!(machine_ids(&world).await, orphans, "the brake held");

    let token = said
        .split("acknowledge-orphans=")
        .nth(1)
        .unwrap()
        .trim()
        .to_owned();
    let annotation = format!("tonnage.dev/acknowledge-orphans={token}");
    drop(run(
        "kubectl",
        &[
            "annotate",
            "nodepool",
            "executors",
            "--overwrite",
            &annotation,
        ],
    ));
    world.cluster.wait_for_nothing(&world.endpoint, 60).await;
}

#[tokio::test]
async fn machines_that_work_are_taken_back_and_nothing_is_bought_twice() {
    let world = World::fresh().await;
    let controller = Controller::start(Route::Direct, &SWEEPS).await;
    ten_machines(&world).await;
    let machines = machine_ids(&world).await;
    let pods = executor_uids(&world).await;
    controller.kill();
    forget_claims(&world).await;

    let _again = Controller::start(Route::Direct, &SWEEPS).await;
    eventually(
        "every machine has a claim again that is initialized",
        CONFIRMED_SECONDS,
        async || {
            let claims = world.cluster.node_claims();
            let listed = claims
                .list(&ListParams::default())
                .await
                .map_err(|error| error.to_string())?;
            let owned: BTreeSet<String> = listed
                .iter()
                .filter_map(|claim| claim.data["status"]["providerID"].as_str())
                .filter_map(|id| id.rsplit('/').next().map(str::to_owned))
                .collect();
            let mut waiting = Vec::new();
            for claim in &listed {
                let name = claim.name_any();
                let state = world.cluster.condition(&claims, &name, "Initialized").await;
                if !state.starts_with("True") {
                    waiting.push(format!("{name}: {state}"));
                }
            }
            if owned == machines && waiting.is_empty() {
                Ok(())
            } else {
                Err(format!("{owned:?}\n{waiting:#?}"))
            }
        },
    )
    .await;
    assert_eq!(machine_ids(&world).await, machines, "the same machines");
    assert_eq!(world.endpoint.launched_in_all().await.len(), machines.len());
    assert_eq!(
        executor_uids(&world).await,
        pods,
        "no executor was disturbed"
    );

    world.cluster.scale_executors(0).await;
    world.cluster.wait_for_nothing(&world.endpoint, 90).await;
}
