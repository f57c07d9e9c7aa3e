//! The templates below `docs/aws` hold the policy of `docs/iam.md`, in each tool's own way to write names.
//!
//! `UPDATE_GOLDEN=1 cargo test --test it iam_templates` writes them anew.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::crds::golden;
use crate::iam::policy;

/// A role's inline policies hold at most so many characters, blanks aside.
/// <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html>
const MOST_CHARACTERS: usize = 10_240;

/// Replaces every string of a document.
fn each_string(value: &Value, change: &impl Fn(&str) -> Value) -> Value {
    match value {
        Value::String(text) => change(text),
        Value::Array(items) => items.iter().map(|item| each_string(item, change)).collect(),
        Value::Object(fields) => fields
            .iter()
            .map(|(key, field)| (key.clone(), each_string(field, change)))
            .collect::<serde_json::Map<_, _>>()
            .into(),
        other => other.clone(),
    }
}

/// What EC2 is called where a role is passed to it, in the partition `aws`.
const EC2: &str = "ec2.amazonaws.com";
/// The name of the queue of announcements in the policy's ARN.
const QUEUE: &str = ":tonnage-CLUSTER";

/// The placeholders of `docs/iam.md`, replaced by what a tool calls them.
fn named(text: &str, names: [&str; 4]) -> String {
    let [partition, region, account, cluster] = names;
    text.replace("arn:aws:", &format!("arn:{partition}:"))
        .replace("REGION", region)
        .replace("ACCOUNT", account)
        .replace("CLUSTER", cluster)
}

fn cloud_formation() -> Value {
    let names = [
        "${AWS::Partition}",
        "${AWS::Region}",
        "${AWS::AccountId}",
        "${ClusterName}",
    ];
    each_string(&policy(), &|text| {
        if text.ends_with(":role/NODE-ROLE") {
            return json!({ "Fn::GetAtt": ["NodeRole", "Arn"] });
        }
        if text == EC2 {
            return json!([EC2, { "Fn::Sub": "ec2.${AWS::URLSuffix}" }]);
        }
        if let Some(before) = text.strip_suffix(QUEUE) {
            let arn = named(before, names) + ":tonnage-${Name}";
            let name = json!({ "Fn::If": ["HasShortName", { "Ref": "ShortName" }, { "Ref": "ClusterName" }] });
            return json!({ "Fn::Sub": [arn, { "Name": name }] });
        }
        let replaced = named(text, names);
        if replaced == text {
            json!(text)
        } else {
            json!({ "Fn::Sub": replaced })
        }
    })
}

#[test]
fn terraform_gives_the_controller_the_documented_policy() {
    let names = ["${partition}", "${region}", "${account}", "${cluster}"];
    let policy = each_string(&policy(), &|text| {
        if text == EC2 {
            return json!([EC2, "${ec2}"]);
        }
        let text = text.replace(QUEUE, ":${queue}");
        named(&text.replace("NODE-ROLE", "${node_role}"), names).into()
    });
    let expected = serde_json::to_string_pretty(&policy).unwrap() + "\n";
    golden(
        Path::new("docs/aws/terraform/controller-policy.json.tftpl"),
        &expected,
    );
}

#[test]
fn cloud_formation_gives_the_controller_the_documented_policy() {
    let path = Path::new("docs/aws/roles.yaml");
    let text = fs::read_to_string(path).unwrap();
    let (before, rest) = text.split_once("          PolicyDocument:\n").unwrap();
    let (_policy, after) = rest.split_once("Outputs:\n").unwrap();
    let document = serde_json::to_string_pretty(&cloud_formation()).unwrap();
    let indented = document.replace('\n', "\n            ");
    let expected =
        format!("{before}          PolicyDocument:\n            {indented}\nOutputs:\n{after}");
    golden(path, &expected);
}

/// Whom the controller may pass the role of nodes to, by a template of this text, where EC2 is called so.
fn passed_to(policy: &Value, variable: &str, called: &str) -> BTreeSet<String> {
    let statements = policy["Statement"].as_array().unwrap().iter();
    let passes = statements.filter(|statement| statement["Action"] == "iam:PassRole");
    let passes: Vec<&Value> = passes.collect();
    assert_eq!(passes.len(), 1);
    let services = passes[0]["Condition"]["StringEquals"]["iam:PassedToService"].as_array();
    let text = |service: &Value| {
        let named = service.get("Fn::Sub").unwrap_or(service);
        named.as_str().unwrap().replace(variable, called)
    };
    services.unwrap().iter().map(text).collect()
}

#[test]
fn the_role_of_nodes_is_passed_to_ec2_as_each_partition_calls_it_and_to_nobody_else() {
    let read = fs::read_to_string("docs/aws/terraform/controller-policy.json.tftpl").unwrap();
    let module: Value = serde_json::from_str(&read).unwrap();
    let stack = cloud_formation();
    for (suffix, expected) in [
        ("amazonaws.com", &[EC2][..]),
        ("amazonaws.com.cn", &[EC2, "ec2.amazonaws.com.cn"]),
    ] {
        let expected: BTreeSet<String> = expected.iter().map(|name| (*name).to_owned()).collect();
        let called = format!("ec2.{suffix}");
        assert_eq!(
            passed_to(&stack, "ec2.${AWS::URLSuffix}", &called),
            expected
        );
        assert_eq!(passed_to(&module, "${ec2}", &called), expected);
    }
    // Who may pass on the role need be no other than who may take it.
    let read = |path: &str| fs::read_to_string(path).unwrap();
    let stack = read("docs/aws/roles.yaml");
    assert!(stack.contains("Principal: {Service: !Sub \"ec2.${AWS::URLSuffix}\"}"));
    let module = read("docs/aws/terraform/main.tf");
    assert!(module.contains("Principal = { Service = local.ec2 }"));
    assert!(module.contains("ec2 = \"ec2.${data.aws_partition.current.dns_suffix}\""));
}

