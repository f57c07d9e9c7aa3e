//! Times that the API server stamped onto objects, in the time of this process.
//!
//! Given an object as it comes in, and what is known of it already; what the API server stamped is
//! taken over into the own time when it is seen for the first time, and stays as it is from then on.
//! So what was made a moment ago is a moment old, also while the API server's clock is set or wrong and
//! the own time, which does not jump, is being led to it (see [`crate::world::SteadyClock`]). Nothing
//! here is written to the API server.

use jiff::{SignedDuration, Timestamp};

use crate::model::claim::Claim;
use crate::model::node::Node;
use crate::model::pod::Pod;
use crate::world::World;

/// Takes stamps over; the default is in a world without an API server, and leaves them alone.
#[derive(Debug, Default)]
pub(super) struct Stamps(Option<World>);

/// A stamp in own time. It may be from before the API server's clock was set, and be seen only after:
/// it is never taken for older than it says.
fn moved(stamp: Timestamp, ahead: SignedDuration) -> Timestamp {
    stamp.saturating_add(ahead).unwrap_or(stamp).max(stamp)
}

impl Stamps {
    /// Takes stamps over into the time of a world.
    pub(super) fn of(world: &World) -> Self {
        Self(Some(world.clone()))
    }

    /// How far the own time is ahead, and the own time; `None` while there is nothing to take over.
    fn ahead(&self) -> Option<(SignedDuration, Timestamp)> {
        let world = self.0.as_ref()?;
        let ahead = world.ahead_of_server();
        (!ahead.is_zero()).then(|| (ahead, world.now()))
    }

    fn past(&self, stamp: &mut Timestamp) {
        if let Some((ahead, now)) = self.ahead() {
            // What has happened is not of the future.
            *stamp = moved(*stamp, ahead).min(now);
        }
    }

    fn deletion(&self, stamp: &mut Option<Timestamp>, known: Option<Timestamp>) {
        match (stamp, known) {
            (Some(stamp), Some(known)) => *stamp = known,
            (Some(stamp), None) => self.past(stamp),
            (None, _) => {}
        }
    }

    /// A claim; `known` is what is known of the same claim.
    pub(super) fn claim<'known>(
        &self,
        claim: &mut Claim,
        mut known: impl Iterator<Item = &'known Claim> + Clone,
    ) {
        let deleted = known.clone().find_map(|known| known.deleting_since);
        self.deletion(&mut claim.deleting_since, deleted);
        match known.next() {
            Some(known) => claim.created = known.created,
            None => self.past(&mut claim.created),
        }
    }

    /// A Node; `known` is what is known of the same Node.
    pub(super) fn node(&self, node: &mut Node, known: Option<&Node>) {
        self.deletion(
            &mut node.deleting_since,
            known.and_then(|known| known.deleting_since),
        );
        match known {
            Some(known) => node.created = known.created,
            None => self.past(&mut node.created),
        }
    }

    /// A pod that is being deleted, whose stamp says by when it must have ended: no pod has less time
    /// than it says.
    pub(super) fn pod(&self, pod: &mut Pod) {
        if let (Some(until), Some((ahead, _now))) = (&mut pod.deleting_until, self.ahead()) {
            *until = moved(*until, ahead);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use tokio::time::Instant;

    use super::*;
    use crate::model::pod::{PodKey, PodSpec};
    use crate::world::{Clock, SteadyClock};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    #[derive(Debug)]
    struct Stands;

    impl Clock for Stands {
        fn now(&self) -> Timestamp {
            at(0)
        }
    }

    const SET: SignedDuration = SignedDuration::from_mins(30);

    /// Stamps of a process that has heard the API server's time, and then that it was set.
    fn stamps(set: SignedDuration) -> Stamps {
        let clock = Arc::new(SteadyClock::new(Arc::new(Stands)));
        clock.heard(Instant::now(), at(0));
        assert_eq!(clock.now(), at(0));
        clock.heard(Instant::now(), at(0) + set);
        Stamps::of(&World::new(clock, 1))
    }

    fn made(stamp: Timestamp) -> Claim {
        Claim {
            created: stamp,
            ..Claim::default()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_made_a_moment_ago_is_a_moment_old_when_the_servers_clock_was_set() {
        for set in [SET, -SET] {
            let stamps = stamps(set);
            let mut claim = made(at(0) + set);
            claim.deleting_since = Some(at(0) + set);
            stamps.claim(&mut claim, std::iter::empty());
            let off = claim.created.duration_since(at(0)).abs();
            assert!(off <= SignedDuration::from_secs(1), "{set}: {off}");
            assert_eq!(claim.deleting_since, Some(claim.created));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_seen_before_stays_as_it_was() {
        let stamps = stamps(-SET);
        let known = made(at(-50));
        let mut claim = made(at(-50));
        claim.deleting_since = Some(at(0) - SET);
        stamps.claim(&mut claim, std::iter::once(&known));
        assert_eq!(claim.created, at(-50));
        let first = claim.clone();
        tokio::time::advance(Duration::from_mins(5)).await;
        claim.deleting_since = Some(at(0) - SET);
        stamps.claim(&mut claim, [&first, &known].into_iter());
        assert_eq!(claim, first);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_stamped_before_the_clock_was_set_is_no_older_and_not_of_the_future() {
        let mut claim = made(at(-50));
        stamps(SET).claim(&mut claim, std::iter::empty());
        assert_eq!(claim.created, at(-50));
        stamps(-SET).claim(&mut claim, std::iter::empty());
        assert_eq!(claim.created, at(0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_pod_has_the_time_to_end_that_it_was_given() {
        let pod = |until| {
            let mut pod = Pod::waiting(PodKey::new("default", "a"), Arc::new(PodSpec::default()));
            pod.deleting_until = Some(until);
            pod
        };
        let mut behind = pod(at(30) - SET);
        stamps(-SET).pod(&mut behind);
        assert!(behind.deleting_until >= Some(at(29)));
        let mut before = pod(at(30));
        stamps(SET).pod(&mut before);
        assert_eq!(before.deleting_until, Some(at(30)));
    }

    #[tokio::test(start_paused = true)]
    async fn where_the_times_agree_stamps_are_left_alone() {
        let stamps = stamps(SignedDuration::from_secs(1));
        let mut claim = made(at(40));
        stamps.claim(&mut claim, std::iter::empty());
        assert_eq!(claim.created, at(40));
        Stamps::default().claim(&mut claim, std::iter::empty());
        assert_eq!(claim.created, at(40));
    }
}
