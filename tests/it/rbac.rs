//! The chart's ClusterRoles against what the code asks the API server for.

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;
use tonnage::cluster::Kind;
use tonnage::cluster::apply::Operation;

/// Verbs that change nothing.
const READS: [&str; 3] = ["get", "list", "watch"];

/// The permissions of the roles whose name ends so, as (verb, group, resource).
fn permissions(role: &str) -> BTreeSet<(String, String, String)> {
    let template = fs::read_to_string("charts/tonnage/templates/clusterrole.yaml").unwrap();
    // Helm's own lines are taken off: what is optional counts as given.
    let plain: Vec<String> = template
        .lines()
        .filter(|line| !line.trim_start().starts_with("{{"))
        .map(|line| line.replace("{{ include \"tonnage.fullname\" . }}", "tonnage"))
        .filter(|line| !line.contains("{{"))
        .collect();
    let mut found = BTreeSet::new();
    for document in plain.join("\n").split("\n---") {
        let object: Value = serde_saphyr::from_str(document).unwrap();
        if object["kind"] != "ClusterRole" || object["metadata"]["name"] != role {
            continue;
        }
        let texts = |value: &Value| -> Vec<String> {
            let list = value.as_array().into_iter().flatten();
            list.filter_map(Value::as_str).map(str::to_owned).collect()
        };
        for rule in object["rules"].as_array().unwrap() {
            for verb in texts(&rule["verbs"]) {
                for group in texts(&rule["apiGroups"]) {
                    for resource in texts(&rule["resources"]) {
                        found.insert((verb.clone(), group.clone(), resource));
                    }
                }
            }
        }
    }
    assert!(!found.is_empty(), "there is no ClusterRole {role}");
    found
}

fn owned((verb, group, resource): (&str, &str, &str)) -> (String, String, String) {
    (verb.to_owned(), group.to_owned(), resource.to_owned())
}

#[test]
fn every_call_is_allowed_by_the_chart() {
    let mut allowed = permissions("tonnage");
    allowed.extend(permissions("tonnage-observe"));
    for operation in Operation::ALL {
        let needed = owned(operation.permission());
        assert!(allowed.contains(&needed), "no rule for {needed:?}");
    }
}

#[test]
fn everything_followed_can_be_listed_and_watched_while_observing() {
    let allowed = permissions("tonnage-observe");
    for kind in Kind::ALL {
        let (resource, group) = kind
            .resource()
            .split_once('.')
            .unwrap_or_else(|| (kind.resource(), ""));
        for verb in ["list", "watch"] {
            let needed = owned((verb, group, resource));
            assert!(allowed.contains(&needed), "no rule for {needed:?}");
        }
    }
}

#[test]
fn observing_needs_no_verb_that_writes() {
    for (verb, group, resource) in permissions("tonnage-observe") {
        assert!(
            READS.contains(&verb.as_str()),
            "{verb} {resource} of `{group}`"
        );
    }
    for operation in Operation::ALL {
        let verb = operation.permission().0;
        assert_eq!(operation.is_read(), READS.contains(&verb), "{operation}");
    }
}
