//! The plan of a set, made by the binary from what the API server holds.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::generate::catalogue;

/// What the planner says of a set.
#[derive(Debug, Default)]
pub(crate) struct Planned {
    /// Pool, instance type, zone and pods of each node.
    pub(crate) nodes: Vec<(String, String, String, Vec<String>)>,
    /// Pods of each node that stands already.
    pub(crate) existing: Vec<(String, Vec<String>)>,
    /// Pods left out, with the first reason that counts.
    pub(crate) left_out: BTreeMap<String, String>,
}

impl Planned {
    /// True when a limit of a pool kept some pod out.
    pub(crate) fn is_limited(&self) -> bool {
        self.left_out
            .values()
            .any(|reason| reason.contains("LimitReached"))
    }
}

fn scratch(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("differential");
    std::fs::create_dir_all(&folder).unwrap();
    folder.join(name)
}

/// Plans for objects. The plan is held against every constraint first, and its lower bound against the proof.
pub(crate) fn plan(set: &str, objects: &[Value]) -> Planned {
    let file = scratch(&format!("{set}.json"));
    let list = serde_json::json!({"apiVersion": "v1", "kind": "List", "items": objects});
    std::fs::write(&file, serde_json::to_string_pretty(&list).unwrap()).unwrap();
    let offerings = scratch(&format!("{set}-catalog.json"));
    std::fs::write(&offerings, catalogue().to_string()).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_tonnage"))
        .args(["plan", "-o", "json", "--check", "--budget-ms", "5", "-f"])
        .arg(&file)
        .arg("--catalog")
        .arg(&offerings)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{set}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    read(&serde_json::from_slice(&output.stdout).unwrap())
}

fn read(plan: &Value) -> Planned {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let nodes = list(&plan["nodes"])
        .iter()
        .map(|node| {
            (
                text(&node["nodePool"]),
                text(&node["instanceType"]),
                text(&node["zone"]),
                list(&node["pods"]).iter().map(text).collect(),
            )
        })
        .collect();
    let existing = list(&plan["existing"])
        .iter()
        .map(|node| {
            let pods = list(&node["pods"]).iter().map(text).collect();
            (text(&node["node"]), pods)
        })
        .collect();
    let left_out = list(&plan["unschedulable"])
        .iter()
        .map(|left| {
            let reasons: Vec<String> = list(&left["reasons"])
                .iter()
                .map(|reason| format!("{}: {}", text(&reason["reason"]), text(&reason["detail"])))
                .collect();
            (text(&left["pod"]), reasons.join("; "))
        })
        .collect();
    Planned {
        nodes,
        existing,
        left_out,
    }
}
