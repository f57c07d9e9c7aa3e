//! EC2's announcements from the message in the SQS queue to what becomes of claim, Node and machine.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tonnage::model::offering::{CapacityType, OfferingKey};
use tonnage::settings::Mode;
use tonnage::sim::Embedded;
use tonnage::sim::api_server::{Key, Resource};
use tonnage::sim::ec2::machine::EndCause;

use crate::waiting::eventually;
use crate::whole::{Controller, begin_with, shipped, work};

/// The longest that a machine takes from its purchase until a pod runs on it, seconds.
const PATIENCE: u64 = 300;

/// A service of one pod on one spot machine, under a controller that listens to the queue.
struct Service {
    world: Embedded,
    controller: Controller,
    /// The id of its machine.
    machine: String,
}

/// So many pods, each with a machine of its own.
fn pods(count: usize) -> Value {
    work(count, None).deployment()
}

impl Service {
    async fn running() -> Self {
        tokio::time::pause();
        let world = begin_with(pods(1));
        let policy = shipped(&world);
        let controller = Controller::under(&world, &policy, Mode::Run).await;
        let mut service = Self {
            world,
            controller,
            machine: String::new(),
        };
        service.runs("its pod runs", 1, |_machine| true).await;
        let mut alive = service.world.ec2.alive();
        assert_eq!(alive.len(), 1);
        let shown = alive[0].shown(service.world.now()).unwrap();
        assert_eq!(shown.offering.capacity_type, CapacityType::Spot);
        alive.remove(0).id().clone_into(&mut service.machine);
        service
    }

    /// Waits until so many pods run, and on nothing but such machines.
    async fn runs(&self, what: &str, pods: usize, suits: impl Fn(&str) -> bool) {
        eventually(what, PATIENCE, async || {
            let all = self.world.api.all(Resource::Pod);
            let running = all.iter().filter(|pod| pod["status"]["phase"] == "Running");
            let alive = self.world.ec2.alive();
            let suit = alive.iter().all(|machine| suits(machine.id()));
            if running.count() == pods && all.len() == pods && suit {
                Ok(())
            } else {
                Err(format!("{} pods, {} machines", all.len(), alive.len()))
            }
        })
        .await;
    }

    /// Puts an event about the machine into the queue; gives back when.
    fn announce(&self, source: &str, detail_type: &str, detail: &Value) -> Timestamp {
        let now = self.world.now();
        let event = json!({
            "version": "0", "id": "e", "source": source, "detail-type": detail_type,
            "account": "123456789012", "region": "us-east-1", "time": now.to_string(),
            "resources": [], "detail": detail,
        });
        self.world.ec2.post(event.to_string());
        now
    }

    /// Announces something that EC2 has to say of the machine alone.
    fn warn(&self, detail_type: &str, state: &str) -> Timestamp {
        let detail = json!({ "instance-id": self.machine, "state": state });
        self.announce("aws.ec2", detail_type, &detail)
    }

    /// Announces a scheduled change of the machine, which begins then.
    fn schedule(&self, code: &str, begins: &str) {
        let detail = json!({
            "service": "EC2", "eventTypeCode": code, "eventTypeCategory": "scheduledChange",
            "statusCode": "upcoming", "startTime": begins,
            "affectedEntities": [{ "entityValue": self.machine }],
        });
        self.announce("aws.health", "AWS Health Event", &detail);
    }

    /// Lets the claim of the machine say that it is in this capacity block, as it does from the first where it is bought
    /// into it, and waits until the controller has seen that.
    async fn put_into(&self, block: &str) {
        let claim = self.claim().unwrap();
        let name = claim["metadata"]["name"].as_str().unwrap();
        let key = Key::new(Resource::NodeClaim, "", name);
        let changed = self.world.api.change("user", &key, None, |claim| {
            claim["metadata"]["labels"]["karpenter.k8s.aws/capacity-reservation-id"] = json!(block);
        });
        changed.unwrap();
        self.world.pass(Duration::from_secs(5)).await;
    }

