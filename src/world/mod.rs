//! What the process may ask of the world it runs in: the time, random numbers, and running tasks.
//!
//! Given: the real clock and operating system, or a simulation's virtual ones. Everything else in
//! the crate takes these through [`World`], so that one seed replays one history. Monotonic time is
//! `tokio::time::Instant`, which is virtual by itself on a paused runtime.

mod steady;

pub use steady::SteadyClock;

use std::fmt;
use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Tells the wall-clock time.
pub trait Clock: Send + Sync + fmt::Debug {
    /// The time now.
    fn now(&self) -> Timestamp;

    /// How far it is ahead of the API server's clock, or behind; zero where they agree, or where no
    /// API server is heard.
    fn ahead_of_server(&self) -> SignedDuration {
        SignedDuration::ZERO
    }
}

/// The wall clock of the machine.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

/// Time, randomness and tasks, handed down to everything that runs.
#[derive(Debug, Clone)]
pub struct World {
    clock: Arc<dyn Clock>,
    seed: u64,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl World {
    /// The real world, with a seed drawn from the operating system.
    pub fn real() -> Self {
        Self::real_at(Arc::new(SystemClock))
    }

    /// The real world by another clock.
    pub fn real_at(clock: Arc<dyn Clock>) -> Self {
        Self::new(clock, RandomState::new().hash_one("tonnage"))
    }

    /// A world with the given clock and seed.
    pub fn new(clock: Arc<dyn Clock>, seed: u64) -> Self {
        Self {
            clock,
            seed,
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        }
    }

    /// The wall-clock time.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// How far the time is ahead of the API server's clock, which was set or is wrong.
    pub fn ahead_of_server(&self) -> SignedDuration {
        self.clock.ahead_of_server()
    }

    /// A random stream of its own for each purpose, so that a new draw in one place does not shift
    /// another's.
    pub fn random(&self, purpose: &str) -> RandomStream {
        let seed = self.seed_of(purpose);
        RandomStream(Arc::new(Mutex::new(fastrand::Rng::with_seed(seed))))
    }

    /// A part of this world: it stops with the whole or before it, its tasks are awaited apart, and
    /// its random streams are its own.
    pub fn part(&self, name: &str) -> Self {
        Self {
            clock: Arc::clone(&self.clock),
            seed: self.seed_of(name),
            tasks: TaskTracker::new(),
            stop: self.stop.child_token(),
        }
    }

    fn seed_of(&self, purpose: &str) -> u64 {
        // FNV-1a: small, fixed for ever, and good enough to separate purposes.
        let mut hash = self.seed ^ 0xcbf2_9ce4_8422_2325;
        for byte in purpose.bytes() {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        hash
    }

    /// Runs a task that ends with the world: it is awaited at shutdown.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        drop(self.tasks.spawn(task));
    }

    /// Cancelled when everything should stop.
    pub fn stop(&self) -> &CancellationToken {
        &self.stop
    }

    /// Asks every task to stop and waits until all have.
    pub async fn shut_down(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// A stream of random numbers for one purpose; clones share the stream.
#[derive(Debug, Clone)]
pub struct RandomStream(Arc<Mutex<fastrand::Rng>>);

impl RandomStream {
    /// A number below `bound`; 0 when `bound` is 0.
    pub fn below(&self, bound: u64) -> u64 {
        let mut generator = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if bound == 0 {
            0
        } else {
            generator.u64(0..bound)
        }
    }

    /// A lower-case suffix for generated names, without vowels and look-alikes, as the API server
    /// makes them.
    pub fn name_suffix(&self, length: usize) -> String {
        const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
        (0..length)
            .map(|_position| {
                let index = usize::try_from(self.below(ALPHABET.len() as u64)).unwrap_or(0);
                char::from(ALPHABET.get(index).copied().unwrap_or(b'b'))
            })
            .collect()
    }
}
