//! The outcome as text for people: one column for each variant.

use std::fmt::Write as _;

use crate::cli::plan::columns;
use crate::model::money::UNITS_PER_USD;
use crate::simulate::{Figures, NeverPlaced, Outcome, Scenario};

/// Groups of pods without a node that are listed for each variant.
const MOST_GROUPS: usize = 10;

/// US dollars with two decimals, and below a dollar with as many as its first two digits need; rounded to the nearest.
pub(super) fn dollars(units: i64) -> String {
    let sign = if units < 0 { "-" } else { "" };
    let units = units.unsigned_abs();
    let places = UNITS_PER_USD.ilog10();
    let zeros = units
        .checked_ilog10()
        .map_or(0, |power| (places - 1).saturating_sub(power));
    let decimals = (zeros + 2).min(places);
    let step = 10_u64.pow(places - decimals);
    let rounded = (units + step / 2) / step;
    let (dollar, width) = (10_u64.pow(decimals), usize::try_from(decimals).unwrap_or(2));
    format!("{sign}{}.{:0width$}", rounded / dollar, rounded % dollar)
}

/// Thousandths as a percentage with one decimal.
pub(super) fn percent(per_mille: i64) -> String {
    let sign = if per_mille < 0 { "-" } else { "" };
    let size = per_mille.unsigned_abs();
    format!("{sign}{}.{} %", size / 10, size % 10)
}

/// Hours with one decimal.
pub(super) fn hours(seconds: i64) -> String {
    let tenths = (seconds * 10 + 1_800) / 3_600;
    format!("{}.{}", tenths / 10, tenths % 10)
}

/// Seconds as people say them.
pub(super) fn wait(seconds: i64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        _ => format!("{} h {:02} min", seconds / 3_600, seconds % 3_600 / 60),
    }
}

/// What a figure is called, and its value.
pub(super) type Line = (&'static str, fn(&Outcome) -> String);

/// Every figure that is shown, in order.
pub(super) const LINES: [Line; 22] = [
    ("cost, USD", |outcome| dollars(outcome.figures.usd_total)),
    ("  on-demand machines", |outcome| {
        dollars(outcome.figures.usd_on_demand)
    }),
    ("  spot machines", |outcome| {
        dollars(outcome.figures.usd_spot)
    }),
    ("  volumes, addresses, fees", |outcome| {
        dollars(outcome.figures.usd_fees)
    }),
    ("lower bound, USD", |outcome| {
        dollars(outcome.figures.usd_lower_bound)
    }),
    ("above the lower bound", |outcome| {
        outcome
            .figures
            .above_per_mille()
            .map_or_else(|| "-".to_owned(), percent)
    }),
    ("pods", |outcome| outcome.figures.pods.to_string()),
    ("  ran to their end", |outcome| {
        outcome.figures.completed.to_string()
    }),
    ("  never placed", |outcome| {
        never_placed(outcome).to_string()
    }),
    ("waiting, half within", |outcome| {
        wait(outcome.figures.waiting_seconds.p50)
    }),
    ("  95 of 100 within", |outcome| {
        wait(outcome.figures.waiting_seconds.p95)
    }),
    ("  99 of 100 within", |outcome| {
        wait(outcome.figures.waiting_seconds.p99)
    }),
    ("  longest", |outcome| {
        wait(outcome.figures.waiting_seconds.most)
    }),
    ("spot machines taken back", |outcome| {
        outcome.figures.interruptions.to_string()
    }),
    ("evictions", |outcome| evictions(&outcome.figures)),
    ("lost work, pod hours", |outcome| {
        hours(outcome.figures.lost_pod_seconds)
    }),
    ("machines bought", |outcome| {
        outcome.figures.nodes_bought.to_string()
    }),
    ("  most at a time", |outcome| {
        outcome.figures.most_nodes.to_string()
    }),
    ("  left at the end", |outcome| {
        outcome.figures.instances_left.to_string()
    }),
    ("machine hours (spot)", |outcome| {
        let figures = &outcome.figures;
        format!(
            "{} ({})",
            hours(figures.instance_seconds),
            hours(figures.spot_seconds)
        )
    }),
    ("CPU requested of usable", |outcome| {
        percent(outcome.figures.cpu_per_mille)
    }),
    ("memory requested of usable", |outcome| {
        percent(outcome.figures.memory_per_mille)
    }),
];

fn evictions(figures: &Figures) -> String {
    match figures.lost_pods {
        0 => figures.evictions.to_string(),
        lost => format!("{} and {lost} pods lost", figures.evictions),
    }
}

/// Pods that never got a node.
pub(super) fn never_placed(outcome: &Outcome) -> usize {
    outcome.never_placed.iter().map(|group| group.pods).sum()
}

/// The outcome as text.
pub(super) fn render(scenario: &Scenario, outcomes: &[Outcome]) -> String {
    let mut rows = vec![vec![String::new()]];
    for (name, _value) in LINES {
        rows.push(vec![name.to_owned()]);
    }
    for outcome in outcomes {
        let cells = std::iter::once(outcome.variant.to_uppercase())
            .chain(LINES.iter().map(|(_name, value)| value(outcome)));
        for (row, cell) in rows.iter_mut().zip(cells) {
            row.push(cell);
        }
    }
    let mut text = columns(&rows);
    let _infallible = writeln!(
        text,
        "\n{} hours of work from {}, seed {}. On-demand prices of us-east-1; spot prices, capacity and \
         interruptions are simulated.",
        hours(scenario.duration.as_secs()),
        scenario.begin,
        scenario.seed
    );
    for outcome in outcomes {
        left_out(outcome, &mut text);
    }
    text
}

fn pods(count: usize) -> String {
    match count {
        1 => "a pod".to_owned(),
        count => format!("{count} pods"),
    }
}

/// The workloads of pods without a node.
pub(super) fn whose(group: &NeverPlaced) -> String {
    match group.other_loads {
        0 => group.load.clone(),
        others => format!("{} and {others} other workloads", group.load),
    }
}

fn left_out(outcome: &Outcome, text: &mut String) {
    for group in outcome.never_placed.iter().take(MOST_GROUPS) {
        let _infallible = writeln!(
            text,
            "{}: {} of {} never got a node: {}",
            outcome.variant,
            pods(group.pods),
            whose(group),
            group.message
        );
    }
    let more = outcome.never_placed.len().saturating_sub(MOST_GROUPS);
    if more > 0 {
        let _infallible = writeln!(
            text,
            "{}: and {more} more groups of pods, which --output json lists",
            outcome.variant
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_rounded_for_people() {
        assert_eq!(dollars(12_345_678_901), "1.23");
        for (units, expected) in [
            (0, "0.00"),
            (1, "0.0000000001"),
            (49_999_999, "0.0050"),
            (123_456_789, "0.012"),
            (999_000_000, "0.100"),
            (9_960_000_000, "1.00"),
            (-123_456_789, "-0.012"),
        ] {
            assert_eq!(dollars(units), expected);
        }
        assert_eq!(
            (percent(123), percent(-5)),
            ("12.3 %".to_owned(), "-0.5 %".to_owned())
        );
        assert_eq!(
            (hours(3_600), hours(5_400)),
            ("1.0".to_owned(), "1.5".to_owned())
        );
        assert_eq!(wait(42), "42 s");
        assert_eq!(wait(125), "2 min 05 s");
        assert_eq!(wait(7_260), "2 h 01 min");
    }
}
