//! How the catalogue comes to be and is kept fresh: what the first plans are made with, and what a fault of
//! one of its sources costs.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use tokio::time::Instant;
use tonnage::cloud::buckets::{BucketSize, BucketSizes};
use tonnage::cloud::ec2::Ec2Cloud;
use tonnage::cloud::facts::{AttachmentLimit, built_in};
use tonnage::cloud::settings::CloudSettings;
use tonnage::cloud::{Cloud, InstanceQuery};
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

/// Which limits on volumes are for volumes alone is read of EC2, not guessed.
#[tokio::test]
async fn listed_interfaces_leave_room_for_fewer_volumes_where_ec2_says_so() {
    let scene = Scene::new("attachments").await;
    let usual = scene.resolved(&class(&json!({}))).await.catalogue;
    let mut listing = class(&json!({ "networkInterfaces": [
        { "networkCardIndex": 0, "deviceIndex": 0, "interfaceType": "interface" },
        { "networkCardIndex": 0, "deviceIndex": 1, "interfaceType": "interface" },
    ] }));
    listing.metadata.generation = Some(2);
    let listed = scene.resolved(&listing).await.catalogue;
    let mut seen = [0, 0];
    for (name, found) in &listed.types {
        let is_shared = built_in().types[name].attachment_limit == AttachmentLimit::Shared;
        let less = usual.types[name].volume_limit - found.volume_limit;
        assert_eq!(less, u32::from(is_shared), "{name}");
        seen[usize::from(is_shared)] += 1;
    }
    assert!(seen.iter().all(|count| *count > 5), "{seen:?}");
    scene.end().await;
}

/// Machines of a type that no description is known of would count as nothing, and be bought a second time.
#[tokio::test]
async fn nothing_is_planned_before_ec2_has_described_its_types() {
    tokio::time::pause();
    let markets = Markets::new(1, Weather::CALM, &FAMILIES);
    let endpoint = Endpoint::selling(VirtualClock::start(), markets);
    endpoint.rules.slow("DescribeInstanceTypes", SLOW);
    let scene = Scene::at(endpoint, "first").await;
    let first = catalogue(&scene).await;
    assert!(described(&scene));
    assert!(first.types.contains_key("c5.xlarge"));
    assert!(!first.types.contains_key("r7i.xlarge"), "no zone offers it");
    assert!(first.spot_priced_at.is_some(), "spot is not taken for dear");
    scene.end().await;
}

/// Whether the first catalogue has prices of now, where each page of them takes so long.
async fn first_has_prices_of_now(takes: Duration) -> bool {
    let endpoint = Endpoint::begin().await;
    endpoint.rules.slow("GetProducts", takes);
    let begun = Instant::now();
    let scene = Scene::at(endpoint, "priced").await;
    let first = catalogue(&scene).await;
    let waited = begun.elapsed();
    assert!(waited < Duration::from_secs(32), "{waited:?}");
    let are_new = age(first.on_demand_priced_at, &scene) < 60;
    scene.end().await;
    are_new
}

/// Types that have no built-in price would not be bought on demand before.
#[tokio::test]
async fn on_demand_prices_are_waited_for() {
    assert!(first_has_prices_of_now(Duration::from_secs(4)).await);
}

#[tokio::test]
async fn on_demand_prices_are_waited_for_half_a_minute_at_most() {
    assert!(!first_has_prices_of_now(Duration::from_secs(40)).await);
}

#[tokio::test]
async fn prices_are_not_waited_for_where_the_price_list_is_not_asked() {
    let endpoint = Endpoint::begin().await;
    endpoint.rules.slow("GetProducts", Duration::from_secs(40));
    let scene = Scene::at(endpoint, "unasked").await;
    let settings = CloudSettings {
        price_api: false,
        ..scene.settings()
    };
    let begun = Instant::now();
    let cloud = scene.connect(settings).await;
    cloud.resolve(&class(&json!({}))).await.unwrap();
    let waited = begun.elapsed();
    assert!(waited < Duration::from_secs(10), "{waited:?}");
    scene.end().await;
}

#[tokio::test]
async fn throttling_at_the_start_is_waited_out() {
    let endpoint = Endpoint::begin().await;
    for operation in ["DescribeInstanceTypes", "DescribeSpotPriceHistory"] {
        endpoint.rules.add(operation, 0, 6, CallFault::Throttled);
    }
    let scene = Scene::at(endpoint, "throttled").await;
    let first = eventually("there is a catalogue", 120, async || {
        let found = scene.cloud.resolve(&class(&json!({}))).await;
        found.map_err(|error| {
            assert_eq!(error.class, ErrorClass::Throttled, "{error}");
            error.to_string()
        })
    })
    .await;
    assert!(described(&scene));
    let catalogue = first.class.catalogue;
    assert!(catalogue.types.contains_key("c5.xlarge"));
    assert!(
        catalogue.spot_priced_at.is_some(),
        "on-demand would be bought instead of spot"
    );
    scene.end().await;
}

