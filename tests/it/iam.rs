//! The IAM policy in the documentation allows what the code calls, and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use regex::Regex;
use serde_json::Value;

use crate::sources::rust_sources;

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

/// The operations that SDK clients are asked for in some sources: `describe_subnets()` of what is declared to be an
/// `aws_sdk_ec2::Client` is `ec2:DescribeSubnets`, whatever its name.
fn called(sources: &[String]) -> BTreeSet<String> {
    let declared = Regex::new(r"(\w+): &?aws_sdk_(\w+)::Client").unwrap();
    let imported = Regex::new(r"use aws_sdk_\w+::[^;]*\bClient\b").unwrap();
    let mut found = BTreeSet::new();
    let mut clients = BTreeSet::new();
    for source in sources {
        assert!(
            !imported.is_match(source),
            "the service of a client is not said where it is declared"
        );
        let declared = declared.captures_iter(source);
        clients.extend(declared.map(|client| (client[1].to_owned(), client[2].to_owned())));
    }
    for (client, service) in clients {
        let asked = Regex::new(&format!(r"\b{client}\s*\.\s*([a-z_0-9]+)\(\)")).unwrap();
        let named = Regex::new(&format!(r"\.{client}\b")).unwrap();
        for source in sources {
            let operations = asked.captures_iter(source);
            found.extend(operations.map(|call| format!("{service}:{}", camel(&call[1]))));
            let passed_on = named.find_iter(source).filter(|place| {
                asked
                    .find_at(source, place.start())
                    .is_none_or(|call| call.start() > place.end())
            });
            assert_eq!(
                passed_on.count(),
                0,
                "{client} is passed on, under a name that nobody looks for"
            );
        }
    }
    found
}

fn camel(operation: &str) -> String {
    let words = operation.split('_').map(|word| {
        let (first, rest) = word.split_at(1);
        first.to_uppercase() + rest
    });
    words.collect()
}

#[test]
fn a_call_is_found_whatever_its_verb_and_its_service() {
    let source = "struct Api { ec2: aws_sdk_ec2::Client, keys: &aws_sdk_kms::Client }\n\
                  api.ec2\n    .modify_instance_attribute()\n    .send(); keys.list_grants().send();";
    let found = called(&[source.to_owned()]);
    let expected = ["ec2:ModifyInstanceAttribute", "kms:ListGrants"];
    assert_eq!(found, BTreeSet::from(expected.map(str::to_owned)));
}

#[test]
fn every_call_is_allowed_and_nothing_else_is() {
    let read = |path: &std::path::PathBuf| fs::read_to_string(path).unwrap();
    let sources: Vec<String> = rust_sources("src/cloud/ec2").iter().map(read).collect();
    let mut needed = called(&sources);
    assert!(needed.len() > 10, "{needed:?}");
    // SQS asks for the permission of the single call.
    assert!(needed.remove("sqs:DeleteMessageBatch"));
    needed.insert("sqs:DeleteMessage".to_owned());
    // AWS checks these in the course of CreateFleet, CreateLaunchTemplate and CreateInstanceProfile.
    needed.extend(["iam:PassRole", "iam:TagInstanceProfile"].map(str::to_owned));
    let allowed: BTreeSet<String> = statements()
        .iter()
        .flat_map(|statement| texts(&statement["Action"]))
        .collect();
    assert_eq!(allowed, needed);
}

#[test]
fn nobody_but_the_adapter_calls_aws() {
    for path in rust_sources("src") {
        let calls = fs::read_to_string(&path).unwrap().contains("aws_sdk_");
        assert!(
            !calls || path.starts_with("src/cloud/ec2"),
            "{}",
            path.display()
        );
    }
}

#[test]
fn whatever_changes_something_is_bound_to_the_clusters_tag() {
    for statement in statements() {
        if statement["Sid"] == "ReadOwnCluster" {
            assert_eq!(
                statement["Resource"],
                "arn:aws:eks:REGION:ACCOUNT:cluster/CLUSTER"
            );
        }
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

/// Beside other resources a condition on the request would stand for what already exists, and one on the resource for
/// what is only being made.
#[test]
fn launch_templates_stand_alone_and_each_action_asks_for_the_tag_where_it_can_be() {
    let requested = "aws:RequestTag/tonnage.dev/cluster";
    let there = "aws:ResourceTag/tonnage.dev/cluster";
    let mut asked = BTreeMap::new();
    for statement in statements() {
        let resources = texts(&statement["Resource"]);
        if !resources
            .iter()
            .any(|resource| resource.contains(":launch-template/"))
        {
            continue;
        }
        assert_eq!(
            resources,
            ["arn:aws:ec2:REGION:*:launch-template/*"],
            "{statement}"
        );
        let wanted = &statement["Condition"]["StringEquals"];
        let by = [requested, there].map(|tag| wanted[tag] == "CLUSTER");
        for action in texts(&statement["Action"]) {
            assert_eq!(asked.insert(action, by), None, "{statement}");
        }
        if texts(&statement["Action"]) == ["ec2:CreateTags"] {
            assert_eq!(wanted["ec2:CreateAction"], "CreateLaunchTemplate");
        }
    }
    let expected = [
        ("ec2:CreateFleet", [false, true]),
        ("ec2:CreateLaunchTemplate", [true, false]),
        ("ec2:CreateTags", [true, false]),
        ("ec2:DeleteLaunchTemplate", [false, true]),
        ("ec2:RunInstances", [false, true]),
    ];
    let expected = expected.map(|(action, by)| (action.to_owned(), by));
    assert_eq!(asked, BTreeMap::from(expected));
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
