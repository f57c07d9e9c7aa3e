//! The time of a process: that of the API server, and never in jumps.
//!
//! Given the wall clock of the machine and what the API server says its time is; given back a time that
//! runs with the monotonic clock and is led to the API server's, at most an eighth faster or slower. So
//! what two readings are apart is what has passed, and what objects of the API say can be compared with
//! it, whatever happens to the machine's wall clock. Nothing is asked of anybody here, and nobody waits.

use std::sync::{Arc, Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use super::Clock;

/// What it is off by is made good by one second in so many: the shortest waits that decisions rest on are
/// minutes, and bear an error of an eighth.
const ONE_IN: i32 = 8;
/// What it is off by is made good at once from here on: at one second in eight it would be wrong for
/// days, and all that is timed in the cluster with it.
const FAR: SignedDuration = SignedDuration::from_hours(1);
/// The API server says whole seconds, so it may be later by so much.
const SAID_WITHIN: SignedDuration = SignedDuration::from_secs(1);

/// Times that are no further apart agree: the API server's is known to about a second, and its stamps
/// are whole ones.
const AGREES: SignedDuration = SignedDuration::from_secs(2);

/// A wall clock that does not jump; see the module.
#[derive(Debug)]
pub struct SteadyClock {
    machine: Arc<dyn Clock>,
    state: Mutex<State>,
}

/// A time, and the moment at which it was that.
#[derive(Debug, Clone, Copy)]
struct Reading {
    time: Timestamp,
    at: Instant,
}

#[derive(Debug, Default)]
struct State {
    /// The last reading that was given out.
    given: Option<Reading>,
    /// The API server's time.
    server: Option<Reading>,
}

impl Reading {
    /// The time at a moment that follows.
    fn at(self, moment: Instant) -> Timestamp {
        later(self.time, passed(self.at, moment))
    }
}

/// What has passed between two moments.
fn passed(from: Instant, to: Instant) -> SignedDuration {
    let passed = to.saturating_duration_since(from);
    SignedDuration::try_from(passed).unwrap_or(SignedDuration::MAX)
}

fn later(time: Timestamp, by: SignedDuration) -> Timestamp {
    time.saturating_add(by).unwrap_or(time)
}

impl SteadyClock {
    /// Follows the machine's clock until the API server has said its time.
    pub fn new(machine: Arc<dyn Clock>) -> Self {
        Self {
            machine,
            state: Mutex::default(),
        }
    }

    /// Takes in what the API server said its time is, in whole seconds, in the answer that has just come to
    /// a request that was sent at a moment. The first answer is believed at once: nothing is decided
    /// before the API server has answered.
    pub fn heard(&self, sent: Instant, said: Timestamp) {
        let moment = Instant::now();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let latest = later(said, SAID_WITHIN + passed(sent, moment));
        let time = self.right(&state, moment).clamp(said, latest);
        if state.server.is_none() {
            state.given = None;
        }
        state.server = Some(Reading { time, at: moment });
    }

    /// The time that it is led to.
    fn right(&self, state: &State, moment: Instant) -> Timestamp {
        let machine = || self.machine.now();
        state.server.map_or_else(machine, |known| known.at(moment))
    }
}

impl Clock for SteadyClock {
    fn now(&self) -> Timestamp {
        let moment = Instant::now();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let right = self.right(&state, moment);
        let time = state.given.map_or(right, |given| {
            led(given.at(moment), right, passed(given.at, moment))
        });
        state.given = Some(Reading { time, at: moment });
        time
    }

    fn ahead_of_server(&self) -> SignedDuration {
        let now = self.now();
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let server = state.server.map(|known| known.at(Instant::now()));
        let ahead = server.map_or(SignedDuration::ZERO, |server| now.duration_since(server));
        if ahead.abs() <= AGREES {
            return SignedDuration::ZERO;
        }
        // Stamps are whole seconds.
        SignedDuration::from_secs(ahead.as_secs())
    }
}

/// A time that is led to the right one after so much has passed since it was last led.
fn led(time: Timestamp, right: Timestamp, passed: SignedDuration) -> Timestamp {
    let off = right.duration_since(time);
    if off.abs() >= FAR {
        return right;
    }
    let most = passed / ONE_IN;
    later(time, off.clamp(-most, most))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// A wall clock that stands where it is put.
    #[derive(Debug)]
    struct Stands(Mutex<Timestamp>);

    impl Stands {
        fn put(&self, second: i64) {
            *self.0.lock().unwrap() = at(second);
        }
    }

    impl Clock for Stands {
        fn now(&self) -> Timestamp {
            *self.0.lock().unwrap()
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn clocks() -> (Arc<Stands>, SteadyClock) {
        let machine = Arc::new(Stands(Mutex::new(at(0))));
        let steady = SteadyClock::new(Arc::clone(&machine) as Arc<dyn Clock>);
        (machine, steady)
    }

    async fn pass(seconds: u64) {
        tokio::time::advance(Duration::from_secs(seconds)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_jump_of_the_machine_is_made_good_little_by_little_in_both_directions() {
        let (machine, steady) = clocks();
        assert_eq!(steady.now(), at(0));
        machine.put(300);
        assert_eq!(steady.now(), at(0), "nothing has passed");
        pass(8).await;
        machine.put(308);
        assert_eq!(steady.now(), at(9));
        pass(3_000).await;
        machine.put(3_308);
        assert_eq!(steady.now(), at(3_308), "all of it is made good");
        machine.put(3_008);
        pass(80).await;
        machine.put(3_088);
        assert_eq!(steady.now(), at(3_378), "slower, and never back");
    }

    #[tokio::test(start_paused = true)]
    async fn once_the_api_server_has_said_its_time_the_machine_is_not_asked() {
        let (machine, steady) = clocks();
        machine.put(-200);
        assert_eq!(steady.now(), at(-200));
        let sent = Instant::now();
        pass(2).await;
        steady.heard(sent, at(100));
        assert_eq!(steady.now(), at(100), "at once: it is the first answer");
        machine.put(100_000);
        pass(60).await;
        assert_eq!(steady.now(), at(160));
        steady.heard(Instant::now(), at(160));
        assert_eq!(steady.now(), at(160));
        assert_eq!(steady.ahead_of_server(), SignedDuration::ZERO);
        // The clock of the API server was set, or another one answers.
        steady.heard(Instant::now(), at(240));
        assert_eq!(steady.now(), at(160));
        assert_eq!(steady.ahead_of_server(), SignedDuration::from_secs(-80));
        pass(80).await;
        assert_eq!(steady.now(), at(250));
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_may_have_been_written_earlier_or_later_changes_nothing() {
        let (_machine, steady) = clocks();
        let sent = Instant::now();
        pass(5).await;
        // Whole seconds, and on its way for up to five.
        for said in [0, -5, -6] {
            steady.heard(sent, at(said));
            assert_eq!(steady.now(), at(0));
        }
        pass(1).await;
        steady.heard(Instant::now(), at(-1));
        assert_eq!(steady.now(), at(1) - SignedDuration::from_millis(125));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_far_off_is_made_good_at_once() {
        let (machine, steady) = clocks();
        assert_eq!(steady.now(), at(0));
        machine.put(3_600);
        assert_eq!(steady.now(), at(3_600));
        machine.put(-1_000_000);
        assert_eq!(steady.now(), at(-1_000_000));
    }
}
