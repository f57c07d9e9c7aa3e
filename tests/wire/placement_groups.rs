//! Placement groups: which one a class selects, and what it means for its machines.

use std::collections::BTreeSet;

use serde_json::json;
use tonnage::api::node_class::EC2NodeClass;
use tonnage::cloud::{Cloud, InstanceQuery};
use tonnage::model::launch::ErrorClass;
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

#[tokio::test]
async fn a_spread_group_has_seven_machines_in_a_zone_and_more_in_others() {
    let scene = with_group("spread", Strategy::Spread).await;
    let class = selecting(&json!({"name": "training"}));
    let zones = [
        "c5.xlarge/us-east-1a/on-demand",
        "c5.xlarge/us-east-1b/on-demand",
    ];
    let mut record = scene.record(&class, 9, &zones[..1]).await;
    let outcome = scene.launch(&record, &class).await;
    assert_eq!(outcome.instances.len(), 7);
    let [shortfall] = outcome.shortfalls.as_slice() else {
        panic!("{:?}", outcome.shortfalls);
    };
    assert_eq!(shortfall.class, ErrorClass::InsufficientCapacity);
    assert!(
        shortfall.message.contains("training"),
        "{}",
        shortfall.message
    );
    record = scene.record(&class, 2, &zones[1..]).await;
    record.attempt = 2;
    let rest = scene.launch(&record, &class).await;
    assert_eq!((rest.instances.len(), rest.shortfalls.len()), (2, 0));
    // Without the group there is room in the zone.
    let mut plain = crate::scene::class(&json!({}));
    plain.metadata.name = Some("plain".to_owned());
    let mut beside = scene.record(&plain, 2, &zones[..1]).await;
    "beside".clone_into(&mut beside.batch);
    assert_eq!(scene.launch(&beside, &plain).await.shortfalls, []);
    scene.end().await;
}

#[tokio::test]
async fn a_cluster_group_stays_in_the_zone_of_its_first_machine() {
    let scene = with_group("cluster", Strategy::Cluster).await;
    let class = selecting(&json!({"name": "training"}));
    let first = scene
        .record(&class, 1, &["c5.xlarge/us-east-1a/on-demand"])
        .await;
    assert_eq!(scene.launch(&first, &class).await.shortfalls, []);
    for (batch, zone, refused) in [("near", "us-east-1a", 0), ("far", "us-east-1b", 1)] {
        let offering = format!("c5.xlarge/{zone}/on-demand");
        let mut record = scene.record(&class, 1, &[&offering]).await;
        batch.clone_into(&mut record.batch);
        let outcome = scene.launch(&record, &class).await;
        assert_eq!(outcome.shortfalls.len(), refused, "{batch}");
        if let Some(said) = outcome.shortfalls.first() {
            assert_eq!(said.class, ErrorClass::Invalid);
            assert!(said.message.contains("us-east-1a"), "{}", said.message);
        }
    }
    scene.end().await;
}

#[tokio::test]
async fn machines_of_a_partition_group_say_which_partition_they_are_in() {
    let scene = with_group("partitioned", Strategy::Partition).await;
    let class = selecting(&json!({"name": "training"}));
    let record = scene
        .record(&class, 3, &["c5.xlarge/us-east-1a/on-demand"])
        .await;
    scene.launch(&record, &class).await;
    let listed = scene.cloud.instances(&InstanceQuery::All).await.unwrap();
    let partitions: BTreeSet<Option<u32>> = listed.iter().map(|one| one.partition).collect();
    assert_eq!(partitions.len(), 3);
    assert!(!partitions.contains(&None));
    scene.end().await;
}
