//! The connection to the API server.
//!
//! Given a kubeconfig, a context, or nothing for the ServiceAccount of the pod; given back a client
//! with timeouts. Token files and the ServiceAccount's CA bundle are read again as they rotate.
//! Nothing is asked of the API server here.

use std::path::PathBuf;
use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig};

/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the API server may be silent. Watches end after 290 s and bookmarks come every minute,
/// so a silence of this length is a dead connection; it also ends a list that hangs.
const READ_TIMEOUT: Duration = Duration::from_secs(310);
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
    /// The client could not be built, for example because a certificate cannot be read.
    #[error("the connection cannot be set up; check certificates and token of the kubeconfig")]
    Client {
        /// What is wrong.
        source: Box<kube::Error>,
    },
}

/// Builds a client. Must be called within a Tokio runtime.
pub async fn connect(options: &ConnectOptions) -> Result<kube::Client, ConnectError> {
    let mut config = config(options).await?;
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    config.read_timeout = Some(READ_TIMEOUT);
    config.reset_reader_on_write = true;
    config.write_timeout = Some(WRITE_TIMEOUT);
    // Own calls are repeated where the pauses are jittered from the injected stream; and kube would
    // repeat an eviction that a disruption budget refuses, since both are answered with 429.
    config.default_retry = false;
    // The only failure is that a provider is installed already, which is as good.
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .ok();
    kube::Client::try_from(config).map_err(|source| ConnectError::Client {
        source: Box::new(source),
    })
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
