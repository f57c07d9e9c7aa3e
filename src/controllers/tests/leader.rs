//! Several controllers run and one acts, whatever happens to it or to the lease.

use std::time::Duration;

use serde_json::json;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::Instant;

use super::Stage;
use crate::settings::{LeaseSettings, Mode};
use crate::sim::Process;
use crate::sim::api_server::{Cache, DeleteOptions, Key, Resource, Versions};
use crate::sim::embedded::{ProcessOptions, default_settings};
use crate::sim::faults::CallFault;
use crate::sim::history::Line;

/// A controller with a name, in the election.
fn start(stage: &Stage, who: &str, mode: Mode) -> Process {
    let mut settings = default_settings(mode, 1);
    settings.lease = Some(LeaseSettings::default());
    let seed = who.bytes().map(u64::from).sum();
    stage.world.start(ProcessOptions {
        who: who.to_owned(),
        faults: std::sync::Arc::new(stage.trouble.clone()),
        ..ProcessOptions::new(seed, settings)
    })
}

fn lease() -> Key {
    Key::new(Resource::Lease, "default", "tonnage")
}

/// The name of the controller that holds the lease; empty when nobody does.
fn holder(stage: &Stage) -> String {
    let held = stage.world.api.read(&lease(), |lease| {
        let identity = lease["spec"]["holderIdentity"].as_str().unwrap_or_default();
        identity.split('_').next().unwrap_or_default().to_owned()
    });
    held.unwrap_or_default()
}

