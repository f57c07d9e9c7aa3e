//! EC2 announces something, and what runs there is moved in time.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};

use super::Stage;
use crate::model::instance::Instance;
use crate::sim::api_server::Resource::{Node, NodeClaim};

impl Stage {
    /// A Deployment of one pod of three cores.
    pub(super) fn service(&self) {
        let template = json!({
            "metadata": {"labels": {"app": "service"}},
            "spec": {
                "terminationGracePeriodSeconds": 5,
                "containers": [{"name": "main", "resources": {"requests": {"cpu": "3", "memory": "4Gi"}}}],
            },
        });
        self.world
            .apply(json!({
                "apiVersion": "apps/v1", "kind": "Deployment",
                "metadata": {"name": "service", "namespace": "default"},
                "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "service"}}, "template": template},
            }))
            .unwrap();
    }

    async fn service_runs(&self) {
        self.service();
        self.until(120, "it runs", |stage| stage.running_pods() == 1)
            .await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_spot_machine_that_is_taken_back_is_drained_and_replaced_before_it_goes() {
    let stage = Stage::new();
    let _process = stage.run();
    stage.service_runs().await;
    let first = stage.running()[0].id.clone();
    let taken = stage.world.now();
    stage.world.ec2.reclaim(&first);
    stage
        .until(5, "its claim is on its way out at once", |stage| {
            let claims = stage.all(NodeClaim);
            let mut going = claims.iter().map(|claim| &claim["metadata"]);
            going.any(|metadata| metadata["deletionTimestamp"].is_string())
        })
        .await;
    stage
        .until(100, "its pod runs elsewhere", |stage| {
            let running = stage.running();
            let moved = running.len() == 1 && running.iter().all(|machine| machine.id != first);
            moved && stage.running_pods() == 1 && stage.all(Node).len() == 1
        })
        .await;
    let seconds = stage.world.now().duration_since(taken).as_secs();
    assert!(seconds < 110, "{seconds} s");
    assert!(!stage.told("SpotInterrupted").is_empty());
    stage
        .until(120, "the message is out of the queue", |stage| {
            stage.world.ec2.unacknowledged() == 0
        })
        .await;
    assert_eq!(stage.machines().len(), 2);
}

/// EC2 takes a machine back before the claim that it was bought for knows of it.
#[tokio::test(start_paused = true)]
async fn a_notice_about_a_machine_that_is_not_written_down_yet_is_not_lost() {
    let stage = Stage::new();
    stage.delay("PATCH", "nodeclaims", Duration::from_secs(3));
    let _process = stage.run();
    stage.service();
    stage
        .until(60, "a machine is bought", |stage| {
            stage.running().len() == 1
        })
        .await;
    let claim = stage.all(NodeClaim).remove(0);
    assert!(claim["status"]["providerID"].is_null(), "{claim}");
    let taken = stage.running()[0].id.clone();
    stage.world.ec2.reclaim(&taken);
    stage
        .until(30, "its claim is drained", |stage| {
            !stage.told("SpotInterrupted").is_empty()
        })
        .await;
    stage
        .until(60, "the message is out of the queue", |stage| {
            stage.world.ec2.unacknowledged() == 0
        })
        .await;
    assert_eq!(stage.running_pods(), 0, "nothing began on it");
}

/// Each claim takes two writes of three seconds, and the queue gives ten messages at a time.
#[tokio::test(start_paused = true)]
async fn of_many_machines_that_are_taken_back_at_once_none_waits_for_the_claims_of_the_others() {
    let stage = Stage::new();
    let _process = stage.run();
    for number in 0..30 {
        stage.pod(&format!("p{number}"));
    }
    stage
        .until(300, "all pods run", |stage| stage.running_pods() == 30)
        .await;
    // Until nobody else writes to the claims.
    tokio::time::sleep(Duration::from_mins(1)).await;
    stage.delay("PATCH", "nodeclaims", Duration::from_secs(3));
    let taken = stage.running();
    for machine in &taken {
        stage.world.ec2.reclaim(&machine.id);
    }
    let taken: BTreeSet<String> = taken.iter().map(Instance::provider_id).collect();
    stage
        .until(12, "all claims are on their way out", |stage| {
            let claims = stage.all(NodeClaim);
            let is_of_one = |claim: &&Value| {
                let id = claim["status"]["providerID"].as_str();
                id.is_some_and(|id| taken.contains(id))
            };
            let mut theirs = claims.iter().filter(is_of_one);
            theirs.all(|claim| claim["metadata"]["deletionTimestamp"].is_string())
        })
        .await;
    stage
        .until(60, "the messages are out of the queue", |stage| {
            stage.world.ec2.unacknowledged() == 0
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn messages_that_are_not_ours_change_nothing() {
    let stage = Stage::new();
    let _process = stage.run();
    stage.service_runs().await;
    let id = stage.running()[0].id.clone();
    let warning = |account: &str| {
        json!({
            "version": "0", "id": "x", "source": "aws.ec2", "account": account, "region": "us-east-1",
            "detail-type": "EC2 Spot Instance Interruption Warning", "time": "2026-01-01T00:00:00Z",
            "detail": {"instance-id": id, "instance-action": "terminate"},
        })
        .to_string()
    };
    for text in ["", "no json", &warning("999999999999")] {
        stage.world.ec2.post(text);
    }
    stage
        .until(60, "all are out of the queue", |stage| {
            stage.world.ec2.unacknowledged() == 0
        })
        .await;
    assert_eq!(stage.running().len(), 1);
    assert_eq!(stage.machines().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn maintenance_weeks_away_is_written_down_and_nobody_is_disturbed() {
    let stage = Stage::new();
    let _process = stage.run();
    stage.service_runs().await;
    let id = stage.running()[0].id.clone();
    let begins = stage.world.now() + jiff::SignedDuration::from_hours(3);
    let event = json!({
        "version": "0", "id": "x", "source": "aws.health", "account": "123456789012", "region": "us-east-1",
        "detail-type": "AWS Health Event", "time": "2026-01-01T00:00:00Z",
        "detail": {
            "service": "EC2", "eventTypeCode": "AWS_EC2_INSTANCE_STOP_SCHEDULED",
            "eventTypeCategory": "scheduledChange", "statusCode": "upcoming",
            "startTime": begins.to_string(), "affectedEntities": [{"entityValue": id}],
        },
    });
    stage.world.ec2.post(event.to_string());
    stage
        .until(60, "it is written down", |stage| {
            stage.all(NodeClaim)[0]["metadata"]["annotations"]["tonnage.dev/maintenance"]
                == begins.to_string()
        })
        .await;
    tokio::time::sleep(Duration::from_hours(1)).await;
    assert_eq!(stage.running()[0].id, id, "two hours are left");
    stage
        .until(2 * 3_600, "it is replaced before", |stage| {
            stage.running_pods() == 1 && stage.running().iter().all(|machine| machine.id != id)
        })
        .await;
    assert!(stage.world.now() < begins);
}