    /// The claim of the machine.
    fn claim(&self) -> Option<Value> {
        let claims = self.world.api.all(Resource::NodeClaim);
        let of_machine = |claim: &Value| {
            let id = claim["status"]["providerID"].as_str();
            id.is_some_and(|id| id.ends_with(&self.machine))
        };
        claims.into_iter().find(of_machine)
    }

    /// Waits for an event with this reason about each kind of object.
    async fn told(&self, reason: &str) {
        for kind in ["Node", "NodeClaim"] {
            eventually(&format!("{reason} is told of the {kind}"), 10, async || {
                let events = self.world.api.all(Resource::Event);
                let mut about = events
                    .iter()
                    .filter(|event| event["regarding"]["kind"] == kind);
                if about.any(|event| event["reason"] == reason) {
                    Ok(())
                } else {
                    Err(format!("{} events", events.len()))
                }
            })
            .await;
        }
    }

    /// Waits until the queue is empty.
    async fn heard(&self) {
        eventually("the message is out of the queue", 10, async || {
            match self.world.ec2.unacknowledged() {
                0 => Ok(()),
                left => Err(format!("{left} messages")),
            }
        })
        .await;
    }

    /// Waits until the claim is on its way out, with this deadline.
    async fn goes_by(&self, deadline: Timestamp) {
        eventually("the claim is on its way out", 10, async || {
            let claim = self.claim().ok_or("it is gone")?;
            if claim["metadata"]["deletionTimestamp"].is_string() {
                let annotations = &claim["metadata"]["annotations"];
                let written = &annotations["karpenter.sh/nodeclaim-termination-timestamp"];
                assert_eq!(*written, deadline.to_string());
                Ok(())
            } else {
                Err(claim.to_string())
            }
        })
        .await;
    }

    /// Fails unless claim and Node of the machine are there and nobody is asked to leave.
    fn is_left_alone(&self) {
        let claim = self.claim().unwrap();
        let metadata = &claim["metadata"];
        assert!(metadata["deletionTimestamp"].is_null(), "{claim}");
        assert!(metadata["annotations"]["tonnage.dev/maintenance"].is_null());
        let nodes = self.world.api.all(Resource::Node);
        let node = nodes
            .iter()
            .find(|node| node["metadata"]["name"] == claim["status"]["nodeName"])
            .unwrap();
        let taints = node["spec"]["taints"].as_array();
        assert!(taints.is_none_or(Vec::is_empty), "{node}");
        assert!(node["spec"]["unschedulable"].is_null(), "{node}");
    }

    /// Waits until another machine has taken over.
    async fn is_replaced(&self) {
        self.runs("another machine has taken over", 1, |machine| {
            machine != self.machine
        })
        .await;
        assert_eq!(self.claim(), None);
    }

    async fn end(self) {
        self.controller.stop().await;
        self.world.end().await;
    }
}

#[tokio::test]
async fn a_spot_machine_that_is_taken_back_is_drained_by_then_and_replaced() {
    let service = Service::running().await;
    let at = service.warn("EC2 Spot Instance Interruption Warning", "");
    service.goes_by(at + SignedDuration::from_secs(110)).await;
    service.told("SpotInterrupted").await;
    service.heard().await;
    service.is_replaced().await;
    service.end().await;
}

#[tokio::test]
async fn a_machine_in_a_capacity_block_that_expires_is_drained_before_ec2_ends_it_and_replaced() {
    let service = Service::running().await;
    let block = "cr-0123456789abcdef0";
    service.put_into(block).await;
    let ends = service.world.now() + SignedDuration::from_mins(40);
    let detail = json!({ "capacity-reservation-id": block, "end-date": ends.to_string() });
    service.announce("aws.ec2", "Capacity Block Expiration Warning", &detail);
    service.goes_by(ends - SignedDuration::from_mins(30)).await;
    service.told("CapacityBlockExpiring").await;
    service.heard().await;
    service.is_replaced().await;
    service.end().await;
}

