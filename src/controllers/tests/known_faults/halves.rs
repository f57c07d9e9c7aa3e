//! Of several writes some fail, and nothing is left behind.

use std::time::Duration;

use serde_json::json;

use super::Stage;
use crate::api::labels;
use crate::settings::Mode;
use crate::sim::api_server::Resource::{Deployment, Node, NodeClaim, Pod};
use crate::sim::faults::CallFault;
use crate::sim::life::Life;

impl Stage {
    /// Two pods run on two machines, and EC2 takes both machines back.
    async fn two_are_taken_back(&self) {
        self.service();
        self.change(Deployment, "service", |service| {
            service["spec"]["replicas"] = json!(2);
        });
        self.until(120, "both run", |stage| stage.running_pods() == 2)
            .await;
        assert_eq!(self.running().len(), 2);
        for machine in self.running() {
            self.world.ec2.reclaim(&machine.id);
        }
    }

    /// Both pods run on two other machines, and there is nothing beside those: no claim, no Node, no fence.
    async fn two_were_replaced(&self) {
        self.until(300, "both pods run on other machines", |stage| {
            stage.running_pods() == 2 && stage.all(Node).len() == 2
        })
        .await;
        tokio::time::sleep(Duration::from_mins(10)).await;
        assert_eq!(self.running_pods(), 2);
        assert_eq!(self.machines().len(), 4, "one for each that was taken");
        assert_eq!(self.running().len(), 2);
        assert_eq!((self.all(NodeClaim).len(), self.all(Node).len()), (2, 2));
        assert_eq!(self.fenced(), Vec::<String>::new());
    }
}

/// Elsewhere claims that were made before a plan failed become empty machines which nobody takes back; here the
/// next controller buys what is still missing and uses what was made.
#[tokio::test(start_paused = true)]
async fn a_plan_that_was_written_by_half_leaves_nothing_behind() {
    let stage = Stage::new();
    stage.refuse_creates(&[false, true, false, true, true]);
    let process = stage.run();
    let pods = ["a", "b", "c", "d", "e"];
    for pod in pods {
        stage.pod(pod);
    }
    stage
        .until(30, "some of the claims are there", |stage| {
            !stage.all(NodeClaim).is_empty()
        })
        .await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    process.kill();
    assert!(stage.all(NodeClaim).len() < pods.len());
    let _again = stage.start(Mode::Run, 8, Life::new());
    stage
        .until(180, "every pod runs", |stage| stage.running_pods() == 5)
        .await;
    tokio::time::sleep(Duration::from_mins(5)).await;
    assert_eq!(stage.machines().len(), 5, "nothing was bought for nobody");
    assert_eq!(stage.fenced(), Vec::<String>::new());
    for pod in pods {
        stage.delete(Pod, pod);
    }
    stage.until(120, "nothing is left", Stage::is_bare).await;
}

/// Elsewhere one of two replacements fails, the other stays as an empty machine, and what should have been
/// replaced stays closed; here one is used, the other is made again, and nothing beside them is left.
#[tokio::test(start_paused = true)]
async fn of_two_replacements_one_cannot_be_written_and_nothing_is_left_behind() {
    let stage = Stage::new();
    let _process = stage.run();
    // The first two are for the machines that are taken back.
    stage.refuse_creates(&[false, false, false, true, true]);
    stage.two_are_taken_back().await;
    stage.two_were_replaced().await;
}

/// The same where the controller dies between the two, and the next one knows of no plan.
#[tokio::test(start_paused = true)]
async fn of_two_replacements_one_was_written_before_a_restart_and_nothing_is_left_behind() {
    let stage = Stage::new();
    let process = stage.run();
    stage.refuse_creates(&[false, false, false, true, true, true]);
    stage.two_are_taken_back().await;
    stage
        .until(60, "one replacement is there", |stage| {
            stage.claims_made() == 3
        })
        .await;
    process.kill();
    tokio::time::sleep(Duration::from_secs(5)).await;
    let _again = stage.start(Mode::Run, 8, Life::new());
    stage.two_were_replaced().await;
}

