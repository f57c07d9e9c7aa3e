//! What is sold, at which price, and what there is of it.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::json;
use tonnage::cloud::Cloud;
use tonnage::cloud::catalogue::{self, Terms};
use tonnage::cloud::class::{self, ClassDefaults};
use tonnage::cloud::settings::{CloudSettings, OnDemandStrategy, SpotStrategy};
use tonnage::model::launch::ErrorClass;
use tonnage::model::node_class::Accelerator;
use tonnage::model::offering::{CapacityType, Catalogue};
use tonnage::sim::ec2::market::Weather;
use tonnage::sim::faults::CallFault;

use crate::endpoint::Endpoint;
use crate::scene::{Scene, claim, class, facts};
use crate::waiting::eventually;

/// What the region sells at the moment, without the wire between.
fn sold(endpoint: &Endpoint) -> Catalogue {
    let class = class(&json!({}));
    let settings = class::read(&class.spec, ClassDefaults::default()).unwrap();
    let images = ["amd64", "arm64"]
        .map(|architecture| (architecture.to_owned(), Accelerator::all()))
        .into();
    let zones = Endpoint::ZONES.map(|zone| (zone.to_owned(), false)).into();
    let terms = Terms::of(&settings, images, zones);
    catalogue::build(&endpoint.ec2.markets().at(endpoint.clock.now()), &terms)
}

#[tokio::test]
async fn the_catalogue_read_over_the_wire_is_the_regions_own_and_follows_its_prices() {
    let scene = Scene::at(Endpoint::begin_in(Weather::USUAL), "catalogue").await;
    let class = class(&json!({}));
    let first = scene.resolved(&class).await.catalogue;
    let expected = sold(&scene.endpoint);
    assert_eq!(first.types, expected.types);
    assert_eq!(first.offerings, expected.offerings);
    // Prices change every ten minutes and are read every five.
    tokio::time::advance(Duration::from_secs(4_100)).await;
    let now = sold(&scene.endpoint).offerings;
    assert_ne!(now, first.offerings);
    eventually("the new prices were read", 310, async || {
        let later = scene.resolved(&class).await.catalogue;
        if later.offerings == now {
            Ok(())
        } else {
            Err("others are in use".to_owned())
        }
    })
    .await;
    scene.end().await;
}

#[tokio::test]
async fn in_a_shortage_storm_the_launch_gets_what_there_is_and_names_the_rest() {
    let scene = Scene::new("storm").await;
    scene.endpoint.ec2.storm(880);
    let class = class(&json!({}));
    let catalogue = scene.resolved(&class).await.catalogue;
    let offerings: Vec<String> = catalogue
        .offerings
        .iter()
        .map(|offering| &offering.key)
        .filter(|key| key.capacity_type == CapacityType::Spot)
        .filter(|key| {
            ["c5.xlarge", "c6i.xlarge", "m5.xlarge", "r5.xlarge"].contains(&&*key.instance_type)
        })
        .map(ToString::to_string)
        .collect();
    let texts: Vec<&str> = offerings.iter().map(String::as_str).collect();
    let record = scene.record(&class, 5, &texts).await;
    let outcome = scene.launch(&record, &class).await;
    assert_eq!(outcome.instances.len(), 5, "{:?}", outcome.shortfalls);
    let bought: BTreeSet<_> = outcome.instances.iter().map(|one| &one.offering).collect();
    for shortfall in &outcome.shortfalls {
        assert_eq!(shortfall.class, ErrorClass::InsufficientCapacity);
        assert!(!bought.contains(shortfall.offering.as_ref().unwrap()));
    }
    scene.end().await;
}

