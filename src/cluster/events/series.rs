//! Which events are new and which only count.
//!
//! Given an event and the time, it says what to do about it. Memory is bounded. Nothing here waits.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::{Event, Subject};

/// How long after it was last seen an event counts as the same, as in client-go.
pub const WINDOW: SignedDuration = SignedDuration::from_mins(6);
/// How often at most the count of a repeated event is written.
const SERIES_INTERVAL: SignedDuration = SignedDuration::from_mins(5);
/// Events remembered for counting.
const MOST_REMEMBERED: usize = 4096;

/// What to do about an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// It is new: write it under this name.
    Create,
    /// It was written under the name before: write the count.
    Count { name: String, count: i32 },
    /// It was counted, and that is enough for now.
    Nothing,
}

/// The events seen lately.
#[derive(Debug, Default)]
pub(super) struct Series {
    seen: BTreeMap<(Subject, &'static str, String), Seen>,
}

#[derive(Debug)]
struct Seen {
    name: String,
    count: i32,
    last: Timestamp,
    written: Timestamp,
}

impl Series {
    /// Forgets an event that the API server has forgotten.
    pub(super) fn forget(&mut self, event: &Event) {
        let key = (event.subject.clone(), event.reason, event.message.clone());
        self.seen.remove(&key);
    }

    /// Counts an event and says what to do about it.
    pub(super) fn step(&mut self, event: &Event, now: Timestamp) -> Step {
        let key = (event.subject.clone(), event.reason, event.message.clone());
        if let Some(seen) = self.seen.get_mut(&key)
            && now.duration_since(seen.last) < WINDOW
        {
            seen.count = seen.count.saturating_add(1);
            seen.last = now;
            if now.duration_since(seen.written) < SERIES_INTERVAL {
                return Step::Nothing;
            }
            seen.written = now;
            return Step::Count {
                name: seen.name.clone(),
                count: seen.count,
            };
        }
        Step::Create
    }

    /// Remembers an event that was written.
    pub(super) fn written(&mut self, event: &Event, name: String, now: Timestamp) {
        if self.seen.len() >= MOST_REMEMBERED {
            self.seen
                .retain(|_key, seen| now.duration_since(seen.last) < WINDOW);
        }
        if self.seen.len() >= MOST_REMEMBERED {
            let oldest = self
                .seen
                .iter()
                .min_by_key(|(_key, seen)| seen.last)
                .map(|(key, _seen)| key.clone());
            if let Some(oldest) = oldest {
                self.seen.remove(&oldest);
            }
        }
        let key = (event.subject.clone(), event.reason, event.message.clone());
        self.seen.insert(
            key,
            Seen {
                name,
                count: 1,
                last: now,
                written: now,
            },
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::events::EventKind;

    fn event(message: &str) -> Event {
        Event {
            subject: Subject::node_pool("general", "1-2-3"),
            kind: EventKind::Warning,
            reason: "NodeClassNotFound",
            action: "Validating",
            message: message.to_owned(),
        }
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    #[test]
    fn the_same_event_is_counted_and_the_count_is_written_now_and_then() {
        let mut series = Series::default();
        assert_eq!(series.step(&event("a"), at(0)), Step::Create);
        series.written(&event("a"), "general.x".to_owned(), at(0));
        for second in 1..300 {
            assert_eq!(series.step(&event("a"), at(second)), Step::Nothing);
        }
        assert_eq!(
            series.step(&event("a"), at(300)),
            Step::Count {
                name: "general.x".to_owned(),
                count: 301
            }
        );
        assert_eq!(series.step(&event("b"), at(300)), Step::Create);
        // Nothing for longer than the window: a new story.
        assert_eq!(series.step(&event("a"), at(300 + 360)), Step::Create);
    }

    #[test]
    fn memory_is_bounded_whatever_comes() {
        let mut series = Series::default();
        for number in 0..i64::try_from(MOST_REMEMBERED + 100).unwrap() {
            let event = event(&number.to_string());
            assert_eq!(series.step(&event, at(number / 1000)), Step::Create);
            series.written(&event, "n".to_owned(), at(number / 1000));
        }
        assert_eq!(series.seen.len(), MOST_REMEMBERED);
    }
}
