//! Ways to run: observing without a write, and paused.

use crate::cluster::{Cluster, run};
use crate::controller::{Controller, Route};
use crate::waiting::eventually;
use crate::world::World;

fn prepare() {
    Cluster::apply_file("hack/scene/node-classes.yaml");
    Cluster::apply_file("hack/scene/node-pools.yaml");
    Cluster::apply_file("hack/scene/workload.yaml");
}

/// How often each call that changes something was made since the proxies started.
async fn writes(world: &World) -> std::collections::BTreeMap<String, serde_json::Value> {
    const CHANGING: [&str; 8] = [
        "Create",
        "Terminate",
        "Delete",
        "create ",
        "update ",
        "patch ",
        "delete ",
        "deletecollection ",
    ];
    let calls = world.endpoint.control("GET", "/calls", None).await;
    ["ec2", "kubernetes"]
        .into_iter()
        .filter_map(|side| calls[side].as_object())
        .flatten()
        .filter(|(call, _count)| CHANGING.iter().any(|verb| call.starts_with(verb)))
        .map(|(call, count)| (call.clone(), count.clone()))
        .collect()
}

#[tokio::test]
async fn observe_mode_plans_and_reports_dollars_and_writes_nothing() {
    let world = World::fresh().await;
    Cluster::install_chart("observe");
    let before = writes(&world).await;
    let controller = Controller::start(Route::Faults, &["--mode", "observe"]).await;
    prepare();
    world.cluster.scale_executors(10).await;
    eventually("a plan with its dollars is reported", 40, async || {
        let metrics = controller.metrics_text().await;
        let planned = metrics.lines().any(|line| {
            line.starts_with("tonnage_plan_usd_per_hour")
                && line
                    .rsplit(' ')
                    .next()
                    .and_then(|value| value.parse::<f64>().ok())
                    > Some(0.5)
        });
        if planned { Ok(()) } else { Err(metrics) }
    })
    .await;
    assert!(
        controller.logged().contains("c5."),
        "the plan's machines are in the log"
    );
    assert_eq!(before, writes(&world).await, "observe mode wrote");
    assert!(world.endpoint.machines().await.is_empty());
    world.cluster.scale_executors(0).await;
    drop(run("kubectl", &["delete", "jobs", "--all", "--wait=false"]));
}

#[tokio::test]
async fn a_paused_pool_buys_nothing_until_it_is_released() {
    let world = World::fresh().await;
    let _controller = Controller::start(Route::Direct, &[]).await;
    Cluster::apply_file("hack/scene/node-classes.yaml");
    Cluster::apply_file("hack/scene/node-pools.yaml");
    drop(run(
        "kubectl",
        &["annotate", "nodepool", "gpu", "tonnage.dev/paused=true"],
    ));
    Cluster::apply_file("hack/scene/workload.yaml");
    // The two other jobs run, so the GPU job was seen and left.
    world.cluster.wait_for_started(2, 90).await;
    let machines = world.endpoint.machines().await;
    assert!(
        !machines
            .iter()
            .any(|machine| machine.instance_type.starts_with("g4dn")),
        "{machines:?}"
    );
    drop(run(
        "kubectl",
        &["annotate", "nodepool", "gpu", "tonnage.dev/paused-"],
    ));
    eventually("the released pool buys", 90, async || {
        let machines = world.endpoint.machines().await;
        let bought = machines
            .iter()
            .any(|machine| machine.instance_type.starts_with("g4dn"));
        if bought {
            Ok(())
        } else {
            Err(format!("{machines:?}"))
        }
    })
    .await;
    drop(run("kubectl", &["delete", "jobs", "--all", "--wait=false"]));
    world.cluster.wait_for_nothing(&world.endpoint, 90).await;
}
