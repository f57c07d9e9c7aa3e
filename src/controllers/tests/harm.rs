//! One thing goes wrong, and only that one thing suffers.

use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::{Value, json};

use super::Stage;
use crate::settings::Mode;
use crate::sim::api_server::Resource::{Node, NodeClaim, NodeClass, NodePool, Pod};
use crate::sim::ec2::machine::EndCause;
use crate::sim::faults::CallFault;
use crate::sim::life::Life;

impl Stage {
    /// A second class and pool, before the others in every order.
    fn another_class(&self) {
        for (resource, name) in [(NodeClass, "default"), (NodePool, "general")] {
            let mut object = self
                .all(resource)
                .into_iter()
                .find(|object| object["metadata"]["name"] == name)
                .unwrap();
            object["metadata"] = json!({ "name": "another" });
            if resource == NodePool {
                object["spec"]["template"]["spec"]["nodeClassRef"]["name"] = json!("another");
                object["spec"]["template"]["spec"]["taints"] =
                    json!([{ "key": "another", "effect": "NoSchedule" }]);
            }
            self.world.apply(object).unwrap();
        }
    }

    fn names(&self) -> Vec<String> {
        let claims = self.all(NodeClaim);
        let names = claims.iter().map(|claim| &claim["metadata"]["name"]);
        names
            .map(|name| name.as_str().unwrap().to_owned())
            .collect()
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_class_that_cannot_be_held_stops_no_other() {
    let stage = Stage::new();
    stage.another_class();
    stage.refuse("ec2nodeclasses/another");
    let _process = stage.run();
    stage.one_pod_runs().await;
    let classes = stage.all(NodeClass);
    let held: Vec<bool> = classes
        .iter()
        .map(|class| class["metadata"]["finalizers"].is_array())
        .collect();
    assert_eq!(held, [false, true], "another, default");
}

/// An admission policy or a quota of the API server stands against the claims of one NodePool.
#[tokio::test(start_paused = true)]
async fn a_node_pool_whose_claims_are_refused_leaves_its_pods_to_another() {
    let stage = Stage::new();
    stage.another_class();
    stage.change(NodePool, "another", |pool| {
        pool["spec"]["template"]["spec"]["taints"] = json!([]);
        pool["spec"]["weight"] = json!(50);
    });
    stage.refuse_creates(&[true]);
    let _process = stage.run();
    stage.one_pod_runs().await;
    let claims = stage.all(NodeClaim);
    let pools: Vec<&Value> = claims
        .iter()
        .map(|claim| &claim["metadata"]["labels"]["karpenter.sh/nodepool"])
        .collect();
    assert_eq!(pools, ["general"]);
    let told = stage.told("NodeClaimsRefused");
    assert!(
        told.len() == 1 && told[0].contains("buys nothing for"),
        "{told:?}"
    );
}

/// An admission policy stands against one claim: the others of its NodePool, and those that come after, are made.
#[tokio::test(start_paused = true)]
async fn one_refused_claim_keeps_no_other_pod_waiting() {
    let stage = Stage::new();
    stage.refuse_creates(&[true, false]);
    let _process = stage.run();
    stage.pod("a");
    stage.pod("b");
    stage
        .until(5, "one of two claims is taken", |stage| {
            stage.names().len() == 1
        })
        .await;
    stage.pod("c");
    stage
        .until(8, "the pod that came after has a claim too", |stage| {
            stage.names().len() >= 2
        })
        .await;
    assert_eq!(stage.told("NodeClaimsRefused"), Vec::<String>::new());
    assert_eq!(stage.told("NodeClaimRefused").len(), 1);
    stage
        .until(120, "all three run", |stage| stage.running_pods() == 3)
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_node_class_that_ec2_does_not_answer_about_stops_no_other_for_long() {
    let stage = Stage::new();
    stage.another_class();
    let lost = std::iter::repeat_n(CallFault::Lost, 1);
    stage.trouble.resolves.lock().unwrap().extend(lost);
    let _process = stage.run();
    stage.pod("a");
    stage
        .until(45, "a machine is bought from the other class", |stage| {
            stage.machines().len() == 1
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn of_a_class_that_was_never_resolved_the_newest_reason_is_told() {
    let stage = Stage::new();
    let passing = std::iter::once(CallFault::Internal);
    let faults = passing.chain(std::iter::repeat_n(CallFault::Denied, 20));
    stage.trouble.resolves.lock().unwrap().extend(faults);
    let _process = stage.run();
    let is_told = |stage: &Stage, why: &str| {
        let pools = stage.all(NodePool);
        let why = format!("is not ready: DescribeSubnets: {why}");
        pools[0]["status"].to_string().contains(&why)
    };
    stage
        .until(30, "what passes is told", |stage| {
            is_told(stage, "An internal error")
        })
        .await;
    stage
        .until(60, "what does not pass takes its place", |stage| {
            is_told(stage, "You are not authorized")
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_cannot_be_written_holds_up_no_other() {
    let names = {
        let rehearsal = Stage::new();
        let _process = rehearsal.run();
        for pod in ["a", "b", "c"] {
            rehearsal.pod(pod);
        }
        rehearsal
            .until(30, "three claims", |stage| stage.names().len() == 3)
            .await;
        rehearsal.names()
    };
    let stage = Stage::new();
    stage.refuse(&format!("nodeclaims/{}", names[1]));
    let _process = stage.run();
    for pod in ["a", "b", "c"] {
        stage.pod(pod);
    }
    stage
        .until(120, "the pods of the other two run", |stage| {
            stage.running_pods() == 2
        })
        .await;
    assert!(stage.names().contains(&names[1]), "the same names came");
    assert_eq!(stage.machines().len(), 2);
    stage.relent();
    stage
        .until(600, "the third runs in the end", |stage| {
            stage.running_pods() == 3
        })
        .await;
    assert_eq!(stage.running().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn taking_a_machine_back_half_way_makes_one_claim_in_the_end() {
    let stage = Stage::new();
    let process = stage.run();
    stage.one_pod_runs().await;
    process.kill();
    for name in stage.names() {
        stage.change(NodeClaim, &name, |claim| {
            claim["metadata"]["finalizers"] = json!([]);
        });
        stage.delete(NodeClaim, &name);
    }
    // The claim can be made again, but its instance cannot be written down for a while.
    stage.refuse("/nodeclaims/");
    let _again = stage.start(Mode::Run, 8, Life::new());
    stage
        .until(300, "a claim without an instance is there", |stage| {
            stage.all(NodeClaim).len() == 1
        })
        .await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    let claims = stage.all(NodeClaim);
    assert_eq!(claims.len(), 1, "no second claim was made");
    assert!(
        claims[0]["status"]["providerID"].is_null(),
        "half of it is done"
    );
    stage.relent();
    let machine = stage.machines()[0].provider_id();
    stage
        .until(120, "it has its machine", |stage| {
            stage
                .all(NodeClaim)
                .iter()
                .map(|claim| &claim["status"]["providerID"])
                .eq([&Value::from(machine.clone())])
        })
        .await;
    assert_eq!((stage.running_pods(), stage.machines().len()), (1, 1));
    stage.delete(Pod, "a");
    stage.until(300, "nothing is left", Stage::is_bare).await;
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_ec2_shows_late_is_not_lost_with_its_claim() {
    let stage = Stage::new();
    stage.world.ec2.show_late(Duration::from_secs(90));
    stage.fail_launches(&[CallFault::AnswerLost]);
    let _process = stage.run();
    stage.pod("a");
    stage
        .until(30, "the machine runs unknown to its claim", |stage| {
            stage.running().len() == 1
        })
        .await;
    let claim = stage.names().remove(0);
    stage.delete(Pod, "a");
    stage.delete(NodeClaim, &claim);
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert_eq!(stage.names(), [claim], "EC2 may not show it yet");
    assert_eq!(stage.running().len(), 1);
    stage.until(90, "nothing is left", Stage::is_bare).await;
    assert_eq!(stage.machines().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_call_refused_after_a_lost_answer_buys_nothing_twice() {
    let stage = Stage::new();
    stage.world.ec2.show_late(Duration::from_mins(1));
    let refusals = std::iter::repeat_n(CallFault::Denied, 5);
    let faults: Vec<CallFault> = [CallFault::AnswerLost]
        .into_iter()
        .chain(refusals)
        .collect();
    stage.fail_launches(&faults);
    let _process = stage.run();
    stage.one_pod_runs().await;
    assert_eq!(stage.machines().len(), 1);
}

/// EC2 gave it and ended it before it joined: the same is not bought again at once, and the claim says why.
#[tokio::test(start_paused = true)]
async fn a_machine_that_does_not_start_is_followed_by_another_offering() {
    let stage = Stage::new();
    let _process = stage.run();
    stage.pod("a");
    stage
        .until(30, "a machine is bought", |stage| {
            stage.machines().len() == 1
        })
        .await;
    let first = stage.machines().remove(0);
    stage.world.ec2.end(&first.id, EndCause::Failed);
    stage
        .until(300, "the pod runs on another machine", |stage| {
            stage.running_pods() == 1
        })
        .await;
    let bought: Vec<String> = stage
        .machines()
        .iter()
        .map(|machine| machine.offering.capacity_type.to_string())
        .collect();
    assert_eq!(bought, ["spot", "on-demand"]);
    let told = stage.told("InstanceEnded").join(" ");
    assert!(told.contains("Server.InternalError"), "{told}");
}

impl Stage {
    /// Conditions of all claims of one type.
    fn claims_condition(&self, wanted: &str) -> Vec<Value> {
        let claims = self.all(NodeClaim);
        claims
            .iter()
            .filter_map(|claim| claim["status"]["conditions"].as_array())
            .flatten()
            .filter(|condition| condition["type"] == wanted)
            .cloned()
            .collect()
    }
}

/// The machine costs money, so Node and claim say why it is there, and EC2 is not asked all the time.
#[tokio::test(start_paused = true)]
async fn a_role_that_may_not_terminate_is_told_of_on_node_and_claim() {
    let stage = Stage::new();
    let _process = stage.run();
    stage.one_pod_runs().await;
    let keeps = &stage.trouble.keeps_instances;
    keeps.store(true, Ordering::Relaxed);
    stage.delete(Pod, "a");
    stage
        .until(120, "the claim says why", |stage| {
            let said = stage.claims_condition("InstanceTerminating");
            said.iter().any(|said| {
                let message = said["message"].as_str().unwrap();
                said["status"] == "Unknown"
                    && said["reason"] == "TerminationFailed"
                    && message.contains("allow ec2:TerminateInstances")
            })
        })
        .await;
    let before = stage.terminations();
    tokio::time::sleep(Duration::from_mins(30)).await;
    let calls = stage.terminations() - before;
    assert!((20..50).contains(&calls), "{calls} calls in half an hour");
    let events = stage.all(crate::sim::api_server::Resource::Event);
    let mut about: Vec<&str> = events
        .iter()
        .filter(|event| event["reason"] == "TerminationFailed")
        .map(|event| event["regarding"]["kind"].as_str().unwrap())
        .collect();
    about.sort_unstable();
    about.dedup();
    assert_eq!(about, ["Node", "NodeClaim"]);
    assert_eq!((stage.running().len(), stage.all(Node).len()), (1, 1));
    keeps.store(false, Ordering::Relaxed);
    stage.until(180, "nothing is left", Stage::is_bare).await;
}

#[tokio::test(start_paused = true)]
async fn an_orphan_that_may_not_be_terminated_is_told_of_where_people_look() {
    let stage = Stage::new();
    stage.trouble.keeps_instances.store(true, Ordering::Relaxed);
    let orphan = stage.stray();
    let _process = stage.run();
    stage
        .until(1_800, "the NodePool says it", |stage| {
            stage
                .told("TerminationFailed")
                .iter()
                .any(|told| told.contains(&orphan) && told.contains("allow ec2:TerminateInstances"))
        })
        .await;
    assert_eq!(stage.running().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn tags_that_ec2_does_not_take_hold_no_node_up() {
    let stage = Stage::new();
    stage.trouble.tags_nothing.store(true, Ordering::Relaxed);
    let _process = stage.run_with_names();
    for number in 0..50 {
        stage.pod(&format!("p{number}"));
    }
    stage
        .until(240, "all Nodes are usable", |stage| {
            let said = stage.claims_condition("Initialized");
            said.iter().filter(|said| said["status"] == "True").count() == 50
        })
        .await;
}