/// The same where both are written and EC2 launches one.
#[tokio::test(start_paused = true)]
async fn of_two_replacements_one_cannot_be_launched_and_nothing_is_left_behind() {
    let stage = Stage::new();
    let _process = stage.run();
    stage.two_are_taken_back().await;
    stage.fail_launches(&[CallFault::Short(1), CallFault::Internal, CallFault::Denied]);
    stage.two_were_replaced().await;
}

/// Elsewhere a node that was closed and whose removal came to nothing stays closed; here it is opened again, also
/// where the reason was never written and the controller that closed it is no more.
#[tokio::test(start_paused = true)]
async fn a_fence_that_was_written_by_half_is_lifted_once_the_node_is_used() {
    let stage = Stage::new();
    let process = stage.run();
    stage.one_pod_runs().await;
    let claim = stage.all(NodeClaim).remove(0);
    let claim = claim["metadata"]["name"].as_str().unwrap();
    stage.refuse(&format!("nodeclaims/{claim}"));
    stage.delete(Pod, "a");
    stage
        .until(30, "the node is closed", |stage| stage.fenced().len() == 1)
        .await;
    process.kill();
    // Bound before kube-scheduler knew of the fence.
    stage.pod_with(
        "slipped-in",
        &json!({
            "tolerations": [{"operator": "Exists"}],
            "containers": [{"name": "main", "resources": {"requests": {"cpu": "1", "memory": "64Mi"}}}],
        }),
    );
    stage
        .until(10, "a pod slips in", |stage| {
            stage.phase("slipped-in") == "Running"
        })
        .await;
    stage.relent();
    let _again = stage.start(Mode::Run, 8, Life::new());
    stage
        .until(15, "the node is open again", |stage| {
            stage.fenced().is_empty()
        })
        .await;
    stage.small("b", "1", &json!({}));
    stage
        .until(15, "the next pod runs there", |stage| {
            stage.phase("b") == "Running"
        })
        .await;
    assert_eq!(stage.machines().len(), 1);
}

/// A controller dies between the labels of a claim and its status, and the next one pairs the machines of the batch
/// otherwise: the claim says what its own machine is, and nothing of the other one's.
#[tokio::test(start_paused = true)]
async fn a_claim_that_was_labelled_for_another_machine_says_what_it_has() {
    let stage = Stage::new();
    stage.delay("PATCH", "/status", Duration::from_secs(20));
    let process = stage.run();
    stage.pod("a");
    let is_labelled = |stage: &Stage| {
        let claims = stage.all(NodeClaim);
        let mut said = claims.iter().map(|claim| &claim["metadata"]["labels"]);
        said.any(|said| said[labels::REGION].is_string())
    };
    stage.until(120, "its labels are there", is_labelled).await;
    process.kill();
    let claim = stage.all(NodeClaim).remove(0);
    assert!(claim["status"]["providerID"].is_null(), "{claim}");
    let name = claim["metadata"]["name"].as_str().unwrap();
    stage.change(NodeClaim, name, |claim| {
        let said = &mut claim["metadata"]["labels"];
        said[labels::INSTANCE_TYPE] = json!("g4dn.xlarge");
        said[labels::INSTANCE_GPU_NAME] = json!("t4");
        said[labels::CAPACITY_TYPE] = json!("on-demand");
    });
    stage.trouble.late.lock().unwrap().clear();
    let _again = stage.start(Mode::Run, 8, Life::new());
    stage
        .until(180, "the pod runs", |stage| stage.running_pods() == 1)
        .await;
    let machines = stage.machines();
    assert_eq!(machines.len(), 1, "nothing was bought twice");
    for resource in [NodeClaim, Node] {
        let object = stage.all(resource).remove(0);
        let said = |label: &str| object["metadata"]["labels"][label].clone();
        assert_eq!(said(labels::INSTANCE_TYPE), "c5.xlarge");
        let capacity_type = machines[0].offering.capacity_type.as_str();
        assert_eq!(said(labels::CAPACITY_TYPE), capacity_type);
        assert!(said(labels::INSTANCE_GPU_NAME).is_null(), "{object}");
    }
}
