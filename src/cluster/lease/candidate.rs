//! When a lease may be taken.
//!
//! Given what the API server holds, again and again, and the instants at which that was seen; given
//! back whether the lease may be taken now, or from when on. Whether a holder still lives follows
//! from its record changing, timed by this machine's monotonic clock. The times in a record were
//! written by another machine's clock and are compared for equality only. Nothing is written here.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use tokio::time::Instant;

/// What a Lease says, as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Record {
    /// Who holds it; `None` when it was released.
    pub(super) holder: Option<String>,
    /// When the holder took it, by the holder's clock.
    pub(super) acquired: Option<Timestamp>,
    /// When the holder last renewed it, by the holder's clock.
    pub(super) renewed: Option<Timestamp>,
    /// How long the others wait after a change, seconds.
    pub(super) seconds: Option<i32>,
    /// Counts the terms.
    pub(super) transitions: i32,
    /// The object's version, as it was read: a record that is set back to what it once was is another.
    version: Option<String>,
}

impl Record {
    /// Reads a Lease.
    pub(super) fn of(lease: &Lease) -> Self {
        let spec = lease.spec.clone().unwrap_or_default();
        Self {
            holder: spec.holder_identity.filter(|holder| !holder.is_empty()),
            acquired: spec.acquire_time.map(|time| time.0),
            renewed: spec.renew_time.map(|time| time.0),
            seconds: spec.lease_duration_seconds,
            transitions: spec.lease_transitions.unwrap_or(0),
            version: lease.metadata.resource_version.clone(),
        }
    }

    /// Writes it into a Lease that was read, or into a new one.
    pub(super) fn into_lease(self, name: &str, found: Option<&Lease>) -> Lease {
        let mut lease = found.cloned().unwrap_or_else(|| Lease {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                ..ObjectMeta::default()
            },
            spec: None,
        });
        lease.spec = Some(LeaseSpec {
            holder_identity: self.holder,
            acquire_time: self.acquired.map(MicroTime),
            renew_time: self.renewed.map(MicroTime),
            lease_duration_seconds: self.seconds,
            lease_transitions: Some(self.transitions),
            ..LeaseSpec::default()
        });
        lease
    }
}

/// Whether the lease may be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Now, if it is still as it was seen.
    Take,
    /// Not before then, and then only if nothing has changed.
    Wait(Instant),
}

/// One who would take the lease.
#[derive(Debug)]
pub(super) struct Candidate {
    identity: String,
    duration: Duration,
    seen: Option<Seen>,
    /// The last try to take the lease, as long as nobody else was seen to hold it since.
    tried: Option<Tried>,
}

/// How this process took the lease, or tried to. A renewal keeps what the record says of it.
#[derive(Debug, Clone, Copy)]
struct Tried {
    acquired: Timestamp,
    transitions: i32,
    /// When the try was sent, or the last renewal that was granted.
    sent: Instant,
}

/// The record as it was first seen.
#[derive(Debug)]
struct Seen {
    record: Record,
    at: Instant,
    /// It is the end of the very term that was seen before it.
    let_go: bool,
}

impl Candidate {
    /// Knows nothing yet.
    pub(super) fn new(identity: String, duration: Duration) -> Self {
        Self {
            identity,
            duration,
            seen: None,
            tried: None,
        }
    }

    /// True for a record that names this process.
    pub(super) fn is_named_by(&self, record: &Record) -> bool {
        record.holder.as_ref() == Some(&self.identity)
    }

    /// True while this process may be the holder.
    pub(super) fn may_hold(&self) -> bool {
        self.tried.is_some()
    }

    /// Looks at what the API server held a moment ago.
    ///
    /// A Lease that names nobody may be from before, as after a restore of the API server, or stand for
    /// one that was deleted; who holds it learns of that only when it renews. So what was not seen to be
    /// let go counts as held until a whole lease has passed.
    pub(super) fn look(&mut self, found: &Record, now: Instant) -> Verdict {
        let mine = self.is_mine(found, now);
        if self.seen.as_ref().is_none_or(|seen| seen.record != *found) {
            self.saw(found.clone(), now);
        }
        if mine || self.seen.as_ref().is_some_and(|seen| seen.let_go) {
            return Verdict::Take;
        }
        if !self.is_named_by(found) {
            self.tried = None;
        }
        let until = self.expiry(now);
        if now >= until {
            Verdict::Take
        } else {
            Verdict::Wait(until)
        }
    }

