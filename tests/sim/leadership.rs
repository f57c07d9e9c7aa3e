//! Nobody acts without the lease: every write of a controller, to the cluster or to EC2, at the moment
//! at which it was sent. When it takes effect is up to the network.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, json};
use tonnage::settings::LeaseSettings;
use tonnage::sim::history::Line;

use crate::acts::field;

/// Controllers have names that begin so, each its own.
pub(crate) const PREFIX: &str = "tonnage-";

/// Virtual time has no finer moments.
const MOMENT: SignedDuration = SignedDuration::from_millis(1);

/// When each controller renewed the lease last.
pub(crate) type Renewals = BTreeMap<String, Timestamp>;

/// When a controller may send what changes something: from the one moment on, before the other.
#[derive(Debug, Clone, Copy)]
struct Span {
    begin: Timestamp,
    end: Timestamp,
}

/// Who acted so far.
#[derive(Debug, Default)]
pub(crate) struct Leadership {
    /// When each controller last renewed the lease, as the API server has it; gone when it let go.
    renewed: Renewals,
    /// When each controller was allowed to act, in order. What it sent then may come after it let go, or lost the lease.
    allowed: BTreeMap<String, Vec<Span>>,
    /// What the API server has of that instead since it went back to a backup, and since when.
    restored: Option<(Timestamp, Renewals)>,
    terms: usize,
}

/// When that was sent of which a line tells; what nobody sent happens at once.
pub(crate) fn sent(line: &Line) -> Option<Timestamp> {
    let sent = field(line, "sent");
    let moment = if sent.is_empty() {
        line.at.as_str()
    } else {
        sent
    };
    moment.parse().ok()
}

fn signed(duration: Duration) -> SignedDuration {
    SignedDuration::try_from(duration).unwrap_or_default()
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
    /// it as much earlier. Whoever had it must act no more then, as ever, but for one whose taking it the backup does not
    /// know: see [`Self::undone`].
    pub(crate) fn restored(&mut self, at: Timestamp, renewals: Renewals) {
        self.restored = Some((at, renewals));
    }

    /// Takes in what happened; `violations` gets what was done by somebody who may not.
    pub(crate) fn take(&mut self, line: &Line, violations: &mut BTreeSet<String>) {
        let who = field(line, "client");
        if !who.starts_with(PREFIX) {
            return;
        }
        let (Ok(at), Some(sent)) = (line.at.parse::<Timestamp>(), sent(line)) else {
            return;
        };
        if field(line, "object").starts_with("leases/") {
            self.lease(who, field(line, "holder"), (at, sent), violations);
            return;
        }
        let mut allowed = self.allowed.get(who).into_iter().flatten();
        if !allowed.any(|span| span.begin <= sent && sent < span.end) {
            let renewed = self.renewed.get(who);
            let deed = line.text();
            violations.insert(format!(
                "{who} acted without the lease, renewed {renewed:?}: {deed}"
            ));
        }
    }

    fn lease(
        &mut self,
        who: &str,
        holder: &str,
        (at, sent): (Timestamp, Timestamp),
        violations: &mut BTreeSet<String>,
    ) {
        if holder.is_empty() {
            self.renewed.remove(who);
            // It lets go when nothing is sent any more, which may have been a moment before.
            self.end(|other| other == who, sent + MOMENT);
            return;
        }
        if !self.renewed.contains_key(who) {
            self.terms += 1;
        }
        let duration = signed(LeaseSettings::default().duration);
        let restored = self.restored.as_ref();
        self.renewed.retain(|other, renewed| {
            let taken_back = restored.filter(|(restored, _before)| restored >= renewed);
            let shown = taken_back.map_or(Some(*renewed), |(_restored, before)| {
                before.get(other).copied()
            });
            let lasts =
                other != who && shown.is_some_and(|renewed| at.duration_since(renewed) < duration);
            if lasts {
                violations.insert(format!(
                    "{who} took the lease at {at}, {other} had renewed it at {renewed}"
                ));
            }
            other == who
        });
        self.renewed.insert(who.to_owned(), at);
        // From now on the others may not act, whatever they know.
        let undone = self.undone();
        self.end(|other| other != who && !undone.contains(other), at);
        self.begin(
            who,
            at,
            sent + signed(LeaseSettings::default().renew_deadline),
        );
    }

    /// Those who had just taken the lease when the API server went back to a backup from before. Who had waited for the same
    /// end of a term takes it as they did, and nothing tells the one of the other before they renew.
    fn undone(&self) -> BTreeSet<String> {
        let Some((restored, before)) = &self.restored else {
            return BTreeSet::new();
        };
        let mut undone = BTreeSet::new();
        for (who, spans) in &self.allowed {
            let has_taken = spans.last().is_some_and(|span| span.begin <= *restored);
            if has_taken && !before.contains_key(who) {
                undone.insert(who.clone());
            }
        }
        undone
    }

    /// A controller may act from now on, or still, before a moment: it counts from when it sent what it was granted.
    fn begin(&mut self, who: &str, at: Timestamp, end: Timestamp) {
        let spans = self.allowed.entry(who.to_owned()).or_default();
        match spans.last_mut() {
            Some(last) if at <= last.end => last.end = last.end.max(end),
            _ => spans.push(Span { begin: at, end }),
        }
    }

    /// These controllers may not act from a moment on.
    fn end(&mut self, these: impl Fn(&str) -> bool, at: Timestamp) {
        let all = self.allowed.iter_mut();
        let spans = all.filter(|(who, _spans)| these(who));
        for (_who, spans) in spans {
            if let Some(last) = spans.last_mut() {
                last.end = last.end.min(at);
            }
        }
    }
}

