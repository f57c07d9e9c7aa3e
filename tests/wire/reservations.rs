//! Capacity reservations: which of the account's a node class selects.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use tonnage::api::node_class::EC2NodeClass;
use tonnage::cloud::reservations::Described;
use tonnage::cloud::{Cloud, InstanceQuery};
use tonnage::model::claim::Claim;
use tonnage::model::launch::{ErrorClass, LaunchRecord};
use tonnage::model::offering::CapacityType;
use tonnage::model::reservation::ReservationKind;

use crate::endpoint::Endpoint;
use crate::scene::{Scene, claim, class};

/// A reservation for machines of c5.xlarge in us-east-1a.
fn reservation(id: &str, total: u32) -> Described {
    Described {
        id: id.to_owned(),
        owner: "123456789012".to_owned(),
        instance_type: "c5.xlarge".to_owned(),
        zone: "us-east-1a".to_owned(),
        matching: "open".to_owned(),
        total,
        tags: BTreeMap::from([("team".to_owned(), "data".to_owned())]),
        ..Described::default()
    }
}

fn hours_after(at: Timestamp, hours: i64) -> Option<Timestamp> {
    at.checked_add(SignedDuration::from_hours(hours)).ok()
}

#[tokio::test]
async fn a_class_has_the_reservations_that_its_terms_select() {
    let endpoint = Endpoint::begin().await;
    let now = endpoint.clock.now();
    endpoint.ec2.reserve(reservation("cr-1", 3));
    endpoint.ec2.reserve(Described {
        kind: ReservationKind::CapacityBlock,
        matching: "targeted".to_owned(),
        ends: hours_after(now, 2),
        tags: BTreeMap::new(),
        ..reservation("cr-2", 2)
    });
    endpoint.ec2.reserve(Described {
        ends: hours_after(now, 0),
        ..reservation("cr-ended", 2)
    });
    let scene = Scene::at(endpoint, "reservations").await;
    assert_eq!(
        scene.resolved(&class(&json!({}))).await.reservations,
        [],
        "a class without terms has none"
    );
    assert_eq!(
        scene.endpoint.calls("DescribeCapacityReservations").await,
        0
    );

    let mut selecting = class(&json!({ "capacityReservationSelectorTerms": [
        { "tags": { "team": "data" } },
        { "id": "cr-2" },
        { "id": "cr-gone" },
    ] }));
    selecting.metadata.generation = Some(2);
    let resolution = scene.cloud.resolve(&selecting).await.unwrap();
    let remark = &resolution.remarks["CapacityReservationsReady"];
    assert!(
        remark.message.contains("[2] (id cr-gone)"),
        "{}",
        remark.message
    );
    assert!(resolution.class.ready, "no reservation is needed");
    let found = &resolution.class.reservations;
    let ids: Vec<&str> = found.iter().map(|found| found.id.as_str()).collect();
    assert_eq!(ids, ["cr-1", "cr-2"]);
    assert_eq!(
        found[0].offering.key.to_string(),
        "c5.xlarge/us-east-1a/reserved"
    );
    assert!(found.iter().all(|found| found.offering.available));
    assert_eq!((found[0].total, found[0].free, found[0].ends), (3, 3, None));
    assert_eq!(found[1].kind, ReservationKind::CapacityBlock);
    assert_eq!(found[1].matching, "targeted");
    assert_eq!(
        found[1].ends,
        hours_after(now, 2).map(|ends| ends.round(jiff::Unit::Second).unwrap())
    );
    scene.end().await;
}

#[tokio::test]
async fn a_refused_look_at_reservations_names_the_permission() {
    let scene = Scene::new("unreserved").await;
    let refusal = json!({ "status": 403, "code": "UnauthorizedOperation" });
    scene
        .endpoint
        .fault("DescribeCapacityReservations", "error", 2, refusal)
        .await;
    let terms = json!([{ "id": "cr-1" }]);
    let selecting = class(&json!({ "capacityReservationSelectorTerms": terms }));
    let resolution = scene.cloud.resolve(&selecting).await.unwrap();
    let said = &resolution.remarks["CapacityReservationsReady"].message;
    assert!(
        said.contains("allow ec2:DescribeCapacityReservations"),
        "{said}"
    );
    assert!(
        resolution.class.ready,
        "it makes other machines all the same"
    );
    assert!(resolution.class.reservations.is_empty());
    scene.end().await;
}

/// A claim for a reservation of such a kind.
fn placed(kind: &str) -> Claim {
    let mut claim = claim();
    for (key, value) in [("id", "cr-1"), ("type", kind)] {
        let label = format!("karpenter.k8s.aws/capacity-reservation-{key}");
        Arc::make_mut(&mut claim.labels).insert(label, value.to_owned());
    }
    claim
}

/// A record for so many machines of such a capacity type, of a class that selects the reservation.
async fn record(scene: &Scene, claim: &Claim, bought_as: CapacityType, size: u32) -> LaunchRecord {
    let selecting = selecting();
    let resolved = scene.resolved(&selecting).await;
    let offering = format!("c5.xlarge/us-east-1a/{bought_as}");
    let offerings = [offering.parse().unwrap()];
    let prepared = scene
        .cloud
        .prepare(&selecting, &resolved, claim, &offerings);
    LaunchRecord {
        batch: format!("batch-{bought_as}"),
        attempt: 1,
        size,
        capacity_type: bought_as,
        reservation: None,
        templates: prepared.await.unwrap(),
    }
}

