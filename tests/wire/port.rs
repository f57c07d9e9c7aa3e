//! The region on a loopback port, in real time: the SDK comes over its own HTTP client.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::json;
use tokio_util::sync::CancellationToken;
use tonnage::cloud::ec2::Ec2Cloud;
use tonnage::cloud::{Cloud, InstanceQuery};
use tonnage::model::launch::LaunchRecord;
use tonnage::model::offering::CapacityType;
use tonnage::sim::ec2::market::Weather;
use tonnage::sim::ec2::wire;
use tonnage::sim::ec2::wire::server::{ServeError, listen, serve};
use tonnage::world::SystemClock;

use crate::endpoint::{Endpoint, credentials, in_region};
use crate::scene::{claim, class, settings};

#[tokio::test]
async fn machines_are_bought_listed_and_ended_over_a_port() {
    let region = Endpoint::at_the_time_of(Arc::new(SystemClock), Weather::CALM);
    let listener = listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let stop = CancellationToken::new();
    let endpoint = wire::Endpoint::new(&region.ec2, "adapter", "demo");
    let serving = tokio::spawn(serve(listener, endpoint, stop.clone().cancelled_owned()));
    let world = region.world();
    let settings = in_region(settings("port"));
    let cloud = Ec2Cloud::connect_with(settings, world.clone(), |loader| {
        loader
            .endpoint_url(address)
            .credentials_provider(credentials())
    })
    .await
    .unwrap();
    // IAM, SSM and EC2 are asked over the one port.
    let class = class(&json!({
        "instanceProfile": null, "role": "node",
        "amiFamily": null, "amiSelectorTerms": [{ "alias": "al2023@latest" }],
    }));
    cloud.keep_profile(&class).await.unwrap();
    assert_eq!(region.ec2.profiles(), [cloud.profile_of(&class)]);
    let resolved = cloud.resolve(&class).await.unwrap().class;
    let keys = ["c5.xlarge/us-east-1a/spot".parse().unwrap()];
    let templates = cloud
        .prepare(&class, &resolved, &claim(), &keys)
        .await
        .unwrap();
    let record = LaunchRecord {
        batch: "port".to_owned(),
        attempt: 1,
        size: 2,
        capacity_type: CapacityType::Spot,
        reservation: None,
        templates,
    };
    let outcome = cloud.launch(&record, &claim(), &class).await.unwrap();
    let bought: BTreeSet<String> = outcome.instances.into_iter().map(|one| one.id).collect();
    assert_eq!(bought.len(), 2);
    let listed = cloud.instances(&InstanceQuery::All).await.unwrap();
    let listed: BTreeSet<String> = listed.into_iter().map(|one| one.id).collect();
    assert_eq!(listed, bought);
    let bought: Vec<String> = bought.into_iter().collect();
    cloud.terminate(&bought).await.unwrap();
    assert!(region.ec2.alive().is_empty());
    world.shut_down().await;
    drop(cloud);
    stop.cancel();
    serving.await.unwrap().unwrap();
}

#[tokio::test]
async fn others_than_loopback_and_taken_ports_are_refused() {
    let error = listen("192.0.2.1:80".parse().unwrap()).await.unwrap_err();
    assert!(matches!(error, ServeError::NotLoopback(_)), "{error}");
    let first = listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let error = listen(first.local_addr().unwrap()).await.unwrap_err();
    assert!(matches!(error, ServeError::Listen { .. }), "{error}");
}
