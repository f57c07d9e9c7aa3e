//! The outcome as one self-contained HTML page: a table, charts as inline SVG, nothing from elsewhere.
//!
//! Every text that a user gave is escaped. The page has no script.

use std::fmt::Write as _;

use super::chart::{self, Series};
use super::table::{LINES, dollars, hours, whose};
use crate::model::money::UNITS_PER_USD;
use crate::simulate::{Course, Moment, Outcome, Scenario};

const STYLE: &str = include_str!("page.css");

/// A text as HTML shows it.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

/// The page.
pub(super) fn render(scenario: &Scenario, outcomes: &[Outcome]) -> String {
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>tonnage simulate</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n\
         <h1>What the work would cost</h1>\n\
         <p>{} hours of work from {}, seed {}. On-demand prices of us-east-1; spot prices, capacity and \
         interruptions are simulated.</p>\n",
        hours(scenario.duration.as_secs()),
        escape(&scenario.begin.to_string()),
        scenario.seed
    );
    figures(&mut page, outcomes);
    for outcome in outcomes {
        let _infallible = writeln!(page, "<h2>{}</h2>", escape(&outcome.variant));
        charts(&mut page, &outcome.course, outcomes);
        never_placed(&mut page, outcome);
        bought(&mut page, outcome);
    }
    page.push_str(
        "<p class=\"note\">The lower bound is what no fleet that ran the same pods at the same times could \
         have cost less than, at the prices of each moment; what is above it is boot times, idle time and \
         what does not pack.</p>\n</body>\n</html>\n",
    );
    page
}

fn figures(page: &mut String, outcomes: &[Outcome]) {
    page.push_str("<table>\n<thead><tr><th></th>");
    for outcome in outcomes {
        let _infallible = write!(page, "<th>{}</th>", escape(&outcome.variant));
    }
    page.push_str("</tr></thead>\n<tbody>\n");
    for (name, value) in LINES {
        let class = if name.starts_with(' ') {
            " class=\"part\""
        } else {
            ""
        };
        let _infallible = write!(page, "<tr{class}><th>{}</th>", escape(name.trim()));
        for outcome in outcomes {
            let _infallible = write!(page, "<td>{}</td>", escape(&value(outcome)));
        }
        page.push_str("</tr>\n");
    }
    page.push_str("</tbody>\n</table>\n");
}

/// The charts of a variant; all variants have the same scales, so that they can be compared by eye.
fn charts(page: &mut String, course: &Course, outcomes: &[Outcome]) {
    let step = course.step_seconds;
    let rate = move |units: i64| units.saturating_mul(3_600).checked_div(step).unwrap_or(0);
    let steps = outcomes.iter().map(|outcome| outcome.course.moments.len());
    let steps = steps.max().unwrap_or(0);
    let most = |value: &dyn Fn(&Moment) -> i64| {
        let moments = outcomes.iter().flat_map(|outcome| &outcome.course.moments);
        moments.map(value).max().unwrap_or(0)
    };
    let series = |name, class, value: &dyn Fn(&Moment) -> i64| Series {
        name,
        class,
        values: course.moments.iter().map(value).collect(),
    };
    let frame = |title, unit, most| chart::Frame {
        title,
        unit,
        most,
        steps,
        step_seconds: step,
    };
    page.push_str("<div class=\"charts\">\n");
    page.push_str(&chart::draw(
        &frame(
            "USD per hour",
            UNITS_PER_USD,
            rate(most(&|moment| moment.usd.max(moment.usd_bound))),
        ),
        &[
            series("billed", "one", &|moment| rate(moment.usd)),
            series("lower bound", "two", &|moment| rate(moment.usd_bound)),
        ],
    ));
    page.push_str(&chart::draw(
        &frame(
            "Machines",
            1_000,
            most(&|moment| moment.on_demand + moment.spot),
        ),
        &[
            series("all", "one", &|moment| moment.on_demand + moment.spot),
            series("on-demand", "two", &|moment| moment.on_demand),
        ],
    ));
    page.push_str(&chart::draw(
        &frame(
            "Pods",
            1_000,
            most(&|moment| moment.running.max(moment.waiting)),
        ),
        &[
            series("on nodes", "one", &|moment| moment.running),
            series("waiting", "two", &|moment| moment.waiting),
        ],
    ));
    page.push_str("</div>\n");
}

fn never_placed(page: &mut String, outcome: &Outcome) {
    if outcome.never_placed.is_empty() {
        return;
    }
    page.push_str("<h3>Pods that never got a node</h3>\n<table class=\"text\">\n<thead><tr><th>workload</th><th>pods</th><th>why</th></tr></thead>\n<tbody>\n");
    for group in &outcome.never_placed {
        let _infallible = writeln!(
            page,
            "<tr><th>{}</th><td>{}</td><td>{}</td></tr>",
            escape(&whose(group)),
            group.pods,
            escape(&group.message)
        );
    }
    page.push_str("</tbody>\n</table>\n");
}

fn bought(page: &mut String, outcome: &Outcome) {
    let _infallible = write!(
        page,
        "<details><summary>{} machines of {} kinds</summary>\n<table class=\"text\">\n<thead><tr><th>NodePool</th>\
         <th>offering</th><th>machines</th><th>hours</th><th>USD</th></tr></thead>\n<tbody>\n",
        outcome.figures.nodes_bought,
        outcome.bought.len()
    );
    for kind in &outcome.bought {
        let _infallible = writeln!(
            page,
            "<tr><th>{}</th><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
            escape(&kind.node_pool),
            escape(&kind.offering.to_string()),
            kind.count,
            hours(kind.seconds),
            dollars(kind.usd)
        );
    }
    page.push_str("</tbody>\n</table>\n</details>\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::{Figures, NeverPlaced};
    use jiff::{SignedDuration, Timestamp};

    fn outcome(variant: &str) -> Outcome {
        Outcome {
            variant: variant.to_owned(),
            figures: Figures::default(),
            course: Course {
                step_seconds: 600,
                moments: vec![
                    Moment {
                        running: 3_000,
                        usd: 5_000_000_000,
                        ..Moment::default()
                    };
                    3
                ],
            },
            never_placed: vec![NeverPlaced {
                load: "<b>team</b>/x".to_owned(),
                other_loads: 1,
                pods: 2,
                reasons: Vec::new(),
                message: "a \"quoted\" & 'odd' reason".to_owned(),
            }],
            bought: Vec::new(),
        }
    }

    #[test]
    fn what_users_wrote_is_escaped_and_nothing_comes_from_elsewhere() {
        let scenario = Scenario {
            begin: Timestamp::UNIX_EPOCH,
            duration: SignedDuration::from_hours(1),
            seed: 1,
            weather: crate::sim::ec2::market::Weather::CALM,
            loads: Vec::new(),
        };
        let page = render(
            &scenario,
            &[outcome("<script>alert(1)</script>"), outcome("b")],
        );
        assert!(
            !page.contains("<script") && !page.contains("<b>team"),
            "{page}"
        );
        assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt;"));
        assert!(page.contains("a &quot;quoted&quot; &amp; &#39;odd&#39; reason"));
        for elsewhere in ["http://", "https://", "src=", "@import", "url("] {
            assert!(!page.contains(elsewhere), "{elsewhere}");
        }
        assert_eq!(page.matches("<svg").count(), 6);
        assert_eq!(page.matches("</svg>").count(), 6);
    }
}
