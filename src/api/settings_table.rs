//! The one table of the `tonnage.dev/*` annotations of a NodePool.
//!
//! The reference page of the settings is generated from it, the reader takes its defaults from it,
//! and the notice about settings that nothing acts on yet comes from it.

/// A setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// `tonnage.dev/paused`
    Paused,
    /// `tonnage.dev/acknowledge-orphans`
    AcknowledgeOrphans,
    /// `tonnage.dev/launch-timeout`
    LaunchTimeout,
    /// `tonnage.dev/registration-timeout`
    RegistrationTimeout,
    /// `tonnage.dev/initialization-timeout`
    InitializationTimeout,
    /// `tonnage.dev/usd-per-node-hour`
    UsdPerNodeHour,
    /// `tonnage.dev/on-demand-base`
    OnDemandBase,
    /// `tonnage.dev/spot-percent`
    SpotPercent,
    /// `tonnage.dev/max-usd-per-hour`
    MaxUsdPerHour,
    /// `tonnage.dev/max-percent-of-on-demand`
    MaxPercentOfOnDemand,
    /// `tonnage.dev/alternative-price-band-percent`
    AlternativePriceBandPercent,
    /// `tonnage.dev/risk-weight`
    RiskWeight,
    /// `tonnage.dev/protect`
    Protect,
    /// `tonnage.dev/budget-time-zone`
    BudgetTimeZone,
}

/// Whether this version does what a setting or field says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Support {
    /// It does.
    ActedOn,
    /// It reads and checks the value, and says that it does nothing with it yet.
    NotYet,
}

/// One setting: what it is called, what it takes, what it means.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// The setting.
    pub key: Key,
    /// What its value is, in words that complete "... is not".
    pub kind: &'static str,
    /// A value that serves as an example.
    pub example: &'static str,
    /// The value it has when the annotation is missing; none means that nothing is set.
    pub default: Option<&'static str>,
    /// What it does, for users.
    pub meaning: &'static str,
    /// Whether this version does that.
    pub support: Support,
}

impl Key {
    /// The annotation's key.
    pub const fn annotation(self) -> &'static str {
        match self {
            Self::Paused => super::labels::PAUSED,
            Self::AcknowledgeOrphans => "tonnage.dev/acknowledge-orphans",
            Self::LaunchTimeout => "tonnage.dev/launch-timeout",
            Self::RegistrationTimeout => "tonnage.dev/registration-timeout",
            Self::InitializationTimeout => "tonnage.dev/initialization-timeout",
            Self::UsdPerNodeHour => "tonnage.dev/usd-per-node-hour",
            Self::OnDemandBase => "tonnage.dev/on-demand-base",
            Self::SpotPercent => "tonnage.dev/spot-percent",
            Self::MaxUsdPerHour => "tonnage.dev/max-usd-per-hour",
            Self::MaxPercentOfOnDemand => "tonnage.dev/max-percent-of-on-demand",
            Self::AlternativePriceBandPercent => "tonnage.dev/alternative-price-band-percent",
            Self::RiskWeight => "tonnage.dev/risk-weight",
            Self::Protect => "tonnage.dev/protect",
            Self::BudgetTimeZone => "tonnage.dev/budget-time-zone",
        }
    }

    /// The setting's row of the table.
    pub(super) fn row(self) -> &'static Row {
        TABLE
            .iter()
            .find(|row| row.key == self)
            .unwrap_or(&TABLE[0])
    }

    /// The text of the default; empty when nothing is set by default.
    pub(super) fn default_text(self) -> &'static str {
        self.row().default.unwrap_or_default()
    }
}

