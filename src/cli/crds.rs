//! `tonnage crds`: the custom resource definitions, as they must be applied before the controller
//! starts.
//!
//! Given nothing but the types of [`crate::api`], it prints one multi-document YAML stream, or
//! writes one file per definition. It never talks to a cluster.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::api::crds::{self, Manifest};

/// Print the CustomResourceDefinitions as multi-document YAML.
///
/// Apply them before the first start and after every upgrade:
///
///   tonnage crds | kubectl apply --server-side -f -
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Args {
    /// Write one file per definition, named GROUP_PLURAL.yaml, into this directory instead of
    /// printing them. The directory is made if it does not exist; existing files are replaced.
    #[arg(long, short, value_name = "DIR")]
    output: Option<PathBuf>,
}

/// Why the definitions could not be printed or written.
#[derive(Debug, Error)]
pub(super) enum CrdsError {
    #[error("the definitions could not be written as YAML")]
    Yaml(#[from] crds::RenderError),
    #[error("{path} could not be written; check that the directory exists and is writable")]
    Write { path: String, source: io::Error },
}

/// Prints or writes the definitions.
pub(super) fn run(args: &Args) -> Result<(), CrdsError> {
    let manifests = crds::manifests()?;
    match &args.output {
        Some(directory) => write_files(directory, &manifests),
        None => super::write_stdout(&crds::stream(&manifests)).map_err(|source| CrdsError::Write {
            path: "standard output".into(),
            source,
        }),
    }
}

fn write_files(directory: &Path, manifests: &[Manifest]) -> Result<(), CrdsError> {
    let failed = |path: &Path| {
        let path = path.display().to_string();
        move |source| CrdsError::Write { path, source }
    };
    fs::create_dir_all(directory).map_err(failed(directory))?;
    for manifest in manifests {
        let path = directory.join(&manifest.file_name);
        fs::write(&path, &manifest.yaml).map_err(failed(&path))?;
    }
    Ok(())
}
