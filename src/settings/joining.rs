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
        if !is_endpoint(self.endpoint) {
            return Some((
                "cluster-endpoint",
                "give the URL of the API server as nodes reach it, such as https://api.example:443",
            ));
        }
        self.problem_of_authority()
            .or_else(|| self.problem_of_range())
    }

    /// What is not given is found out, and needs no check.
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
        (!self.cidr.is_empty() && !is_range(self.cidr)).then_some((
            "cluster-cidr",
            "give the range of Service addresses, such as 10.100.0.0/16",
        ))
    }
}

fn is_endpoint(text: &str) -> bool {
    text.parse::<http::Uri>().is_ok_and(|uri| {
        uri.scheme_str() == Some("https") && uri.host().is_some_and(|host| !host.is_empty())
    })
}

fn is_range(text: &str) -> bool {
    let Some((address, length)) = text.split_once('/') else {
        return false;
    };
    let most = match address.parse() {
        Ok(IpAddr::V4(_)) => 32,
        Ok(IpAddr::V6(_)) => 128,
        Err(_no_address) => return false,
    };
    length.parse::<u8>().is_ok_and(|length| length <= most)
}
