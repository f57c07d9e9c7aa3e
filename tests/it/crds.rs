//! What is generated from the API types is in the repository, and is what the types say now.
//!
//! `UPDATE_GOLDEN=1 cargo test --test it crds` writes the files anew.

use std::env;
use std::fs;
use std::path::Path;

use tonnage::api::{crds, settings_table};

/// Compares a file with what it should hold, or writes it when asked to.
fn golden(path: &Path, expected: &str) {
    if env::var_os("UPDATE_GOLDEN").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, expected).unwrap();
    }
    let found = fs::read_to_string(path).unwrap_or_default();
    assert!(
        found == expected,
        "{} is not what the types say: run UPDATE_GOLDEN=1 cargo test --test it crds",
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
    golden(Path::new("docs/settings.md"), &settings_table::markdown());
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

fn unexplained(schema: &serde_json::Value, path: &str, missing: &mut Vec<String>) {
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
