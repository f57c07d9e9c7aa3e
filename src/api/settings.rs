//! Settings of a NodePool that the shared API has no field for: `tonnage.dev/*` annotations.
//!
//! Given the annotations, [`NodePoolSettings::parse`] gives back typed settings and every problem. A
//! bad value never hides the others: its setting keeps the default, except that a `paused` that
//! cannot be read counts as true, since doing nothing is the safe reading. The one table of all
//! settings is [`super::settings_table`].

use std::collections::BTreeMap;
use std::time::Duration;

use super::duration;
use super::labels::{PAUSED, TONNAGE_GROUP};
use super::problem::Problem;
use super::protection::Protection;
use super::settings_table::{self, Key};

/// Units of a price in one US dollar per hour: prices are whole numbers of 10⁻¹⁰ USD, so that list
/// prices and their sums are exact.
const PRICE_DECIMALS: usize = 10;

/// The settings of one NodePool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodePoolSettings {
    /// Makes, removes and replaces no node of this pool.
    pub paused: bool,
    /// The token of a halted orphan collection that a person allows to go on.
    pub acknowledged_orphans: Option<String>,
    /// How long a claim may take to be bought before it is given up.
    pub launch_timeout: Duration,
    /// How long a machine may take to join the cluster before it is given up.
    pub registration_timeout: Duration,
    /// How long a node may take to become usable before it is given up; none is for ever.
    pub initialization_timeout: Option<Duration>,
    /// A fee per node, in 10⁻¹⁰ USD per hour, that counts like a part of its price.
    pub node_fee: i64,
    /// The least number of on-demand nodes.
    pub on_demand_base: u32,
    /// The share of nodes above the base that may be spot, in percent; none leaves it to the price.
    pub spot_percent: Option<u32>,
    /// The highest price of an offering, in 10⁻¹⁰ USD per hour.
    pub max_price: Option<i64>,
    /// The highest price of a spot offering, in percent of the on-demand price of its type.
    pub max_percent_of_on_demand: Option<u32>,
    /// How much more an alternative of a launch may cost than the best one, in percent.
    pub alternative_price_band_percent: Option<u32>,
    /// How much the risk of a spot interruption counts, in thousandths.
    pub risk_weight_thousandths: u32,
    /// Which pods are never voluntary victims.
    pub protect: Protection,
    /// The time zone of budget schedules, as IANA names it.
    pub budget_time_zone: String,
}

impl NodePoolSettings {
    /// Reads the settings from a NodePool's annotations, with every problem found.
    pub fn parse(annotations: &BTreeMap<String, String>) -> (Self, Vec<Problem>) {
        let mut reader = Reader {
            annotations,
            problems: Vec::new(),
        };
        let settings = Self {
            paused: reader.read(Key::Paused, boolean, Some(true)),
            acknowledged_orphans: annotations
                .get(Key::AcknowledgeOrphans.annotation())
                .cloned(),
            launch_timeout: reader.read(Key::LaunchTimeout, positive_duration, None),
            registration_timeout: reader.read(Key::RegistrationTimeout, positive_duration, None),
            initialization_timeout: reader.read(
                Key::InitializationTimeout,
                duration_or_never,
                None,
            ),
            node_fee: reader.read(Key::UsdPerNodeHour, price, None),
            on_demand_base: reader.read(Key::OnDemandBase, count, None),
            spot_percent: reader.read_optional(Key::SpotPercent, |text| percent(text, 100)),
            max_price: reader.read_optional(Key::MaxUsdPerHour, price),
            max_percent_of_on_demand: reader
                .read_optional(Key::MaxPercentOfOnDemand, |text| percent(text, 1000)),
            alternative_price_band_percent: reader
                .read_optional(Key::AlternativePriceBandPercent, |text| percent(text, 1000)),
            risk_weight_thousandths: reader.read(Key::RiskWeight, thousandths, None),
            protect: reader.read(Key::Protect, Protection::parse, None),
            budget_time_zone: reader.read(Key::BudgetTimeZone, time_zone, None),
        };
        (settings, reader.problems)
    }
}

impl Default for NodePoolSettings {
    fn default() -> Self {
        Self::parse(&BTreeMap::new()).0
    }
}

