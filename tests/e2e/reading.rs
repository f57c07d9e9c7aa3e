//! The commands that read a live cluster and write nothing: plan, explain, advise, record.

use std::fs;
use std::path::PathBuf;

use kube::api::ListParams;
use serde_json::Value;

use crate::cluster::{Cluster, run};
use crate::controller::{Controller, Route};
use crate::waiting::eventually;
use crate::world::{World, variable};

/// Pods of the scene at its begin: ten executors and three jobs.
const PODS: usize = 13;

fn tonnage(arguments: &[&str]) -> String {
    run(&variable("TONNAGE_BIN"), arguments)
}

fn json_of(arguments: &[&str]) -> Value {
    serde_json::from_str(&tonnage(arguments)).unwrap()
}

/// How many pods a plan has a place for on nodes that it would buy.
fn bought_for(plan: &Value) -> usize {
    let nodes = plan["nodes"].as_array().unwrap();
    nodes
        .iter()
        .map(|node| node["pods"].as_array().unwrap().len())
        .sum()
}

async fn all_are_refused(world: &World) -> String {
    eventually("kube-scheduler has refused every pod", 60, async || {
        let pods = world.cluster.pods();
        let pods = pods.list(&ListParams::default()).await.unwrap().items;
        let refused: Vec<&str> = pods
            .iter()
            .filter(|pod| {
                let conditions = pod.status.as_ref().and_then(|s| s.conditions.as_ref());
                conditions.is_some_and(|conditions| {
                    conditions
                        .iter()
                        .any(|condition| condition.reason.as_deref() == Some("Unschedulable"))
                })
            })
            .filter_map(|pod| pod.metadata.name.as_deref())
            .collect();
        let executor = refused.iter().find(|name| name.starts_with("executor"));
        match executor {
            Some(name) if refused.len() == PODS => Ok((*name).to_owned()),
            _ => Err(format!("{} of {PODS}", refused.len())),
        }
    })
    .await
}

#[tokio::test]
async fn a_live_cluster_is_planned_explained_and_recorded() {
    let world = World::fresh().await;
    for file in ["node-classes", "node-pools", "workload"] {
        Cluster::apply_file(&format!("hack/scene/{file}.yaml"));
    }
    world.cluster.scale_executors(10).await;
    let executor = all_are_refused(&world).await;

    let plan = json_of(&["plan", "-o", "json"]);
    assert_eq!(bought_for(&plan), PODS, "{plan:#}");
    assert_eq!(plan["unschedulable"], Value::Array(Vec::new()));
    let again = json_of(&["plan", "-o", "json"]);
    assert_eq!(plan["nodes"], again["nodes"]);

    let why = tonnage(&["explain", "pod", &format!("default/{executor}")]);
    assert!(why.contains("executors"), "{why}");
    let advice = json_of(&["advise", "-o", "json"]);
    assert!(!advice["workloads"].as_array().unwrap().is_empty());

    let trace = PathBuf::from(variable("TONNAGE_STATE")).join("trace.jsonl");
    let file = trace.display().to_string();
    tonnage(&["record", "--for", "3s", "--quiet", "--out", &file]);
    let recorded = fs::read_to_string(&trace).unwrap();
    for secret in ["redis://", "REDIS_URL", "example.invalid", "executor-"] {
        assert!(!recorded.contains(secret), "{secret} was recorded");
    }
    let pools = "hack/scene/node-pools.yaml";
    let classes = "hack/scene/node-classes.yaml";
    let played = json_of(&[
        "simulate", "-f", pools, "-f", classes, "--trace", &file, "-o", "json",
    ]);
    assert!(!played["variants"].as_array().unwrap().is_empty());

    // What the plan said is what the controller does, and then nothing is left to buy.
    let _controller = Controller::start(Route::Direct, &[]).await;
    world.cluster.wait_for_started(PODS, 120).await;
    let after = json_of(&["plan", "-o", "json"]);
    assert_eq!(bought_for(&after), 0, "{after:#}");
    drop(run(
        "kubectl",
        &["delete", "deployments,jobs", "--all", "--wait=false"],
    ));
    world.cluster.wait_for_nothing(&world.endpoint, 60).await;
}
