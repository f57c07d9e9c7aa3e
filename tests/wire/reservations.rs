//! Capacity reservations: which of the account's a node class selects.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use tonnage::cloud::Cloud;
use tonnage::cloud::reservations::Described;
use tonnage::model::reservation::ReservationKind;

use crate::endpoint::Endpoint;
use crate::scene::{Scene, class};

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
