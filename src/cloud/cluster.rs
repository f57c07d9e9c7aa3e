//! What a machine must know of the cluster to join it.

use std::net::IpAddr;

/// Facts of the cluster, from settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterFacts {
    /// The cluster's name: in tags, and in the user data.
    pub name: String,
    /// URL of the API server as nodes reach it.
    pub endpoint: String,
    /// The cluster's certificate authority: PEM in base64.
    pub certificate_authority: String,
    /// Range of Service addresses, for example `10.100.0.0/16`; nodeadm derives the cluster's DNS
    /// address from it. Empty when unknown.
    pub service_cidr: String,
    /// Address of the cluster's DNS service, if it is not the one that follows from the range.
    pub dns_address: Option<IpAddr>,
}