/// How often an operation was called, once it was and nobody calls it any more.
fn at_rest(scene: &Scene, operation: &str) -> Result<u64, String> {
    let calls = scene.endpoint.ec2.calls();
    let tally = calls.get(operation).ok_or("it was never called")?;
    let answered = tally.answered.ok_or("it was never answered")?;
    let idle = scene.endpoint.clock.now().duration_since(answered);
    let is_over = idle >= SignedDuration::from_secs(10);
    is_over
        .then_some(tally.calls)
        .ok_or_else(|| format!("{operation} was answered {idle:#} ago"))
}

/// How long ten calls take that draw on the bucket of an operation.
async fn ten_calls(cloud: &Ec2Cloud, operation: &str) -> Duration {
    let begun = Instant::now();
    for _call in 0..10 {
        if operation == "GetProducts" {
            cloud.profiles().await.unwrap();
        } else {
            cloud.instances(&InstanceQuery::All).await.unwrap();
        }
    }
    begun.elapsed()
}

#[tokio::test]
async fn reads_of_the_catalogue_that_are_throttled_slow_down_what_draws_on_the_same_bucket() {
    tokio::time::pause();
    for operation in [
        "DescribeInstanceTypes",
        "DescribeInstanceTypeOfferings",
        "DescribeSpotPriceHistory",
        "GetProducts",
    ] {
        let endpoint = Endpoint::at_the_time_of(VirtualClock::start(), Weather::CALM);
        let scene = Scene::at(endpoint, "slowed").await;
        catalogue(&scene).await;
        // What the scene's own connection reads beside must be over, or it would meet the throttling.
        let before = eventually("the scene reads no more", 60, async || {
            at_rest(&scene, operation)
        })
        .await;
        // The SDK repeats each once, so three reads are refused.
        scene
            .endpoint
            .rules
            .add(operation, 0, 6, CallFault::Throttled);
        let buckets = BucketSizes {
            describe: BucketSize::new(10, 1),
            other: BucketSize::new(10, 1),
            ..BucketSizes::default()
        };
        let settings = CloudSettings {
            buckets,
            ..scene.settings()
        };
        let cloud = scene.connect(settings).await;
        eventually("the catalogue is read all the same", 60, async || {
            let calls = scene.endpoint.calls(operation).await - before;
            (calls > 6).then_some(()).ok_or_else(|| calls.to_string())
        })
        .await;
        let slowed = ten_calls(&cloud, operation).await;
        eventually("calls are as fast as ever again", 300, async || {
            let usual = ten_calls(&cloud, operation).await;
            let is_usual = slowed > usual * 2;
            is_usual
                .then_some(())
                .ok_or_else(|| format!("{operation}: {slowed:?} after throttling, then {usual:?}"))
        })
        .await;
        scene.end().await;
    }
}

#[tokio::test]
async fn new_prices_count_at_once() {
    let scene = Scene::new("at-once").await;
    let first = catalogue(&scene).await;
    // Looked up again just before prices are, which would serve for half a minute.
    tokio::time::advance(Duration::from_secs(285)).await;
    catalogue(&scene).await;
    eventually("the catalogue has the new prices", 22, async || {
        let later = catalogue(&scene).await;
        (later.spot_priced_at > first.spot_priced_at)
            .then_some(())
            .ok_or_else(|| "they are the first ones".to_owned())
    })
    .await;
    scene.end().await;
}

#[tokio::test]
async fn spot_prices_in_another_currency_are_left_alone() {
    let scene = Scene::new("china").await;
    let settings = CloudSettings {
        region: Some("cn-north-1".to_owned()),
        ..scene.settings()
    };
    let cloud = scene.connect(settings).await;
    let found = cloud.resolve(&class(&json!({}))).await.unwrap();
    assert_eq!(found.class.catalogue.spot_priced_at, None);
    assert!(found.class.catalogue.types.contains_key("c5.xlarge"));
    scene.end().await;
}

#[tokio::test]
async fn permissions_to_read_prices_that_are_missing_are_named_and_hold_nothing_up() {
    let endpoint = Endpoint::begin().await;
    for operation in ["DescribeSpotPriceHistory", "GetProducts"] {
        endpoint.rules.add(operation, 0, 1000, CallFault::Denied);
    }
    let scene = Scene::at(endpoint, "unread").await;
    let remark = async || {
        let found = scene.cloud.resolve(&class(&json!({}))).await.unwrap();
        assert!(found.class.ready);
        let remark = found.remarks.get("ValidationSucceeded");
        remark.map(|remark| (remark.reason, remark.message.clone()))
    };
    eventually("both actions are named", 60, async || {
        match remark().await {
            Some(("Unauthorized", message))
                if message.contains("allow ec2:DescribeSpotPriceHistory")
                    && message.contains("allow pricing:GetProducts") =>
            {
                Ok(())
            }
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    scene.endpoint.calm().await;
    eventually("nothing is left to say", 400, async || {
        match remark().await {
            None => Ok(()),
            some => Err(format!("{some:?}")),
        }
    })
    .await;
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
