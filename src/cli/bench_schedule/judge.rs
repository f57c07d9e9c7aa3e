//! What planning must reach: the aims of docs/planner.md, or those of a file.
//!
//! Given the figures of one case; given back everything that misses, in words. Money is compared in integers.

use std::fs;
use std::path::Path;

use serde::Deserialize;

use super::BenchError;
use crate::model::money::UsdPerHour;

/// The aims of docs/planner.md, in the form of a file of bounds.
const AIMS: &str = include_str!("bounds.json");

/// What cases must reach: a case is held to the first rule that is about its kind and at least its size.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Bounds {
    /// The most that a fleet may cost, in percent of the bound that the same constraints allow.
    percent_of_bound: u32,
    rules: Vec<Rule>,
}

/// What cases of a kind may take up to a size; what is left out is not judged.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Rule {
    case: Case,
    pods: u64,
    types: Option<i64>,
    milliseconds: Option<u64>,
    mebibytes: Option<u64>,
    percent_of_bound: Option<u32>,
}

/// A kind of pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Case {
    Diverse,
    Preferences,
}

impl Bounds {
    /// Reads a file of bounds; without one, the aims of docs/planner.md.
    pub(super) fn read(path: Option<&Path>) -> Result<Self, BenchError> {
        let unreadable = |reason: String| BenchError::Bounds {
            path: path.map_or_else(
                || "the built-in file".to_owned(),
                |path| path.display().to_string(),
            ),
            reason,
        };
        let text = match path {
            Some(path) => {
                fs::read_to_string(path).map_err(|error| unreadable(error.to_string()))?
            }
            None => AIMS.to_owned(),
        };
        Self::parse(&text).map_err(|error| unreadable(error.to_string()))
    }

    fn parse(text: &str) -> serde_json::Result<Self> {
        serde_json::from_str(text)
    }

    fn of(&self, figures: &Figures) -> Option<&Rule> {
        let case = if figures.wishes {
            Case::Preferences
        } else {
            Case::Diverse
        };
        self.rules.iter().find(|rule| {
            rule.case == case
                && figures.pods <= rule.pods
                && rule.types.is_none_or(|types| figures.types <= types)
        })
    }
}

/// What one case came to.
#[derive(Debug, Clone)]
pub(super) struct Figures {
    /// Pods.
    pub(super) pods: u64,
    /// Instance types.
    pub(super) types: i64,
    /// The pods have preferences that cannot all be met.
    pub(super) wishes: bool,
    /// Time of planning.
    pub(super) elapsed_ms: u64,
    /// Peak memory of the process.
    pub(super) memory_mb: u64,
    /// Price of the fleet.
    pub(super) price: UsdPerHour,
    /// The plan's own bound.
    pub(super) lower_bound: UsdPerHour,
}

/// Every bound that is missed.
pub(super) fn misses(figures: &Figures, bounds: &Bounds) -> Vec<String> {
    let mut misses = Vec::new();
    let rule = bounds.of(figures);
    let percent = rule
        .and_then(|rule| rule.percent_of_bound)
        .unwrap_or(bounds.percent_of_bound);
    let (price, bound) = (
        i128::from(figures.price.units()),
        i128::from(figures.lower_bound.units()),
    );
    if price * 100 > bound * i128::from(percent) {
        misses.push(format!(
            "price: {} USD per hour is more than {percent} % of the lower bound {}",
            figures.price, figures.lower_bound
        ));
    }
    let mut at_most = |what: &str, unit: &str, found: u64, most: Option<u64>| {
        if let Some(most) = most.filter(|most| found > *most) {
            misses.push(format!(
                "{what}: {found} {unit}, at most {most} are aimed at"
            ));
        }
    };
    if let Some(rule) = rule {
        at_most("time", "ms", figures.elapsed_ms, rule.milliseconds);
        at_most("memory", "MiB", figures.memory_mb, rule.mebibytes);
    }
    misses
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(pods: u64, elapsed_ms: u64, memory_mb: u64, cents: i64) -> Figures {
        Figures {
            pods,
            types: 400,
            wishes: false,
            elapsed_ms,
            memory_mb,
            price: UsdPerHour::from_micros(cents * 10_000),
            lower_bound: UsdPerHour::from_micros(1_000_000),
        }
    }

    #[test]
    fn each_miss_is_named() {
        let aims = Bounds::read(None).unwrap();
        let misses = |figures: &Figures| misses(figures, &aims);
        assert_eq!(misses(&figures(20_000, 1_000, 150, 102)), [""; 0]);
        for (figures, name) in [
            (figures(20_000, 1_001, 150, 102), "time"),
            (figures(20_000, 1_000, 151, 102), "memory"),
            (figures(20_000, 1_000, 150, 103), "price"),
            (figures(100_000, 5_001, 400, 102), "time"),
        ] {
            let found = misses(&figures);
            assert_eq!(found.len(), 1, "{found:?}");
            assert!(found[0].starts_with(name), "{found:?}");
        }
        let wishes = Figures {
            wishes: true,
            types: 700,
            ..figures(4_000, 201, 1_000, 100)
        };
        assert_eq!(misses(&wishes).len(), 1);
        let many_types = Figures {
            types: 700,
            ..figures(20_000, 9_000, 900, 100)
        };
        assert_eq!(misses(&many_types), [""; 0]);
    }

    #[test]
    fn a_file_of_bounds_takes_the_place_of_the_aims() {
        let bounds = Bounds::parse(
            r#"{"percentOfBound": 110, "rules": [
                {"case": "diverse", "pods": 1000, "milliseconds": 300, "percentOfBound": 105}]}"#,
        )
        .unwrap();
        assert_eq!(misses(&figures(1_000, 300, 999, 105), &bounds), [""; 0]);
        assert_eq!(misses(&figures(1_000, 301, 999, 106), &bounds).len(), 2);
        assert_eq!(misses(&figures(20_000, 9_999, 999, 110), &bounds), [""; 0]);
        let unknown = Bounds::parse(r#"{"percentOfBound": 110, "rules": [], "most": 1}"#);
        assert!(unknown.unwrap_err().to_string().contains("most"));
        let absent = Bounds::read(Some(Path::new("/absent/bounds.json"))).unwrap_err();
        assert!(
            absent.to_string().contains("/absent/bounds.json"),
            "{absent}"
        );
    }
}
