//! EC2 is eventually consistent: what was just made may not be there yet for whoever asks.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::json;
use tonnage::cloud::{Cloud, InstanceQuery};
use tonnage::model::instance::InstanceState;
use tonnage::model::launch::ErrorClass;

use crate::scene::{Scene, claim, class};

#[tokio::test]
async fn a_machine_that_is_not_shown_yet_is_neither_listed_nor_tagged_and_comes_later() {
    let scene = Scene::new("late").await;
    let class = class(&json!({}));
    let record = scene
        .record(&class, 1, &["c5.xlarge/us-east-1a/spot"])
        .await;
    scene.endpoint.ec2.show_late(Duration::from_secs(30));
    let outcome = scene.cloud.launch(&record, &claim(), &class).await.unwrap();
    let id = outcome.instances[0].id.clone();
    for query in [
        InstanceQuery::All,
        InstanceQuery::Batch(record.batch.clone()),
        InstanceQuery::Ids(BTreeSet::from([id.clone()])),
    ] {
        assert_eq!(scene.cloud.instances(&query).await.unwrap(), []);
    }
    let tags = BTreeMap::from([("Name".to_owned(), "one".to_owned())]);
    let error = scene.cloud.tag(&id, &tags).await.unwrap_err();
    assert_eq!(error.class, ErrorClass::NotFound, "{error}");
    // What EC2 does not know counts as terminated; the machine is seen later by whoever lists.
    scene
        .cloud
        .terminate(std::slice::from_ref(&id))
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(scene.alive().await, BTreeSet::from([id.clone()]));
    scene.cloud.tag(&id, &tags).await.unwrap();
    scene
        .cloud
        .terminate(std::slice::from_ref(&id))
        .await
        .unwrap();
    assert_eq!(scene.alive().await, BTreeSet::new());
    scene.end().await;
}

#[tokio::test]
async fn a_machine_goes_through_its_states_and_is_forgotten_in_the_end() {
    let scene = Scene::new("states").await;
    let class = class(&json!({}));
    let record = scene
        .record(&class, 1, &["c5.xlarge/us-east-1a/on-demand"])
        .await;
    let outcome = scene.cloud.launch(&record, &claim(), &class).await.unwrap();
    let id = outcome.instances[0].id.clone();
    let mut seen = vec![scene.one(&id).await.state];
    tokio::time::sleep(Duration::from_secs(15)).await;
    seen.push(scene.one(&id).await.state);
    scene
        .cloud
        .terminate(std::slice::from_ref(&id))
        .await
        .unwrap();
    seen.push(scene.one(&id).await.state);
    tokio::time::sleep(Duration::from_secs(25)).await;
    seen.push(scene.one(&id).await.state);
    let expected = [
        InstanceState::Pending,
        InstanceState::Running,
        InstanceState::ShuttingDown,
        InstanceState::Terminated,
    ];
    assert_eq!(seen, expected);
    tokio::time::sleep(Duration::from_hours(2)).await;
    let query = InstanceQuery::Ids(BTreeSet::from([id]));
    assert_eq!(scene.cloud.instances(&query).await.unwrap(), []);
    scene.end().await;
}