    /// True for the record of an own term that nobody can have followed yet: the others wait a whole lease
    /// from when they see it. Later it may be one that was set back, and whoever followed does not know.
    pub(super) fn is_mine(&self, record: &Record, now: Instant) -> bool {
        self.tried.is_some_and(|tried| {
            let claim = (Some(tried.acquired), tried.transitions);
            self.is_named_by(record)
                && claim == (record.acquired, record.transitions)
                && now < tried.sent + self.duration
        })
    }

    /// What is written where no Lease is: nobody holds it, and what its last holder promised still counts.
    ///
    /// Who sees twice that there is none does not know what was there in between. A record that names nobody
    /// has a version, and is taken only if it is still that very one a whole lease later.
    pub(super) fn nobody(&self) -> Record {
        let last = self.seen.as_ref().map(|seen| &seen.record);
        Record {
            seconds: last
                .and_then(|last| last.seconds)
                .or_else(|| self.seconds()),
            // Another term than the last: it was not let go.
            transitions: last.map_or(0, |last| last.transitions.saturating_add(1)),
            ..Record::default()
        }
    }

    /// A renewal that was sent then was granted.
    pub(super) fn renewed(&mut self, sent: Instant) {
        if let Some(tried) = &mut self.tried {
            tried.sent = sent;
        }
    }

    /// Remembers what this process wrote last as the holder, so that a Lease that is deleted or
    /// replaced then is waited for like any other. As long as it is still that very record nobody has
    /// followed.
    pub(super) fn stopped(&mut self, record: Record, now: Instant) {
        let sent = self.tried.map_or(now, |tried| tried.sent);
        self.saw(record, sent);
    }

    fn saw(&mut self, record: Record, now: Instant) {
        let let_go = self.seen.as_ref().is_some_and(|seen| {
            let term = |record: &Record| (record.acquired, record.transitions);
            seen.record.holder.is_some()
                && record.holder.is_none()
                && term(&seen.record) == term(&record)
        });
        self.seen = Some(Seen {
            record,
            at: now,
            let_go,
        });
    }

    /// When what was seen last has run out.
    fn expiry(&self, now: Instant) -> Instant {
        let Some(seen) = &self.seen else {
            return now + self.duration;
        };
        // What the holder promised counts: it may have been started with other settings.
        let promised = seen.record.seconds.and_then(|n| u64::try_from(n).ok());
        let duration = promised
            .filter(|seconds| *seconds > 0)
            .map_or(self.duration, Duration::from_secs);
        seen.at + duration
    }

    /// The record that takes the lease over from what was found.
    pub(super) fn take(&mut self, found: &Record, now: Timestamp, sent: Instant) -> Record {
        let renewed = after(found, now);
        // Counted also when it was this process that held it: each term is another one.
        let transitions = found.transitions.saturating_add(1);
        self.tried = Some(Tried {
            acquired: renewed,
            transitions,
            sent,
        });
        Record {
            holder: Some(self.identity.clone()),
            acquired: Some(renewed),
            renewed: Some(renewed),
            seconds: self.seconds(),
            transitions,
            version: None,
        }
    }

    /// The record that renews one that names this process.
    pub(super) fn renew(&self, found: &Record, now: Timestamp) -> Record {
        Record {
            renewed: Some(after(found, now)),
            seconds: self.seconds(),
            ..found.clone()
        }
    }

    /// The record that lets it go.
    pub(super) fn release(&mut self, found: &Record, now: Timestamp) -> Record {
        self.tried = None;
        Record {
            holder: None,
            renewed: Some(after(found, now)),
            ..found.clone()
        }
    }

