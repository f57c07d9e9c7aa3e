//! What a machine must know of the cluster to join it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

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

impl ClusterFacts {
    /// Address of the cluster's DNS service: the one that is set, else the tenth of the Service range,
    /// which is where EKS has it; `None` when the range is unknown too.
    pub fn dns(&self) -> Option<IpAddr> {
        self.dns_address.or_else(|| {
            let (first, _length) = self.service_cidr.split_once('/')?;
            match first.parse().ok()? {
                IpAddr::V4(first) => first
                    .to_bits()
                    .checked_add(10)
                    .map(Ipv4Addr::from_bits)
                    .map(IpAddr::V4),
                IpAddr::V6(first) => first
                    .to_bits()
                    .checked_add(10)
                    .map(Ipv6Addr::from_bits)
                    .map(IpAddr::V6),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dns_service_is_the_tenth_of_the_range_unless_set() {
        let facts = |range: &str, set: Option<&str>| ClusterFacts {
            name: String::new(),
            endpoint: String::new(),
            certificate_authority: String::new(),
            service_cidr: range.to_owned(),
            dns_address: set.map(|address| address.parse().unwrap()),
        };
        let dns = |range: &str, set| facts(range, set).dns().map(|address| address.to_string());
        assert_eq!(dns("10.100.0.0/16", None).as_deref(), Some("10.100.0.10"));
        assert_eq!(
            dns("fd12:3456::/108", None).as_deref(),
            Some("fd12:3456::a")
        );
        assert_eq!(
            dns("10.100.0.0/16", Some("10.9.9.9")).as_deref(),
            Some("10.9.9.9")
        );
        assert_eq!(dns("", None), None);
        assert_eq!(dns("255.255.255.255/32", None), None);
    }
}
