//! What is known of instances, and since when.
//!
//! Given answers of EC2 as they come in, it tells decisions what an instance was when last looked
//! at. An answer that leaves an instance out is kept as such: absence is knowledge too, but a weak
//! one, because EC2 shows new instances late and may leave out any. What proves that an instance ends
//! is EC2's own word, or a termination that it took.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::pace::Pace;
use crate::model::instance::{Instance, InstanceState};
use crate::model::offering::CapacityType;

/// How long after its launch an instance may still be missing from EC2's answers although it
/// exists. AWS documents "a few minutes" at worst for describe calls after a launch.
pub const VISIBLE_WITHIN: SignedDuration = SignedDuration::from_mins(2);

/// How long looks at an instance must not have shown it before it counts as gone although EC2 lets nobody
/// prove it. EC2 shows what has ended for about an hour, and its answers agree within minutes.
pub const FORGOTTEN_WITHIN: SignedDuration = SignedDuration::from_hours(1);

/// What is known of one instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sight {
    /// EC2 was not asked yet.
    Unknown,
    /// EC2 did not show it when asked at this time.
    Absent(Timestamp),
    /// EC2 showed it.
    Seen(Arc<Instance>),
}

/// Everything known of instances.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct InstanceView {
    sights: BTreeMap<String, (Timestamp, Option<Arc<Instance>>)>,
    /// When each was first asked about.
    asked_since: BTreeMap<String, Timestamp>,
    /// How each instance is billed, and the first of the looks that all showed it so.
    billed: BTreeMap<String, (CapacityType, Timestamp)>,
    terminated: BTreeMap<String, Timestamp>,
    /// Instances that EC2 once showed on their way out: none of them comes back.
    ending: BTreeSet<String>,
    /// Instances that looks at them by id do not show: the first and the last of those looks.
    unseen: BTreeMap<String, (Timestamp, Timestamp)>,
    /// Instances that EC2 does not let us terminate.
    refused: BTreeSet<String>,
    /// What was ended within the last minute.
    pub endings: Pace,
    /// What was ended by whoever was there before is in it.
    has_inherited: bool,
}

impl InstanceView {
    /// With a ceiling on terminations per minute.
    pub fn with_ceiling(mut self, per_minute: Option<NonZeroU32>) -> Self {
        self.endings = Pace::per_minute(per_minute);
        self
    }

    /// Takes in the answer to a question about certain instances.
    pub fn answered(&mut self, asked: &BTreeSet<String>, found: &[Arc<Instance>], at: Timestamp) {
        for id in asked {
            let (_first, last) = self.unseen.entry(id.clone()).or_insert((at, at));
            *last = at.max(*last);
        }
        self.noted(asked, found, at);
    }

    fn noted(&mut self, asked: &BTreeSet<String>, found: &[Arc<Instance>], at: Timestamp) {
        for id in asked {
            self.note(id.clone(), None, at);
        }
        for instance in found {
            self.unseen.remove(&instance.id);
            self.note(instance.id.clone(), Some(Arc::clone(instance)), at);
        }
    }

    /// Takes in a complete list: what was known and is not in it is absent.
    pub fn listed(&mut self, all: &[Arc<Instance>], at: Timestamp) {
        self.inherit(all, at);
        let known: BTreeSet<String> = self.sights.keys().cloned().collect();
        self.noted(&known, all, at);
    }

    /// What is on its way out in the first list was ended within a minute or so, by whoever was there before: it counts
    /// against the ceiling of this process too.
    fn inherit(&mut self, all: &[Arc<Instance>], at: Timestamp) {
        if std::mem::replace(&mut self.has_inherited, true) {
            return;
        }
        for instance in all.iter().filter(|found| found.state.is_ending()) {
            self.endings.inherit(&instance.id, 1, at, at);
        }
    }

    fn note(&mut self, id: String, instance: Option<Arc<Instance>>, at: Timestamp) {
        self.asked_since.entry(id.clone()).or_insert(at);
        let older = self.sights.get(&id).is_none_or(|(seen, known)| {
            *seen < at || (*seen == at && (known.is_none() || instance.is_some()))
        });
        if older {
            if let Some(shown) = &instance {
                if shown.state.is_ending() {
                    self.ending.insert(id.clone());
                }
                let now = (shown.offering.capacity_type, at);
                let known = self.billed.entry(id.clone()).or_insert(now);
                if known.0 != now.0 {
                    *known = now;
                }
            }
            self.sights.insert(id, (at, instance));
        }
    }

