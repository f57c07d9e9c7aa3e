//! Files and directories of manifests, as JSON values.
//!
//! Given paths; given back every object in them, lists taken apart. `-` is standard input. In a
//! directory, the files that end in .yaml, .yml or .json count, in name order, subdirectories
//! included. JSON may be of any size; YAML is read up to [`MOST_YAML_BYTES`], with limits that grow
//! with the text, so that a text which unfolds to far more than itself is refused. A number beyond all measure
//! (`1e400`) becomes a text that no amount is read from, so that it is its own object's problem.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde_json::Value;
use serde_saphyr::NonFiniteFloatPolicy;

use super::expand::MOST_PODS;

/// The largest YAML text that is read: some tens of thousands of pods. Parsing takes many times its size.
const MOST_YAML_BYTES: usize = 256 << 20;

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
    /// More YAML than is read.
    #[error(
        "{path} is {bytes} bytes of YAML, and at most {MOST_YAML_BYTES} are read; give it as JSON (kubectl: -o json), or in several files"
    )]
    TooLarge {
        /// The file.
        path: String,
        /// How much there is.
        bytes: usize,
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
    /// A number of pods below zero.
    #[error("{path}: {kind} {name}: {field} is {given}; a number of pods is 0 or more")]
    NegativeCount {
        /// The file.
        path: String,
        /// The object's kind.
        kind: String,
        /// The object's name.
        name: String,
        /// The field that says it.
        field: &'static str,
        /// What it says.
        given: i32,
    },
    /// More pods than are planned.
    #[error(
        "{path}: {kind} {name}: {field} asks for {count} pods, and the manifests up to here for {sum}; at most {MOST_PODS} are planned: lower it, or plan for fewer objects at a time"
    )]
    TooManyPods {
        /// The file.
        path: String,
        /// The object's kind.
        kind: String,
        /// The object's name.
        name: String,
        /// The field that says it.
        field: &'static str,
        /// How many pods the object asks for.
        count: usize,
        /// How many it and those before it ask for.
        sum: usize,
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
    let mut count = 0;
    let mut take = |value: Value| {
        count += 1;
        flatten(path, count, value, documents)
    };
    match json(text) {
        Some(Ok(values)) => return values.into_iter().try_for_each(take),
        Some(Err(problem))
            if is_json_for_sure(text) && !problem.starts_with(BEYOND_ALL_NUMBERS) =>
        {
            return Err(ManifestError::Syntax {
                path: path.to_owned(),
                problem,
            });
        }
        // YAML may begin with a brace as well, and has a way to read numbers that JSON's reader refuses.
        Some(Err(_)) | None => {}
    }
    yaml(path, text)?.into_iter().try_for_each(&mut take)
}

/// How the reader of JSON begins to say that a number is larger than any that it knows.
const BEYOND_ALL_NUMBERS: &str = "number out of range";

/// The values of a JSON text, one after the other; `None` for what does not begin as JSON objects and
/// lists do.
fn json(text: &str) -> Option<Result<Vec<Value>, String>> {
    if !text.trim_start().starts_with(['{', '[']) {
        return None;
    }
    let values = serde_json::Deserializer::from_str(text).into_iter::<Value>();
    let values: Result<Vec<Value>, serde_json::Error> = values.collect();
    Some(values.map_err(|error| error.to_string()))
}

/// True for what begins with an object whose first name is quoted, as people hardly write YAML.
fn is_json_for_sure(text: &str) -> bool {
    let mut letters = text.chars().filter(|letter| !letter.is_whitespace());
    letters.find(|letter| *letter != '[') == Some('{') && letters.next() == Some('"')
}

/// The documents of a YAML text. No text of so many bytes has more nodes, events or documents; what
/// aliases repeat has the limits of the parser, whatever the size.
fn yaml(path: &str, text: &str) -> Result<Vec<Value>, ManifestError> {
    let bytes = text.len();
    if bytes > MOST_YAML_BYTES {
        return Err(ManifestError::TooLarge {
            path: path.to_owned(),
            bytes,
        });
    }
    let mut budget = serde_saphyr::Budget::default();
    budget.max_nodes = budget.max_nodes.max(bytes);
    // A node has an event at its end, too, and so has a document.
    budget.max_events = budget.max_events.max(bytes.saturating_mul(2));
    budget.max_documents = budget.max_documents.max(bytes);
    budget.max_total_scalar_bytes = budget.max_total_scalar_bytes.max(bytes);
    let options = serde_saphyr::options! {
        budget: Some(budget),
        non_finite_float_policy: NonFiniteFloatPolicy::AsString,
    };
    serde_saphyr::from_multiple_with_options(text, options).map_err(|error| ManifestError::Syntax {
        path: path.to_owned(),
        problem: error.to_string(),
    })
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

    fn read(text: &str) -> Result<usize, String> {
        let mut documents = Vec::new();
        parse("a", text, &mut documents).map_err(|error| error.to_string())?;
        Ok(documents.len())
    }

    #[test]
    fn json_is_read_as_such_and_yaml_may_look_like_it() {
        let pod = r#"{"kind": "Pod", "metadata": {"name": "b"}}"#;
        assert_eq!(read(pod), Ok(1));
        assert_eq!(read(&format!("{pod}\n{pod}")), Ok(2));
        assert_eq!(read(&format!("[{pod}, {pod}]")), Ok(2));
        assert_eq!(
            read("{kind: Pod, metadata: {name: b}}\n---\nkind: Pod"),
            Ok(2)
        );
        assert_eq!(read("[{kind: Pod, metadata: {name: b}}]"), Ok(1));
        let error = read(r#"{"kind": "Pod""#).unwrap_err();
        assert!(error.contains("EOF while parsing"), "{error}");
    }

    /// The object that says it is told of it when its amounts are read, and no other one.
    #[test]
    fn a_number_beyond_all_numbers_becomes_a_text_in_both_forms() {
        let documents = [
            "{kind: Pod, spec: {cpu: 1e400}}",
            r#"{"kind": "Pod", "spec": {"cpu": 1e400}}"#,
        ];
        for text in documents {
            let mut found = Vec::new();
            parse("a", text, &mut found).unwrap();
            assert_eq!(found[0].object["spec"]["cpu"], ".inf", "{text}");
        }
    }

    /// More pods than the parser's own limits allow, which are meant for settings.
    #[test]
    fn long_lists_are_read_in_both_forms() {
        let pods = 12_000;
        let labels = "b: b, c: c, d: d, e: e, f: f, g: g, h: h, i: i, j: j, k: k";
        let item = format!("- {{kind: Pod, metadata: {{name: a, labels: {{{labels}}}}}}}\n");
        let text = format!("kind: List\nitems:\n{}", item.repeat(pods));
        assert_eq!(read(&text), Ok(pods));
        let item = r#"{"kind": "Pod", "metadata": {"name": "a"}}"#;
        let items = vec![item; pods].join(",");
        assert_eq!(
            read(&format!(r#"{{"kind": "List", "items": [{items}]}}"#)),
            Ok(pods)
        );
    }

    #[test]
    fn a_text_that_unfolds_to_far_more_than_itself_is_refused() {
        let mut lines = vec!["a0: &a0 [x, x, x, x, x, x, x, x, x, x]".to_owned()];
        for level in 1..9 {
            let before = format!("*a{}", level - 1);
            let list = vec![before; 10].join(", ");
            lines.push(format!("a{level}: &a{level} [{list}]"));
        }
        let error = read(&lines.join("\n")).unwrap_err();
        assert!(error.contains("a is not YAML or JSON"), "{error}");
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
