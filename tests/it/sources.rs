//! The repository's own files, as the tests on them see them.

use std::fs;
use std::path::{Path, PathBuf};

/// Every file below a folder, in path order.
pub(crate) fn files_below(folder: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::from(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// Every Rust file below a folder, in path order.
pub(crate) fn rust_sources(folder: &str) -> Vec<PathBuf> {
    let mut sources = files_below(folder);
    sources.retain(|path| path.extension().is_some_and(|extension| extension == "rs"));
    assert!(!sources.is_empty(), "no Rust file below {folder}");
    sources
}

/// The module directly below `src` that a file belongs to.
pub(crate) fn top_level_module(path: &Path) -> String {
    let below = path.strip_prefix("src").unwrap();
    let first = below
        .components()
        .next()
        .unwrap()
        .as_os_str()
        .to_string_lossy();
    first.trim_end_matches(".rs").to_owned()
}
