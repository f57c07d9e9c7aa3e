//! `tonnage record`: the work of a cluster as a trace for `tonnage simulate`.
//!
//! Given a cluster to watch and a time; given back the trace in a file or on standard output, once the time
//! is over or somebody presses ctrl-c. Nothing is written to the cluster.

use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;

use super::writable;
use crate::cluster::client::{ConnectError, ConnectOptions, connect};
use crate::simulate::input::schedule;
use crate::simulate::record::{Hide, RecordError, Recorded, record};
use crate::world::{Clock, SystemClock, World};

/// Length of the salt with which names are hashed.
const SALT: usize = 24;

/// Record a cluster's work for `tonnage simulate`: when pods come, what scheduling reads of them, how
/// long they run.
///
/// Environment, arguments, commands, images, annotations and secrets are never recorded. Names of
/// namespaces and owners and the values of labels become hashes that are different in every
/// recording. It needs the verbs list and watch on pods, and list on persistentvolumeclaims,
/// persistentvolumes and storageclasses:
///
///   tonnage record --for 24h --out day.jsonl
///   tonnage record > until-ctrl-c.jsonl
///   tonnage simulate -f pools.yaml --trace day.jsonl
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Args {
    /// Record for so long, as in 90m, 24h or 7d; without it, until ctrl-c
    #[arg(long = "for", value_name = "DURATION", value_parser = schedule::duration)]
    time: Option<SignedDuration>,
    /// Write the trace into this file; without it, to standard output
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Keep names of namespaces and owners and values of labels as they are
    #[arg(long)]
    names: bool,
    /// Kubeconfig file; without it, `$KUBECONFIG`, `~/.kube/config`, or the pod's ServiceAccount
    #[arg(long, env = "TONNAGE_KUBECONFIG")]
    kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig; without it, its current one
    #[arg(long, env = "TONNAGE_CONTEXT")]
    context: Option<String>,
    /// No progress on standard error
    #[arg(long, short)]
    quiet: bool,
}

/// Why nothing was recorded.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// The machine has no room for a runtime.
    #[error("the runtime for the connection cannot be started")]
    Runtime(#[source] io::Error),
    /// The connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The recording.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The file.
    #[error("{path} cannot be written; choose another file with --out")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// Standard output.
    #[error("standard output cannot be written to")]
    Output(#[from] io::Error),
}

/// Records and writes.
pub(super) fn run(args: &Args) -> Result<(), Failure> {
    if let Some(path) = &args.out {
        // A folder that is not there shall not cost a day's recording.
        writable::check(path).map_err(|source| Failure::Write {
            path: path.clone(),
            source,
        })?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::Runtime)?;
    let recorded = runtime.block_on(watch(args))?;
    match &args.out {
        Some(path) => {
            std::fs::write(path, &recorded.trace).map_err(|source| Failure::Write {
                path: path.clone(),
                source,
            })?;
        }
        None => super::write_stdout(&recorded.trace)?,
    }
    if !args.quiet {
        super::write_stderr(&closing(&recorded));
    }
    Ok(())
}

async fn watch(args: &Args) -> Result<Recorded, Failure> {
    let client = connect(&ConnectOptions {
        kubeconfig: args.kubeconfig.clone(),
        context: args.context.clone(),
    })
    .await?;
    let hide = if args.names {
        Hide::nothing()
    } else {
        Hide::with_salt(&World::real().random("record/salt").name_suffix(SALT))
    };
    let time = args.time.and_then(|time| Duration::try_from(time).ok());
    let stop = async move {
        let over = async {
            match time {
                Some(time) => tokio::time::sleep(time).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            _pressed = tokio::signal::ctrl_c() => {}
            () = over => {}
        }
    };
    let shown = !args.quiet && io::stderr().is_terminal();
    let look = |there: usize, ended: usize| {
        if shown {
            let line = format!("\r\x1b[Krecording: {there} pods are there, {ended} have ended");
            super::write_stderr(&line);
        }
    };
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let recorded = record(&client, &clock, hide, stop, &look).await?;
    if shown {
        super::write_stderr("\r\x1b[K");
    }
    Ok(recorded)
}

fn closing(recorded: &Recorded) -> String {
    let left_out = match recorded.unstarted {
        0 => String::new(),
        count => format!("; {count} pods were gone before they started and are left out"),
    };
    format!("recorded {} pods{left_out}\n", recorded.pods)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_does_not_answer_is_named_as_that_and_leaves_no_file() {
        let folder = std::env::temp_dir().join(format!("tonnage-record-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let (kubeconfig, out) = (folder.join("kubeconfig"), folder.join("new.jsonl"));
        // Nothing listens on port 1.
        let text = "{apiVersion: v1, kind: Config, current-context: local, \
                    clusters: [{name: local, cluster: {server: 'http://127.0.0.1:1'}}], \
                    users: [{name: me, user: {}}], \
                    contexts: [{name: local, context: {cluster: local, user: me}}]}";
        std::fs::write(&kubeconfig, text).unwrap();
        let failure = run(&Args {
            time: Some(SignedDuration::from_secs(2)),
            out: Some(out.clone()),
            names: false,
            kubeconfig: Some(kubeconfig),
            context: None,
            quiet: true,
        });
        let left = out.exists();
        std::fs::remove_dir_all(&folder).unwrap();
        let said = failure.unwrap_err().to_string();
        assert!(said.contains("the API server cannot be asked"), "{said}");
        assert!(said.contains("refused"), "{said}");
        assert!(!said.contains("verb"), "{said}");
        assert!(!left, "an empty file is left");
    }
}
