//! What must hold, told as stories.

use std::time::Duration;

use serde_json::json;

use super::Stage;
use crate::settings::{Mode, Settings};
use crate::sim::api_server::Resource::{Node, NodeClaim, NodeClass, NodePool, Pod};
use crate::sim::embedded::default_settings;
use crate::sim::faults::CallFault;
use crate::sim::life::Life;

#[tokio::test(start_paused = true)]
async fn two_pods_become_two_machines_and_nothing_is_left_after_them() {
    let stage = Stage::new();
    let _process = stage.run();
    stage.two_pods_run().await;
    assert_eq!(stage.machines().len(), 2);
    let claims = stage.all(NodeClaim);
    stage
        .until(10, "claims are ready", |stage| {
            stage.all(NodeClaim).iter().all(|claim| {
                let conditions = claim["status"]["conditions"].as_array().unwrap();
                conditions
                    .iter()
                    .any(|found| found["type"] == "Ready" && found["status"] == "True")
            })
        })
        .await;
    assert_eq!(claims.len(), 2);
    let pool = &stage.all(NodePool)[0];
    assert_eq!(pool["status"]["nodes"], 2);
    assert_eq!(
        stage.all(NodeClass)[0]["metadata"]["finalizers"][0],
        "tonnage.dev/termination"
    );

    stage.delete(Pod, "a");
    stage
        .until(40, "the empty machine is gone", |stage| {
            stage.running().len() == 1
        })
        .await;
    assert_eq!(stage.running_pods(), 1, "the other pod was not touched");
    stage.delete(Pod, "b");
    stage.until(120, "nothing is left", Stage::is_bare).await;
    assert_eq!(stage.machines().len(), 2, "nothing was bought twice");
    for machine in stage.machines() {
        assert_eq!(machine.tags["Name"], "general", "that of its NodePool");
    }
    let calls = stage.world.ec2.calls();
    assert!(!calls.contains_key("CreateTags"), "{calls:?}");
}