/// Source: IAM, SQS and EventBridge quotas: 64, 80 and 64 characters. EKS: 100 for the name of a cluster.
#[test]
fn names_fit_whatever_a_cluster_is_called() {
    let read = |path: &str| fs::read_to_string(path).unwrap();
    let stack = read("docs/aws/roles.yaml");
    let queue = read("docs/aws/interruption-queue.yaml");
    let module = read("docs/aws/terraform/main.tf");
    for text in [&stack, &module] {
        assert!(text.contains("[0-9A-Za-z][0-9A-Za-z_-]{0,99}"), "{text}");
    }
    let fits = |text: &str, most: usize, pattern: &str, names: &[(&str, usize)]| {
        assert!(text.contains(pattern), "{pattern}");
        for (around, limit) in names {
            assert!(around.len() + most <= *limit, "{around}");
        }
    };
    let roles = [("tonnage-controller-", 64), ("tonnage-node-", 64)];
    fits(&stack, 45, "([0-9A-Za-z][0-9A-Za-z_-]{0,44})?", &roles);
    fits(&queue, 72, "[0-9A-Za-z_-]{1,72}", &[("tonnage-", 80)]);
    fits(&module, 44, "^[0-9A-Za-z][0-9A-Za-z_-]{0,43}$", &roles);
    let rules = [("tonnage--maintenance", 64), ("tonnage-", 80)];
    fits(&module, 44, "length(local.name) <= 44", &rules);
}

#[test]
fn the_policy_fits_into_a_role() {
    let characters = policy().to_string().chars().count();
    assert!(characters < MOST_CHARACTERS, "{characters}");
}

/// What both templates ask EventBridge for, as text: a rule that one of them lacks is an announcement lost.
#[test]
fn both_tools_ask_for_the_same_announcements() {
    let read = |path: &str| fs::read_to_string(path).unwrap();
    let stack = read("docs/aws/interruption-queue.yaml");
    let module = read("docs/aws/terraform/main.tf");
    for announced in [
        "EC2 Spot Instance Interruption Warning",
        "EC2 Capacity Reservation Instance Interruption Warning",
        "EC2 Instance Rebalance Recommendation",
        "Capacity Block Expiration Warning",
        "Capacity Block Reservation Expiration Warning",
        "EC2 Instance State-change Notification",
        "AWS Health Event",
        "scheduledChange",
        "shutting-down",
    ] {
        assert!(stack.contains(announced), "CloudFormation: {announced}");
        assert!(module.contains(announced), "Terraform: {announced}");
    }
}

/// Whoever else may send to the queue may end machines: both templates let EventBridge alone, from rules of this account, and
/// only through TLS.
#[test]
fn only_event_bridge_sends_to_the_queue() {
    let words = |path: &str| {
        let text = fs::read_to_string(path).unwrap();
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let stack = words("docs/aws/interruption-queue.yaml");
    let statements = "Statement: \
        - Sid: OnlyEventBridgeSends Effect: Allow Principal: {Service: events.amazonaws.com} Action: sqs:SendMessage \
        Resource: !GetAtt Queue.Arn Condition: StringEquals: {\"aws:SourceAccount\": !Ref AWS::AccountId} \
        ArnLike: {\"aws:SourceArn\": !Sub \"arn:${AWS::Partition}:events:${AWS::Region}:${AWS::AccountId}:rule/*\"} \
        - Sid: NothingWithoutTls Effect: Deny Principal: \"*\" Action: sqs:* Resource: !GetAtt Queue.Arn \
        Condition: Bool: {\"aws:SecureTransport\": \"false\"} Ec2Rule:";
    assert!(stack.contains(statements), "{stack}");
    let module = words("docs/aws/terraform/main.tf");
    let statements = "Statement = [ { Sid = \"OnlyEventBridgeSends\" Effect = \"Allow\" \
        Principal = { Service = \"events.amazonaws.com\" } Action = \"sqs:SendMessage\" \
        Resource = aws_sqs_queue.announcements.arn Condition = { \
        StringEquals = { \"aws:SourceAccount\" = local.account } ArnLike = { \
        \"aws:SourceArn\" = \"arn:${local.partition}:events:${local.region}:${local.account}:rule/*\" } } }, \
        { Sid = \"NothingWithoutTls\" Effect = \"Deny\" Principal = \"*\" Action = \"sqs:*\" \
        Resource = aws_sqs_queue.announcements.arn Condition = { Bool = { \"aws:SecureTransport\" = \"false\" } } }, ] }) }";
    assert!(module.contains(statements), "{module}");
}
