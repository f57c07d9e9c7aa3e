//! Cases from the manifests of our kinds: what one server takes, completes or refuses, the other does.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::script::{Case, Step};

/// A case for each file of the folders `accept`, `refuse` and `refuse-update`.
pub(crate) fn cases(folder: &str) -> Vec<Case> {
    let folders = ["accept", "refuse", "refuse-update"];
    folders
        .iter()
        .flat_map(|name| {
            let entries = fs::read_dir(format!("{folder}/{name}")).unwrap();
            let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
            files.sort();
            files.into_iter().map(|file| case(name, &file))
        })
        .collect()
}

/// Creates the first document of a file, and puts the second in its place.
fn case(folder: &str, file: &Path) -> Case {
    let text = fs::read_to_string(file).unwrap();
    let documents = text
        .split("\n---\n")
        .map(|document| serde_saphyr::from_str::<Value>(document).unwrap());
    let steps = documents.enumerate().map(|(number, object)| {
        let collection = collection(&object);
        let mut set = BTreeMap::from([("/metadata/name".to_owned(), json!("${space}"))]);
        let request = if number == 0 {
            format!("POST {collection}")
        } else {
            set.insert("/metadata/resourceVersion".to_owned(), json!("${version}"));
            format!("PUT {collection}/${{space}}")
        };
        let keep = (folder == "refuse-update" && number == 0)
            .then(|| ("version".to_owned(), "/metadata/resourceVersion".to_owned()));
        Step {
            request,
            body: object,
            set,
            keep: keep.into_iter().collect(),
            ..Step::default()
        }
    });
    let name = file.file_stem().unwrap().to_string_lossy();
    Case {
        name: format!("manifest {folder}/{name}"),
        steps: steps.collect(),
    }
}

fn collection(object: &Value) -> String {
    let api_version = object["apiVersion"].as_str().unwrap();
    let plural = match object["kind"].as_str().unwrap() {
        "NodePool" => "nodepools",
        "NodeClaim" => "nodeclaims",
        "EC2NodeClass" => "ec2nodeclasses",
        other => panic!("{other} is no kind of ours"),
    };
    format!("/apis/{api_version}/{plural}")
}
