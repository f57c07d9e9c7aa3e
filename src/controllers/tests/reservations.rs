//! Capacity reservations that a node class selects.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::Stage;
use crate::cloud::reservations::Described;
use crate::model::reservation::ReservationKind;
use crate::sim::api_server::Resource;

impl Stage {
    /// Reserves so many machines of the size that the pods need.
    fn reserve(&self, id: &str, total: u32) {
        self.world.ec2.reserve(Described {
            id: id.to_owned(),
            owner: "123456789012".to_owned(),
            instance_type: "c5.xlarge".to_owned(),
            zone: "us-east-1a".to_owned(),
            matching: "targeted".to_owned(),
            kind: ReservationKind::Standard,
            interruptible: false,
            ends: None,
            total,
            free: 0,
            tags: BTreeMap::new(),
        });
    }

    /// Lets the node class select reservations.
    fn select(&self, terms: &Value) {
        self.change(Resource::NodeClass, "default", |class| {
            class["spec"]["capacityReservationSelectorTerms"] = terms.clone();
        });
    }

    fn condition(&self, type_: &str) -> Value {
        let class = self.all(Resource::NodeClass).remove(0);
        let conditions = class["status"]["conditions"].as_array().cloned();
        let mut found = conditions.unwrap_or_default().into_iter();
        found
            .find(|condition| condition["type"] == type_)
            .unwrap_or_default()
    }
}

#[tokio::test(start_paused = true)]
async fn the_status_lists_what_is_selected_and_names_terms_that_select_nothing() {
    let stage = Stage::new();
    stage.reserve("cr-1", 2);
    stage.select(&json!([{ "id": "cr-1" }, { "tags": { "team": "data" } }]));
    let _process = stage.run();
    stage
        .until(30, "the class is resolved", |stage| {
            stage.condition("CapacityReservationsReady")["status"] == "True"
        })
        .await;
    let said = stage.condition("CapacityReservationsReady");
    assert_eq!(said["reason"], "TermMatchesNothing");
    let message = said["message"].as_str().unwrap();
    assert!(message.contains("[1] (tag team=data)"), "{message}");
    let listed = stage.all(Resource::NodeClass)[0]["status"]["capacityReservations"].clone();
    assert_eq!(
        listed,
        json!([{
            "id": "cr-1", "availabilityZone": "us-east-1a", "instanceType": "c5.xlarge",
            "instanceMatchCriteria": "targeted", "ownerID": "123456789012",
            "reservationType": "default", "state": "active",
        }])
    );
    assert_eq!(stage.condition("Ready")["status"], "True");
}
