//! The policy that ships with Tonnage, evaluated: it allows a controller's life, each part of it is
//! needed for that, and nothing of another's can be touched.

use serde_json::{Value, json};

use super::{Answer, FLEET, TEMPLATE, Talk, but, launched, shipped, texts};
use crate::cloud::reservations::Described;
use crate::model::placement_group::{PlacementGroup, Strategy};
use crate::model::reservation::ReservationKind;
use crate::sim::ec2::template::Tags;
use crate::sim::ec2::wire::policy::Policy;

const READS: [&str; 10] = [
    "DescribeCapacityReservations",
    "DescribeImages",
    "DescribeInstanceTypeOfferings",
    "DescribeInstanceTypes",
    "DescribeInstances",
    "DescribeLaunchTemplates",
    "DescribePlacementGroups",
    "DescribeSecurityGroups",
    "DescribeSpotPriceHistory",
    "DescribeSubnets",
];

const IMAGE: &str =
    "/aws/service/eks/optimized-ami/1.33/amazon-linux-2023/x86_64/standard/recommended/image_id";

/// A profile as the controller of a cluster named `blue` makes it.
const PROFILE: &[(&str, &str)] = &[
    ("InstanceProfileName", OWN_PROFILE),
    ("Path", "/tonnage/us-east-1/blue/class-uid/"),
    ("Tags.member.1.Key", "tonnage.dev/cluster"),
    ("Tags.member.1.Value", "blue"),
];
const OWN_PROFILE: &str = "tonnage-0123456789abcdef0123456789abcdef";
const WITH_ROLE: &[(&str, &str)] = &[("InstanceProfileName", OWN_PROFILE), ("RoleName", "nodes")];

/// What places machines in a reservation and in a placement group, instead of what is bought as spot.
const RESERVED_TEMPLATE: &[(&str, &str)] = &[
    ("LaunchTemplateName", "blue-2"),
    ("ClientToken", "token-4"),
    (
        "LaunchTemplateData.CapacityReservationSpecification.CapacityReservationPreference",
        "capacity-reservations-only",
    ),
    (
        "LaunchTemplateData.CapacityReservationSpecification.CapacityReservationTarget.\
         CapacityReservationId",
        "cr-1",
    ),
    ("LaunchTemplateData.Placement.GroupId", "pg-1"),
];
const RESERVED_FLEET: &[(&str, &str)] = &[
    ("ClientToken", "token-5"),
    (
        "TargetCapacitySpecification.DefaultTargetCapacityType",
        "on-demand",
    ),
    (
        "LaunchTemplateConfigs.1.LaunchTemplateSpecification.LaunchTemplateName",
        "blue-2",
    ),
];

fn reservation() -> Described {
    Described {
        id: "cr-1".to_owned(),
        owner: "123456789012".to_owned(),
        instance_type: "c5.xlarge".to_owned(),
        zone: "us-east-1a".to_owned(),
        matching: "targeted".to_owned(),
        kind: ReservationKind::Standard,
        interruptible: false,
        ends: None,
        total: 3,
        free: 3,
        tags: Tags::new(),
    }
}

