//! A world in which nothing waits for time is an endless loop: virtual time stands still, and nothing that lives in it
//! can notice. Somebody outside does.
//!
//! Given which worlds run and how far each has got; given back the first that gets no further, with words for people.
//! What becomes of it is the watcher's own: nothing here ends a process, and a world that only waits for its reader, or
//! for real time, is not watched meanwhile.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};
use std::time::Duration;

/// A world waits for so long for its next step before it hangs: a step takes milliseconds.
pub const PATIENCE: Duration = Duration::from_mins(5);
/// How often is looked within that time: a process that was stopped for a while has missed one look at most.
const LOOKS: u32 = 30;

/// A world that runs.
#[derive(Debug)]
struct World {
    thread: ThreadId,
    name: String,
    /// The second of its own time.
    second: u64,
    /// How many looks have seen no other step.
    looks: u32,
}

/// A world that gets no further.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hang {
    /// What it was called.
    pub name: String,
    /// The last second that it got to.
    pub second: u64,
    /// How long it has been there.
    pub waited: Duration,
}

impl fmt::Display for Hang {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "a world hangs: second {} has been its last for {:?}; {}",
            self.second, self.waited, self.name
        )
    }
}

/// The worlds of a process, one for each thread.
#[derive(Debug, Default)]
struct Worlds(Vec<World>);

static WORLDS: Mutex<Worlds> = Mutex::new(Worlds(Vec::new()));

fn worlds() -> MutexGuard<'static, Worlds> {
    WORLDS.lock().unwrap_or_else(PoisonError::into_inner)
}

fn here() -> ThreadId {
    thread::current().id()
}

impl Worlds {
    fn begins(&mut self, thread: ThreadId, name: String, second: u64) {
        self.rests(thread);
        self.0.push(World {
            thread,
            name,
            second,
            looks: 0,
        });
    }

    fn lives(&mut self, thread: ThreadId, second: u64) -> bool {
        let mut all = self.0.iter_mut();
        let Some(world) = all.find(|world| world.thread == thread) else {
            return false;
        };
        (world.second, world.looks) = (second, 0);
        true
    }

    fn rests(&mut self, thread: ThreadId) {
        self.0.retain(|world| world.thread != thread);
    }

    /// Looks once more; the first world that was seen in the same step more often than a hanging one may be.
    fn look(&mut self, patience: Duration) -> Option<Hang> {
        let mut hang = None;
        for world in &mut self.0 {
            world.looks += 1;
            if world.looks > LOOKS && hang.is_none() {
                hang = Some(Hang {
                    name: world.name.clone(),
                    second: world.second,
                    waited: patience,
                });
            }
        }
        hang
    }
}

/// A world begins on this thread, or goes on at a second: the name says what to do about it if it hangs.
pub fn begins(name: String, second: u64) {
    worlds().begins(here(), name, second);
}

/// This thread's world has got as far as a second; false where it has none.
pub fn lives(second: u64) -> bool {
    worlds().lives(here(), second)
}

/// This thread's world has ended, or waits for somebody outside.
pub fn rests() {
    worlds().rests(here());
}

/// Whether this thread has a world that is watched.
#[cfg(test)]
pub(crate) fn is_watched() -> bool {
    let here = here();
    worlds().0.iter().any(|world| world.thread == here)
}

/// From now on somebody is told of a world that gets no further for so long.
pub fn watch(patience: Duration, tell: impl Fn(&Hang) + Send + 'static) {
    thread::spawn(move || {
        loop {
            thread::park_timeout(patience / LOOKS);
            let hang = worlds().look(patience);
            if let Some(hang) = hang {
                tell(&hang);
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_mins(1);

    fn looks(worlds: &mut Worlds, count: u32) -> Option<Hang> {
        (0..count).find_map(|_look| worlds.look(MINUTE))
    }

    fn another() -> ThreadId {
        thread::spawn(here).join().unwrap()
    }

    #[test]
    fn a_world_that_gets_no_further_hangs_and_says_where() {
        let mut worlds = Worlds::default();
        worlds.begins(here(), "please report the seed 7".to_owned(), 0);
        let other = another();
        worlds.begins(other, "the other".to_owned(), 0);
        worlds.lives(here(), 41);
        for second in 0..5 {
            worlds.lives(other, second);
            assert_eq!(looks(&mut worlds, LOOKS / 5), None);
        }
        let hang = looks(&mut worlds, 1).unwrap();
        assert_eq!(
            hang.to_string(),
            "a world hangs: second 41 has been its last for 60s; please report the seed 7"
        );
    }

    #[test]
    fn a_world_that_has_ended_or_waits_for_its_reader_does_not() {
        let mut worlds = Worlds::default();
        worlds.begins(here(), String::new(), 0);
        assert_eq!(looks(&mut worlds, LOOKS), None);
        worlds.rests(here());
        assert_eq!(looks(&mut worlds, 10 * LOOKS), None);
        worlds.begins(here(), String::new(), 0);
        assert_eq!(looks(&mut worlds, LOOKS), None);
    }
}
