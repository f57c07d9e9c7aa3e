//! Nobody acts without the lease: every write of a controller, to the cluster or to EC2, at the moment
//! at which it takes effect.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::mpsc::UnboundedReceiver;
use tonnage::settings::LeaseSettings;
use tonnage::sim::Embedded;
use tonnage::sim::history::Line;

/// Controllers have names that begin so, each its own.
pub(crate) const PREFIX: &str = "tonnage-";

/// Watches who acts.
#[derive(Debug)]
pub(crate) struct Leadership {
    lines: UnboundedReceiver<Line>,
    /// When each controller last renewed the lease, as the API server has it; gone when it let go.
    renewed: BTreeMap<String, Timestamp>,
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
    pub(crate) fn watch(world: &Embedded) -> Self {
        Self {
            lines: world.history.listen(),
            renewed: BTreeMap::new(),
            terms: 0,
        }
    }

    /// How often a controller took the lease from another, or from nobody.
    pub(crate) const fn terms(&self) -> usize {
        self.terms
    }

    /// What was done since the last look by somebody who may not.
    pub(crate) fn violations(&mut self) -> Vec<String> {
        let mut violations = Vec::new();
        while let Ok(line) = self.lines.try_recv() {
            let who = text(&line, "client");
            let Ok(at) = line.at.parse::<Timestamp>() else {
                continue;
            };
            if !who.starts_with(PREFIX) {
                continue;
            }
            if text(&line, "object").starts_with("leases/") {
                self.lease(who, text(&line, "holder"), at, &mut violations);
                continue;
            }
            let deadline = LeaseSettings::default().renew_deadline;
            let renewed = self.renewed.get(who);
            if renewed.is_none_or(|renewed| !within(*renewed, at, deadline)) {
                let deed = line.text();
                violations.push(format!(
                    "{who} acted without the lease, renewed {renewed:?}: {deed}"
                ));
            }
        }
        violations
    }

    fn lease(&mut self, who: &str, holder: &str, at: Timestamp, violations: &mut Vec<String>) {
        if holder.is_empty() {
            self.renewed.remove(who);
            return;
        }
        if !self.renewed.contains_key(who) {
            self.terms += 1;
        }
        let duration = LeaseSettings::default().duration;
        self.renewed.retain(|other, renewed| {
            let lasts = other != who && within(*renewed, at, duration);
            if lasts {
                violations.push(format!(
                    "{who} took the lease at {at}, {other} had renewed it at {renewed}"
                ));
            }
            // From now on the other may not act, whatever it knows.
            other == who
        });
        self.renewed.insert(who.to_owned(), at);
    }
}