    /// What is known of an instance.
    pub fn get(&self, id: &str) -> Sight {
        match self.sights.get(id) {
            None => Sight::Unknown,
            Some((at, None)) => Sight::Absent(*at),
            Some((_at, Some(instance))) => Sight::Seen(Arc::clone(instance)),
        }
    }

    /// How long looks at an instance have shown without exception that it is billed as it is, from the first of
    /// them to the last.
    pub fn billed_alike_for(&self, id: &str) -> SignedDuration {
        let looks = self.billed.get(id).zip(self.asked_at(id));
        looks.map_or(SignedDuration::ZERO, |((_type, first), last)| {
            last.duration_since(*first)
        })
    }

    /// When EC2 was last asked about an instance.
    pub fn asked_at(&self, id: &str) -> Option<Timestamp> {
        self.sights.get(id).map(|(at, _instance)| *at)
    }

    /// True when nothing of the instance seems to be left: EC2 says terminated, or does not show it
    /// although its launch is so long ago that it would. Absence alone is enough to give up what the
    /// instance was for, not to let go of who answers for it: that takes [`Self::is_proven_gone`].
    pub fn is_gone(&self, id: &str, launched: Timestamp) -> bool {
        match self.sights.get(id) {
            None => false,
            Some((at, None)) => self.is_late(id, launched, *at),
            Some((_at, Some(instance))) => instance.state == InstanceState::Terminated,
        }
    }

    /// True when nothing of the instance is left, or it is on its way out for certain: EC2 says
    /// terminated, or does not show it any more and has shown it ending, or took its termination when
    /// absence counted. Before that EC2 may answer of a young instance that there is none.
    ///
    /// An instance that EC2 has forgotten has no tags, so a role that may terminate by tag is refused
    /// for good. Then absence has to last for an hour.
    pub fn is_proven_gone(&self, id: &str, launched: Timestamp) -> bool {
        let is_absent = matches!(self.get(id), Sight::Absent(_));
        let accepted = self.terminated_at(id);
        let unseen = self.unseen.get(id);
        self.is_gone(id, launched)
            && (!is_absent
                || self.ending.contains(id)
                || accepted.is_some_and(|at| self.is_late(id, launched, at))
                || self.refused.contains(id)
                    && unseen.is_some_and(|(first, last)| {
                        last.duration_since(*first) >= FORGOTTEN_WITHIN
                    }))
    }

    /// EC2 does not let us terminate an instance, and asking again does not help.
    pub fn refused(&mut self, id: &str) {
        self.refused.insert(id.to_owned());
    }

    /// True since EC2 did not let us terminate an instance.
    pub fn is_refused(&self, id: &str) -> bool {
        self.refused.contains(id)
    }

    /// When EC2 was last asked about this very instance and did not show it.
    pub fn unseen_at(&self, id: &str) -> Option<Timestamp> {
        self.unseen.get(id).map(|(_first, last)| *last)
    }

    /// True when a time is so long after the launch that EC2 knows of the instance by then.
    ///
    /// The launch was stamped by whoever led then, and their time may have been another than ours where
    /// clocks were set. So we must have asked for as long ourselves before absence counts.
    fn is_late(&self, id: &str, launched: Timestamp, at: Timestamp) -> bool {
        let asked = self.asked_since.get(id).copied().unwrap_or(at);
        at.duration_since(launched.max(asked)) >= VISIBLE_WITHIN
    }

    /// EC2 accepted the termination of an instance.
    pub fn terminated(&mut self, id: &str, at: Timestamp) {
        if !self.terminated.contains_key(id) {
            self.endings.spend(id, 1, at);
        }
        self.terminated.insert(id.to_owned(), at);
        self.refused.remove(id);
    }

    /// When EC2 last accepted the termination of an instance, as far as this process knows.
    pub fn terminated_at(&self, id: &str) -> Option<Timestamp> {
        self.terminated.get(id).copied()
    }

