//! `tonnage simulate`: what NodePools would make of a workload, in virtual time.
//!
//! Given manifests with a schedule, a trace or a generator, and variants of the NodePools; given back
//! dollars, waiting times, evictions and the distance from a lower bound, side by side, on standard output.
//! Progress goes to standard error when that is a terminal. Nothing is written anywhere else, and no
//! cluster and no account are asked.

mod chart;
mod document;
mod notes;
mod page;
mod progress;
mod table;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::thread;

use clap::ValueEnum;
use jiff::{SignedDuration, Timestamp};

use super::plan::{Output as Form, PlanError, structured};
use super::unknown_types;
use crate::cloud::facts;
use crate::cluster::manifests::{self, Document, ManifestError, read_files, read_text};
use crate::plan::provision::{ContestedPods, ProvisionSettings};
use crate::sim::ec2::market::Weather;
use crate::simulate::input::InputError;
use crate::simulate::input::furniture;
use crate::simulate::input::generate::{self, Profile};
use crate::simulate::input::most;
use crate::simulate::input::schedule;
use crate::simulate::input::trace::{self, Trace};
use crate::simulate::input::workloads::{self, Frame};
use crate::simulate::{PlanFault, Run, Scenario, Variant, run_all};

/// How long work of manifests arrives unless told otherwise.
const USUAL_DURATION: SignedDuration = SignedDuration::from_hours(24);
/// The name of what --filename says, beside the variants.
const BASE: &str = "base";

/// Simulate a workload over NodePools in virtual time: dollars, waiting, evictions, machines.
///
/// The work comes from manifests, from a trace that `tonnage record` wrote, or from a generator. In
/// manifests, annotate a workload with tonnage.dev/simulate-at, -schedule or -run to say when its
/// pods come and how long they run; CronJobs have their schedule. Variants replace NodePools,
/// EC2NodeClasses and settings:
///
///   tonnage simulate --generate spark-day
///   tonnage simulate -f cluster/ --duration 7d
///   tonnage simulate -f pools.yaml --trace week.jsonl --variant spot=spot.yaml -o html
///   tonnage simulate --generate month-200 --variant slow=consolidate-10m.yaml -o json
///
/// Prices are the built-in on-demand prices of us-east-1; spot prices, capacity and interruptions
/// are simulated. docs/simulate.md says what else is left out.
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Args {
    /// Manifests of NodePools, EC2NodeClasses and workloads: files, directories, or - for standard input;
    /// may be repeated
    #[arg(
        long = "filename",
        short = 'f',
        visible_alias = "manifests",
        value_name = "FILE|DIR"
    )]
    filenames: Vec<PathBuf>,
    /// A trace: JSON Lines as `tonnage record` writes them, or - for standard input
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// Generate work of this kind
    #[arg(long, value_enum, value_name = "PROFILE")]
    generate: Option<Generated>,
    /// Percentage of the usual amount of generated work
    #[arg(long, value_name = "PERCENT", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    scale: u32,
    /// New work arrives for so long, as in 24h or 30d; by default as long as the trace or the profile is,
    /// and 24h for manifests
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    duration: Option<SignedDuration>,
    /// The first instant; cron schedules are in UTC. By default that of the trace, or a Monday
    #[arg(long, value_name = "TIME")]
    begin: Option<Timestamp>,
    /// Everything that is left to chance follows from it
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How long pods of Jobs and bare Pods of manifests run that do not say so themselves
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = duration)]
    run_for: SignedDuration,
    /// Another set of NodePools, EC2NodeClasses and settings over the same work; may be repeated
    #[arg(long = "variant", value_name = "NAME=FILE|DIR", value_parser = named)]
    variants: Vec<(String, PathBuf)>,
    /// What EC2 is like
    #[arg(long, value_enum, default_value_t = Market::Usual)]
    market: Market,
    /// Search effort of each plan, in milliseconds of a two-core machine
    #[arg(long, value_name = "N", default_value_t = 2)]
    budget_ms: u64,
    /// How the outcome is printed
    #[arg(long, short, value_enum, default_value_t = Output::Table)]
    output: Output,
    /// No progress on standard error
    #[arg(long, short)]
    quiet: bool,
}