/// Whether who acts too late is told from who acted in time and is heard late: of five calls of controllers that lost
/// the lease, the one that was sent in time may come at any time, and the others may not come at all.
pub(crate) fn tells_senders_apart() -> bool {
    let at = |seconds: i64| {
        let begun = Timestamp::UNIX_EPOCH + SignedDuration::from_secs(seconds);
        begun.to_string()
    };
    let line = |event, who: &str, (came, sent): (i64, i64), holder: Option<&str>| {
        let mut fields = Map::new();
        fields.insert("client".to_owned(), json!(format!("{PREFIX}{who}")));
        fields.insert("sent".to_owned(), json!(at(sent)));
        if let Some(holder) = holder {
            fields.insert("object".to_owned(), json!("leases/default/tonnage"));
            fields.insert("holder".to_owned(), json!(holder));
        }
        Line {
            at: at(came),
            event,
            fields,
        }
    };
    let lines = [
        line("Write", "a", (0, 0), Some("a")),
        line("Write", "b", (20, 20), Some("b")),
        // In time, and too late by six seconds of its own, by the other's lease, and before its own.
        line("Call", "a", (100, 5), None),
        line("Call", "a", (6, 6), None),
        line("Call", "a", (101, 21), None),
        line("Call", "b", (22, 19), None),
        line("Write", "b", (23, 23), Some("")),
        line("Call", "b", (30, 24), None),
    ];
    let mut leadership = Leadership::default();
    let found = lines.iter().map(|line| {
        let mut violations = BTreeSet::new();
        leadership.take(line, &mut violations);
        violations.len()
    });
    found.eq([0, 0, 0, 1, 1, 1, 0, 1]) && tells_what_was_undone()
}

/// Whether only who took the lease after a backup to which the API server went back may act on: the other's renewals are
/// in the backup, and it must have stopped.
fn tells_what_was_undone() -> bool {
    let at = |seconds: i64| Timestamp::UNIX_EPOCH + SignedDuration::from_secs(seconds);
    let mut leadership = Leadership::default();
    for who in ["known", "undone"] {
        leadership.begin(who, at(0), at(10));
    }
    let backup = Renewals::from([("known".to_owned(), at(0))]);
    leadership.restored(at(1), backup);
    leadership.lease("other", "other", (at(2), at(2)), &mut BTreeSet::new());
    let until = |who: &str| leadership.allowed.get(who)?.last().map(|span| span.end);
    until("known") == Some(at(2)) && until("undone") == Some(at(10))
}
