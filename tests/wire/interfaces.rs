//! Network interfaces: EFA where pods ask for it, and those that a class lists.

use serde_json::json;
use tonnage::api::node_class::EC2NodeClass;
use tonnage::cloud::Cloud;
use tonnage::model::claim::Claim;
use tonnage::model::launch::{ErrorClass, LaunchRecord};
use tonnage::model::offering::{CapacityType, OfferingKey};
use tonnage::model::resources::EFA;

use crate::scene::{Scene, claim, class};

fn asking(devices: i64) -> Claim {
    let mut claim = claim();
    claim.requests.set(EFA, devices);
    claim
}

/// An offering of a type, wherever the class can buy it on demand.
async fn offering(scene: &Scene, class: &EC2NodeClass, instance_type: &str) -> Option<OfferingKey> {
    let resolved = scene.resolved(class).await;
    let mut keys = resolved
        .catalogue
        .offerings
        .iter()
        .map(|offering| &offering.key);
    keys.find(|key| {
        &*key.instance_type == instance_type && key.capacity_type == CapacityType::OnDemand
    })
    .cloned()
}

/// How many devices a machine has that is launched for a claim.
async fn devices(scene: &Scene, class: &EC2NodeClass, claim: &Claim, instance_type: &str) -> i64 {
    let key = offering(scene, class, instance_type).await.unwrap();
    let resolved = scene.resolved(class).await;
    let offerings = [key];
    let prepared = scene.cloud.prepare(class, &resolved, claim, &offerings);
    let record = LaunchRecord {
        batch: format!("batch-{instance_type}-{}", claim.requests.get(EFA)),
        attempt: 1,
        size: 1,
        capacity_type: CapacityType::OnDemand,
        reservation: None,
        templates: prepared.await.unwrap(),
    };
    let outcome = scene.cloud.launch(&record, claim, class).await.unwrap();
    assert_eq!(outcome.shortfalls, []);
    scene
        .endpoint
        .ec2
        .efa_devices(&outcome.instances[0].id)
        .unwrap()
}

#[tokio::test]
async fn machines_have_efa_when_their_claim_asks_for_it_and_not_before() {
    let scene = Scene::new("efa").await;
    let class = class(&json!({}));
    assert_eq!(
        devices(&scene, &class, &asking(0), "g4dn.12xlarge").await,
        0
    );
    assert_eq!(
        devices(&scene, &class, &asking(1), "g4dn.12xlarge").await,
        1
    );
    assert_eq!(
        devices(&scene, &class, &asking(1), "p4d.24xlarge").await,
        4,
        "a card each"
    );
    scene.end().await;
}

#[tokio::test]
async fn listed_interfaces_are_on_every_machine_and_only_where_there_is_room() {
    let scene = Scene::new("listed").await;
    let listing = class(&json!({ "networkInterfaces": [
        { "networkCardIndex": 0, "deviceIndex": 0, "interfaceType": "interface" },
        { "networkCardIndex": 1, "deviceIndex": 1, "interfaceType": "efa-only" },
    ] }));
    assert_eq!(offering(&scene, &listing, "c5.xlarge").await, None);
    assert_eq!(
        devices(&scene, &listing, &asking(0), "p4d.24xlarge").await,
        1
    );
    let mut public = listing.clone();
    public.metadata.generation = Some(2);
    public.spec.associate_public_ip_address = Some(true);
    let resolution = scene.cloud.resolve(&public).await.unwrap();
    assert!(
        resolution
            .class
            .not_ready
            .contains("spec.associatePublicIPAddress"),
        "{}",
        resolution.class.not_ready
    );
    scene.end().await;
}

#[tokio::test]
async fn ec2_refuses_interfaces_on_types_that_have_no_place_for_them() {
    let scene = Scene::new("no-place").await;
    let class = class(&json!({}));
    let asking = asking(1);
    let key = offering(&scene, &class, "g4dn.12xlarge").await.unwrap();
    let resolved = scene.resolved(&class).await;
    let offerings = [key];
    let prepared = scene.cloud.prepare(&class, &resolved, &asking, &offerings);
    let mut record = LaunchRecord {
        batch: "no-place".to_owned(),
        attempt: 1,
        size: 1,
        capacity_type: CapacityType::OnDemand,
        reservation: None,
        templates: prepared.await.unwrap(),
    };
    // As if a plan had taken a type for one with EFA that has none.
    for template in &mut record.templates {
        for choice in &mut template.overrides {
            "c5.xlarge".clone_into(&mut choice.instance_type);
        }
    }
    let outcome = scene.cloud.launch(&record, &asking, &class).await.unwrap();
    assert_eq!(outcome.instances, []);
    assert_eq!(outcome.shortfalls[0].class, ErrorClass::Invalid);
    assert_eq!(outcome.shortfalls[0].code, "InvalidParameterCombination");
    scene.end().await;
}
