//! The README's first command, as its user runs it: a day has enough in it, ends with nothing, and leaves files
//! that say the same.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or(Value::Null))
        .collect()
}

#[test]
fn a_day_has_hundreds_of_pods_dozens_of_nodes_and_interruptions_and_ends_with_nothing() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("demo-day");
    if folder.exists() {
        fs::remove_dir_all(&folder).unwrap();
    }
    let played = Command::new(env!("CARGO_BIN_EXE_tonnage"))
        .args(["demo", "--speed", "max", "--out"])
        .arg(&folder)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&played.stdout);
    assert!(played.status.success(), "{said}");
    let summary = fs::read_to_string(folder.join("summary.json")).unwrap();
    let summary: Value = serde_json::from_str(&summary).unwrap();
    let count = |name: &str| summary[name].as_u64().unwrap();
    assert!(count("pods") >= 300, "{summary}");
    assert!(count("nodesBought") >= 40, "{summary}");
    assert!(count("interruptions") >= 5, "{summary}");
    assert_eq!(count("instancesLeft"), 0);
    assert_eq!(count("voluntaryEvictionsOfProtectedPods"), 0);
    let usd = |name: &str| summary[name].as_str().unwrap().parse::<f64>().unwrap();
    assert!(usd("usdTotal") >= usd("usdLowerBound"), "{summary}");
    assert!(
        said.contains(&format!("{} pods ran on", count("pods"))),
        "{said}"
    );

    let begins = |word: &str| {
        let after_the_time = |line: &&str| line.get(9..).is_some_and(|rest| rest.starts_with(word));
        said.lines().filter(after_the_time).collect::<Vec<_>>()
    };
    let bought = begins("bought ");
    assert_eq!(bought.len() as u64, count("nodesBought"), "{said}");
    for line in bought {
        let (_offering, whom) = line.split_once(" for ").unwrap_or_default();
        let (pods, workload) = whom.split_once(" of ").unwrap_or_default();
        assert!(pods.ends_with(" pod") || pods.ends_with(" pods"), "{line}");
        assert!(!workload.is_empty(), "{line}");
    }
    let gone = begins("gone ");
    assert_eq!(gone.len() as u64, count("nodesBought"), "{said}");
    for line in gone {
        let why = [" as empty: no pods for ", " as EC2 takes it back;"];
        assert!(why.iter().any(|why| line.contains(*why)), "{line}");
    }

    let plans = lines(&folder.join("plans.jsonl"));
    let planned = plans.iter().map(|made| {
        let nodes = made["plan"]["nodes"].as_array().unwrap();
        let has_pods = |node: &Value| !node["pods"].as_array().unwrap().is_empty();
        assert!(nodes.iter().all(has_pods), "{made}");
        nodes.len() as u64
    });
    assert!(planned.sum::<u64>() >= count("nodesBought"));
    let history = lines(&folder.join("history.jsonl"));
    let happened =
        |event: &str| history.iter().filter(|line| line["event"] == event).count() as u64;
    assert_eq!(happened("InstanceLaunched"), count("nodesBought"));
    assert_eq!(happened("InterruptionNotice"), count("interruptions"));
}

#[test]
fn a_folder_that_cannot_be_written_is_named_before_the_day_is_played() {
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("demo-no-folder");
    fs::write(&file, "a file").unwrap();
    let played = Command::new(env!("CARGO_BIN_EXE_tonnage"))
        .args(["demo", "--speed", "max", "--out"])
        .arg(file.join("below"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&played.stderr);
    assert_eq!(played.status.code(), Some(1), "{said}");
    assert!(played.stdout.is_empty(), "it played");
    assert!(
        said.contains("demo-no-folder/below cannot be written; choose another folder with --out"),
        "{said}"
    );
}
