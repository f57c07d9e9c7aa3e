//! Addresses of subnets: what is left of them, and where a batch goes on when one is full.

use serde_json::json;
use tonnage::cloud::Cloud;
use tonnage::model::launch::{ErrorClass, NO_FREE_ADDRESS};
use tonnage::model::node_class::Subnet;

use crate::endpoint::Endpoint;
use crate::scene::{Scene, class};

const OFFERING: &str = "c5.xlarge/us-east-1a/on-demand";

fn subnet(id: &str, free_addresses: i64) -> Subnet {
    Subnet {
        id: id.to_owned(),
        zone: "us-east-1a".to_owned(),
        zone_id: "use1-az1".to_owned(),
        free_addresses,
    }
}

#[tokio::test]
async fn a_batch_goes_on_in_the_sister_of_a_full_subnet() {
    let endpoint = Endpoint::begin().await;
    endpoint.ec2.set_subnet(subnet("subnet-a", 2));
    endpoint.ec2.set_subnet(subnet("subnet-sister", 1));
    let scene = Scene::at(endpoint, "sister").await;
    let class = class(&json!({}));
    let mut record = scene.record(&class, 3, &[OFFERING]).await;
    let first = scene.launch(&record, &class).await;
    assert_eq!(first.instances.len(), 2);
    assert!(
        first
            .instances
            .iter()
            .all(|bought| bought.subnet_id == "subnet-a")
    );
    let [shortfall] = first.shortfalls.as_slice() else {
        panic!("{:?}", first.shortfalls);
    };
    assert_eq!(shortfall.code, NO_FREE_ADDRESS);
    assert_eq!(shortfall.class, ErrorClass::Transient, "nothing is short");
    record = scene.record(&class, 1, &[OFFERING]).await;
    record.attempt = 2;
    let rest = scene.launch(&record, &class).await;
    assert_eq!(rest.shortfalls, []);
    assert_eq!(rest.instances[0].subnet_id, "subnet-sister");
    // Now the zone is full, and the class leaves the offering alone.
    record = scene.record(&class, 1, &[OFFERING]).await;
    record.attempt = 3;
    let none = scene.launch(&record, &class).await;
    assert_eq!(none.instances, []);
    assert_eq!(none.shortfalls[0].class, ErrorClass::InsufficientCapacity);
    scene.end().await;
}

#[tokio::test]
async fn addresses_are_counted_and_come_back_with_the_machines() {
    let endpoint = Endpoint::begin().await;
    endpoint.ec2.set_subnet(subnet("subnet-a", 10));
    let scene = Scene::at(endpoint, "addresses").await;
    let class = class(&json!({}));
    let record = scene.record(&class, 4, &[OFFERING]).await;
    let outcome = scene.launch(&record, &class).await;
    let free = async || {
        let fresh = scene.restarted().await;
        let resolution = fresh.resolve(&class).await.unwrap();
        resolution.class.subnets["us-east-1a"][0].free_addresses
    };
    assert_eq!(free().await, 6);
    let ids: Vec<String> = outcome
        .instances
        .into_iter()
        .map(|bought| bought.id)
        .collect();
    scene.cloud.terminate(&ids).await.unwrap();
    assert_eq!(free().await, 10);
    scene.end().await;
}
