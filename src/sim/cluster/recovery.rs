//! What everybody does when the API server has gone back to a backup: what is there again is looked
//! after, as if it had just come.
//!
//! Given that it was restored; duties are planned. Kubernetes advises to start kubelets again after a
//! restore, and whether somebody does is a matter of chance: a kubelet registers its Node only when it
//! starts, so without it a Node that the backup does not have stays away, and its machine with nothing to
//! do.

use std::collections::BTreeSet;
use std::time::Duration;

use super::Cluster;
use super::agenda::Duty;
use super::garbage::is_finished;
use super::jobs::Progress;
use super::silence::GRACE;
use crate::model::pod::PodPhase;
use crate::sim::api_server::{Key, Resource, text};

/// How often a kubelet says how its Node is. Source: kubelet, `nodeStatusUpdateFrequency`.
const STATUS: Duration = Duration::from_secs(10);
/// When the collector of orphaned pods has certainly come by: every 20 s, and it waits 40 s more.
const COLLECTED: Duration = Duration::from_mins(1);
/// Until a kubelet that somebody starts again has registered, milliseconds: at least, and how much more at
/// most.
const STARTED_AGAIN: (u64, u64) = (5_000, 60_000);

impl Cluster {
    /// Sees whether the server was restored since it was last asked.
    pub(super) fn look_for_restore(&mut self) {
        let restores = self.api.restores();
        if restores == self.restores {
            return;
        }
        self.restores = restores;
        self.kubelets_after_restore();
        self.count_again();
        // What was started once may have to be started again.
        self.starting.clear();
        self.agenda.plan(Duty::CollectPods, COLLECTED);
        for (key, pod) in self.pods.clone() {
            self.attend(&key, &pod);
            self.weigh(&key, &pod);
            if pod.phase == PodPhase::Running {
                self.run_again(&key, &pod.uid);
            }
        }
    }

    /// Living kubelets say how their Nodes are, or register them; those of silent Nodes are missed anew.
    fn kubelets_after_restore(&mut self) {
        let are_started_again = self.random.below(2) == 0;
        for machine in self.kubelets.keys() {
            self.agenda.plan(Duty::Identify(machine.clone()), STATUS);
            self.agenda.plan(Duty::Ready(machine.clone()), STATUS);
            if are_started_again {
                let after = STARTED_AGAIN.0 + self.random.below(STARTED_AGAIN.1);
                let duty = Duty::Register(machine.clone());
                self.agenda.plan(duty, Duration::from_millis(after));
            }
        }
        let speaking: BTreeSet<&String> = self.kubelets.values().collect();
        let silent = self.nodes.keys().filter(|node| !speaking.contains(node));
        for node in silent {
            self.agenda.plan(Duty::Unreachable(node.clone()), GRACE);
        }
    }

    /// Jobs are as far as their status says, which counts pods that are gone, and ended ones go in time.
    fn count_again(&mut self) {
        self.progress.clear();
        let mut jobs = Vec::new();
        self.api.each(Resource::Job, |key, job| {
            let uid = text(job, "/metadata/uid").to_owned();
            let counted = ["succeeded", "failed"];
            let counted = counted.map(|field| job["status"][field].as_u64().unwrap_or(0));
            let keep = job["spec"]["ttlSecondsAfterFinished"].as_u64();
            jobs.push((key.clone(), uid, counted, keep.filter(|_| is_finished(job))));
        });
        for (key, uid, [succeeded, failed], keep) in jobs {
            let progress = Progress::resumed(
                self.ended(&uid, PodPhase::Succeeded, succeeded),
                self.ended(&uid, PodPhase::Failed, failed),
            );
            self.progress.insert(uid, progress);
            if let Some(keep) = keep {
                self.agenda
                    .plan(Duty::Expire(key), Duration::from_secs(keep));
            }
        }
    }

    /// The pods of a Job that have ended in this way, of which there were so many, by uid.
    fn ended(&self, job: &str, phase: PodPhase, counted: u64) -> BTreeSet<String> {
        let there = self.pods_of(job).into_iter();
        let mut ended: BTreeSet<String> = there
            .filter(|(_key, pod)| pod.phase == phase)
            .map(|(_key, pod)| pod.uid.clone())
            .collect();
        let gone = counted.saturating_sub(ended.len() as u64);
        ended.extend((0..gone).map(|number| format!("gone-{number}")));
        ended
    }

    /// The containers of a pod that had ended since run once more.
    fn run_again(&mut self, key: &Key, uid: &str) {
        if let Some(pod) = self.tended(key, uid) {
            self.plan_end(key, uid, &pod);
        }
    }
}
