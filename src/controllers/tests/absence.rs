//! EC2 leaves machines out of its answers: none that runs is left without a claim, and none that is gone
//! keeps its claim for ever.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Stage;
use crate::settings::Mode;
use crate::sim::api_server::Resource::{Node, NodeClaim, Pod};
use crate::sim::ec2::machine::EndCause;
use crate::sim::life::Life;

impl Stage {
    fn claims(&self) -> Vec<String> {
        let claims = self.all(NodeClaim);
        let name =
            |claim: &serde_json::Value| claim["metadata"]["name"].as_str().map(str::to_owned);
        claims.iter().filter_map(name).collect()
    }

    /// Waits until a claim is gone, and fails if that is before its machine ends.
    async fn claim_goes_after_its_machine(&self, seconds: u64, claim: &str, machine: &str) {
        let is_there = |stage: &Self| stage.claims().iter().any(|name| name == claim);
        self.until(seconds, "the claim goes", |stage| {
            let runs = stage.running().iter().any(|one| one.id == machine);
            assert!(
                is_there(stage) || !runs,
                "{machine} runs and nobody answers for it"
            );
            !is_there(stage)
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_running_machine_that_ec2_hides_ends_before_its_claim_goes() {
    let stage = Stage::new();
    stage.world.ec2.make_barren(1);
    let _process = stage.run();
    stage.pod("a");
    stage
        .until(60, "a machine runs", |stage| stage.running().len() == 1)
        .await;
    let machine = stage.running().remove(0).id;
    let claim = stage.claims().remove(0);
    stage.world.ec2.hide(&machine);
    // It is given up because EC2 shows nothing of it.
    stage
        .claim_goes_after_its_machine(600, &claim, &machine)
        .await;
    assert_eq!(stage.terminations(), 1);
    stage
        .until(300, "the pod runs on another machine", |stage| {
            stage.running_pods() == 1
        })
        .await;
    assert_eq!(stage.machines().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn the_node_of_a_machine_that_ec2_hides_is_drained_as_any_other() {
    let stage = Stage::new();
    let _process = stage.run();
    stage.one_pod_runs().await;
    let machine = stage.running().remove(0).id;
    let claim = stage.claims().remove(0);
    stage.world.ec2.hide(&machine);
    stage.hold();
    stage.delete(NodeClaim, &claim);
    tokio::time::sleep(Duration::from_mins(20)).await;
    assert_eq!(stage.running_pods(), 1, "the budget protects the pod");
    assert!(stage.claims().contains(&claim));
    assert_eq!(stage.terminations(), 0);

    stage.free();
    stage
        .claim_goes_after_its_machine(600, &claim, &machine)
        .await;
    stage.until(300, "nothing is left", Stage::is_bare).await;
}

#[tokio::test(start_paused = true)]
async fn where_ec2_itself_says_that_a_machine_has_ended_nothing_more_is_asked() {
    let stage = Stage::new();
    let _process = stage.run();
    stage.one_pod_runs().await;
    let machine = stage.running().remove(0).id;
    let claim = stage.claims().remove(0);
    stage.world.ec2.end(&machine, EndCause::Failed);
    stage
        .claim_goes_after_its_machine(600, &claim, &machine)
        .await;
    assert_eq!(stage.terminations(), 0);
}

/// EC2 forgets what ended an hour ago, and its tags: who may terminate by tag alone is refused.
#[tokio::test(start_paused = true)]
async fn a_machine_that_ec2_has_forgotten_holds_no_node_up_and_its_claim_not_for_ever() {
    let stage = Stage::new();
    let first = stage.run();
    stage.one_pod_runs().await;
    let claim = stage.claims().remove(0);
    let node = stage.all(Node)[0]["metadata"]["name"].clone();
    first.stop().await;
    stage
        .world
        .ec2
        .end(&stage.running().remove(0).id, EndCause::Failed);
    stage.delete(Pod, "a");
    tokio::time::sleep(Duration::from_hours(2)).await;
    stage.trouble.keeps_instances.store(true, Ordering::Relaxed);
    let _second = stage.start(Mode::Run, 8, Life::new());
    stage
        .until(600, "the Node goes", |stage| {
            let nodes = stage.all(Node);
            nodes.iter().all(|found| found["metadata"]["name"] != node)
        })
        .await;
    assert_eq!(stage.claims(), [claim.as_str()], "nothing is proven");
    let told = stage.told("TerminationFailed").join(" ");
    assert!(told.contains("EC2 does not show instance"), "{told}");
    stage
        .until(4_200, "the claim goes", |stage| stage.claims().is_empty())
        .await;
    assert!(
        (10..150).contains(&stage.terminations()),
        "{} calls",
        stage.terminations()
    );
}