    fn seconds(&self) -> Option<i32> {
        let whole = self.duration.as_secs() + u64::from(self.duration.subsec_nanos() > 0);
        i32::try_from(whole).ok()
    }
}

/// A time that differs from the record's, in the microseconds that the API keeps: a renewal that
/// changed nothing would not be seen by anybody, whatever the clock does.
fn after(found: &Record, now: Timestamp) -> Timestamp {
    let micros = |at: Timestamp| at.as_microsecond();
    let latest = found.renewed.max(found.acquired).map_or(i64::MIN, micros);
    let next = micros(now).max(latest.saturating_add(1));
    Timestamp::from_microsecond(next).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(9);

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn candidate(name: &str) -> Candidate {
        Candidate::new(name.to_owned(), LEASE)
    }

    fn version(version: &str, record: &Record) -> Record {
        Record {
            version: Some(version.to_owned()),
            ..record.clone()
        }
    }

    fn later(seconds: u64) -> Instant {
        Instant::now() + Duration::from_secs(seconds)
    }

    #[tokio::test(start_paused = true)]
    async fn a_holder_that_changes_nothing_for_a_whole_lease_has_lost_it() {
        let (mut a, mut b) = (candidate("a"), candidate("b"));
        let first = a.take(&Record::default(), at(0), later(0));
        assert_eq!(b.look(&first, later(0)), Verdict::Wait(later(9)));
        let second = a.renew(&first, at(3));
        assert_eq!(b.look(&second, later(4)), Verdict::Wait(later(13)));
        assert_eq!(b.look(&second, later(12)), Verdict::Wait(later(13)));
        assert_eq!(b.look(&second, later(13)), Verdict::Take);
        let taken = b.take(&second, at(13), later(13));
        assert_eq!((taken.holder.as_deref(), taken.transitions), (Some("b"), 2));
    }

    #[tokio::test(start_paused = true)]
    async fn clocks_of_other_machines_do_not_matter() {
        let (mut a, mut b) = (candidate("a"), candidate("b"));
        // An hour behind, and standing still: each renewal is another record all the same.
        let first = a.take(&Record::default(), at(-3_600), later(0));
        assert_eq!(b.look(&first, later(0)), Verdict::Wait(later(9)));
        let second = a.renew(&first, at(-3_600));
        assert_ne!(first, second);
        assert_eq!(b.look(&second, later(8)), Verdict::Wait(later(17)));
        // An hour ahead: it is dead all the same.
        let third = a.renew(&second, at(3_600));
        assert_eq!(b.look(&third, later(9)), Verdict::Wait(later(18)));
        assert_eq!(b.look(&third, later(18)), Verdict::Take);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_let_go_is_free_at_once_for_those_who_see_it_happen() {
        let (mut a, mut b) = (candidate("a"), candidate("b"));
        let first = a.take(&Record::default(), at(0), later(0));
        b.look(&first, later(0));
        let released = a.release(&first, at(1));
        assert_eq!(b.look(&released, later(1)), Verdict::Take);
        let second = a.take(&released, at(2), later(2));
        b.look(&second, later(2));
        // Who has just come does not know whether that is old.
        let mut c = candidate("c");
        assert_eq!(c.look(&released, later(2)), Verdict::Wait(later(11)));
        assert_eq!(c.look(&released, later(11)), Verdict::Take);
        // The API server was restored: the holder does not know yet.
        assert_eq!(b.look(&released, later(3)), Verdict::Wait(later(12)));
        assert_eq!(b.look(&released, later(4)), Verdict::Wait(later(12)));
        assert_eq!(b.look(&released, later(12)), Verdict::Take);
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_that_is_not_there_counts_as_held_for_as_long_as_one_lasts() {
        let (mut a, mut b) = (candidate("a"), candidate("b"));
        let made = version("1", &b.nobody());
        assert_eq!(b.look(&made, later(0)), Verdict::Wait(later(9)));
        assert_eq!(b.look(&made, later(9)), Verdict::Take);
        let first = a.take(&made, at(9), later(9));
        assert_eq!(b.look(&first, later(9)), Verdict::Wait(later(18)));
        // The holder may have renewed it just before it was deleted.
        let again = version("5", &b.nobody());
        assert_eq!(b.look(&again, later(10)), Verdict::Wait(later(19)));
        assert_eq!(b.look(&again, later(18)), Verdict::Wait(later(19)));
        // Another took it and it was deleted once more, while nobody looked.
        let newest = version("9", &b.nobody());
        assert_eq!(b.look(&newest, later(19)), Verdict::Wait(later(28)));
        assert_eq!(b.look(&newest, later(28)), Verdict::Take);
    }

    #[test]
    fn a_lease_that_names_nobody_promises_what_its_last_holder_did() {
        let mut b = candidate("b");
        assert_eq!(b.nobody().seconds, Some(9));
        let mut slow = Candidate::new("a".to_owned(), Duration::from_secs(30));
        b.look(&slow.take(&Record::default(), at(0), later(0)), later(0));
        assert_eq!(b.nobody().seconds, Some(30));
    }

    #[tokio::test(start_paused = true)]
    async fn an_own_attempt_without_an_answer_is_known_again() {
        let mut a = candidate("a");
        let first = a.take(&Record::default(), at(0), later(0));
        assert_eq!(a.look(&first, later(0)), Verdict::Take);
        let renewed = a.renew(&first, at(2));
        assert_eq!(a.look(&renewed, later(3)), Verdict::Take);
        // Somebody else held it since: the record is from before.
        let foreign = candidate("b").take(&renewed, at(9), later(9));
        assert_eq!(a.look(&foreign, later(9)), Verdict::Wait(later(18)));
        assert_eq!(a.look(&renewed, later(10)), Verdict::Wait(later(19)));
    }

    #[tokio::test(start_paused = true)]
    async fn an_own_term_that_is_set_back_after_others_may_have_followed_is_not_taken_up_again() {
        let mut a = candidate("a");
        let first = a.take(&Record::default(), at(0), later(0));
        a.renewed(later(3));
        assert_eq!(a.look(&first, later(11)), Verdict::Take);
        a.stopped(version("7", &first), later(9));
        // Nobody has written since: nobody has followed.
        assert_eq!(a.look(&version("7", &first), later(12)), Verdict::Take);
        // It was cut off, another took the lease meanwhile, and then the record was set back.
        let set_back = version("12", &first);
        assert_eq!(a.look(&set_back, later(12)), Verdict::Wait(later(21)));
        assert_eq!(a.look(&set_back, later(21)), Verdict::Take);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_set_back_while_nobody_looks_is_new() {
        let (mut a, mut b) = (candidate("a"), candidate("b"));
        let first = a.take(&Record::default(), at(0), later(0));
        b.look(&version("5", &first), later(0));
        let set_back = version("12", &first);
        assert_eq!(b.look(&set_back, later(20)), Verdict::Wait(later(29)));
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_holder_promised_counts() {
        let mut slow = Candidate::new("a".to_owned(), Duration::from_secs(30));
        let first = slow.take(&Record::default(), at(0), later(0));
        let mut b = candidate("b");
        assert_eq!(b.look(&first, later(0)), Verdict::Wait(later(30)));
    }

    #[test]
    fn a_record_survives_its_lease_and_keeps_what_others_wrote() {
        let mut a = candidate("a");
        let now = Timestamp::new(1_800_000_000, 123_456_789).unwrap();
        let record = a.take(&Record::default(), now, Instant::now());
        let mut lease = record.clone().into_lease("tonnage", None);
        lease.metadata.resource_version = Some("7".to_owned());
        let text = serde_json::to_string(&lease).unwrap();
        let read: Lease = serde_json::from_str(&text).unwrap();
        let version = Some("7".to_owned());
        let expected = Record {
            version,
            ..record.clone()
        };
        assert_eq!(Record::of(&read), expected);
        let renewed = a.renew(&record, now).into_lease("tonnage", Some(&read));
        assert_eq!(renewed.metadata, lease.metadata);
    }
}
