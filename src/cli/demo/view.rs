//! The demo as a live view on a terminal: figures, machines as they fill, and what was decided.
//!
//! Given the play as it goes on; drawn is a picture that is never wider or higher than the terminal: the next one is drawn
//! over it by going up as many lines as it has, and a line that the terminal breaks, or one that has left the screen, would
//! be missed.

use std::collections::{BTreeMap, VecDeque};
use std::io;

use super::log::{dollars, short, time};
use super::narrator::Narrator;
use crate::sim::api_server::Resource;
use crate::sim::demo::Play;

/// Decisions that are shown at most.
const LINES: usize = 12;
/// Machines that are shown at most.
const MACHINES: usize = 16;
/// Cells of a bar: at least and at most.
const BAR: (usize, usize) = (8, 20);
/// Columns of a machine's line without the cells of its bar.
const BESIDE_BAR: usize = 63;
/// Stands for what a line has no room for.
const REST: &str = " ...";

/// What there is room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Size {
    columns: usize,
    lines: usize,
}

impl Size {
    /// Fits the terminals that do not say how large they are.
    const UNKNOWN: Self = Self {
        columns: 79,
        lines: 23,
    };

    /// The cursor stands below the picture, so one line of the terminal stays free.
    fn of_terminal() -> Self {
        terminal_size::terminal_size_of(io::stdout()).map_or(Self::UNKNOWN, |(width, height)| {
            Self {
                columns: usize::from(width.0),
                lines: usize::from(height.0).saturating_sub(1).max(1),
            }
        })
    }
}

/// A node as it is shown.
#[derive(Debug, Default)]
struct Row {
    kind: String,
    pool: String,
    millicores: i64,
    used: i64,
    pods: usize,
}

/// The last picture.
#[derive(Debug)]
struct Drawn {
    size: Size,
    lines: usize,
}

/// The view.
#[derive(Debug)]
pub(super) struct View {
    narrator: Narrator,
    decisions: VecDeque<String>,
    drawn: Option<Drawn>,
}

impl View {
    pub(super) fn new() -> Self {
        Self {
            narrator: Narrator::default(),
            decisions: VecDeque::new(),
            drawn: None,
        }
    }

    /// Takes in what is new, and draws when it is time.
    pub(super) fn look(&mut self, play: &Play, draw: bool) {
        for line in &play.tally.latest {
            if let Some(said) = self.narrator.tell(line) {
                self.decisions
                    .push_back(format!("{} {said}", short(&line.at)));
            }
        }
        while self.decisions.len() > LINES {
            self.decisions.pop_front();
        }
        if draw || play.act == "the end" {
            let size = Size::of_terminal();
            let back = match &self.drawn {
                None => String::new(),
                // Terminals break lines anew when their width changes: where the picture begins nobody knows.
                Some(drawn) if drawn.size != size => "\x1b[2J\x1b[H".to_owned(),
                // Back to its first line, and clear to the end of the screen.
                Some(drawn) => format!("\x1b[{}A\x1b[J", drawn.lines),
            };
            let picture = arrange(size, &header(play), &rows(play), &self.decisions);
            self.drawn = Some(Drawn {
                size,
                lines: picture.lines().count(),
            });
            // Whoever does not look any more has seen enough.
            crate::cli::write_stdout(&(back + &picture)).ok();
        }
    }
}

/// The day in figures.
fn header(play: &Play) -> Vec<String> {
    let (mut waiting, mut running) = (0, 0);
    play.world.api.each(Resource::Pod, |_key, pod| {
        match pod["status"]["phase"].as_str() {
            Some("Pending") => waiting += 1,
            Some("Running") => running += 1,
            _ => {}
        }
    });
    let (bound, least) = play.bound.so_far();
    let number = |text: String| text.parse::<f64>().unwrap_or(0.0);
    vec![
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
            "{} machines, {:.3} USD/h (at least {:.3})   {:.2} USD so far (at least {:.2})",
            play.world.ec2.alive().len(),
            number(play.world.ec2.rate().to_string()),
            number(least.to_string()),
            dollars(play),
            number(bound.to_string()),
        ),
    ]
}

/// Figures, machines and the latest decisions as lines that there is room for.
fn arrange(
    size: Size,
    header: &[String],
    rows: &BTreeMap<String, Row>,
    decisions: &VecDeque<String>,
) -> String {
    // A blank line after the figures, and one after the machines.
    let room = size.lines.saturating_sub(header.len() + 2);
    let mut lines = header.to_vec();
    lines.push(String::new());
    let slots = MACHINES.min(room - LINES.min(room / 2));
    lines.extend(machines(rows, slots, size.columns));
    lines.push(String::new());
    let left = size.lines.saturating_sub(lines.len());
    let too_many = decisions.len().saturating_sub(left);
    lines.extend(decisions.iter().skip(too_many).cloned());
    lines.truncate(size.lines);
    let cut = lines.iter().map(|line| fitting(line, size.columns) + "\n");
    cut.collect()
}

