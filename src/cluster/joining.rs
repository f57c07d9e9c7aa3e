//! What new nodes join the cluster with, where the settings do not say it.
//!
//! Given the connection's own options and client; given back the certificate authority that this process itself
//! trusts the API server by, the range that the API server gives Services addresses from, and the address of the
//! cluster's DNS. Where nodes reach the API server is not known inside the cluster: EKS is asked for it.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::networking::v1::ServiceCIDR;
use kube::{Api, Client};
use pem::{EncodeConfig, LineEnding, Pem};
use tokio::time::Instant;

use super::client::{ConnectError, ConnectOptions, certificates};

/// The ServiceCIDR that the API server makes of its own settings.
const DEFAULT: &str = "kubernetes";

/// Where the Services of a cluster's own parts are.
const SYSTEM: &str = "kube-system";
/// What the Service of a cluster's DNS is called.
const DNS_SERVICES: [&str; 2] = ["kube-dns", "coredns"];

/// Pause before it is asked again.
const AGAIN: Duration = Duration::from_secs(2);
/// How long it is asked again: a control plane is upgraded in that time as a rule.
const ASKED_FOR: Duration = Duration::from_mins(2);

/// True for an error that another try may mend.
fn passes(error: &kube::Error) -> bool {
    match error {
        kube::Error::Api(status) => ![401, 403, 404].contains(&status.code),
        _ => true,
    }
}

/// What could not be found.
#[derive(Debug, thiserror::Error)]
pub enum JoiningError {
    /// The connection cannot be read.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The connection names no certificate authority.
    #[error(
        "this process trusts the API server by no certificate authority of its own, so new nodes cannot be told one: \
         give --cluster-ca-bundle"
    )]
    NoAuthority,
    /// The range of Service addresses cannot be read.
    #[error(
        "the range of Service addresses cannot be read from ServiceCIDR {DEFAULT}: allow get on \
         servicecidrs.networking.k8s.io, or give --cluster-cidr"
    )]
    NoRange(#[source] Box<kube::Error>),
    /// It has none.
    #[error("ServiceCIDR {DEFAULT} names no range: give --cluster-cidr")]
    Rangeless,
}

/// The certificate authority of the connection: PEM in base64, as in a kubeconfig.
///
/// # Errors
/// The connection cannot be read, or has none.
pub async fn certificate_authority(options: &ConnectOptions) -> Result<String, JoiningError> {
    let found = certificates(options).await?;
    if found.is_empty() {
        return Err(JoiningError::NoAuthority);
    }
    Ok(in_base64(found))
}

/// Certificates in DER as a kubeconfig has them.
fn in_base64(certificates: Vec<Vec<u8>>) -> String {
    let all = certificates.into_iter();
    let all: Vec<Pem> = all.map(|der| Pem::new("CERTIFICATE", der)).collect();
    let lines = EncodeConfig::new().set_line_ending(LineEnding::LF);
    STANDARD.encode(pem::encode_many_config(&all, lines))
}

/// The range that Services have their addresses from, for example `10.100.0.0/16`.
///
/// # Errors
/// It cannot be read, or there is none.
pub async fn service_range(client: Client) -> Result<String, JoiningError> {
    let ranges: Api<ServiceCIDR> = Api::all(client);
    let found = persistently("the range of Service addresses", || ranges.get(DEFAULT)).await;
    let found = found.map_err(|error| JoiningError::NoRange(Box::new(error)))?;
    let cidrs = found.spec.map(|spec| spec.cidrs.unwrap_or_default());
    cidrs
        .and_then(|cidrs| cidrs.into_iter().next())
        .ok_or(JoiningError::Rangeless)
}

/// The address of the cluster's DNS; `None` where there is no Service of its usual names or it may not be read, so that
/// the address has to be told or guessed.
pub async fn dns_address(client: Client) -> Option<IpAddr> {
    let services: Api<Service> = Api::namespaced(client, SYSTEM);
    for name in DNS_SERVICES {
        match persistently("the cluster's DNS", || services.get_opt(name)).await {
            Ok(found) => {
                if let Some(address) = found.and_then(|found| address_of(&found)) {
                    return Some(address);
                }
            }
            Err(error) => {
                tracing::warn!(
                    %error,
                    "Service {SYSTEM}/{name} cannot be read: new nodes are told the tenth Service address as the \
                     cluster's DNS; allow get on services, or give --cluster-dns"
                );
                return None;
            }
        }
    }
    None
}

/// The IPv4 address of a Service, which one without an address of its own does not have.
fn address_of(service: &Service) -> Option<IpAddr> {
    let spec = service.spec.as_ref()?;
    let first = spec.cluster_ip.iter();
    let mut all = first.chain(spec.cluster_ips.iter().flatten());
    let address: Ipv4Addr = all.find_map(|text| text.parse().ok())?;
    Some(address.into())
}

/// Asks again after errors that pass, for two minutes; an error is one that does not pass, or has not by then.
async fn persistently<T>(what: &str, ask: impl AsyncFn() -> kube::Result<T>) -> kube::Result<T> {
    let until = Instant::now() + ASKED_FOR;
    while Instant::now() < until {
        match ask().await {
            Err(error) if passes(&error) => {
                tracing::warn!(%error, "{what}: asked for again");
                tokio::time::sleep(AGAIN).await;
            }
            answer => return answer,
        }
    }
    ask().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_are_written_as_kubeconfigs_have_them() {
        let text = STANDARD
            .decode(in_base64(vec![vec![7; 100], vec![8; 3]]))
            .unwrap();
        let text = String::from_utf8(text).unwrap();
        assert!(text.starts_with("-----BEGIN CERTIFICATE-----\n"), "{text}");
        let read = pem::parse_many(text).unwrap();
        let contents: Vec<&[u8]> = read.iter().map(Pem::contents).collect();
        assert_eq!(contents, [&[7; 100][..], &[8; 3][..]]);
    }
}
