//! A term of leadership, and the guard that lets calls through while it lasts.
//!
//! Given the instant up to which a lease is certain; given back whether one may act, and calls that
//! are cut off when one may not any more. Time is this machine's monotonic clock alone. Nothing here
//! talks to anybody.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// The lease is not held, or not any more: the call was not made, or its answer was not waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this controller does not hold the lease")]
pub struct NotLeading;

/// A term; clones share it. Once over, it stays over.
#[derive(Debug, Clone)]
pub struct Term {
    /// Up to when the lease is certain; `None` needs no lease.
    until: Option<Arc<Mutex<Instant>>>,
    ended: CancellationToken,
    given_up: GivenUp,
}

/// When a write was last given up while it was on its way; clones share it, and so do all terms of a process.
#[derive(Debug, Clone, Default)]
pub(in crate::cluster) struct GivenUp(Arc<Mutex<Option<Instant>>>);

impl GivenUp {
    /// `None` when every write was answered.
    pub(super) fn last(&self) -> Option<Instant> {
        *self.locked()
    }

    fn locked(&self) -> MutexGuard<'_, Option<Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A write on its way: dropped without an answer it was given up, and may arrive all the same.
#[derive(Debug)]
pub struct OnItsWay<'term> {
    term: &'term Term,
    has_arrived: bool,
}

impl OnItsWay<'_> {
    /// It has arrived, or was refused: nothing more comes of it.
    pub fn arrived(write: Option<Self>) {
        if let Some(mut write) = write {
            write.has_arrived = true;
        }
    }
}

impl Drop for OnItsWay<'_> {
    fn drop(&mut self) {
        if !self.has_arrived {
            *self.term.given_up.locked() = Some(Instant::now());
        }
    }
}

impl Term {
    /// A term that needs no lease: it lasts until [`Self::end`].
    pub fn without_lease() -> Self {
        Self {
            until: None,
            ended: CancellationToken::new(),
            given_up: GivenUp::default(),
        }
    }

    /// A term that is over at an instant unless it is prolonged before.
    pub(in crate::cluster) fn up_to(until: Instant) -> Self {
        Self {
            until: Some(Arc::new(Mutex::new(until))),
            ended: CancellationToken::new(),
            given_up: GivenUp::default(),
        }
    }

    /// The same, which says there when it gives a write up.
    pub(super) fn tells(self, given_up: GivenUp) -> Self {
        Self { given_up, ..self }
    }

    /// Moves the end; without effect once the term is over.
    pub(super) fn prolong(&self, until: Instant) {
        if self.holds()
            && let Some(known) = &self.until
        {
            let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
            *known = until.max(*known);
        }
    }

    /// Ends it now.
    pub fn end(&self) {
        self.ended.cancel();
    }

    /// True while one may act. Asking after the end is what ends a term that nobody prolonged.
    pub fn holds(&self) -> bool {
        if self.until().is_some_and(|until| Instant::now() >= until) {
            self.ended.cancel();
        }
        !self.ended.is_cancelled()
    }

    /// Waits until it is over.
    pub async fn over(&self) {
        while self.holds() {
            let Some(until) = self.until() else {
                return self.ended.cancelled().await;
            };
            tokio::select! {
                biased;
                () = self.ended.cancelled() => {}
                () = tokio::time::sleep_until(until) => {}
            }
        }
    }

    /// Makes a call while the term lasts. When it is over the call is dropped where it waits, so
    /// nothing that it consists of is begun or repeated afterwards. The clock is read before every
    /// step of the call: a process that was held up for a while must not go on as if nothing were.
    ///
    /// # Errors
    /// [`NotLeading`]: the call may or may not have taken effect.
    pub async fn within<T>(&self, call: impl Future<Output = T>) -> Result<T, NotLeading> {
        let mut over = pin!(self.over());
        let mut call = pin!(call);
        poll_fn(|context| {
            if !self.holds() || over.as_mut().poll(context).is_ready() {
                return Poll::Ready(Err(NotLeading));
            }
            call.as_mut().poll(context).map(Ok)
        })
        .await
    }

    /// To be held from when a write is sent until its answer is in.
    pub const fn sends(&self) -> OnItsWay<'_> {
        OnItsWay {
            term: self,
            has_arrived: false,
        }
    }

    fn until(&self) -> Option<Instant> {
        let until = self.until.as_ref()?;
        Some(*until.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn a_call_is_cut_off_where_it_waits_when_the_term_is_over() {
        let term = Term::up_to(Instant::now() + SECOND * 2);
        let steps = AtomicUsize::new(0);
        let begin = Instant::now();
        let call = async {
            loop {
                steps.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(600)).await;
            }
        };
        let cut: Result<(), NotLeading> = term.within(call).await;
        assert_eq!(cut, Err(NotLeading));
        assert_eq!(begin.elapsed(), SECOND * 2);
        assert_eq!(steps.load(Ordering::Relaxed), 4, "at 0, 0.6, 1.2 and 1.8 s");
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_begun_after_the_end_and_nothing_prolongs_what_is_over() {
        let term = Term::up_to(Instant::now() + SECOND);
        tokio::time::advance(SECOND).await;
        term.prolong(Instant::now() + SECOND);
        let begun = AtomicUsize::new(0);
        let call = async { begun.fetch_add(1, Ordering::Relaxed) };
        assert_eq!(term.within(call).await, Err(NotLeading));
        assert_eq!(begun.load(Ordering::Relaxed), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_prolonged_term_lasts_on() {
        let term = Term::up_to(Instant::now() + SECOND);
        let call = async {
            for _half in 0..10 {
                tokio::time::sleep(SECOND / 2).await;
                term.prolong(Instant::now() + SECOND);
            }
        };
        assert_eq!(term.within(call).await, Ok(()));
        let begin = Instant::now();
        term.over().await;
        assert_eq!(begin.elapsed(), SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_that_is_cut_off_may_still_arrive_and_one_that_is_answered_has() {
        let given_up = GivenUp::default();
        let term = Term::up_to(Instant::now() + SECOND).tells(given_up.clone());
        let write = async |takes| {
            let on_its_way = term.sends();
            tokio::time::sleep(takes).await;
            OnItsWay::arrived(Some(on_its_way));
        };
        assert_eq!(term.within(write(SECOND / 2)).await, Ok(()));
        assert_eq!(given_up.last(), None);
        assert_eq!(term.within(write(SECOND)).await, Err(NotLeading));
        assert_eq!(given_up.last(), Some(Instant::now()));
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_lease_only_an_end_ends_it() {
        let term = Term::without_lease();
        tokio::time::advance(SECOND * 3_600).await;
        assert!(term.holds());
        term.end();
        assert_eq!(term.within(std::future::ready(())).await, Err(NotLeading));
    }
}
