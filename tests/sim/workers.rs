//! Worlds side by side: each lives on one thread, and what comes of them is taken in order.

use std::collections::BTreeMap;
use std::io;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::mpsc;
use std::thread;

/// Does the work for every item, on so many threads, and gives what came of it to `take` in the order of
/// the items, as early as that allows.
pub(crate) fn in_parallel<Item, Outcome>(
    items: impl IntoIterator<Item = Item, IntoIter: Send>,
    jobs: usize,
    work: impl Fn(Item) -> io::Result<Outcome> + Sync,
    mut take: impl FnMut(Item, Outcome) -> io::Result<()>,
) -> io::Result<()>
where
    Item: Copy + Send,
    Outcome: Send,
{
    let waiting = Mutex::new(items.into_iter().enumerate());
    let next = || {
        let mut waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.next()
    };
    thread::scope(|scope| {
        let (sender, receiver) = mpsc::channel();
        for _job in 0..jobs.max(1) {
            let (sender, next, work) = (sender.clone(), &next, &work);
            scope.spawn(move || {
                while let Some((position, item)) = next() {
                    // Nobody listens any more once something has failed: then this was the last.
                    if sender.send((position, item, work(item))).is_err() {
                        break;
                    }
                }
            });
        }
        drop(sender);
        let mut early = BTreeMap::new();
        let mut due = 0;
        for (position, item, outcome) in receiver {
            early.insert(position, (item, outcome?));
            while let Some((item, outcome)) = early.remove(&due) {
                take(item, outcome)?;
                due += 1;
            }
        }
        Ok(())
    })
}
