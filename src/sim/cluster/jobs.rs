//! The Job controller: as many pods at a time as the Job allows, until enough have ended well.

use std::time::Duration;

use serde_json::json;

use super::Cluster;
use super::agenda::Duty;
use super::garbage::is_finished;
use crate::sim::api_server::{DeleteOptions, Key, set_condition, text};
use crate::sim::clock::api_time;

const WHO: &str = "job-controller";

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
        let spec = &job["spec"];
        let number = |field: &str| {
            spec[field]
                .as_u64()
                .and_then(|number| usize::try_from(number).ok())
        };
        let parallel = number("parallelism").unwrap_or(1);
        let wanted = number("completions").unwrap_or(parallel);
        let succeeded = self
            .succeeded
            .get(uid)
            .map_or(0, std::collections::BTreeSet::len);
        let pods = self.pods_of(uid);
        let active: Vec<&Key> = pods
            .iter()
            .filter(|(_key, pod)| !pod.phase.is_terminal() && pod.deleting_until.is_none())
            .map(|(key, _pod)| key)
            .collect();
        let target = if spec["suspend"] == true {
            0
        } else {
            parallel.min(wanted.saturating_sub(succeeded))
        };
        for _missing in active.len()..target {
            self.create_pod(WHO, &job, &spec["template"]);
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
        let time = api_time(self.clock.now());
        let complete = succeeded >= wanted;
        let written = self.api.change(WHO, key, Some("status"), |job| {
            job["status"]["succeeded"] = json!(succeeded);
            job["status"]["active"] = json!(target);
            if complete {
                set_condition(job, "Complete", "True", "CompletionsReached", &time);
                job["status"]["completionTime"] = json!(time);
            }
        });
        let keep = spec["ttlSecondsAfterFinished"].as_u64();
        if let (true, Ok(_job), Some(keep)) = (complete, written, keep) {
            self.succeeded.remove(uid);
            self.agenda
                .plan(Duty::Expire(key.clone()), Duration::from_secs(keep));
        }
    }
}
