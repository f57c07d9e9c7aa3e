//! Which steps may run now: at most one for each key, none while its key rests.
//!
//! Given keys that start and finish at instants of monotonic time; given back whether a key may
//! start, and when the next resting one may. Failures of a key rest longer each time. Everything is
//! ordered, and the jitter comes from the injected stream, so a seed replays it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use crate::world::RandomStream;

/// How long a key rests after a success, so that the watch can show what the step wrote before it is
/// decided again. A watch event takes milliseconds; a late one only costs a repeated, idempotent
/// write.
const AFTER_SUCCESS: Duration = Duration::from_millis(250);
/// How long a key rests after its first failure.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// How long a key rests at most.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);
/// The number of failures that a blocked key counts at most: it rests for up to 8 s.
const MOST_BLOCKED: u32 = 4;
/// How long the failures of a key are remembered after its rest.
const REMEMBERED: Duration = Duration::from_mins(5);

/// How a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// It did what it should.
    Done,
    /// It should be tried again after a pause that grows.
    Failed,
    /// Somebody else does not allow it yet, for example a disruption budget: as a failure, but it is
    /// asked again soon enough to notice when that changes.
    Blocked,
    /// It found the world changed since the decision: decide again soon.
    Outdated,
}

#[derive(Debug, Clone, Copy)]
struct Rest {
    until: Instant,
    failures: u32,
}

/// The keys that run and rest.
#[derive(Debug)]
pub struct Queue {
    running: BTreeSet<String>,
    rests: BTreeMap<String, Rest>,
    refused: BTreeSet<String>,
    random: RandomStream,
}

impl Queue {
    /// An empty queue with its stream of jitter.
    pub fn new(random: RandomStream) -> Self {
        Self {
            running: BTreeSet::new(),
            rests: BTreeMap::new(),
            refused: BTreeSet::new(),
            random,
        }
    }

    /// Begins a round: keys that were refused before count no more.
    pub fn begin_round(&mut self, now: Instant) {
        self.refused.clear();
        self.rests
            .retain(|_key, rest| now < rest.until + REMEMBERED);
    }

    /// Marks a key as running if it may run now.
    pub fn start(&mut self, key: &str, now: Instant) -> bool {
        if self.running.contains(key) {
            return false;
        }
        if self.rests.get(key).is_some_and(|rest| now < rest.until) {
            self.refused.insert(key.to_owned());
            return false;
        }
        self.running.insert(key.to_owned())
    }

    /// Marks a key as finished and lets it rest.
    pub fn finish(&mut self, key: &str, outcome: Outcome, now: Instant) {
        self.running.remove(key);
        let failures = match outcome {
            Outcome::Done | Outcome::Outdated => 0,
            Outcome::Failed => self.rests.get(key).map_or(0, |rest| rest.failures) + 1,
            Outcome::Blocked => {
                let before = self.rests.get(key).map_or(0, |rest| rest.failures);
                (before + 1).min(MOST_BLOCKED)
            }
        };
        let until = now + self.pause(failures);
        self.rests.insert(key.to_owned(), Rest { until, failures });
    }

    /// 1 s, doubled with each failure up to a minute, and up to a quarter more by chance, so that
    /// what failed together is not tried again together.
    fn pause(&self, failures: u32) -> Duration {
        let Some(doublings) = failures.checked_sub(1) else {
            return AFTER_SUCCESS;
        };
        let pause = FIRST_PAUSE
            .saturating_mul(1_u32.checked_shl(doublings.min(16)).unwrap_or(u32::MAX))
            .min(LONGEST_PAUSE);
        let quarter = u64::try_from(pause.as_millis() / 4).unwrap_or(0);
        pause + Duration::from_millis(self.random.below(quarter + 1))
    }

    /// When the first of the keys refused in this round may run.
    pub fn next_release(&self) -> Option<Instant> {
        self.refused
            .iter()
            .filter_map(|key| self.rests.get(key))
            .map(|rest| rest.until)
            .min()
    }

    /// How many keys run.
    pub fn running(&self) -> usize {
        self.running.len()
    }

    /// How many keys run or wait for their rest to end.
    pub fn depth(&self) -> usize {
        self.running.len() + self.refused.len()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::world::{SystemClock, World};

    fn queue() -> Queue {
        Queue::new(World::new(Arc::new(SystemClock), 7).random("queue"))
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_runs_once_at_a_time_and_rests_afterwards() {
        let mut queue = queue();
        let now = Instant::now();
        assert!(queue.start("a", now));
        assert!(!queue.start("a", now));
        assert!(queue.start("b", now));
        queue.finish("a", Outcome::Done, now);
        assert!(!queue.start("a", now));
        assert_eq!(queue.next_release(), Some(now + AFTER_SUCCESS));
        assert!(queue.start("a", now + AFTER_SUCCESS));
    }

    #[tokio::test(start_paused = true)]
    async fn failures_rest_longer_each_time_up_to_a_minute_and_a_success_forgets_them() {
        let mut queue = queue();
        let mut now = Instant::now();
        let mut pauses = Vec::new();
        for _failure in 0..9 {
            assert!(queue.start("a", now));
            queue.finish("a", Outcome::Failed, now);
            assert!(!queue.start("a", now));
            let release = queue.next_release().unwrap();
            pauses.push(release - now);
            now = release;
        }
        assert!(pauses.is_sorted_by(|left, right| left < right || *right >= LONGEST_PAUSE));
        assert!(
            pauses
                .iter()
                .all(|pause| *pause <= LONGEST_PAUSE + LONGEST_PAUSE / 4)
        );
        assert!(queue.start("a", now));
        queue.finish("a", Outcome::Done, now);
        queue.begin_round(now);
        assert!(!queue.start("a", now));
        assert_eq!(queue.next_release(), Some(now + AFTER_SUCCESS));
    }
}
