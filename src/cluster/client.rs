//! The connection to the API server.
//!
//! Given a kubeconfig, a context, or nothing for the ServiceAccount of the pod; given back a client
//! with timeouts. Token files and the ServiceAccount's CA bundle are read again as they rotate.
//! Nothing is asked of the API server here.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use kube::client::ClientBuilder;
use kube::config::{KubeConfigOptions, Kubeconfig};

use super::server_time::Listen;
use crate::world::SteadyClock;

/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the API server may be silent: longer than a watch stays open, so a silence of this
/// length is a dead connection. It also ends a list that hangs.
const READ_TIMEOUT: Duration = Duration::from_secs(150);
/// How long sending may take.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// Where the API server is and who asks.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ConnectOptions {
    /// A kubeconfig file. `None` uses the pod's ServiceAccount, or, outside a pod, `$KUBECONFIG` or
    /// `~/.kube/config`.
    pub kubeconfig: Option<PathBuf>,
    /// A context of the kubeconfig; `None` is its current one.
    pub context: Option<String>,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The kubeconfig cannot be used.
    #[error("the kubeconfig {path} cannot be used; check the file and the context")]
    Kubeconfig {
        /// The file.
        path: String,
        /// What is wrong with it.
        source: Box<kube::config::KubeconfigError>,
    },
    /// There is neither a ServiceAccount nor a kubeconfig.
    #[error("no cluster to connect to: run inside a pod, or give --kubeconfig")]
    NoCluster {
        /// What was tried.
        source: Box<kube::config::InferConfigError>,
    },
    /// The kubeconfig or the environment wants a proxy between.
    #[error(
        "the API server is reached through no proxy, and {proxy} is to be used for it: take `proxy-url` out of the \
         kubeconfig, or start without HTTPS_PROXY. A pod reaches the API server directly whatever HTTPS_PROXY says, \
         and AWS through it"
    )]
    Proxy {
        /// Where it is.
        proxy: String,
    },
    /// The client could not be built, for example because a certificate cannot be read.
    #[error("the connection cannot be set up; check certificates and token of the kubeconfig")]
    Client {
        /// What is wrong.
        source: Box<kube::Error>,
    },
}

/// Builds a client. Must be called within a Tokio runtime.
pub async fn connect(options: &ConnectOptions) -> Result<kube::Client, ConnectError> {
    let config = prepared(options).await?;
    kube::Client::try_from(config).map_err(failed)
}

/// Builds a client whose answers tell the clock the API server's time. Must be called within a Tokio
/// runtime.
pub async fn connect_listening(
    options: &ConnectOptions,
    clock: &Arc<SteadyClock>,
) -> Result<kube::Client, ConnectError> {
    let config = prepared(options).await?;
    let builder = ClientBuilder::try_from(config).map_err(failed)?;
    Ok(builder.with_layer(&Listen(Arc::clone(clock))).build())
}

async fn prepared(options: &ConnectOptions) -> Result<kube::Config, ConnectError> {
    let config = bounded(config(options).await?);
    // The only failure is that a provider is installed already, which is as good.
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .ok();
    Ok(config)
}

fn failed(source: kube::Error) -> ConnectError {
    match source {
        kube::Error::ProxyProtocolDisabled { proxy_url, .. }
        | kube::Error::ProxyProtocolUnsupported { proxy_url } => ConnectError::Proxy {
            // Whoever it lets through is nobody's business in a log.
            proxy: proxy_url.host().unwrap_or_default().to_owned(),
        },
        source => ConnectError::Client {
            source: Box::new(source),
        },
    }
}

/// The certificates that the API server is trusted by, in DER; empty where those of the system are.
pub(super) async fn certificates(options: &ConnectOptions) -> Result<Vec<Vec<u8>>, ConnectError> {
    Ok(config(options).await?.root_cert.unwrap_or_default())
}

