//! The IAM policy in the documentation allows what the code calls, and nothing else.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::Value;

pub(crate) fn policy() -> Value {
    let document = fs::read_to_string("docs/iam.md").unwrap();
    let (_before, after) = document.split_once("```json\n").unwrap();
    let (json, _after) = after.split_once("```").unwrap();
    serde_json::from_str(json).unwrap()
}

fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) => vec![text.clone()],
        Value::Array(items) => items.iter().flat_map(texts).collect(),
        _ => Vec::new(),
    }
}

fn statements() -> Vec<Value> {
    policy()["Statement"].as_array().unwrap().clone()
}

/// The operations that the adapter's SDK clients are asked for: `.describe_subnets()` is
/// `DescribeSubnets`.
fn called() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(Path::new("src/cloud/ec2")).unwrap() {
        let source = fs::read_to_string(entry.unwrap().path()).unwrap();
        let calls = source
            .split('.')
            .skip(1)
            .filter_map(|part| Some(part.split_once("()")?.0));
        for call in calls {
            let verbs = [
                "describe_",
                "create_",
                "delete_",
                "terminate_",
                "receive_",
                "get_products",
                "get_queue_url",
            ];
            if verbs.iter().any(|verb| call.starts_with(verb)) {
                let words = call.split('_').map(|word| {
                    let (first, rest) = word.split_at(1);
                    first.to_uppercase() + rest
                });
                found.insert(words.collect::<String>());
            }
        }
    }
    found
}

#[test]
fn every_call_is_allowed_and_nothing_else_is() {
    let mut needed = called();
    assert!(needed.len() > 10, "{needed:?}");
    // SQS asks for the permission of the single call.
    assert!(needed.remove("DeleteMessageBatch"));
    needed.insert("DeleteMessage".to_owned());
    // EC2 checks these in the course of CreateFleet and CreateLaunchTemplate.
    needed.extend(["RunInstances", "PassRole"].map(str::to_owned));
    let allowed: BTreeSet<String> = statements()
        .iter()
        .flat_map(|statement| texts(&statement["Action"]))
        .map(|action| action.split_once(':').unwrap().1.to_owned())
        .collect();
    assert_eq!(allowed, needed);
}

#[test]
fn whatever_changes_something_is_bound_to_the_clusters_tag() {
    for statement in statements() {
        let changes = texts(&statement["Action"])
            .iter()
            .any(|action| !action.contains(":Describe") && !action.contains(":Get"));
        // What is launched from is nobody's own: images, subnets, security groups.
        let launched_from = statement["Sid"] == "LaunchFromWhatIsThere";
        if !changes || launched_from {
            continue;
        }
        if statement["Sid"] == "ReadOwnAnnouncements" {
            // Taking a message out of the cluster's own queue.
            assert_eq!(
                statement["Resource"],
                "arn:aws:sqs:REGION:ACCOUNT:tonnage-CLUSTER"
            );
            continue;
        }
        let conditions = statement["Condition"]["StringEquals"].as_object().unwrap();
        let bound = conditions.iter().any(|(key, value)| {
            let own_tag = key.ends_with("Tag/tonnage.dev/cluster") && value == "CLUSTER";
            own_tag || (key == "iam:PassedToService" && value == "ec2.amazonaws.com")
        });
        assert!(bound, "{statement}");
    }
}
