//! What EKS says of the cluster's control plane.
//!
//! Given the cluster's name; given back where its nodes reach the API server. It is asked once, when the process starts,
//! and only where the settings do not say it. Nothing of it is remembered here.

use std::time::Duration;

use super::call::failed;
use crate::cloud::settings::CloudSettings;
use crate::cloud::{CloudError, errors};

const OPERATION: &str = "DescribeCluster";
/// Time between two attempts, and how many there are: half a minute, in which a throttled account is answered again, and a
/// pod that has just started gets its credentials. Where EKS cannot be reached at all it is two, as the SDK tries each twice.
const AGAIN: Duration = Duration::from_secs(3);
const MOST_TRIES: u32 = 10;

/// The URL of the API server of an EKS cluster, as its nodes reach it.
///
/// # Errors
/// EKS cannot be asked, knows no such cluster, or has not made its API server yet.
pub async fn endpoint(settings: &CloudSettings) -> Result<String, CloudError> {
    let config = super::sdk_config(settings).await;
    if config.region().is_none() {
        return Err(super::no_region());
    }
    let eks = aws_sdk_eks::Client::new(&config);
    for _try in 1..MOST_TRIES {
        match ask(&eks, &settings.cluster.name).await {
            Err(error) if passes(&error) => {
                tracing::warn!(
                    %error,
                    "EKS does not say where new nodes reach the API server; it is asked again, and not at all with \
                     --cluster-endpoint"
                );
                tokio::time::sleep(AGAIN).await;
            }
            answer => return answer,
        }
    }
    ask(&eks, &settings.cluster.name).await
}

/// True for an error that another try may mend.
fn passes(error: &CloudError) -> bool {
    errors::is_retryable(error.class) || error.code == errors::NO_CREDENTIALS
}

async fn ask(eks: &aws_sdk_eks::Client, name: &str) -> Result<String, CloudError> {
    let answer = eks.describe_cluster().name(name).send().await;
    let cluster = answer.map_err(|error| failed(OPERATION, &error))?.cluster;
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
