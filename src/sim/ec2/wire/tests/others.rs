//! What belongs to others, under the policy that ships with Tonnage: none of it can be touched.

use serde_json::{Value, json};
use tokio::time::Instant;

use super::rights::{RED, RUN, tagging};
use super::{FLEET, TEMPLATE, Talk, but, launched, shipped};
use crate::model::offering::{CapacityType, OfferingKey};
use crate::sim::ec2::queue::WAIT;
use crate::sim::ec2::template::Tags;
use crate::sim::ec2::wire::authorize;
use crate::sim::ec2::wire::policy::Policy;

#[tokio::test(start_paused = true)]
async fn nothing_of_another_cluster_can_be_touched() {
    let talk = Talk::under(&shipped());
    talk.done("CreateLaunchTemplate", TEMPLATE).await;
    let ours = launched(&talk.done("CreateFleet", FLEET).await);
    let offering = OfferingKey::new("c5.xlarge", "us-east-1a", CapacityType::Spot);
    let theirs = talk.world.ec2.stray(RED, &offering);
    let own = ours[0].as_str();
    let beside = talk.without_policy();
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

/// Each condition on launch templates, not met: the tag is not in the request, or the template has another's.
#[tokio::test(start_paused = true)]
async fn templates_are_made_with_the_clusters_tag_and_used_and_deleted_only_where_they_have_it() {
    let talk = Talk::under(&shipped());
    talk.done("CreateLaunchTemplate", TEMPLATE).await;
    let beside = talk.without_policy();
    let theirs = [("LaunchTemplateName", "red-1"), ("ClientToken", "red")];
    let of_red = |tag: (&'static str, &'static str)| but(TEMPLATE, &[theirs[0], theirs[1], tag]);
    let red = ("TagSpecification.1.Tag.1.Value", RED);
    let untagged = ("TagSpecification.1.Tag.1.Key", "team");
    beside.done("CreateLaunchTemplate", &of_red(red)).await;
    let through = "LaunchTemplateConfigs.1.LaunchTemplateSpecification.LaunchTemplateName";
    let fleet = [(through, "red-1"), ("ClientToken", "new")];
    let run = [("LaunchTemplate.LaunchTemplateName", "red-1")];
    for (action, fields) in [
        ("CreateLaunchTemplate", of_red(red)),
        ("CreateLaunchTemplate", of_red(untagged)),
        ("DeleteLaunchTemplate", theirs[..1].to_vec()),
        ("CreateFleet", but(FLEET, &fleet)),
        ("RunInstances", but(RUN, &run)),
    ] {
        let (status, code, message) = talk.refused(action, &fields).await;
        let denied = (status, code.as_str());
        assert_eq!(
            denied,
            (403, "UnauthorizedOperation"),
            "{action}: {message}"
        );
        let what = format!(
            "perform: ec2:{action} on resource: arn:aws:ec2:us-east-1:123456789012:launch-template/"
        );
        assert!(message.contains(&what), "{message}");
    }
    assert!(talk.world.ec2.machines().is_empty());
    // Its own it may run, and delete.
    let (_status, code, message) = talk.refused("RunInstances", RUN).await;
    assert_eq!(code, "DryRunOperation", "{message}");
    talk.done("DeleteLaunchTemplate", &TEMPLATE[..1]).await;
}

/// Tags are put on a template while it is made, by the call that makes it and by no other.
#[test]
fn a_template_is_tagged_by_the_call_that_makes_it_alone() {
    let policy = Policy::parse(&shipped()).unwrap();
    let allowed = |kind: &str, by: &str, cluster: &str| {
        let tags = Tags::from([("tonnage.dev/cluster".to_owned(), cluster.to_owned())]);
        policy.allows(&authorize::tagging(kind, &tags, by).unwrap())
    };
    assert!(allowed("launch-template", "CreateLaunchTemplate", "blue"));
    assert!(allowed("instance", "RunInstances", "blue"));
    for (kind, by, cluster) in [
        ("launch-template", "CreateLaunchTemplate", RED),
        ("launch-template", "RunInstances", "blue"),
        ("launch-template", "CreateFleet", "blue"),
        ("instance", "CreateLaunchTemplate", "blue"),
    ] {
        assert!(!allowed(kind, by, cluster), "{kind} {by} {cluster}");
    }
}

#[tokio::test(start_paused = true)]
async fn no_other_clusters_queue_is_found_read_or_emptied() {
    let talk = Talk::under(&shipped());
    let everything = talk.without_policy();
    let theirs = json!({
        "QueueUrl": "https://sqs.us-east-1.amazonaws.com/123456789012/tonnage-red",
        "Entries": [{ "Id": "0", "ReceiptHandle": "1" }],
        "WaitTimeSeconds": 20,
    });
    for (action, body) in [
        ("GetQueueUrl", &json!({ "QueueName": "tonnage-red" })),
        ("ReceiveMessage", &theirs),
        ("DeleteMessageBatch", &theirs),
    ] {
        let target = format!("AmazonSQS.{action}");
        let begun = Instant::now();
        let denied = talk.ask_in_json(&target, body).await;
        assert!(begun.elapsed() < WAIT, "{action}");
        assert_eq!(denied.status, 403, "{action}: {}", denied.body);
        let absent = everything.ask_in_json(&target, body).await;
        let told: Value = serde_json::from_str(&absent.body).unwrap();
        assert_eq!(told["__type"], "QueueDoesNotExist", "{action}");
    }
}
