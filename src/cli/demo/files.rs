//! What the demo leaves in a folder: the history, a line for each event, and the figures.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

use super::Failure;
use crate::sim::demo::Summary;
use crate::sim::history::History;

/// Writes both files; the folder is made if it is not there.
pub(super) fn write(folder: &Path, history: &History, summary: &Summary) -> Result<(), Failure> {
    fs::create_dir_all(folder).map_err(|source| Failure::Write {
        path: folder.to_owned(),
        source,
    })?;
    let path = folder.join("history.jsonl");
    let failed = |source| Failure::Write {
        path: path.clone(),
        source,
    };
    let mut file = BufWriter::new(File::create(&path).map_err(failed)?);
    for line in history.since(0) {
        writeln!(file, "{}", line.text()).map_err(failed)?;
    }
    file.flush().map_err(failed)?;
    let path = folder.join("summary.json");
    let failed = |source| Failure::Write {
        path: path.clone(),
        source,
    };
    let text = serde_json::to_string_pretty(summary).map_err(|error| failed(error.into()))?;
    fs::write(&path, text + "\n").map_err(failed)
}
