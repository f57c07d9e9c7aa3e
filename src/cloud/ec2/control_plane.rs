//! What EKS says of the cluster's control plane.
//!
//! Given the cluster's name; given back what machines join the cluster with. Where the settings do not say where nodes
//! reach the API server, EKS is asked by whoever looks at a node class first: one question at a time, after growing
//! pauses while there is no answer, and never again once there is one, because an API server of EKS keeps its address
//! as long as it lives. A cluster of the same name in another account or region is told by its certificate authority.
//! What is still unknown ends nothing: it is a reason why a class is not ready.

use std::sync::{Mutex, MutexGuard, PoisonError};

use aws_sdk_eks::types::Cluster;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
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
/// The code given to an answer that is about another cluster than the controller's.
const ANOTHER_CLUSTER: &str = "AnotherCluster";
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
        match &api.settings.endpoint {
            EndpointSource::Settings => Ok(&api.settings.cluster),
            EndpointSource::Eks => self.known.get_or_try_init(|| self.ask(api)).await,
        }
    }

    /// What machines join the cluster with, as far as it is known.
    pub(super) fn known<'api>(
        &'api self,
        api: &'api Api,
    ) -> Result<&'api ClusterFacts, CloudError> {
        match &api.settings.endpoint {
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

/// The URL of the API server of the cluster, as its nodes reach it.
async fn describe(api: &Api) -> Result<String, CloudError> {
    let name = &api.settings.cluster.name;
    api.buckets.take(Bucket::Other, 1).await;
    let answer = api.eks.describe_cluster().name(name).send().await;
    let answer = answer.map_err(|error| failed(OPERATION, &error));
    let cluster = api.heed(answer)?.cluster;
    let endpoint = cluster.as_ref().and_then(Cluster::endpoint);
    let Some(endpoint) = endpoint.filter(|endpoint| !endpoint.is_empty()) else {
        let status = cluster.as_ref().and_then(Cluster::status);
        let status = status.map_or("unknown", |status| status.as_str());
        let message = format!("cluster {name} has no API server yet, its status is {status}");
        return Err(errors::refused(OPERATION, message));
    };
    let authority = cluster.as_ref().and_then(Cluster::certificate_authority);
    let said = certificates(authority.and_then(|authority| authority.data()));
    let own = certificates(Some(&api.settings.cluster.certificate_authority));
    if is_another(&own, &said) {
        return Err(another_cluster(name, &api.region, endpoint));
    }
    Ok(endpoint.to_owned())
}

/// The certificates in DER of what a kubeconfig or EKS says, PEM in base64; none where it cannot be read.
fn certificates(said: Option<&str>) -> Vec<Vec<u8>> {
    let decoded = said.and_then(|text| STANDARD.decode(text.trim()).ok());
    let all = pem::parse_many(decoded.unwrap_or_default()).unwrap_or_default();
    let certificates = all.into_iter().filter(|one| one.tag() == "CERTIFICATE");
    certificates.map(pem::Pem::into_contents).collect()
}

/// True for a cluster that has none of the certificate authorities by which new machines are to trust the API server: those
/// of the settings, or what the controller itself trusts.
fn is_another(own: &[Vec<u8>], said: &[Vec<u8>]) -> bool {
    if own.is_empty() || said.is_empty() {
        tracing::debug!(
            own = own.len(),
            said = said.len(),
            "the certificate authority that EKS names is not compared: one side has none"
        );
        return false;
    }
    !said.iter().any(|certificate| own.contains(certificate))
}

fn another_cluster(name: &str, region: &str, endpoint: &str) -> CloudError {
    CloudError {
        operation: OPERATION,
        class: ErrorClass::Invalid,
        code: ANOTHER_CLUSTER.to_owned(),
        message: format!(
            "the EKS cluster {name} of this account in {region}, at {endpoint}, is not the one that the controller runs \
             for: its certificate authority is none by which new nodes are to trust the API server"
        ),
    }
}

/// Why no machine of a class could join, for people.
pub(super) fn unresolved(error: &CloudError) -> Unresolved {
    let (reason, advice) = match error.class {
        ErrorClass::Unauthorized => ("Unauthorized", ENDPOINT),
        _ if error.code == ANOTHER_CLUSTER => ("ClusterEndpointUnknown", BOTH),
        _ => ("ClusterEndpointUnknown", ENDPOINT),
    };
    Unresolved {
        reason,
        message: format!(
            "where new nodes reach the API server is not known, so nothing is launched: {error}; it is asked again, or \
             {advice}"
        ),
    }
}

/// What to give where EKS does not answer.
const ENDPOINT: &str = "give --cluster-endpoint (chart: settings.clusterEndpoint)";
/// What to give where EKS answers of another cluster.
const BOTH: &str = "correct region and role, or give --cluster-endpoint and --cluster-ca-bundle (chart: \
                    settings.clusterEndpoint, settings.clusterCaBundle)";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_is_known_by_any_certificate_that_is_trusted() {
        let bundle = |contents: &[u8]| {
            let all = contents.iter();
            let all: Vec<_> = all
                .map(|byte| pem::Pem::new("CERTIFICATE", [*byte]))
                .collect();
            STANDARD.encode(pem::encode_many(&all))
        };
        let said = |text: &str| certificates(Some(text));
        let own = [vec![1], vec![2]];
        assert!(!is_another(&own, &said(&bundle(&[2]))));
        assert!(!is_another(&own, &said(&bundle(&[3, 1]))));
        assert!(is_another(&own, &said(&bundle(&[3]))));
        // What one side does not know is not compared.
        for (own, text) in [(&own[..0], bundle(&[3])), (&own, "Q0E=".to_owned())] {
            assert!(!is_another(own, &said(&text)));
        }
        assert_eq!(certificates(None), Vec::<Vec<u8>>::new());
    }

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
