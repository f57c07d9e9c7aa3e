//! The demo as a live view on a terminal: figures, machines as they fill, and what was decided.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;

use super::log::{dollars, sentence, time};
use crate::sim::api_server::Resource;
use crate::sim::demo::Play;

/// Decisions that are shown.
const LINES: usize = 12;
/// Machines that are shown.
const MACHINES: usize = 16;
/// Cells of a bar.
const BAR: usize = 20;
/// Columns of a line: what does not fit is cut, as a wrapped line would break the picture.
const COLUMNS: usize = 100;

/// A node as it is shown.
#[derive(Debug, Default)]
struct Row {
    kind: String,
    pool: String,
    millicores: i64,
    used: i64,
    pods: usize,
}

/// The view.
#[derive(Debug)]
pub(super) struct View {
    decisions: VecDeque<String>,
    drawn: usize,
}

impl View {
    pub(super) fn new() -> Self {
        Self {
            decisions: VecDeque::new(),
            drawn: 0,
        }
    }

    /// Takes in what is new, and draws when it is time.
    pub(super) fn look(&mut self, play: &Play, draw: bool) {
        for line in &play.tally.latest {
            if let Some(said) = sentence(line) {
                self.decisions.push_back(format!(
                    "{} {said}",
                    line.at.get(11..19).unwrap_or_default()
                ));
            }
        }
        while self.decisions.len() > LINES {
            self.decisions.pop_front();
        }
        if draw || play.act == "the end" {
            let picture = self.picture(play);
            // Back to the first line of the last picture, and clear to the end of the screen.
            let back = match self.drawn {
                0 => String::new(),
                lines => format!("\x1b[{lines}A\x1b[J"),
            };
            self.drawn = picture.lines().count();
            // Whoever does not look any more has seen enough.
            crate::cli::write_stdout(&(back + &picture)).ok();
        }
    }

    fn picture(&self, play: &Play) -> String {
        let rows = rows(play);
        let (mut waiting, mut running) = (0, 0);
        play.world.api.each(Resource::Pod, |_key, pod| {
            match pod["status"]["phase"].as_str() {
                Some("Pending") => waiting += 1,
                Some("Running") => running += 1,
                _ => {}
            }
        });
        let (bound, least) = play.bound.so_far();
        let bound: f64 = bound.to_string().parse().unwrap_or(0.0);
        let mut lines = vec![
            format!(
                "tonnage demo, seed {}   {}",
                play.world.options.seed, play.act
            ),
            format!(
                "{}   {waiting} pods wait, {running} run, {} made   {} reclaims",
                time(play.world.now()),
                play.tally.pods,
                play.tally.interruptions
            ),
            format!(
                "{} machines at {} USD per hour (at least {})   {:.2} USD so far (at least {bound:.2})",
                play.world.ec2.alive().len(),
                play.world.ec2.rate(),
                least,
                dollars(play),
            ),
            String::new(),
        ];
        for (name, row) in rows.iter().take(MACHINES) {
            lines.push(format!(
                "{} {:>3} pods  {:<14} {:<10} {name}",
                bar(row),
                row.pods,
                row.kind,
                row.pool
            ));
        }
        if rows.len() > MACHINES {
            lines.push(format!("... and {} more", rows.len() - MACHINES));
        }
        lines.push(String::new());
        lines.extend(self.decisions.iter().cloned());
        let mut picture = String::new();
        for line in lines {
            let cut: String = line.chars().take(COLUMNS).collect();
            // Writing to a String cannot fail.
            let _infallible = writeln!(picture, "{cut}");
        }
        picture
    }
}

/// Every node with what its pods ask for.
fn rows(play: &Play) -> BTreeMap<String, Row> {
    let mut rows: BTreeMap<String, Row> = BTreeMap::new();
    play.world.api.each(Resource::Node, |key, node| {
        let label = |name: &str| {
            let label = node["metadata"]["labels"][name].as_str();
            label.unwrap_or("?").to_owned()
        };
        let row = Row {
            kind: label("node.kubernetes.io/instance-type"),
            pool: label("karpenter.sh/nodepool"),
            millicores: millicores(node["status"]["allocatable"]["cpu"].as_str()),
            ..Row::default()
        };
        rows.insert(key.name.clone(), row);
    });
    play.world.api.each(Resource::Pod, |_key, pod| {
        let ended = matches!(
            pod["status"]["phase"].as_str(),
            Some("Succeeded" | "Failed")
        );
        let node = pod["spec"]["nodeName"].as_str().unwrap_or_default();
        if let (false, Some(row)) = (ended, rows.get_mut(node)) {
            row.pods += 1;
            let containers = pod["spec"]["containers"].as_array();
            for container in containers.into_iter().flatten() {
                row.used += millicores(container["resources"]["requests"]["cpu"].as_str());
            }
        }
    });
    rows
}

fn millicores(text: Option<&str>) -> i64 {
    let text = text.unwrap_or("0");
    crate::model::quantity::amount("cpu", text).unwrap_or(0)
}

fn bar(row: &Row) -> String {
    let all = row.millicores.max(1);
    let share = row.used.clamp(0, all) * i64::try_from(BAR).unwrap_or(0) / all;
    let filled = usize::try_from(share).unwrap_or(0).min(BAR);
    format!("[{}{}]", "#".repeat(filled), "-".repeat(BAR - filled))
}