/// Kinds of generated work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Generated {
    /// 40 Spark applications a day, each a driver and 10 to 60 executors
    SparkDay,
    /// 24 evaluations a day of 100 to 600 small pods, 300 at a time
    Evaluation,
    /// 600 CI jobs on each working day
    Ci,
    /// 12 GPU trainings a day of 1 to 4 machines, for hours
    Gpu,
    /// All of it and services, for a month, with about 200 machines at its peaks
    #[value(name = "month-200")]
    Month200,
}

impl Generated {
    const fn profile(self) -> Profile {
        match self {
            Self::SparkDay => Profile::SparkDay,
            Self::Evaluation => Profile::Evaluation,
            Self::Ci => Profile::Ci,
            Self::Gpu => Profile::Gpu,
            Self::Month200 => Profile::Month200,
        }
    }
}

/// What EC2 is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Market {
    /// Spot at a third of on-demand, capacity without end, no interruptions
    Calm,
    /// Spot prices move, 2 of 100 spot pools are dry at a time, 1 of 100 spot machines is taken back in an
    /// hour
    Usual,
    /// As usual, but 20 of 100 spot pools are dry, and 6 of 100 spot machines are taken back in an hour
    Stormy,
}

impl Market {
    pub(super) const fn weather(self) -> Weather {
        match self {
            Self::Calm => Weather::CALM,
            Self::Usual => Weather {
                moving_prices: true,
                dry_spot_per_mille: 20,
                dry_on_demand_per_mille: 0,
                reclaimed_per_mille: 10,
            },
            Self::Stormy => Weather {
                moving_prices: true,
                dry_spot_per_mille: 200,
                dry_on_demand_per_mille: 10,
                reclaimed_per_mille: 60,
            },
        }
    }
}

/// Forms of output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// Text for people
    Table,
    /// One JSON object
    Json,
    /// One YAML document
    Yaml,
    /// One self-contained HTML page with charts
    Html,
}

/// Why there is no outcome.
#[derive(Debug, thiserror::Error)]
pub(super) enum SimulateError {
    /// What to simulate.
    #[error(transparent)]
    Input(#[from] InputError),
    /// The form of output.
    #[error(transparent)]
    Form(#[from] PlanError),
    /// Two variants of one name.
    #[error(
        "--variant {name} is there twice, or is the name of what --filename says; give each variant a name of its own"
    )]
    Name {
        /// The name.
        name: String,
    },
    /// The planner broke a rule.
    #[error(transparent)]
    Fault(#[from] PlanFault),
    /// Standard output is gone.
    #[error("standard output cannot be written to")]
    Write(#[from] io::Error),
}

impl From<ManifestError> for SimulateError {
    fn from(error: ManifestError) -> Self {
        Self::Input(error.into())
    }
}

fn duration(text: &str) -> Result<SignedDuration, String> {
    let duration = schedule::duration(text)?;
    if duration.is_zero() {
        return Err("nothing happens in no time: give a duration such as 24h".to_owned());
    }
    Ok(duration)
}

fn named(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((name, path)) if !name.is_empty() && !path.is_empty() => {
            Ok((name.to_owned(), path.into()))
        }
        _ => Err("write NAME=FILE, as in spot=spot-pools.yaml".to_owned()),
    }
}

/// Simulates and prints.
pub(super) fn run(args: &Args) -> Result<(), SimulateError> {
    let (scenario, variants) = args.read()?;
    let threads = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let watcher = progress::Watch::new(args.quiet);
    super::end_when_hanging(progress::PATIENCE);
    let outcomes = run_all(&scenario, &variants, threads, &watcher);
    watcher.clear();
    let outcomes = outcomes?;
    let text = match args.output {
        Output::Table => table::render(&scenario, &outcomes),
        Output::Html => page::render(&scenario, &outcomes),
        Output::Json => structured(&document::render(&scenario, &outcomes), Form::Json)?,
        Output::Yaml => structured(&document::render(&scenario, &outcomes), Form::Yaml)?,
    };
    super::write_stdout(&text)?;
    Ok(())
}

impl Args {
    fn read(&self) -> Result<(Scenario, Vec<Variant>), SimulateError> {
        let documents = self.documents()?;
        let trace = match &self.trace {
            Some(path) => trace::read(path).map_err(InputError::from)?,
            None => Trace::default(),
        };
        let frame = Frame {
            begin: self.begin(&trace),
            duration: self.duration(&trace),
            run: milliseconds(self.run_for),
        };
        let mut work = workloads::read(&documents, &frame)?;
        if !self.quiet {
            let times = (frame.duration, self.run_for);
            for note in notes::all(&documents, &work, &trace, times) {
                super::write_stderr(&note);
            }
        }
        work.loads.extend(trace.loads);
        if let Some(generated) = self.generate {
            let profile = generated.profile();
            let loads = generate::loads(profile, self.seed, self.scale, frame.duration);
            work.loads.extend(loads);
        }
        work.loads.retain(|load| load.count > 0);
        work.loads.sort_by_key(|load| load.at);
        most::check(&work.loads, frame.duration)?;
        let duration = schedule::whole_milliseconds(frame.duration);
        if !work.loads.iter().any(|load| load.at < duration) {
            return Err(InputError::NoWork.into());
        }
        let mut variants = self.variants(&documents)?;
        for variant in &mut variants {
            variant.volume_claims.extend(work.volume_claims.clone());
            variant.add_namespaces(&work.loads);
        }
        self.warn(&documents, &variants);
        let scenario = Scenario {
            begin: frame.begin,
            duration: frame.duration,
            seed: self.seed,
            weather: self.market.weather(),
            loads: work.loads,
        };
        Ok((scenario, variants))
    }