/// The configuration with timeouts, and without kube's own repeats.
fn bounded(mut config: kube::Config) -> kube::Config {
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    config.read_timeout = Some(READ_TIMEOUT);
    config.reset_reader_on_write = true;
    config.write_timeout = Some(WRITE_TIMEOUT);
    // Own calls are repeated where the pauses are jittered from the injected stream; and kube would
    // repeat an eviction that a disruption budget refuses, since both are answered with 429.
    config.default_retry = false;
    config
}

async fn config(options: &ConnectOptions) -> Result<kube::Config, ConnectError> {
    let wanted = KubeConfigOptions {
        context: options.context.clone(),
        ..KubeConfigOptions::default()
    };
    if let Some(path) = &options.kubeconfig {
        let failed = |source| ConnectError::Kubeconfig {
            path: path.display().to_string(),
            source: Box::new(source),
        };
        let kubeconfig = Kubeconfig::read_from(path).map_err(failed)?;
        return kube::Config::from_custom_kubeconfig(kubeconfig, &wanted)
            .await
            .map_err(failed);
    }
    if options.context.is_some() {
        return kube::Config::from_kubeconfig(&wanted)
            .await
            .map_err(|source| ConnectError::Kubeconfig {
                path: "$KUBECONFIG or ~/.kube/config".to_owned(),
                source: Box::new(source),
            });
    }
    kube::Config::infer()
        .await
        .map_err(|source| ConnectError::NoCluster {
            source: Box::new(source),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    const KUBECONFIG: &str = r#"
apiVersion: v1
kind: Config
clusters: [{name: local, cluster: {server: "https://127.0.0.1:1"}}]
users: [{name: me, user: {token: secret}}]
contexts: [{name: local, context: {cluster: local, user: me}}]
current-context: local
"#;

    fn written(text: &str) -> (PathBuf, ConnectOptions) {
        let name = format!("tonnage-kubeconfig-{}-{}", std::process::id(), text.len());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, text).unwrap();
        let options = ConnectOptions {
            kubeconfig: Some(path.clone()),
            context: None,
        };
        (path, options)
    }

    #[tokio::test]
    async fn a_kubeconfig_gives_a_client_without_a_call() {
        let (path, options) = written(KUBECONFIG);
        let client = connect(&options).await;
        std::fs::remove_file(path).unwrap();
        assert!(client.is_ok(), "{:?}", client.err());
    }

    #[tokio::test]
    async fn what_is_wrong_with_a_kubeconfig_names_the_file() {
        let (path, mut options) = written(KUBECONFIG.trim_end());
        options.context = Some("elsewhere".to_owned());
        let error = connect(&options).await.err().unwrap();
        std::fs::remove_file(&path).unwrap();
        assert!(error.to_string().contains(&path.display().to_string()));
        let missing = connect(&options).await.err().unwrap();
        assert!(
            matches!(missing, ConnectError::Kubeconfig { .. }),
            "{missing}"
        );
    }

    #[tokio::test]
    async fn a_proxy_before_the_api_server_is_refused_by_its_name() {
        let server = r#"server: "https://127.0.0.1:1""#;
        let proxied = format!(r#"{server}, proxy-url: "http://user:secret@proxy.example:3128""#);
        let (path, options) = written(&KUBECONFIG.replace(server, &proxied));
        let error = connect(&options).await.err().unwrap();
        std::fs::remove_file(path).unwrap();
        let said = error.to_string();
        assert!(matches!(error, ConnectError::Proxy { .. }), "{said}");
        assert!(
            said.contains("proxy.example") && said.contains("HTTPS_PROXY"),
            "{said}"
        );
        assert!(!said.contains("secret"), "{said}");
    }

    #[tokio::test]
    async fn timeouts_bound_every_call_and_nothing_is_repeated_behind_our_back() {
        let (path, options) = written(&format!("{KUBECONFIG}\n"));
        let config = config(&options).await.map(bounded);
        std::fs::remove_file(path).unwrap();
        let config = config.unwrap();
        assert!(!config.default_retry);
        assert!(config.connect_timeout.is_some() && config.read_timeout.is_some());
    }
}
