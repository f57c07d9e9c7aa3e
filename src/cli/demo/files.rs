//! What the demo leaves in a folder: the history, a line for each event; every plan by which something was bought, a
//! line for each, in the form of `tonnage plan --output json` without its time; and the figures.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use serde_json::json;

use super::Failure;
use crate::cli::{plan, writable};
use crate::cloud::facts::BUILT_IN_REGION;
use crate::sim::demo::{Play, Summary};
use crate::sim::history::Line;

/// The history.
const HISTORY: &str = "history.jsonl";
/// The plans.
const PLANS: &str = "plans.jsonl";
/// The figures.
const SUMMARY: &str = "summary.json";

/// Looks whether the files can be written, before a day is played for them; the folder is made if it is not there.
pub(super) fn check(folder: &Path) -> Result<(), Failure> {
    fs::create_dir_all(folder).map_err(|source| Failure::Write {
        path: folder.to_owned(),
        source,
    })?;
    for name in [HISTORY, PLANS, SUMMARY] {
        let path = folder.join(name);
        writable::check(&path).map_err(|source| Failure::Write { path, source })?;
    }
    Ok(())
}

/// Writes the files into a folder that is there.
pub(super) fn write(folder: &Path, play: &mut Play, summary: &Summary) -> Result<(), Failure> {
    let history = play.world.history.since(0);
    let history = history.iter().map(Line::text);
    write_lines(folder.join(HISTORY), history)?;
    let plans = play.plans().map(|(at, made)| {
        let made = plan::document(&made, BUILT_IN_REGION);
        json!({ "at": at.to_string(), "plan": made }).to_string()
    });
    write_lines(folder.join(PLANS), plans)?;
    let path = folder.join(SUMMARY);
    let failed = |source| Failure::Write {
        path: path.clone(),
        source,
    };
    let text = serde_json::to_string_pretty(summary).map_err(|error| failed(error.into()))?;
    fs::write(&path, text + "\n").map_err(failed)
}

fn write_lines(path: PathBuf, lines: impl Iterator<Item = String>) -> Result<(), Failure> {
    let write = || {
        let mut file = BufWriter::new(File::create(&path)?);
        for line in lines {
            writeln!(file, "{line}")?;
        }
        file.flush()
    };
    write().map_err(|source| Failure::Write { path, source })
}
