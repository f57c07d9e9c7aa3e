//! Classes that manifests name and do not hold.
//!
//! Given documents; given back one warning for each PriorityClass and RuntimeClass that pods or templates name and no
//! document is. Manifests are often only some of a cluster's objects, so their pods are planned nevertheless, without
//! what the class would add.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::read::Document;
use crate::model::pod::{CLUSTER_CRITICAL, NODE_CRITICAL};

/// Objects that a warning names; the others are counted.
const MOST_NAMED: usize = 3;

/// A field of a pod that names a class, the class's kind, and what pods are without it.
const CLASSES: [(&str, &str, &str); 2] = [
    ("priorityClassName", "PriorityClass", "with priority 0"),
    (
        "runtimeClassName",
        "RuntimeClass",
        "without its overhead, node selector and tolerations",
    ),
];

/// The warnings, each a line. Who asks leaves out the documents that it makes no pods of.
pub fn warnings<'documents>(documents: impl Iterator<Item = &'documents Document>) -> Vec<String> {
    let documents: Vec<&Document> = documents.collect();
    let mut found = Vec::new();
    for (field, kind, without) in CLASSES {
        let known: BTreeSet<&str> = documents
            .iter()
            .filter(|document| document.object["kind"] == kind)
            .filter_map(|document| document.object["metadata"]["name"].as_str())
            .chain(
                [NODE_CRITICAL, CLUSTER_CRITICAL]
                    .into_iter()
                    .filter(|_class| kind == "PriorityClass"),
            )
            .collect();
        let mut missing: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for document in &documents {
            let named = pod_spec(&document.object).and_then(|spec| spec.get(field)?.as_str());
            if let Some(class) = named.filter(|name| !name.is_empty() && !known.contains(name)) {
                missing
                    .entry(class)
                    .or_default()
                    .push(title(&document.object));
            }
        }
        for (class, users) in missing {
            let verb = if users.len() == 1 { "names" } else { "name" };
            found.push(format!(
                "warning: {} {verb} {kind} {class}, which is not given, so the pods are planned {without}; \
                 give the {kind} with --filename\n",
                first_few(&users, MOST_NAMED)
            ));
        }
    }
    found
}

/// The spec of the pods that an object is or has made. A pod that an API server holds has of its classes what it gets.
fn pod_spec(object: &Value) -> Option<&Value> {
    let pointer = match object["kind"].as_str()? {
        "Pod" if object["metadata"]["uid"].is_string() => return None,
        "Pod" => "/spec",
        "Deployment" | "ReplicaSet" | "StatefulSet" | "DaemonSet" | "Job" => "/spec/template/spec",
        "CronJob" => "/spec/jobTemplate/spec/template/spec",
        _ => return None,
    };
    object.pointer(pointer)
}

fn title(object: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    format!(
        "{} {}",
        text(&object["kind"]),
        text(&object["metadata"]["name"])
    )
}

/// So many of some names at most, and how many more there are.
pub fn first_few(names: &[String], most: usize) -> String {
    let named = names.iter().take(most).map(String::as_str);
    let named: Vec<&str> = named.collect();
    let named = named.join(", ");
    match names.len().saturating_sub(most) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::read::read_text;
    use super::*;

    fn said(yaml: &str) -> Vec<String> {
        warnings(read_text("a.yaml", yaml).unwrap().iter())
    }

    #[test]
    fn who_names_a_class_that_is_not_given_is_said() {
        let found = said(
            "
{kind: Pod, metadata: {name: a}, spec: {priorityClassName: high, runtimeClassName: kata}}
---
{kind: CronJob, metadata: {name: b}, spec: {jobTemplate: {spec: {template: {spec: {runtimeClassName: gvisor}}}}}}
---
{kind: RuntimeClass, metadata: {name: kata}, handler: kata}
",
        );
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(
            found[0].starts_with("warning: Pod a names PriorityClass high, which"),
            "{found:?}"
        );
        assert!(
            found[1].starts_with("warning: CronJob b names RuntimeClass gvisor, which"),
            "{found:?}"
        );
    }

    #[test]
    fn what_every_cluster_has_and_what_an_api_server_settled_is_not_said() {
        let found = said(
            "
{kind: Pod, metadata: {name: a}, spec: {priorityClassName: system-node-critical}}
---
{kind: DaemonSet, metadata: {name: b}, spec: {template: {spec: {priorityClassName: system-cluster-critical}}}}
---
{kind: Pod, metadata: {name: c, uid: c}, spec: {priorityClassName: high, runtimeClassName: kata}}
---
{kind: Namespace, metadata: {name: d}, spec: {priorityClassName: high}}
",
        );
        assert_eq!(found, [""; 0]);
    }

    #[test]
    fn many_are_counted() {
        let pod = |index: usize| {
            format!(
                "{{kind: Pod, metadata: {{name: p{index}}}, spec: {{priorityClassName: high}}}}"
            )
        };
        let pods: Vec<String> = (0..5).map(pod).collect();
        let found = said(&pods.join("\n---\n"));
        assert!(
            found[0].starts_with("warning: Pod p0, Pod p1, Pod p2 and 2 more name"),
            "{found:?}"
        );
    }
}