#[tokio::test]
async fn strategies_decide_what_is_bought() {
    let scene = Scene::at(Endpoint::begin_in(Weather::USUAL), "strategies").await;
    let class = class(&json!({}));
    let base = CloudSettings::new(facts(&scene.cluster));
    let plan = [
        "c5.4xlarge/us-east-1a/on-demand",
        "c5.xlarge/us-east-1b/on-demand",
    ];
    for (strategy, batch, expected) in [
        (OnDemandStrategy::LowestPrice, "lowest", plan[1]),
        (OnDemandStrategy::Prioritized, "prioritized", plan[0]),
    ] {
        let settings = CloudSettings {
            on_demand_strategy: strategy,
            ..base.clone()
        };
        let cloud = scene.connect(settings).await;
        let mut record = scene.record(&class, 1, &plan).await;
        batch.clone_into(&mut record.batch);
        let outcome = cloud.launch(&record, &claim(), &class).await.unwrap();
        assert_eq!(outcome.instances[0].offering.to_string(), expected);
    }
    let pools: Vec<String> = Endpoint::ZONES
        .iter()
        .map(|zone| format!("c5.xlarge/{zone}/spot"))
        .collect();
    let texts: Vec<&str> = pools.iter().map(String::as_str).collect();
    let markets = scene.endpoint.ec2.markets();
    let now = scene.endpoint.clock.now();
    let keys: Vec<_> = pools.iter().map(|pool| pool.parse().unwrap()).collect();
    let deepest = keys
        .iter()
        .map(|key| markets.room(key, now, 0))
        .max()
        .unwrap();
    let cheapest = keys
        .iter()
        .filter_map(|key| markets.price(key, now))
        .min()
        .unwrap();
    for strategy in [SpotStrategy::CapacityOptimized, SpotStrategy::LowestPrice] {
        let settings = CloudSettings {
            spot_strategy: strategy,
            ..base.clone()
        };
        let cloud = scene.connect(settings).await;
        let mut record = scene.record(&class, 1, &texts).await;
        strategy.as_str().clone_into(&mut record.batch);
        let outcome = cloud.launch(&record, &claim(), &class).await.unwrap();
        let bought = &outcome.instances[0].offering;
        if strategy == SpotStrategy::LowestPrice {
            assert_eq!(markets.price(bought, now), Some(cheapest));
        } else {
            assert_eq!(markets.room(bought, now, 0), deepest);
        }
    }
    scene.end().await;
}

#[tokio::test]
async fn a_fleet_that_falls_short_is_completed_by_a_new_attempt_and_never_doubled() {
    let scene = Scene::new("short").await;
    let class = class(&json!({}));
    let mut record = scene
        .record(&class, 5, &["c5.xlarge/us-east-1a/spot"])
        .await;
    scene
        .endpoint
        .rules
        .add("CreateFleet", 0, 1, CallFault::Short(2));
    let outcome = scene.launch(&record, &class).await;
    assert_eq!(outcome.instances.len(), 2);
    assert_eq!(outcome.shortfalls.len(), 1);
    // The same record is the same fleet, although there is capacity now.
    let again = scene.launch(&record, &class).await;
    assert_eq!(again, outcome);
    record.attempt = 2;
    record.size = 3;
    let rest = scene.launch(&record, &class).await;
    assert_eq!(rest.instances.len(), 3);
    assert_eq!(scene.alive().await.len(), 5);
    scene.end().await;
}

#[tokio::test]
async fn a_thousand_machines_are_bought_listed_and_ended_without_one_too_many() {
    let scene = Scene::new("thousand").await;
    let class = class(&json!({}));
    let mut record = scene
        .record(&class, 100, &["c5.xlarge/us-east-1a/on-demand"])
        .await;
    let mut ids = BTreeSet::new();
    for batch in 0..10 {
        record.batch = format!("batch-{batch}");
        // Every second answer is lost: the record is repeated until there is one.
        if batch % 2 == 1 {
            scene
                .endpoint
                .rules
                .add("CreateFleet", 0, 1, CallFault::AnswerLost);
        }
        let outcome = loop {
            match scene.cloud.launch(&record, &claim(), &class).await {
                Ok(outcome) => break outcome,
                Err(error) => assert_eq!(error.class, ErrorClass::Transient, "{error}"),
            }
        };
        ids.extend(outcome.instances.into_iter().map(|instance| instance.id));
    }
    assert_eq!(ids.len(), 1_000);
    assert_eq!(scene.alive().await, ids);
    let all: Vec<String> = ids.into_iter().collect();
    for portion in all.chunks(tonnage::cloud::MOST_TERMINATED) {
        scene.cloud.terminate(portion).await.unwrap();
    }
    assert_eq!(scene.endpoint.ec2.alive().len(), 0);
    assert_eq!(scene.endpoint.ec2.machines().len(), 1_000);
    scene.end().await;
}