pub(super) async fn until_held_by(stage: &Stage, who: &str, most: Duration) -> Duration {
    let begin = Instant::now();
    while holder(stage) != who {
        assert!(
            begin.elapsed() < most,
            "held by `{}`, not by {who}, after {most:?}",
            holder(stage)
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    begin.elapsed()
}

/// What a controller did, at EC2 and in the cluster, the lease apart: when and what.
fn deeds(lines: &mut UnboundedReceiver<Line>, who: &str) -> Vec<(String, String)> {
    let mut deeds = Vec::new();
    while let Ok(line) = lines.try_recv() {
        let text = |field: &str| {
            let value = line.fields.get(field).and_then(|value| value.as_str());
            value.unwrap_or_default().to_owned()
        };
        if text("client") == who && !text("object").starts_with("leases/") {
            deeds.push((line.at.clone(), text("operation") + &text("object")));
        }
    }
    deeds
}

/// Two controllers, the first of which leads.
pub(super) async fn two(stage: &Stage) -> (Process, Process) {
    let a = start(stage, "a", Mode::Run);
    until_held_by(stage, "a", Duration::from_secs(12)).await;
    let b = start(stage, "b", Mode::Run);
    tokio::time::sleep(Duration::from_secs(5)).await;
    (a, b)
}

#[tokio::test(start_paused = true)]
async fn of_two_controllers_one_acts() {
    let stage = Stage::new();
    let (_a, _b) = two(&stage).await;
    let mut lines = stage.world.history.listen();
    let mut again = stage.world.history.listen();
    stage.one_pod_runs().await;
    assert_eq!(deeds(&mut lines, "b"), []);
    assert!(!deeds(&mut again, "a").is_empty());
    assert_eq!(stage.machines().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn another_leads_within_12_s_of_a_crash_whenever_that_comes() {
    for quarter in 0..8 {
        let stage = Stage::new();
        let (a, _b) = two(&stage).await;
        stage.one_pod_runs().await;
        tokio::time::sleep(Duration::from_millis(quarter * 250)).await;
        a.kill();
        let after = until_held_by(&stage, "b", Duration::from_secs(12)).await;
        assert!(after >= Duration::from_secs(6), "only {after:?}");
        stage.pod("b");
        stage
            .until(120, "the other goes on", |stage| stage.running_pods() == 2)
            .await;
        assert_eq!(stage.machines().len(), 2, "nothing was bought twice");
    }
}

#[tokio::test(start_paused = true)]
async fn who_begins_to_lead_with_watches_that_are_behind_ends_no_machine_under_pods() {
    let stage = Stage::new();
    let (a, _b) = two(&stage).await;
    stage.leave_behind("b");
    tokio::time::sleep(Duration::from_secs(5)).await;
    stage.one_pod_runs().await;
    let machine = stage.running()[0].id.clone();
    a.kill();
    until_held_by(&stage, "b", Duration::from_secs(12)).await;
    tokio::time::sleep(Duration::from_mins(10)).await;
    assert_eq!(stage.running_pods(), 1);
    // It may buy for a pod that it takes for waiting, but nothing goes that pods are on.
    assert!(stage.running().iter().any(|found| found.id == machine));
}

#[tokio::test(start_paused = true)]
async fn another_leads_within_3_s_of_a_stop_and_a_call_on_its_way_buys_nothing_twice() {
    // Up to the end of the call, which takes 0.7 s, and then some.
    for tenth in 0..14 {
        let stage = Stage::new();
        let (a, _b) = two(&stage).await;
        stage.pod("a");
        stage
            .until(30, "a claim waits to be bought for", |stage| {
                !stage.all(Resource::NodeClaim).is_empty()
            })
            .await;
        tokio::time::sleep(Duration::from_millis(tenth * 100)).await;
        let stopped = tokio::spawn(async move { a.stop().await });
        until_held_by(&stage, "b", Duration::from_secs(3)).await;
        stopped.await.unwrap();
        let mut lines = stage.world.history.listen();
        stage
            .until(120, "the other goes on", |stage| stage.running_pods() == 1)
            .await;
        assert_eq!(deeds(&mut lines, "a"), []);
        assert_eq!(stage.machines().len(), 1, "nothing was bought twice");
    }
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_the_api_server_does_not_hear_stops_before_another_begins() {
    let stage = Stage::new();
    let (_a, _b) = two(&stage).await;
    // Its calls to EC2 go on and on: they are throttled for as long as anybody asks.
    stage.fail_launches(&[CallFault::Throttled; 100]);
    stage.pod("a");
    stage
        .until(30, "a claim is bought for", |stage| {
            stage.trouble.launches.lock().unwrap().len() < 100
        })
        .await;
    stage.trouble.cut_off.lock().unwrap().insert("a".to_owned());
    let begin = Instant::now();
    let mut asked = stage.trouble.launches.lock().unwrap().len();
    let mut last = begin;
    while holder(&stage) != "b" {
        assert!(begin.elapsed() < Duration::from_secs(12));
        tokio::time::sleep(Duration::from_millis(10)).await;
        let left = stage.trouble.launches.lock().unwrap().len();
        if left != asked && holder(&stage) != "b" {
            (asked, last) = (left, Instant::now());
        }
    }
    let quiet = last.duration_since(begin);
    assert!(
        quiet <= Duration::from_secs(6),
        "it still acted after {quiet:?}"
    );
    assert!(
        begin.elapsed() > Duration::from_millis(7_400),
        "{:?}",
        begin.elapsed()
    );
    stage.trouble.launches.lock().unwrap().clear();
    let mut lines = stage.world.history.listen();
    stage
        .until(120, "the other goes on", |stage| stage.running_pods() == 1)
        .await;
    assert_eq!(deeds(&mut lines, "a"), []);
    assert_eq!(stage.machines().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn who_lost_the_lease_stands_by_and_leads_again_with_nothing_remembered() {
    let stage = Stage::new();
    let (_a, b) = two(&stage).await;
    stage.one_pod_runs().await;
    stage.trouble.cut_off.lock().unwrap().insert("a".to_owned());
    until_held_by(&stage, "b", Duration::from_secs(12)).await;
    stage.trouble.cut_off.lock().unwrap().clear();
    stage.world.api.cut_watches("a");
    stage.delete(Resource::Pod, "a");
    stage.until(120, "nothing is left", Stage::is_bare).await;
    b.kill();
    until_held_by(&stage, "a", Duration::from_secs(12)).await;
    stage.one_pod_runs().await;
    assert_eq!(stage.machines().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_taken_deleted_or_annotated_never_gives_two_leaders() {
    let stage = Stage::new();
    let (_a, _b) = two(&stage).await;
    // An annotation changes nothing about who holds it.
    let key = lease();
    let annotate = |lease: &mut serde_json::Value| {
        lease["metadata"]["annotations"] = json!({"team": "platform"});
    };
    stage
        .world
        .api
        .change("user", &key, None, annotate)
        .unwrap();
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(holder(&stage), "a");
    let kept = stage.world.api.get(&key).unwrap();
    assert_eq!(kept["metadata"]["annotations"]["team"], "platform");

    // A stranger writes itself in: whoever led stops at its next renewal, and nobody leads for as long
    // as the stranger could.
    let steal = |lease: &mut serde_json::Value| {
        lease["spec"]["holderIdentity"] = json!("stranger");
    };
    stage.world.api.change("user", &key, None, steal).unwrap();
    tokio::time::sleep(Duration::from_millis(1_600)).await;
    let mut lines = stage.world.history.listen();
    let mut again = stage.world.history.listen();
    stage.pod("a");
    tokio::time::sleep(Duration::from_millis(7_300)).await;
    assert_eq!(holder(&stage), "stranger");
    assert_eq!(deeds(&mut lines, "a"), []);
    assert_eq!(deeds(&mut again, "b"), []);
    stage
        .until(60, "the pod runs", |stage| stage.running_pods() == 1)
        .await;

    // Deleted: the leader stops, and nobody makes a new one before the old one would have run out.
    let options = DeleteOptions::default();
    stage.world.api.delete("user", &key, &options).unwrap();
    let fresh = start(&stage, "c", Mode::Run);
    tokio::time::sleep(Duration::from_millis(7_400)).await;
    assert_eq!(holder(&stage), "");
    fresh.kill();
    stage
        .until(5, "there is a leader again", |stage| {
            !holder(stage).is_empty()
        })
        .await;
}

/// Nobody who saw twice that there is no Lease knows that there was one in between.
#[tokio::test(start_paused = true)]
async fn a_lease_that_is_deleted_again_and_again_never_gives_two_leaders() {
    let stage = Stage::new();
    let (_a, _b) = two(&stage).await;
    let options = DeleteOptions::default();
    let delete = || stage.world.api.delete("user", &lease(), &options);
    delete().unwrap();
    let begun = Instant::now();
    while holder(&stage).is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(30), "nobody leads");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // At once, so that who stands by has not looked meanwhile.
    let first = holder(&stage);
    delete().unwrap();
    tokio::time::sleep(Duration::from_millis(7_400)).await;
    assert_eq!(holder(&stage), "", "{first} may still act");
    stage
        .until(5, "there is a leader again", |stage| {
            !holder(stage).is_empty()
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn who_observes_takes_no_lease() {
    let stage = Stage::new();
    let _observer = start(&stage, "o", Mode::Observe);
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert_eq!(stage.world.api.get(&lease()), None);
}

/// A person must be told by something that exists, and how to answer where no NodePool is.
#[tokio::test(start_paused = true)]
async fn the_brake_of_collection_is_told_on_the_lease_where_no_node_pool_is_left() {
    let stage = Stage::new();
    let backup = stage.world.api.backup();
    let _leader = start(&stage, "first", Mode::Run);
    for name in ["a", "b", "c", "d", "e"] {
        stage.pod(name);
    }
    stage
        .until(300, "every pod runs", |stage| stage.running_pods() == 5)
        .await;
    let pool = stage.all(Resource::NodePool).remove(0);
    stage.world.api.restore(&backup, Versions::Raised);
    stage.delete(Resource::NodePool, "general");
    stage
        .until(900, "the lease says that the brake holds", |stage| {
            let events = stage.all(Resource::Event);
            events.iter().any(|event| {
                event["reason"] == "OrphanCollectionHalted" && event["regarding"]["kind"] == "Lease"
            })
        })
        .await;
    assert_eq!(stage.running().len(), 5, "nothing was terminated");
    let told = stage.told("OrphanCollectionHalted").remove(0);
    assert!(told.contains("no NodePool of Tonnage"), "{told}");
    let (_before, token) = told.rsplit_once("acknowledge-orphans=").unwrap();

    let mut pool = pool;
    pool["metadata"] = json!({
        "name": "any",
        "annotations": {"tonnage.dev/acknowledge-orphans": token},
    });
    stage.world.apply(pool).unwrap();
    stage
        .until(300, "what was acknowledged is collected", Stage::is_bare)
        .await;
}

/// The next leader has not seen the last claim, and a list that has nothing does not show it.
#[tokio::test(start_paused = true)]
async fn who_comes_to_lead_while_the_api_server_lists_nothing_waits_until_it_lists_claims() {
    let stage = Stage::new();
    let first = start(&stage, "first", Mode::Run);
    stage.one_pod_runs().await;
    stage.change(Resource::NodePool, "general", |pool| {
        pool["spec"]["limits"] = json!({ "nodes": "2" });
    });
    let _second = start(&stage, "second", Mode::Run);
    tokio::time::sleep(Duration::from_secs(30)).await;
    stage.pod("b");
    tokio::time::sleep(Duration::from_millis(500)).await;
    stage.world.api.start_again(Cache::Blank);
    tokio::time::sleep(Duration::from_secs(20)).await;
    first.stop().await;
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(stage.machines().len(), 1, "nobody bought meanwhile");
    stage.world.api.start_again(Cache::Filled);
    tokio::time::sleep(Duration::from_mins(2)).await;
    assert_eq!(stage.machines().len(), 2, "one was bought for the pod");
    assert_eq!(stage.running_pods(), 2);
}
