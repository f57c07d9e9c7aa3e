//! Facts of the cluster that new nodes join with, checked before anything is bought: a machine that can never
//! join costs its registration timeout again and again.

use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// What a PEM certificate begins with (RFC 7468).
const PEM: &str = "-----BEGIN CERTIFICATE-----";

/// The values of the flags.
#[derive(Debug, Clone, Copy)]
pub(super) struct Joining<'flags> {
    /// `--cluster-endpoint`.
    pub(super) endpoint: &'flags str,
    /// `--cluster-ca-bundle`.
    pub(super) ca_bundle: &'flags str,
    /// `--cluster-cidr`.
    pub(super) cidr: &'flags str,
}

impl Joining<'_> {
    /// The first flag whose value no node could join with, and what to give instead.
    pub(super) fn problem(&self) -> Option<(&'static str, &'static str)> {
        // What is not given is found out, and needs no check.
        if !self.endpoint.is_empty() && !is_endpoint(self.endpoint) {
            return Some((
                "cluster-endpoint",
                "give the URL of the API server as nodes reach it, such as https://api.example:443",
            ));
        }
        if self.endpoint.contains('[') {
            return Some((
                "cluster-endpoint",
                "is an IPv6 address, and new machines get none of their own; give a name or an IPv4 address",
            ));
        }
        self.problem_of_authority()
            .or_else(|| self.problem_of_range())
    }

    fn problem_of_authority(&self) -> Option<(&'static str, &'static str)> {
        if self.ca_bundle.is_empty() {
            return None;
        }
        let Ok(decoded) = STANDARD.decode(self.ca_bundle.trim()) else {
            return Some((
                "cluster-ca-bundle",
                "give the certificate authority in base64, as certificate-authority-data in a kubeconfig",
            ));
        };
        if !String::from_utf8_lossy(&decoded).contains(PEM) {
            return Some((
                "cluster-ca-bundle",
                "what the base64 holds is no certificate in PEM; give certificate-authority-data of a kubeconfig",
            ));
        }
        None
    }

    fn problem_of_range(&self) -> Option<(&'static str, &'static str)> {
        if self.cidr.is_empty() {
            return None;
        }
        let problem = match family(self.cidr) {
            Some(Family::V4) => return None,
            Some(Family::V6) => {
                "IPv6 clusters are not supported: new machines get no IPv6 address, so their Nodes would never be \
                 ready; the range of Service addresses must be IPv4, such as 10.100.0.0/16. --mode observe plans and \
                 reports without it"
            }
            None => "give the range of Service addresses, such as 10.100.0.0/16",
        };
        Some(("cluster-cidr", problem))
    }
}

/// Which addresses a range is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    V4,
    V6,
}

fn is_endpoint(text: &str) -> bool {
    text.parse::<http::Uri>().is_ok_and(|uri| {
        uri.scheme_str() == Some("https") && uri.host().is_some_and(|host| !host.is_empty())
    })
}

/// What a range is of; `None` for what is no range.
fn family(text: &str) -> Option<Family> {
    let (address, length) = text.split_once('/')?;
    let (family, most) = match address.parse().ok()? {
        IpAddr::V4(_) => (Family::V4, 32),
        IpAddr::V6(_) => (Family::V6, 128),
    };
    let length: u8 = length.parse().ok()?;
    (length <= most).then_some(family)
}
