//! Capacity reservations that a node class selects.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{Stage, ids};
use crate::cloud::reservations::Described;
use crate::model::offering::CapacityType;
use crate::model::reservation::ReservationKind;
use crate::sim::Process;
use crate::sim::api_server::Resource;

/// A reservation of so many machines of the size that the pods need.
pub(super) fn described(id: &str, total: u32) -> Described {
    Described {
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
    }
}

impl Stage {
    /// Reserves so many machines.
    fn reserve(&self, id: &str, total: u32) {
        self.world.ec2.reserve(described(id, total));
    }

    /// Lets the node class select reservations.
    fn select(&self, terms: &Value) {
        self.change(Resource::NodeClass, "default", |class| {
            class["spec"]["capacityReservationSelectorTerms"] = terms.clone();
        });
    }

    /// A class that selects one reservation, and a pool that may use it beside what else it may buy.
    pub(super) fn reserved(total: u32, others: &[&str]) -> Self {
        let stage = Self::new();
        stage.reserve("cr-1", total);
        stage.select(&json!([{ "id": "cr-1" }]));
        stage.change(Resource::NodePool, "general", |pool| {
            let values = others.iter().chain(&["reserved"]).collect::<Vec<_>>();
            pool["spec"]["template"]["spec"]["requirements"][0]["values"] = json!(values);
        });
        stage
    }

    /// Selects a capacity block for one machine, and says when it ends.
    fn in_a_block() -> (Self, Timestamp) {
        let stage = Self::reserved(1, &["on-demand"]);
        let hour = SignedDuration::from_hours(1);
        let ends = stage.world.now().checked_add(hour).unwrap();
        stage.world.ec2.reserve(Described {
            kind: ReservationKind::CapacityBlock,
            ends: Some(ends),
            ..described("cr-1", 1)
        });
        (stage, ends)
    }

    /// Waits until none of the machines of a block runs, which EC2 ends half an hour before the block.
    async fn block_is_left_in_time(&self, machines: &BTreeSet<String>, ends: Timestamp) {
        self.until(1_800, "the block is left", |stage| {
            ids(&stage.running()).is_disjoint(machines)
        })
        .await;
        let left = ends.duration_since(self.world.now()).as_mins();
        assert!(
            (30..40).contains(&left),
            "left {left} minutes before the end"
        );
    }

