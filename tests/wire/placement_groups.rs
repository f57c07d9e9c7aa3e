//! Placement groups: which one a class selects, and what it means for its machines.

use serde_json::json;
use tonnage::api::node_class::EC2NodeClass;
use tonnage::cloud::Cloud;
use tonnage::model::placement_group::{PlacementGroup, Strategy};

use crate::endpoint::Endpoint;
use crate::scene::{Scene, class};

fn selecting(selector: &serde_json::Value) -> EC2NodeClass {
    class(&json!({ "placementGroupSelector": selector }))
}

async fn with_group(name: &str, strategy: Strategy) -> Scene {
    let endpoint = Endpoint::begin().await;
    endpoint.ec2.place(PlacementGroup {
        id: "pg-1".to_owned(),
        name: "training".to_owned(),
        strategy,
    });
    Scene::at(endpoint, name).await
}

#[tokio::test]
async fn machines_are_launched_into_the_group_that_the_class_selects() {
    let scene = with_group("grouped", Strategy::Cluster).await;
    for (batch, selector) in [
        ("by-name", json!({"name": "training"})),
        ("by-id", json!({"id": "pg-1"})),
    ] {
        let mut class = selecting(&selector);
        class.metadata.name = Some(batch.to_owned());
        let mut record = scene
            .record(&class, 1, &["c5.xlarge/us-east-1a/on-demand"])
            .await;
        record.batch = batch.to_owned();
        let outcome = scene.launch(&record, &class).await;
        let machine = &outcome.instances[0].id;
        assert_eq!(
            scene.endpoint.ec2.placed_in(machine).as_deref(),
            Some("pg-1")
        );
    }
    let plain = class(&json!({}));
    let record = scene
        .record(&plain, 1, &["c5.xlarge/us-east-1a/on-demand"])
        .await;
    let outcome = scene.launch(&record, &plain).await;
    assert_eq!(scene.endpoint.ec2.placed_in(&outcome.instances[0].id), None);
    scene.end().await;
}

#[tokio::test]
async fn only_types_that_the_group_takes_are_bought_and_nodes_are_labelled_with_it() {
    let scene = with_group("taken", Strategy::Cluster).await;
    let class = selecting(&json!({"name": "training"}));
    let types = scene.resolved(&class).await.catalogue.types.clone();
    assert!(types.contains_key("c5.xlarge") && !types.contains_key("t3.large"));
    let label = &types["c5.xlarge"].labels["karpenter.k8s.aws/placement-group-id"];
    assert_eq!(label, "pg-1");
    scene.end().await;
}

#[tokio::test]
async fn a_class_whose_group_does_not_exist_says_so_and_makes_no_machines() {
    let scene = with_group("missing", Strategy::Spread).await;
    let missing = selecting(&json!({"name": "nowhere"}));
    let resolution = scene.cloud.resolve(&missing).await.unwrap();
    let said = resolution.conditions["PlacementGroupReady"]
        .clone()
        .unwrap_err();
    assert_eq!(said.reason, "PlacementGroupNotFound");
    assert!(said.message.contains("name nowhere"), "{}", said.message);
    assert!(!resolution.class.ready);
    scene.end().await;
}

#[tokio::test]
async fn a_class_without_a_group_asks_for_none() {
    let scene = Scene::new("ungrouped").await;
    scene.resolved(&class(&json!({}))).await;
    assert_eq!(scene.endpoint.calls("DescribePlacementGroups").await, 0);
    scene.end().await;
}
