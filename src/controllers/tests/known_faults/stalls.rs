//! What cannot be bought, or not yet, is nobody else's trouble.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;

use super::Stage;
use crate::model::offering::{CapacityType, OfferingKey};
use crate::settings::Mode;
use crate::sim::api_server::Resource::{NodeClaim, NodeClass, Pod};
use crate::sim::embedded::{ProcessOptions, default_settings};
use crate::sim::faults::{About, CallFault, Calm, Faults, Journey};

/// Seconds from the arrival of a pod until a machine is bought for it: a second in which others may come, the
/// plan, the claim, and a call to EC2.
const BOUGHT: u64 = 5;
/// Seconds from the end of the last pod until its machine has gone: ten of `consolidateAfter`, the fence, the
/// drain and a call to EC2.
const GONE: u64 = 20;

impl Stage {
    /// A pod comes, and what is made for it finds nothing to buy.
    async fn one_claim_waits_for(&self, pod: &str) {
        self.pod(pod);
        self.until(10, "its claim waits", |stage| {
            stage.all(NodeClaim).len() == 1
        })
        .await;
    }

    /// A pod of the second NodePool comes, has a machine at once, ends, and its machine goes at its time.
    async fn another_comes_and_goes(&self, name: &str) {
        let before = self.machines().len();
        self.pod_of_another_pool(name);
        self.until(BOUGHT, "a machine is bought", |stage| {
            stage.machines().len() == before + 1
        })
        .await;
        self.until(90, "the pod runs", |stage| stage.phase(name) == "Running")
            .await;
        self.delete(Pod, name);
        let runs = self.running().len();
        self.until(GONE, "the empty machine has gone", |stage| {
            stage.running().len() == runs - 1
        })
        .await;
    }
}

/// Elsewhere no pod is planned for and no empty node goes while any claim is without its machine; here both go
/// on as ever, for as long as EC2 has nothing for one claim.
#[tokio::test(start_paused = true)]
async fn one_claim_that_cannot_launch_stalls_nobody_else() {
    let stage = Stage::new();
    stage.another_zone();
    stage.sold_out("c5.xlarge", 60);
    let _process = stage.run();
    stage.one_claim_waits_for("stuck").await;
    // Long enough for the claim to be given up and made anew.
    for number in 0..4 {
        stage
            .another_comes_and_goes(&format!("another-{number}"))
            .await;
        tokio::time::sleep(Duration::from_mins(1)).await;
    }
    assert_eq!(stage.phase("stuck"), "Pending");
    assert_eq!(stage.machines().len(), 4, "none was bought in vain");
}

/// Elsewhere a claim that somebody made by hand, for a class that nothing can be launched through, stops
/// everything until its time-out; here it stops nothing.
#[tokio::test(start_paused = true)]
async fn a_claim_by_hand_that_nothing_can_be_launched_for_stalls_nobody_else() {
    let stage = Stage::new();
    stage.another_zone();
    let mut class = stage.all(NodeClass).remove(0);
    class["metadata"] = json!({ "name": "broken" });
    class["spec"]["subnetSelectorTerms"] = json!([{ "tags": { "of": "nobody" } }]);
    stage.world.apply(class).unwrap();
    stage
        .world
        .apply(json!({
            "apiVersion": "karpenter.sh/v1", "kind": "NodeClaim",
            "metadata": {"name": "by-hand"},
            "spec": {
                "nodeClassRef": {"group": "tonnage.dev", "kind": "EC2NodeClass", "name": "broken"},
                "requirements": [
                    {"key": "node.kubernetes.io/instance-type", "operator": "In", "values": ["c5.xlarge"]},
                ],
            },
        }))
        .unwrap();
    let _process = stage.run();
    tokio::time::sleep(Duration::from_secs(10)).await;
    stage.another_comes_and_goes("first").await;
    stage.another_comes_and_goes("second").await;
    let key = Stage::key(NodeClaim, "by-hand");
    let claim = stage.world.api.get(&key).unwrap();
    assert!(claim["status"]["providerID"].is_null());
}

