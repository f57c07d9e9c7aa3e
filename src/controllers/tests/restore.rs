//! The API server goes back to a backup, told as stories.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::json;

use super::leader::{two, until_held_by};
use super::{Stage, ids};
use crate::api::labels;
use crate::model::instance::Instance;
use crate::settings::Mode;
use crate::sim::api_server::Resource::{Node, NodeClaim, NodePool, Pod};
use crate::sim::api_server::{Cache, Versions};
use crate::sim::faults::CallFault;
use crate::sim::life::Life;

/// How long the deletion is on its way that a restore overtakes.
const ON_ITS_WAY: Duration = Duration::from_secs(5);

impl Stage {
    fn allow_one_machine(&self) {
        self.change(NodePool, "general", |pool| {
            pool["spec"]["limits"] = json!({ "nodes": "1" });
        });
    }

    async fn keeps_to_one_machine_with_filled_lists(&self) {
        self.world.api.start_again(Cache::Filled);
        tokio::time::sleep(Duration::from_mins(2)).await;
        assert_eq!(self.machines().len(), 1, "the limit holds");
        assert_eq!(self.running_pods(), 1);
    }

    /// As [`Stage::until`], within a minute and not a moment late.
    async fn at_once(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        for _moment in 0..3_000 {
            if holds(self) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("not within a minute: {what}");
    }

    /// One pod runs on one machine that stays, and was evicted from none.
    fn is_as_it_was(&self) {
        let happened = self.world.history.since(0);
        assert!(
            happened.iter().all(|line| line.event != "PodEvicted"),
            "nothing was wrong with its machine"
        );
        assert_eq!((self.running_pods(), self.running().len()), (1, 1));
        for kind in [NodeClaim, Node] {
            let left = self.all(kind);
            let [object] = left.as_slice() else {
                panic!("one of each: {left:?}");
            };
            assert!(object["metadata"]["deletionTimestamp"].is_null());
        }
    }

    /// Every claim names a machine of its own, and there is no other.
    fn each_claim_has_one_machine(&self) {
        let claims = self.all(NodeClaim);
        let named = claims
            .iter()
            .map(|claim| claim["status"]["providerID"].as_str());
        let named: BTreeSet<Option<&str>> = named.collect();
        let machines = self.machines();
        let bought: Vec<String> = machines.iter().map(Instance::provider_id).collect();
        let bought: BTreeSet<Option<&str>> = bought.iter().map(|id| Some(id.as_str())).collect();
        assert_eq!(named, bought);
        assert_eq!(claims.len(), machines.len());
    }

    /// The records of launches on claims.
    fn records(&self) -> Vec<String> {
        let claims = self.all(NodeClaim);
        let records = claims.iter().filter_map(|claim| {
            let record = claim["metadata"]["annotations"]["tonnage.dev/launch"].as_str();
            record.map(str::to_owned)
        });
        records.collect()
    }
}

/// A pod runs, and ends after a backup; while the deletion of one half of its machine is on its way, the
/// API server goes back to the backup. Nothing was wrong with the machine, so the pod stays there.
async fn an_empty_machine_is_filled_again_by_a_restore(deleted: &'static str) {
    let stage = Stage::new();
    let _process = stage.run();
    stage.one_pod_runs().await;
    let backup = stage.world.api.backup();
    stage.delay("DELETE", deleted, ON_ITS_WAY);
    // What EC2 has ended no restore brings back.
    let keeps_instances = &stage.trouble.keeps_instances;
    keeps_instances.store(true, Ordering::Relaxed);
    stage.delete(Pod, "a");
    let is_going = |stage: &Stage| {
        let claims = stage.all(NodeClaim);
        claims.iter().any(|claim| {
            let conditions = claim["status"]["conditions"].as_array();
            let mut conditions = conditions.into_iter().flatten();
            let is_deleted = claim["metadata"]["deletionTimestamp"].is_string();
            let is_empty = conditions.any(|condition| condition["type"] == "DisruptionReason");
            is_deleted || deleted == CLAIMS && is_empty
        })
    };
    stage.at_once("the machine goes as empty", is_going).await;
    tokio::time::sleep(ON_ITS_WAY / 10).await;
    stage.world.api.restore(&backup, Versions::Raised);
    keeps_instances.store(false, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_mins(2)).await;
    stage.is_as_it_was();
}

#[tokio::test(start_paused = true)]
async fn a_node_is_not_deleted_once_a_restore_has_taken_back_that_its_claim_goes() {
    let stage = Stage::new();
    let _process = stage.run();
    stage.one_pod_runs().await;
    stage.delay("DELETE", CLAIMS, ON_ITS_WAY);
    stage.delete(Pod, "a");
    let is_fenced = |stage: &Stage| {
        let nodes = stage.all(Node);
        let mut taints = nodes
            .iter()
            .filter_map(|node| node["spec"]["taints"].as_array());
        taints.any(|taints| {
            taints
                .iter()
                .any(|taint| taint["key"] == labels::DISRUPTED_TAINT)
        })
    };
    stage.at_once("the empty Node is fenced", is_fenced).await;
    tokio::time::sleep(ON_ITS_WAY / 2).await;
    // It was bound before the fence, and comes up only now.
    stage.pod_with(
        "b",
        &json!({
            "nodeName": stage.all(Node)[0]["metadata"]["name"],
            "containers": [{ "name": "main", "resources": { "requests": { "cpu": "1" } } }],
        }),
    );
    let backup = stage.world.api.backup();
    stage.delay("GET", NODES, ON_ITS_WAY);
    let is_going = |stage: &Stage| {
        let claims = stage.all(NodeClaim);
        let mut going = claims
            .iter()
            .map(|claim| &claim["metadata"]["deletionTimestamp"]);
        going.any(serde_json::Value::is_string)
    };
    stage.at_once("its claim goes", is_going).await;
    tokio::time::sleep(ON_ITS_WAY / 10).await;
    stage.world.api.restore(&backup, Versions::Raised);
    tokio::time::sleep(Duration::from_mins(2)).await;
    stage.is_as_it_was();
}

/// Claims, and Nodes, as paths name them.
const CLAIMS: &str = "/nodeclaims/";
const NODES: &str = "/api/v1/nodes/";

#[tokio::test(start_paused = true)]
async fn a_claim_that_was_empty_is_not_deleted_once_a_restore_has_filled_its_machine() {
    an_empty_machine_is_filled_again_by_a_restore(CLAIMS).await;
}

#[tokio::test(start_paused = true)]
async fn a_node_that_was_empty_is_not_deleted_once_a_restore_has_filled_it() {
    an_empty_machine_is_filled_again_by_a_restore(NODES).await;
}

#[tokio::test(start_paused = true)]
async fn a_restored_api_server_costs_nobody_a_fleet() {
    let stage = Stage::new();
    let backup = stage.world.api.backup();
    let _process = stage.run();
    for name in ["a", "b", "c", "d", "e"] {
        stage.pod(name);
    }
    stage
        .until(300, "every pod runs", |stage| stage.running_pods() == 5)
        .await;
    stage.world.api.restore(&backup, Versions::Raised);
    tokio::time::sleep(Duration::from_mins(15)).await;
    assert_eq!(stage.running().len(), 5, "nothing was terminated");
    let told = stage.told("OrphanCollectionHalted");
    let token = told
        .iter()
        .find_map(|message| message.rsplit_once("acknowledge-orphans="))
        .map(|(_before, token)| token.to_owned());
    let token = token.unwrap_or_else(|| panic!("nobody is told how to go on: {told:?}"));
    stage.change(NodePool, "general", |pool| {
        pool["metadata"]["annotations"] = json!({ "tonnage.dev/acknowledge-orphans": token });
    });
    stage
        .until(300, "what was acknowledged is collected", Stage::is_bare)
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_was_bound_in_the_backup_starts_once_more() {
    let stage = Stage::new();
    let _process = stage.run();
    stage.pod("a");
    stage
        .until(120, "the pod is bound", |stage| {
            stage
                .all(Pod)
                .iter()
                .any(|pod| pod["spec"]["nodeName"].is_string())
        })
        .await;
    let backup = stage.world.api.backup();
    assert_eq!(stage.running_pods(), 0, "its kubelet has not begun");
    stage
        .until(30, "the pod runs", |stage| stage.running_pods() == 1)
        .await;
    stage.world.api.restore(&backup, Versions::Raised);
    assert_eq!(stage.running_pods(), 0, "the backup knows nothing of it");
    stage
        .until(30, "the pod runs again", |stage| stage.running_pods() == 1)
        .await;
    assert_eq!(
        stage.machines().len(),
        1,
        "its machine is still the claim's"
    );
}

#[tokio::test(start_paused = true)]
async fn a_node_that_its_kubelet_registers_anew_is_opened_again() {
    let stage = Stage::new();
    let _process = stage.run();
    stage.one_pod_runs().await;
    let machine = ids(&stage.machines());
    let nodes = stage.all(Node);
    let name = nodes[0]["metadata"]["name"].as_str().unwrap();
    // A kubelet that starts and finds no Node makes one, with what it was started with.
    let mut anew = nodes[0].clone();
    for field in ["uid", "resourceVersion", "creationTimestamp", "finalizers"] {
        anew["metadata"].as_object_mut().unwrap().remove(field);
    }
    let present = anew["metadata"]["labels"].as_object_mut().unwrap();
    for label in [labels::REGISTERED, labels::INITIALIZED] {
        assert!(present.remove(label).is_some(), "{label} was written to it");
    }
    let joins = json!([{ "key": labels::UNREGISTERED_TAINT, "effect": "NoExecute" }]);
    anew["spec"]["taints"] = joins.clone();
    stage.change(Node, name, |node| {
        node["metadata"]["finalizers"] = json!([]);
    });
    stage.delete(Node, name);
    let status = anew["status"].take();
    stage.world.api.create("kubelet", anew).unwrap();
    let (api, key) = (&stage.world.api, Stage::key(Node, name));
    api.change("kubelet", &key, Some("status"), |node| {
        node["status"] = status;
    })
    .unwrap();
    // It is ready, and so kube-controller-manager takes off what admission puts on.
    stage.change(Node, name, |node| {
        node["spec"]["taints"] = joins;
    });
    stage.pod_with(
        "b",
        &json!({ "containers": [{ "name": "main", "resources": { "requests": { "cpu": "100m" } } }] }),
    );
    let is_open = |stage: &Stage| {
        let node = &stage.all(Node)[0];
        let label = &node["metadata"]["labels"][labels::INITIALIZED];
        label == "true" && node["spec"]["taints"].as_array().is_none_or(Vec::is_empty)
    };
    stage.until(60, "it is open again", is_open).await;
    stage
        .until(60, "a pod runs there", |stage| stage.running_pods() > 0)
        .await;
    assert_eq!(ids(&stage.machines()), machine, "nothing else was bought");
}

#[tokio::test(start_paused = true)]
async fn what_was_bought_after_a_backup_is_not_bought_again_for_the_same_claim() {
    let stage = Stage::new();
    stage.fail_launches(&[CallFault::Short(0)]);
    let _process = stage.run();
    stage.pod("a");
    let is_written = |stage: &Stage| !stage.records().is_empty();
    stage
        .at_once("the first attempt is written down", is_written)
        .await;
    let backup = stage.world.api.backup();
    let first = stage.records();
    stage
        .until(120, "the pod runs", |stage| stage.running_pods() == 1)
        .await;
    assert_ne!(stage.records(), first, "the first attempt bought nothing");
    stage.world.api.restore(&backup, Versions::Raised);
    tokio::time::sleep(Duration::from_mins(2)).await;
    let machines = stage.machines();
    let [machine] = machines.as_slice() else {
        panic!("nothing more was bought: {machines:?}");
    };
    let claims = stage.all(NodeClaim);
    let named = claims.iter().map(|claim| &claim["status"]["providerID"]);
    assert_eq!(named.collect::<Vec<_>>(), [&json!(machine.provider_id())]);
}

/// The first attempt buys one machine for two claims, and the claim that is left is a batch of its own then.
#[tokio::test(start_paused = true)]
async fn what_was_bought_in_another_batch_since_the_backup_is_not_bought_again() {
    let stage = Stage::new();
    stage.fail_launches(&[CallFault::Short(1)]);
    let _process = stage.run();
    stage.pod("a");
    stage.pod("b");
    let is_written = |stage: &Stage| stage.records().len() == 2;
    stage
        .at_once("the first attempt is written down", is_written)
        .await;
    let backup = stage.world.api.backup();
    stage
        .until(120, "both pods run", |stage| stage.running_pods() == 2)
        .await;
    stage.world.api.restore(&backup, Versions::Raised);
    tokio::time::sleep(Duration::from_mins(4)).await;
    stage.each_claim_has_one_machine();
    assert_eq!(stage.machines().len(), 2, "nothing more was bought");
}

/// The backup knows of the claim and of no record, and EC2 had refused what the first record asked for.
#[tokio::test(start_paused = true)]
async fn what_another_controller_bought_since_the_backup_is_not_bought_again() {
    for is_written in [false, true] {
        let stage = Stage::new();
        stage.fail_launches(&[CallFault::Denied]);
        let process = stage.run();
        stage.pod("a");
        let is_there = |stage: &Stage| {
            let claims = stage.all(NodeClaim).len();
            claims == 1 && (!is_written || !stage.records().is_empty())
        };
        stage.at_once("there is a claim", is_there).await;
        let backup = stage.world.api.backup();
        stage
            .until(300, "the pod runs", |stage| stage.running_pods() == 1)
            .await;
        process.kill();
        stage.world.api.restore(&backup, Versions::Raised);
        let _another = stage.start(Mode::Run, 8, Life::new());
        tokio::time::sleep(Duration::from_mins(4)).await;
        stage.each_claim_has_one_machine();
        assert_eq!(stage.machines().len(), 1, "nothing more was bought");
    }
}

/// It stood by during the restore, and EC2 need not show at once what the other bought.
#[tokio::test(start_paused = true)]
async fn what_ec2_hides_from_the_next_leader_after_a_restore_is_not_bought_again() {
    for hidden in [1, 2] {
        let stage = Stage::new();
        // Another token than that of the first attempt buys.
        stage.fail_launches(&[CallFault::Denied]);
        let (first, _second) = two(&stage).await;
        stage.pod("a");
        stage.pod("b");
        let are_there = |stage: &Stage| stage.all(NodeClaim).len() == 2;
        stage.at_once("there are two claims", are_there).await;
        let backup = stage.world.api.backup();
        stage
            .until(300, "both pods run", |stage| stage.running_pods() == 2)
            .await;
        first.kill();
        let machines = stage.machines();
        let hidden = machines.iter().take(hidden);
        hidden
            .clone()
            .for_each(|machine| stage.world.ec2.hide(&machine.id));
        stage.world.api.restore(&backup, Versions::Raised);
        until_held_by(&stage, "b", Duration::from_secs(15)).await;
        tokio::time::sleep(Duration::from_mins(1)).await;
        hidden.for_each(|machine| stage.world.ec2.reveal(&machine.id));
        tokio::time::sleep(Duration::from_mins(4)).await;
        stage.each_claim_has_one_machine();
        assert_eq!(stage.machines().len(), 2, "nothing more was bought");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_there_counts_while_the_api_server_lists_nothing() {
    let stage = Stage::new();
    let _process = stage.run();
    stage.one_pod_runs().await;
    stage.allow_one_machine();
    tokio::time::sleep(Duration::from_secs(5)).await;
    stage.world.api.start_again(Cache::Blank);
    tokio::time::sleep(Duration::from_secs(5)).await;
    stage.pod("b");
    tokio::time::sleep(Duration::from_secs(40)).await;
    stage.keeps_to_one_machine_with_filled_lists().await;
}

#[tokio::test(start_paused = true)]
async fn who_has_just_started_buys_nothing_while_ec2_has_machines_of_claims_that_are_not_listed() {
    let stage = Stage::new();
    let process = stage.run();
    stage.one_pod_runs().await;
    process.kill();
    stage.allow_one_machine();
    stage.pod("b");
    stage.world.api.start_again(Cache::BlankFor(NodeClaim));
    let _another = stage.start(Mode::Run, 8, Life::new());
    tokio::time::sleep(Duration::from_secs(45)).await;
    assert_eq!(stage.machines().len(), 1, "nothing was bought");
    stage.keeps_to_one_machine_with_filled_lists().await;
}

#[tokio::test(start_paused = true)]
async fn versions_go_on_after_a_restore_or_are_counted_again() {
    let stage = Stage::new();
    let api = &stage.world.api;
    let backup = api.backup();
    let then = api.version();
    stage.pod("a");
    stage.pod("b");
    let last = api.version();
    api.restore(&backup, Versions::Raised);
    assert!(api.version() > last, "no version is given twice");
    stage.pod("a");
    api.restore(&backup, Versions::SetBack);
    assert_eq!(api.version(), then);
    assert!(stage.all(Pod).is_empty(), "what came since is gone");
}