/// Whether these annotations pause: `tonnage.dev/paused` is there and not plainly `false`.
pub fn is_paused(annotations: &BTreeMap<String, String>) -> bool {
    annotations
        .get(PAUSED)
        .is_some_and(|text| boolean(text) != Some(false))
}

/// The `tonnage.dev/*` annotations that no setting reads, most likely typing errors.
pub fn unknown_settings(annotations: &BTreeMap<String, String>) -> Vec<&str> {
    annotations
        .keys()
        .filter(|key| {
            key.split_once('/')
                .is_some_and(|(domain, _)| domain == TONNAGE_GROUP)
        })
        .map(String::as_str)
        .filter(|key| {
            settings_table::TABLE
                .iter()
                .all(|row| row.key.annotation() != *key)
        })
        .collect()
}

struct Reader<'a> {
    annotations: &'a BTreeMap<String, String>,
    problems: Vec<Problem>,
}

impl Reader<'_> {
    /// Reads one setting; a value that cannot be read is a problem and counts as `on_bad`, or as
    /// unset.
    fn read<T>(&mut self, key: Key, parse: impl Fn(&str) -> Option<T>, on_bad: Option<T>) -> T {
        if let Some(text) = self.annotations.get(key.annotation()) {
            match parse(text) {
                Some(value) => return value,
                None => self.complain(key, text),
            }
            if let Some(value) = on_bad {
                return value;
            }
        }
        parse(key.default_text())
            .expect("a default of the settings table can be read; tested for every key")
    }

    fn read_optional<T>(&mut self, key: Key, parse: impl Fn(&str) -> Option<T>) -> Option<T> {
        let text = self.annotations.get(key.annotation())?;
        let value = parse(text);
        if value.is_none() {
            self.complain(key, text);
        }
        value
    }

    fn complain(&mut self, key: Key, text: &str) {
        self.problems.push(Problem::new(
            format!("metadata.annotations[{}]", key.annotation()),
            format!("{text:?} is not {}", key.row().kind),
            format!(
                "write for example {:?}, or remove the annotation",
                key.row().example
            ),
        ));
    }
}

fn boolean(text: &str) -> Option<bool> {
    match text {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}

fn count(text: &str) -> Option<u32> {
    text.bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| text.parse().ok())
        .flatten()
}

fn percent(text: &str, most: u32) -> Option<u32> {
    count(text).filter(|percent| *percent <= most)
}

fn positive_duration(text: &str) -> Option<Duration> {
    duration::parse(text).ok().filter(|value| !value.is_zero())
}

#[expect(
    clippy::option_option,
    reason = "the outer level says whether the text could be read, the inner is Never"
)]
fn duration_or_never(text: &str) -> Option<Option<Duration>> {
    if text == "Never" {
        Some(None)
    } else {
        positive_duration(text).map(Some)
    }
}

/// A decimal number of US dollars of 0 or more, in units of 10⁻¹⁰.
fn price(text: &str) -> Option<i64> {
    scaled(text, PRICE_DECIMALS)
}

fn thousandths(text: &str) -> Option<u32> {
    scaled(text, 3).and_then(|value| u32::try_from(value).ok())
}

/// A plain decimal of 0 or more as a whole number of its last decimal; exact or nothing.
fn scaled(text: &str, decimals: usize) -> Option<i64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(whole) || !is_number(fraction) || fraction.len() > decimals {
        return None;
    }
    format!("{whole}{fraction:0<decimals$}").parse().ok()
}

