//! Listing, terminating and tagging.

use std::collections::{BTreeMap, BTreeSet};

use futures::future::join_all;
use serde_json::json;
use tonnage::cloud::gather::Gather;
use tonnage::cloud::{Cloud, InstanceQuery};
use tonnage::model::launch::ErrorClass;

use crate::scene::{Scene, class};

#[tokio::test]
async fn terminating_twice_or_nothing_at_all_is_no_error() {
    let scene = Scene::new("terminate").await;
    let class = class(&json!({}));
    let record = scene
        .record(&class, 2, &["c5.xlarge/us-east-1a/spot"])
        .await;
    let outcome = scene.launch(&record, &class).await;
    let first = &outcome.instances[0].id;
    let unknown = "i-0123456789abcdef0".to_owned();
    let once = [first.clone()];
    scene.cloud.terminate(&once).await.unwrap();
    scene.cloud.terminate(&once).await.unwrap();
    scene
        .cloud
        .terminate(std::slice::from_ref(&unknown))
        .await
        .unwrap();
    assert!(scene.one(first).await.state.is_ending());
    let second = outcome.instances[1].id.clone();
    assert_eq!(scene.alive().await, BTreeSet::from([second.clone()]));
    // One that EC2 does not know keeps no other from ending, and each is told of its own.
    let gather = Gather::new(scene.cloud.clone());
    let together = [first.clone(), unknown, second];
    for outcome in join_all(together.iter().map(|id| gather.terminate(id))).await {
        outcome.unwrap();
    }
    assert_eq!(scene.alive().await, BTreeSet::new());
    scene.end().await;
}

#[tokio::test]
async fn listings_hold_this_clusters_instances_and_leave_unknown_ids_out() {
    let scene = Scene::new("listing").await;
    let other = scene.connect_beside("listing-other").await;
    let class = class(&json!({}));
    let record = scene
        .record(&class, 1, &["c5.xlarge/us-east-1b/spot"])
        .await;
    let outcome = scene.launch(&record, &class).await;
    let id = outcome.instances[0].id.clone();
    let instance = scene.one(&id).await;
    assert_eq!(instance.offering.to_string(), "c5.xlarge/us-east-1b/spot");
    assert_eq!(instance.provider_id(), format!("aws:///us-east-1b/{id}"));
    assert!(instance.private_dns_name.starts_with("ip-"), "{instance:?}");
    let query = InstanceQuery::Ids(BTreeSet::from([id, "i-0123456789abcdef0".to_owned()]));
    assert_eq!(scene.cloud.instances(&query).await.unwrap().len(), 1);
    for query in [InstanceQuery::All, query] {
        assert_eq!(other.instances(&query).await.unwrap(), []);
    }
    scene.end().await;
}

#[tokio::test]
async fn tags_are_added_to_one_machine() {
    let scene = Scene::new("tagging").await;
    let class = class(&json!({}));
    let record = scene
        .record(&class, 1, &["c5.xlarge/us-east-1a/spot"])
        .await;
    let outcome = scene.launch(&record, &class).await;
    let id = &outcome.instances[0].id;
    let tags = BTreeMap::from([
        ("Name".to_owned(), "node-1".to_owned()),
        (
            "tonnage.dev/nodeclaim".to_owned(),
            "executors-abcde".to_owned(),
        ),
    ]);
    scene.cloud.tag(id, &tags).await.unwrap();
    let instance = scene.one(id).await;
    assert!(
        tags.iter()
            .all(|(key, value)| instance.tags.get(key) == Some(value))
    );
    assert_eq!(instance.tags["tonnage.dev/launch-batch"], record.batch);
    scene.end().await;
}

#[tokio::test]
async fn a_listing_that_fails_is_an_error_and_never_an_empty_fleet() {
    let scene = Scene::new("complete").await;
    let failure = json!({ "status": 500, "code": "InternalError" });
    scene
        .endpoint
        .fault("DescribeInstances", "error", 2, failure)
        .await;
    let error = scene
        .cloud
        .instances(&InstanceQuery::All)
        .await
        .unwrap_err();
    assert_eq!(error.class, ErrorClass::Transient);
    scene.end().await;
}