/// The first launch takes EC2 two minutes.
#[derive(Debug, Default)]
struct SlowFirst(AtomicBool);

impl Faults for SlowFirst {
    fn request(&self, who: &str, method: &http::Method, path: &str) -> Journey {
        Calm.request(who, method, path)
    }

    fn call(&self, who: &str, operation: &str, about: &About) -> (Duration, Option<CallFault>) {
        let (mut takes, fault) = Calm.call(who, operation, about);
        if operation == "CreateFleet" && !self.0.swap(true, Ordering::Relaxed) {
            takes = Duration::from_mins(2);
        }
        (takes, fault)
    }
}

/// Elsewhere the next batch of pods waits for the slowest launch of the one before; here a launch that is on its
/// way holds up nothing.
#[tokio::test(start_paused = true)]
async fn a_launch_that_takes_two_minutes_stalls_nobody_else() {
    let stage = Stage::new();
    stage.another_zone();
    let _process = stage.world.start(ProcessOptions {
        faults: Arc::new(SlowFirst::default()),
        ..ProcessOptions::new(7, default_settings(Mode::Run, 1))
    });
    stage.pod("slow");
    stage
        .until(10, "its launch is on its way", |stage| {
            stage.all(NodeClaim).len() == 1
        })
        .await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    stage.another_comes_and_goes("another").await;
    assert_eq!(stage.phase("slow"), "Pending");
    stage
        .until(180, "it runs as well", |stage| {
            stage.phase("slow") == "Running"
        })
        .await;
    assert_eq!(stage.machines().len(), 2);
}

/// Elsewhere pods that come one after the other wait for the machines of those before them; here each has its
/// own within seconds, however many machines still boot.
#[tokio::test(start_paused = true)]
async fn pods_that_come_one_by_one_wait_for_no_machine_of_an_earlier_one() {
    let stage = Stage::new();
    let _process = stage.run();
    tokio::time::sleep(Duration::from_secs(10)).await;
    for number in 1..=8 {
        stage.pod(&format!("p{number}"));
        stage
            .until(BOUGHT, "a machine is bought for it", |stage| {
                stage.machines().len() == number
            })
            .await;
    }
    assert_eq!(stage.running_pods(), 0, "all of them boot still");
    stage
        .until(90, "every pod runs", |stage| stage.running_pods() == 8)
        .await;
    assert_eq!(stage.machines().len(), 8);
}

/// Elsewhere a claim that meets a shortage is deleted and its pods begin anew; here the same claim takes the next
/// of its choices.
#[tokio::test(start_paused = true)]
async fn a_claim_walks_on_in_place_when_its_first_choice_is_sold_out() {
    let stage = Stage::new();
    let spot = OfferingKey::new("c5.xlarge", "us-east-1a", CapacityType::Spot);
    stage.world.ec2.dry(&spot, 30);
    let _process = stage.run();
    stage.one_pod_runs().await;
    let bought = &stage.machines()[0];
    assert_eq!(bought.offering.capacity_type, CapacityType::OnDemand);
    assert_eq!(stage.claims_made(), 1, "the claim was never given up");
}

/// Elsewhere what cannot be bought is tried again before anything else, and starves other NodePools; here those
/// are bought from meanwhile, and the claim is bought in the end without being made anew.
#[tokio::test(start_paused = true)]
async fn a_claim_whose_every_choice_is_sold_out_starves_nobody_and_is_bought_in_the_end() {
    let stage = Stage::new();
    stage.sold_out("c5.xlarge", 2);
    stage.another_zone();
    let _process = stage.run();
    stage.one_claim_waits_for("first").await;
    let waits = stage.all(NodeClaim)[0]["metadata"]["uid"].clone();
    stage.another_comes_and_goes("second").await;
    assert_eq!(stage.phase("first"), "Pending");
    stage
        .until(5 * 60, "the first runs once there is capacity", |stage| {
            stage.phase("first") == "Running"
        })
        .await;
    assert_eq!(stage.machines().len(), 2);
    assert_eq!(stage.claims_made(), 2);
    assert_eq!(stage.all(NodeClaim)[0]["metadata"]["uid"], waits);
}
