//! Whether what is known of several kinds is of one time.
//!
//! Given what befalls each kind's watch; given back whether one of them may be behind the others. The watches of an API
//! server that starts again are cut at once and come back one by one, within seconds: pods that are back before their
//! claims look like pods that nothing was bought for. Nothing is held up for good: each doubt ends by itself.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::kind::Kind;

/// How long a watch may be behind without a word after a connection was lost, its own or another's: attempts follow
/// within a second or two, and either work, or list, or fail.
const RECONNECTS_WITHIN: Duration = Duration::from_secs(5);
/// The same after a list has pods where there were none: the API server may have forgotten everything before.
const FILLS_WITHIN: Duration = Duration::from_mins(1);
/// How long a watch that fails is waited for. What fails for longer is told by readiness, and what is known is better
/// than nothing then.
const MENDS_WITHIN: Duration = Duration::from_mins(1);
/// How long a list that was asked for anew is waited for.
const LISTED_WITHIN: Duration = Duration::from_mins(1);
/// A watch that fails again so soon has failed all the while: it may well list in between.
const FAILS_AGAIN: Duration = Duration::from_mins(2);
/// Watches that are cut at once are heard of in any order.
const AT_ONCE: Duration = Duration::from_secs(1);

/// A watch that does not work, or did not lately.
#[derive(Debug, Clone, Copy)]
struct Failing {
    since: Instant,
    last: Instant,
    /// Nothing was heard of it after that.
    is_silent: bool,
}

/// The watches' signs of life.
#[derive(Debug, Default)]
pub(super) struct Pulse {
    heard: BTreeMap<Kind, Instant>,
    cut: BTreeMap<Kind, Instant>,
    failing: BTreeMap<Kind, Failing>,
    /// Since when a new list is awaited, because what the watch shows is not what the API server holds.
    awaited: BTreeMap<Kind, Instant>,
    /// Who was not heard of since the first may be behind until the second.
    doubt: Option<(Instant, Instant)>,
}

impl Pulse {
    /// The watch of a kind works: it has listed or told something.
    pub(super) fn heard(&mut self, kind: Kind) {
        self.heard.insert(kind, Instant::now());
        self.cut.remove(&kind);
        if let Some(failing) = self.failing.get_mut(&kind) {
            failing.is_silent = false;
        }
    }

    /// A complete list of a kind is in.
    pub(super) fn listed(&mut self, kind: Kind) {
        self.awaited.remove(&kind);
    }

    /// The connection of a watch ended, as connections do. That of pods is never silent for long, so the others' may
    /// have ended with it; a quiet kind's place in history ends by itself from time to time.
    pub(super) fn cut(&mut self, kind: Kind) {
        self.cut.insert(kind, Instant::now());
        if kind == Kind::Pod {
            self.doubt(a_moment_ago(), RECONNECTS_WITHIN);
        }
    }

    /// What is known of a kind is not what the API server holds: it is to be listed anew. False when such a list is
    /// awaited already, which must not be broken off for another one.
    pub(super) fn awaits_list(&mut self, kind: Kind) -> bool {
        let now = Instant::now();
        let before = self.awaited.get(&kind);
        if before.is_some_and(|since| now.duration_since(*since) < LISTED_WITHIN) {
            return false;
        }
        self.awaited.insert(kind, now);
        true
    }

    /// A list has pods where there were none before. Who was heard of since their connection was lost is current.
    pub(super) fn filled(&mut self) {
        let now = Instant::now();
        let running = self.doubt.filter(|(_since, until)| now < *until);
        let since = running.map_or_else(a_moment_ago, |(since, _until)| since);
        self.doubt(since, FILLS_WITHIN);
    }

    /// The watch of a kind does not work.
    pub(super) fn fails(&mut self, kind: Kind) {
        let now = Instant::now();
        let before = self.failing.get(&kind);
        let again = before.filter(|before| now.duration_since(before.last) < FAILS_AGAIN);
        let failing = Failing {
            since: again.map_or(now, |before| before.since),
            last: now,
            is_silent: true,
        };
        self.failing.insert(kind, failing);
    }

