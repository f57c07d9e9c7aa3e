//! EC2 is eventually consistent: what was just made may not be there yet for whoever asks.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::json;
use tonnage::cloud::{Cloud, InstanceQuery};
use tonnage::model::instance::InstanceState;
use tonnage::model::launch::ErrorClass;
use tonnage::sim::ec2::machine::EndCause;

use crate::scene::{Scene, class};
use crate::waiting::eventually;

#[tokio::test]
async fn a_machine_that_is_not_shown_yet_is_neither_listed_nor_tagged_and_comes_later() {
    let scene = Scene::new("late").await;
    let class = class(&json!({}));
    let record = scene
        .record(&class, 1, &["c5.xlarge/us-east-1a/spot"])
        .await;
    scene.endpoint.ec2.show_late(Duration::from_secs(30));
    let outcome = scene.launch(&record, &class).await;
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
    eventually("the machine is shown", 40, async || {
        let alive = scene.alive().await;
        if alive == BTreeSet::from([id.clone()]) {
            Ok(())
        } else {
            Err(format!("{alive:?}"))
        }
    })
    .await;
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
    let outcome = scene.launch(&record, &class).await;
    let id = outcome.instances[0].id.clone();
    assert_eq!(scene.one(&id).await.state, InstanceState::Pending);
    becomes(&scene, &id, InstanceState::Running).await;
    scene
        .cloud
        .terminate(std::slice::from_ref(&id))
        .await
        .unwrap();
    assert_eq!(scene.one(&id).await.state, InstanceState::ShuttingDown);
    becomes(&scene, &id, InstanceState::Terminated).await;
    // Ended machines are shown for an hour; nobody asks all the while.
    tokio::time::advance(Duration::from_hours(2)).await;
    let query = InstanceQuery::Ids(BTreeSet::from([id]));
    assert_eq!(scene.cloud.instances(&query).await.unwrap(), []);
    scene.end().await;
}

#[tokio::test]
async fn terminations_name_what_ec2_has_forgotten_and_end_what_it_hides() {
    let scene = Scene::new("hidden").await;
    let ec2 = &scene.endpoint.ec2;
    let offering = "c5.xlarge/us-east-1a/spot".parse().unwrap();
    let [gone, also_gone, hidden] = [(); 3].map(|()| ec2.stray(&scene.cluster, &offering));
    for id in [&gone, &also_gone] {
        ec2.end(id, EndCause::Failed);
    }
    ec2.hide(&hidden);
    tokio::time::advance(Duration::from_hours(2)).await;
    let query = InstanceQuery::Ids([gone.clone(), hidden.clone()].into());
    assert_eq!(scene.cloud.instances(&query).await.unwrap(), []);
    let all = [gone.clone(), also_gone.clone(), hidden.clone()];
    let error = scene.cloud.terminate(&all).await.unwrap_err();
    assert_eq!(error.class, ErrorClass::NotFound, "{error}");
    for (id, is_named) in [(&gone, true), (&also_gone, true), (&hidden, false)] {
        assert_eq!(error.message.contains(id.as_str()), is_named, "{error}");
    }
    assert_eq!(ec2.alive().len(), 1, "all or none");
    scene.cloud.terminate(&[gone]).await.unwrap();
    scene.cloud.terminate(&[hidden]).await.unwrap();
    assert!(ec2.alive().is_empty());
    scene.end().await;
}

/// Waits until the machine is in this state.
async fn becomes(scene: &Scene, id: &str, expected: InstanceState) {
    eventually("the machine goes on", 60, async || {
        let state = scene.one(id).await.state;
        if state == expected {
            Ok(())
        } else {
            Err(format!("{state:?}"))
        }
    })
    .await;
}