fn selecting() -> EC2NodeClass {
    let terms = json!([{ "id": "cr-1" }]);
    class(&json!({ "capacityReservationSelectorTerms": terms }))
}

#[tokio::test]
async fn machines_are_launched_into_the_reservation_that_the_claim_names() {
    let endpoint = Endpoint::begin().await;
    endpoint.ec2.reserve(reservation("cr-1", 2));
    let scene = Scene::at(endpoint, "in-reservation").await;
    let (selecting, placed) = (selecting(), placed("default"));
    let record = record(&scene, &placed, CapacityType::Reserved, 3).await;
    let launch = async || {
        let launched = scene.cloud.launch(&record, &placed, &selecting).await;
        launched.unwrap()
    };
    let outcome = launch().await;
    assert_eq!(
        outcome,
        launch().await,
        "a repeated record launches nothing twice"
    );
    let reserved = "c5.xlarge/us-east-1a/reserved";
    let bought = outcome.instances.iter();
    let bought: Vec<String> = bought.map(|bought| bought.offering.to_string()).collect();
    assert_eq!(bought, [reserved; 2]);
    let [shortfall] = outcome.shortfalls.as_slice() else {
        panic!("{:?}", outcome.shortfalls);
    };
    assert_eq!(shortfall.code, "ReservationCapacityExceeded");
    assert_eq!(shortfall.class, ErrorClass::InsufficientCapacity);
    let short = shortfall.offering.as_ref().map(ToString::to_string);
    assert_eq!(short.as_deref(), Some(reserved));
    scene.end().await;
}

#[tokio::test]
async fn slots_are_counted_and_no_other_machine_is_placed_in_one() {
    let endpoint = Endpoint::begin().await;
    endpoint.ec2.reserve(reservation("cr-1", 2));
    let scene = Scene::at(endpoint, "counted").await;
    let selecting = selecting();
    for (claim, bought_as, size) in [
        (placed("default"), CapacityType::Reserved, 2),
        (claim(), CapacityType::OnDemand, 3),
    ] {
        let record = record(&scene, &claim, bought_as, size).await;
        let launched = scene.cloud.launch(&record, &claim, &selecting).await;
        assert_eq!(launched.unwrap().shortfalls, []);
    }
    let listed = scene.cloud.instances(&InstanceQuery::All).await.unwrap();
    let mut bought_as: Vec<CapacityType> = listed
        .iter()
        .map(|listed| listed.offering.capacity_type)
        .collect();
    bought_as.sort();
    let (reserved, on_demand) = (CapacityType::Reserved, CapacityType::OnDemand);
    assert_eq!(
        bought_as,
        [reserved, reserved, on_demand, on_demand, on_demand]
    );
    let counted = async || {
        let fresh = scene.restarted().await;
        let resolution = fresh.resolve(&selecting).await.unwrap();
        let found = &resolution.class.reservations[0];
        (found.total, found.free)
    };
    assert_eq!(counted().await, (2, 0));
    let ids: Vec<String> = listed.into_iter().map(|listed| listed.id).collect();
    scene.cloud.terminate(&ids).await.unwrap();
    assert_eq!(counted().await, (2, 2));
    scene.end().await;
}

#[tokio::test]
async fn machines_of_a_capacity_block_are_launched_as_such_and_end_with_it() {
    let endpoint = Endpoint::begin().await;
    let ends = hours_after(endpoint.clock.now(), 1);
    endpoint.ec2.reserve(Described {
        kind: ReservationKind::CapacityBlock,
        ends,
        ..reservation("cr-1", 1)
    });
    let scene = Scene::at(endpoint, "in-block").await;
    let placed = placed("capacity-block");
    let record = record(&scene, &placed, CapacityType::Reserved, 1).await;
    let launched = scene.cloud.launch(&record, &placed, &selecting()).await;
    let outcome = launched.unwrap();
    assert_eq!(outcome.shortfalls, []);
    let of_id = InstanceQuery::Ids([outcome.instances[0].id.clone()].into());
    let listed = scene.cloud.instances(&of_id).await.unwrap();
    assert_eq!(listed[0].offering.capacity_type, CapacityType::Reserved);
    for (minutes, running) in [(29, 1), (2, 0)] {
        tokio::time::advance(std::time::Duration::from_mins(minutes)).await;
        scene.endpoint.ec2.pass_minute();
        assert_eq!(scene.endpoint.ec2.alive().len(), running, "{minutes}");
    }
    scene.end().await;
}

#[tokio::test]
async fn a_machine_whose_reservation_is_over_is_on_demand() {
    let endpoint = Endpoint::begin().await;
    endpoint.ec2.reserve(reservation("cr-1", 1));
    let scene = Scene::at(endpoint, "over").await;
    let placed = placed("default");
    let record = record(&scene, &placed, CapacityType::Reserved, 1).await;
    let launched = scene.cloud.launch(&record, &placed, &selecting()).await;
    let id = launched.unwrap().instances.remove(0).id;
    let bought_as = async || scene.one(&id).await.offering.capacity_type;
    assert_eq!(bought_as().await, CapacityType::Reserved);
    scene.endpoint.ec2.cancel_reservation("cr-1");
    assert_eq!(bought_as().await, CapacityType::OnDemand);
    scene.end().await;
}
