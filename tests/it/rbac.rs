//! The chart's ClusterRoles and its Role against what the code asks the API server for.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use serde_json::Value;
use tonnage::cluster::Kind;
use tonnage::cluster::apply::Operation;

/// Verbs that change nothing.
const READS: [&str; 3] = ["get", "list", "watch"];

/// One permission of a rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Permission {
    /// (verb, group, resource).
    call: (String, String, String),
    /// The only objects that it is for; empty for all.
    names: Vec<String>,
}

/// The calls that a ClusterRole allows.
fn permissions(role: &str) -> BTreeSet<(String, String, String)> {
    let found = rules("clusterrole", "ClusterRole", role);
    assert!(found.iter().all(|permission| permission.names.is_empty()));
    found
        .into_iter()
        .map(|permission| permission.call)
        .collect()
}

/// The permissions of a role in a template.
fn rules(file: &str, kind: &str, role: &str) -> BTreeSet<Permission> {
    let template = fs::read_to_string(format!("charts/tonnage/templates/{file}.yaml")).unwrap();
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
        if object["kind"] != kind || object["metadata"]["name"] != role {
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
                        found.insert(Permission {
                            call: (verb.clone(), group.clone(), resource),
                            names: texts(&rule["resourceNames"]),
                        });
                    }
                }
            }
        }
    }
    assert!(!found.is_empty(), "there is no {kind} {role}");
    found
}

fn owned((verb, group, resource): (&str, &str, &str)) -> (String, String, String) {
    (verb.to_owned(), group.to_owned(), resource.to_owned())
}

#[test]
fn every_call_is_allowed_by_the_chart() {
    let mut allowed = permissions("tonnage");
    allowed.extend(permissions("tonnage-observe"));
    let in_namespace = rules("role", "Role", "tonnage");
    allowed.extend(in_namespace.into_iter().map(|permission| permission.call));
    for operation in Operation::ALL {
        let needed = owned(operation.permission());
        assert!(allowed.contains(&needed), "no rule for {needed:?}");
    }
}

/// Who may create bindings may put any pod onto any node: it is asked for.
#[test]
fn what_not_everybody_grants_is_given_by_a_value_of_the_chart() {
    let role = fs::read_to_string("charts/tonnage/templates/clusterrole.yaml").unwrap();
    let text = fs::read_to_string("charts/tonnage/values.yaml").unwrap();
    let values: Value = serde_saphyr::from_str(&text).unwrap();
    let mut optional = BTreeMap::new();
    for operation in Operation::ALL {
        let Some(value) = operation.chart_value() else {
            continue;
        };
        let (verb, group, resource) = operation.permission();
        let rule = format!(
            "  {{{{- if .Values.{value} }}}}\n  - apiGroups: [\"{group}\"]\n    resources: [\"{resource}\"]\n    \
             verbs: [\"{verb}\"]\n  {{{{- end }}}}\n"
        );
        assert!(role.contains(&rule), "{operation}: no\n{rule}");
        let named = format!("\"{resource}\"]\n    verbs: [\"{verb}\"]");
        assert_eq!(
            role.matches(&named).count(),
            1,
            "{operation} is given twice"
        );
        let path = format!("/{}", value.replace('.', "/"));
        optional.insert(value, values.pointer(&path).and_then(Value::as_bool));
    }
    let expected = [
        ("rbac.bindPods", Some(false)),
        ("rbac.forceDeletePods", Some(true)),
        ("rbac.nominatePods", Some(true)),
    ];
    assert_eq!(optional, BTreeMap::from(expected));
}

/// Asked once, before anything is followed.
#[test]
fn what_new_nodes_join_with_may_be_read() {
    let needed = owned(("get", "networking.k8s.io", "servicecidrs"));
    assert!(permissions("tonnage").contains(&needed));
    let dns = Permission {
        call: owned(("get", "", "services")),
        names: vec!["kube-dns".to_owned(), "coredns".to_owned()],
    };
    assert_eq!(rules("role", "Role", "tonnage-dns"), BTreeSet::from([dns]));
}

#[test]
fn the_role_is_for_one_lease_and_one_config_map_and_for_nothing_that_is_not_asked_for() {
    let asked: BTreeSet<(String, String, String)> = Operation::ALL
        .iter()
        .map(|operation| owned(operation.permission()))
        .collect();
    for Permission { call, names } in rules("role", "Role", "tonnage") {
        assert!(asked.contains(&call), "nobody asks for {call:?}");
        // Kubernetes does not know the name of what is made when it looks at the rules.
        let expected: &[&str] = match (call.0.as_str(), call.2.as_str()) {
            ("create", "leases" | "configmaps") => &[],
            (_, "leases") => &["tonnage"],
            (_, "configmaps") => &["tonnage-learned"],
            other => panic!("{other:?}"),
        };
        assert_eq!(names, expected, "{call:?}");
    }
    for role in ["tonnage", "tonnage-observe"] {
        for (verb, _group, resource) in permissions(role) {
            for local in ["leases", "configmaps"] {
                assert_ne!(resource, local, "{verb} in all namespaces");
            }
        }
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
