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
                "add_role_to_instance_profile",
                "get_instance_profile",
                "get_parameters",
                "list_instance_profiles",
                "remove_role_from_instance_profile",
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
    // AWS checks these in the course of CreateFleet, CreateLaunchTemplate and CreateInstanceProfile.
    needed.extend(["RunInstances", "PassRole", "TagInstanceProfile"].map(str::to_owned));
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
        let changes = texts(&statement["Action"]).iter().any(|action| {
            ![":Describe", ":Get", ":List"]
                .iter()
                .any(|verb| action.contains(verb))
        });
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

#[test]
fn machines_can_only_be_given_the_role_of_nodes_and_profiles_only_be_changed_where_they_are_ours() {
    let of = |sid: &str| {
        let mut all = statements().into_iter();
        all.find(|statement| statement["Sid"] == sid).unwrap()
    };
    let pass = of("GiveMachinesTheirRole");
    assert_eq!(texts(&pass["Action"]), ["iam:PassRole"]);
    assert_eq!(
        texts(&pass["Resource"]),
        ["arn:aws:iam::ACCOUNT:role/NODE-ROLE"]
    );
    assert_eq!(
        pass["Condition"]["StringEquals"]["iam:PassedToService"],
        "ec2.amazonaws.com"
    );
    let reads = |action: &str| action.contains(":Get") || action.contains(":List");
    let changing = statements().into_iter().filter(|statement| {
        texts(&statement["Action"])
            .iter()
            .any(|action| action.contains("InstanceProfile") && !reads(action))
    });
    let mut seen = 0;
    for statement in changing {
        seen += 1;
        assert_eq!(
            texts(&statement["Resource"]),
            ["arn:aws:iam::ACCOUNT:instance-profile/tonnage/REGION/CLUSTER/*"],
            "{statement}"
        );
    }
    assert_eq!(seen, 2);
}
