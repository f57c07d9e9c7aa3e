//! `tonnage bench-packing`: the packer on packing instances with known bounds.
//!
//! Given a folder of instances; given back one JSON object a line on standard output: price, own
//! lower bound, machines and time. Every packing is checked independently and every bound by its
//! certificate; with `--bounds` the figures are held against the best that is known. It is not
//! listed in the help: `hack/bench-packing` runs it.

mod instance;
mod rules;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::json;

use super::memory::peak_memory_mb;
use crate::model::money::UNITS_PER_USD;
use crate::plan::pack::{self, Budget, verify_certificate, verify_packing};
use instance::Instance;
use rules::{Bounds, Figures};

/// Solve packing instances and check the answers
#[derive(Debug, clap::Args)]
#[command(hide = true)]
pub(super) struct Args {
    /// Folder with instances and the catalogues that they name
    folder: PathBuf,
    /// Search effort in milliseconds for each instance
    #[arg(long, default_value_t = 100)]
    budget_ms: u64,
    /// File with what is known of each instance; its rules are checked then
    #[arg(long)]
    bounds: Option<PathBuf>,
}

/// Why the bench failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum BenchError {
    /// A file that cannot be read.
    #[error("{path} cannot be read: {reason}; give a folder of packing instances")]
    Read {
        /// The file.
        path: String,
        /// What is wrong.
        reason: String,
    },
    /// A packing or a bound that the independent checker refuses.
    #[error("{name}: {fault}")]
    Fault {
        /// The instance.
        name: String,
        /// What the checker says.
        fault: String,
    },
    /// Rules that the figures break.
    #[error("{count} misses, the first: {first}")]
    Missed {
        /// How many.
        count: usize,
        /// The first of them.
        first: String,
    },
    /// Standard output is gone.
    #[error("standard output cannot be written to")]
    Write(#[from] io::Error),
}

/// Solves every instance of the folder and prints its figures.
pub(super) fn run(args: &Args) -> Result<(), BenchError> {
    let bounds = match &args.bounds {
        Some(path) => Some(Bounds::read(path)?),
        None => None,
    };
    let mut all = Vec::new();
    for path in instances(&args.folder)? {
        let instance = Instance::read(&path)?;
        let figures = solve(&instance, args.budget_ms)?;
        super::write_stdout(&format!("{}\n", line(&figures, args.budget_ms)))?;
        all.push(figures);
    }
    let Some(bounds) = bounds else {
        return Ok(());
    };
    let misses = rules::misses(&all, &bounds, args.budget_ms, peak_memory_mb());
    for miss in &misses {
        super::write_stderr(&format!("{miss}\n"));
    }
    match misses.first() {
        None => Ok(()),
        Some(first) => Err(BenchError::Missed {
            count: misses.len(),
            first: first.clone(),
        }),
    }
}

fn line(figures: &Figures, budget_ms: u64) -> String {
    json!({
        "name": figures.name,
        "usd_per_hour": figures.usd,
        "lower_bound": figures.lower_bound,
        "nodes": figures.nodes,
        "elapsed_ms": figures.elapsed_ms,
        "budget_ms": budget_ms,
    })
    .to_string()
}

fn instances(folder: &Path) -> Result<Vec<PathBuf>, BenchError> {
    let unreadable = |error: io::Error| BenchError::Read {
        path: folder.display().to_string(),
        reason: error.to_string(),
    };
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let name = path
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        let is_json = path
            .extension()
            .is_some_and(|extension| extension == "json");
        if is_json && !name.starts_with("catalogue_") && name != "bounds.json" {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

fn solve(instance: &Instance, budget_ms: u64) -> Result<Figures, BenchError> {
    let began = Instant::now();
    let solution = pack::solve(&instance.problem, Budget::from_millis(budget_ms));
    let elapsed = began.elapsed();
    let fault = |fault: pack::Fault| BenchError::Fault {
        name: instance.name.clone(),
        fault: fault.to_string(),
    };
    let price = verify_packing(&instance.problem, &solution.packing).map_err(fault)?;
    let bound = verify_certificate(&instance.problem, &solution.certificate).map_err(fault)?;
    if bound != solution.lower_bound || price != solution.price || bound > price {
        return Err(BenchError::Fault {
            name: instance.name.clone(),
            fault: format!(
                "price {} and bound {} are not the {price} and {bound} that were proven",
                solution.price, solution.lower_bound
            ),
        });
    }
    let machines = &solution.packing.machines;
    Ok(Figures {
        name: instance.name.clone(),
        usd: dollars(price),
        lower_bound: dollars(bound),
        nodes: machines.iter().map(|packed| u64::from(packed.copies)).sum(),
        elapsed_ms: elapsed.as_secs_f64() * 1000.0,
    })
}

/// Dollars for people: a price has far fewer digits than a real number holds.
#[expect(
    clippy::cast_precision_loss,
    reason = "printed and compared with figures of six decimals"
)]
fn dollars(units: i64) -> f64 {
    units as f64 / UNITS_PER_USD as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUDGET_MS: u64 = 100;

    /// The rules for time are the bench's alone: they say nothing of a build without optimisation.
    #[test]
    fn small_instances_keep_the_rules_of_price_and_bound() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/packing");
        let bounds = Bounds::read(&folder.join("bounds.json")).unwrap();
        let all: Vec<Figures> = [
            "bimodal-100-s1-restricted-od",
            "tight1-50-s1-restricted-od",
            "tight2-50-s1-wide-spot-20250101",
            "trace-100-s1-full-od",
        ]
        .iter()
        .map(|name| {
            let path = folder.join("instances").join(format!("{name}.json"));
            let instance = Instance::read(&path).unwrap();
            Figures {
                elapsed_ms: 0.0,
                ..solve(&instance, BUDGET_MS).unwrap()
            }
        })
        .collect();
        assert_eq!(rules::misses(&all, &bounds, BUDGET_MS, 0), [""; 0]);
        let dearer: Vec<Figures> = all
            .into_iter()
            .map(|figures| Figures {
                usd: figures.usd * 1.2,
                ..figures
            })
            .collect();
        assert!(!rules::misses(&dearer, &bounds, BUDGET_MS, 0).is_empty());
    }
}
