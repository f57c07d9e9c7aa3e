//! What EKS says of the cluster's control plane.
//!
//! Given the cluster's name; given back where its nodes reach the API server. It is asked when the process starts,
//! and only where the settings do not say it. Nothing of it is remembered here, and nothing asked again.

use super::call::failed;
use crate::cloud::settings::CloudSettings;
use crate::cloud::{CloudError, errors};

const OPERATION: &str = "DescribeCluster";

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
    ask(&eks, &settings.cluster.name).await
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

/// True for an error that another try may mend: a pod that has just started may get its credentials in a moment.
pub fn passes(error: &CloudError) -> bool {
    errors::is_retryable(error.class) || error.code == errors::NO_CREDENTIALS
}