/// Everything that a controller does, under a policy; the first thing that it may not do, if any.
async fn life(policy: &str) -> Result<(), String> {
    let talk = Talk::under(policy);
    beside_ec2(&talk).await?;
    attempt(&talk, "CreateInstanceProfile", PROFILE).await?;
    attempt(&talk, "AddRoleToInstanceProfile", WITH_ROLE).await?;
    let own = [("PathPrefix", "/tonnage/us-east-1/blue/")];
    attempt(&talk, "ListInstanceProfiles", &own).await?;
    attempt(&talk, "GetInstanceProfile", &WITH_ROLE[..1]).await?;
    attempt(&talk, "RemoveRoleFromInstanceProfile", WITH_ROLE).await?;
    attempt(&talk, "DeleteInstanceProfile", &WITH_ROLE[..1]).await?;
    for read in READS {
        let few: &[(&str, &str)] = match read {
            "DescribeSpotPriceHistory" => &[("InstanceType.1", "c5.xlarge")],
            _ => &[],
        };
        attempt(&talk, read, few).await?;
    }
    attempt(&talk, "CreateLaunchTemplate", TEMPLATE).await?;
    let body = attempt(&talk, "CreateFleet", FLEET).await?;
    if let Some(message) = texts(&body, "errorMessage").pop() {
        return Err(message);
    }
    talk.world.ec2.reserve(reservation());
    talk.world.ec2.place(PlacementGroup {
        id: "pg-1".to_owned(),
        name: "training".to_owned(),
        strategy: Strategy::Cluster,
    });
    attempt(
        &talk,
        "CreateLaunchTemplate",
        &but(TEMPLATE, RESERVED_TEMPLATE),
    )
    .await?;
    let body = attempt(&talk, "CreateFleet", &but(FLEET, RESERVED_FLEET)).await?;
    if let Some(message) = texts(&body, "errorMessage").pop() {
        return Err(message);
    }
    let id = launched(&body).remove(0);
    for key in ["Name", "tonnage.dev/nodeclaim"] {
        attempt(&talk, "CreateTags", &tagging(&id, key)).await?;
    }
    attempt(
        &talk,
        "TerminateInstances",
        &[("InstanceId.1", id.as_str())],
    )
    .await?;
    attempt(
        &talk,
        "DeleteLaunchTemplate",
        &[("LaunchTemplateName", "blue-1")],
    )
    .await?;
    Ok(())
}

/// What is asked of services that take JSON.
async fn beside_ec2(talk: &Talk) -> Result<(), String> {
    allowed(talk.parameters(&[IMAGE]).await)?;
    let one = json!({ "ServiceCode": "AmazonEC2", "MaxResults": 1 });
    allowed(talk.prices(&one).await)?;
    announcement(talk).await
}

/// An announcement is read and taken out of the cluster's queue.
async fn announcement(talk: &Talk) -> Result<(), String> {
    let ask = async |action: &str, body: Value| {
        let target = format!("AmazonSQS.{action}");
        let answer = allowed(talk.ask_in_json(&target, &body).await)?;
        Ok::<Value, String>(serde_json::from_str(&answer).unwrap())
    };
    talk.world.ec2.post("anything");
    let found = ask("GetQueueUrl", json!({ "QueueName": "tonnage-blue" })).await?;
    let address = &found["QueueUrl"];
    let received = ask("ReceiveMessage", json!({ "QueueUrl": address })).await?;
    let message = &received["Messages"][0];
    assert_eq!(message["Body"], "anything");
    let entry = json!({ "Id": "0", "ReceiptHandle": message["ReceiptHandle"] });
    let entries = json!({ "QueueUrl": address, "Entries": [entry] });
    ask("DeleteMessageBatch", entries).await?;
    assert_eq!(talk.world.ec2.unacknowledged(), 0);
    Ok(())
}

async fn attempt(talk: &Talk, action: &str, fields: &[(&str, &str)]) -> Result<String, String> {
    allowed(talk.ask(action, fields).await)
}

/// What was answered, or what the caller may not do.
fn allowed(answer: Answer) -> Result<String, String> {
    if answer.status == 200 {
        return Ok(answer.body);
    }
    assert_eq!(answer.status, 403, "{}", answer.body);
    // Each service has its own word for it.
    let denied = ["UnauthorizedOperation", "AccessDenied"];
    assert!(
        denied.iter().any(|code| answer.body.contains(code)),
        "{}",
        answer.body
    );
    let mut messages = texts(&answer.body, "Message");
    Err(messages.pop().unwrap_or(answer.body))
}

/// The statements of the shipped policy that the region judges by, each with its place: all but that
/// on the cluster at EKS, which it does not serve.
fn statements(policy: &Value) -> Vec<(usize, Value)> {
    let judged = |statement: &&Value| {
        list(&statement["Action"]).iter().all(|action| {
            let (service, _name) = action.split_once(':').unwrap();
            ["ec2", "iam", "pricing", "sqs", "ssm"].contains(&service)
        })
    };
    let all = policy["Statement"].as_array().unwrap();
    let left_out = all.iter().filter(|statement| !judged(statement));
    let left_out: Vec<&str> = left_out.filter_map(|found| found["Sid"].as_str()).collect();
    assert_eq!(left_out, ["ReadOwnCluster"]);
    let numbered = all.iter().enumerate();
    numbered
        .filter(|(_place, statement)| judged(statement))
        .map(|(place, statement)| (place, statement.clone()))
        .collect()
}

