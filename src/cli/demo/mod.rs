//! `tonnage demo`: a cluster's day in the embedded world, with a view of it.
//!
//! Given a seed, a speed and a folder; it shows what happens on standard output, as a live view on a
//! terminal and as a log elsewhere, and writes history and figures into the folder. Nothing leaves
//! the process: no cluster, no cloud account.

mod files;
mod log;
mod narrator;
mod pace;
mod view;

use std::io::{self, IsTerminal};
use std::path::PathBuf;

use crate::sim::demo::{Audience, DemoError, Play, Summary};
use crate::sim::{runtime, watchdog};
use log::Log;
use pace::{Pace, Speed};
use view::View;

/// Seconds of virtual time for each real one, on a terminal.
const SPEED_ON_TERMINAL: u32 = 600;

/// Play a cluster's day in one process: pods, machines, spot interruptions, dollars.
///
/// Everything is simulated, on virtual time, except Tonnage's controllers, which are the real ones.
/// The same seed plays the same day.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Which day is played
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Seconds of virtual time for each real second, or `max`; by default 600 on a terminal, and as
    /// fast as possible elsewhere
    #[arg(long)]
    speed: Option<Speed>,
    /// Write history.jsonl, plans.jsonl and summary.json into this folder
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Why the demo failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// The play itself.
    #[error(transparent)]
    Play(#[from] DemoError),
    /// The runtime.
    #[error("the runtime does not start")]
    Runtime(#[source] io::Error),
    /// A file.
    #[error("{path} cannot be written; choose another folder with --out")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// Standard output.
    #[error("standard output cannot be written")]
    Output(#[from] io::Error),
}

/// Plays the demo.
pub(super) fn run(args: &Args) -> Result<(), Failure> {
    if let Some(folder) = &args.out {
        files::check(folder)?;
    }
    let terminal = io::stdout().is_terminal();
    let speed = args.speed.unwrap_or(if terminal {
        Speed::Times(SPEED_ON_TERMINAL)
    } else {
        Speed::Max
    });
    super::end_when_hanging(watchdog::PATIENCE);
    let (summary, mut play) = runtime::run(async {
        let mut play = Play::begin(args.seed)?;
        let mut onlooker = Onlooker {
            pace: Pace::new(speed),
            screen: if terminal {
                Screen::View(View::new())
            } else {
                Screen::Log(Log::new())
            },
        };
        let summary = play.play(&mut onlooker).await?;
        Ok::<_, DemoError>((summary, play))
    })
    .map_err(Failure::Runtime)??;
    super::write_stdout(&closing(&summary))?;
    if let Some(folder) = &args.out {
        files::write(folder, &mut play, &summary)?;
        let told = format!(
            "history.jsonl, plans.jsonl and summary.json are in {}\n",
            folder.display()
        );
        super::write_stdout(&told)?;
    }
    Ok(())
}

enum Screen {
    View(View),
    Log(Log),
}

struct Onlooker {
    pace: Pace,
    screen: Screen,
}

impl Audience for Onlooker {
    fn look(&mut self, play: &Play) {
        let now = play.world.now();
        match &mut self.screen {
            Screen::View(view) => view.look(play, self.pace.is_time_to_draw()),
            Screen::Log(log) => log.look(play),
        }
        self.pace.wait(now.duration_since(play.began()));
    }
}

/// What it came to.
fn closing(summary: &Summary) -> String {
    let total: f64 = summary.usd_total.parse().unwrap_or(0.0);
    let bound: f64 = summary.usd_lower_bound.parse().unwrap_or(0.0);
    let latency = &summary.start_latency_seconds;
    // Without a proven bound there is nothing to compare with.
    let above = if bound > 0.0 {
        format!(
            ", {:.1} % above the {bound:.2} USD that no fleet could have been below at any\nmoment, \
             boot times and idle minutes included",
            (total / bound - 1.0) * 100.0
        )
    } else {
        String::new()
    };
    format!(
        "\n{} pods ran on {} machines in {:.1} virtual hours; {} spot machines were reclaimed.\n\
         It cost {total:.2} USD{above}.\n\
         Half of the pods started within {} s, 95 of 100 within {} s. {} machines are left.\n",
        summary.pods,
        summary.nodes_bought,
        hours(summary.virtual_seconds),
        summary.interruptions,
        latency.p50,
        latency.p95,
        summary.instances_left,
    )
}

fn hours(seconds: i64) -> f64 {
    i32::try_from(seconds).map_or(0.0, f64::from) / 3_600.0
}
