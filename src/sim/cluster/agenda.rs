//! What the embedded cluster will do and when: a queue in order of time, then of asking.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::sim::api_server::Key;

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Duty {
    /// Look for nodes for waiting pods.
    Schedule,
    /// The kubelet of a machine registers its Node.
    Register(String),
    /// The cloud controller sees the Node of a machine.
    Identify(String),
    /// The kubelet of a machine says that its Node is ready.
    Ready(String),
    /// A machine has ended, and its kubelet with it.
    Silence(String),
    /// The node controller notices that a kubelet is silent.
    Unreachable(String),
    /// The cloud controller looks at the Nodes that are not ready.
    LookAtNodes,
    /// A pod has tolerated the taints of its Node for as long as it says.
    Evict(Key),
    /// A kubelet starts a pod of this uid.
    StartPod(Key, String),
    /// The process of a pod of this uid ends well.
    FinishPod(Key, String),
    /// A kubelet has ended a pod of this uid that is being deleted.
    StopPod(Key, String),
    /// A workload is looked at.
    Sync(Key),
    /// Disruption budgets are counted.
    Budgets,
    /// Objects whose owners are gone are deleted.
    Garbage,
    /// Pods of nodes that are gone are deleted.
    CollectPods,
    /// A finished Job has been kept for long enough.
    Expire(Key),
    /// The region lives on for a minute.
    Minute,
}

/// The queue.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    duties: BTreeMap<(Instant, u64), Duty>,
    planned: BTreeMap<Duty, (Instant, u64)>,
    count: u64,
}

impl Agenda {
    /// Plans a duty; one that is planned already stays where it is if that is earlier.
    pub(super) fn plan(&mut self, duty: Duty, after: Duration) {
        let at = Instant::now() + after;
        if let Some(known) = self.planned.get(&duty) {
            if known.0 <= at {
                return;
            }
            let known = *known;
            self.duties.remove(&known);
        }
        self.count += 1;
        let place = (at, self.count);
        self.planned.insert(duty.clone(), place);
        self.duties.insert(place, duty);
    }

    /// When the next duty is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.duties.keys().next().map(|(at, _number)| *at)
    }

    /// Takes the next duty if it is due.
    pub(super) fn take(&mut self, now: Instant) -> Option<Duty> {
        let entry = self.duties.first_entry()?;
        if entry.key().0 > now {
            return None;
        }
        let duty = entry.remove();
        self.planned.remove(&duty);
        Some(duty)
    }
}