    fn doubt(&mut self, since: Instant, within: Duration) {
        let until = Instant::now() + within;
        let until = self.doubt.map_or(until, |(_since, known)| known.max(until));
        self.doubt = Some((since, until));
    }

    /// True while one of these kinds may be behind the others.
    pub(super) fn may_be_behind(&self, kinds: &[Kind]) -> bool {
        let now = Instant::now();
        let lately = |at: Option<&Instant>, within| {
            at.is_some_and(|at| now.saturating_duration_since(*at) < within)
        };
        let doubt = self.doubt.filter(|(_since, until)| now < *until);
        kinds.iter().any(|kind| {
            let silent = doubt.is_some_and(|(since, _until)| {
                self.heard.get(kind).is_none_or(|heard| *heard < since)
            });
            let fails = self.failing.get(kind).filter(|fails| fails.is_silent);
            silent
                || lately(self.cut.get(kind), RECONNECTS_WITHIN)
                || lately(self.awaited.get(kind), LISTED_WITHIN)
                || lately(fails.map(|failing| &failing.since), MENDS_WITHIN)
        })
    }
}

fn a_moment_ago() -> Instant {
    let now = Instant::now();
    now.checked_sub(AT_ONCE).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: [Kind; 2] = [Kind::Pod, Kind::NodeClaim];

    async fn second() {
        tokio::time::advance(Duration::from_secs(1)).await;
    }

    fn alive() -> Pulse {
        let mut pulse = Pulse::default();
        for kind in BOTH {
            pulse.heard(kind);
        }
        pulse
    }

    #[tokio::test(start_paused = true)]
    async fn pods_that_are_back_before_their_claims_are_not_believed() {
        let mut pulse = alive();
        tokio::time::advance(Duration::from_hours(1)).await;
        assert!(!pulse.may_be_behind(&BOTH));
        pulse.cut(Kind::Pod);
        pulse.heard(Kind::Pod);
        pulse.filled();
        for _second in 0..59 {
            second().await;
            assert!(pulse.may_be_behind(&BOTH));
        }
        pulse.heard(Kind::NodeClaim);
        assert!(!pulse.may_be_behind(&BOTH));
    }

    #[tokio::test(start_paused = true)]
    async fn claims_that_were_back_first_are_not_waited_for() {
        let mut pulse = alive();
        tokio::time::advance(Duration::from_hours(1)).await;
        for kind in BOTH {
            pulse.cut(kind);
        }
        pulse.heard(Kind::NodeClaim);
        tokio::time::advance(Duration::from_secs(3)).await;
        pulse.heard(Kind::Pod);
        pulse.filled();
        assert!(!pulse.may_be_behind(&BOTH));
    }

    #[tokio::test(start_paused = true)]
    async fn no_doubt_lasts_for_ever() {
        let mut pulse = alive();
        tokio::time::advance(Duration::from_hours(1)).await;
        pulse.cut(Kind::Pod);
        tokio::time::advance(RECONNECTS_WITHIN).await;
        assert!(!pulse.may_be_behind(&BOTH), "nothing has changed since");
        pulse.heard(Kind::Pod);
        pulse.filled();
        tokio::time::advance(FILLS_WITHIN).await;
        assert!(!pulse.may_be_behind(&BOTH));
        pulse.fails(Kind::Pod);
        tokio::time::advance(MENDS_WITHIN).await;
        pulse.fails(Kind::Pod);
        assert!(!pulse.may_be_behind(&BOTH));
    }

    /// A right that is missing for the watch alone, or an API server that is too busy for watches.
    #[tokio::test(start_paused = true)]
    async fn a_watch_that_fails_after_each_list_is_waited_for_once() {
        let mut pulse = alive();
        tokio::time::advance(Duration::from_hours(1)).await;
        for half_minute in 0..20 {
            pulse.heard(Kind::Pod);
            pulse.fails(Kind::Pod);
            assert_eq!(pulse.may_be_behind(&BOTH), half_minute < 2, "{half_minute}");
            tokio::time::advance(Duration::from_secs(30)).await;
        }
        tokio::time::advance(FAILS_AGAIN).await;
        pulse.fails(Kind::Pod);
        assert!(pulse.may_be_behind(&BOTH), "another failure");
    }
}
