//! Launches: idempotent, honest about what could not be bought, and never made twice.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;
use tonnage::cloud::{Cloud, InstanceQuery};
use tonnage::model::launch::{ErrorClass, LaunchOutcome};
use tonnage::model::offering::CapacityType;

use crate::scene::{Scene, claim, class};

fn ids(outcome: &LaunchOutcome) -> BTreeSet<String> {
    outcome
        .instances
        .iter()
        .map(|instance| instance.id.clone())
        .collect()
}

async fn bought(scene: &Scene) -> Vec<String> {
    let tags = BTreeMap::from([("tonnage.dev/cluster", scene.cluster.as_str())]);
    scene.endpoint.tagged(&tags).await
}

#[tokio::test]
async fn the_same_record_buys_once_even_after_a_restart() {
    let scene = Scene::new("once").await;
    let class = class(&json!({}));
    let record = scene
        .record(&class, 3, &["c5.xlarge/us-east-1a/spot"])
        .await;
    let first = scene.launch(&record, &class).await;
    assert_eq!(first.instances.len(), 3);
    let restarted = scene.restarted().await;
    let again = restarted.launch(&record, &claim(), &class).await.unwrap();
    assert_eq!(ids(&again), ids(&first));
    assert_eq!(bought(&scene).await.len(), 3);
    let batch = InstanceQuery::Batch(record.batch.clone());
    let listed = scene.cloud.instances(&batch).await.unwrap();
    assert_eq!(listed.len(), 3);
    assert!(
        listed
            .iter()
            .all(|instance| instance.offering.capacity_type == CapacityType::Spot)
    );
    scene.end().await;
}

#[tokio::test]
async fn edited_tags_and_user_data_do_not_change_a_launch_that_is_under_way() {
    let scene = Scene::new("edited").await;
    let before = class(&json!({ "tags": { "team": "one" } }));
    let record = scene
        .record(&before, 1, &["c5.xlarge/us-east-1a/on-demand"])
        .await;
    let first = scene.launch(&record, &before).await;
    let after = class(&json!({ "tags": { "team": "two" }, "userData": "#!/bin/sh\n" }));
    let again = scene.launch(&record, &after).await;
    assert_eq!(ids(&again), ids(&first));
    scene.end().await;
}

#[tokio::test]
async fn a_lost_answer_is_transient_and_the_repeated_record_finds_the_machines() {
    let scene = Scene::new("lost").await;
    let class = class(&json!({}));
    let record = scene
        .record(&class, 2, &["c5.xlarge/us-east-1a/spot"])
        .await;
    // Once is enough: the SDK does not repeat this call by itself.
    scene
        .endpoint
        .fault("CreateFleet", "lose_response", 1, json!({}))
        .await;
    scene.refused(&record, &class, ErrorClass::Transient).await;
    let outcome = scene.launch(&record, &class).await;
    assert_eq!(outcome.instances.len(), 2);
    assert_eq!(bought(&scene).await.len(), 2);
    scene.end().await;
}

#[tokio::test]
async fn throttling_is_told_apart() {
    let scene = Scene::new("throttled").await;
    let class = class(&json!({}));
    let record = scene
        .record(&class, 1, &["c5.xlarge/us-east-1a/spot"])
        .await;
    scene
        .endpoint
        .fault("CreateFleet", "throttle", 1, json!({}))
        .await;
    scene.refused(&record, &class, ErrorClass::Throttled).await;
    assert_eq!(bought(&scene).await, Vec::<String>::new());
    scene.end().await;
}

#[tokio::test]
async fn a_shortage_names_every_offering_that_was_tried() {
    let scene = Scene::new("shortage").await;
    scene
        .endpoint
        .capacity(json!([{ "type": "c5.xlarge", "capacity": 0 }]))
        .await;
    let class = class(&json!({}));
    let record = scene
        .record(
            &class,
            2,
            &["c5.xlarge/us-east-1a/spot", "c5.xlarge/us-east-1b/spot"],
        )
        .await;
    let outcome = scene.launch(&record, &class).await;
    assert_eq!(outcome.instances, []);
    let short: BTreeSet<String> = outcome
        .shortfalls
        .iter()
        .inspect(|shortfall| assert_eq!(shortfall.class, ErrorClass::InsufficientCapacity))
        .map(|shortfall| shortfall.offering.as_ref().unwrap().to_string())
        .collect();
    assert_eq!(
        short,
        BTreeSet::from([
            "c5.xlarge/us-east-1a/spot".to_owned(),
            "c5.xlarge/us-east-1b/spot".to_owned(),
        ])
    );
    scene.end().await;
}

#[tokio::test]
async fn a_partial_fleet_gives_what_there_is_and_what_there_is_not() {
    let scene = Scene::new("partial").await;
    scene
        .endpoint
        .capacity(json!([{ "type": "c5.xlarge", "zone": "us-east-1a", "capacity": 2 }]))
        .await;
    let class = class(&json!({}));
    let record = scene
        .record(&class, 5, &["c5.xlarge/us-east-1a/on-demand"])
        .await;
    let outcome = scene.launch(&record, &class).await;
    assert_eq!(outcome.instances.len(), 2);
    assert_eq!(outcome.shortfalls.len(), 1);
    assert_eq!(
        outcome.shortfalls[0].offering.as_ref().unwrap().to_string(),
        "c5.xlarge/us-east-1a/on-demand"
    );
    scene.end().await;
}

#[tokio::test]
async fn the_cheapest_of_several_is_bought_on_demand() {
    let scene = Scene::new("cheapest").await;
    let class = class(&json!({}));
    let record = scene
        .record(
            &class,
            1,
            &[
                "c5.4xlarge/us-east-1a/on-demand",
                "c5.xlarge/us-east-1b/on-demand",
            ],
        )
        .await;
    let outcome = scene.launch(&record, &class).await;
    assert_eq!(
        outcome.instances[0].offering.to_string(),
        "c5.xlarge/us-east-1b/on-demand"
    );
    scene.end().await;
}
