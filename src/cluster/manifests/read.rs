//! Files and directories of manifests, as JSON values.
//!
//! Given paths; given back every object in them, lists taken apart. `-` is standard input. In a
//! directory, the files that end in .yaml, .yml or .json count, in name order, subdirectories
//! included.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde_json::Value;

/// Why manifests could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// A file or directory cannot be read.
    #[error("{path} cannot be read; check that it exists and is readable")]
    Unreadable {
        /// The path as given or found.
        path: String,
        /// What the operating system says.
        source: io::Error,
    },
    /// Not YAML, nor JSON.
    #[error("{path} is not YAML or JSON: {problem}")]
    Syntax {
        /// The file.
        path: String,
        /// Where and what.
        problem: String,
    },
    /// An object without kind.
    #[error("{path}, document {document}: an object needs apiVersion and kind")]
    NoKind {
        /// The file.
        path: String,
        /// Counted from 1.
        document: usize,
    },
    /// A field that does not have the form that its kind asks for.
    #[error("{path}: {kind} {name}: {problem}")]
    Malformed {
        /// The file.
        path: String,
        /// The object's kind.
        kind: String,
        /// The object's name.
        name: String,
        /// Which field, and what is wrong.
        problem: String,
    },
}

/// An object and where it came from.
#[derive(Debug, Clone)]
pub struct Document {
    /// The file.
    pub path: String,
    /// The object.
    pub object: Value,
}

/// Reads files and directories.
///
/// # Errors
/// [`ManifestError`] with the file and what is wrong.
pub fn read_files(paths: &[PathBuf]) -> Result<Vec<Document>, ManifestError> {
    let mut documents = Vec::new();
    for path in paths {
        if path.as_os_str() == "-" {
            let mut text = String::new();
            io::stdin()
                .read_to_string(&mut text)
                .map_err(|source| ManifestError::Unreadable {
                    path: "standard input".to_owned(),
                    source,
                })?;
            parse("standard input", &text, &mut documents)?;
        } else {
            read_path(path, &mut documents)?;
        }
    }
    Ok(documents)
}

/// Reads a text of one or more documents; `path` names it in errors.
///
/// # Errors
/// [`ManifestError`] with the path and what is wrong.
pub fn read_text(path: &str, text: &str) -> Result<Vec<Document>, ManifestError> {
    let mut documents = Vec::new();
    parse(path, text, &mut documents)?;
    Ok(documents)
}

fn read_path(path: &Path, documents: &mut Vec<Document>) -> Result<(), ManifestError> {
    let shown = path.display().to_string();
    let unreadable = |source| ManifestError::Unreadable {
        path: shown.clone(),
        source,
    };
    if !path.is_dir() {
        let text = fs::read_to_string(path).map_err(unreadable)?;
        return parse(&shown, &text, documents);
    }
    let mut entries = Vec::new();
    for entry in fs::read_dir(path).map_err(unreadable)? {
        entries.push(entry.map_err(unreadable)?.path());
    }
    entries.sort();
    for entry in entries {
        let is_manifest = entry.extension().is_some_and(|extension| {
            extension == "yaml" || extension == "yml" || extension == "json"
        });
        if is_manifest || entry.is_dir() {
            read_path(&entry, documents)?;
        }
    }
    Ok(())
}

/// Takes a text of one or more documents apart.
pub(super) fn parse(
    path: &str,
    text: &str,
    documents: &mut Vec<Document>,
) -> Result<(), ManifestError> {
    let values: Vec<Value> =
        serde_saphyr::from_multiple(text).map_err(|error| ManifestError::Syntax {
            path: path.to_owned(),
            problem: error.to_string(),
        })?;
    for (index, value) in values.into_iter().enumerate() {
        flatten(path, index + 1, value, documents)?;
    }
    Ok(())
}

fn flatten(
    path: &str,
    document: usize,
    value: Value,
    documents: &mut Vec<Document>,
) -> Result<(), ManifestError> {
    match value {
        Value::Null => Ok(()),
        Value::Array(values) => {
            for value in values {
                flatten(path, document, value, documents)?;
            }
            Ok(())
        }
        Value::Object(mut object) => {
            let kind = object
                .get("kind")
                .and_then(Value::as_str)
                .unwrap_or_default();
            if kind.is_empty() {
                return Err(ManifestError::NoKind {
                    path: path.to_owned(),
                    document,
                });
            }
            if kind.ends_with("List")
                && let Some(items) = object.remove("items")
            {
                return flatten(path, document, items, documents);
            }
            documents.push(Document {
                path: path.to_owned(),
                object: Value::Object(object),
            });
            Ok(())
        }
        _ => Err(ManifestError::NoKind {
            path: path.to_owned(),
            document,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_lists_and_empty_parts() {
        let mut documents = Vec::new();
        parse(
            "a.yaml",
            "
apiVersion: v1
kind: Namespace
metadata: {name: a}
---
---
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: Pod, metadata: {name: b}}
- {apiVersion: v1, kind: Pod, metadata: {name: c}}
",
            &mut documents,
        )
        .unwrap();
        assert_eq!(documents.len(), 3);
    }

    #[test]
    fn what_is_no_manifest_is_named_with_its_file() {
        let mut documents = Vec::new();
        let error = parse("b.yaml", "a: [", &mut documents).unwrap_err();
        assert!(
            error.to_string().starts_with("b.yaml is not YAML"),
            "{error}"
        );
        let error = parse("c.yaml", "a: b", &mut documents).unwrap_err();
        assert!(error.to_string().contains("c.yaml, document 1"), "{error}");
    }
}