/// The form of an IANA name; whether the zone exists is known where the zone data is.
fn time_zone(text: &str) -> Option<String> {
    let is_part = |part: &str| {
        part.bytes()
            .next()
            .is_some_and(|byte| byte.is_ascii_alphabetic())
            && part
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"_-+".contains(&byte))
    };
    text.split('/').all(is_part).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn annotations(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(key, value)| (format!("tonnage.dev/{key}"), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn without_annotations_everything_has_its_default() {
        let (settings, problems) = NodePoolSettings::parse(&BTreeMap::new());
        assert_eq!(problems, []);
        assert!(!settings.paused);
        assert_eq!(settings.launch_timeout, Duration::from_mins(5));
        assert_eq!(settings.registration_timeout, Duration::from_mins(15));
        assert_eq!(settings.initialization_timeout, None);
        assert_eq!(settings.spot_percent, None);
        assert_eq!(settings.budget_time_zone, "UTC");
    }

    #[test]
    fn every_setting_is_read() {
        let (settings, problems) = NodePoolSettings::parse(&annotations(&[
            ("paused", "true"),
            ("acknowledge-orphans", "sweep-17"),
            ("launch-timeout", "90s"),
            ("registration-timeout", "10m"),
            ("initialization-timeout", "1h"),
            ("usd-per-node-hour", "0.0125"),
            ("on-demand-base", "3"),
            ("spot-percent", "70"),
            ("max-usd-per-hour", "1.5"),
            ("max-percent-of-on-demand", "60"),
            ("alternative-price-band-percent", "15"),
            ("risk-weight", "0.5"),
            ("protect", "Job; team=ml"),
            ("budget-time-zone", "Europe/Berlin"),
        ]));
        assert_eq!(problems, []);
        assert!(settings.paused);
        assert_eq!(settings.acknowledged_orphans.as_deref(), Some("sweep-17"));
        assert_eq!(settings.launch_timeout, Duration::from_secs(90));
        assert_eq!(settings.registration_timeout, Duration::from_mins(10));
        assert_eq!(
            settings.initialization_timeout,
            Some(Duration::from_hours(1))
        );
        assert_eq!(settings.node_fee, 125_000_000);
        assert_eq!(settings.on_demand_base, 3);
        assert_eq!(settings.spot_percent, Some(70));
        assert_eq!(settings.max_price, Some(15_000_000_000));
        assert_eq!(settings.max_percent_of_on_demand, Some(60));
        assert_eq!(settings.alternative_price_band_percent, Some(15));
        assert_eq!(settings.risk_weight_thousandths, 500);
        assert_eq!(settings.budget_time_zone, "Europe/Berlin");
    }

    #[test]
    fn a_bad_value_names_key_and_value_and_hides_no_other() {
        let (settings, problems) = NodePoolSettings::parse(&annotations(&[
            ("spot-percent", "120"),
            ("launch-timeout", "fast"),
            ("registration-timeout", "20m"),
        ]));
        assert_eq!(settings.registration_timeout, Duration::from_mins(20));
        assert_eq!(settings.launch_timeout, Duration::from_mins(5));
        let texts: Vec<String> = problems.iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [
                "metadata.annotations[tonnage.dev/launch-timeout]: \"fast\" is not a duration above zero; write for \
                 example \"5m\", or remove the annotation",
                "metadata.annotations[tonnage.dev/spot-percent]: \"120\" is not a whole number from 0 to 100; write \
                 for example \"70\", or remove the annotation",
            ]
        );
    }

    #[test]
    fn an_unreadable_pause_pauses() {
        for (text, paused) in [("true", true), ("false", false), ("yes", true), ("", true)] {
            let annotations = annotations(&[("paused", text)]);
            assert_eq!(is_paused(&annotations), paused, "{text}");
            assert_eq!(
                NodePoolSettings::parse(&annotations).0.paused,
                paused,
                "{text}"
            );
        }
        assert!(!is_paused(&BTreeMap::new()));
    }

    #[test]
    fn every_default_and_every_example_can_be_read() {
        for row in settings_table::TABLE {
            for text in [row.example].into_iter().chain(row.default) {
                let annotations =
                    BTreeMap::from([(row.key.annotation().to_owned(), text.to_owned())]);
                let (_, problems) = NodePoolSettings::parse(&annotations);
                assert_eq!(problems, [], "{}", row.key.annotation());
            }
        }
    }

    #[test]
    fn a_typing_error_in_a_key_is_found() {
        let mut annotations = annotations(&[("spot-percents", "70"), ("paused", "false")]);
        annotations.insert("example.com/x".into(), "y".into());
        assert_eq!(
            unknown_settings(&annotations),
            ["tonnage.dev/spot-percents"]
        );
    }

    #[test]
    fn prices_are_exact_or_refused() {
        assert_eq!(price("0.1"), Some(1_000_000_000));
        assert_eq!(price("2"), Some(20_000_000_000));
        for bad in [
            "",
            "-1",
            "1.",
            ".5",
            "1e3",
            "0.00000000001",
            "99999999999999999999",
        ] {
            assert_eq!(price(bad), None, "{bad}");
        }
    }
}
