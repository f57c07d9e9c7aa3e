//! What belongs to others, under the policy that ships with Tonnage: none of it can be touched.

use serde_json::{Value, json};

use super::rights::{RED, tagging};
use super::{FLEET, TEMPLATE, Talk, but, launched, shipped};
use crate::model::offering::{CapacityType, OfferingKey};

#[tokio::test(start_paused = true)]
async fn nothing_of_another_cluster_can_be_touched() {
    let talk = Talk::under(&shipped());
    talk.done("CreateLaunchTemplate", TEMPLATE).await;
    let ours = launched(&talk.done("CreateFleet", FLEET).await);
    let offering = OfferingKey::new("c5.xlarge", "us-east-1a", CapacityType::Spot);
    let theirs = talk.world.ec2.stray(RED, &offering);
    let own = ours[0].as_str();
    let other = super::Endpoint::new(&talk.world.ec2, "other", "blue");
    let beside = Talk {
        world: talk.world.clone(),
        endpoint: other,
    };
    let template = but(
        TEMPLATE,
        &[
            ("TagSpecification.1.Tag.1.Value", RED),
            ("LaunchTemplateName", "red-1"),
            ("ClientToken", "red"),
        ],
    );
    beside.done("CreateLaunchTemplate", &template).await;
    let through = "LaunchTemplateConfigs.1.LaunchTemplateSpecification.LaunchTemplateName";
    for (action, fields) in [
        (
            "TerminateInstances",
            vec![("InstanceId.1", theirs.as_str())],
        ),
        (
            "TerminateInstances",
            vec![("InstanceId.1", own), ("InstanceId.2", theirs.as_str())],
        ),
        ("CreateTags", tagging(theirs.as_str(), "Name")),
        ("CreateTags", tagging(own, "team")),
        ("CreateTags", tagging(own, "tonnage.dev/cluster")),
        (
            "DeleteLaunchTemplate",
            vec![("LaunchTemplateName", "red-1")],
        ),
        (
            "CreateFleet",
            but(FLEET, &[(through, "red-1"), ("ClientToken", "new")]),
        ),
    ] {
        let (status, code, message) = talk.refused(action, &fields).await;
        assert_eq!(
            (status, code.as_str()),
            (403, "UnauthorizedOperation"),
            "{action}: {message}"
        );
        assert!(
            message.contains(&format!("perform: ec2:{action}")),
            "{message}"
        );
    }
    assert_eq!(talk.world.ec2.alive().len(), 4);
    talk.done("CreateTags", &tagging(own, "Name")).await;
}

#[tokio::test(start_paused = true)]
async fn no_other_clusters_queue_is_found_read_or_emptied() {
    let talk = Talk::under(&shipped());
    let everything = Talk {
        world: talk.world.clone(),
        endpoint: super::Endpoint::new(&talk.world.ec2, "other", "blue"),
    };
    let theirs = json!({
        "QueueUrl": "https://sqs.us-east-1.amazonaws.com/123456789012/tonnage-red",
        "Entries": [{ "Id": "0", "ReceiptHandle": "1" }],
    });
    for (action, body) in [
        ("GetQueueUrl", &json!({ "QueueName": "tonnage-red" })),
        ("ReceiveMessage", &theirs),
        ("DeleteMessageBatch", &theirs),
    ] {
        let target = format!("AmazonSQS.{action}");
        let denied = talk.ask_in_json(&target, body).await;
        assert_eq!(denied.status, 403, "{action}: {}", denied.body);
        let absent = everything.ask_in_json(&target, body).await;
        let told: Value = serde_json::from_str(&absent.body).unwrap();
        assert_eq!(told["__type"], "QueueDoesNotExist", "{action}");
    }
}
