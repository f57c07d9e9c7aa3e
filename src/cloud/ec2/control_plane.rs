//! What EKS says of the cluster's control plane.
//!
//! Given the cluster's name; given back what machines join the cluster with. Where the settings do not say where nodes
//! reach the API server, EKS is asked by whoever looks at a node class first: one question at a time, after growing
//! pauses while there is no answer, and never again once there is one, because an API server of EKS keeps its address
//! as long as it lives. What is still unknown ends nothing: it is a reason why a class is not ready.

use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};
use tokio::sync::OnceCell;

use super::Api;
use super::call::failed;
use crate::cloud::buckets::Bucket;
use crate::cloud::cluster::ClusterFacts;
use crate::cloud::settings::EndpointSource;
use crate::cloud::{CloudError, Unresolved, errors};
use crate::model::launch::ErrorClass;

const OPERATION: &str = "DescribeCluster";
/// Pause after the first failure, doubled with each further one.
const FIRST_PAUSE: SignedDuration = SignedDuration::from_secs(5);
/// The longest pause: whoever gives the controller its permission waits for it.
const LONGEST_PAUSE: SignedDuration = SignedDuration::from_mins(1);

/// What is known of the control plane.
#[derive(Debug, Default)]
pub(super) struct ControlPlane {
    known: OnceCell<ClusterFacts>,
    failed: Mutex<Option<Failure>>,
}

/// Why there is no answer, and when it is asked again.
#[derive(Debug, Clone)]
struct Failure {
    error: CloudError,
    pause: SignedDuration,
    until: Timestamp,
}

impl Failure {
    fn after(before: Option<&Self>, error: CloudError, now: Timestamp) -> Self {
        let pause = before.map_or(FIRST_PAUSE, |before| {
            before.pause.saturating_mul(2).min(LONGEST_PAUSE)
        });
        Self {
            error,
            pause,
            until: now.saturating_add(pause).unwrap_or(now),
        }
    }
}

impl ControlPlane {
    /// What machines join the cluster with, after EKS was asked, if it has to be and may be asked again.
    pub(super) async fn find<'api>(
        &'api self,
        api: &'api Api,
    ) -> Result<&'api ClusterFacts, CloudError> {
        match api.settings.endpoint {
            EndpointSource::Settings => Ok(&api.settings.cluster),
            EndpointSource::Eks => self.known.get_or_try_init(|| self.ask(api)).await,
        }
    }

    /// What machines join the cluster with, as far as it is known.
    pub(super) fn known<'api>(
        &'api self,
        api: &'api Api,
    ) -> Result<&'api ClusterFacts, CloudError> {
        match api.settings.endpoint {
            EndpointSource::Settings => Ok(&api.settings.cluster),
            EndpointSource::Eks => self.known.get().ok_or_else(|| {
                let failure = self.failed().clone();
                failure.map_or_else(
                    || errors::refused(OPERATION, "EKS has not been asked yet"),
                    |failure| failure.error,
                )
            }),
        }
    }

    /// Asks, unless it was asked in vain a moment ago.
    async fn ask(&self, api: &Api) -> Result<ClusterFacts, CloudError> {
        let before = self.failed().clone();
        if let Some(failure) = before.as_ref().filter(|it| it.until > api.world.now()) {
            return Err(failure.error.clone());
        }
        match describe(api).await {
            Ok(endpoint) => {
                tracing::info!(endpoint, "EKS says where new nodes reach the API server");
                Ok(ClusterFacts {
                    endpoint,
                    ..api.settings.cluster.clone()
                })
            }
            Err(error) => {
                tracing::warn!(%error, "where new nodes reach the API server is asked again");
                let failure = Failure::after(before.as_ref(), error.clone(), api.world.now());
                *self.failed() = Some(failure);
                Err(error)
            }
        }
    }

    fn failed(&self) -> MutexGuard<'_, Option<Failure>> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The URL of the API server of an EKS cluster, as its nodes reach it.
async fn describe(api: &Api) -> Result<String, CloudError> {
    let name = &api.settings.cluster.name;
    api.buckets.take(Bucket::Other, 1).await;
    let answer = api.eks.describe_cluster().name(name).send().await;
    let answer = answer.map_err(|error| failed(OPERATION, &error));
    let cluster = api.heed(answer)?.cluster;
    let endpoint = cluster.as_ref().and_then(|cluster| cluster.endpoint());
    endpoint
        .filter(|endpoint| !endpoint.is_empty())
        .map(str::to_owned)
        .ok_or_else(|| {
            let status = cluster.as_ref().and_then(|cluster| cluster.status());
            let status = status.map_or("unknown", |status| status.as_str());
            let message = format!("cluster {name} has no API server yet, its status is {status}");
            errors::refused(OPERATION, message)
        })
}

/// Why no machine of a class could join, for people.
pub(super) fn unresolved(error: &CloudError) -> Unresolved {
    let reason = match error.class {
        ErrorClass::Unauthorized => "Unauthorized",
        _ => "ClusterEndpointUnknown",
    };
    Unresolved {
        reason,
        message: format!(
            "where new nodes reach the API server is not known, so nothing is launched: {error}; it is asked again, or \
             give --cluster-endpoint (chart: settings.clusterEndpoint)"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_minute() {
        let now = Timestamp::UNIX_EPOCH;
        let error = errors::refused(OPERATION, "no");
        let mut pauses = Vec::new();
        let mut failure: Option<Failure> = None;
        for _time in 0..6 {
            let next = Failure::after(failure.as_ref(), error.clone(), now);
            pauses.push(next.until.duration_since(now).as_secs());
            failure = Some(next);
        }
        assert_eq!(pauses, [5, 10, 20, 40, 60, 60]);
    }
}
