//! The wall clock of the controller's machine, or the API server's, is wrong or is set, told as stories.

use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;

use super::Stage;
use crate::model::offering::{CapacityType, OfferingKey};
use crate::settings::Mode;
use crate::sim::Process;
use crate::sim::api_server::Resource::{NodeClaim, NodePool, Pod};
use crate::sim::clock::WallClock;
use crate::sim::embedded::{ProcessOptions, default_settings};
use crate::sim::faults::CallFault;
use crate::sim::life::Life;

impl Stage {
    /// Starts a controller on a machine with this clock.
    fn run_by(&self, clock: &WallClock) -> Process {
        self.world.start(ProcessOptions {
            faults: Arc::new(self.trouble.clone()),
            clock: Some(Arc::new(clock.clone())),
            ..ProcessOptions::new(7, default_settings(Mode::Run, 1))
        })
    }
}

const HALF_AN_HOUR: SignedDuration = SignedDuration::from_mins(30);

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_ahead_does_not_make_a_young_machine_look_gone() {
    let stage = Stage::new();
    let clock = WallClock::new(&stage.world.clock);
    stage.world.ec2.show_late(Duration::from_secs(90));
    stage.fail_launches(&[CallFault::AnswerLost]);
    let _process = stage.run_by(&clock);
    stage.pod("a");
    stage
        .until(30, "the machine runs unknown to its claim", |stage| {
            stage.running().len() == 1
        })
        .await;
    let claim = stage.all(NodeClaim)[0]["metadata"]["name"].clone();
    stage.delete(Pod, "a");
    stage.delete(NodeClaim, claim.as_str().unwrap());
    tokio::time::sleep(Duration::from_secs(10)).await;
    clock.set_ahead(SignedDuration::from_mins(5));
    tokio::time::sleep(Duration::from_secs(50)).await;
    assert_eq!(stage.all(NodeClaim).len(), 1, "EC2 may not show it yet");
    stage.until(90, "nothing is left", Stage::is_bare).await;
    assert_eq!(stage.machines().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_controller_whose_clock_is_wrong_gives_machines_the_time_they_have() {
    for ahead in [HALF_AN_HOUR, -HALF_AN_HOUR] {
        let stage = Stage::new();
        let clock = WallClock::new(&stage.world.clock);
        clock.set_ahead(ahead);
        let _process = stage.run_by(&clock);
        stage.one_pod_runs().await;
        assert_eq!(stage.machines().len(), 1, "{ahead} ahead");
        stage.delete(Pod, "a");
        stage.until(90, "nothing is left", Stage::is_bare).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_api_server_whose_clock_is_set_makes_no_claim_older_than_it_is() {
    for ahead in [HALF_AN_HOUR, -HALF_AN_HOUR] {
        let stage = Stage::new();
        let _process = stage.run();
        stage.one_pod_runs().await;
        stage.world.server_clock.set_ahead(ahead);
        stage.pod("b");
        stage
            .until(120, "the second pod runs", |stage| {
                stage.running_pods() == 2
            })
            .await;
        assert_eq!(stage.machines().len(), 2, "{ahead} ahead");
        stage.delete(Pod, "a");
        stage.delete(Pod, "b");
        stage.until(90, "nothing is left", Stage::is_bare).await;
    }
}

/// The own time follows a clock that was set only slowly; whoever leads next goes by it at once.
#[tokio::test(start_paused = true)]
async fn a_deadline_is_no_earlier_for_whoever_leads_next_where_the_api_servers_clock_was_set_ahead()
{
    let stage = Stage::new();
    stage.change(NodePool, "general", |pool| {
        pool["spec"]["template"]["spec"]["terminationGracePeriod"] = "3m".into();
    });
    let first = stage.run();
    stage.one_pod_runs().await;
    stage.hold();
    let claim = stage.all(NodeClaim)[0]["metadata"]["name"].clone();
    let ahead = SignedDuration::from_secs(150);
    stage.world.server_clock.set_ahead(ahead);
    tokio::time::sleep(Duration::from_secs(10)).await;
    stage.delete(NodeClaim, claim.as_str().unwrap());
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(stage.told("TerminationGracePeriodExpiring").len(), 1);
    first.stop().await;
    let _second = stage.start(Mode::Run, 8, Life::new());
    tokio::time::sleep(Duration::from_secs(110)).await;
    assert_eq!(
        stage.running_pods(),
        1,
        "it has three minutes, the last half of one to end"
    );
    stage
        .until(90, "the pod has left", |stage| stage.running_pods() == 0)
        .await;
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_was_far_ahead_stalls_no_collection() {
    let stage = Stage::new();
    stage.world.server_clock.set_ahead(4 * HALF_AN_HOUR);
    let process = stage.run();
    stage.one_pod_runs().await;
    stage.world.server_clock.set_ahead(SignedDuration::ZERO);
    tokio::time::sleep(Duration::from_secs(45)).await;
    let offering = OfferingKey::new("c5.xlarge", "us-east-1a", CapacityType::OnDemand);
    stage.world.ec2.stray("embedded", &offering);
    stage
        .until(60, "it runs", |stage| stage.running().len() == 2)
        .await;
    stage
        .until(240, "the machine without an owner is gone", |stage| {
            stage.running().len() == 1
        })
        .await;
    process.stop().await;
}