    /// Forgets instances that nobody asks about any more.
    pub fn keep_only(&mut self, ids: &BTreeSet<String>) {
        self.sights.retain(|id, _sight| ids.contains(id));
        self.asked_since.retain(|id, _at| ids.contains(id));
        self.billed.retain(|id, _since| ids.contains(id));
        self.terminated.retain(|id, _at| ids.contains(id));
        self.ending.retain(|id| ids.contains(id));
        self.unseen.retain(|id, _looks| ids.contains(id));
        self.refused.retain(|id| ids.contains(id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::examples::at;

    /// A look at which EC2 shows nothing of the instance.
    fn not_shown(view: &mut InstanceView, seconds: i64) {
        view.answered(&BTreeSet::from(["i-1".to_owned()]), &[], at(seconds));
    }

    #[test]
    fn one_look_at_an_old_launch_does_not_make_an_instance_gone() {
        let mut view = InstanceView::default();
        not_shown(&mut view, 0);
        assert!(
            !view.is_gone("i-1", at(-900)),
            "whoever stamped the launch may have had another time"
        );
        not_shown(&mut view, 119);
        assert!(!view.is_gone("i-1", at(-900)));
        not_shown(&mut view, 120);
        assert!(view.is_gone("i-1", at(-900)));
        assert!(!view.is_gone("i-1", at(60)));
        view.keep_only(&BTreeSet::new());
        not_shown(&mut view, 130);
        assert!(
            !view.is_gone("i-1", at(-900)),
            "what is forgotten begins anew"
        );
    }

    #[test]
    fn absence_is_proven_by_a_termination_that_came_when_it_counted() {
        let launched = at(-900);
        let mut view = InstanceView::default();
        not_shown(&mut view, 0);
        view.terminated("i-1", at(119));
        not_shown(&mut view, 150);
        assert!(view.is_gone("i-1", launched));
        assert!(
            !view.is_proven_gone("i-1", launched),
            "EC2 may have said that there is no such instance because it was young"
        );
        view.terminated("i-1", at(150));
        assert!(view.is_proven_gone("i-1", launched));
        assert!(!view.is_proven_gone("i-1", at(60)));
        view.keep_only(&BTreeSet::new());
        not_shown(&mut view, 160);
        not_shown(&mut view, 400);
        assert!(!view.is_proven_gone("i-1", launched));
    }

    #[test]
    fn what_may_not_be_terminated_is_gone_after_an_hour_of_looks_at_itself() {
        let launched = at(-9_000);
        let mut view = InstanceView::default();
        not_shown(&mut view, 0);
        view.refused("i-1");
        not_shown(&mut view, 3_599);
        view.listed(&[], at(3_700));
        assert!(view.is_gone("i-1", launched));
        assert!(
            !view.is_proven_gone("i-1", launched),
            "lists leave out what lost its tag"
        );
        not_shown(&mut view, 3_700);
        assert!(view.is_proven_gone("i-1", launched));
        let shown = Instance {
            id: "i-1".to_owned(),
            ..crate::plan::examples::instance("1")
        };
        view.answered(&BTreeSet::new(), &[Arc::new(shown)], at(3_705));
        not_shown(&mut view, 3_900);
        assert!(!view.is_proven_gone("i-1", launched), "it begins anew");
    }

    #[test]
    fn what_ec2_has_shown_ending_needs_no_further_proof() {
        for state in [InstanceState::ShuttingDown, InstanceState::Terminated] {
            let mut view = InstanceView::default();
            let shown = Instance {
                id: "i-1".to_owned(),
                state,
                ..crate::plan::examples::instance("1")
            };
            view.answered(&BTreeSet::new(), &[Arc::new(shown)], at(0));
            let is_over = state == InstanceState::Terminated;
            assert_eq!(view.is_proven_gone("i-1", at(-900)), is_over);
            not_shown(&mut view, 119);
            assert!(!view.is_proven_gone("i-1", at(-900)));
            not_shown(&mut view, 120);
            assert!(view.is_proven_gone("i-1", at(-900)));
        }
    }
}
