//! Addresses of subnets: what is left of them, and where a batch goes on when one is full.

use serde_json::json;
use tonnage::api::node_class::EC2NodeClass;
use tonnage::cloud::Cloud;
use tonnage::model::launch::{ErrorClass, LaunchRecord, NO_FREE_ADDRESS};
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

/// Where a launch of one machine goes.
async fn next_subnet(scene: &Scene, class: &EC2NodeClass, attempt: u32) -> (LaunchRecord, String) {
    let mut record = scene.record(class, 1, &[OFFERING]).await;
    record.attempt = attempt;
    let subnet = record.templates[0].overrides[0].subnet.clone();
    (record, subnet)
}

#[tokio::test]
async fn prefixes_count_as_the_addresses_that_they_are() {
    let endpoint = Endpoint::begin().await;
    endpoint.ec2.set_subnet(subnet("subnet-a", 40));
    endpoint.ec2.set_subnet(subnet("subnet-sister", 33));
    let scene = Scene::at(endpoint, "prefixes").await;
    let class = class(&json!({ "ipPrefixCount": 1 }));
    let mut places = Vec::new();
    for attempt in 1..=3 {
        let (record, subnet) = next_subnet(&scene, &class, attempt).await;
        assert_eq!(scene.launch(&record, &class).await.shortfalls, []);
        places.push(subnet);
    }
    // A machine takes 17: 40, 33 and 23 are the most that is left.
    assert_eq!(places, ["subnet-a", "subnet-sister", "subnet-a"]);
    // Six and sixteen are left: that is no room, in neither.
    let (record, _subnet) = next_subnet(&scene, &class, 4).await;
    let none = scene.launch(&record, &class).await;
    assert_eq!(none.instances, []);
    assert_eq!(none.shortfalls[0].code, NO_FREE_ADDRESS);
    assert_eq!(none.shortfalls[0].class, ErrorClass::InsufficientCapacity);
    scene.end().await;
}

#[tokio::test]
async fn what_one_class_takes_of_a_subnet_is_known_to_the_others() {
    let endpoint = Endpoint::begin().await;
    endpoint.ec2.set_subnet(subnet("subnet-a", 10));
    endpoint.ec2.set_subnet(subnet("subnet-sister", 9));
    let scene = Scene::at(endpoint, "shared").await;
    let first = class(&json!({}));
    let mut second = class(&json!({ "tags": { "team": "other" } }));
    second.metadata.name = Some("other".to_owned());
    second.metadata.uid = Some("other-uid".to_owned());
    let (record, subnet) = next_subnet(&scene, &first, 1).await;
    assert_eq!(subnet, "subnet-a");
    scene.launch(&record, &first).await;
    let (record, subnet) = next_subnet(&scene, &first, 2).await;
    assert_eq!(subnet, "subnet-a", "the first of equals");
    scene.launch(&record, &first).await;
    // Whoever has the subnet counted anew says nothing of what the first class knew before.
    let (_record, subnet) = next_subnet(&scene, &second, 1).await;
    assert_eq!(subnet, "subnet-sister");
    let (_record, subnet) = next_subnet(&scene, &first, 3).await;
    assert_eq!(subnet, "subnet-sister");
    scene.end().await;
}
