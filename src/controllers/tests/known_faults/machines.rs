//! Machines that do not become what they were bought as, and one that is not any more.

use std::time::Duration;

use jiff::SignedDuration;
use serde_json::json;

use super::Stage;
use crate::cloud::reservations::Described;
use crate::controllers::tests::ids;
use crate::controllers::tests::reservations::described;
use crate::sim::api_server::Resource::{Node, NodeClaim, NodePool, Pod};

/// Elsewhere a replacement that hangs keeps what it replaces closed for ten minutes or an hour, and is then left
/// running; here its pod takes room that comes free meanwhile, the machine that hangs is given up and paid for no
/// longer, and no Node stays closed because of it.
#[tokio::test(start_paused = true)]
async fn a_replacement_that_never_joins_holds_nothing_up() {
    let stage = Stage::new();
    let _process = stage.run();
    stage.service();
    stage
        .until(120, "it runs", |stage| stage.running_pods() == 1)
        .await;
    let taken = stage.running()[0].id.clone();
    stage.pod("b");
    stage
        .until(120, "both run", |stage| stage.running_pods() == 2)
        .await;
    stage.world.ec2.make_barren(1);
    stage.world.ec2.reclaim(&taken);
    stage
        .until(60, "another machine is bought", |stage| {
            stage.machines().len() == 3
        })
        .await;
    let hangs = stage.machines()[2].id.clone();
    stage
        .until(240, "the machine is gone, and its Node", |stage| {
            stage.all(Node).len() == 1
        })
        .await;
    assert_eq!(stage.fenced(), Vec::<String>::new());
    stage.delete(Pod, "b");
    stage
        .until(60, "the pod runs in the room that came free", |stage| {
            stage.running_pods() == 1
        })
        .await;
    stage
        .until(20 * 60, "the machine that hangs is given up", |stage| {
            stage.running().iter().all(|machine| machine.id != hangs)
        })
        .await;
    assert_eq!(stage.running().len(), 1);
    assert_eq!(stage.fenced(), Vec::<String>::new());
}

/// Elsewhere a Node that registers and never becomes usable, because nothing takes its startup taint off, is kept
/// and its pod waits for it; here it is given up after the time that its NodePool gives it, with a word about why,
/// and a machine that does become usable takes the pod.
#[tokio::test(start_paused = true)]
async fn a_node_that_never_becomes_usable_is_given_up() {
    let stage = Stage::new();
    stage.change(NodePool, "general", |pool| {
        pool["metadata"]["annotations"] = json!({ "tonnage.dev/initialization-timeout": "6m" });
        pool["spec"]["template"]["spec"]["startupTaints"] =
            json!([{ "key": "example.com/agent", "effect": "NoSchedule" }]);
    });
    let _process = stage.run();
    stage.pod("a");
    stage
        .until(120, "its Node has registered", |stage| {
            stage.all(Node).len() == 1
        })
        .await;
    let hangs = stage.running()[0].id.clone();
    stage
        .until(9 * 60, "the machine is given up", |stage| {
            stage.running().iter().all(|machine| machine.id != hangs)
        })
        .await;
    let told = stage.told("InitializationTimeout");
    assert!(
        told.iter()
            .any(|message| message.contains("example.com/agent")),
        "{told:?}"
    );
    stage.change(NodePool, "general", |pool| {
        pool["spec"]["template"]["spec"]["startupTaints"] = json!([]);
    });
    stage
        .until(15 * 60, "the pod runs on another", |stage| {
            stage.phase("a") == "Running"
        })
        .await;
}

/// Elsewhere a claim keeps the price that it was made with; here a machine that EC2 bills as on-demand, because its
/// reservation has ended, is called on-demand from then on, and stays.
#[tokio::test(start_paused = true)]
async fn a_machine_whose_reservation_has_ended_is_said_to_be_on_demand_and_stays() {
    let stage = Stage::reserved(1, &["on-demand"]);
    let hour = SignedDuration::from_hours(1);
    let ends = stage.world.now().checked_add(hour).unwrap();
    stage.world.ec2.reserve(Described {
        ends: Some(ends),
        ..described("cr-1", 1)
    });
    let _process = stage.run();
    stage.one_pod_runs().await;
    let before = ids(&stage.running());
    let labels = |stage: &Stage, resource| {
        let all = stage.all(resource);
        all[0]["metadata"]["labels"].clone()
    };
    tokio::time::sleep(Duration::from_mins(57)).await;
    for resource in [NodeClaim, Node] {
        let labels = labels(&stage, resource);
        assert_eq!(labels["karpenter.sh/capacity-type"], "reserved", "{labels}");
    }
    stage
        .until(300, "claim and Node are on-demand", |stage| {
            [NodeClaim, Node].iter().all(|resource| {
                let labels = labels(stage, *resource);
                labels["karpenter.sh/capacity-type"] == "on-demand"
                    && labels
                        .as_object()
                        .unwrap()
                        .keys()
                        .all(|key| !key.starts_with("karpenter.k8s.aws/capacity-reservation"))
            })
        })
        .await;
    assert!(stage.world.now() >= ends);
    assert_eq!(ids(&stage.running()), before, "the machine stays");
    assert_eq!(stage.running_pods(), 1);
    let told = stage.told("ReservationEnded");
    let price =
        "cr-1 has ended; EC2 bills the machine as on-demand from now on, at 0.170 USD per hour";
    assert!(told.iter().any(|said| said.contains(price)), "{told:?}");
}
