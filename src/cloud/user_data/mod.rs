//! What a machine reads at its first boot, so that it joins the cluster.
//!
//! Given: the cluster, what the node's kubelet is to be told, and the user's own user data. Given
//! back: the text of the user data, at most 16 KiB. No credential is ever in it: nodes authenticate
//! with the role of their instance profile.

pub mod bottlerocket;
mod mime;
pub mod nodeadm;

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::class::Family;
use super::cluster::ClusterFacts;
use crate::api::labels;
use crate::model::resources::Resources;
use crate::model::taint::{Taint, TaintEffect};

/// Raw user data that EC2 accepts at most, bytes.
pub const LIMIT_BYTES: usize = 16_384;

/// Everything about a node that its first boot needs to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bootstrap<'call> {
    /// The cluster to join.
    pub cluster: &'call ClusterFacts,
    /// Labels of the claim; those that a kubelet may not set are left to registration.
    pub labels: BTreeMap<String, String>,
    /// Taints of the pool, then startup taints.
    pub taints: Vec<Taint>,
    /// Fields of the kubelet's configuration that the user set.
    pub kubelet: &'call Map<String, Value>,
    /// Pods the kubelet accepts.
    pub max_pods: i64,
    /// What the kubelet keeps for Kubernetes: cpu in millicores, the rest in bytes.
    pub kube_reserved: Resources,
    /// Instance stores are joined and carry pods' scratch data.
    pub instance_store_raid0: bool,
    /// The user's own user data.
    pub custom: Option<&'call str>,
}

/// User data that cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UserDataError {
    /// EC2 would refuse it.
    #[error(
        "the user data is {0} bytes and EC2 takes {LIMIT_BYTES}: shorten spec.userData, or let it \
         fetch the rest"
    )]
    TooLarge(usize),
    /// The user's own part cannot be read.
    #[error("spec.userData: {0}")]
    Unreadable(String),
    /// The generated part could not be written.
    #[error("the user data could not be written: {0}")]
    Unwritable(String),
}

/// Whether the user's own user data can be merged with ours: known before anything is launched.
pub fn check(family: Family, own: Option<&str>) -> Result<(), UserDataError> {
    match family {
        Family::Al2023 => nodeadm::own(own).map(drop),
        Family::Bottlerocket => bottlerocket::own(own).map(drop),
        Family::Custom => Ok(()),
    }
}

/// The user data of a node of the family.
pub fn of_family(family: Family, bootstrap: &Bootstrap<'_>) -> Result<String, UserDataError> {
    match family {
        Family::Al2023 => nodeadm::user_data(bootstrap),
        Family::Bottlerocket => bottlerocket::user_data(bootstrap),
        Family::Custom => custom(bootstrap.custom),
    }
}

/// The user data of a family that takes it as it is: the user's own, verbatim.
pub fn custom(own: Option<&str>) -> Result<String, UserDataError> {
    within_limit(own.unwrap_or("").to_owned())
}

fn within_limit(text: String) -> Result<String, UserDataError> {
    if text.len() > LIMIT_BYTES {
        return Err(UserDataError::TooLarge(text.len()));
    }
    Ok(text)
}

/// Labels that the kubelet sets itself, in order: the claim's, less those of Kubernetes' own
/// domains, which a kubelet may not set; registration adds them.
fn kubelet_labels(claim_labels: &BTreeMap<String, String>) -> BTreeMap<&str, &str> {
    let mut safe: BTreeMap<&str, &str> = claim_labels
        .iter()
        .map(|(key, value)| (key.as_str(), value.as_str()))
        .filter(|(key, _value)| !is_kubernetes_domain(key))
        .collect();
    safe.insert(labels::DO_NOT_SYNC_TAINTS, "true");
    safe
}

fn is_kubernetes_domain(key: &str) -> bool {
    let Some((domain, _name)) = key.split_once('/') else {
        return false;
    };
    ["kubernetes.io", "k8s.io"].iter().any(|reserved| {
        domain
            .strip_suffix(reserved)
            .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    })
}

/// The taints to register with: the claim's, and the one that registration removes.
fn registration_taints(taints: &[Taint]) -> Vec<Taint> {
    let unregistered = Taint::new(labels::UNREGISTERED_TAINT, "", TaintEffect::NoExecute);
    let mut all: Vec<Taint> = Vec::with_capacity(taints.len() + 1);
    for taint in taints.iter().chain([&unregistered]) {
        if !all.iter().any(|known| known.matches(taint)) {
            all.push(taint.clone());
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_of_kubernetes_domains_are_left_to_registration() {
        let claim = BTreeMap::from(
            [
                ("karpenter.sh/nodepool", "executors"),
                ("team", "data"),
                ("kubernetes.io/os", "linux"),
                ("node-role.kubernetes.io/worker", ""),
                ("topology.k8s.aws/zone-id", "use1-az1"),
                ("example.k8s.io/x", "y"),
                ("notkubernetes.io/x", "y"),
            ]
            .map(|(key, value)| (key.to_owned(), value.to_owned())),
        );
        let safe: Vec<&str> = kubelet_labels(&claim).into_keys().collect();
        assert_eq!(
            safe,
            [
                "karpenter.sh/do-not-sync-taints",
                "karpenter.sh/nodepool",
                "notkubernetes.io/x",
                "team",
                "topology.k8s.aws/zone-id",
            ]
        );
    }

    #[test]
    fn user_data_beyond_the_limit_is_refused_before_ec2_does() {
        let long = "x".repeat(LIMIT_BYTES + 1);
        assert_eq!(
            custom(Some(&long)),
            Err(UserDataError::TooLarge(LIMIT_BYTES + 1))
        );
        assert_eq!(custom(None), Ok(String::new()));
    }
}