/// A line for each machine, the last one of so many for those that there is no room for.
fn machines(rows: &BTreeMap<String, Row>, slots: usize, columns: usize) -> Vec<String> {
    let cells = columns.saturating_sub(BESIDE_BAR).clamp(BAR.0, BAR.1);
    let shown = if rows.len() > slots {
        slots.saturating_sub(1)
    } else {
        rows.len()
    };
    let mut lines: Vec<String> = rows
        .iter()
        .take(shown)
        .map(|(name, row)| {
            let bar = bar(row, cells);
            format!(
                "{bar} {:>3} pods  {:<13} {:<9} {name}",
                row.pods, row.kind, row.pool
            )
        })
        .collect();
    if rows.len() > shown {
        lines.push(format!("... and {} more", rows.len() - shown));
    }
    lines
}

/// A line that is cut after a whole word where it is longer than so many columns.
fn fitting(line: &str, columns: usize) -> String {
    if line.chars().count() <= columns {
        return line.to_owned();
    }
    let room = columns.saturating_sub(REST.len());
    // One more, so that a word which ends just there stays.
    let head: String = line.chars().take(room + 1).collect();
    let words = match head.rsplit_once(' ') {
        Some((words, _cut)) => words.trim_end_matches([' ', ',', ':', ';']).to_owned(),
        None => line.chars().take(room).collect(),
    };
    (words + REST).chars().take(columns).collect()
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

fn bar(row: &Row, cells: usize) -> String {
    let all = row.millicores.max(1);
    let share = row.used.clamp(0, all) * i64::try_from(cells).unwrap_or(0) / all;
    let filled = usize::try_from(share).unwrap_or(0).min(cells);
    format!("[{}{}]", "#".repeat(filled), "-".repeat(cells - filled))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A picture of so many machines and decisions.
    fn picture(size: Size, machines: usize, decisions: usize) -> String {
        let header = [
            "tonnage demo, seed 1",
            "08:00:01   3 pods wait",
            "12 machines",
        ];
        let rows = (0..machines).map(|number| {
            let row = Row {
                kind: "g4dn.12xlarge".to_owned(),
                pool: "executors".to_owned(),
                millicores: 4_000,
                used: 2_000,
                pods: 7,
            };
            (format!("ip-10-0-0-{number:03}.ec2.internal"), row)
        });
        let decisions = (0..decisions).map(|number| {
            format!(
                "08:00:{number:02} bought  c5.2xlarge/us-east-1d/spot for 12 pods of executor, 0.0877 USD per \
                 hour: i-00000000000000001"
            )
        });
        arrange(
            size,
            &header.map(str::to_owned),
            &rows.collect(),
            &decisions.collect(),
        )
    }

    #[test]
    fn a_picture_fits_its_terminal_and_shows_the_latest_decision() {
        for (columns, lines) in [
            (79, 23),
            (80, 23),
            (100, 33),
            (200, 60),
            (40, 9),
            (20, 3),
            (3, 1),
        ] {
            let size = Size { columns, lines };
            for (machines, decisions) in [(0, 0), (2, 12), (40, 12), (40, 1)] {
                let picture = picture(size, machines, decisions);
                let widest = picture.lines().map(|line| line.chars().count()).max();
                assert!(widest.unwrap_or(0) <= columns, "{size:?}: {picture}");
                assert!(picture.lines().count() <= lines, "{size:?}: {picture}");
                if lines >= 9 && decisions > 0 {
                    let latest = format!("08:00:{:02} bought", decisions - 1);
                    assert!(picture.contains(&latest), "{size:?}: {picture}");
                }
            }
        }
    }

    #[test]
    fn a_usual_terminal_has_room_for_machines_and_for_whom_they_are_bought() {
        let size = Size {
            columns: 80,
            lines: 23,
        };
        let picture = picture(size, 40, 12);
        let machine = format!(
            "[{}{}]   7 pods  g4dn.12xlarge executors ip-10-0-0-000.ec2.internal",
            "#".repeat(8),
            "-".repeat(9)
        );
        assert!(picture.lines().any(|line| line == machine), "{picture}");
        assert!(picture.contains("... and 32 more"), "{picture}");
        assert!(
            picture.contains(" for 12 pods of executor, 0.0877 ...\n"),
            "{picture}"
        );
    }

    #[test]
    fn lines_are_cut_after_whole_words() {
        assert_eq!(fitting("for executors", 13), "for executors");
        assert_eq!(fitting("bought for executors", 19), "bought for ...");
        assert_eq!(fitting("bought, for executors", 14), "bought ...");
        assert_eq!(fitting("one-long-word", 8), "one- ...");
    }
}