#[tokio::test(start_paused = true)]
async fn machines_that_are_to_have_names_of_their_own_are_called_like_their_nodes() {
    let stage = Stage::new();
    let _process = stage.run_with_names();
    stage.two_pods_run().await;
    let named = |stage: &Stage| {
        let machines = stage.machines();
        let mut names = machines.iter().map(|machine| &machine.tags["Name"]);
        let nodes = stage.all(Node);
        names.all(|name| nodes.iter().any(|node| node["metadata"]["name"] == **name))
    };
    stage
        .until(10, "machines carry the names of Nodes", named)
        .await;
    for machine in stage.machines() {
        let claims = stage.all(NodeClaim);
        let claim = machine.tags["tonnage.dev/nodeclaim"].as_str();
        assert!(
            claims
                .iter()
                .any(|found| found["metadata"]["name"] == claim)
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_budget_that_holds_a_drain_up_costs_one_machine_and_not_one_after_another() {
    let stage = Stage::new();
    let _process = stage.run();
    stage.one_pod_runs().await;
    stage.hold();
    let claim = stage.all(NodeClaim)[0]["metadata"]["name"].clone();
    stage.delete(NodeClaim, claim.as_str().unwrap());
    tokio::time::sleep(Duration::from_mins(10)).await;
    assert_eq!(stage.running_pods(), 1, "the budget protects the pod");
    assert_eq!(stage.machines().len(), 2, "one machine waits for it");

    stage.free();
    stage.until(120, "nothing is left", Stage::is_bare).await;
    assert_eq!(stage.machines().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn pods_are_nominated_to_the_nodes_that_were_bought_for_them() {
    let stage = Stage::new();
    let _process = stage.run();
    stage.one_pod_runs().await;
    let pod = &stage.all(Pod)[0];
    let node = &stage.all(Node)[0]["metadata"]["name"];
    assert_eq!(&pod["status"]["nominatedNodeName"], node);
}

#[tokio::test(start_paused = true)]
async fn pods_are_nominated_also_when_they_are_planned_again_while_the_node_waits_for_ec2() {
    let stage = Stage::new();
    // Longer than the boot: the Node is there, and plans call it by its name, before EC2 shows whose it is.
    stage.world.ec2.show_late(Duration::from_mins(1));
    let _process = stage.run();
    stage.one_pod_runs().await;
    let pod = &stage.all(Pod)[0];
    let node = &stage.all(Node)[0]["metadata"]["name"];
    assert_eq!(&pod["status"]["nominatedNodeName"], node);
}

/// kube-controller-manager may see a pod on a Node before it sees that the Node has lost a taint that evicts.
#[tokio::test(start_paused = true)]
async fn a_pod_on_a_node_that_was_ready_before_it_registered_is_not_evicted() {
    let stage = Stage::new();
    stage.world.ec2.show_late(Duration::from_mins(1));
    let _process = stage.run();
    stage.pod("a");
    let first = stage.all(Pod)[0]["metadata"]["uid"].clone();
    stage
        .until(150, "the pod runs", |stage| stage.running_pods() == 1)
        .await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    let pods = stage.all(Pod);
    assert_eq!(pods.len(), 1);
    assert_eq!(pods[0]["metadata"]["uid"], first);
    assert_eq!(pods[0]["status"]["phase"], "Running");
    let node = &stage.all(Node)[0];
    assert_eq!(node["spec"]["taints"], json!([]), "it is open");
}

#[tokio::test(start_paused = true)]
async fn throttling_and_lost_answers_buy_nothing_twice() {
    let stage = Stage::new();
    stage.fail_launches(&[
        CallFault::Throttled,
        CallFault::AnswerLost,
        CallFault::Throttled,
        CallFault::AnswerLost,
    ]);
    let _process = stage.run();
    stage.two_pods_run().await;
    assert_eq!(stage.machines().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_partial_fleet_is_filled_up_with_what_else_the_claim_allows() {
    let stage = Stage::new();
    stage.fail_launches(&[CallFault::Short(1)]);
    let _process = stage.run();
    stage.two_pods_run().await;
    let kinds: Vec<String> = stage
        .machines()
        .iter()
        .map(|machine| machine.offering.capacity_type.to_string())
        .collect();
    assert_eq!(kinds, ["spot", "on-demand"]);
    stage
        .until(5, "it is told", |stage| {
            stage
                .told("InsufficientCapacityError")
                .iter()
                .any(|message| message.starts_with("1 of 2 instances"))
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_node_with_anothers_provider_id_is_ignored() {
    let stage = Stage::new();
    let _process = stage.run();
    stage.one_pod_runs().await;
    let provider_id = stage.machines()[0].provider_id();
    let impostor = json!({
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": "impostor"},
        "spec": {
            "providerID": provider_id,
            "taints": [{"key": "karpenter.sh/unregistered", "effect": "NoExecute"}],
        },
        "status": {"conditions": [{"type": "Ready", "status": "True"}]},
    });
    stage.world.apply(impostor).unwrap();
    stage
        .until(30, "it is told", |stage| {
            !stage.told("ProviderIDConflict").is_empty()
        })
        .await;
    let nodes = stage.all(Node);
    let impostor = nodes
        .iter()
        .find(|node| node["metadata"]["name"] == "impostor")
        .unwrap();
    assert!(impostor["metadata"]["labels"]["karpenter.sh/registered"].is_null());
}

#[tokio::test(start_paused = true)]
async fn an_impossible_pod_is_told_why_and_disturbs_nobody() {
    let stage = Stage::new();
    let _process = stage.run();
    stage.pod_of("huge", "1000");
    stage.pod("a");
    stage
        .until(120, "the other pod runs", |stage| stage.running_pods() == 1)
        .await;
    stage
        .until(30, "it is told why", |stage| {
            stage
                .told("FailedScheduling")
                .iter()
                .any(|message| message.contains("general"))
        })
        .await;
    assert_eq!(stage.machines().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_claim_deleted_while_its_launch_is_unanswered_leaks_nothing() {
    let stage = Stage::new();
    stage.fail_launches(&[CallFault::AnswerLost]);
    let _process = stage.run();
    stage.pod("a");
    stage
        .until(30, "the machine runs unknown to its claim", |stage| {
            stage.running().len() == 1
        })
        .await;
    let name = stage.all(NodeClaim)[0]["metadata"]["name"]
        .as_str()
        .unwrap()
        .to_owned();
    stage.delete(Pod, "a");
    stage.delete(NodeClaim, &name);
    stage.until(120, "nothing is left", Stage::is_bare).await;
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_belongs_to_no_claim_is_collected() {
    let stage = Stage::new();
    let _process = stage.run();
    stage.stray();
    stage
        .until(180, "it is terminated", |stage| stage.running().is_empty())
        .await;
    stage.until(180, "its node is gone", Stage::is_bare).await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_a_slow_watch_hides_keeps_its_node() {
    let stage = Stage::new();
    let _process = stage.run();
    stage.one_pod_runs().await;
    stage.delay_pods(Duration::from_secs(20));
    tokio::time::sleep(Duration::from_secs(5)).await;
    stage.delete(Pod, "a");
    tokio::time::sleep(Duration::from_secs(5)).await;
    stage.pod("b");
    stage
        .until(10, "the next pod runs on the same node", |stage| {
            stage.running_pods() == 1
        })
        .await;
    // The controller learns of the end of the first pod long before it learns of the second.
    tokio::time::sleep(Duration::from_mins(5)).await;
    assert_eq!(stage.running_pods(), 1, "the second pod was not touched");
    assert_eq!(stage.machines().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn claims_that_are_lost_do_not_take_working_nodes_along() {
    let stage = Stage::new();
    let process = stage.run();
    stage.one_pod_runs().await;
    let machine = stage.running()[0].id.clone();
    process.kill();
    for claim in stage.all(NodeClaim) {
        let name = claim["metadata"]["name"].as_str().unwrap();
        stage.change(NodeClaim, name, |claim| {
            claim["metadata"]["finalizers"] = json!([]);
        });
        stage.delete(NodeClaim, name);
    }
    let _again = stage.start(Mode::Run, 8, Life::new());
    stage
        .until(300, "the machine has a claim again", |stage| {
            stage.all(NodeClaim).len() == 1
        })
        .await;
    assert_eq!(stage.running_pods(), 1, "the pod was not touched");
    assert_eq!(stage.machines().len(), 1, "nothing was bought twice");
    assert_eq!(stage.running()[0].id, machine);
    stage.delete(Pod, "a");
    stage.until(300, "nothing is left", Stage::is_bare).await;
}

#[tokio::test(start_paused = true)]
async fn observing_writes_nothing() {
    let stage = Stage::new();
    let before = (stage.all(NodePool), stage.all(NodeClass));
    let process = stage.start(Mode::Observe, 7, Life::new());
    stage.pod("a");
    for _second in 0..60 {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert_eq!((stage.all(NodePool), stage.all(NodeClass)), before);
    assert!(stage.all(NodeClaim).is_empty() && stage.machines().is_empty());
    assert_eq!(process.life.writes(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_paused_pool_buys_nothing_and_lets_nothing_go() {
    let stage = Stage::new();
    let _process = stage.run();
    stage.one_pod_runs().await;
    stage.change(NodePool, "general", |pool| {
        pool["metadata"]["annotations"] = json!({"tonnage.dev/paused": "true"});
    });
    stage.delete(Pod, "a");
    stage.pod("b");
    stage.pod("c");
    for _second in 0..60 {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(stage.machines().len(), 1);
    assert_eq!(stage.running().len(), 1);
}

/// Kills the controller right after each of its writes in turn, that write included, and starts it
/// again: every end is the same, with nothing leaked and nothing doubled.
async fn killed_after_any_write_it_ends_the_same(settings: &Settings) {
    let mut deaths = 0;
    for fatal in 1.. {
        let stage = Stage::new();
        let life = Life::fatal_after(Some(fatal));
        let first = stage.start_with(settings.clone(), 7, life.clone());
        stage.pod("a");
        stage.pod("b");
        let mut second = None;
        for _half_second in 0..900 {
            if life.is_dead() && second.is_none() {
                first.kill();
                second = Some(stage.start_with(settings.clone(), 8, Life::new()));
            }
            if stage.running_pods() == 2 {
                stage.delete(Pod, "a");
                stage.delete(Pod, "b");
            }
            if stage.all(Pod).is_empty() && stage.is_bare() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        let bought = stage.machines().len();
        assert!(
            stage.all(Pod).is_empty() && stage.is_bare(),
            "killed after write {fatal}: claims {:#?}, nodes {:#?}, running {:?}",
            stage.all(NodeClaim),
            stage.all(Node),
            super::ids(&stage.running()),
        );
        assert_eq!(bought, 2, "killed after write {fatal}");
        first.kill();
        let Some(second) = second else { break };
        second.kill();
        deaths += 1;
    }
    assert!(deaths > 20, "only {deaths} writes were there to die after");
}

#[tokio::test(start_paused = true)]
async fn killed_after_any_write_a_controller_that_nominates_pods_ends_the_same() {
    killed_after_any_write_it_ends_the_same(&default_settings(Mode::Run, 1)).await;
}

#[tokio::test(start_paused = true)]
async fn killed_after_any_write_a_controller_that_binds_pods_ends_the_same() {
    let settings = Settings {
        bind_pods: true,
        ..default_settings(Mode::Run, 1)
    };
    killed_after_any_write_it_ends_the_same(&settings).await;
}
