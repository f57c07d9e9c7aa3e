//! Nobody acts without the lease: every write of a controller, to the cluster or to EC2, at the moment
//! at which it takes effect.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use tonnage::settings::LeaseSettings;
use tonnage::sim::history::Line;

/// Controllers have names that begin so, each its own.
pub(crate) const PREFIX: &str = "tonnage-";

/// When each controller renewed the lease last.
pub(crate) type Renewals = BTreeMap<String, Timestamp>;

/// Who acted so far.
#[derive(Debug, Default)]
pub(crate) struct Leadership {
    /// When each controller last renewed the lease, as the API server has it; gone when it let go.
    renewed: Renewals,
    /// What the API server has of that instead since it went back to a backup, and since when.
    restored: Option<(Timestamp, Renewals)>,
    terms: usize,
}

fn text<'line>(line: &'line Line, field: &str) -> &'line str {
    let value = line.fields.get(field).and_then(|value| value.as_str());
    value.unwrap_or_default()
}

fn within(since: Timestamp, at: Timestamp, most: std::time::Duration) -> bool {
    let most = SignedDuration::try_from(most).unwrap_or_default();
    at.duration_since(since) < most
}

impl Leadership {
    /// How often a controller took the lease from another, or from nobody.
    pub(crate) const fn terms(&self) -> usize {
        self.terms
    }

    /// The renewals that a backup of now has.
    pub(crate) fn renewals(&self) -> Renewals {
        self.renewed.clone()
    }

    /// The API server has gone back to a backup, in which the last renewals are missing: who waited for the lease may take
    /// it as much earlier. Whoever had it must act no more then, as ever.
    pub(crate) fn restored(&mut self, at: Timestamp, renewals: Renewals) {
        self.restored = Some((at, renewals));
    }

    /// Takes in what happened; `violations` gets what was done by somebody who may not.
    pub(crate) fn take(&mut self, line: &Line, violations: &mut BTreeSet<String>) {
        let who = text(line, "client");
        if !who.starts_with(PREFIX) {
            return;
        }
        let Ok(at) = line.at.parse::<Timestamp>() else {
            return;
        };
        if text(line, "object").starts_with("leases/") {
            self.lease(who, text(line, "holder"), at, violations);
            return;
        }
        let deadline = LeaseSettings::default().renew_deadline;
        let renewed = self.renewed.get(who);
        if renewed.is_none_or(|renewed| !within(*renewed, at, deadline)) {
            let deed = line.text();
            violations.insert(format!(
                "{who} acted without the lease, renewed {renewed:?}: {deed}"
            ));
        }
    }

    fn lease(&mut self, who: &str, holder: &str, at: Timestamp, violations: &mut BTreeSet<String>) {
        if holder.is_empty() {
            self.renewed.remove(who);
            return;
        }
        if !self.renewed.contains_key(who) {
            self.terms += 1;
        }
        let duration = LeaseSettings::default().duration;
        let restored = self.restored.as_ref();
        self.renewed.retain(|other, renewed| {
            let taken_back = restored.filter(|(restored, _before)| restored >= renewed);
            let shown = taken_back.map_or(Some(*renewed), |(_restored, before)| {
                before.get(other).copied()
            });
            let lasts = other != who && shown.is_some_and(|renewed| within(renewed, at, duration));
            if lasts {
                violations.insert(format!(
                    "{who} took the lease at {at}, {other} had renewed it at {renewed}"
                ));
            }
            // From now on the other may not act, whatever it knows.
            other == who
        });
        self.renewed.insert(who.to_owned(), at);
    }
}