/// Every setting, those that act on the whole pool first.
pub const TABLE: &[Row] = &[
    Row {
        key: Key::Paused,
        kind: "true or false",
        example: "true",
        default: Some("false"),
        meaning: "Makes, removes and replaces no node of this pool. What is under way is finished: machines that were \
                  bought join, nodes that are being deleted go. Machines without a NodeClaim stay and are paid for: event \
                  `OrphansHeld` and `tonnage_orphans_held{reason=\"paused\"}` tell of them. A value that is neither true nor \
                  false pauses.",
        support: Support::ActedOn,
    },
    Row {
        key: Key::AcknowledgeOrphans,
        kind: "the token that the event names",
        example: "sweep-17",
        default: None,
        meaning: "Allows a collection of orphaned machines to go on that stopped because it would have ended too many \
                  at once. The condition and the event say which token to write.",
        support: Support::ActedOn,
    },
    Row {
        key: Key::LaunchTimeout,
        kind: "a duration above zero",
        example: "5m",
        default: Some("5m"),
        meaning: "How long a NodeClaim may take to get a machine before it is given up.",
        support: Support::ActedOn,
    },
    Row {
        key: Key::RegistrationTimeout,
        kind: "a duration above zero",
        example: "15m",
        default: Some("15m"),
        meaning: "How long a machine may take to join the cluster before it is terminated and replaced.",
        support: Support::ActedOn,
    },
    Row {
        key: Key::InitializationTimeout,
        kind: "a duration above zero or Never",
        example: "30m",
        default: Some("Never"),
        meaning: "How long a node may take to become usable (ready, startup taints gone, GPUs registered) before it is \
                  terminated and replaced.",
        support: Support::ActedOn,
    },
    Row {
        key: Key::UsdPerNodeHour,
        kind: "a decimal number of US dollars, at most ten decimals",
        example: "0.0125",
        default: Some("0"),
        meaning: "What each node costs per hour beside its machine, for example a licence. Counts like a part of the \
                  price, so fewer and larger nodes become cheaper.",
        support: Support::ActedOn,
    },
    Row {
        key: Key::OnDemandBase,
        kind: "a whole number of nodes",
        example: "3",
        default: Some("0"),
        meaning: "The least number of nodes of this pool that are on-demand: the first ones bought are. Pods that ask \
                  for spot themselves get it all the same.",
        support: Support::ActedOn,
    },
    Row {
        key: Key::SpotPercent,
        kind: "a whole number from 0 to 100",
        example: "70",
        default: None,
        meaning: "The share of this pool's nodes above `on-demand-base` that may be spot, in percent. Unset leaves it \
                  to the price.",
        support: Support::ActedOn,
    },
    Row {
        key: Key::MaxUsdPerHour,
        kind: "a decimal number of US dollars, at most ten decimals",
        example: "1.50",
        default: None,
        meaning: "Buys no machine that costs more per hour.",
        support: Support::ActedOn,
    },
    Row {
        key: Key::MaxPercentOfOnDemand,
        kind: "a whole number from 0 to 1000",
        example: "60",
        default: None,
        meaning: "Buys no spot machine that costs more than this share of its on-demand price, in percent.",
        support: Support::ActedOn,
    },
    Row {
        key: Key::AlternativePriceBandPercent,
        kind: "a whole number from 0 to 1000",
        example: "15",
        default: None,
        meaning: "How much more the alternatives of a launch may cost than the best offering of the same capacity type, \
                  in percent. Unset is what the controller's `--price-band-percent` says.",
        support: Support::ActedOn,
    },
    Row {
        key: Key::RiskWeight,
        kind: "a decimal number of 0 or more, at most three decimals",
        example: "0.5",
        default: Some("0.5"),
        meaning: "How much the expected cost of a spot interruption counts when offerings are compared: 0 not at all, \
                  1 in full, which is an hour of the machine for each interruption to be expected. It is part of no \
                  price that is shown or billed.",
        support: Support::ActedOn,
    },
    Row {
        key: Key::Protect,
        kind: "a list of owner kinds and label selectors, separated by semicolons",
        example: "Job; StatefulSet; team=ml,tier!=web",
        default: Some("Job"),
        meaning: "Pods that are never evicted voluntarily: those owned by one of the kinds, and those that match one \
                  of the label selectors. Empty protects none.",
        support: Support::NotYet,
    },
    Row {
        key: Key::BudgetTimeZone,
        kind: "the name of a time zone",
        example: "Europe/Berlin",
        default: Some("UTC"),
        meaning: "The time zone in which the schedules of `spec.disruption.budgets` are read.",
        support: Support::NotYet,
    },
];

/// The reference page of the settings, in Markdown.
pub fn markdown() -> String {
    let mut page = String::from(PREAMBLE);
    for row in TABLE {
        let default = row
            .default
            .map_or_else(|| "unset".to_owned(), |text| format!("`{text}`"));
        let support = match row.support {
            Support::ActedOn => "yes",
            Support::NotYet => "not yet",
        };
        let cells = [
            format!("`{}`", row.key.annotation()),
            row.kind.to_owned(),
            default,
            format!("`{}`", row.example),
        ];
        page.push_str("| ");
        page.push_str(&cells.join(" | "));
        page.push_str(" | ");
        page.push_str(row.meaning);
        page.push_str(" | ");
        page.push_str(support);
        page.push_str(" |\n");
    }
    page
}

const PREAMBLE: &str = "\
# Settings of a NodePool

<!-- Generated from src/api/settings_table.rs; `UPDATE_GOLDEN=1 cargo test --test it crds` writes it anew. -->

The shared NodePool has no field for these settings, so they are annotations on the NodePool (`metadata.annotations`).
Durations are written with hours, minutes and seconds: `90s`, `15m`, `1h30m`.
Flags of the controller may set other defaults for all NodePools (`tonnage controller --help`).
A value that cannot be read makes the NodePool not ready: `ValidationSucceeded` is `False` and names key, value and fix.
A setting that this version does not act on yet makes `FieldsActedOn` `False`; the pool works without it.
So does an annotation below `tonnage.dev/` that is not in this table.

| annotation | value | default | example | meaning | acted on |
|---|---|---|---|---|---|
";
