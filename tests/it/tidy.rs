//! What no tool checks: file sizes, unfinished marks, documents that must agree with the code.

use std::fs;
use std::path::PathBuf;

use crate::sources::{files_below, rust_sources};

/// The most lines a file may have.
const MOST_LINES: usize = 600;

#[test]
fn no_file_is_a_hall() {
    let mut sources = rust_sources("src");
    sources.extend(rust_sources("tests"));
    sources.extend(files_below("hack").into_iter().filter(|path| {
        let extension = path
            .extension()
            .map(|extension| extension.to_string_lossy().into_owned());
        matches!(extension.as_deref(), None | Some("py" | "sh" | "go"))
    }));
    for path in sources {
        let lines = fs::read_to_string(&path)
            .unwrap_or_default()
            .lines()
            .count();
        assert!(
            lines <= MOST_LINES,
            "{} has {lines} lines: split it by purpose",
            path.display()
        );
    }
}

#[test]
fn every_source_file_says_what_it_is_for() {
    for path in rust_sources("src") {
        let text = fs::read_to_string(&path).unwrap();
        assert!(
            text.starts_with("//!"),
            "{} has no module doc on top",
            path.display()
        );
    }
}

#[test]
fn nothing_is_left_unfinished() {
    let marks = [
        ["TO", "DO"].concat(),
        ["FIX", "ME"].concat(),
        ["XX", "X"].concat(),
    ];
    for folder in ["src", "tests", "hack", "charts", "docs"] {
        for path in files_below(folder) {
            if path.ends_with("go.sum") {
                continue;
            }
            let Ok(text) = fs::read_to_string(&path) else {
                continue;
            };
            for mark in &marks {
                let found = text
                    .split(|c: char| !c.is_ascii_alphanumeric())
                    .any(|word| word == mark);
                assert!(!found, "{}: `{mark}`", path.display());
            }
        }
    }
}

/// Text that a merge leaves behind is no error to any tool that reads documents.
#[test]
fn no_merge_is_left_open() {
    let mut all: Vec<PathBuf> = [
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "README.md",
        "SECURITY.md",
    ]
    .map(PathBuf::from)
    .into();
    for folder in ["src", "tests", "hack", "charts", "docs"] {
        all.extend(files_below(folder));
    }
    let (marks, middle) = (["<".repeat(7), ">".repeat(7)], "=".repeat(7));
    for path in all {
        let text = fs::read_to_string(&path).unwrap_or_default();
        let mut lines = text.lines();
        let found =
            lines.any(|line| line == middle || marks.iter().any(|mark| line.starts_with(mark)));
        assert!(!found, "{}: a merge is not finished", path.display());
    }
}

#[test]
fn the_chart_carries_the_generated_crds() {
    for path in files_below("crds") {
        let name = path.file_name().unwrap();
        let carried = std::path::Path::new("charts/tonnage/files/crds").join(name);
        let same =
            fs::read_to_string(&path).unwrap() == fs::read_to_string(&carried).unwrap_or_default();
        assert!(
            same,
            "{} differs from {}: copy it",
            carried.display(),
            path.display()
        );
    }
}

#[test]
fn links_in_documents_lead_somewhere() {
    let mut documents = vec![
        "README.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
        "CHANGELOG.md",
    ]
    .into_iter()
    .map(PathBuf::from)
    .collect::<Vec<_>>();
    documents.extend(files_below("docs"));
    for path in documents {
        if path.extension().is_none_or(|extension| extension != "md") {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        for (position, _) in text.match_indices("](") {
            let rest = text.get(position + 2..).unwrap_or_default();
            let target = rest.split([')', '#', ' ']).next().unwrap_or_default();
            if target.is_empty() || target.contains("://") {
                continue;
            }
            let file = path.parent().unwrap().join(target);
            assert!(
                file.exists(),
                "{}: the link to {target} leads nowhere",
                path.display()
            );
        }
    }
}
