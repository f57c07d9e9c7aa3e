//! A line chart as inline SVG.

use std::fmt::Write as _;

/// Width and height of the drawing, and what the axes take of it.
const SIZE: (i64, i64) = (640, 220);
const LEFT: i64 = 56;
const BOTTOM: i64 = 24;
const TOP: i64 = 28;
const RIGHT: i64 = 8;
/// Lines across, the one at zero included.
const LINES: i64 = 4;
/// Marks of time at most.
const MARKS: i64 = 8;
/// Hours between two marks.
const PAUSES: [i64; 12] = [1, 2, 3, 4, 6, 12, 24, 48, 120, 240, 480, 960];

/// One line.
#[derive(Debug)]
pub(super) struct Series {
    /// What it is called.
    pub(super) name: &'static str,
    /// Its class in the style sheet.
    pub(super) class: &'static str,
    /// One value for each step.
    pub(super) values: Vec<i64>,
}

/// What all lines of a chart share.
#[derive(Debug)]
pub(super) struct Frame {
    /// What is shown.
    pub(super) title: &'static str,
    /// So much is one.
    pub(super) unit: i64,
    /// The largest value.
    pub(super) most: i64,
    /// How many steps there are.
    pub(super) steps: usize,
    /// How long a step is.
    pub(super) step_seconds: i64,
}

/// The chart.
pub(super) fn draw(frame: &Frame, series: &[Series]) -> String {
    let (width, height) = SIZE;
    let top = round_up(frame.most, frame.unit);
    let mut svg = format!(
        "<svg viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"{}\">\n\
         <text class=\"title\" x=\"{LEFT}\" y=\"16\">{}</text>\n",
        frame.title, frame.title
    );
    for line in 0..=LINES {
        let value = top / LINES * line;
        let y = y_of(value, top);
        let _infallible = writeln!(
            svg,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{}\" y1=\"{y}\" y2=\"{y}\"/>\
             <text class=\"mark\" x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>",
            width - RIGHT,
            LEFT - 6,
            y + 4,
            decimal(value, frame.unit)
        );
    }
    let steps = i64::try_from(frame.steps.max(1)).unwrap_or(1);
    let whole = steps * frame.step_seconds;
    let pause = pause(whole);
    for mark in (0..=whole / pause).map(|number| number * pause) {
        let x = LEFT + (width - LEFT - RIGHT) * mark / whole;
        let anchor = if x > width - 30 { "end" } else { "middle" };
        let _infallible = writeln!(
            svg,
            "<text class=\"mark\" x=\"{x}\" y=\"{}\" text-anchor=\"{anchor}\">{}</text>",
            height - 6,
            time(mark, whole)
        );
    }
    for (index, one) in series.iter().enumerate() {
        let points: Vec<String> = one
            .values
            .iter()
            .zip(0_i64..)
            .map(|(value, step)| format!("{},{}", x_of(step, steps), y_of(*value, top)))
            .collect();
        let x = i64::try_from(index).unwrap_or(0) * 110 + 220;
        let _infallible = writeln!(
            svg,
            "<polyline class=\"line {class}\" points=\"{}\"/>\n\
             <line class=\"line {class}\" x1=\"{x}\" x2=\"{}\" y1=\"12\" y2=\"12\"/>\
             <text class=\"mark\" x=\"{}\" y=\"16\">{}</text>",
            points.join(" "),
            x + 18,
            x + 24,
            one.name,
            class = one.class,
        );
    }
    svg.push_str("</svg>\n");
    svg
}

/// Seconds between two marks of a time.
fn pause(whole: i64) -> i64 {
    let seconds = PAUSES.iter().map(|hours| hours * 3_600);
    let fits = |pause: &i64| whole / pause <= MARKS;
    seconds.clone().find(fits).unwrap_or_else(|| whole.max(1))
}

/// A round number of units that is not below, and that the lines across divide.
fn round_up(most: i64, unit: i64) -> i64 {
    let mut step = (unit / 100).max(1);
    loop {
        for times in [1, 2, 3, 5, 6] {
            let round = step.saturating_mul(times).saturating_mul(LINES);
            if round >= most || round == i64::MAX {
                return round;
            }
        }
        step = step.saturating_mul(10);
    }
}

fn y_of(value: i64, top: i64) -> i64 {
    let room = i128::from(SIZE.1 - TOP - BOTTOM);
    let up = (i128::from(value.max(0)) * room).checked_div(i128::from(top));
    SIZE.1 - BOTTOM - i64::try_from(up.unwrap_or(0)).unwrap_or(0)
}

/// Tenths of a pixel, so that many steps do not become stairs.
fn x_of(step: i64, steps: i64) -> String {
    let tenths = LEFT * 10 + (SIZE.0 - LEFT - RIGHT) * (step * 10 + 5) / steps;
    format!("{}.{}", tenths / 10, tenths % 10)
}

/// A value in units, without zeros that say nothing.
fn decimal(value: i64, unit: i64) -> String {
    let hundredths = i128::from(value) * 100 / i128::from(unit.max(1));
    match hundredths % 100 {
        0 => (hundredths / 100).to_string(),
        rest if rest % 10 == 0 => format!("{}.{}", hundredths / 100, rest / 10),
        rest => format!("{}.{rest:02}", hundredths / 100),
    }
}

fn time(seconds: i64, whole: i64) -> String {
    if whole > 4 * 86_400 {
        format!("day {}", decimal(seconds / 8_640 * 100, 1_000))
    } else {
        format!("{} h", decimal(seconds / 360 * 100, 1_000))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_are_round_and_hold_the_largest_value() {
        for (most, expected) in [(0, "0.04"), (37_000, "40"), (41_000, "80"), (900, "1.2")] {
            let top = round_up(most, 1_000);
            assert!(top >= most && top % LINES == 0);
            assert_eq!(decimal(top, 1_000), expected, "{most}");
        }
        assert_eq!(y_of(0, 100), SIZE.1 - BOTTOM);
        assert_eq!(y_of(100, 100), TOP);
    }

    #[test]
    fn time_is_told_in_hours_or_days() {
        assert_eq!(time(5_400, 86_400), "1.5 h");
        assert_eq!(time(86_400, 30 * 86_400), "day 1");
        assert_eq!(pause(86_400), 3 * 3_600);
        assert_eq!(pause(30 * 86_400), 5 * 86_400);
        assert_eq!(pause(600), 3_600);
    }
}