#[tokio::test]
async fn a_retirement_whose_time_cannot_be_read_is_told_of_and_moves_nobody() {
    let service = Service::running().await;
    service.schedule("AWS_EC2_INSTANCE_RETIREMENT_SCHEDULED", "in two weeks");
    service.told("ScheduledChange").await;
    service.heard().await;
    service.world.pass(Duration::from_hours(1)).await;
    service.is_left_alone();
    let figures = service.controller.metrics.text();
    let counted = r#"tonnage_interruption_received_messages_total{message_type="malformed"} 1"#;
    assert!(figures.contains(counted), "{figures}");
    service.end().await;
}

#[tokio::test]
async fn a_rebalance_recommendation_moves_nobody_and_the_next_machine_is_of_another_kind() {
    let service = Service::running().await;
    service.warn("EC2 Instance Rebalance Recommendation", "");
    service.told("SpotRebalanceRecommendation").await;
    service.heard().await;
    service.world.apply(pods(2)).unwrap();
    service.runs("a second pod runs", 2, |_machine| true).await;
    service.is_left_alone();
    let offerings = service.world.ec2.machines();
    let mut offerings = offerings
        .iter()
        .filter_map(|machine| machine.shown(service.world.now()))
        .map(|instance| instance.offering);
    let (first, second) = (offerings.next().unwrap(), offerings.next().unwrap());
    let place = |of: &OfferingKey| (of.instance_type.clone(), of.zone.clone());
    assert_ne!(
        place(&second),
        place(&first),
        "not for its capacity type alone"
    );
    assert_eq!(offerings.next(), None, "two pods, two machines");
    service.end().await;
}

#[tokio::test]
async fn without_a_recommendation_the_next_machine_is_of_the_same_kind() {
    let service = Service::running().await;
    service.world.apply(pods(2)).unwrap();
    service.runs("a second pod runs", 2, |_machine| true).await;
    let machines = service.world.ec2.machines();
    let offerings: Vec<_> = machines
        .iter()
        .filter_map(|machine| machine.shown(service.world.now()))
        .map(|instance| instance.offering)
        .collect();
    assert_eq!(offerings[1], offerings[0]);
    service.end().await;
}

#[tokio::test]
async fn a_machine_that_is_said_to_stop_is_looked_at_and_only_one_that_is_gone_is_given_up() {
    let service = Service::running().await;
    let changed = "EC2 Instance State-change Notification";
    let looks = || service.world.ec2.calls()["DescribeInstances"].calls;
    let before = looks();
    service.warn(changed, "stopping");
    eventually("EC2 is asked about it", 2, async || {
        if looks() > before {
            Ok(())
        } else {
            Err(format!("{before} looks"))
        }
    })
    .await;
    service.heard().await;
    service.is_left_alone();
    service.world.ec2.end(&service.machine, EndCause::Failed);
    service.warn(changed, "shutting-down");
    service.heard().await;
    // Its Node is Ready until it has been silent for a while: then what EC2 said counts.
    eventually("its claim is gone", 60, async || match service.claim() {
        None => Ok(()),
        Some(claim) => Err(claim.to_string()),
    })
    .await;
    service.is_replaced().await;
    service.end().await;
}

#[tokio::test]
async fn a_machine_that_is_retired_soon_is_drained_by_then_and_replaced() {
    let service = Service::running().await;
    let begins = service.world.now() + SignedDuration::from_mins(30);
    service.schedule("AWS_EC2_INSTANCE_RETIREMENT_SCHEDULED", &begins.to_string());
    service.goes_by(begins).await;
    service.told("ScheduledChange").await;
    service.heard().await;
    service.is_replaced().await;
    assert!(service.world.now() < begins);
    service.end().await;
}

#[tokio::test]
async fn network_maintenance_is_told_of_and_outlived() {
    let service = Service::running().await;
    let begins = service.world.now() + SignedDuration::from_mins(30);
    service.schedule(
        "AWS_EC2_INSTANCE_NETWORK_MAINTENANCE_SCHEDULED",
        &begins.to_string(),
    );
    service.told("ScheduledChange").await;
    service.heard().await;
    service.world.pass(Duration::from_hours(1)).await;
    service.is_left_alone();
    assert_eq!(service.world.ec2.machines().len(), 1);
    service.end().await;
}
