//! What the packer must reach on instances whose best answers are known.
//!
//! Given figures and bounds; given back every rule that is broken, in words. Short budgets are judged
//! by what is reachable in 100 ms on at most 10 000 pods, budgets from a second on by the full rules.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use super::BenchError;
use super::instance::read_json;

/// Budget in milliseconds from which on the full rules hold.
const LONG_MS: u64 = 1000;
/// Below a long budget larger instances are not judged.
const SHORT_PODS: u64 = 10_000;
/// The largest instances, which have a rule of their own.
const LARGE_PODS: u64 = 50_000;
/// Sums of prices in six decimals differ by no more than this.
const ROUNDING: f64 = 2e-6;
/// Most memory in MiB for all instances.
const MOST_MEMORY_MB: u64 = 64;

/// What one solve came to.
#[derive(Debug)]
pub(super) struct Figures {
    /// The instance.
    pub(super) name: String,
    /// Price of the fleet, US dollars per hour.
    pub(super) usd: f64,
    /// The solver's own bound.
    pub(super) lower_bound: f64,
    /// Machines.
    pub(super) nodes: u64,
    /// Time of the solve.
    pub(super) elapsed_ms: f64,
}

/// What is known of an instance.
#[derive(Debug, Deserialize)]
struct Known {
    lower_bound: f64,
    #[serde(rename = "best_known")]
    best: f64,
    price_aware_ffd: f64,
    exact_bound: bool,
    bound_kind: String,
    pods: u64,
}

/// What is known, by instance.
#[derive(Debug)]
pub(super) struct Bounds(BTreeMap<String, Known>);

impl Bounds {
    /// Reads the file of bounds.
    pub(super) fn read(path: &Path) -> Result<Self, BenchError> {
        read_json(path).map(Self)
    }
}

/// Every rule that is broken.
pub(super) fn misses(
    all: &[Figures],
    bounds: &Bounds,
    budget_ms: u64,
    peak_memory_mb: u64,
) -> Vec<String> {
    let long = budget_ms >= LONG_MS;
    let mut misses = Vec::new();
    let judged: Vec<(&Figures, &Known)> = all
        .iter()
        .filter_map(|figures| {
            let known = bounds.0.get(&figures.name);
            if known.is_none() {
                misses.push(format!("{}: nothing is known of it", figures.name));
            }
            known.map(|known| (figures, known))
        })
        .filter(|(_figures, known)| long || known.pods <= SHORT_PODS)
        .collect();
    for (figures, known) in &judged {
        each(figures, known, long, budget_ms, &mut misses);
    }
    misses.extend(together(&judged, long));
    if long && peak_memory_mb >= MOST_MEMORY_MB {
        misses.push(format!(
            "peak memory {peak_memory_mb} MiB is not below {MOST_MEMORY_MB}"
        ));
    }
    misses
}

fn each(figures: &Figures, known: &Known, long: bool, budget_ms: u64, misses: &mut Vec<String>) {
    let name = &figures.name;
    let price = figures.usd;
    if price > known.price_aware_ffd + ROUNDING {
        misses.push(format!(
            "R1 {name}: {price} is dearer than first fit, {}",
            known.price_aware_ffd
        ));
    }
    if price < known.lower_bound * (1.0 - 1e-6) {
        misses.push(format!(
            "{name}: {price} is below the known bound {}; one of the two is wrong",
            known.lower_bound
        ));
    }
    if long && !is_near(figures, known) {
        misses.push(format!("R2 {name}: {}", gaps(figures, known)));
    }
    if long && figures.lower_bound < 0.995 * known.lower_bound {
        misses.push(format!(
            "R4 {name}: own bound {} of a known one of {} ({})",
            figures.lower_bound, known.lower_bound, known.bound_kind
        ));
    }
    let exact = known.exact_bound && known.pods >= 500;
    if long && exact && price > 1.01 * known.lower_bound + ROUNDING {
        misses.push(format!("R5 {name}: {}", gaps(figures, known)));
    }
    if known.pods >= LARGE_PODS && price > 1.02 * known.best + ROUNDING {
        misses.push(format!("scale {name}: {}", gaps(figures, known)));
    }
    let most = 1.5 * budget(budget_ms) + 50.0;
    if figures.elapsed_ms > most {
        misses.push(format!(
            "time {name}: {:.0} ms, more than {most:.0}",
            figures.elapsed_ms
        ));
    }
}

/// Milliseconds as a real number; budgets are far below 2³².
fn budget(milliseconds: u64) -> f64 {
    f64::from(u32::try_from(milliseconds).unwrap_or(u32::MAX))
}

fn gaps(figures: &Figures, known: &Known) -> String {
    format!(
        "{} is {:.4} x the best known and {:.4} x the bound",
        figures.usd,
        figures.usd / known.best,
        figures.usd / known.lower_bound
    )
}

fn is_near(figures: &Figures, known: &Known) -> bool {
    let of_bound = if known.pods <= 300 { 1.02 } else { 1.01 };
    let most = f64::max(1.01 * known.best, of_bound * known.lower_bound);
    figures.usd <= most + ROUNDING
}

/// Rules over all instances: the share that is near, and the geometric mean.
fn together(judged: &[(&Figures, &Known)], long: bool) -> Vec<String> {
    let mut misses = Vec::new();
    let count = f64::from(u32::try_from(judged.len().max(1)).unwrap_or(u32::MAX));
    let mean: f64 = judged
        .iter()
        .map(|(figures, known)| (figures.usd / known.best).ln())
        .sum::<f64>()
        / count;
    let most = if long { 1.0015 } else { 1.003 };
    if mean.exp() > most {
        misses.push(format!(
            "R3: {:.5} x the best known on average, more than {most}",
            mean.exp()
        ));
    }
    if long {
        return misses;
    }
    let far: Vec<&(&Figures, &Known)> = judged
        .iter()
        .filter(|(figures, known)| !is_near(figures, known))
        .collect();
    if far.len() * 20 > judged.len() {
        misses.push(format!(
            "R2: {} of {} instances are not near enough, more than one in twenty",
            far.len(),
            judged.len()
        ));
    }
    for (figures, known) in far {
        if figures.usd > 1.02 * known.best + ROUNDING {
            misses.push(format!("R2 {}: {}", figures.name, gaps(figures, known)));
        }
    }
    misses
}
