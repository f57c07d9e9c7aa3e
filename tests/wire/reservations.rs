//! Capacity reservations: which of the account's a node class selects.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde_json::json;
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
        kind: ReservationKind::Standard,
        interruptible: false,
        ends: None,
        total,
        free: 0,
        tags: BTreeMap::from([("team".to_owned(), "data".to_owned())]),
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
    let error = scene.cloud.resolve(&selecting).await.unwrap_err();
    assert!(
        error
            .message
            .contains("allow ec2:DescribeCapacityReservations"),
        "{error}"
    );
    scene.end().await;
}

#[tokio::test]
async fn machines_are_launched_into_the_reservation_that_the_claim_names() {
    let endpoint = Endpoint::begin().await;
    endpoint.ec2.reserve(reservation("cr-1", 2));
    let scene = Scene::at(endpoint, "in-reservation").await;
    let terms = json!([{ "id": "cr-1" }]);
    let selecting = class(&json!({ "capacityReservationSelectorTerms": terms }));
    let resolved = scene.resolved(&selecting).await;
    let label = "karpenter.k8s.aws/capacity-reservation-id".to_owned();
    let mut placed = claim();
    placed.labels.insert(label, "cr-1".to_owned());
    let prepared = async |claim: &Claim, capacity_type: CapacityType| LaunchRecord {
        batch: format!("batch-{capacity_type}"),
        attempt: 1,
        size: 3,
        capacity_type,
        templates: {
            let offering = format!("c5.xlarge/us-east-1a/{capacity_type}");
            let offerings = [offering.parse().unwrap()];
            let prepared = scene
                .cloud
                .prepare(&selecting, &resolved, claim, &offerings);
            prepared.await.unwrap()
        },
    };
    let record = prepared(&placed, CapacityType::Reserved).await;
    let outcome = scene
        .cloud
        .launch(&record, &placed, &selecting)
        .await
        .unwrap();
    let again = scene
        .cloud
        .launch(&record, &placed, &selecting)
        .await
        .unwrap();
    assert_eq!(outcome, again, "a repeated record launches nothing twice");
    let bought = outcome
        .instances
        .iter()
        .map(|bought| bought.offering.to_string());
    assert_eq!(
        bought.collect::<Vec<_>>(),
        ["c5.xlarge/us-east-1a/reserved"; 2]
    );
    let [shortfall] = outcome.shortfalls.as_slice() else {
        panic!("{:?}", outcome.shortfalls);
    };
    assert_eq!(shortfall.code, "ReservationCapacityExceeded");
    assert_eq!(shortfall.class, ErrorClass::InsufficientCapacity);
    assert_eq!(
        shortfall
            .offering
            .as_ref()
            .map(ToString::to_string)
            .as_deref(),
        Some("c5.xlarge/us-east-1a/reserved")
    );

    let beside = prepared(&claim(), CapacityType::OnDemand).await;
    let outcome = scene
        .cloud
        .launch(&beside, &claim(), &selecting)
        .await
        .unwrap();
    assert_eq!(outcome.instances.len(), 3);
    let listed = scene.cloud.instances(&InstanceQuery::All).await.unwrap();
    let count = |capacity_type: CapacityType| {
        let mut all = listed.iter().map(|listed| listed.offering.capacity_type);
        all.by_ref().filter(|found| *found == capacity_type).count()
    };
    assert_eq!(
        (count(CapacityType::Reserved), count(CapacityType::OnDemand)),
        (2, 3)
    );
    let fresh = scene.restarted().await;
    let counted = fresh.resolve(&selecting).await.unwrap().class.reservations;
    assert_eq!((counted[0].total, counted[0].free), (2, 0));
    let ids: Vec<String> = listed.into_iter().map(|listed| listed.id).collect();
    scene.cloud.terminate(&ids).await.unwrap();
    let emptied = scene.restarted().await.resolve(&selecting).await.unwrap();
    assert_eq!(emptied.class.reservations[0].free, 2);
    scene.end().await;
}
