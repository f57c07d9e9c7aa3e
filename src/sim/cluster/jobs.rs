//! The Job controller: as many pods at a time as the Job allows, until enough have ended well or too many have failed.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::Cluster;
use super::agenda::Duty;
use super::garbage::is_finished;
use crate::model::pod::PodPhase;
use crate::sim::api_server::{DeleteOptions, Key, set_condition, text};
use crate::sim::clock::api_time;

const WHO: &str = "job-controller";
/// How many pods of a Job may fail unless it says otherwise. Source: API reference, `backoffLimit`.
const BACKOFF_LIMIT: usize = 6;
/// How long no pod is made after the first failure in a row; each further one doubles it, up to the other. Source:
/// Kubernetes documentation, "Pod backoff failure policy".
const BACK_OFF: (Duration, Duration) = (Duration::from_secs(10), Duration::from_mins(10));

/// How far a Job has come, by what became of its pods. It is kept although they may be gone.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// Pods that have ended well, by uid.
    succeeded: BTreeSet<String>,
    /// Pods that have failed, by uid.
    failed: BTreeSet<String>,
    /// How many of them failed since one has ended well, and when the last of these did.
    in_a_row: Option<(u32, Instant)>,
}

impl Progress {
    /// So far as these pods have brought it, by uid; what was before is not known any more.
    pub(super) fn resumed(succeeded: BTreeSet<String>, failed: BTreeSet<String>) -> Self {
        Self {
            succeeded,
            failed,
            in_a_row: None,
        }
    }

    /// A pod has ended.
    pub(super) fn note(&mut self, uid: &str, phase: PodPhase) {
        let ended = match phase {
            PodPhase::Succeeded => &mut self.succeeded,
            PodPhase::Failed => &mut self.failed,
            PodPhase::Pending | PodPhase::Running | PodPhase::Unknown => return,
        };
        if !ended.insert(uid.to_owned()) {
            return;
        }
        let before = self.in_a_row.map_or(0, |(count, _last)| count);
        self.in_a_row =
            (phase == PodPhase::Failed).then(|| (before.saturating_add(1), Instant::now()));
    }

    /// How long no pod is made yet.
    fn rest(&self) -> Duration {
        let Some((count, last)) = self.in_a_row else {
            return Duration::ZERO;
        };
        let (first, most) = BACK_OFF;
        let doubled = 2_u32.saturating_pow(count.saturating_sub(1));
        let rest = first.saturating_mul(doubled).min(most);
        rest.saturating_sub(last.elapsed())
    }
}

/// What a Job asks for.
struct Wanted {
    parallel: usize,
    completions: usize,
    /// How many pods may fail.
    failures: usize,
}

impl Wanted {
    fn of(job: &Value) -> Self {
        let number = |field: &str| {
            job["spec"][field]
                .as_u64()
                .and_then(|number| usize::try_from(number).ok())
        };
        let parallel = number("parallelism").unwrap_or(1);
        Self {
            parallel,
            completions: number("completions").unwrap_or(parallel),
            failures: number("backoffLimit").unwrap_or(BACKOFF_LIMIT),
        }
    }
}

impl Cluster {
    /// Looks at a Job.
    pub(super) fn sync_job(&mut self, key: &Key) {
        let Some(job) = self.api.get(key) else {
            return;
        };
        if is_finished(&job) || job["metadata"]["deletionTimestamp"].is_string() {
            return;
        }
        let uid = text(&job, "/metadata/uid");
        let wanted = Wanted::of(&job);
        let progress = self.progress.get(uid);
        let (succeeded, failed, rest) = progress.map_or((0, 0, Duration::ZERO), |progress| {
            let (succeeded, failed) = (progress.succeeded.len(), progress.failed.len());
            (succeeded, failed, progress.rest())
        });
        let end = if failed > wanted.failures {
            Some(("Failed", "BackoffLimitExceeded"))
        } else if succeeded >= wanted.completions {
            Some(("Complete", "CompletionsReached"))
        } else {
            None
        };
        let target = if end.is_some() || job["spec"]["suspend"] == true {
            0
        } else {
            wanted.parallel.min(wanted.completions - succeeded)
        };
        let active = self.make_pods_of_job(key, &job, target, rest);
        let time = api_time(self.clock.now());
        let written = self.api.change(WHO, key, Some("status"), |job| {
            job["status"]["succeeded"] = json!(succeeded);
            job["status"]["active"] = json!(active);
            if failed > 0 {
                job["status"]["failed"] = json!(failed);
            }
            if let Some((kind, reason)) = end {
                set_condition(job, kind, "True", reason, &time);
            }
            if matches!(end, Some(("Complete", _reason))) {
                job["status"]["completionTime"] = json!(time);
            }
        });
        let keep = job["spec"]["ttlSecondsAfterFinished"].as_u64();
        if let (Some(_end), Ok(_job), Some(keep)) = (end, written, keep) {
            self.progress.remove(uid);
            self.agenda
                .plan(Duty::Expire(key.clone()), Duration::from_secs(keep));
        }
    }

    /// Makes the pods that a Job lacks, once nothing has failed for long enough, or deletes those that it has too many.
    /// Gives back how many there are then.
    fn make_pods_of_job(&mut self, key: &Key, job: &Value, target: usize, rest: Duration) -> usize {
        let pods = self.pods_of(text(job, "/metadata/uid"));
        let active: Vec<&Key> = pods
            .iter()
            .filter(|(_key, pod)| !pod.phase.is_terminal() && pod.deleting_until.is_none())
            .map(|(key, _pod)| key)
            .collect();
        if active.len() < target && !rest.is_zero() {
            self.agenda.plan(Duty::Sync(key.clone()), rest);
            return active.len();
        }
        for _missing in active.len()..target {
            self.create_pod(WHO, job, &job["spec"]["template"]);
        }
        for surplus in active.iter().skip(target) {
            if self
                .api
                .delete(WHO, surplus, &DeleteOptions::default())
                .is_err()
            {
                tracing::debug!(pod = %surplus, "gone already");
            }
        }
        target
    }
}
