//! A world in which nothing waits for time is an endless loop: virtual time stands still, and no check is
//! ever reached. Somebody outside notices.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::process;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// How often is looked.
const LOOK: Duration = Duration::from_secs(10);
/// After so many looks without another second the world hangs: a second takes milliseconds.
const LOOKS: u32 = 30;

/// What each thread's world was last seen at, and how many looks have seen nothing else since.
static WORLDS: Mutex<BTreeMap<String, (u64, u64, u32)>> = Mutex::new(BTreeMap::new());

fn thread() -> String {
    format!("{:?}", thread::current().id())
}

/// A second of a seed's world has passed.
pub(crate) fn lives(seed: u64, second: u64) {
    let mut worlds = WORLDS.lock().unwrap_or_else(PoisonError::into_inner);
    worlds.insert(thread(), (seed, second, 0));
}

/// The world of this thread has ended.
pub(crate) fn rests() {
    let mut worlds = WORLDS.lock().unwrap_or_else(PoisonError::into_inner);
    worlds.remove(&thread());
}

#[expect(
    clippy::exit,
    reason = "a world that never yields cannot be told to end"
)]
/// From now on a world that hangs ends everything, with the seed and the second.
pub(crate) fn watch() {
    thread::spawn(|| {
        loop {
            thread::park_timeout(LOOK);
            let mut worlds = WORLDS.lock().unwrap_or_else(PoisonError::into_inner);
            for (seed, second, looks) in worlds.values_mut() {
                *looks += 1;
                if *looks > LOOKS {
                    let waited = LOOK * LOOKS;
                    writeln!(
                        io::stderr(),
                        "seed {seed} hangs: second {second} has been its last for {waited:?}. See what goes \
                         round: hack/sim --seeds 1 --start {seed} --log tonnage=debug"
                    )
                    .ok();
                    process::exit(3);
                }
            }
        }
    });
}
