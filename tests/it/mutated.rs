//! Manifests that went wrong in places: every one gets an error or a plan that holds, never a panic.
//!
//! Values of the scenarios are replaced by what people and programs get wrong: negative and absurd
//! numbers, empty and endless texts, other types, nothing. Whatever can be read is planned, and the
//! independent checker judges the plan. `fuzz/` does the same without an end.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use serde_json::{Value, json};
use tonnage::cloud::builtin;
use tonnage::cluster::manifests::{Document, Manifests, read_files};
use tonnage::plan::check;
use tonnage::plan::provision::{ProvisionSettings, provision_proven};

/// Small, because tests run without optimisation and plans are many.
const BUDGET_MS: u64 = 1;

fn files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/scenarios");
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "yaml"))
        .collect();
    files.sort();
    files
}

fn wrong(which: usize) -> Value {
    match which {
        0 => json!(-1),
        1 => json!(0),
        2 => json!("99999999999999999999Ei"),
        3 => json!("-3"),
        4 => json!(""),
        5 => json!("a".repeat(5000)),
        6 => Value::Null,
        7 => json!([]),
        8 => json!({}),
        9 => json!(i64::MAX),
        10 => json!("NotIn"),
        11 => json!("kubernetes.io/hostname"),
        12 => json!(true),
        13 => json!("1e400"),
        14 => json!(["us-east-1z", "us-east-1a"]),
        _ => json!("9223372036854775807"),
    }
}
/// How many [`wrong`] values there are.
const WRONG: usize = 16;

/// The places in a document whose values can be replaced, as JSON pointers.
fn places(value: &Value, path: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, inner) in fields {
                let name = name.replace('~', "~0").replace('/', "~1");
                places(inner, &format!("{path}/{name}"), found);
            }
        }
        Value::Array(values) => {
            for (index, inner) in values.iter().enumerate() {
                places(inner, &format!("{path}/{index}"), found);
            }
        }
        _ => {}
    }
    if !path.is_empty() && path != "/kind" && path != "/apiVersion" {
        found.push(path.to_owned());
    }
}

fn mutate(documents: &mut [Document], changes: &[(usize, usize, usize)]) {
    for (document, place, value) in changes {
        let object = &mut documents[document % documents.len()].object;
        let mut found = Vec::new();
        places(object, "", &mut found);
        let pointer = &found[place % found.len()];
        *object.pointer_mut(pointer).unwrap() = wrong(value % WRONG);
    }
}

/// Plans what can be read, and tells whether it could be.
fn survives(documents: Vec<Document>) -> Result<bool, TestCaseError> {
    let manifests = match Manifests::read(documents) {
        Ok(manifests) => manifests,
        Err(error) => {
            let text = error.to_string();
            prop_assert!(text.contains(".yaml"), "names no file: {text}");
            return Ok(false);
        }
    };
    let classes = builtin::node_classes(&manifests.node_classes);
    let snapshot = manifests.snapshot(Timestamp::UNIX_EPOCH, classes);
    let settings = ProvisionSettings::default().with_budget_ms(BUDGET_MS);
    let (plan, proofs) = provision_proven(&snapshot, &settings, &|| false);
    prop_assert_eq!(check::violations(&snapshot, &plan), Vec::<String>::new());
    prop_assert_eq!(check::unproven(&plan, &proofs), Vec::<String>::new());
    Ok(true)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 1500,
        rng_seed: RngSeed::Fixed(7),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn wrong_values_get_an_error_or_a_plan_that_holds(
        scene in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<usize>(), any::<usize>(), 0..WRONG), 1..5),
    ) {
        let files = files();
        let base = files.iter().find(|path| path.ends_with("base.yaml")).unwrap();
        let mut documents = read_files(&[base.clone(), scene.get(&files).clone()]).unwrap();
        mutate(&mut documents, &changes);
        survives(documents)?;
    }
}

#[test]
fn a_value_of_another_type_is_refused_with_its_file_and_kind() {
    let files = files();
    let pinned: Vec<PathBuf> = files
        .into_iter()
        .filter(|path| path.ends_with("pinned.yaml"))
        .collect();
    let mut documents = read_files(&pinned).unwrap();
    let object = &mut documents[0].object;
    assert_eq!(object["kind"], "NodePool");
    object["spec"]["template"]["spec"]["requirements"] = json!("none");
    let error = Manifests::read(documents).unwrap_err().to_string();
    assert!(
        error.contains("pinned.yaml") && error.contains("NodePool"),
        "{error}"
    );
}

/// A number is written in no time; the pods that it stands for fill every memory.
#[test]
fn numbers_of_pods_that_cannot_be_are_refused_with_the_field_and_the_fix() {
    let read = |workloads: &[(&str, Value)]| {
        let document = |(kind, spec): &(&str, Value)| {
            let group = if *kind == "Job" {
                "batch/v1"
            } else {
                "apps/v1"
            };
            let mut object = json!({"apiVersion": group, "kind": kind, "metadata": {"name": "many"}, "spec": spec});
            object["spec"]["template"] = json!({"spec": {"containers": []}});
            object["spec"]["selector"] = json!({});
            object["spec"]["serviceName"] = json!("many");
            Document {
                path: "many.yaml".to_owned(),
                object,
            }
        };
        let read = Manifests::read(workloads.iter().map(document).collect());
        read.map(drop).map_err(|error| error.to_string())
    };
    let half = json!({"replicas": 250_000});
    let few = json!({"parallelism": i32::MAX, "completions": 7});
    let fine = [
        ("Deployment", half.clone()),
        ("StatefulSet", half),
        ("Job", json!({"parallelism": 0})),
    ];
    assert_eq!(read(&fine), Ok(()));
    assert_eq!(read(&[("Job", few)]), Ok(()));
    let one_more = [&fine[..], &[("ReplicaSet", json!({"replicas": 1}))]].concat();
    let error = read(&one_more).unwrap_err();
    let expected = "many.yaml: ReplicaSet many: spec.replicas asks for 1 pods, and the manifests up to here for 500001; \
                    at most 500000 are planned: lower it, or plan for fewer objects at a time";
    assert_eq!(error, expected);
    for (kind, spec, expected) in [
        (
            "Deployment",
            json!({"replicas": i32::MAX}),
            "spec.replicas asks for 2147483647 pods",
        ),
        (
            "Job",
            json!({"parallelism": 5_000_000}),
            "spec.parallelism asks for 5000000 pods",
        ),
        (
            "Deployment",
            json!({"replicas": -3}),
            "many.yaml: Deployment many: spec.replicas is -3; a number of pods is 0 or more",
        ),
        (
            "StatefulSet",
            json!({"replicas": -1}),
            "spec.replicas is -1",
        ),
        ("Job", json!({"parallelism": -1}), "spec.parallelism is -1"),
        ("Job", json!({"completions": -1}), "spec.completions is -1"),
    ] {
        let error = read(&[(kind, spec)]).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
}
