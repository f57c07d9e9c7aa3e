//! What is generated from the API types is in the repository, and is what the types say now; the
//! manifests that a real API server is asked about decode and validate as their folders say.
//!
//! `UPDATE_GOLDEN=1 cargo test --test it crds` writes the files anew.

use std::env;
use std::fs;
use std::path::Path;

use serde_json::Value;
use tonnage::api::{
    EC2NodeClass, NodeClaim, NodePool, crds, node_class_validation, node_pool_validation,
    settings_table,
};

use tonnage::settings::flags_markdown;

use crate::sources::files_below;

/// Compares a file with what it should hold, or writes it when asked to.
pub(crate) fn golden(path: &Path, expected: &str) {
    if env::var_os("UPDATE_GOLDEN").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, expected).unwrap();
    }
    let found = fs::read_to_string(path).unwrap_or_default();
    assert!(
        found == expected,
        "{} is not what it is generated from: run UPDATE_GOLDEN=1 cargo test --test it",
        path.display()
    );
}

#[test]
fn the_definitions_are_those_of_the_types() {
    let manifests = crds::manifests().unwrap();
    for folder in ["crds", "charts/tonnage/files/crds"] {
        for manifest in &manifests {
            golden(&Path::new(folder).join(&manifest.file_name), &manifest.yaml);
        }
        let files = fs::read_dir(folder).unwrap().count();
        assert_eq!(
            files,
            manifests.len(),
            "{folder} holds files that no type makes"
        );
    }
}

#[test]
fn the_settings_page_is_that_of_the_table() {
    let page = settings_table::markdown() + &flags_markdown();
    golden(Path::new("docs/settings.md"), &page);
}

#[test]
fn every_field_is_explained_to_users() {
    for definition in crds::definitions() {
        let kind = &definition.spec.names.kind;
        for version in &definition.spec.versions {
            let schema = version.schema.clone().unwrap().open_api_v3_schema.unwrap();
            let text = serde_json::to_value(schema).unwrap();
            let mut missing = Vec::new();
            unexplained(&text, kind, &mut missing);
            assert_eq!(missing, Vec::<String>::new());
        }
    }
}

fn unexplained(schema: &Value, path: &str, missing: &mut Vec<String>) {
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        let is_explained = property["description"]
            .as_str()
            .is_some_and(|text| text.len() > 10);
        if !is_explained && path != format!("{}.status", path.split('.').next().unwrap()) {
            missing.push(path.clone());
        }
        unexplained(property, &path, missing);
        unexplained(&property["items"], &path, missing);
    }
}

/// The manifests in `tests/fixtures/api/<folder>`, one file each.
fn fixtures(folder: &str) -> Vec<(String, String)> {
    let files = files_below(&format!("tests/fixtures/api/{folder}"));
    assert!(!files.is_empty(), "no fixtures in {folder}");
    let read = |path: std::path::PathBuf| {
        (
            path.display().to_string(),
            fs::read_to_string(path).unwrap(),
        )
    };
    files.into_iter().map(read).collect()
}

/// What a manifest decodes to, written again, and the problems that validation finds in it.
fn decode(text: &str) -> (Value, Vec<String>) {
    let object: Value = serde_saphyr::from_str(text).unwrap();
    let lines = |problems: Vec<tonnage::api::Problem>| {
        problems.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    match object["kind"].as_str().unwrap() {
        "NodePool" => {
            let pool: NodePool = serde_saphyr::from_str(text).unwrap();
            (
                serde_json::to_value(&pool).unwrap(),
                lines(node_pool_validation::validate(&pool)),
            )
        }
        "EC2NodeClass" => {
            let class: EC2NodeClass = serde_saphyr::from_str(text).unwrap();
            (
                serde_json::to_value(&class).unwrap(),
                lines(node_class_validation::validate(&class.spec)),
            )
        }
        kind => {
            assert_eq!(kind, "NodeClaim");
            let claim: NodeClaim = serde_saphyr::from_str(text).unwrap();
            (serde_json::to_value(&claim).unwrap(), Vec::new())
        }
    }
}

/// Whether everything in `part` is in `whole`; a number may have become a quantity's text.
fn contains(whole: &Value, part: &Value) -> bool {
    match (whole, part) {
        (Value::Object(whole), Value::Object(part)) => part.iter().all(|(key, value)| {
            let is_empty = value.as_object().is_some_and(serde_json::Map::is_empty)
                || value.as_array().is_some_and(Vec::is_empty);
            is_empty || whole.get(key).is_some_and(|found| contains(found, value))
        }),
        (Value::Array(whole), Value::Array(part)) => {
            whole.len() == part.len() && whole.iter().zip(part).all(|(a, b)| contains(a, b))
        }
        (Value::String(text), Value::Number(number)) => *text == number.to_string(),
        (whole, part) => whole == part,
    }
}

#[test]
fn accepted_manifests_are_valid_and_lose_nothing() {
    for (path, text) in fixtures("accept") {
        let written: Value = serde_saphyr::from_str(&text).unwrap();
        let (object, problems) = decode(&text);
        assert!(
            contains(&object, &written),
            "{path}: {written:#}\nbecame {object:#}"
        );
        assert_eq!(problems, Vec::<String>::new(), "{path}");
    }
}

#[test]
fn refused_manifests_say_why() {
    for folder in ["refuse", "refuse-update"] {
        for (path, text) in fixtures(folder) {
            let expected = text
                .lines()
                .next()
                .and_then(|line| line.strip_prefix("# expect: "));
            assert!(expected.is_some_and(|text| text.len() > 5), "{path}");
            let documents = text.split("\n---\n").count();
            assert_eq!(documents, if folder == "refuse" { 1 } else { 2 }, "{path}");
        }
    }
}
