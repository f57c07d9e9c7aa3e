//! Calls and answers that get lost, are throttled, or come late.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;
use tonnage::cloud::buckets::{BucketSize, BucketSizes};
use tonnage::cloud::{Cloud, InstanceQuery};
use tonnage::model::launch::ErrorClass;
use tonnage::model::offering::{CapacityType, OfferingKey};
use tonnage::sim::ec2::machine::EndCause;
use tonnage::sim::faults::CallFault;

use crate::scene::{Scene, claim, class};
use crate::waiting::eventually;

#[tokio::test]
async fn a_launch_whose_answer_is_lost_is_given_up_after_a_minute_and_found_by_its_token() {
    let scene = Scene::new("answer").await;
    let class = class(&json!({}));
    let record = scene
        .record(&class, 2, &["c5.xlarge/us-east-1a/spot"])
        .await;
    scene
        .endpoint
        .rules
        .add("CreateFleet", 0, 1, CallFault::AnswerLost);
    let begun = Instant::now();
    scene.refused(&record, &class, ErrorClass::Transient).await;
    assert_eq!(begun.elapsed().as_secs(), 60);
    assert_eq!(
        scene.endpoint.calls("CreateFleet").await,
        1,
        "not repeated by the SDK"
    );
    assert_eq!(scene.endpoint.ec2.machines().len(), 2);
    let outcome = scene
        .restarted()
        .await
        .launch(&record, &claim(), &class)
        .await
        .unwrap();
    let ids: BTreeSet<String> = outcome.instances.into_iter().map(|one| one.id).collect();
    assert_eq!(ids, scene.alive().await);
    assert_eq!(scene.endpoint.ec2.machines().len(), 2);
    scene.end().await;
}

#[tokio::test]
async fn what_the_answer_to_a_repeated_launch_leaves_out_is_found_by_its_batch() {
    let scene = Scene::new("bare").await;
    let class = class(&json!({}));
    let record = scene
        .record(&class, 2, &["c5.xlarge/us-east-1a/spot"])
        .await;
    let first = scene.launch(&record, &class).await;
    scene.endpoint.ec2.answer_repeats_barely();
    let again = scene.launch(&record, &class).await;
    assert_eq!(again.instances, []);
    let batch = InstanceQuery::Batch(record.batch.clone());
    let found = scene.cloud.instances(&batch).await.unwrap();
    let found: BTreeSet<String> = found.into_iter().map(|one| one.id).collect();
    let bought = first.instances.into_iter().map(|one| one.id);
    assert_eq!(found, bought.collect());
    scene.end().await;
}

#[tokio::test]
async fn a_launch_that_never_arrived_buys_once_when_it_is_repeated() {
    let scene = Scene::new("request").await;
    let class = class(&json!({}));
    let record = scene
        .record(&class, 2, &["c5.xlarge/us-east-1a/spot"])
        .await;
    scene
        .endpoint
        .rules
        .add("CreateFleet", 0, 1, CallFault::Lost);
    scene.refused(&record, &class, ErrorClass::Transient).await;
    assert_eq!(scene.endpoint.ec2.machines().len(), 0);
    scene.launch(&record, &class).await;
    assert_eq!(scene.endpoint.ec2.machines().len(), 2);
    scene.end().await;
}

#[tokio::test]
async fn another_request_under_a_token_that_was_used_is_told_apart() {
    let scene = Scene::new("token").await;
    let class = class(&json!({}));
    let mut record = scene
        .record(&class, 2, &["c5.xlarge/us-east-1a/spot"])
        .await;
    scene.launch(&record, &class).await;
    record.size = 3;
    scene
        .refused(&record, &class, ErrorClass::TokenMismatch)
        .await;
    assert_eq!(scene.endpoint.ec2.machines().len(), 2);
    scene.end().await;
}

