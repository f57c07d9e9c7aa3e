//! A world in which nothing waits for time is an endless loop: virtual time stands still, and no check is
//! ever reached. Somebody outside notices.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::process;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// How often is looked.
const LOOK: Duration = Duration::from_secs(10);
/// After so many looks without another second the world hangs: a second takes milliseconds.
const LOOKS: u32 = 30;

/// A world that runs.
struct World {
    /// The command that runs it again.
    replay: String,
    second: u64,
    /// How many looks have seen no other second.
    looks: u32,
}

/// The world of each thread.
static WORLDS: Mutex<BTreeMap<String, World>> = Mutex::new(BTreeMap::new());

fn worlds() -> MutexGuard<'static, BTreeMap<String, World>> {
    WORLDS.lock().unwrap_or_else(PoisonError::into_inner)
}

fn thread() -> String {
    format!("{:?}", thread::current().id())
}

/// A world begins on this thread, which a command runs again.
pub(crate) fn begins(replay: String) {
    let world = World {
        replay,
        second: 0,
        looks: 0,
    };
    worlds().insert(thread(), world);
}

/// A second of this thread's world has passed.
pub(crate) fn lives(second: u64) {
    if let Some(world) = worlds().get_mut(&thread()) {
        (world.second, world.looks) = (second, 0);
    }
}

/// The world of this thread has ended.
pub(crate) fn rests() {
    worlds().remove(&thread());
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
            for world in worlds().values_mut() {
                world.looks += 1;
                if world.looks > LOOKS {
                    let (second, waited, replay) = (world.second, LOOK * LOOKS, &world.replay);
                    writeln!(
                        io::stderr(),
                        "a world hangs: second {second} has been its last for {waited:?}. See what goes round: \
                         {replay} --log tonnage=debug"
                    )
                    .ok();
                    process::exit(3);
                }
            }
        }
    });
}
