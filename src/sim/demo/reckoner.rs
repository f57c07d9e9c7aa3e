//! Lower bounds asked for beside the world, on a thread of their own.
//!
//! Given one after another for how long the last fleet was there and which one follows; given back what all of
//! them had to cost at least. The world lives on meanwhile: nothing in it depends on an answer. Equal fleets at
//! equal prices are asked for once. Never reads a clock.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use crate::model::money::UsdPerHour;
use crate::model::pod::PodSpec;
use crate::model::snapshot::Snapshot;
use crate::plan::provision::{ProvisionSettings, provision};
use crate::sim::ec2::bill::Amount;

/// How far the world may be ahead: each question holds a snapshot.
const AHEAD: usize = 64;

/// Pods of one kind and how many there are.
pub(super) type Fleet = Vec<(Arc<PodSpec>, usize)>;
/// A fleet and the step of the market that it is asked for at.
pub(super) type Question = (i64, Fleet);

/// Another fleet is there.
#[derive(Debug)]
pub(super) struct Change {
    /// For how long the fleet before it was there.
    pub(super) milliseconds: i128,
    /// The fleet; none when there are no pods.
    pub(super) question: Option<Question>,
    /// The fleet as pods that wait, where the question is new.
    pub(super) snapshot: Option<Snapshot>,
}

#[derive(Debug, Default)]
struct Progress {
    total: Amount,
    rate: UsdPerHour,
    asked: u64,
    answered: u64,
    ended: bool,
}

#[derive(Debug, Default)]
struct Shared {
    progress: Mutex<Progress>,
    moved: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the fleets so far had to cost; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Bound(Arc<Shared>);

impl Bound {
    /// What everything asked for so far comes to, once all of it is answered.
    pub fn total(&self) -> Amount {
        let mut progress = self.0.lock();
        let asked = progress.asked;
        while progress.answered < asked && !progress.ended {
            let woken = self.0.moved.wait(progress);
            progress = woken.unwrap_or_else(PoisonError::into_inner);
        }
        progress.total
    }

    /// What is answered so far: the sum, and the bound of the last fleet.
    pub fn so_far(&self) -> (Amount, UsdPerHour) {
        let progress = self.0.lock();
        (progress.total, progress.rate)
    }
}

/// Asks; the thread ends when it is dropped.
#[derive(Debug)]
pub(super) struct Reckoner {
    bound: Bound,
    changes: SyncSender<Change>,
}

impl Reckoner {
    /// Starts the thread.
    pub(super) fn start(settings: ProvisionSettings) -> Self {
        let bound = Bound::default();
        let (changes, received) = sync_channel(AHEAD);
        let ending = Ending(bound.clone());
        thread::spawn(move || answer(&ending.0, &settings, &received));
        Self { bound, changes }
    }

    /// Where the answers are.
    pub(super) fn bound(&self) -> Bound {
        self.bound.clone()
    }

    /// Asks, and waits only when the answers are far behind.
    pub(super) fn ask(&self, change: Change) {
        self.bound.0.lock().asked += 1;
        // The thread is gone only when it failed; then the sum stays what it was.
        self.changes.send(change).ok();
    }
}

/// Lets nobody wait for a thread that is gone.
#[derive(Debug)]
struct Ending(Bound);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.0.lock().ended = true;
        self.0.0.moved.notify_all();
    }
}

fn answer(bound: &Bound, settings: &ProvisionSettings, changes: &Receiver<Change>) {
    let mut known: BTreeMap<Question, UsdPerHour> = BTreeMap::new();
    while let Ok(change) = changes.recv() {
        let rate = match (change.question, change.snapshot) {
            (None, _) => UsdPerHour::ZERO,
            (Some(question), Some(snapshot)) => {
                let rate = provision(&snapshot, settings).lower_bound;
                known.insert(question, rate);
                rate
            }
            (Some(question), None) => known.get(&question).copied().unwrap_or_default(),
        };
        let mut progress = bound.0.lock();
        let passed = Amount::of_milliseconds(progress.rate, change.milliseconds);
        progress.total += passed;
        progress.rate = rate;
        progress.answered += 1;
        drop(progress);
        bound.0.moved.notify_all();
    }
}