#[tokio::test]
async fn reads_are_repeated_once_by_the_sdk() {
    let scene = Scene::new("reads").await;
    drop(scene.resolved(&class(&json!({}))).await);
    let before = scene.endpoint.calls("DescribeInstances").await;
    scene
        .endpoint
        .rules
        .add("DescribeInstances", 0, 1, CallFault::AnswerLost);
    assert_eq!(scene.alive().await, BTreeSet::new());
    assert_eq!(scene.endpoint.calls("DescribeInstances").await - before, 2);
    scene.end().await;
}

#[tokio::test]
async fn a_narrow_account_slows_launches_down_and_loses_none() {
    let scene = Scene::new("narrow").await;
    let class = class(&json!({}));
    let mut record = scene
        .record(&class, 1, &["c5.xlarge/us-east-1a/spot"])
        .await;
    // Others draw on the account's bucket: one call a second is left of five.
    scene.endpoint.ec2.limit_calls(BucketSizes {
        mutate: BucketSize::new(1, 1),
        ..BucketSizes::default()
    });
    let mut throttled = 0;
    for number in 0..20 {
        record.batch = format!("batch-{number}");
        loop {
            scene.cloud.turn().await;
            match scene.cloud.launch(&record, &claim(), &class).await {
                Ok(_outcome) => break,
                Err(error) => assert_eq!(error.class, ErrorClass::Throttled, "{error}"),
            }
            throttled += 1;
            assert!(throttled < 100, "it does not slow down");
        }
    }
    assert!(throttled > 0);
    assert_eq!(scene.alive().await.len(), 20);
    scene.endpoint.ec2.limit_calls(BucketSizes::default());
    scene.end().await;
}

const MACHINES: usize = 2_500;

fn fill(scene: &Scene) -> BTreeSet<String> {
    let offering = OfferingKey::new("c5.xlarge", "us-east-1a", CapacityType::Spot);
    (0..MACHINES)
        .map(|_machine| scene.endpoint.ec2.stray(&scene.cluster, &offering))
        .collect()
}

#[tokio::test]
async fn slow_pages_are_all_waited_for_and_what_ends_meanwhile_hides_nobody() {
    let scene = Scene::new("pages").await;
    drop(scene.resolved(&class(&json!({}))).await);
    let ids = fill(&scene);
    let first = ids.first().unwrap().clone();
    scene
        .endpoint
        .rules
        .slow("DescribeInstances", Duration::from_secs(20));
    let begun = Instant::now();
    let ec2 = scene.endpoint.ec2.clone();
    // A machine of the first page goes while the second one is under way: by the third it is terminated,
    // and no longer among those that are asked for.
    let ends = async {
        eventually("the first page was answered", 30, async || {
            let listings = ec2.calls().get("DescribeInstances").copied();
            let answered = listings.and_then(|tally| tally.answered);
            answered.map(drop).ok_or_else(|| format!("{listings:?}"))
        })
        .await;
        ec2.end(&first, EndCause::Failed);
    };
    let (listed, ()) = tokio::join!(scene.cloud.instances(&InstanceQuery::All), ends);
    let listed: BTreeSet<String> = listed.unwrap().into_iter().map(|one| one.id).collect();
    assert_eq!(listed, ids);
    assert_eq!(begun.elapsed().as_secs(), 60);
    scene.end().await;
}

#[tokio::test]
async fn a_listing_that_breaks_off_is_no_listing() {
    let scene = Scene::new("broken").await;
    drop(scene.resolved(&class(&json!({}))).await);
    drop(fill(&scene));
    // The second page fails, and so does its repetition.
    scene
        .endpoint
        .rules
        .add("DescribeInstances", 1, 2, CallFault::Internal);
    let error = scene
        .cloud
        .instances(&InstanceQuery::All)
        .await
        .unwrap_err();
    assert_eq!(error.class, ErrorClass::Transient, "{error}");
    let whole = scene.cloud.instances(&InstanceQuery::All).await.unwrap();
    assert_eq!(whole.len(), MACHINES);
    scene.end().await;
}