    /// Everything of --filename; with generated work and no NodePool, the generator's own NodePools.
    fn documents(&self) -> Result<Vec<Document>, ManifestError> {
        let mut documents = read_files(&self.filenames)?;
        let pools = documents
            .iter()
            .any(|document| document.object["kind"] == "NodePool");
        if self.generate.is_some() && !pools {
            documents.extend(read_text("the generator's NodePools", generate::POOLS)?);
        }
        Ok(documents)
    }

    fn variants(&self, documents: &[Document]) -> Result<Vec<Variant>, SimulateError> {
        let settings = ProvisionSettings {
            contested_pods: ContestedPods::Take,
            ..ProvisionSettings::default()
        }
        .with_budget_ms(self.budget_ms);
        let mut variants = vec![furniture::variant(BASE, documents, &settings)?];
        for (name, path) in &self.variants {
            if variants.iter().any(|known| known.name == *name) {
                return Err(SimulateError::Name { name: name.clone() });
            }
            let own = read_files(std::slice::from_ref(path))?;
            let merged = furniture::merged(documents, &own)?;
            variants.push(furniture::variant(name, &merged, &settings)?);
        }
        Ok(variants)
    }

    fn begin(&self, trace: &Trace) -> Timestamp {
        let recorded = trace.header.as_ref().and_then(|header| header.begin);
        self.begin.or(recorded).unwrap_or(MONDAY)
    }

    fn duration(&self, trace: &Trace) -> SignedDuration {
        self.duration
            .or_else(|| self.trace.as_ref().map(|_path| trace::duration(trace)))
            .or_else(|| {
                self.generate
                    .map(|generated| generated.profile().duration())
            })
            .unwrap_or(USUAL_DURATION)
    }

    /// Names what the variants' NodePools ask for and no simulation has, and classes that pods name and nobody gave.
    fn warn(&self, documents: &[Document], variants: &[Variant]) {
        let pools = variants
            .iter()
            .flat_map(|variant| variant.node_pools.values());
        let known = facts::built_in().types.keys().map(AsRef::as_ref);
        let advice = "what is simulated has the types of the built-in catalogue alone";
        let mut all = unknown_types::warnings(pools.map(AsRef::as_ref), known, advice);
        all.extend(manifests::warnings(documents.iter()));
        // Variants have most of their NodePools in common.
        let once: BTreeSet<String> = all.into_iter().filter(|_one| !self.quiet).collect();
        for warning in once {
            super::write_stderr(&warning);
        }
    }
}

/// 4 January 2027, 00:00 UTC: a Monday.
const MONDAY: Timestamp = Timestamp::constant(1_799_020_800, 0);

fn milliseconds(time: SignedDuration) -> Run {
    let time = u64::try_from(time.as_millis()).unwrap_or(0);
    Run::Between(time, time)
}