    /// How the machines that run were bought, in order.
    fn bought_as(&self) -> Vec<CapacityType> {
        let machines = self.running();
        let mut found: Vec<CapacityType> = machines
            .iter()
            .map(|machine| machine.offering.capacity_type)
            .collect();
        found.sort();
        found
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

#[tokio::test(start_paused = true)]
async fn machines_in_a_reservation_come_first_and_cost_nothing_more() {
    let stage = Stage::reserved(2, &["spot"]);
    let _process = stage.run();
    for name in ["a", "b", "c"] {
        stage.pod(name);
    }
    stage
        .until(180, "the pods run", |stage| stage.running_pods() == 3)
        .await;
    assert_eq!(
        stage.bought_as(),
        [
            CapacityType::Reserved,
            CapacityType::Reserved,
            CapacityType::Spot
        ]
    );
    for resource in [Resource::NodeClaim, Resource::Node] {
        let all = stage.all(resource);
        let placed = all.iter().filter(|object| {
            let labels = &object["metadata"]["labels"];
            labels["karpenter.sh/capacity-type"] == "reserved"
                && labels["karpenter.k8s.aws/capacity-reservation-id"] == "cr-1"
        });
        assert_eq!(placed.count(), 2, "{all:?}");
    }
    // The volumes of all three, and the price of the one that was bought.
    let spot = stage.world.ec2.markets().price(
        &"c5.xlarge/us-east-1a/spot".parse().unwrap(),
        stage.world.now(),
    );
    let volumes = stage
        .world
        .ec2
        .machines()
        .iter()
        .map(|found| found.fees)
        .sum();
    assert_eq!(stage.world.ec2.rate(), spot.unwrap() + volumes);
}

#[tokio::test(start_paused = true)]
async fn a_slot_that_comes_free_is_used_again() {
    let stage = Stage::reserved(1, &[]);
    let _process = stage.run();
    stage.one_pod_runs().await;
    stage.pod("b");
    tokio::time::sleep(std::time::Duration::from_mins(5)).await;
    assert_eq!(
        stage.bought_as(),
        [CapacityType::Reserved],
        "there is one slot"
    );
    assert_eq!(stage.all(Resource::NodeClaim).len(), 1);
    let first = ids(&stage.running());
    stage.delete(Resource::Pod, "a");
    // The pod that waits may go onto the first machine before that is empty for long enough.
    stage
        .until(300, "the other pod runs", |stage| stage.running_pods() == 1)
        .await;
    assert_eq!(stage.bought_as(), [CapacityType::Reserved]);
    assert!(stage.machines().len() <= 2, "{first:?}");
}

#[tokio::test(start_paused = true)]
async fn pods_of_a_slot_that_somebody_else_took_are_planned_anew() {
    let stage = Stage::reserved(2, &["on-demand"]);
    let _process = stage.run();
    stage
        .until(30, "the class is resolved", |stage| {
            stage.condition("CapacityReservationsReady")["status"] == "True"
        })
        .await;
    stage.reserve("cr-1", 1);
    for name in ["a", "b"] {
        stage.pod(name);
    }
    stage
        .until(300, "the pods run", |stage| stage.running_pods() == 2)
        .await;
    assert_eq!(
        stage.bought_as(),
        [CapacityType::Reserved, CapacityType::OnDemand]
    );
    assert_eq!(stage.all(Resource::NodeClaim).len(), 2);
}

/// Two reservations of one size in one zone, of which somebody else takes the first as soon as it is counted.
async fn beside_one_that_somebody_took(others: &[&str]) -> (Stage, Process) {
    let stage = Stage::reserved(1, others);
    stage.reserve("cr-2", 2);
    stage.select(&json!([{ "id": "cr-1" }, { "id": "cr-2" }]));
    let process = stage.run();
    stage
        .until(30, "the class is resolved", |stage| {
            stage.condition("CapacityReservationsReady")["status"] == "True"
        })
        .await;
    stage.reserve("cr-1", 0);
    (stage, process)
}

#[tokio::test(start_paused = true)]
async fn a_reservation_that_is_full_leaves_another_of_its_type_and_zone_usable() {
    let (stage, _process) = beside_one_that_somebody_took(&["on-demand"]).await;
    for name in ["a", "b", "c"] {
        stage.pod(name);
    }
    stage
        .until(300, "the pods run", |stage| stage.running_pods() == 3)
        .await;
    assert_eq!(
        stage.bought_as(),
        [
            CapacityType::Reserved,
            CapacityType::Reserved,
            CapacityType::OnDemand
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_claim_for_a_full_reservation_makes_way_for_one_in_another_that_has_a_slot() {
    let (stage, _process) = beside_one_that_somebody_took(&[]).await;
    for name in ["a", "b"] {
        stage.pod(name);
    }
    stage
        .until(90, "the pods run", |stage| stage.running_pods() == 2)
        .await;
    assert_eq!(stage.bought_as(), [CapacityType::Reserved; 2]);
}

#[tokio::test(start_paused = true)]
async fn a_capacity_block_is_left_before_its_end_also_when_the_class_selects_it_no_more() {
    let (stage, ends) = Stage::in_a_block();
    let _process = stage.run();
    stage.one_pod_runs().await;
    assert_eq!(stage.bought_as(), [CapacityType::Reserved]);
    let before = ids(&stage.running());
    stage.select(&json!([{ "id": "cr-2" }]));
    stage.block_is_left_in_time(&before, ends).await;
}

#[tokio::test(start_paused = true)]
async fn a_capacity_block_is_left_before_ec2_ends_its_machines() {
    let (stage, ends) = Stage::in_a_block();
    let _process = stage.run();
    stage.one_pod_runs().await;
    assert_eq!(stage.bought_as(), [CapacityType::Reserved]);
    let before = ids(&stage.running());
    stage.delete(Resource::Pod, "a");
    stage.pod("b");
    stage
        .until(60, "the other pod runs", |stage| stage.running_pods() == 1)
        .await;
    assert_eq!(ids(&stage.running()), before);
    stage.block_is_left_in_time(&before, ends).await;
    let told = stage.told("CapacityBlockExpiring");
    assert!(told.iter().any(|said| said.contains("cr-1")), "{told:?}");
    // Nothing is placed in a block that expires.
    stage.pod("c");
    stage
        .until(180, "a pod runs elsewhere", |stage| {
            stage.running_pods() >= 1
        })
        .await;
    assert!(!stage.bought_as().contains(&CapacityType::Reserved));
}

/// A block of which EC2 says by itself when it expires.
const BLOCK: &str = "cr-0123456789abcdef0";

/// One machine is in a block, which nobody knows to end where that is so, and EC2 says that it does.
async fn a_block_is_left_when_ec2_says_so(is_known: bool) {
    let (stage, ends) = Stage::in_a_block();
    stage.world.ec2.reserve(Described {
        kind: ReservationKind::CapacityBlock,
        ends: Some(ends),
        ..described(BLOCK, 1)
    });
    stage.select(&json!([{ "id": BLOCK }]));
    let _process = stage.run();
    stage.one_pod_runs().await;
    assert_eq!(stage.bought_as(), [CapacityType::Reserved]);
    let before = ids(&stage.running());
    if !is_known {
        stage.select(&json!([{ "id": "cr-2" }]));
        let claim = stage.all(Resource::NodeClaim).remove(0);
        let name = claim["metadata"]["name"].as_str().unwrap();
        stage.change(Resource::NodeClaim, name, |claim| {
            let annotations = claim["metadata"]["annotations"].as_object_mut().unwrap();
            let known = annotations.remove("tonnage.dev/capacity-block-end");
            assert!(known.is_some(), "it was written down");
        });
    }
    let warned = ends.checked_sub(SignedDuration::from_mins(40)).unwrap();
    let wait = warned.duration_since(stage.world.now());
    tokio::time::sleep(wait.unsigned_abs()).await;
    assert_eq!(ids(&stage.running()), before);
    let warning = json!({
        "version": "0", "id": "x", "source": "aws.ec2", "account": "123456789012", "region": "us-east-1",
        "detail-type": "Capacity Block Expiration Warning", "time": stage.world.now().to_string(),
        "detail": { "capacity-reservation-id": BLOCK, "end-date": ends.to_string() },
    });
    stage.world.ec2.post(warning.to_string());
    stage.block_is_left_in_time(&before, ends).await;
    stage
        .until(60, "the message is out of the queue", |stage| {
            stage.world.ec2.unacknowledged() == 0
        })
        .await;
    let told = stage.told("CapacityBlockExpiring");
    assert_eq!(told.len(), 2, "Node and claim: {told:?}");
    assert!(told.iter().all(|said| said.contains(BLOCK)), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn a_block_whose_end_nobody_knows_is_left_when_ec2_says_that_it_expires() {
    a_block_is_left_when_ec2_says_so(false).await;
}

#[tokio::test(start_paused = true)]
async fn a_block_whose_end_is_known_is_left_once_when_ec2_says_so_too() {
    a_block_is_left_when_ec2_says_so(true).await;
}

#[tokio::test(start_paused = true)]
async fn interruptible_reservations_are_listed_and_said_not_to_be_used() {
    let stage = Stage::reserved(2, &["on-demand"]);
    stage.world.ec2.reserve(Described {
        interruptible: true,
        ..described("cr-1", 2)
    });
    let _process = stage.run();
    stage.one_pod_runs().await;
    assert_eq!(stage.bought_as(), [CapacityType::OnDemand]);
    let said = stage.condition("FieldsActedOn");
    assert_eq!(said["status"], "False");
    let message = said["message"].as_str().unwrap();
    assert!(message.contains("interruptible"), "{message}");
}
