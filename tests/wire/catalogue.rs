//! How the catalogue comes to be and is kept fresh: what the first plans are made with, and what a fault of
//! one of its sources costs.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;
use tokio::time::Instant;
use tonnage::cloud::Cloud;
use tonnage::cloud::settings::CloudSettings;
use tonnage::model::launch::ErrorClass;
use tonnage::model::offering::Catalogue;
use tonnage::sim::clock::VirtualClock;
use tonnage::sim::ec2::market::{FAMILIES, Markets, Weather};
use tonnage::sim::faults::CallFault;

use crate::endpoint::Endpoint;
use crate::scene::{Scene, class};
use crate::waiting::eventually;

/// So long EC2 takes to describe a page of types.
const SLOW: Duration = Duration::from_secs(40);

async fn catalogue(scene: &Scene) -> Arc<Catalogue> {
    scene.resolved(&class(&json!({}))).await.catalogue
}

/// True once EC2 has described types.
fn described(scene: &Scene) -> bool {
    let calls = scene.endpoint.ec2.calls();
    let tally = calls.get("DescribeInstanceTypes");
    tally.is_some_and(|tally| tally.answered.is_some())
}

fn age(at: Option<Timestamp>, scene: &Scene) -> i64 {
    at.unwrap()
        .duration_until(scene.endpoint.clock.now())
        .as_secs()
}

#[tokio::test]
async fn the_first_plans_need_no_description_of_types_and_buy_nothing_that_is_not_offered() {
    tokio::time::pause();
    let markets = Markets::new(1, Weather::CALM, &FAMILIES);
    let endpoint = Endpoint::selling(VirtualClock::start(), markets);
    endpoint.rules.slow("DescribeInstanceTypes", SLOW);
    let begun = Instant::now();
    let scene = Scene::at(endpoint, "first").await;
    let first = catalogue(&scene).await;
    assert!(
        begun.elapsed() < Duration::from_secs(10),
        "{:?}",
        begun.elapsed()
    );
    assert!(first.types.contains_key("c5.xlarge"));
    assert!(!first.types.contains_key("r7i.xlarge"), "no zone offers it");
    assert!(first.spot_priced_at.is_some(), "spot is not taken for dear");
    assert!(!described(&scene), "EC2 has not described a type yet");
    // What EC2 describes takes the table's place.
    eventually("types are described", 300, async || {
        described(&scene)
            .then_some(())
            .ok_or_else(|| "not one page was answered".to_owned())
    })
    .await;
    tokio::time::sleep(Duration::from_mins(1)).await;
    let later = catalogue(&scene).await;
    assert_eq!(first.types, later.types);
    assert!(!Arc::ptr_eq(&first, &later));
    scene.end().await;
}

#[tokio::test]
async fn throttling_keeps_the_table_in_use() {
    let endpoint = Endpoint::begin().await;
    endpoint
        .rules
        .add("DescribeInstanceTypes", 0, 40, CallFault::Throttled);
    let scene = Scene::at(endpoint, "unread").await;
    assert!(catalogue(&scene).await.types.contains_key("c5.xlarge"));
    assert!(!described(&scene));
    scene.end().await;
}

#[tokio::test]
async fn a_permission_to_describe_types_that_is_missing_is_named() {
    let endpoint = Endpoint::begin().await;
    endpoint
        .rules
        .add("DescribeInstanceTypes", 0, 1000, CallFault::Denied);
    let scene = Scene::at(endpoint, "denied").await;
    eventually("the missing permission is named", 120, async || match scene
        .cloud
        .resolve(&class(&json!({})))
        .await
    {
        Err(error) if error.class == ErrorClass::Unauthorized => {
            assert!(
                error.message.contains("ec2:DescribeInstanceTypes"),
                "{error}"
            );
            Ok(())
        }
        other => Err(format!("{:?}", other.map(|found| found.class.ready))),
    })
    .await;
    scene.end().await;
}

#[tokio::test]
async fn all_prices_are_read_as_often_as_the_settings_say() {
    let scene = Scene::new("prices").await;
    let settings = CloudSettings {
        price_refresh: Duration::from_mins(2),
        ..scene.settings()
    };
    let cloud = scene.connect(settings).await;
    let class = class(&json!({}));
    for _reading in 0..3 {
        tokio::time::advance(Duration::from_mins(2)).await;
        eventually(
            "both kinds of prices are two minutes old at most",
            60,
            async || {
                let catalogue = cloud.resolve(&class).await.unwrap().class.catalogue;
                let spot = age(catalogue.spot_priced_at, &scene);
                let on_demand = age(catalogue.on_demand_priced_at, &scene);
                if spot.max(on_demand) <= 122 {
                    Ok(())
                } else {
                    Err(format!("spot: {spot} s, on-demand: {on_demand} s"))
                }
            },
        )
        .await;
    }
    scene.end().await;
}

#[tokio::test]
async fn a_price_list_that_does_not_answer_holds_up_nothing_and_keeps_the_last_prices() {
    let endpoint = Endpoint::begin().await;
    endpoint
        .rules
        .add("GetProducts", 0, 1000, CallFault::Denied);
    let scene = Scene::at(endpoint, "no-list").await;
    let without = catalogue(&scene).await;
    assert_eq!(without.price_region, "us-east-1");
    tokio::time::advance(Duration::from_mins(11)).await;
    eventually("spot prices are read all the same", 60, async || {
        let later = catalogue(&scene).await;
        assert_eq!(later.on_demand_priced_at, without.on_demand_priced_at);
        let spot = age(later.spot_priced_at, &scene);
        if spot <= 330 {
            Ok(())
        } else {
            Err(format!("they are {spot} s old"))
        }
    })
    .await;
    scene.endpoint.calm().await;
    eventually(
        "on-demand prices are read once the list answers",
        360,
        async || {
            let later = catalogue(&scene).await;
            if later.on_demand_priced_at > without.on_demand_priced_at {
                Ok(())
            } else {
                Err("they are the built-in ones".to_owned())
            }
        },
    )
    .await;
    scene.end().await;
}
