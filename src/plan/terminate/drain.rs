//! Which pods of a fenced node are asked to leave now, and when nothing is left to wait for.
//!
//! Given the pods of one node, groups leave one after the other: workloads, then DaemonSets, then
//! critical workloads, then critical DaemonSets. Pods that must not be disrupted are waited for, not
//! evicted, until the hard deadline comes near. Nothing is written here.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::TerminateStep;
use crate::api::labels;
use crate::model::node::Node;
use crate::model::pod::{DoNotDisrupt, Pod};
use crate::model::taint::{Taint, TaintEffect};
use crate::plan::decision::Decision;

/// A pod that is still there so long after its own end was due is stuck: its kubelet is silent, and
/// the drain does not wait for it.
const STUCK_AFTER: SignedDuration = SignedDuration::from_mins(1);

/// The drain of one node.
#[derive(Debug, Clone)]
pub struct Drain<'world> {
    /// The Node, fenced already.
    pub node: &'world Arc<Node>,
    /// The time now.
    pub now: Timestamp,
    /// When pods go whatever protects them.
    pub deadline: Option<Timestamp>,
    /// Let pods run to their end rather than evict them.
    pub patient: bool,
    /// Why the node goes, for the pods' events.
    pub reason: String,
}

/// Adds the evictions that are due now; true when no pod is left to wait for.
pub fn drain(
    drain: &Drain<'_>,
    pods: &[&Arc<Pod>],
    decision: &mut Decision<TerminateStep>,
) -> bool {
    let waiting: Vec<&Arc<Pod>> = pods
        .iter()
        .copied()
        .filter(|pod| drain.waits_for(pod, decision))
        .collect();
    let mut forced = Vec::new();
    for pod in &waiting {
        if let Some(grace_seconds) = drain.force(pod, decision) {
            forced.push(&pod.key);
            decision.push(TerminateStep::ForceDelete {
                pod: Arc::clone(pod),
                node: Arc::clone(drain.node),
                grace_seconds,
            });
        }
    }
    let Some(group) = waiting.iter().map(|pod| group(pod)).min() else {
        return true;
    };
    for pod in &waiting {
        let leaving = pod.deleting_until.is_some() || forced.contains(&&pod.key);
        let kept = drain.patient && !pod.is_daemon() || drain.is_protected(pod, decision);
        if super::drain::group(pod) == group && !leaving && !kept {
            decision.push(TerminateStep::Evict {
                pod: Arc::clone(pod),
                node: Arc::clone(drain.node),
                reason: drain.reason.clone(),
            });
        }
    }
    false
}

/// Lower groups leave first.
fn group(pod: &Pod) -> u8 {
    u8::from(pod.is_daemon()) + 2 * u8::from(pod.spec.critical)
}

impl Drain<'_> {
    fn waits_for(&self, pod: &Pod, decision: &mut Decision<TerminateStep>) -> bool {
        if pod.phase.is_terminal() || pod.mirror || tolerates_fence(pod) {
            return false;
        }
        let stuck = pod
            .deleting_until
            .and_then(|until| until.saturating_add(STUCK_AFTER).ok());
        match stuck {
            Some(stuck) if stuck <= self.now => false,
            Some(stuck) => {
                decision.wake_at(stuck);
                true
            }
            None => true,
        }
    }

    /// The seconds a pod gets when it has to go now whatever protects it: as many as the deadline
    /// leaves, from the moment on at which its own grace period would not fit any more.
    fn force(&self, pod: &Pod, decision: &mut Decision<TerminateStep>) -> Option<u32> {
        let deadline = self.deadline?;
        let due = match pod.deleting_until {
            Some(until) if until <= deadline => return None,
            Some(_later) => self.now,
            None => {
                let grace = SignedDuration::from_secs(pod.spec.termination_grace_seconds.max(0));
                deadline.saturating_sub(grace).unwrap_or(Timestamp::MIN)
            }
        };
        if self.now < due {
            decision.wake_at(due);
            return None;
        }
        let left = deadline.duration_since(self.now).as_secs().max(1);
        Some(u32::try_from(left).unwrap_or(u32::MAX))
    }

    fn is_protected(&self, pod: &Pod, decision: &mut Decision<TerminateStep>) -> bool {
        match pod.do_not_disrupt {
            DoNotDisrupt::No => false,
            DoNotDisrupt::Always => true,
            DoNotDisrupt::For(duration) => {
                // A pod that has not started is protected: its time has not begun.
                let Some(end) = pod
                    .started
                    .map(|started| started.saturating_add(duration).unwrap_or(Timestamp::MAX))
                else {
                    return true;
                };
                if end > self.now {
                    decision.wake_at(end);
                }
                end > self.now
            }
        }
    }
}

/// True for a pod that asks to stay on a node that goes: it would come back at once. A toleration of
/// everything is that wish only for DaemonSets' pods; others have it by habit, and are drained.
fn tolerates_fence(pod: &Pod) -> bool {
    let fence = Taint::new(labels::DISRUPTED_TAINT, "", TaintEffect::NoSchedule);
    pod.spec.tolerations.iter().any(|toleration| {
        toleration.tolerates(&fence) && (pod.is_daemon() || !toleration.key.is_empty())
    })
}