fn list(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) => vec![text.clone()],
        Value::Array(items) => items.iter().flat_map(list).collect(),
        _ => Vec::new(),
    }
}

#[tokio::test(start_paused = true)]
async fn the_shipped_policy_allows_a_controllers_life_and_all_of_it_is_needed() {
    assert_eq!(life(&shipped()).await, Ok(()));
    let policy: Value = serde_json::from_str(&shipped()).unwrap();
    let mut needed = 0;
    for (place, statement) in statements(&policy) {
        for field in ["Action", "Resource"] {
            let values = list(&statement[field]);
            for left_out in &values {
                let kept: Vec<&String> = values.iter().filter(|value| *value != left_out).collect();
                let mut narrow = policy.clone();
                narrow["Statement"][place][field] = json!(kept);
                if kept.is_empty() {
                    narrow["Statement"][place][field] = json!("nothing");
                }
                let outcome = life(&narrow.to_string()).await;
                assert!(outcome.is_err(), "{} without {left_out}", statement["Sid"]);
                needed += 1;
            }
        }
    }
    assert!(needed > 50, "only {needed} parts were left out");
}

#[tokio::test(start_paused = true)]
async fn each_condition_of_each_statement_refuses_what_does_not_meet_it() {
    let policy: Value = serde_json::from_str(&shipped()).unwrap();
    let mut tried = Vec::new();
    for (place, statement) in statements(&policy) {
        let operators = statement["Condition"]
            .as_object()
            .cloned()
            .unwrap_or_default();
        for (operator, keys) in operators {
            for (key, values) in keys.as_object().unwrap() {
                let values = list(values);
                for (index, value) in values.iter().enumerate() {
                    // What the life asks for is no longer what the condition wants.
                    let mut wanted = values.clone();
                    wanted[index] = format!("not-{value}");
                    let mut other = policy.clone();
                    other["Statement"][place]["Condition"][&operator][key] = json!(wanted);
                    let outcome = life(&other.to_string()).await;
                    assert!(outcome.is_err(), "{}: {key} = {value}", statement["Sid"]);
                    tried.push(key.clone());
                }
            }
        }
    }
    for key in [
        "aws:RequestTag/tonnage.dev/cluster",
        "aws:RequestedRegion",
        "aws:ResourceTag/tonnage.dev/cluster",
        "aws:TagKeys",
        "ec2:CreateAction",
        "iam:PassedToService",
    ] {
        assert!(
            tried.iter().any(|tried| tried == key),
            "no condition on {key}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn only_own_profiles_are_changed_and_only_get_the_role_of_nodes() {
    let talk = Talk::under(&shipped());
    let denied = async |action: &str, fields: &[(&str, &str)], what: &str| {
        let (status, code, message) = talk.refused(action, fields).await;
        assert_eq!((status, code.as_str()), (403, "AccessDenied"), "{message}");
        assert!(
            message.contains(&format!("perform: {what} on")),
            "{message}"
        );
    };
    for change in [
        ("Path", "/"),
        ("Path", "/tonnage/us-east-1/red/class-uid/"),
        ("Path", "/tonnage/us-west-2/blue/class-uid/"),
        ("Tags.member.1.Key", "team"),
        ("Tags.member.1.Value", RED),
    ] {
        let fields = but(PROFILE, &[change]);
        denied(
            "CreateInstanceProfile",
            &fields,
            "iam:CreateInstanceProfile",
        )
        .await;
    }
    talk.done("CreateInstanceProfile", PROFILE).await;
    let administrators = but(WITH_ROLE, &[("RoleName", "administrators")]);
    denied("AddRoleToInstanceProfile", &administrators, "iam:PassRole").await;
    // A user's profile may be looked at, and no more.
    let theirs = but(WITH_ROLE, &[("InstanceProfileName", "nodes")]);
    talk.done("GetInstanceProfile", &theirs).await;
    // Nor may one that has the path and not the tag, or the tag and not the path.
    let beside = talk.without_policy();
    for (name, change) in [
        ("untagged", ("Tags.member.1.Value", RED)),
        ("elsewhere", ("Path", "/")),
    ] {
        let made = but(PROFILE, &[change, ("InstanceProfileName", name)]);
        talk.world.ec2.lack(&[name]);
        beside.done("CreateInstanceProfile", &made).await;
    }
    for name in ["nodes", "untagged", "elsewhere"] {
        let fields = but(WITH_ROLE, &[("InstanceProfileName", name)]);
        for action in [
            "AddRoleToInstanceProfile",
            "DeleteInstanceProfile",
            "RemoveRoleFromInstanceProfile",
        ] {
            denied(action, &fields, &format!("iam:{action}")).await;
        }
    }
    talk.done("AddRoleToInstanceProfile", WITH_ROLE).await;
}

#[tokio::test(start_paused = true)]
async fn parameters_that_aws_publishes_are_read_and_no_others() {
    let talk = Talk::under(&shipped());
    let answer = talk.parameters(&[IMAGE, "/aws/service/no-such"]).await;
    let read: Value = serde_json::from_str(&answer.body).unwrap();
    assert!(
        read["Parameters"][0]["Value"]
            .as_str()
            .unwrap()
            .starts_with("ami-")
    );
    assert_eq!(read["InvalidParameters"], json!(["/aws/service/no-such"]));
    talk.world.ec2.set_parameter("/own/image", "ami-amd64");
    let answer = talk.parameters(&[IMAGE, "/own/image"]).await;
    assert_eq!(answer.status, 403);
    let denied: Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(denied["__type"], "AccessDeniedException");
    let message = denied["message"].as_str().unwrap();
    assert!(message.contains("ssm:GetParameters"), "{message}");
    let everything = talk.without_policy();
    let read = everything.parameters(&["/own/image"]).await.body;
    assert!(read.contains("\"ami-amd64\""), "{read}");
    assert_eq!(everything.parameters(&["/a"; 11]).await.status, 400);
    assert_eq!(everything.parameters(&[]).await.status, 400);
}

pub(super) const RED: &str = "red";

#[tokio::test(start_paused = true)]
async fn what_is_made_must_carry_the_clusters_tag() {
    let talk = Talk::under(&shipped());
    let denied = async |action: &str, fields: &[(&str, &str)], what: &str| {
        let (status, code, message) = talk.refused(action, fields).await;
        assert_eq!(
            (status, code.as_str()),
            (403, "UnauthorizedOperation"),
            "{message}"
        );
        assert!(message.contains(what), "{message}");
    };
    let own = ("TagSpecification.1.Tag.1.Value", RED);
    let no_tag = ("TagSpecification.1.Tag.1.Key", "team");
    for change in [own, no_tag] {
        let fields = but(TEMPLATE, &[change]);
        denied("CreateLaunchTemplate", &fields, "ec2:CreateLaunchTemplate").await;
    }
    talk.done("CreateLaunchTemplate", TEMPLATE).await;
    for (number, kind) in [(1, "fleet/"), (2, "instance/"), (3, "volume/")] {
        let value = format!("TagSpecification.{number}.Tag.1.Value");
        let key = format!("TagSpecification.{number}.Tag.1.Key");
        for change in [(value.as_str(), RED), (key.as_str(), "team")] {
            denied("CreateFleet", &but(FLEET, &[change]), kind).await;
        }
    }
    assert!(talk.world.ec2.machines().is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_the_fleet_may_not_do_is_an_error_in_its_answer() {
    let talk = Talk::under(&shipped());
    for (number, change, what) in [
        (
            1,
            ("LaunchTemplateData.IamInstanceProfile.Name", "admin"),
            "iam:PassRole",
        ),
        (
            2,
            ("LaunchTemplateData.TagSpecification.2.Tag.1.Value", RED),
            "spot-instances-request",
        ),
    ] {
        let (name, token) = (format!("blue-{number}"), format!("token-{number}"));
        let template = but(
            TEMPLATE,
            &[
                change,
                ("LaunchTemplateName", &name),
                ("ClientToken", &token),
            ],
        );
        talk.done("CreateLaunchTemplate", &template).await;
        let through = "LaunchTemplateConfigs.1.LaunchTemplateSpecification.LaunchTemplateName";
        let fleet = but(FLEET, &[(through, name.as_str())]);
        let answer = talk.done("CreateFleet", &fleet).await;
        assert_eq!(texts(&answer, "errorCode"), ["UnauthorizedOperation"]);
        let message = texts(&answer, "errorMessage").remove(0);
        assert!(message.contains(what), "{message}");
    }
    assert!(talk.world.ec2.machines().is_empty());
    // Nothing was bought, so nothing is remembered: with the right given, the same request buys.
    let mut allowed = talk;
    let everything =
        json!({ "Statement": [{ "Effect": "Allow", "Action": "*", "Resource": "*" }] });
    let everything = Policy::parse(&everything.to_string()).unwrap();
    allowed.endpoint = allowed.endpoint.with_policy(everything);
    assert_eq!(launched(&allowed.done("CreateFleet", FLEET).await).len(), 3);
}

/// A rehearsed machine of the cluster, with its tags.
pub(super) const RUN: &[(&str, &str)] = &[
    ("DryRun", "true"),
    ("MinCount", "1"),
    ("MaxCount", "1"),
    ("InstanceType", "c5.xlarge"),
    ("LaunchTemplate.LaunchTemplateName", "blue-1"),
    ("NetworkInterface.1.SubnetId", "subnet-a"),
    ("TagSpecification.1.ResourceType", "instance"),
    ("TagSpecification.1.Tag.1.Key", "tonnage.dev/cluster"),
    ("TagSpecification.1.Tag.1.Value", "blue"),
    ("TagSpecification.2.ResourceType", "volume"),
    ("TagSpecification.2.Tag.1.Key", "tonnage.dev/cluster"),
    ("TagSpecification.2.Tag.1.Value", "blue"),
];

#[tokio::test(start_paused = true)]
async fn a_rehearsed_machine_needs_what_a_launched_one_does() {
    let talk = Talk::under(&shipped());
    talk.done("CreateLaunchTemplate", TEMPLATE).await;
    let (status, code, message) = talk.refused("RunInstances", RUN).await;
    assert_eq!(
        (status, code.as_str()),
        (412, "DryRunOperation"),
        "{message}"
    );
    for (number, kind) in [(1, "instance/"), (2, "volume/")] {
        let value = format!("TagSpecification.{number}.Tag.1.Value");
        let fields = but(RUN, &[(value.as_str(), RED)]);
        let (status, code, message) = talk.refused("RunInstances", &fields).await;
        assert_eq!(
            (status, code.as_str()),
            (403, "UnauthorizedOperation"),
            "{message}"
        );
        assert!(
            message.contains("perform: ec2:RunInstances on"),
            "{message}"
        );
        assert!(message.contains(kind), "{message}");
    }
    let fields = [
        ("LaunchTemplateData.IamInstanceProfile.Name", "admin"),
        ("LaunchTemplateName", "blue-2"),
        ("ClientToken", "token-admin"),
    ];
    talk.done("CreateLaunchTemplate", &but(TEMPLATE, &fields))
        .await;
    let other = but(RUN, &[("LaunchTemplate.LaunchTemplateName", "blue-2")]);
    let (status, _code, message) = talk.refused("RunInstances", &other).await;
    assert_eq!(status, 403);
    assert!(message.contains("perform: iam:PassRole on"), "{message}");
}

/// What tags an instance.
pub(super) fn tagging<'text>(id: &'text str, key: &'text str) -> Vec<(&'text str, &'text str)> {
    vec![
        ("ResourceId.1", id),
        ("Tag.1.Key", key),
        ("Tag.1.Value", "x"),
    ]
}
